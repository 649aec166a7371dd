"""Arrays of earlier evaluations: samples and features, by the content of what was asked."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.files.array_cache import ArrayCache

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
        self._arrays = None if folder is None else ArrayCache(folder, MOST_BYTES)

    def read(self, name: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor | None:
        """An array that was kept; None unless all processes can read it.

        Args:
            name: Its name.
            shape: Shape that it has to have; None for any length.
            dtype: Type that it has to have.
        """
        found = None if self._arrays is None else self._arrays.read(name, shape, dtype)
        all_found = self.ranks.all_reduce_sum([found is not None]) == [self.ranks.world_size]
        return found if all_found else None

    def keep(self, name: str, array: Tensor) -> None:
        """Keep an array. A disk on which it cannot be written is no error: it is computed again."""
        if self._arrays is not None and self.ranks.is_main:
            self._arrays.keep(name, array)


def content_key(images: Tensor) -> str:
    """20 hex digits that depend on the pixels of images (N, H, W, C) and on their order."""
    found = hashlib.blake2b(str(tuple(images.shape)).encode(), digest_size=10)
    for part in images.split(4096):
        found.update(part.contiguous().numpy().data)
    return found.hexdigest()
