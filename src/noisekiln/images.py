"""Images that sampling returns, and one image of any kind as an array."""

import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from noisekiln.components.setting import check_argument
from noisekiln.data.image_file import read_image_file, read_image_item
from noisekiln.data.rows import as_array
from noisekiln.data.source import Item
from noisekiln.data.values import scaled_to_bytes
from noisekiln.errors import counted
from noisekiln.files.pictures import ImageArray, save_image, tile, to_pil
from noisekiln.paths import expand_home

ImageLike = NDArray[Any] | Tensor | Image.Image | str | Path
"""One image of any kind; see `single_image`."""

COLOURS = {1: "grey", 3: "colour"}
SHOWN = 64  # images, in a notebook


class Images(Tensor):
    """Images (N, H, W, C) uint8, or a single one (H, W, C): a `torch.Tensor` that saves and shows itself.

    Whatever is computed from it is a plain tensor. ``images[0]`` and ``images[2:5]`` are `Images` again.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment] # results are plain tensors

    @staticmethod
    def of(pixels: Tensor) -> "Images":
        """A tensor of images as `Images`; they share its memory."""
        if not isinstance(pixels, Tensor):
            raise ValueError(
                f"A {type(pixels).__name__} was given, which is no tensor of images. Give one (N, H, W, C) of bytes, "
                "such as torch.from_numpy(array)."
            )
        return pixels.detach().as_subclass(Images)

    def pil(self) -> list[Image.Image]:
        """The images as PIL images; a list of one for a single image."""
        return [to_pil(image) for image in self._stack()]

    def grid(self, columns: int | None = None) -> "Images":
        """All images side by side in one, (H', W', C).

        Args:
            columns: Images in a row; by default about as many as rows.

        Raises:
            ValueError: If there is no image, or no column.
        """
        stack = self._some()
        columns = math.ceil(math.sqrt(len(stack))) if columns is None else columns
        check_argument("columns", columns, int)
        if columns < 1:
            raise ValueError(f"`columns={columns}`: a row of a grid holds one image or more. Give 1 or more.")
        return Images.of(torch.from_numpy(tile(stack, columns)))

    def save(self, place: str | Path) -> list[Path]:
        """Write the images, and return their files; a file of the same name is replaced, which a warning says.

        Args:
            place: A folder, for 00000.png, 00001.png, ...; or a file, whose ending is its format: a single image, a
                grid of several, or (.gif) an animation of them.

        Raises:
            ValueError: If the ending is that of no image format, or there is no image.
        """
        path, stack = expand_home(place), self._some()
        suffix = path.suffix.lower()
        if suffix and not path.is_dir() and suffix not in Image.registered_extensions():
            raise ValueError(
                f"{str(path)!r} ends in {path.suffix!r}, which is no format of images. "
                "Give a folder, or a file that ends in .png, .jpg, .webp or .gif."
            )
        in_folder = path.is_dir() or not suffix
        files = [path / f"{number:05d}.png" for number in range(len(stack))] if in_folder else [path]
        replaced = sum(file.exists() for file in files)
        if replaced:
            warnings.warn(f"{counted(replaced, 'file')} in {files[0].parent} replaced by new images.", stacklevel=2)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        if in_folder:
            for file, image in zip(files, stack, strict=True):
                save_image(image, file)
        elif suffix == ".gif":
            first, *others = map(to_pil, stack)
            first.save(path, save_all=True, append_images=others, duration=100, loop=0)
        else:
            (picture,) = self.pil() if len(stack) == 1 else self.grid().pil()
            picture.convert("RGB" if suffix in (".jpg", ".jpeg") and picture.mode != "L" else picture.mode).save(path)
        return files

    def numpy(self, *, force: bool = False) -> NDArray[np.uint8]:
        """The pixels as an array, wherever they are."""
        pixels: NDArray[np.uint8] = self.detach().cpu().as_subclass(Tensor).numpy()
        return pixels

    def _stack(self) -> ImageArray:
        """(N, H, W, C)."""
        pixels = self.numpy()
        if pixels.ndim not in (3, 4) or pixels.dtype != np.uint8:
            raise ValueError(
                f"A tensor of {self.dtype} with the shape {tuple(self.shape)} holds no images. "
                "Give (N, H, W, C) or (H, W, C) of uint8."
            )
        return pixels if pixels.ndim == 4 else pixels[None]

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """What PIL's ``Image.fromarray`` reads; the array is a part of it, and so lives as long."""
        pixels = np.ascontiguousarray(self.numpy())
        return {**pixels.__array_interface__, "data": pixels, "strides": pixels.strides}

    def tobytes(self) -> bytes:
        """The pixels, one after another."""
        return self.numpy().tobytes()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype) if copy else np.asarray(self.numpy(), dtype=dtype)

    def __getitem__(self, key: Any) -> Tensor:
        chosen = super().__getitem__(key)
        return Images.of(chosen) if self.ndim == 4 and chosen.shape[-3:] == self.shape[-3:] else chosen

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def __deepcopy__(self, memo: Any) -> "Images":
        return Images.of(self.clone())

    def __repr__(self) -> str:  # type: ignore[override] # has an argument for wrappers
        if self.ndim not in (3, 4):
            return f"Images of the shape {tuple(self.shape)}"
        height, width, channels = self.shape[-3:]
        kind = COLOURS.get(channels, counted(channels, "channel"))
        count = f"{len(self)} of " if self.ndim == 4 else ""
        return f"Images({count}{height}x{width}, {kind})"

    def _some(self) -> ImageArray:
        """(N, H, W, C), with one image or more."""
        stack = self._stack()
        if not len(stack):
            raise ValueError("There are no images: their number is 0. Sample one or more to see or save them.")
        return stack

    def _repr_png_(self) -> bytes | None:
        """A grid of them in a notebook, small images enlarged; of many, the first; None if there are none."""
        if not len(self):
            return None
        shown = self if self.ndim == 3 else Images.of(self[:SHOWN]).grid()
        (picture,) = Images.of(shown).pil()
        factor = max(1, 256 // max(picture.size))
        file = io.BytesIO()
        ImageOps.scale(picture, factor, Image.Resampling.NEAREST).save(file, "PNG")
        return file.getvalue()


def single_image(image: ImageLike) -> ImageArray:
    """One image of any kind as (H, W, C) uint8: the one place that decides how an image is read.

    Args:
        image: An array or a tensor (H, W), (H, W, C), (C, H, W) or with a 1 in front, of bytes or of floats in [0, 1]
            or [-1, 1]; `Images` of one image; a PIL image; the path of a file.

    Raises:
        ValueError: If it is none of these, or holds several images.
    """
    if isinstance(image, str | Path):
        return read_image_file(expand_home(image), channels=3)
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
        return read_image_item(Item("the image", image.copy), channels=1 if grey else 3)
    pixels = as_array(image)
    if pixels.ndim == 4 and len(pixels) > 1:
        raise ValueError(f"{len(pixels)} images were given, and one is needed. Give one of them, such as `images[0]`.")
    pixels = pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim == 3 and pixels.shape[2] > 4 and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or not pixels.size or pixels.dtype.kind not in "biuf":
        raise _not_an_image(pixels, image)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "f" and not (pixels.min() >= -1 and pixels.max() <= 1):  # or NaN
        raise _not_an_image(pixels, image)
    scaled: ImageArray = scaled_to_bytes("the image", [pixels[None]], [])[0][0]
    return scaled


def _not_an_image(pixels: NDArray[Any], image: Any) -> ValueError:
    numbers = pixels.dtype.kind in "biuf"
    span = f" from {pixels.min():g} to {pixels.max():g}" if pixels.size and pixels.dtype.kind in "iuf" else ""
    what = f"An array of {pixels.dtype}{span} with the shape {pixels.shape}" if numbers else f"A {type(image).__name__}"
    return ValueError(
        f"{what} is not an image. Give (height, width, "
        "channels) of uint8, 0 to 255, or floats in [0, 1] or [-1, 1]; or a PIL image, or the path of a file."
    )
