"""A network from a plain PyTorch loop, then every sampler, schedule and use of noisekiln with it, in five lines.

    python examples/own_network.py 100000       # images: some minutes on two CPU cores; writes own_network/*.png

The loop is DDPM's (Ho et al. 2020, algorithm 1). A network of diffusers or of any other code is used in the same way.
"""

import sys

import torch
from torch import Tensor, nn

import noisekiln as nk
from noisekiln.data import load


class Net(nn.Module):
    """The noise in x_t, from x_t and the step, 0 to 999, by convolutions alone."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.step = nn.Embedding(1000, width)
        self.enter, self.leave = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4, 4, 2, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # noqa: D102
        hidden = self.enter(x) + self.step(t)[:, :, None, None]
        for layer in self.middle:
            hidden = hidden + layer(nn.functional.silu(nn.functional.group_norm(hidden, 8)))
        return torch.as_tensor(self.leave(nn.functional.silu(hidden)))


def train(images: Tensor, count: int, batch: int = 64) -> Net:
    """DDPM's loop over `count` images of (N, 3, 16, 16) in [-1, 1]."""
    net, alpha_bar = Net(), torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(max(1, count // batch)):
        x, t = images[torch.randint(len(images), (batch,))], torch.randint(1000, (batch,))
        eps, kept = torch.randn_like(x), alpha_bar[t].view(-1, 1, 1, 1)
        loss = (net(kept.sqrt() * x + (1 - kept).sqrt() * eps, t) - eps).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return net


def main(count: int = 100_000, out: str = "own_network") -> None:
    """Train, and use the network."""
    faces = torch.from_numpy(load("portraits").train.pixels).permute(0, 3, 1, 2) / 127.5 - 1
    net = train(faces, count)
    model = nk.denoiser(net, schedule=nk.LinearBetas(), prediction="eps", size=16)
    model.sample(64, steps=50).save(f"{out}/ddim.png")
    model.sample(64, sampler="dpmpp_2m", steps=20, schedule="karras").save(f"{out}/dpmpp_2m.png")
    lower = torch.arange(16)[:, None].expand(16, 16) >= 8
    nk.inpaint(model, faces[0], lower, count=16, steps=20).save(f"{out}/inpainted.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
