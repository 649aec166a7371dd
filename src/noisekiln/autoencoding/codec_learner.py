"""Module that is trained for a codec: an autoencoder and its losses."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.autoencoding.adversarial import PatchDiscriminator, only_gradient, scaled_like
from noisekiln.autoencoding.losses import pyramid_l1, spectrum_l1
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.data import Split, batch_order
from noisekiln.data.mirrored import images_at
from noisekiln.machine.transfer import to_device

SMALLEST = 2  # positions of x on a side from which half of it can be decoded
ADVERSARIAL_FROM, ADVERSARIAL_WHOLE = 0.5, 0.6  # shares of the budget where the correction starts, and has its weight


class ReconstructionLoss(NamedTuple):
    """Loss of some rows.

    Attributes:
        value: Mean over rows, 0-d, to be differentiated.
        per_sample: Loss of each row, (B,), detached.
    """

    value: Tensor
    per_sample: Tensor


class CodecLearner(nn.Module):
    """An autoencoder with its losses: pixels at three sizes, amplitudes, equivariance of scale, a discriminator's.

    As with batch norm, x is standardised over the rows of a call: a process or a micro-batch each by itself.

    Args:
        codec: Autoencoder to train.

    Attributes:
        share: Share of the budget that is used; to be set before every step, as the discriminator starts late. At
            first it is 1: where memory and speed are measured, the discriminator counts.
    """

    def __init__(self, codec: Autoencoder) -> None:
        super().__init__()
        self.codec = codec
        self.discriminator = PatchDiscriminator(codec.image_channels) if codec.adversarial else None
        self.share = 1.0

    def forward(self, pixels: Tensor, noise: Tensor) -> ReconstructionLoss:
        """The loss of some rows of `CodecBatches`; x is standardised over these rows."""
        codec = self.codec
        height, width = pixels.shape[1:3]
        latents = codec.latents(pixels).float()
        std, mean = torch.std_mean(latents, dim=(0, 2, 3), keepdim=True, correction=0)
        x = (latents - mean) / std.clamp(min=1e-6) + codec.noise * noise
        target = pixels.permute(0, 3, 1, 2).float() / 255
        image = codec.to_image(x)[..., :height, :width].float()
        loss = pyramid_l1(image, target)
        if codec.spectrum:
            loss = loss + codec.spectrum * spectrum_l1(image, target)
        correction = self._correction(loss, image, target)
        if codec.equivariance and min(x.shape[-2:]) >= SMALLEST:
            half = codec.to_image(F.avg_pool2d(x, 2)).float()
            small = F.avg_pool2d(target, 2)
            loss = loss + codec.equivariance * pyramid_l1(*_common_part(half, small))
        return ReconstructionLoss((loss + correction).mean(), loss.detach())

    def _correction(self, loss: Tensor, image: Tensor, target: Tensor) -> Tensor:
        """Zero for each row, with the adversarial gradient by the image and that of the discriminator's own loss.

        Its norm is `adversarial` times that of the gradient of the loss by the image, so there is nothing to balance.
        Earlier, the discriminator has a gradient of 0: processes wait for that of every weight.
        """
        nothing = torch.zeros_like(loss)
        if self.discriminator is None:
            return nothing
        if self.share < ADVERSARIAL_FROM:
            return nothing + 0 * torch.stack([weight.sum() for weight in self.discriminator.parameters()]).sum()
        weight = min(1.0, (self.share - ADVERSARIAL_FROM) / (ADVERSARIAL_WHOLE - ADVERSARIAL_FROM))
        judged = self.discriminator.judge(image, target)
        if not torch.is_grad_enabled():  # its memory is counted
            return nothing
        [own] = torch.autograd.grad(loss.sum(), image, retain_graph=True)
        pull = self.codec.adversarial * weight * scaled_like(judged.pull, own)
        return only_gradient((pull * image).flatten(1).sum(1) + judged.loss)


class CodecBatches:
    """Rows of the training images, as inputs of `CodecLearner`: pixels (B, H, W, C) uint8, and unit noise for x.

    Args:
        codec: The autoencoder.
        images: Training images.
        seed: Seed of their order.
        device: Device of the rows.
        flip: Whether half of the rows are mirror images.
    """

    def __init__(self, codec: Autoencoder, images: Split, seed: int, device: str, *, flip: bool = False) -> None:
        self.images, self.seed = images, seed
        self.device, self.flip = device, flip
        height, width = images.pixels.shape[1:3]
        self.shape = (codec.x_channels, *codec.x_size((height, width)))

    def __call__(self, start: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The next `count` images after `start`."""
        places = batch_order(len(self.images), seed=self.seed, start=start, count=count)
        if self.flip:
            places = places + len(self.images) * torch.randint(2, (count,), generator=generator).numpy()
        pixels = torch.from_numpy(images_at(self.images.pixels, places))
        noise = torch.randn(count, *self.shape, generator=generator)
        return to_device(pixels, self.device), to_device(noise, self.device)


def _common_part(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both, cropped to the smaller height and width: sizes that 2 does not divide are rounded down in between."""
    height, width = (min(image.shape[side], target.shape[side]) for side in (-2, -1))
    return image[..., :height, :width], target[..., :height, :width]
