"""A folder of arrays that took long to compute, each named by a key of everything that it depends on."""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from noisekiln.files.model_folder import read_weights, write_weights
from noisekiln.version import VERSION

SUFFIX, KEY = ".safetensors", "array"
NAME = re.compile("[a-z]+-[0-9a-f]{20}")  # of an array: what it is, and its key


class ArrayCache:
    """Arrays in a folder; damaged files count as missing, and of too many bytes the oldest are deleted.

    Args:
        folder: The folder; created at the first array.
        most_bytes: Bytes of all arrays, about.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def read(self, name: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor | None:
        """An array that was kept; None if there is none.

        Args:
            name: Its name.
            shape: Shape that it has to have; None for any length.
            dtype: Type that it has to have.
        """
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

    def keep(self, name: str, array: Tensor) -> None:
        """Keep an array. A disk on which it cannot be written is no error: it is computed again."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._delete_oldest(self.most_bytes - array.nbytes)
            write_weights({KEY: array}, self.folder / f"{name}{SUFFIX}")

    def _delete_oldest(self, most: int) -> None:
        # Other files, and links, are not of the cache: the folder may have been one of models before.
        own = [file for file in self.folder.glob(f"*-*{SUFFIX}") if NAME.fullmatch(file.stem) and not file.is_symlink()]
        files = sorted(own, key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > most:
                file.unlink()


def key_of(*parts: object) -> str:
    """20 hex digits that depend on the text of all parts, and on the version of noisekiln."""
    text = "\0".join(map(str, (VERSION, *parts)))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
