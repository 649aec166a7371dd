"""Arrays of earlier evaluations: samples and features, by the content of what was asked."""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.files.model_folder import read_weights, write_weights
from noisekiln.version import VERSION

SUFFIX, KEY = ".safetensors", "array"
NAME = re.compile("[a-z]+-[0-9a-f]{20}")  # of an array: what it is, and its key
MOST_BYTES = 2**30  # above which the oldest arrays are deleted


class EvaluationCache:
    """A folder of arrays, each named by a key of everything that it depends on; damaged files are made again.

    All processes call each method; the first one writes.

    Args:
        folder: The folder; None to keep nothing.
        ranks: The processes.
    """

    def __init__(self, folder: Path | None, ranks: Ranks = Ranks()) -> None:
        self.folder = folder
        self.ranks = ranks

    def read(self, name: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor | None:
        """An array that was kept; None unless all processes can read it.

        Args:
            name: Its name.
            shape: Shape that it has to have; None for any length.
            dtype: Type that it has to have.
        """
        found = self._read(name, shape, dtype)
        all_found = self.ranks.all_reduce_sum([found is not None]) == [self.ranks.world_size]
        return found if all_found else None

    def keep(self, name: str, array: Tensor) -> None:
        """Keep an array. A disk on which it cannot be written is no error: it is computed again."""
        if self.folder is None or not self.ranks.is_main:
            return
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._delete_oldest(self.folder, MOST_BYTES - array.nbytes)
            write_weights({KEY: array}, self.folder / f"{name}{SUFFIX}")

    def _read(self, name: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor | None:
        if self.folder is None:
            return None
        file = self.folder / f"{name}{SUFFIX}"
        try:
            array = read_weights(file)[KEY]
        except (OSError, ValueError, KeyError, SafetensorError):
            return None
        if array.dtype != dtype or array.ndim != len(shape):
            return None
        if any(length not in (None, found) for length, found in zip(shape, array.shape, strict=True)):
            return None
        with suppress(OSError):
            os.utime(file)  # used now
        return array

    @staticmethod
    def _delete_oldest(folder: Path, most: int) -> None:
        # Other files, and links, are not of the cache: the folder may have been one of models before.
        own = [file for file in folder.glob(f"*-*{SUFFIX}") if NAME.fullmatch(file.stem) and not file.is_symlink()]
        files = sorted(own, key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > most:
                file.unlink()


def key_of(*parts: object) -> str:
    """20 hex digits that depend on the text of all parts, and on the version of noisekiln."""
    return hashlib.blake2b("\0".join(map(str, (VERSION, *parts))).encode(), digest_size=10).hexdigest()


def content_key(images: Tensor) -> str:
    """20 hex digits that depend on the pixels of images (N, H, W, C) and on their order."""
    found = hashlib.blake2b(str(tuple(images.shape)).encode(), digest_size=10)
    for part in images.split(4096):
        found.update(part.contiguous().numpy().data)
    return found.hexdigest()
