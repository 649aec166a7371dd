"""Images in memory before decoding: a stack of one shape, or one item for each."""

import io
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.rows import as_array, is_stack
from noisekiln.data.source import Item, file_item
from noisekiln.errors import DataError
from noisekiln.paths import expand_home


def stack_or_items(values: Any) -> NDArray[Any] | tuple[Item, ...]:
    """A stack of images of one shape, or one item for each image."""
    if is_stack(values):
        return as_array(values)
    entries = [as_array(value) if is_stack(value) else value for value in values]
    arrays = [entry for entry in entries if isinstance(entry, np.ndarray)]
    shapes = {array.shape for array in arrays}
    if entries and len(arrays) == len(entries) and len(shapes) == 1 and arrays[0].ndim in (2, 3):
        return np.stack(arrays)
    return tuple(_item(entry, number) for number, entry in enumerate(entries))


@singledispatch
def _item(entry: Any, number: int) -> Item:
    """One image before decoding."""
    what = "nothing (None)" if entry is None else f"something of the type {type(entry).__name__}"
    raise DataError(
        f"image number {number}", f"{what} is not an image", "Give PIL images, paths, or arrays (H, W) or (H, W, C)"
    )


@_item.register
def _(entry: str, number: int) -> Item:
    return file_item(entry, expand_home(entry))


@_item.register
def _(entry: Path, number: int) -> Item:
    return file_item(str(entry), expand_home(entry))


@_item.register
def _(entry: Image.Image, number: int) -> Item:
    return Item(f"number {number}", entry.copy)  # a copy, as it is closed after use


@_item.register
def _(entry: bytes, number: int) -> Item:
    return Item(f"number {number}", partial(io.BytesIO, entry))


@_item.register
def _(entry: dict, number: int) -> Item:  # type: ignore[type-arg] # of Hugging Face: the bytes or the path of a file
    content, path = entry.get("bytes"), entry.get("path")
    return _item(path if content is None else content, number)


@_item.register
def _(entry: np.ndarray, number: int) -> Item:
    if entry.ndim not in (2, 3) or entry.dtype.kind not in "biuf":
        raise DataError(
            f"image number {number}",
            f"{entry.dtype} of shape {entry.shape} is not an image",
            "Give arrays (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels",
        )
    return Item(f"number {number}", partial(_as_file, entry))


def _as_file(array: NDArray[Any]) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    file.seek(0)
    return file
