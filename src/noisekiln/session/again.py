"""Making an image of `noisekiln sample` anew, from what its file records."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.components.consent import Consent
from noisekiln.components.spec import build
from noisekiln.files.model_folder import model_folder
from noisekiln.files.png_text import read_png_text
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.model.sampling import Progress
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.session.image_record import SETTINGS, describe_model
from noisekiln.session.session import Session
from noisekiln.uses.request import SampleOptions

LARGEST_BATCH = 1024  # images of a batch that is repeated for the sake of one
MAX_COMMAND = 20  # letters of the name of a command


@dataclass(frozen=True)
class RecordedImage:
    """What a PNG of `noisekiln sample` records.

    Attributes:
        file: The PNG.
        condition: Its condition; None for none.
        seed: Its seed.
        settings: Settings of sampling, and the precision.
        model: Name of the model.
        model_sha256: SHA-256 of the weights.
        batch: Its index in its batch, and the number of images in that.
    """

    file: Path
    condition: Any
    seed: int
    settings: Mapping[str, Any]
    model: str
    model_sha256: str
    batch: tuple[int, int]

    def options(self, overrides: Mapping[str, Any], *, allow_code: bool) -> dict[str, Any]:
        """Options of `generate`.

        Args:
            overrides: Settings that the user requests, None for the recorded ones.
            allow_code: Whether a recorded setting may name a Python file.

        Raises:
            CodeNotAllowed: If a recorded setting names a Python file.
            ValueError: If a setting is not possible.
        """
        consent, chosen = Consent.of(allow_code), dict(self.settings)
        requested = {name: value for name, value in overrides.items() if value is not None}
        for name in requested:
            chosen.pop(name, None)
        if "sampler" in chosen:
            chosen["sampler"] = build(Sampler, chosen["sampler"], consent)
        if "schedule" in chosen:
            chosen["schedule"] = build(Schedule, chosen["schedule"], consent)
        if "guidance" in chosen:
            chosen["guidance"] = guidance_of(chosen["guidance"], consent)
        return chosen | requested

    def pixels(self) -> NDArray[np.uint8]:
        """The image in the file, (H, W, C)."""
        with Image.open(self.file) as image:
            pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]


def read_recorded_image(file: Path) -> RecordedImage:
    """What a PNG records.

    Raises:
        ValueError: If it is no image of `noisekiln sample`, or its text is damaged.
    """
    if not file.is_file():
        raise ValueError(f"There is no file {file}. Give a numbered PNG of a folder of samples.")
    entries = read_png_text(file)
    if entries is None:
        raise ValueError(
            f"{file} does not say how it was made: it is no PNG of noisekiln, or a program that saved it again left "
            "this out. Give a numbered PNG as `noisekiln sample` has written it."
        )
    _check_can_be_repeated(file, entries)
    try:
        settings = {name: entries[name] for name in (*SETTINGS, "precision") if name in entries}
        checked = SampleOptions(seed=entries["seed"], **settings)
        index, count = entries.get("batch", (0, 1))
        if not all(type(number) is int for number in (index, count)) or not 0 <= index < count:
            raise ValueError("batch")
        return RecordedImage(
            file,
            entries.get("condition"),
            checked.seed,
            {"precision": "fp32", **settings},
            str(entries["model"]),
            str(entries["model_sha256"]),
            (index, count),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The text in {file} on how it was made is damaged ({str(error).rstrip('.')}). Give another file."
        ) from error


def _check_can_be_repeated(file: Path, entries: Mapping[str, Any]) -> None:
    """Raise ValueError for an image that needs more than its text: several images, or an input image."""
    command, source = entries.get("command"), entries.get("source")
    if "images" in entries or command in ("train", "ema", "plot"):
        raise ValueError(f"{file} is a picture of several images. Give one of the numbered files beside it.")
    if not (isinstance(command, str) and command.isalpha() and len(command) <= MAX_COMMAND):
        raise ValueError(f"The text in {file} on how it was made is damaged (command). Give another file.")
    if command != "sample":
        if command == "pretrained" and not source:
            raise ValueError(
                f"{file} was made by `noisekiln pretrained`, and `sample` does not load its model. Use `noisekiln "
                f"pretrained` again with the prompt and settings in this file, and the `seed`, {entries.get('seed')}."
            )
        image = f"the image {source}" if source else "other images"
        raise ValueError(
            f"{file} was made by `noisekiln {command}` from {image}, and only its own settings are in it. "
            f"Use `noisekiln {command}` again with that image and with the `seed`, {entries.get('seed')}."
        )


def open_again(recorded: RecordedImage, run: Path | None, open_session: Callable[[Path], Session]) -> Session:
    """The session with the model that has made an image.

    Args:
        recorded: The image.
        run: Folder of the run; by default it is looked for beside the image and in `runs`, by its name.
        open_session: Function that opens the session of a run.

    Raises:
        ValueError: If the model is not found, or was trained further since.
    """
    places = [run] if run is not None else _places(recorded)
    for place in places:
        session = open_session(place)
        if describe_model(session.model, "")["model_sha256"] == recorded.model_sha256:
            return session
    if not places:
        raise ValueError(
            f"The run {recorded.model!r}, which has made {recorded.file}, is not found near it or in runs. "
            "Give its folder as `run`."
        )
    raise ValueError(
        f"{' and '.join(map(str, places))} does not have the weights that have made {recorded.file}: it was trained "
        "further since, or an adapter is missing, so the image would be another one. "
        f"Give its `run` or `adapters`, or sample with the `seed`, {recorded.seed}."
    )


def _places(recorded: RecordedImage) -> list[Path]:
    """Folders with a model where the run may be: around the image, and by its name."""
    near = [*recorded.file.parents[:3], *recorded.file.absolute().parents[:3]]
    name = Path(recorded.model).name  # a name alone: the text of an image leads nowhere else
    named = [Path("runs") / name, Path(name)] if name else []
    places = {place.resolve(): place for place in reversed([*near, *named])}
    return [place for place in reversed(places.values()) if _has_model(place)]


def _has_model(place: Path) -> bool:
    try:
        model_folder(place)
    except ValueError:
        return False
    return True


def sample_again(session: Session, recorded: RecordedImage, options: Mapping[str, Any]) -> Iterator[Progress]:
    """Generate a recorded image again and write it; a note says whether its pixels are the same.

    Args:
        session: Session with its model.
        recorded: The image.
        options: Options of `generate`.

    Raises:
        ValueError: If the condition is none of the model's.
    """
    try:
        session.model.check_conditions([recorded.condition])
    except TypeError as error:
        raise ValueError(f"The condition in {recorded.file} is of another kind. Give another file.") from error
    progress = _generate_again(session, recorded, options)
    precision = options["precision"]
    return session.write_results(
        progress,
        condition=recorded.condition,
        seed=recorded.seed,
        precision=precision,
        model=session.model,
        requested=recorded.settings,
    )


def _generate_again(session: Session, recorded: RecordedImage, options: Mapping[str, Any]) -> Iterator[Progress]:
    """Alone; if that gives other roundings, in a batch as large as it was made in."""
    pixels, (index, count) = recorded.pixels(), recorded.batch
    batches = [(0, 1)] if count == 1 or count > LARGEST_BATCH else [(0, 1), (index, count)]
    for place, size in batches:
        conditions, seeds = [recorded.condition] * size, [recorded.seed] * size
        for each in session.model.generate(conditions, seeds=seeds, batch_size=size, **options):
            if not each.finished:
                yield replace(each, count=1)
        images = each.images().cpu()[place : place + 1]
        if np.array_equal(images[0].numpy(), pixels) or size == count:
            break
    session.note(_compare(images[0].numpy(), pixels, recorded.file))
    yield replace(each, x=each.x[place : place + 1], decode=lambda x: images, count=1)


def _compare(new: NDArray[np.uint8], old: NDArray[np.uint8], file: Path) -> str:
    if new.shape == old.shape and (new == old).all():
        return f"its pixels are those of {file}."
    if new.shape != old.shape:
        return f"{file} has another size or other channels: it was changed since."
    apart = np.abs(new.astype(int) - old)
    return (
        f"{(apart > 0).any(-1).mean():.1%} of its pixels differ from those of {file}, by up to {apart.max()} of 255: "
        "other settings, another device or other versions, or the file was changed since."
    )
