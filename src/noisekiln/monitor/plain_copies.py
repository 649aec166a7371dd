"""Copies of the trained module, for sampling and saving."""

import copy
from collections.abc import Callable

import torch

from noisekiln.distributed.sharded import gather
from noisekiln.plan.learner import Learner
from noisekiln.training.trainer import Trainer


class PlainCopies:
    """The current and the averaged weights in modules that are neither compiled nor sharded.

    All processes call its methods together. A copy is made at its first use, and filled at every use.

    Args:
        trainer: Trainer of a `Learner`.
        make_learner: Function that makes an untrained `Learner` of the same kind.
        compiled: Whether the trained network is compiled.

    Attributes:
        sharded: Whether each process holds only a part of the weights.
    """

    def __init__(self, trainer: Trainer, make_learner: Callable[[], Learner], *, compiled: bool = False) -> None:
        self.trainer, self.make_learner, self.compiled = trainer, make_learner, compiled
        self.sharded = trainer.placement.sharded
        self._current: Learner | None = None
        self._averaged: Learner | None = None

    @torch.no_grad()
    def current(self) -> Learner:
        """The current weights: the trained module itself if it is plain, which the caller must not change."""
        assert isinstance(self.trainer.module, Learner)
        if not self.sharded and not self.compiled:
            return self.trainer.module
        self._current = self._current or self._frozen()
        tensors = self._current.state_dict()
        for name, weight in self.trainer.module.state_dict().items():
            tensors[name].copy_(gather(weight))
        return self._current

    def averaged(self, track: int = 0) -> Learner:
        """The averaged weights.

        Args:
            track: Index of the trainer's average; the first is that of the run's model.
        """
        self._averaged = self._averaged or self._frozen()
        self.trainer.ema.copy_into(self._averaged, self.trainer.module, track)
        return self._averaged

    def trainable(self) -> Learner:
        """A new copy that can be trained; its weights are current or initial ones."""
        if self.sharded:  # sharded modules cannot be copied
            return self.make_learner()
        module = self.trainer.module
        assert isinstance(module, Learner)
        shared = {} if module.teacher is None else {id(module.teacher): module.teacher}  # it never changes
        return copy.deepcopy(module, shared)

    def _frozen(self) -> Learner:
        return self.trainable().eval().requires_grad_(False)
