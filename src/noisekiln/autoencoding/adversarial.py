"""Adversarial correction of reconstructions: a small patch discriminator, its loss, and where it pulls an image."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.conv_coder import ConvEncoder

WIDTHS = (32, 64)  # channels at a half and at a quarter of the image's sides: an output sees about 40 pixels on a side
TINY = 1e-12  # added to a norm that divides


class Judged(NamedTuple):
    """What a discriminator finds in reconstructions.

    Attributes:
        pull: Gradient of the codec's adversarial loss by the images, (B, C, H, W), detached.
        loss: Loss of the discriminator for each row, (B,); it has no gradient by the images.
    """

    pull: Tensor
    loss: Tensor


class PatchDiscriminator(nn.Module):
    """Tells patches of images from those of reconstructions: convolutions without norms, as the encoder has them.

    Args:
        image_channels: Channels of images.
    """

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        self.network = ConvEncoder(image_channels, 1, WIDTHS, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> one logit for each patch, (B, 1, H / 4, W / 4), larger for real ones."""
        side = 2 ** len(WIDTHS)
        down, right = -image.shape[2] % side, -image.shape[3] % side
        padded = F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image
        logits: Tensor = self.network(2 * padded - 1)
        return logits

    def edges(self) -> list[nn.Module]:
        """The layers that face images and logits, which Muon leaves to AdamW."""
        return [self.network.conv_in, self.network.conv_out]

    def judge(self, image: Tensor, target: Tensor) -> Judged:
        """Compare reconstructions with their originals, patch by patch: (B, C, H, W) twice.

        Relativistic hinge loss ``max(0, 1 - (D(target) - D(image)))``, where each reconstruction is paired with its own
        original (Jolicoeur-Martineau 2018). The codec wants the difference smaller. As only the direction of its
        gradient is used, the discriminator needs no gradient penalty.
        """
        fake, real = image.detach().float().requires_grad_(), target.float()
        with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):  # differences are small
            # A view, as torch's counter of operations cannot follow a module whose input is a leaf.
            lead = (self(real) - self(fake.view_as(fake))).flatten(1)
            [pull] = torch.autograd.grad(lead.mean(1).sum(), fake, retain_graph=True)
            return Judged(pull, F.relu(1 - lead).mean(1))


def scaled_like(pull: Tensor, other: Tensor) -> Tensor:
    """Gradients with the norm that others have, row by row: (B, C, H, W) twice."""
    norm, norm_of_other = (torch.linalg.vector_norm(each, dim=(1, 2, 3), keepdim=True) for each in (pull, other))
    scaled: Tensor = pull * (norm_of_other / (norm + TINY))
    return scaled


def only_gradient(value: Tensor) -> Tensor:
    """Zero, with the gradient of a value."""
    return value - value.detach()
