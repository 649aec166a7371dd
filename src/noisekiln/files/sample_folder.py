"""A folder of samples: numbered images, their index `samples.json`, and a grid of all of them."""

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from noisekiln.errors import WouldOverwrite, counted, listed
from noisekiln.files.atomic import is_draft, remove_whatever
from noisekiln.files.json_file import read_json, write_json_text
from noisekiln.files.pictures import ImageArray, enlarge_to_fit, save_image, tile
from noisekiln.files.png_text import read_png_text
from noisekiln.files.system_files import entries_of

INDEX = "samples.json"
MAX_INDEX_BYTES = 1 << 29  # of a million images, the most that are sampled at once
DAMAGED = "samples.json.damaged"  # an index that could not be read, set aside
GRID = "grid.png"
PREVIEW = "preview.png"  # of a batch that is being sampled
OVERVIEWS = (GRID, "strip.png", "animation.gif", "animation.webp")  # files of all images together


class SampleFolder:
    """A folder for samples: new, empty, or of earlier samples, which the first new ones replace.

    Nothing is removed before the first image is added, so a request that fails costs no earlier samples. A process that
    is killed at any moment leaves a folder that the next one can use.

    Args:
        path: The folder.

    Raises:
        WouldOverwrite: If it holds anything else.
        OSError: If it cannot be a folder.

    Attributes:
        earlier: Files of the earlier samples in it, apart from their index.
        notes: What adding the first image will replace or set aside, one line each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier: list[Path] = []
        self.notes: list[str] = []
        self._is_damaged = False
        self._has_preview = False
        self._images: list[ImageArray] = []
        self._made: list[Path] = []  # the innermost first
        self._index: list[dict[str, Any]] = []
        self._lines: list[str] = []  # of the index, one for each image
        if path.exists() or any(parent.is_file() for parent in path.parents):
            self.look()

    @property
    def images(self) -> ImageArray:
        """All images that were added, (N, H, W, C) uint8."""
        return np.concatenate(self._images)

    @property
    def count(self) -> int:
        """Images that were added."""
        return len(self._index)

    @property
    def shared(self) -> dict[str, Any]:
        """What the entries of all images have in common, and their number: the text of pictures of all of them."""
        first = self._index[0]
        same = {name: value for name, value in first.items() if all(each.get(name) == value for each in self._index)}
        return {**{name: value for name, value in same.items() if name != "file"}, "images": self.count}

    def create(self) -> None:
        """Make the folder, so that a location without write access is an error before any image is generated.

        Raises:
            ValueError: If nothing can be written there.
        """
        self._made += [place for place in (self.path, *self.path.parents) if not place.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ValueError(
                f"{self.path}, the folder for the images, cannot be written: {error.strerror}. Give another `out`."
            ) from error

    def remove_if_empty(self) -> None:
        """Remove the folders that `create` made, if no image was added."""
        if not self._images:
            for place in self._made:
                with suppress(OSError):  # another process may have written there
                    place.rmdir()

    def add(self, images: ImageArray, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Write images, and what they show into their files and the index.

        Args:
            images: (N, H, W, C) uint8.
            metadata: Further entries of each image in the index.
        """
        if not self._images:
            self.create()
            self._remove_earlier()
        names = [f"{self.count + i:05d}.png" for i in range(len(images))]
        entries = [{"file": name, **entry} for name, entry in zip(names, metadata, strict=True)]
        lines = [*self._lines, *(json.dumps(entry, ensure_ascii=False) for entry in entries)]
        # The index first, so that every image file is recognised as a sample even if the process is killed here. Where
        # it cannot be written, these images were not added, and a grid has no image that the index lacks.
        write_json_text(self.path / INDEX, "[\n" + ",\n".join(lines) + "\n]\n")
        self._images.append(images)
        self._index += entries
        self._lines = lines
        for name, image, entry in zip(names, images, metadata, strict=True):
            save_image(image, self.path / name, text=entry)

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
        save_image(_sheet(np.stack(shown), columns), self.path / GRID, at_least=512, text=self.shared)

    def write_preview(self, images: ImageArray) -> None:
        """Write `preview.png`, a grid of images (N, H, W, C) uint8 that are still being sampled."""
        self._has_preview = True
        save_image(_sheet(images), self.path / PREVIEW, at_least=512, text={"preview": True})

    def remove_preview(self) -> None:
        """Remove the preview that `write_preview` wrote, if any; one that another program keeps open may stay."""
        if self._has_preview:
            with suppress(OSError):
                (self.path / PREVIEW).unlink(missing_ok=True)
            self._has_preview = False

    def look(self) -> None:
        """Find the earlier samples; raises WouldOverwrite if there is anything else."""
        self.notes = []
        entries, index = entries_of(self.path), self.path / INDEX
        samples = _listed(index)
        self._is_damaged = samples is None
        if samples is None:
            samples = [entry.name for entry in entries if _says_it_is_a_sample(entry)]
        ours = {DAMAGED, *((*samples, *OVERVIEWS, INDEX) if index.is_file() else ())}
        if read_png_text(self.path / PREVIEW) is not None:  # of a process that was killed
            ours.add(PREVIEW)
        others = [entry.name for entry in entries if entry.name not in ours or not entry.is_file()]
        if others:
            raise WouldOverwrite(self.path, f"files that are not samples ({listed(others, 3)})")
        self.earlier = [entry for entry in entries if entry.name not in (INDEX, DAMAGED)]
        self._note_earlier()

    def _note_earlier(self) -> None:
        count = sum(file.stem.isdecimal() for file in self.earlier)
        if count:
            images, them = counted(count, "earlier image"), "it" if count == 1 else "them"
            self.notes.append(f"the {images} in {self.path} will be replaced (give another `out` to keep {them}).")
        if self._is_damaged:
            self.notes.append(f"{self.path / INDEX} is damaged; it is kept as {DAMAGED}.")

    def _remove_earlier(self) -> None:
        """Remove the earlier samples. Their index stays until the new one replaces it: it says whose the others are."""
        for file in self.earlier:
            with suppress(OSError) if file.name == PREVIEW else nullcontext():  # which another program may keep open
                file.unlink(missing_ok=True)
        for entry in self.path.iterdir():
            if is_draft(entry) and _is_ours(entry.name[1:].rpartition(".")[0]):
                remove_whatever(entry)  # a process was killed while it wrote this file
        if self._is_damaged:
            os.replace(self.path / INDEX, self.path / DAMAGED)


def _sheet(images: ImageArray, columns: int | None = None) -> ImageArray:
    """A grid of images, with about as many columns as rows by default."""
    return tile(images, columns or round(len(images) ** 0.5 + 0.49))


def _says_it_is_a_sample(entry: Path) -> bool:
    """Whether it is an image that noisekiln has written, by its name and the text in it."""
    return _is_numbered(entry.name) and entry.is_file() and read_png_text(entry) is not None


def _is_ours(name: str) -> bool:
    return name in (INDEX, PREVIEW, *OVERVIEWS) or _is_numbered(name)


def _is_numbered(name: str) -> bool:
    return re.fullmatch(r"\d{5,}\.png", name) is not None


def _listed(index: Path) -> list[str] | None:
    """The images in a `samples.json`, only names such as `SampleFolder` gives; None if it is damaged."""
    if not index.is_file():
        return []
    try:
        names = [str(entry["file"]) for entry in read_json(index, MAX_INDEX_BYTES)]
    except (ValueError, KeyError, TypeError):
        return None
    return [name for name in names if _is_numbered(name)]
