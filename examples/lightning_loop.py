"""A model of noisekiln in Lightning: the trainer is Lightning's, the model and its loss are noisekiln's.

    python examples/lightning_loop.py 8         # epochs; writes lightning_loop/

`nk.TrainingLoss` is a module like any other; devices, precision and processes are Lightning's affair.
"""

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import noisekiln as nk
from noisekiln.data import load


class DiffusionModule(lightning.LightningModule):  # noqa: D101
    def __init__(self, model: nk.Diffusion) -> None:
        super().__init__()
        self.loss = nk.TrainingLoss(model)

    def on_fit_start(self) -> None:  # noqa: D102
        self.ema = nk.Ema(self.loss.model)  # here: Lightning has moved the weights by now

    def training_step(self, pixels: Tensor) -> Tensor:  # noqa: D102
        value: Tensor = self.loss(pixels).value
        self.log("loss", value, prog_bar=True)
        return value

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:  # noqa: D102
        self.ema.update(self.loss.model, len(batch) * self.trainer.world_size * self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:  # noqa: D102
        return torch.optim.AdamW(self.loss.parameters(), lr=2e-3)


def main(out: str | Path = "lightning_loop", limit: int | None = None, **trainer: Any) -> None:
    """Train on the bundled portraits; the main process saves the model and samples from it."""
    lightning.seed_everything(0)
    pixels: Any = torch.from_numpy(load("portraits").train.pixels)
    codec = nk.Pixels().fit(pixels)
    model = nk.Diffusion(nk.Denoiser(nk.Unet(codec.x_channels, widths=(64, 96), blocks=(1, 2))), codec, (16, 16))
    loader = DataLoader(pixels[:limit], batch_size=64, shuffle=True, drop_last=True)
    module = DiffusionModule(model)
    lightning.Trainer(gradient_clip_val=1.0, logger=False, enable_checkpointing=False, **trainer).fit(module, loader)
    if module.global_rank == 0:
        module.ema.averaged(model).save(out)
        nk.load(out).sample(16, seed=0).save(Path(out) / "samples.png")


if __name__ == "__main__":
    main(max_epochs=int(sys.argv[1]) if sys.argv[1:] else 8)
