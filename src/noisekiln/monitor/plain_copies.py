"""Copies of the trained module, for sampling and saving."""

import copy
from collections.abc import Callable
from functools import cached_property

import torch

from noisekiln.codecs.base import Codec
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
        self.trainer = trainer
        self.make_learner = make_learner
        self.compiled = compiled
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
        """A new copy that can be trained; its weights are current or initial ones, and it shares codec and teacher."""
        module = self.trainer.module
        assert isinstance(module, Learner)
        codec, teacher = module.diffusion.codec, module.teacher  # which never change
        if not self.sharded:
            return copy.deepcopy(module, {id(part): part for part in (codec, teacher) if part is not None})
        learner = self.make_learner()  # sharded modules cannot be copied
        learner.diffusion.codec = codec
        learner.teacher = teacher
        return learner

    @cached_property
    def codec_in_main_memory(self) -> Codec:
        """The codec, which never changes; a copy of it if it is on another device."""
        assert isinstance(self.trainer.module, Learner)
        codec = self.trainer.module.diffusion.codec
        tensors = [*codec.parameters(), *codec.buffers()]
        return codec if all(tensor.device.type == "cpu" for tensor in tensors) else copy.deepcopy(codec).cpu()

    def _frozen(self) -> Learner:
        return self.trainable().eval().requires_grad_(False)
