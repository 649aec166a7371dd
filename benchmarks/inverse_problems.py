"""Inverse methods on held-out images: how near the original, how likely, at which cost.

    python benchmarks/inverse_problems.py runs/fashion fashion-mnist/ -n 50 --record records/inverse_fashion.json

The run is one of `noisekiln train` on these data. Every method restores the same test images, without knowing their
class; beside them simple fills, bicubic enlargement, and diffusers' RePaint on the same weights.
"""

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from classifier import Classifier, trained_classifier
from noisekiln.codecs.base import Limits
from noisekiln.components.spec import build
from noisekiln.data import load
from noisekiln.estimate import Denoise
from noisekiln.files.pictures import save_image, tile
from noisekiln.inverse.base import Inverse, clipped
from noisekiln.levels import level
from noisekiln.metrics.frechet import frechet_distance
from noisekiln.metrics.similarity import psnr, ssim
from noisekiln.model.diffusion import Diffusion
from noisekiln.operators.base import Observation, Operator
from noisekiln.operators.mask import Mask
from noisekiln.uses.inverse_problem import observe


def main() -> None:
    """Every problem, every contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--problems", default="")
    parser.add_argument("--contenders", default="", help="method@sampler@steps, separated by semicolons")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--epochs", type=int, default=6, help="of the classifier")
    parser.add_argument("--no-features", action="store_true", help="train no classifier, measure no feature distance")
    parser.add_argument("--work", type=Path, default=Path(".bench/inverse"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    data = load(options.data)
    assert data.held_out is not None
    model = Diffusion.load(options.run)
    classifier = None
    if data.train.labels is not None and not options.no_features:
        train = (torch.from_numpy(data.train.pixels), torch.from_numpy(data.train.labels))
        classifier = trained_classifier(*train, options.work / "classifier.pt", options.epochs)
    rows = np.random.default_rng(0).permutation(len(data.held_out))[: options.n]
    originals = torch.from_numpy(data.held_out.pixels[rows])
    results: dict[str, dict[str, dict[str, float]]] = {}
    chosen = [tuple(text.split("@")) for text in options.contenders.split(";") if text] or CONTENDERS
    for name, operator in problems(originals, options.problems):
        x = originals.permute(0, 3, 1, 2).float() / 255
        y = operator(x)
        y = y + operator.std * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        results[name], shown = {}, {"original": originals, "seen": as_seen(y, originals)}
        for label, restored in simple(name, y, operator, originals).items():
            results[name][label] = judged(restored, originals, classifier, 0.0)
            shown[label] = restored
        for method, sampler, steps in chosen:
            label = f"{method} {sampler} {steps}"
            start_time = time.perf_counter()
            restored = solve(model, y, operator, method, sampler, int(steps))
            results[name][label] = judged(restored, originals, classifier, time.perf_counter() - start_time)
            shown[label] = restored
            print(name, label, results[name][label], flush=True)
        if isinstance(operator, Mask) and not options.no_peer:
            for steps, jumps in ((50, 10),):
                start_time = time.perf_counter()
                label = f"diffusers RePaint {steps}x{jumps}"
                restored = repaint(model, y, operator, steps, jumps)
                results[name][label] = judged(restored, originals, classifier, time.perf_counter() - start_time)
                shown[label] = restored
                print(name, label, results[name][label], flush=True)
        sheet = torch.cat([images[:16] for images in shown.values()])
        save_image(tile(sheet.numpy(), columns=16), options.work / f"{name.split('(')[0]}.png", at_least=900)
        print(name, list(shown), flush=True)
        if options.record:
            options.record.parent.mkdir(parents=True, exist_ok=True)
            options.record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


CONTENDERS = [
    tuple(line.split("@"))
    for line in (
        "replacement@ddim(eta=1)@20", "replacement@ddim(eta=1)@100", "replacement@resample(times=5)@20",
        "diffpir@ddim(eta=1)@20", "diffpir@ddim(eta=1)@100",
        "pigdm@ddim(eta=1)@20", "pigdm@ddim(eta=1)@50",
        "moment_matching@ddim(eta=1)@10", "moment_matching@ddim(eta=1)@20", "moment_matching@ddim(eta=1)@50",
        "moment_matching@dpmpp_2m@20", "moment_matching(iterations=1)@ddim(eta=1)@20",
        "dps@ddim(eta=1)@100",
    )
]  # fmt: skip


def problems(images: Tensor, only: str) -> list[tuple[str, Operator]]:
    """Names and operators; the masks of a box, half the image, and half the pixels."""
    height, width = images.shape[1:3]
    known = torch.rand(height, width, generator=torch.Generator().manual_seed(0)) > 0.5
    quarter = (width // 4, height // 4, width - width // 4, height - height // 4)
    found: list[tuple[str, Operator]] = [
        ("inpaint_box", Mask(box=quarter)),
        ("inpaint_half", Mask(box=(width // 2, 0, width, height))),
        ("inpaint_random", Mask(known.float())),
        ("upscale_4", build(Operator, "downsample(factor=4)")),
        ("deblur", build(Operator, "compose(first=blur(sigma=1.5), second=noise(level=0.02))")),
        ("denoise", build(Operator, "noise(level=0.2)")),
    ]
    if images.shape[3] == 3:
        found.append(("colourise", build(Operator, "grayscale")))
    return [(name, operator) for name, operator in found if not only or name in only.split(",")]


def solve(model: Diffusion, y: Tensor, operator: Operator, method: str, sampler: str, steps: int) -> Tensor:
    """All images, in batches of 25."""
    inverse: Inverse = build(Inverse, method)
    done = []
    for i in range(0, len(y), 25):
        part = y[i : i + 25]
        seen = observe(model, part, operator, model.size)
        wrap = partial(_wrapped, inverse=inverse, seen=seen, limits=model.codec.limits)
        seeds = range(i, i + len(part))
        *_, last = model.generate([None] * len(part), seeds=seeds, sampler=sampler, steps=steps, wrap_denoiser=wrap)
        done.append(composed(last.images(), part, operator))
    return torch.cat(done)


def _wrapped(denoise: Denoise, inverse: Inverse, seen: Observation, limits: Limits | None) -> Denoise:
    return clipped(inverse(denoise, seen), limits)


def composed(images: Tensor, y: Tensor, operator: Operator) -> Tensor:
    """Known pixels as they were."""
    if not isinstance(operator, Mask):
        return images
    known = operator.map(y)[..., None] > 0
    return torch.where(known, to_bytes(y), images)


def simple(name: str, y: Tensor, operator: Operator, originals: Tensor) -> dict[str, Tensor]:
    """What needs no model."""
    size = (originals.shape[1], originals.shape[2])
    if isinstance(operator, Mask):
        known = operator.map(y)
        mean = y.sum((2, 3), keepdim=True) / known.sum()
        return {"mean": to_bytes(y + (1 - known) * mean), "biharmonic": to_bytes(biharmonic(y, known))}
    if name.startswith("upscale"):
        return {"bicubic": to_bytes(F.interpolate(y, size, mode="bicubic", align_corners=False))}
    return {"as seen": to_bytes(y.expand(-1, originals.shape[3], -1, -1))}


def biharmonic(y: Tensor, known: Tensor) -> Tensor:
    """The fill whose Laplacian's Laplacian is 0: least squares over the missing pixels."""
    height, width = y.shape[2:]
    n = height * width
    index = torch.arange(n).view(height, width)
    laplacian = torch.zeros(n, n, dtype=torch.float64)
    for here, there in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1])):
        for a, b in ((here, there), (there, here)):
            laplacian[a.flatten(), b.flatten()] = 1
            laplacian[a.flatten(), a.flatten()] -= 1
    energy = laplacian @ laplacian
    gone = known.flatten() == 0
    right = -energy[gone][:, ~gone] @ y.double().flatten(2)[..., ~gone].flatten(0, 1).T
    filled = y.double().flatten(2).clone()
    filled[..., gone] = torch.linalg.solve(energy[gone][:, gone], right).T.view(*y.shape[:2], -1)
    return filled.view(y.shape).float()


