"""Paths of this computer in the `model.json` of a copied model, replaced by names that mean something elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisekiln.components.spec_paths import WithoutFolders, copy_named, without_folders
from noisekiln.files.json_file import write_json
from noisekiln.files.model_folder import read_description
from noisekiln.model.code_copies import CODE

SAMPLING = "sampling"  # entry of `model.json` with specs in it
INSTEAD = "model.json names {new} in place of {old}"


def remove_paths(folder: Path) -> tuple[str, ...]:
    """Change each `model.json` in a folder, in place; returns notes on what was changed, one line each.

    Args:
        folder: A copy of a model, or of several.
    """
    notes: list[str] = []
    for file in sorted(folder.rglob("model.json")):
        if CODE not in file.relative_to(folder).parts:
            description = read_description(file)
            changed, own = _without_paths(description, dict(description.get(CODE) or {}))
            notes += own
            if changed != description:
                write_json(file, changed)
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
        lines.append(INSTEAD.format(new=new, old=old) + missing)
    for old, new in replaced.folders.items():
        where = "others put it beside where they run noisekiln, or write its place into model.json"
        lines.append(f"{INSTEAD.format(new=new, old=old)}, which is not uploaded: {where}")
    return lines
