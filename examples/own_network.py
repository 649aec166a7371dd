"""A network from a plain PyTorch loop, then every sampler, schedule and use of noisekiln with it, in five lines.

    python examples/own_network.py 100000       # images: about two minutes on two CPU cores; writes own_network/*.png

The loop is DDPM's (Ho et al. 2020, algorithm 1), but learns v (Salimans & Ho 2022): after so few images, eps gives no
portraits yet. A network of diffusers or of any other code is used in the same way.
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, pixel_shuffle, pixel_unshuffle, silu

import noisekiln as nk
from noisekiln.data import load


class Net(nn.Module):
    """v in x_t, from x_t and the step, 0 to 999: residual convolutions over patches of 2x2 pixels."""

    def __init__(self, width: int = 64, depth: int = 8) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.Linear(16, 128), nn.SiLU(), nn.Linear(128, (depth + 1) * 2 * width))
        self.enter, self.place = nn.Conv2d(12, width, 3, padding=1), nn.Parameter(torch.zeros(width, 8, 8))
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.leave = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # noqa: D102
        angles = torch.pi / 1000 * t[:, None] * 2.0 ** torch.arange(-1, 7)
        gains = self.step(torch.cat([angles.sin(), angles.cos()], 1))[..., None, None].chunk(len(self.layers) + 1, 1)
        hidden = self.enter(pixel_unshuffle(x, 2)) + self.place
        for layer, gain in zip(self.layers, gains, strict=False):
            hidden = hidden + layer(silu(scaled(hidden, gain)))
        return pixel_shuffle(self.leave(silu(scaled(hidden, gains[-1]))), 2)


def scaled(hidden: Tensor, gain: Tensor) -> Tensor:
    """Normalised features, scaled and shifted as the step says."""
    scale, shift = gain.chunk(2, 1)
    return group_norm(hidden, 8) * (1 + scale) + shift


def train(images: Tensor, count: int, batch: int = 64) -> Net:
    """DDPM's loop over `count` images of (N, 3, 16, 16) in [-1, 1]."""
    net, alpha_bar, steps = Net(), torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0), max(1, count // batch)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    cool_down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, t = images[torch.randint(len(images), (batch,))], torch.randint(1000, (batch,))
        eps, kept = torch.randn_like(x), alpha_bar[t].view(-1, 1, 1, 1)
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        loss = (net(alpha * x + sigma * eps, t) - (alpha * eps - sigma * x)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        cool_down.step()
    return net


def main(count: int = 100_000, out: str = "own_network") -> None:
    """Train, and use the network."""
    faces = torch.from_numpy(load("portraits").train.pixels).permute(0, 3, 1, 2) / 127.5 - 1
    net = train(faces, count)
    model = nk.denoiser(net, schedule=nk.LinearBetas(), prediction="v", size=16)
    model.sample(64, steps=50).save(f"{out}/ddim.png")
    model.sample(64, sampler="dpmpp_2m", steps=20, schedule="karras").save(f"{out}/dpmpp_2m.png")
    lower = torch.arange(16)[:, None].expand(16, 16) >= 8
    nk.inpaint(model, faces[0], lower, count=16, steps=20).save(f"{out}/inpainted.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