def repaint(model: Diffusion, y: Tensor, operator: Mask, steps: int, jumps: int) -> Tensor:
    """Diffusers' RePaint scheduler, walked as its pipeline does, on the same weights as a prediction of the noise."""
    from diffusers import RePaintScheduler

    done = []
    for i in range(0, len(y), 25):
        part = y[i : i + 25]
        scheduler = RePaintScheduler(beta_schedule="linear", clip_sample=False)
        scheduler.set_timesteps(steps, 10, jumps)
        scheduler.eta = 0.0
        denoise = model.bind([None] * len(part))
        known = operator.map(part).expand(len(part), 1, *part.shape[2:])
        original = model.codec.encode(to_bytes(part))
        generator = torch.Generator().manual_seed(i)
        x = torch.randn(original.shape, generator=generator)
        last = scheduler.timesteps[0] + 1
        with torch.no_grad():
            for step in scheduler.timesteps:
                if step < last:
                    bar = float(scheduler.alphas_cumprod[step])
                    eps = denoise(x, level(math.sqrt(bar), math.sqrt(1 - bar))).eps.float()
                    x = scheduler.step(eps, step, x, original, known, generator).prev_sample
                else:
                    x = scheduler.undo_step(x, last, generator)
                last = step
        done.append(composed(model.codec.decode(x), part, operator))
    return torch.cat(done)


def judged(images: Tensor, originals: Tensor, classifier: Classifier | None, seconds: float) -> dict[str, float]:
    """Means over the images; the feature distance is that of the whole set, in the classifier's features."""
    results = {"psnr": float(psnr(images, originals).mean()), "ssim": float(ssim(images, originals).mean())}
    if classifier is not None:
        results["frechet"] = frechet_distance(classifier.judge(images)[0], classifier.judge(originals)[0])
    return {name: round(value, 3) for name, value in results.items()} | {
        "seconds_an_image": round(seconds / len(images), 3)
    }


def as_seen(y: Tensor, originals: Tensor) -> Tensor:
    """What was seen, at the size of the originals."""
    size = (originals.shape[1], originals.shape[2])
    return to_bytes(F.interpolate(y, size).expand(-1, originals.shape[3], -1, -1))


def to_bytes(x: Tensor) -> Tensor:
    """(N, C, H, W) floats of [0, 1] -> (N, H, W, C) uint8."""
    return (x.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().to(torch.uint8)


if __name__ == "__main__":
    main()
