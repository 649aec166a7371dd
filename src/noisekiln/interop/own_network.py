"""A network that was trained elsewhere, as a model: it is called with the input that it knows."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule

TimeInput = str | Callable[[Level], Tensor]
"""What a network reads as time: "steps", "fractional" or "continuous", or a function of the level."""


class OwnNetwork(Backbone):
    """Calls ``network(x_t, t)`` or ``network(x_t, t, class)`` at the levels of the schedule that it was trained on.

    A `Denoiser` hands it x of unit variance and the time on this schedule, so any levels may be sampled: those of
    another schedule are scaled to its own.

    Args:
        network: The network; its output is a tensor, or has one in `.sample` or in its first place.
        schedule: Schedule that it was trained with.
        time: How it reads the time.
        channels: Channels of x.
        vector: 1 if it reads a class, else 0.
        no_class: The number that it reads for an image without a class; None if there is none.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        schedule: Schedule,
        time: TimeInput,
        channels: int,
        vector: int = 0,
        no_class: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule
        self.time, self.channels = time, channels
        self.vector, self.no_class = vector, no_class

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        level = self.schedule(noise.double().cpu())
        x_t = x * level.norm.to(x).view(-1, 1, 1, 1)
        weights = [weight.dtype for weight in self.parameters() if weight.is_floating_point()]
        inputs = [x_t.to(weights[0]) if weights else x_t, self._time(noise, level).to(x.device)]
        if cond.vector is not None:
            inputs.append(self._classes(cond.vector))
        output = self.network(*inputs)
        y: Any = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if y is None and isinstance(output, tuple | list) and output:
            y = output[0]
        if not isinstance(y, Tensor):
            raise ValueError(
                f"The network returned a {type(output).__name__}, and its output must be a tensor. "
                "Wrap it: `lambda x, t: net(x, t)[0]`, for example."
            )
        if y.ndim == x.ndim and y.shape[1] == 2 * self.channels:
            warnings.warn(
                f"The network has {y.shape[1]} output channels for {self.channels} of x: the first half is read, the "
                "rest (a learned variance) is left out.",
                stacklevel=2,
            )
            y = y[:, : self.channels]
        return torch.as_tensor(y)

    def edges(self) -> list[nn.Module]:
        """None: it is not trained here."""
        return []

    def _time(self, time: Tensor, level: Level) -> Tensor:
        if callable(self.time):
            read: Any = self.time(level)
            return torch.as_tensor(read, dtype=time.dtype)
        if self.time == "continuous":
            return time
        steps = int(getattr(self.schedule, "steps", 1000))
        position = (time.double() * steps - 1).clamp(0, steps - 1)
        return position.round().long() if self.time == "steps" else position.to(time.dtype)

    def _classes(self, vector: Tensor) -> Tensor:
        labels = vector[:, 0].round().long()
        if self.no_class is not None:
            return torch.where(labels < 0, self.no_class, labels)
        if bool((labels < 0).any()):
            raise ValueError(
                "An image without a class was requested, or guidance, which compares with one; this network reads "
                "a class for every image. Give classes and `guidance=1`, or `no_class`, the number that it reads for "
                "none."
            )
        return labels


class ClassNumber(Conditioner):
    """The number of a class, as a user's own network reads it; -1 for none.

    Args:
        names: The classes.
    """

    kind: ClassVar[str] = "class"
    needs: ClassVar[str] = "classes"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = self.choices = names
        self.table_of_names = ClassLabel(names, width=1)

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=1)

    def fit(self, data: DataSet) -> Self:  # noqa: D102 (the base class says it)
        return self

    def values(self, images: Split, class_names: tuple[str, ...]) -> list[str] | None:  # noqa: D102
        return self.table_of_names.values(images, class_names)

    def encode(self, values: Sequence[str | int]) -> Tensor:  # noqa: D102 (the base class says it)
        return self.table_of_names.encode(values)

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.full((count,), -1)

    def forward(self, ids: Tensor) -> Cond:  # noqa: D102 (the base class says it)
        return Cond(vector=ids[:, None].float())

    def describe(self, value: str | int) -> dict[str, Any]:  # noqa: D102 (the base class says it)
        return self.table_of_names.describe(value)
