"""Pairs of images: a folder that holds two, `from` and `to`, in which partners have the same name."""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.dataset import Altered, DataSet, Split, data_fingerprint
from noisekiln.data.load import load
from noisekiln.errors import DataError, counted, listed
from noisekiln.paths import expand_home

FROM, TO = "from", "to"
REMEDY = f"Give a folder that holds two, {FROM} (sources) and {TO} (targets), in which partners have the same name"


def load_pairs(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Reads the images of `to` as `load` does, each with its partner of `from` in `Split.partners`.

    Names are compared without their endings: `from/cats/1.jpg` is the partner of `to/cats/1.png`.

    Args:
        source: The folder.
        size: As for `load`; partners are scaled to the size of the images.
        progress: As for `load`, for the images of `to`.

    Raises:
        DataError: If one of the two folders is missing, cannot be read, or lacks a partner.
    """
    folder = _checked_folder(source)
    targets = load(folder / TO, size=size, progress=progress)
    sources = load(folder / FROM, size=targets.size)
    known = {
        _key(file): image for part in _parts(sources) for file, image in zip(_files(part), part.pixels, strict=True)
    }
    _check_unique(folder, FROM, sources)
    _check_unique(folder, TO, targets)
    needed = [file for part in _parts(targets) for file in _files(part)]
    _check_partners(folder, needed, known)
    train, held_out = (_paired(part, known) for part in (targets.train, targets.held_out))
    assert train is not None
    note = f"{counted(len(needed), 'image has', 'images have')} a partner in {FROM}/."
    alone = len(known) - len(needed)
    lost = [Altered(f"{alone:,} more in {FROM}/ have none, and are not used.")] if alone else []
    return replace(
        targets,
        name=folder.resolve().name,
        train=train,
        held_out=held_out,
        notes=(*targets.notes, note, *lost, *(Altered(f"{FROM}/: {text}") for text in sources.altered)),
        skipped=(*targets.skipped, *sources.skipped),
        fingerprint=data_fingerprint((train, held_out), targets.class_names),
    )


def _checked_folder(source: Any) -> Path:
    """The folder of the pairs, which holds one of sources and one of targets."""
    if not isinstance(source, str | Path):
        raise DataError(f"a {type(source).__name__}", "pairs of images are read from a folder only", REMEDY)
    folder = expand_home(source)
    for name in (FROM, TO):
        if not (folder / name).is_dir():
            raise DataError(str(source), f"there is no folder {name!r} in it, which pairs of images need", REMEDY)
    return folder


def _check_unique(folder: Path, name: str, loaded: DataSet) -> None:
    """Raise DataError if several files of one of the two folders have the same name without their endings."""
    files = [file for part in _parts(loaded) for file in _files(part)]
    twice = [key for key, count in Counter(map(_key, files)).items() if count > 1]
    if twice:
        raise DataError(
            str(folder), f"{name}/ holds several files called {twice[0]!r}, and pairs are matched by name", REMEDY
        )


def _check_partners(folder: Path, needed: Sequence[str], known: Container[str]) -> None:
    """Raise DataError if an image of `to` has no partner."""
    missing = [file for file in needed if _key(file) not in known]
    if missing:
        named = listed([f"{TO}/{file}" for file in missing], 3)
        raise DataError(str(folder), f"{named} have no partner in {FROM}/ that can be read", REMEDY)


def _paired(part: Split | None, known: dict[str, NDArray[np.uint8]]) -> Split | None:
    return None if part is None else replace(part, partners=np.stack([known[_key(file)] for file in _files(part)]))


def _parts(data: DataSet) -> list[Split]:
    return [part for part in (data.train, data.held_out) if part is not None]


def _files(part: Split) -> tuple[str, ...]:
    if part.files is None:
        raise DataError(f"{FROM}/ and {TO}/", "they hold arrays, whose images have no names to be matched by", REMEDY)
    return part.files


def _key(file: str) -> str:
    return file.rpartition(".")[0]
