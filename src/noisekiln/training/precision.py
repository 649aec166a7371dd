"""Mixed precision: autocast and loss scaling."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from noisekiln.machine.autocast import DTYPES


class Precision:
    """Runs the network in 16 bits where that is faster; weights and their averages stay in float32.

    Args:
        name: "fp32", "bf16", or "fp16", whose loss is scaled so that small gradients do not vanish.
        device: "cpu", "cuda" or "mps".

    Attributes:
        dtype: Type in which the network computes.
    """

    def __init__(self, name: str = "fp32", device: str = "cpu") -> None:
        self.dtype, self.device = DTYPES[name], device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which networks run in this precision."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled if the precision needs it."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Divide the accumulated gradients by the scale."""
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def update_scale(self) -> None:
        """Choose the scale of the next step; to be called after every step, applied or not."""
        if self.scaler.is_enabled():
            self.scaler.update()

    def state_dict(self) -> dict[str, float]:
        """The scale, and the number of steps since it changed."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from what `state_dict` returned."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state))
