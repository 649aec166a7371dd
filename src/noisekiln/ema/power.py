"""Exponential moving averages (EMA) of the weights, with a power-function profile."""

import copy
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from noisekiln.distributed.sharded import gather, shard_like

Module = TypeVar("Module", bound=nn.Module)
UPDATES = 256  # an update is due when 1/256 of all images seen are new: far less than the width of any average


def gamma_from_length(length: float) -> float:
    """The power gamma of an average whose relative standard deviation is `length` (Karras et al. 2024, eq. 126).

    The largest real root of ``g^3 + 7 g^2 + (16 - length^-2) g + (12 - length^-2)``.
    """
    if not 0 < length < sqrt(1 / 12):
        raise ValueError(f"An EMA length of {length:g} is not possible. It is a share of training: give 0.01 to 0.25.")
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class Ema:
    """Power-function averages of a module's trained parameters (Karras et al. 2024, eq. 121-127), one track per length.

    After t images the weights at image tau have the weight ``tau^gamma``: the average covers a fixed share of training
    so far, and the random start is forgotten, however short the run. Averages are in float32 or wider, and updated only
    when 1/`UPDATES` of all images are new: at every step at first, then less and less often. The steps of updates
    depend only on the images seen.

    Args:
        module: Module whose parameters that require gradients are averaged.
        lengths: Width of each track's average, as a share of the training so far: 0.01 to 0.25.

    Attributes:
        images_seen: Images seen at the last update: at most 1/256 behind training.
        tracks: Average of each length, by parameter name.
    """

    def __init__(self, module: nn.Module, lengths: Sequence[float] = (0.1,)) -> None:
        self.lengths = tuple(lengths)
        self.images_seen = 0
        self._gammas = [gamma_from_length(length) for length in self.lengths]
        trained = _trained(module).items()
        self.tracks = [{name: _wide(weight, copy=True) for name, weight in trained} for _ in self.lengths]

    @torch.no_grad()
    def update(self, module: nn.Module, images_seen: int) -> None:
        """Add the current weights to the averages, if an update is due; to be called after every step.

        Args:
            module: Trained module.
            images_seen: Images seen in all.
        """
        if (images_seen - self.images_seen) * UPDATES < images_seen:
            return
        trained = _trained(module)
        parameters = [_wide(parameter) for parameter in trained.values()]
        for gamma, track in zip(self._gammas, self.tracks, strict=True):
            keep = (self.images_seen / images_seen) ** (gamma + 1)
            torch._foreach_lerp_([track[name] for name in trained], parameters, 1 - keep)
        self.images_seen = images_seen

    @torch.no_grad()
    def copy_into(self, target: nn.Module, module: nn.Module, track: int = 0) -> None:
        """Fill a copy of the module with an average: the parameters of a track, and the module's current buffers.

        Args:
            target: Deep copy of the module.
            module: Trained module.
            track: Index of the length.
        """
        for name, average in self.tracks[track].items():
            target.get_parameter(name).copy_(gather(average))
        for name, buffer in target.named_buffers():
            buffer.copy_(module.get_buffer(name))

    def averaged(self, module: Module, track: int = 0) -> Module:
        """A copy of the module with an average for its weights: to sample and to save; arguments as for `copy_into`."""
        averaged = copy.deepcopy(module)
        self.copy_into(averaged, module, track)
        return averaged

    def state_dict(self) -> dict[str, Tensor]:
        """The averages as ``TRACK.NAME`` and their `images_seen`; not copied."""
        averages = {f"{i}.{name}": average for i, track in enumerate(self.tracks) for name, average in track.items()}
        return averages | {"images_seen": torch.tensor(self.images_seen)}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            ValueError: If it belongs to another module or to other lengths.
        """
        own = self.state_dict()
        if tensors.keys() != own.keys():
            raise ValueError(
                "The checkpoint holds other averages than this run; it may come from an earlier version of noisekiln. "
                "Continue with that version, or give another `out` for a new run."
            )
        for name, average in own.items():
            average.copy_(shard_like(tensors[name], average))
        self.images_seen = int(tensors["images_seen"])


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _wide(parameter: Tensor, *, copy: bool = False) -> Tensor:
    """In float32, or unchanged if it is wider: 16 bits would round every small change of the average to 0."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=copy)
