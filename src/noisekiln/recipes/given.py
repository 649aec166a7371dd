"""Pictures from files, as a task's model wants them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from noisekiln.diffusion import Diffusion

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_given(model: Diffusion, files: Sequence[Path]) -> Tensor:
    """What these files give to a model with a task, (N, h, w, c) uint8: grey, in colour, or with transparency.

    Raises:
        ValueError: If the model has no task, a file is no picture, or the pictures differ in size.
    """
    if model.task is None:
        raise ValueError(
            "This model paints from noise alone: it was trained without a task, and takes no images. "
            "Use `noisekiln sample`, or train one with --task."
        )
    mode = MODES[model.task.reads(model.codec.channels)]
    pictures = [_open(file).convert(mode) for file in files]
    if len({picture.size for picture in pictures}) > 1:
        sizes = ", ".join(f"{file.name} {p.height}x{p.width}" for file, p in zip(files, pictures, strict=True))
        raise ValueError(f"The images differ in size ({sizes}), and are painted together. Give those of one size.")
    arrays = [np.asarray(picture).reshape(picture.height, picture.width, -1) for picture in pictures]
    return torch.from_numpy(np.stack(arrays))


def _open(file: Path) -> Image.Image:
    try:
        return ImageOps.exif_transpose(Image.open(file))
    except FileNotFoundError:
        raise ValueError(f"There is no file {str(file)!r}. Give the path of a picture.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a picture ({error}). Give a .png, .jpg or alike.") from error
