"""How many bits numbers have."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Runs the network in fewer bits where that is faster; weights and their averages keep 32.

    Args:
        name: "fp32", "bf16", or "fp16", which needs its loss scaled so that small gradients do not vanish.
        device: "cpu", "cuda" or "mps".
    """

    def __init__(self, name: str = "fp32", device: str = "cpu") -> None:
        self.kind, self.device = KINDS[name], device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """While it is open, networks run in this precision."""
        return torch.autocast(self.device, self.kind, enabled=self.kind is not torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Bring the gradients to their true size, once all are there."""
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def settle(self) -> None:
        """After a step, taken or not: choose the next scale."""
        if self.scaler.is_enabled():
            self.scaler.update()

    def state(self) -> dict[str, float]:
        """The scale, and how long it has held."""
        return self.scaler.state_dict()

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` returned."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state))


def best(device: str) -> str:
    """bf16 on hardware that has it, otherwise fp32."""
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
