"""The diffusion model of introductory courses, each line with its equation: small, correct, and easy to change.

    python examples/study_notes.py                     # 8x8 digits, which come with scikit-learn
    python examples/study_notes.py --network simple_unet --width 64 --images 600000
    python examples/study_notes.py --data portraits

It is Ho et al. 2020 as in study notes: linear betas, 1000 steps, a network that predicts the noise, the
plain mean squared error, Adam at 1e-4, and ancestral sampling. Grids of images appear in --out during training, like
the notes' `epoch0.png`, and at the end grid.png and a model for `noisekiln sample`.

The digits can be recognised after 60,000 images: with the strided network at its default width, two minutes of one CPU
core. The simple one has no norms and needs many more: its digits are still rough after 150,000, and nearly as
readable as the strided one's after 600,000. The notes' width is 64.
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.data import load
from noisekiln.denoisers import Denoiser
from noisekiln.ema.power import Ema
from noisekiln.files.pictures import save_image, tile
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.noise_labels.time import Time
from noisekiln.predictions import EPS
from noisekiln.schedules.linear_betas import LinearBetas

T = 1000  # steps of the chain
GRIDS = 6  # number of grids during training


def train(network: Backbone, ema: Ema, x: Tensor, *, images: int, batch: int) -> Iterator[tuple[int, float]]:
    """Algorithm 1 of the paper, a step at a time: yields the images seen and the loss."""
    betas = torch.linspace(1e-4, 0.02, T)  # beta_1, ..., beta_T
    alpha_bar = torch.cumprod(1 - betas, dim=0)  # prod_{s <= t} (1 - beta_s)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for seen in range(batch, images + batch, batch):
        x_0 = x[torch.randint(len(x), (batch,))]  # x_0 ~ q(x_0)
        t = torch.randint(T, (batch,))  # t ~ Uniform; the table's index 0 is the first step
        eps = torch.randn_like(x_0)  # eps ~ N(0, I)
        alpha = alpha_bar[t].sqrt().view(-1, 1, 1, 1)  # one number an image, to broadcast against (B, C, H, W)
        sigma = (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        x_t = alpha * x_0 + sigma * eps  # q(x_t | x_0), eq. 4
        eps_hat = network(x_t, (t + 1) / T, NOTHING)  # eps_theta(x_t, t), with the time in (0, 1], not up to 999
        loss = F.mse_loss(eps_hat, eps)  # |eps - eps_theta|^2, eq. 14
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network, seen)  # the average of the weights, for sampling
        yield seen, loss.item()


def model_of(network: nn.Module, codec: Pixels, size: tuple[int, int], *, steps: int, variance: str) -> Diffusion:
    """The network with all that sampling needs: its output is noise, its label the time, its schedule the betas."""
    sampling = Sampling(f"ancestral(variance={variance!r})", steps, guidance=1.0, schedule="linear_betas")
    assert isinstance(network, Backbone)
    return Diffusion(Denoiser(network, EPS, Time(LinearBetas(T))), codec, size, sampling=sampling)


def images_of(data: str) -> Tensor:
    """(N, H, W, C) uint8."""
    if data != "digits":
        return torch.from_numpy(load(data).train.pixels)
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images)[..., None].mul(255 / 16).round().to(torch.uint8)


def main(argv: list[str] | None = None) -> list[float]:
    """Train, show, save; returns the losses, averaged between grids."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["strided_unet", "simple_unet"], default="strided_unet")
    parser.add_argument("--width", type=int, default=32, help="channels of the network's first layer")
    parser.add_argument("--data", default="digits", help="digits, portraits, or a folder of images")
    parser.add_argument("--images", type=int, default=100_000, help="number of training images, repeats included")
    parser.add_argument("--batch-size", type=int, default=16, help="images in a step")
    parser.add_argument("--steps", type=int, default=T, help="number of sampling steps")
    parser.add_argument(
        "--variance", choices=["small", "large"], default="large", help="variance of a reverse step: beta~ or beta"
    )
    parser.add_argument("-n", type=int, default=64, help="number of images to generate at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/study_notes"))
    options = parser.parse_args(argv)

    torch.manual_seed(options.seed)
    pixels = images_of(options.data)
    codec = Pixels().fit(pixels)
    x = codec.encode(pixels)  # (N, C, H, W), mean 0 and variance 1
    network = build(Backbone, options.network, channels=codec.x_channels, width=options.width)
    ema = Ema(network)
    average = copy.deepcopy(network).eval()
    model = model_of(average, codec, (x.shape[2], x.shape[3]), steps=options.steps, variance=options.variance)
    means: list[float] = []
    losses: list[float] = []
    for seen, loss in train(network, ema, x, images=options.images, batch=options.batch_size):
        losses.append(loss)
        if seen * GRIDS >= (len(means) + 1) * options.images:
            means.append(sum(losses) / len(losses))
            losses.clear()
            print(f"{seen:9,} images   loss {means[-1]:.4f}", flush=True)
            ema.copy_into(average, network)
            few = model.sample(16, steps=max(1, options.steps // 10)).numpy()
            save_image(tile(few, columns=8), options.out / f"after_{seen:07d}.png", at_least=512)
    ema.copy_into(average, network)
    model.save(options.out / "model")
    save_image(tile(model.sample(options.n).numpy(), columns=8), options.out / "grid.png", at_least=512)
    print(f"look at {options.out / 'grid.png'}; for more: noisekiln sample {options.out}")
    return means


if __name__ == "__main__":
    main()
