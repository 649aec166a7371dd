"""The training loop."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from noisekiln.training.budget import Budget, Rate
from noisekiln.training.ema import Ema

Batch = TypeVar("Batch")


class HasValue(Protocol):
    """All that the trainer needs of a loss."""

    @property
    def value(self) -> Tensor:
        """0-d, to be differentiated."""


Steps = Callable[[Batch, torch.Generator], HasValue]
Batches = Callable[[int, int], Batch]


class Diverged(RuntimeError):
    """The loss or a gradient is no longer a number; the weights are those from before the step.

    Attributes:
        loss: What the loss function returned.
    """

    def __init__(self, message: str, loss: HasValue) -> None:
        super().__init__(message)
        self.loss = loss


@dataclass(frozen=True)
class Report:
    """Where training stands after a step.

    Attributes:
        images_seen: In all.
        seconds: Of training in all, interruptions not counted.
        share: Of the budget, 0 to 1.
        loss: Of this step.
        grad_norm: Before clipping.
        rate: The learning rate of this step.
    """

    images_seen: int
    seconds: float
    share: float
    loss: float
    grad_norm: float
    rate: float


class Trainer(Generic[Batch]):
    """Trains a module until a budget is spent; progress is counted in images.

    A step's data and randomness are functions of the seed and the images seen, so an interrupted run that is resumed
    takes the same steps as an uninterrupted one.

    Args:
        module: What is trained: all its parameters that require gradients; the others stay, and are not saved.
        loss: What is minimised, from a batch and a source of randomness.
        batches: (images seen, batch size) -> the next batch.
        optimizers: Each over some of the trained parameters, together over all; their rate is set at every step.
        budget: When to stop.
        rate: The learning rate over the elapsed share.
        batch: Images in a step.
        seed: Of everything random.
        clip: Largest norm of the gradient.
        ema_length: Of the average, as a share of training.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Steps[Batch],
        batches: Batches[Batch],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        budget: Budget,
        rate: Rate,
        batch: int,
        seed: int = 0,
        clip: float = 1.0,
        ema_length: float = 0.1,
    ) -> None:
        self.module, self.loss, self.batches, self.optimizers = module, loss, batches, optimizers
        self.budget, self.rate, self.batch, self.seed, self.clip = budget, rate, batch, seed, clip
        self.ema = Ema(module, ema_length)
        self.images_seen = 0
        self.seconds = 0.0
        self.last: list[HasValue] = []  # what the loss function returned in the last step
        self._generator = torch.Generator()

    @property
    def share(self) -> float:
        """How much of the budget is gone."""
        return self.budget.share(self.seconds, self.images_seen)

    def run(self) -> Iterator[Report]:
        """Train until the budget is spent, yielding after every step; what the caller does in between counts as time.

        Raises:
            Diverged: When the loss or the gradient is not finite; the step is not taken.
        """
        self.module.train()
        begun = time.perf_counter() - self.seconds
        while self.share < 1:
            yield self._step()
            self.seconds = time.perf_counter() - begun

    def _step(self) -> Report:
        batch = self.batches(self.images_seen, self.batch)
        self._generator.manual_seed(step_seed(self.seed, self.images_seen))
        loss = self.loss(batch, self._generator)
        self.last = [loss]
        loss.value.backward()
        value = float(loss.value.detach())
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            told = f"After {self.images_seen} images the loss is {value} and the gradient's norm {norm}"
            self.module.zero_grad(set_to_none=True)
            raise Diverged(told, loss)
        rate = self.rate(self.share)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.images_seen += self.batch
        self.ema.update(self.module, self.images_seen, self.batch)
        return Report(self.images_seen, self.seconds, min(self.share, 1.0), value, norm, rate)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a resumed run needs: tensors by name, and numbers."""
        frozen = self._frozen()
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items() if k not in frozen}
        tensors |= {f"ema.{k}": v for k, v in self.ema.module.state_dict().items() if k not in frozen}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{number}.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
        return tensors, {"images_seen": self.images_seen, "seconds": self.seconds, "seed": self.seed}

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        frozen = self._frozen()
        self.module.load_state_dict(frozen | _under("module.", tensors))
        self.ema.module.load_state_dict(frozen | _under("ema.", tensors))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(f"optimizer{number}.", tensors).items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            for parameter, values in optimizer.state.items():
                for name, value in values.items():  # fused steps walk weights and moments in memory order alike
                    if value.shape == parameter.shape:
                        values[name] = torch.empty_like(parameter).copy_(value)
        self.images_seen, self.seconds = int(numbers["images_seen"]), float(numbers["seconds"])

    def _frozen(self) -> dict[str, Tensor]:
        """What is not trained, and is where it was before: whoever makes the module makes it so."""
        return {name: p.detach() for name, p in self.module.named_parameters() if not p.requires_grad}


def step_seed(seed: int, images_seen: int) -> int:
    """A seed for one step: neighbouring steps and seeds get unrelated ones."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{images_seen}".encode(), digest_size=7).digest())


def as_line(report: Report) -> dict[str, float]:
    """A report as numbers by name, rounded for a log."""
    return {name: value if name == "images_seen" else float(f"{value:.6g}") for name, value in asdict(report).items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
