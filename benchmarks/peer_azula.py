"""azula as its tutorial "MNIST" has it: U-Net 16-32-64 with classes, KarrasDenoiser, Adam 3e-4, 64 steps of DDIM.

Its `DataLoader` of 2 processes, which would compete with training for two cores, is a random choice of rows here.
"""

import torch
from azula.denoise import KarrasDenoiser
from azula.nn.unet import UNet
from azula.noise import VPSchedule
from azula.sample import DDIMSampler
from torch import Tensor, nn

from peer_data import Budget, in_parts, run_peer

BATCH, STEPS = 64, 64


class Conditional(nn.Module):
    """The tutorial's wrapper: embeddings of class and log-SNR modulate the U-Net."""

    def __init__(self, channels: int, features: int = 64) -> None:
        super().__init__()
        self.unet = UNet(
            in_channels=channels,
            out_channels=channels,
            hid_channels=[16, 32, 64],
            hid_blocks=[2, 2, 2],
            mod_features=features,
        )
        self.label = nn.Embedding(10, features)
        self.time = nn.Sequential(nn.Linear(1, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, x_t: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        """The network's output."""
        output: Tensor = self.unet(x_t, self.label(label) + self.time(log_snr[..., None]))
        return output


def contend(images: Tensor, labels: Tensor, requested: Tensor, budget: Budget) -> Tensor:
    """Train at uniform times, sample the last weights."""
    denoiser = KarrasDenoiser(backbone=Conditional(images.shape[1]), schedule=VPSchedule())
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-4)
    while budget.left():
        rows = torch.randint(len(images), (BATCH,))
        clean = images[rows].float() / 127.5 - 1
        denoiser.loss(clean, torch.rand(BATCH), label=labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
        budget.images_seen += BATCH
    sampler = DDIMSampler(denoiser.eval(), steps=STEPS)

    def sample(part: Tensor) -> Tensor:
        result: Tensor = sampler(sampler.init((len(part), *images.shape[1:])), label=part)
        return result

    return in_parts(sample, requested)


if __name__ == "__main__":
    run_peer(contend)
