"""Arrays in an .npz file under their common names: images or JPEG bytes, labels, captions, class names, columns."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.columns import Columns, from_arrays
from noisekiln.data.source import Item, Part, Source
from noisekiln.errors import DataError

FORMATS = "an .npz file of images (with labels, captions, train and test arrays)"
CLASS_NAMES = ("class_names", "label_names", "classes")
TRAIN = ("train", "")  # "" is for names without a side: images, labels
TEST = ("test", "val", "valid", "validation")
IMAGES, LABELS, CAPTIONS = ("images", "x"), ("labels", "label", "y"), ("captions", "caption", "texts", "text")
KNOWN = frozenset({*IMAGES, *LABELS, *CAPTIONS, *CLASS_NAMES, "jpeg", "offsets"})  # all other names are columns

Arrays = Mapping[str, NDArray[Any]]


def recognises(path: Path) -> int:
    """By suffix."""
    return 2 * (path.suffix.lower() == ".npz" and path.is_file())


def read(path: Path) -> Source:
    """Reads all arrays; object arrays, which can run code, are refused."""
    arrays = _arrays(path)
    notes: list[str] = []
    train, test = _side(arrays, TRAIN), _side(arrays, TEST)
    if train is None:
        train, test = test or _only(path, arrays, notes), None
    names = next((arrays[key] for key in CLASS_NAMES if key in arrays), np.array([], str))
    return Source(path.stem, train, test, class_names=tuple(str(name) for name in names), notes=tuple(notes))


def _arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if not zipfile.is_zipfile(path):
            raise DataError(str(path), "it is not an .npz archive, or it was cut off", "Save it again") from error
        why = "it holds Python objects, which can run code when opened" if "Object" in str(error) else str(error)
        raise DataError(
            str(path), f"numpy cannot read it safely ({why})", "Save plain number and text arrays with numpy.savez"
        ) from error


def _side(arrays: Arrays, sides: tuple[str, ...]) -> Part | None:
    """The train, test or only part."""
    images = _find_array(arrays, sides, IMAGES)
    if images is not None:
        return _make_part(images, arrays, sides)
    encoded, offsets = _find_array(arrays, sides, ("jpeg",)), _find_array(arrays, sides, ("offsets",))
    if encoded is None or offsets is None:
        return None
    return _make_part(_items(encoded, offsets), arrays, sides)


def _make_part(images: NDArray[Any] | tuple[Item, ...], arrays: Arrays, sides: tuple[str, ...]) -> Part:
    labels, captions = _find_array(arrays, sides, LABELS), _captions(arrays, sides)
    return Part(images, labels, captions, _further_columns(arrays, sides, len(images)))


def _further_columns(arrays: Arrays, sides: tuple[str, ...], count: int) -> Columns:
    """The arrays of these sides whose name has no other meaning: age, train_age, age_train, ..."""
    named = [(*_side_and_name(key), array) for key, array in arrays.items()]
    return from_arrays({name: array for side, name, array in named if side in sides and name not in KNOWN}, count)


def _side_and_name(key: str) -> tuple[str, str]:
    for side in filter(None, (*TRAIN, *TEST)):
        if key.startswith(f"{side}_") or key.endswith(f"_{side}"):
            return side, key.removeprefix(f"{side}_").removesuffix(f"_{side}")
    return "", key


def _find_array(arrays: Arrays, sides: tuple[str, ...], kinds: tuple[str, ...]) -> NDArray[Any] | None:
    """The array called train_images, x_train, images_train, ... or, for the images themselves, just train."""
    for side in sides:
        for kind in kinds:
            for key in (f"{side}_{kind}", f"{kind}_{side}") if side else (kind,):
                if key in arrays:
                    return arrays[key]
        if "images" in kinds and side in arrays:
            return arrays[side]
    return None


def _captions(arrays: Arrays, sides: tuple[str, ...]) -> tuple[str, ...] | None:
    """Captions from an array of texts, or from one text with a caption on each line, as text or as its bytes."""
    found = _find_array(arrays, sides, CAPTIONS)
    if found is None:
        return None
    if found.dtype == np.uint8:
        return tuple(found.tobytes().decode("utf-8").removesuffix("\n").split("\n"))
    if found.dtype.kind == "S":
        found = np.char.decode(found, "utf-8")
    if found.ndim == 0:
        return tuple(str(found).removesuffix("\n").split("\n"))
    return tuple(str(caption) for caption in found)


def _items(encoded: NDArray[Any], offsets: NDArray[Any]) -> tuple[Item, ...]:
    """Image number i is encoded[offsets[i]:offsets[i + 1]]."""
    spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return tuple(Item(f"number {i}", partial(_bytes, encoded, *span)) for i, span in enumerate(spans))


def _bytes(encoded: NDArray[Any], start: int, end: int) -> io.BytesIO:
    return io.BytesIO(encoded[start:end].tobytes())


def _only(path: Path, arrays: Arrays, notes: list[str]) -> Part:
    """The only array that can be a stack of images, where none has a known name."""
    candidates = [key for key in arrays if arrays[key].ndim in (3, 4)]
    if len(candidates) == 1:
        notes.append(f'The array "{candidates[0]}" is read as the images.')
        return _make_part(arrays[candidates[0]], arrays, TRAIN)
    raise DataError(
        str(path),
        f"none of its arrays is named as images ({', '.join(arrays) or 'it is empty'})",
        'Name them "images" and "labels", or "train_images", "train_labels", "test_images", "test_labels"',
    )
