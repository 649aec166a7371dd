"""A folder of samples: numbered images, their index `samples.json`, and a grid of all of them."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from noisekiln.errors import WouldOverwrite
from noisekiln.files.pictures import ImageArray, enlarge_to_fit, save_image, tile, to_pil

INDEX = "samples.json"
GRID = "grid.png"
OVERVIEWS = (GRID, "strip.png", "animation.gif", "animation.webp")  # files of all images together


class SampleFolder:
    """A folder for samples: new, empty, or of earlier samples, which the first new ones replace.

    Nothing is removed before the first image is added, so a request that fails costs no earlier samples.

    Args:
        path: The folder.

    Raises:
        WouldOverwrite: If it holds anything else.
        OSError: If it cannot be a folder.

    Attributes:
        earlier: The earlier samples in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier = earlier_files(path)
        self._images: list[ImageArray] = []
        self._made: list[Path] = []  # the innermost first
        self._index: list[dict[str, Any]] = []

    @property
    def images(self) -> ImageArray:
        """All images that were added, (N, H, W, C) uint8."""
        return np.concatenate(self._images)

    @property
    def count(self) -> int:
        """Images that were added."""
        return len(self._index)

    def create(self) -> None:
        """Make the folder, so that a location without write access is an error before any image is generated."""
        self._made += [place for place in (self.path, *self.path.parents) if not place.exists()]
        self.path.mkdir(parents=True, exist_ok=True)

    def remove_if_empty(self) -> None:
        """Remove the folders that `create` made, if no image was added."""
        if not self._images:
            for place in self._made:
                with suppress(OSError):  # another process may have written there
                    place.rmdir()

    def add(self, images: ImageArray, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Write images and their entries in the index.

        Args:
            images: (N, H, W, C) uint8.
            metadata: Further entries of each image in the index.
        """
        if not self._images:
            self.create()
            for file in self.earlier:
                file.unlink(missing_ok=True)
        names = [f"{self.count + i:05d}.png" for i in range(len(images))]
        self._images.append(images)
        self._index += [{"file": name, **entry} for name, entry in zip(names, metadata, strict=True)]
        # The index first, so that every image file is recognised as a sample even if the process is killed here.
        text = json.dumps(self._index, indent=1, ensure_ascii=False) + "\n"
        (self.path / INDEX).write_text(text, encoding="utf-8")
        for name, image in zip(names, images, strict=True):
            to_pil(image).save(self.path / name)

    def write_grid(self, columns: int | None = None, before: ImageArray | None = None) -> None:
        """Write the grid of the images that were added, if there are any.

        Args:
            columns: Columns of the grid; about as many as rows by default.
            before: Image to show first, (H', W', C) uint8 of any size: the input of the others.
        """
        if not self._images:
            return
        images = self.images
        shown = [*([] if before is None else [enlarge_to_fit(before, images.shape[1:3])]), *images]
        save_image(tile(np.stack(shown), columns or round(len(shown) ** 0.5 + 0.49)), self.path / GRID, at_least=512)


def earlier_files(folder: Path) -> list[Path]:
    """The files of earlier samples in a folder; none if there is no folder.

    Raises:
        WouldOverwrite: If it holds anything else.
    """
    if not folder.exists() and not any(parent.is_file() for parent in folder.parents):
        return []
    files = sorted(folder.iterdir())
    samples = {INDEX, *OVERVIEWS, *_indexed(folder / INDEX)} if (folder / INDEX).is_file() else set()
    others = [file.name for file in files if file.name not in samples]
    if others:
        raise WouldOverwrite(folder, f"files that are not samples ({', '.join(others[:3])})")
    return files


def _indexed(index: Path) -> list[str]:
    """The images in a `samples.json`; only names such as `SampleFolder` gives."""
    try:
        names = [str(entry["file"]) for entry in json.loads(index.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if re.fullmatch(r"\d{5,}\.png", name)]
