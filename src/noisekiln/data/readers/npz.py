"""Arrays in an .npz file under the names that people use: images or JPEG bytes, labels, captions, class names."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.source import Item, Part, Source
from noisekiln.errors import DataError

HOLDS = "an .npz file of images (with labels, captions, train and test arrays)"
CLASS_NAMES = ("class_names", "label_names", "classes")
TRAIN = ("train", "")  # "" is for names without a side: images, labels
TEST = ("test", "val", "valid", "validation")

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
            raise DataError(str(path), "it is not an .npz archive, or it was cut off", "Save it anew") from error
        why = "it holds Python objects, which can run code when opened" if "Object" in str(error) else str(error)
        raise DataError(
            str(path), f"numpy cannot read it safely ({why})", "Save plain number and text arrays with numpy.savez"
        ) from error


def _side(arrays: Arrays, sides: tuple[str, ...]) -> Part | None:
    """The train, test or only part."""
    images = _named(arrays, sides, ("images", "x"))
    if images is not None:
        return Part(images, _labels(arrays, sides), _captions(arrays, sides))
    encoded, offsets = _named(arrays, sides, ("jpeg",)), _named(arrays, sides, ("offsets",))
    if encoded is None or offsets is None:
        return None
    return Part(_items(encoded, offsets), _labels(arrays, sides), _captions(arrays, sides))


def _named(arrays: Arrays, sides: tuple[str, ...], kinds: tuple[str, ...]) -> NDArray[Any] | None:
    """The array called train_images, x_train, images_train, ... or, for the images themselves, just train."""
    for side in sides:
        for kind in kinds:
            for key in (f"{side}_{kind}", f"{kind}_{side}") if side else (kind,):
                if key in arrays:
                    return arrays[key]
        if "images" in kinds and side in arrays:
            return arrays[side]
    return None


def _labels(arrays: Arrays, sides: tuple[str, ...]) -> NDArray[Any] | None:
    return _named(arrays, sides, ("labels", "label", "y"))


def _captions(arrays: Arrays, sides: tuple[str, ...]) -> tuple[str, ...] | None:
    """An array of texts, or one text with a caption a line, as text or as its bytes."""
    found = _named(arrays, sides, ("captions", "caption", "texts", "text"))
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
    """Without a known name: the only array that can be a stack of images."""
    candidates = [key for key in arrays if arrays[key].ndim in (3, 4)]
    if len(candidates) == 1:
        notes.append(f'The array "{candidates[0]}" was taken as the images.')
        return Part(arrays[candidates[0]], _labels(arrays, TRAIN), _captions(arrays, TRAIN))
    raise DataError(
        str(path),
        f"none of its arrays is known as images ({', '.join(arrays) or 'it is empty'})",
        'Name them "images" and "labels", or "train_images", "train_labels", "test_images", "test_labels"',
    )
