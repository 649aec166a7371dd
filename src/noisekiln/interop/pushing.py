"""`nk.push`: a model, with its card, to the Hugging Face Hub."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.files.card_file import CARD
from noisekiln.files.hub import checked_hub_name, explaining_the_hub, import_hub
from noisekiln.files.model_folder import model_folder
from noisekiln.interop.remove_paths import remove_paths
from noisekiln.model.code_copies import CODE
from noisekiln.paths import expand_home
from noisekiln.runs.model_card import is_changed, model_card, newest_grid
from noisekiln.runs.run_summary import EVALUATION, read_summary

OF_A_MODEL = ("model.json", "model.safetensors", CODE, "stage*")  # names of its files and folders
EXPORTED = ("model_index.json", "sampling.json", "model.py")  # one of them is in every export


@dataclass(frozen=True)
class Upload:
    """What `push` uploads, or would upload.

    Attributes:
        repository: Name on the Hub, "user/name".
        files: Names of the files, and their sizes in bytes.
        card: Text of the model card.
        notes: What of `model.json` and `evaluation.json` was changed, one line each.
        url: Page of the model; "" if nothing was uploaded.
    """

    repository: str
    files: dict[str, int]
    card: str
    notes: tuple[str, ...] = ()
    url: str = ""


@answering_unknown_names("arguments")
def push(
    run: str | Path,
    repository: str,
    *,
    license: str = "",
    private: bool = False,
    dry_run: bool = False,
    allow_code: bool = False,
) -> Upload:
    """Upload the model of a run, its card, its newest samples and its curves to the Hub.

    Images that it was trained on, and paths of this computer, are not uploaded: neither `data.png` and `forward.png`
    nor `run.yaml`, `dataset.json` and the checkpoints; in `model.json` and `evaluation.json`, files and folders are
    named without those above them.

    Args:
        run: Folder of a run, a model, or an export.
        repository: Name on the Hub, "user/name"; it is created.
        license: Licence that the card states, such as "cc-by-4.0".
        private: Whether only its owner sees it, if it is new.
        dry_run: Whether to upload nothing, only to say what would be uploaded; this needs no network.
        allow_code: Whether the model may run components from Python files of its author.

    Raises:
        HubUnreachable: If the Hub cannot be reached, or refuses.
        ValueError: If there is no model, the name is none, or huggingface_hub is not installed.
    """
    check_argument("run", run, Path)
    name, folder = checked_hub_name(repository), expand_home(run)
    hub = None if dry_run else import_hub()
    with tempfile.TemporaryDirectory() as place:
        card = _gather_files(folder, Path(place), name, license, allow_code)
        notes = remove_paths(Path(place))
        files = {str(each.relative_to(place)): each.stat().st_size for each in _uploaded_files(Path(place))}
        if hub is None:
            return Upload(name, files, card, notes)
        with explaining_the_hub(name, "Log in (`hf auth login`), and see whether the network and the name are right."):
            hub.create_repo(name, private=private, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=place, commit_message="A model of noisekiln")
    return Upload(name, files, card, notes, f"https://huggingface.co/{name}")


def _gather_files(folder: Path, place: Path, name: str, license: str, allow_code: bool) -> str:
    """Copy what is uploaded into an empty folder; returns the text of the card."""
    is_run = any((folder / each).exists() for each in ("run.yaml", "metrics.jsonl", "model.json"))
    is_export = not is_run and (folder / CARD).is_file() and any((folder / each).is_file() for each in EXPORTED)
    if license and (is_export or is_changed(folder / CARD)):
        raise ValueError(
            f"`license={license}`: {folder / CARD} is written already, and stays so. Write the licence at its top."
        )
    if is_export:
        shutil.copytree(folder, place, dirs_exist_ok=True)  # complete with its card
        return (folder / CARD).read_text(encoding="utf-8")
    model = model_folder(folder)
    shutil.copytree(model, place / "model", ignore=partial(_what_is_no_model, model))
    grid = newest_grid(folder)
    kept = [folder / each for each in ("loss.png", "denoising.gif", EVALUATION)]
    for file in [*kept, *([] if grid is None else [grid])]:
        if file.is_file():
            target = place / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    if is_changed(folder / CARD):
        card = (folder / CARD).read_text(encoding="utf-8")
    else:
        summary = read_summary(folder, name, allow_code=allow_code)
        card = model_card(summary, license=license, name=name.partition("/")[2], repository=name)
    (place / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
    return card


def _what_is_no_model(model: Path, place: str, names: list[str]) -> list[str]:
    """What lies in a folder of a model, at `place`, and is not of it; a folder of its code is copied whole."""
    if CODE in Path(place).relative_to(model).parts:
        return []
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in OF_A_MODEL)]


def _uploaded_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())
