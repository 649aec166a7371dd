"""Fine-tuning all weights against adapters: what a model of the portraits learns of few images in other colours.

The new images are portraits with their colours exchanged (the red channel shows the green, green the blue, blue the
red): 256 to train on and 256 held out. Every way sees as many images; the figures are the averaged model's loss on
held-out images, new and old. `python benchmarks/fine_tune.py --record records/fine_tune.json` prints and keeps them.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisekiln.data import DataSet, Split, load
from noisekiln.draws.log_normal import LogNormal
from noisekiln.loss_weights.unit import Unit
from noisekiln.model.diffusion import Diffusion
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run

WAYS: dict[str, dict[str, Any]] = {
    **{f"all weights, muon {rate:g}": {"lr": rate} for rate in (2e-3, 6e-4, 2e-4)},
    **{f"all weights, adamw {rate:g}": {"optimizer": "adamw", "lr": rate} for rate in (1e-3, 3e-4)},
    **{
        f"rank {rank}, {optimizer} {rate:g}": {"lora": rank, "optimizer": optimizer, "lr": rate}
        for rank, optimizer in ((1, "muon"), (4, "muon"), (16, "muon"), (4, "adamw"))
        for rate in (2e-3, 6e-3, 1e-2)
    },
}


def first(part: Split | None, count: int = 256, channels: tuple[int, ...] = (0, 1, 2)) -> Split:
    """The first portraits of a part, their colours exchanged or not."""
    assert part is not None
    captions = part.captions[:count] if part.captions else None
    return replace(part, pixels=part.pixels[:count][..., channels].copy(), captions=captions, files=None)


def held_out_loss(model: Diffusion, images: Split, draws: int = 8) -> float:
    """The loss on images that training has not seen, the same levels and noise for every model."""
    objective, generator = Denoising(LogNormal(), Unit()), torch.Generator().manual_seed(1)
    x = model.codec.encode(torch.from_numpy(images.pixels).repeat(draws, 1, 1, 1))
    assert model.conditioner is not None
    assert images.captions is not None
    with torch.no_grad():
        cond = model.conditioner(model.conditioner.encode(images.captions * draws))
        return round(float(objective(model.denoiser, x, cond, generator).value), 4)


def trained(data: DataSet, folder: Path, **settings: Any) -> tuple[Diffusion, int, float]:
    """The averaged model, its number of trained parameters, and the seconds that it took."""
    run = Run(Settings(**settings), data, folder)
    for _ in run.steps():
        pass
    return Diffusion.load(folder), run.parameters, run.trainer.seconds


def main() -> None:
    """Train the base, then every way from it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--base", type=int, default=40_000, help="images that the base is trained on")
    parser.add_argument("--images", type=int, default=6_400, help="images that each way sees")
    parser.add_argument("--only", default="", help="ways whose name holds this")
    parser.add_argument("--record", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()

    portraits = load("bundled:portraits")
    new, unseen = (first(part, channels=(1, 2, 0)) for part in (portraits.train, portraits.held_out))
    data = replace(portraits, name="recoloured", train=new, held_out=unseen, fingerprint="recoloured")
    judged = {"new": unseen, "old": first(portraits.held_out)}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        base, _, _ = trained(portraits, folder / "base", model="xs", images=arguments.base)
        figures["the base as it is"] = {name: held_out_loss(base, images) for name, images in judged.items()}
        print(figures, flush=True)
        started = {name: {"start": str(folder / "base"), **way} for name, way in WAYS.items()}
        for number, (name, way) in enumerate(({"from nothing": {"model": "xs"}} | started).items()):
            if arguments.only not in name:
                continue
            model, count, seconds = trained(data, folder / str(number), images=arguments.images, **way)
            losses = {name: held_out_loss(model, images) for name, images in judged.items()}
            figures[name] = losses | {"parameters": count, "seconds": round(seconds, 1)}
            print(f"{name:28} {figures[name]}", flush=True)
    print(json.dumps(figures, indent=2))
    if arguments.record:
        arguments.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
