"""Copies of what is trained, to sample with and to save."""

import copy

import torch

from noisekiln.data import DataSet
from noisekiln.distributed.sharded import gather
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.build import make_learner
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.trainer import Trainer


class PlainCopies:
    """The weights as they are and as they are on average, in modules that are neither compiled nor sharded.

    Several processes have to ask together. A copy is made when first wanted, and filled whenever it is.

    Args:
        trainer: Of a `Learner`.
        settings: Resolved.
        data: The images.
        base: What training went on from, if anything.
    """

    def __init__(self, trainer: Trainer, settings: Settings, data: DataSet, base: Diffusion | None) -> None:
        self.trainer, self.settings, self.data, self.base = trainer, settings, data, base
        self.sharded = settings.shard and trainer.ranks.world_size > 1
        self._raw: Learner | None = None
        self._averaged: Learner | None = None

    @torch.no_grad()
    def raw(self) -> Learner:
        """The weights as they are."""
        assert isinstance(self.trainer.module, Learner)
        if not self.sharded and self.settings.compile != "yes":
            return self.trainer.module
        self._raw = self._raw or self._plain()
        there = self._raw.state_dict()
        for name, weight in self.trainer.module.state_dict().items():
            there[name].copy_(gather(weight))
        return self._raw

    def averaged(self, track: int = 0) -> Learner:
        """One of the trainer's averages."""
        self._averaged = self._averaged or self._plain()
        self.trainer.ema.copy_into(self._averaged, self.trainer.module, track)
        return self._averaged

    def fresh(self) -> Learner:
        """One that can be trained, and is not this run's; its weights are of any time."""
        if self.sharded:  # which cannot be copied
            return make_learner(self.settings, self.data, self.base)
        made = copy.deepcopy(self.trainer.module)
        assert isinstance(made, Learner)
        return made

    def _plain(self) -> Learner:
        return self.fresh().eval().requires_grad_(False)
