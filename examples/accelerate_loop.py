"""A model of noisekiln in a loop of accelerate: the same file on a CPU, a GPU, or many of them.

    accelerate launch examples/accelerate_loop.py 8     # epochs; or python ...; writes accelerate_loop/

`nk.TrainingLoss` is the module to prepare: its forward is the whole computation, as DDP needs it.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

import noisekiln as nk
from noisekiln.data import load


def main(epochs: int = 8, out: str | Path = "accelerate_loop", limit: int | None = None) -> None:
    """Train on the bundled portraits; the main process saves the model and samples from it."""
    accelerator = Accelerator()
    set_seed(0)
    data = load("portraits")
    codec = nk.Pixels().fit(torch.from_numpy(data.train.pixels))
    model = nk.Diffusion(nk.Denoiser(nk.Unet(codec.x_channels, widths=(64, 96), blocks=(1, 2))), codec, data.size)
    images: Any = torch.from_numpy(data.train.pixels[:limit])
    loader = DataLoader(images, batch_size=64, shuffle=True)
    loss = nk.TrainingLoss(model)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=2e-3)
    loss, optimizer, loader = accelerator.prepare(loss, optimizer, loader)
    set_seed(0, device_specific=True)  # each process draws noise of its own

    ema, seen = nk.Ema(model), 0  # after `prepare`, which has moved the weights
    for epoch in range(epochs):
        for pixels in loader:
            value = loss(pixels).value
            accelerator.backward(value)
            accelerator.clip_grad_norm_(loss.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen += len(pixels) * accelerator.num_processes
            ema.update(model, seen)
        accelerator.print(f"epoch {epoch + 1} of {epochs}: loss {value:.3f}")

    if accelerator.is_main_process:
        ema.averaged(model).save(out)
        nk.load(out).sample(16, seed=0).save(Path(out) / "samples.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8)
