"""How near a trained upscaler comes to the originals, beside enlarging with bicubic interpolation.

python benchmarks/upscale.py fashion-mnist/ --minutes 3 --record records/upscale_fashion_mnist.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.data import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.tasks.upscale import Upscale


def main() -> None:
    """Train unless the run is done, then measure 200 held-out images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--cond", default="none")
    parser.add_argument("--work", type=Path, default=Path(".bench/upscale"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    data = load(options.data)
    assert data.held_out is not None
    task = f"upscale(factor={options.factor})"
    run = Run(Settings(data=options.data, task=task, minutes=options.minutes, cond=options.cond), data, options.work)
    for _ in run.steps():
        pass
    figures = measure(Diffusion.load(options.work), torch.from_numpy(data.held_out.pixels[:200]))
    figures |= {"images seen": run.trainer.images_seen, "minutes": options.minutes}
    print(json.dumps(figures, indent=1))
    if options.record:
        options.record.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(model: Diffusion, whole: Tensor) -> dict[str, float]:
    """PSNR to the originals (N, H, W, C) uint8, and how far the small image of the result is from the source."""
    assert isinstance(model.task, Upscale)
    source = model.task.observe(whole, torch.Generator())
    shown = replace(model.task, noise=0.0).condition_image(source, model.codec, model.size, torch.zeros_like)
    figures = _both("bicubic", model.codec.decode(shown[:, :-1]), whole, model.task)
    for noise in (0.0, 0.05, 0.1, 0.2):
        model.task = replace(model.task, noise=noise)
        figures |= _both(f"noise {noise:g}", model.sample(len(whole), source=source), whole, model.task)
    model.task = replace(model.task, noise=0.0)
    figures |= _both("one step", model.sample(len(whole), source=source, sampler="ddim", steps=1), whole, model.task)
    several = [model.sample(len(whole), source=source, seed=1000 * i).float() for i in range(8)]
    mean = torch.stack(several).mean(0).round().to(torch.uint8)
    return figures | _both("mean of 8 samples", mean, whole, model.task)


def _both(name: str, images: Tensor, whole: Tensor, task: Upscale) -> dict[str, float]:
    """Mean PSNR in dB, and mean difference of the small images in grey levels."""
    psnr = 10 * (255**2 / (images.double() - whole).square().mean((1, 2, 3)).clamp(min=1e-9)).log10()
    small = [task.observe(each, torch.Generator()).double() for each in (images, whole)]
    apart = (small[0] - small[1]).abs().mean()
    return {f"{name}: PSNR": round(float(psnr.mean()), 2), f"{name}: small apart": round(float(apart), 2)}


if __name__ == "__main__":
    main()
