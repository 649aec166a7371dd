"""`nk.TrainingLoss`: the loss of a batch of images, for a training loop of one's own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.components.registry import name_of
from noisekiln.errors import counted
from noisekiln.machine.transfer import to_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.objectives.base import Loss, Objective
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.learner import Learner

BYTES = (0.0, 255.0)


class TrainingLoss(nn.Module):
    """``TrainingLoss(model)(images, conditions).value.backward()``: a model and its objective as one module.

    It belongs into any loop: a plain one, Lightning's, accelerate's. Because its `forward` is the whole computation,
    DDP may wrap it. The model's codec is frozen; train what ``parameters()`` has with ``requires_grad``.

    Args:
        model: Model to train, without a task; it is the same object, ready to be sampled and saved.
        objective: Loss of the model; `Denoising` by default.
        cond_dropout: Share of conditions that are left out, in [0, 1]; guidance needs some.
        value_range: Values of black and of white in the images: (0, 255) for bytes, (0, 1) or (-1, 1) for floats.

    Raises:
        ValueError: If the model has a task, or the objective needs a teacher: only `nk.train` has a place for these.
    """

    def __init__(
        self,
        model: Diffusion,
        objective: Objective | None = None,
        *,
        cond_dropout: float = 0.1,
        value_range: tuple[float, float] = BYTES,
    ) -> None:
        super().__init__()
        objective = objective or Denoising()
        if model.task is not None or objective.needs_teacher:
            part = objective if model.task is None else model.task
            raise ValueError(
                f"`TrainingLoss` reads images and conditions, and {name_of(type(part))} needs a second image or a "
                "second model. Train it with `noisekiln.train`."
            )
        if not 0 <= cond_dropout <= 1 or len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(
                f"`cond_dropout={cond_dropout}`, `value_range={value_range}`: the first is a share from 0 to 1, the "
                "second the value of black and the larger one of white. Give 0.1 and (0, 255), for example."
            )
        self.learner = Learner(model, objective)
        self.cond_dropout = cond_dropout
        self.value_range = value_range

    @property
    def model(self) -> Diffusion:
        """The model that is trained."""
        return self.learner.diffusion

    def forward(
        self, images: Tensor, conditions: Sequence[Any] | Tensor | None = None, generator: torch.Generator | None = None
    ) -> Loss:
        """The loss of a batch: its `value` is to be differentiated.

        Args:
            images: (B, H, W, C) or (B, C, H, W), of the model's size, in `value_range`.
            conditions: Class or prompt of each image, None for an image without one; class numbers may be a tensor.
            generator: Source of all randomness, on the CPU; by default, torch's own (`torch.manual_seed`).

        Raises:
            ValueError: If images or conditions do not fit the model, or values are out of range (checked on the CPU).
        """
        with torch.no_grad():
            x = self.model.codec.encode(self._pixels(images))
        ids = self._ids(conditions, len(x), generator)
        drawn = self.learner.objective.drawn(x, generator)
        loss: Loss = self.learner(x, ids, None, None, *drawn)
        return loss

    def _pixels(self, images: Tensor) -> Tensor:
        """Images as codecs read them: (B, H, W, C), bytes or floats from 0 to 255."""
        size, channels = tuple(self.model.size), self.model.codec.image_channels
        if tuple(images.shape[1:]) == (channels, *size):
            images = images.permute(0, 2, 3, 1)
        if tuple(images.shape[1:]) != (*size, channels):
            raise ValueError(
                f"Images of the shape {tuple(images.shape)} do not fit a model of {size[0]}x{size[1]} pixels and "
                f"{counted(channels, 'channel')}. Give (B, {size[0]}, {size[1]}, {channels}), or channels first."
            )
        self._check_values(images)
        images, (black, white) = to_device(images, self.model.device), self.value_range
        return images if self.value_range == BYTES else (images.float() - black) * (255 / (white - black))

    def _check_values(self, images: Tensor) -> None:
        """Raise ValueError if images on the CPU do not look like `value_range`; a GPU would have to be waited for."""
        if images.device.type != "cpu":
            return
        black, white = self.value_range
        low, high = (float(end) for end in images.aminmax())
        slack = 0.05 * (white - black)  # what sharpening and bicubic resizing overshoot
        floats_in_one = images.is_floating_point() and self.value_range == BYTES and high <= 1
        if floats_in_one or not black - slack <= low <= high <= white + slack:
            raise ValueError(
                f"The images have values from {low:.4g} to {high:.4g}, and `value_range` says {self.value_range}. Give "
                "the values of black and of white: (0, 1) or (-1, 1) for floats, (0, 255) for bytes."
            )

    def _ids(
        self, conditions: Sequence[Any] | Tensor | None, count: int, generator: torch.Generator | None
    ) -> Tensor | None:
        """Ids of the conditions, some of them dropped at random."""
        values = conditions.tolist() if isinstance(conditions, Tensor) else conditions
        if values is not None and len(values) != count:
            raise ValueError(
                f"There are {counted(count, 'image')} and {counted(len(values), 'condition')}. Give one for each."
            )
        conditioner = self.model.conditioner
        if conditioner is None:
            self.model.check_conditions(values or [])  # raises if there is any
            return None
        if values is None:
            return to_device(conditioner.nothing(count), self.model.device)
        dropped = torch.rand(count, generator=generator) < self.cond_dropout
        known = [conditioner.of_data(value, generator) for value in values]
        return to_device(conditioner.drop(conditioner.encode_all(known), dropped), self.model.device)
