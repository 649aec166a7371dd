"""Loading a DataSet: read the source, normalise its labels, survey its images, split them, scale them to one size."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.columns import columns_note, merge_columns, select_columns
from noisekiln.data.contrast import contrast_note
from noisekiln.data.dataset import DataSet, Skipped, Split, data_fingerprint, skipped_note
from noisekiln.data.find import read_source
from noisekiln.data.image_collection import ArrayImages
from noisekiln.data.labelling import about_similar_names, check_captions, normalise_labels
from noisekiln.data.loading_split import LoadingSplit
from noisekiln.data.sizes import checked_size, choose
from noisekiln.data.source import Source
from noisekiln.data.split import about_held_out, held_out, only_of_their_class, only_trained_classes
from noisekiln.data.survey import survey
from noisekiln.data.values import as_bytes
from noisekiln.errors import DataError, counted, listed

ReadProgress = Callable[[int, int], None]  # called with the number of images read, and of all


def load(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    cache: Path | None = None,
    progress: ReadProgress | None = None,
    labels: Any = None,
    captions: Any = None,
) -> DataSet:
    """Reads a data set: pixels (N, H, W, C) uint8 with labels, captions and columns where the source has them.

    Args:
        source: Folder (flat; a sub-folder per class; metadata.jsonl or metadata.csv; train and test sub-folders), a zip
            or tar archive of such a folder, an .npz, .npy or idx file, a folder of idx files, CIFAR as downloaded, a
            bundled name ("portraits"); or data in memory: see `noisekiln.data.in_memory.from_memory`.
        size: Side, or (height, width), in pixels, 4 or more. If None, small images of one size are kept as they are,
            and others scaled and cropped to a longer side of 64 (32 if most are smaller), in their shape or a square.
        cache: Folder for decoded sets above 2 GiB, which are memory-mapped (if None, a temporary one).
        progress: Function called from time to time with (images done, images in all).
        labels: The class of each image in memory.
        captions: The caption of each image in memory.

    Returns:
        The data set. Without a test part of its own, a tenth (at most 10,000; none of fewer than 10) is held out,
        always the same, but never the only image of a class. Files that cannot be used are listed in `skipped`.

    Raises:
        DataError: If there is no usable image, or the data cannot be interpreted; the message says what to do.
    """
    requested = checked_size(size)
    found = check_captions(read_source(source, labels, captions))
    labels, class_names = normalise_labels(found)
    splits, skipped, notes = _enter(found, labels)
    if not splits:
        raise _nothing(found, skipped)
    whole = len(splits) == 1
    splits, only = _hold_out(splits[0]) if whole else (splits, 0)
    target, about_size = choose(requested, sum((split.images.sizes for split in splits), Counter()))
    channels = max(split.images.channels for split in splits)
    filled, broken = _fill(splits, target, channels, cache, progress)
    skipped += broken
    if not filled:
        raise _nothing(found, skipped)
    if whole:
        notes.append(about_held_out(sum(map(len, filled[1:])), sum(map(len, filled)), only))
    filled, class_names, about_classes = only_trained_classes(filled, class_names, numbered=bool(found.class_names))
    filled, about_grey = _grey(filled, found)
    about = [*_about_words(found, filled, class_names), *about_classes, *columns_note(filled[0].columns)]
    about += [*notes, *about_size, *about_grey, *contrast_note(filled)]
    return _data_set(found.name, filled, class_names, (*found.notes, *about), skipped)


def _data_set(
    name: str, filled: list[Split], class_names: tuple[str, ...], notes: tuple[str, ...], skipped: list[Skipped]
) -> DataSet:
    train, test = filled[0], filled[1] if len(filled) > 1 else None
    mark = data_fingerprint((train, test), class_names)
    notes += (skipped_note(skipped),) if skipped else ()
    return DataSet(name, train, test, class_names, notes, tuple(skipped), mark)


def _enter(
    found: Source, labels: Sequence[NDArray[np.int64] | None]
) -> tuple[list[LoadingSplit], list[Skipped], list[str]]:
    """The splits while they are loaded, without unusable files, which are listed."""
    columns = merge_columns([part.columns for part in found.parts], [len(part.images) for part in found.parts])
    captions = [None if part.captions is None else tuple(part.captions) for part in found.parts]
    arrays = [part.images for part in found.parts if isinstance(part.images, np.ndarray)]
    if arrays:
        pixels, notes = as_bytes(found.name, arrays)
        parts = zip(pixels, labels, captions, columns, strict=True)
        splits = [LoadingSplit(ArrayImages(stack), label, caption, column) for stack, label, caption, column in parts]
        return splits, [], notes
    items = [part.images for part in found.parts if isinstance(part.images, tuple)]
    usable, skipped, notes = survey(items)
    splits = []
    for (files, numbers), label, caption, column in zip(usable, labels, captions, columns, strict=True):
        kept_labels = None if label is None else label[numbers]
        kept_captions = None if caption is None else tuple(caption[i] for i in numbers.tolist())
        splits.append(LoadingSplit(files, kept_labels, kept_captions, select_columns(column, numbers)))
    return [split for split in splits if len(split)], [*found.skipped, *skipped], notes


def _hold_out(images: LoadingSplit) -> tuple[list[LoadingSplit], int]:
    """Train and held-out split, if there are enough images, and how many stay as the only ones of a class."""
    out = held_out(len(images), images.labels)
    parts = [images.take(np.flatnonzero(chosen)) for chosen in (~out, out)] if out.any() else [images]
    return parts, only_of_their_class(out)


def _fill(
    splits: Sequence[LoadingSplit],
    size: tuple[int, int],
    channels: int,
    cache: Path | None,
    progress: ReadProgress | None,
) -> tuple[list[Split], list[Skipped]]:
    """The decoded images of the splits that hold any, and the files that could not be decoded."""
    tick = _ticker(progress, sum(len(split) for split in splits))
    filled: list[Split] = []
    skipped: list[Skipped] = []
    for name, split in zip(("train", "held-out"), splits, strict=False):
        images, broken = split.fill(size, channels, cache / f"{name}.npy" if cache else None, tick)
        filled += [images] if len(images) else []
        skipped += broken
    return filled, skipped


def _grey(filled: list[Split], found: Source) -> tuple[list[Split], list[str]]:
    """Files saved in colour that hold only grey get one channel; arrays keep the channels they have."""
    colour = filled[0].pixels.shape[3] == 3 and not isinstance(found.train.images, np.ndarray)
    if not colour or not all(_is_grey(images.pixels) for images in filled):
        return filled, []
    return [replace(images, pixels=images.pixels[..., :1]) for images in filled], ["All images are grey: 1 channel."]


def _about_words(found: Source, filled: list[Split], class_names: tuple[str, ...]) -> list[str]:
    """Notes on classes and captions."""
    notes = []
    if class_names:
        origin = f" from {found.labels_from}" if found.labels_from else ""
        notes.append(f"{counted(len(class_names), 'class', 'classes')}{origin}: {listed(class_names, 10)}.")
    notes += about_similar_names(class_names)
    captions = [caption for images in filled for caption in images.captions or ()]
    if captions:
        notes.append(f"{sum(map(bool, captions)):,} of {len(captions):,} images have a caption.")
    return notes


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether red, green and blue are the same in (N, H, W, 3)."""
    return all((image[..., :1] == image).all() for image in pixels)


def _nothing(found: Source, skipped: Sequence[Skipped]) -> DataError:
    """The error for data without a usable image, with the first three reasons."""
    reasons = "; ".join(f"{one.file}: {one.why}" for one in skipped[:3])
    more = f"; and {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
    return DataError(found.name, f"no image in it can be used ({reasons}{more})", "Replace or convert these files")


def _ticker(progress: ReadProgress | None, total: int) -> Callable[[], None]:
    """A function that reports every 256th image and the last."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None and (done % 256 == 0 or done == total):
            progress(done, total)

    return tick
