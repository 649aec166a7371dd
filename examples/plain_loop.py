"""A model of noisekiln in a training loop of plain PyTorch: a loader, an optimizer, a backward pass.

    python examples/plain_loop.py 8             # epochs: two minutes of one CPU core; writes plain_loop/

`nk.TrainingLoss` is all that a loop needs of noisekiln. `nk.Ema` averages the weights: its samples are better.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import noisekiln as nk
from noisekiln.data import load


def main(epochs: int = 8, out: str | Path = "plain_loop", limit: int | None = None) -> None:
    """Train on the bundled portraits and their captions, save the model, and sample from a prompt."""
    torch.manual_seed(0)
    data = load("portraits")
    pairs: Any = list(zip(data.train.pixels, data.train.captions or (), strict=True))[:limit]
    loader = DataLoader(pairs, batch_size=64, shuffle=True)  # batches of (B, H, W, C) bytes and of texts

    codec, prompts = nk.Pixels().fit(torch.from_numpy(data.train.pixels)), nk.Text().fit(data)
    assert prompts  # the portraits have captions
    network = nk.Unet(codec.x_channels, prompts.sizes.vector, widths=(64, 96), blocks=(1, 2))
    model = nk.Diffusion(nk.Denoiser(network), codec, data.size, prompts)

    loss, ema = nk.TrainingLoss(model), nk.Ema(model)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=2e-3)
    cool_down = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, epochs * len(loader))
    seen = 0
    for epoch in range(epochs):
        for pixels, captions in loader:
            value = loss(pixels, captions).value
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            cool_down.step()
            seen += len(pixels)
            ema.update(model, seen)
        print(f"epoch {epoch + 1} of {epochs}: loss {value:.3f}")

    ema.averaged(model).save(out)
    nk.load(out).sample(["a person with a green shirt"] * 16, seed=0).save(Path(out) / "samples.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8)
