"""Arrays in an .npz file under their common names: images or JPEG bytes, labels, captions, class names, columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.array_archive import ArrayArchive, is_array_archive, read_archive
from noisekiln.data.columns import from_arrays
from noisekiln.data.dataset import Altered
from noisekiln.data.encoding import decode_text
from noisekiln.data.named_arrays import TEST, TRAIN, NamedArrays, side_and_kind
from noisekiln.data.packed_images import packed_images
from noisekiln.data.source import Item, Part, Source
from noisekiln.errors import DataError, listed

FORMATS = "an .npz file of images (with labels, captions, train and test arrays)"
IMAGES, LABELS = ("images", "x", "image", "imgs"), ("labels", "label", "y")
CAPTIONS, CLASS_NAMES = ("captions", "caption", "texts", "text"), ("class_names", "label_names", "classes")
# Names that are common in archives, too, but do not say what they hold: the shape decides.
LIKELY_IMAGES = ("data", "samples", "pixels", "arr_0")
LIKELY_LABELS = ("targets", "target", "class", "fine_labels", "arr_1", "classes")


def recognises(path: Path) -> int:
    """By suffix; a single array or an archive of arrays under the other's suffix is found by its content."""
    return 2 * (path.is_file() and path.suffix.lower() in (".npz", ".npy") and is_array_archive(path))


def read(path: Path) -> Source:
    """Reads all arrays but those of objects, which can run code. Notes say which arrays were not used.

    Raises:
        DataError: If there are no images, or if images, labels or captions cannot be read.
    """
    archive = read_archive(path)
    _check_read(path, archive)
    arrays = NamedArrays(archive.arrays)
    notes: list[str] = [*map(Altered, archive.notes)]
    names = _names_of_classes(path, arrays)
    train, test = _part_of_side(path, arrays, TRAIN, notes), _part_of_side(path, arrays, TEST, notes)
    if train is None:
        train, test = test or _only(path, arrays, archive.unread, notes), None
    unused = [*map(repr, arrays.unused()), *(f"{name!r} ({why})" for name, why in archive.unread.items())]
    notes += [Altered(f"Not used: {listed(unused)}.")] if unused else []
    return Source(path.stem, train, test, class_names=names, notes=tuple(notes))


def _check_read(path: Path, archive: ArrayArchive) -> None:
    """Raise DataError if an array that is needed cannot be read."""
    for name, why in archive.unread.items():
        if side_and_kind(name)[1] in (*IMAGES, *LABELS, *CAPTIONS):
            raise DataError(
                str(path),
                f"numpy cannot read its array {name!r} safely ({why})",
                "Save plain number and text arrays with numpy.savez",
            )


def _part_of_side(path: Path, arrays: NamedArrays, sides: Sequence[str], notes: list[str]) -> Part | None:
    """The train, test or only part."""
    images = arrays.find(sides, IMAGES) or arrays.named(*filter(None, sides))
    if images is not None:
        return _part_of(path, arrays.take(images), arrays, _sides_of(images, sides), notes)
    encoded, offsets = arrays.find(sides, ("jpeg",)), arrays.find(sides, ("offsets",))
    if encoded is not None and offsets is not None:
        items = packed_images(str(path), arrays.take(encoded), arrays.take(offsets))
        return _part_of(path, items, arrays, _sides_of(encoded, sides), notes)
    likely = arrays.find(sides, LIKELY_IMAGES, lambda array: array.ndim in (3, 4))
    if likely is None:
        return None
    notes.append(f'The array "{likely}" is read as the images.')
    return _part_of(path, arrays.take(likely), arrays, _sides_of(likely, sides), notes)


def _sides_of(images: str, sides: Sequence[str]) -> Sequence[str]:
    """The sides of what belongs to these images: labels of "val" are not those of "test"."""
    side = side_and_kind(images)[0] or images.lower()
    return (side,) if side in TEST else sides


def _part_of(
    path: Path, images: NDArray[Any] | tuple[Item, ...], arrays: NamedArrays, sides: Sequence[str], notes: list[str]
) -> Part:
    """A part with its labels, captions and columns."""
    if not isinstance(images, tuple) and not images.ndim:
        raise DataError(str(path), "its images are a single number", "Save an array (N, H, W) or (N, H, W, C)")
    count = len(images)
    labels = arrays.find(sides, LABELS)
    if labels is None:
        labels = arrays.find(sides, LIKELY_LABELS, lambda array: _is_label_of_each(array, count))
        notes += [] if labels is None else [f'The array "{labels}" is read as the labels.']
    found_labels = None if labels is None else arrays.take(labels)
    captions = _captions(path, arrays, sides)
    columns = from_arrays({base: arrays.arrays[key] for key, base in arrays.further(sides)}, count)
    arrays.used.update(key for key, base in arrays.further(sides) if base in columns)
    return Part(images, found_labels, captions, columns)


def _is_label_of_each(array: NDArray[Any], count: int) -> bool:
    """Whether it holds one whole number or text for each image."""
    return array.shape in ((count,), (count, 1)) and array.dtype.kind in "biuUS"


def _captions(path: Path, arrays: NamedArrays, sides: Sequence[str]) -> tuple[str, ...] | None:
    """Captions from an array of texts, or from one text with a caption on each line, as text or as its bytes."""
    key = arrays.find(sides, CAPTIONS)
    return None if key is None else _text_list(path, arrays.take(key))


def _text_list(path: Path, values: NDArray[Any]) -> tuple[str, ...]:
    """Texts from an array of them, or the lines of a single one."""
    if values.dtype == np.uint8 and values.ndim == 1:
        return _lines(decode_text(str(path), values.tobytes())[0])
    if values.ndim > 1:
        raise DataError(
            str(path),
            f"an array of texts in it is {values.dtype} of shape {values.shape}, not a list",
            "Give one text for each image, or for each class",
        )
    return _lines(str(values)) if values.ndim == 0 else tuple(map(str, values.tolist()))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.removesuffix("\n").split("\n"))


def _names_of_classes(path: Path, arrays: NamedArrays) -> tuple[str, ...]:
    """Names of the classes; none if a name stands in that array twice, which then holds the class of each image."""
    key = arrays.named(*CLASS_NAMES)
    if key is None or len(np.unique(arrays.arrays[key])) < arrays.arrays[key].size:
        return ()
    return _text_list(path, arrays.take(key).squeeze())


def _only(path: Path, arrays: NamedArrays, unread: dict[str, str], notes: list[str]) -> Part:
    """The only array that can be a stack of images, where none has a known name."""
    candidates = [key for key, array in arrays.arrays.items() if array.ndim in (3, 4)]
    if len(candidates) == 1:
        notes.append(f'The array "{candidates[0]}" is read as the images.')
        return _part_of(path, arrays.take(candidates[0]), arrays, TRAIN, notes)
    if unread:
        reasons = listed([f"{name}: {why}" for name, why in unread.items()])
        raise DataError(
            str(path), f"no array of images in it can be read ({reasons})", "Save plain arrays with numpy.savez"
        )
    raise DataError(
        str(path),
        f"none of its arrays is named as images ({listed(list(arrays.arrays)) or 'it is empty'})",
        'Name them "images" and "labels", or "train_images", "train_labels", "test_images", "test_labels"',
    )
