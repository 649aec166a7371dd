"""Models that a run starts from or learns from: found, loaded, and kept as copies in the run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError

from noisekiln.components.spec import consent_to
from noisekiln.data import DataSet
from noisekiln.files.atomic import atomic_write
from noisekiln.files.card_file import CARD, read_card
from noisekiln.files.hub import is_hub_name
from noisekiln.files.model_folder import digest, model_folder, read_model_description, read_weights
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.saving import checked_model_size
from noisekiln.paths import expand_home
from noisekiln.plan.settings import Settings
from noisekiln.pretrained.load_pretrained import load_pretrained, pipeline_size
from noisekiln.pretrained.pipeline_folder import PipelineFolder, is_pipeline

START = "start"  # folder in a run with a copy of its initial model, so that it can always be resumed
TEACHER = "teacher"  # folder in a run with a copy of its teacher
OF_RUN = ("model", "model-best")  # folders in a run whose card is that of the run
Sides = int | tuple[int, int] | None


def size_to_load(size: Sides, start: str | Path | None, out: str | Path | None) -> Sides:
    """The size at which images are loaded: as requested, else of the run to resume, else of the model to start from.

    Raises:
        ValueError: If there is no model to start from.
    """
    if size is not None or start is None:
        return size
    kept = Path(out) / START if out else None
    try:
        if is_pipeline(start) and not (kept and (kept / "model.json").is_file()):
            return pipeline_size(start)
        # A run that was killed while it copied the model has the folder, but no model.json.
        description = read_model_description(kept if kept and (kept / "model.json").is_file() else start)
        if "cascade" in description:
            raise ValueError(
                f"{start} is a cascade, but fine-tuning needs a single model. Give one of its stages: "
                f"{Path(start) / 'model' / 'stage0'}, ..."
            )
        return _size_of_model(description, start)
    except ValueError as error:
        hint = "" if out else " A run that was started from it can resume without it: give its folder as `out`."
        raise ValueError(f"{error}{hint}") from None


def default_folder(data: DataSet, start: str | Path | None) -> Path:
    """The default folder of a run: ``runs/NAME``, or ``runs/NAME-from-START``."""
    return Path("runs") / (f"{data.name}-from-{Path(start).name}" if start else data.name)


def load_start(settings: Settings, folder: Path, *, allow_code: bool = False) -> Diffusion | None:
    """The model that a run starts from, if any: the copy in the run, else the model of `settings.start`.

    Raises:
        ValueError: If it does not exist, or runs code that the settings do not name.
    """
    return _load_kept(settings.start, folder / START, settings, allow_code)


def load_teacher(settings: Settings, folder: Path, *, allow_code: bool = False) -> Diffusion | None:
    """The model that a run's objective distils, if any: the copy in the run, else the model of `settings.teacher`."""
    return _load_kept(settings.teacher, folder / TEACHER, settings, allow_code)


def load_with_consent(
    place: str | Path, settings: Settings, *, device: str = "cpu", allow_code: bool = False
) -> Diffusion:
    """A model that may run the Python files that the settings name, or any if `allow_code`; or a Stable Diffusion.

    Raises:
        ValueError: If it does not exist, or needs another Python file.
    """
    if is_pipeline(place):
        return load_pretrained(place, device=device, weights="fp32")
    return Diffusion.load(place, device=device, allow_code=consent_to(asdict(settings), allow_code))


def keep_model(model: Diffusion | None, source: str | None, folder: Path) -> None:
    """Copy a model into a folder of the run, once, with its card, which states its licence.

    Args:
        model: The model, if there is one.
        source: Its folder, or its name on the Hub.
        folder: The folder of the copy.
    """
    if model is None or source is None or (folder / "model.json").is_file():
        return
    card = _card_of(source)
    if card:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / CARD) as draft:
            draft.write_text(card, encoding="utf-8")
    model.save(folder)


def check_models_exist(settings: Settings, out: str | Path | None) -> None:
    """Raise ValueError if there is no model to start from or to learn from, and the run has no copy of it either.

    Args:
        settings: Requested settings.
        out: Folder of the run, if it was requested.
    """
    for name, source in {START: settings.start, TEACHER: settings.teacher}.items():
        if source is None or (out is not None and (Path(out) / name / "model.json").is_file()):
            continue
        try:
            PipelineFolder.open(source) if is_pipeline(source) else model_folder(Path(source))
        except ValueError as error:
            hint = "" if out else " A run that was started from it can resume without it: give its folder as `out`."
            raise ValueError(f"`{name}={source}`: {error}{hint}") from None


def moved_models(settings: Settings, before: Settings, folder: Path) -> dict[str, str]:
    """Paths of `start` and `teacher` that changed since a run's last start, but lead to the models that the run keeps.

    Args:
        settings: Settings now, with absolute paths.
        before: Settings of the run's last start, with absolute paths.
        folder: Folder of the run.
    """
    now = {START: settings.start, TEACHER: settings.teacher}
    changed = {name: path for name, path in now.items() if path is not None and path != getattr(before, name)}
    return {name: path for name, path in changed.items() if _is_same_model(path, folder / name)}


def start_name(settings: Settings) -> str:
    """The path of the model that a run starts from, relative to the working directory if it lies there."""
    start = Path(str(settings.start))
    return str(start.relative_to(Path.cwd()) if start.is_relative_to(Path.cwd()) else start)


def _size_of_model(description: Mapping[str, object], place: str | Path) -> tuple[int, int]:
    """Height and width of a model's images, from its `model.json`."""
    try:
        return checked_model_size(description.get("size"))
    except ValueError as error:
        raise ValueError(
            f"The model of {place} is damaged ({error}). Restore it from a backup, or download it again."
        ) from None


def _card_of(source: str) -> str:
    """The text of a model's card, which is that of its run or of its repository; "" without one."""
    try:
        if is_pipeline(source):
            return read_card(expand_home(source))
        folder, named = model_folder(Path(source), offline=True), expand_home(source)
    except ValueError:  # the model was deleted since it was read
        return ""
    # The card beside a folder that is called so by chance is another's.
    is_inside = folder.name == "model" and (is_hub_name(source) or folder.parent == named)
    is_of_run = folder.name in OF_RUN and (folder.parent / "run.yaml").is_file()
    return read_card(folder, *([folder.parent] if is_inside or is_of_run else []))


def _load_kept(source: str | None, kept: Path, settings: Settings, allow_code: bool) -> Diffusion | None:
    if source is None:
        return None
    place = kept if (kept / "model.json").is_file() else source
    return load_with_consent(place, settings, allow_code=allow_code)


def _is_same_model(one: str | Path, other: str | Path) -> bool:
    """Whether two folders hold models with the same weights."""
    try:
        files = [model_folder(Path(place)) / "model.safetensors" for place in (one, other)]
        return len({digest(read_weights(file)) for file in files}) == 1
    except (ValueError, OSError, SafetensorError):
        return False
