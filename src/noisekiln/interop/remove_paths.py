"""Paths of this computer in a copied model and its evaluation, replaced by names that mean something elsewhere."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisekiln.components.spec_paths import WithoutFolders, copy_named, last_part, without_folders
from noisekiln.files.json_file import read_json, write_json
from noisekiln.files.model_folder import read_description
from noisekiln.model.code_copies import CODE
from noisekiln.runs.run_summary import EVALUATION

SAMPLING = "sampling"  # entry of `model.json` with specs in it
INSTEAD = "{file} names {new} in place of {old}"
START = r"(?:~\w*[/\\]|[A-Za-z]:[/\\]|\\\\|/)"
PATH = re.compile(rf"""(?<=['"`]){START}[^'"`\n]+|(?<![\w.~/\\:)]){START}[^\s'"`,;()<>]+""")  # quoted, or in a sentence


def remove_paths(folder: Path) -> tuple[str, ...]:
    """Change each `model.json` and `evaluation.json` in a folder, in place; returns notes on it, one line each.

    Args:
        folder: A copy of a model, or of several.

    Raises:
        ValueError: If one of them is damaged.
    """
    notes: list[str] = []
    for file in sorted(folder.rglob("model.json")):
        if CODE not in file.relative_to(folder).parts:
            description = read_description(file)
            changed, own = _without_paths(description, dict(description.get(CODE) or {}))
            notes += own
            if changed != description:
                write_json(file, changed)
    if (folder / EVALUATION).is_file():
        notes += _clean_evaluation(folder / EVALUATION)
    return tuple(dict.fromkeys(notes))


def _without_paths(description: Mapping[str, Any], copies: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """A description, or its entry of sampling, without paths; and notes on them."""
    changed, notes = dict(description), []
    for name, value in description.items():
        if isinstance(value, str):
            replaced = without_folders(value, copies)
            changed[name] = replaced.spec
            notes += _notes_on(replaced, copies)
        elif name == SAMPLING and isinstance(value, Mapping):
            changed[name], more = _without_paths(value, copies)
            notes += more
        elif name == CODE:
            changed[name] = {copy: copy for copy in copies.values()}
    return changed, notes


def _notes_on(replaced: WithoutFolders, copies: Mapping[str, str]) -> list[str]:
    lines = []
    for old, new in replaced.files.items():
        missing = (
            "" if copy_named(old, copies) else ", which is not uploaded: the model can be loaded only beside that file"
        )
        lines.append(INSTEAD.format(file="model.json", new=new, old=old) + missing)
    for old, new in replaced.folders.items():
        where = "others put it beside where they run noisekiln, or write its place into model.json"
        lines.append(f"{INSTEAD.format(file='model.json', new=new, old=old)}, which is not uploaded: {where}")
    return lines


def _clean_evaluation(file: Path) -> list[str]:
    """Take the paths out of all texts of an evaluation; returns notes on them."""
    try:
        evaluation = read_json(file)
    except ValueError as error:
        raise ValueError(
            f"{file.name} cannot be read ({error}). Evaluate the run again, or delete the file."
        ) from error
    replaced: dict[str, str] = {}
    changed = _cleaned(evaluation, replaced)
    if replaced:
        write_json(file, changed)
    return [INSTEAD.format(file=file.name, new=new, old=old) for old, new in replaced.items()]


def _cleaned(value: Any, replaced: dict[str, str]) -> Any:
    """A value of JSON without paths; what stands for each is added to `replaced`."""
    if isinstance(value, dict):
        return {name: _cleaned(each, replaced) for name, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each, replaced) for each in value]
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")
    if len(Path(home).parts) > 1:
        value = value.replace(home, "~")  # which may have spaces in it

    def name(found: re.Match[str]) -> str:
        path = found[0].rstrip("/\\")
        if last_part(path):
            replaced[path] = f"./{last_part(path)}"
        return replaced.get(path, found[0])

    return PATH.sub(name, value)
