"""What a conditioner is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.conditions import Cond


class Conditioner(nn.Module, ABC):
    """Turns wishes into a `Cond`, in two steps: `encode` once for a whole data set, `forward` at every training step.

    Ids are integers, (B, ...); the ids of "nothing asked for" are what classifier-free guidance compares with.
    Constructor arguments are kept under their own names; `width` is the size of ``Cond.vector``.
    """

    reads: ClassVar[str]  # what of a data set it is trained on: "labels" or "captions"
    width: int
    choices: tuple[str, ...] = ()  # all that can be wished for, where that is a fixed list
    words: tuple[str, ...] = ()  # the words that it knows, where wishes are made of words

    @abstractmethod
    def encode(self, wanted: Sequence[str | int]) -> Tensor:
        """Ids of these wishes, (B, ...) int64.

        Raises:
            ValueError: For a wish that cannot be understood.
        """

    def unknown(self, wish: str) -> list[str]:
        """Words of a wish that say nothing to this conditioner."""
        return []

    @abstractmethod
    def nothing(self, count: int) -> Tensor:
        """Ids of no wish at all, (count, ...) int64."""

    @abstractmethod
    def forward(self, ids: Tensor) -> Cond:
        """The condition of each row of ids."""

    def extended(self, other: Self) -> Self:
        """This one, and what `other` knows besides; what it knew keeps its meaning, what is new says nothing yet.

        A conditioner that has no list of what it knows has nothing to extend: it is returned as it is.
        """
        return self

    def drop(self, ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Ids with a random share of the rows replaced by nothing (Ho & Salimans 2022, algorithm 1)."""
        dropped = torch.rand(len(ids), generator=generator) < share
        return torch.where(dropped.view(-1, *[1] * (ids.ndim - 1)), self.nothing(len(ids)), ids)
