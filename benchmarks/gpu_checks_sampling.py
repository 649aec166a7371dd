"""Checks of sampling and of the uses of a model on a device: the same seeds give the CPU's images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import noisekiln as nk
from gpu_tiny import SIDE, Check, Figures, compare, exactly, picture, random_model
from noisekiln.components.registry import names
from noisekiln.model.diffusion import Diffusion

EXACT: dict[str, Any] = {"steps": 6, "precision": "fp32"}
HALF_GREY, HALF_MEAN_GREY = 8, 1.0  # difference of an image in bf16 from the CPU's in fp32, at most


def check_sampler(device: str, sampler: str) -> Figures:
    """The same seeds give the CPU's images: noise is drawn there."""
    with exactly():
        ours, theirs = (
            random_model(at).sample(["even", "odd", None, "odd"], sampler=sampler, guidance=2.0, seed=3, **EXACT)
            for at in (device, "cpu")
        )
    return compare(ours.cpu(), theirs)


def check_half(device: str) -> Figures:
    """In bf16, the default on a GPU that has it, images are nearly those of the CPU in fp32."""
    ours, theirs = (
        random_model(at).sample(16, steps=8, seed=3, precision=precision).cpu().float()
        for at, precision in ((device, "bf16"), ("cpu", "fp32"))
    )
    away = (ours - theirs).abs()
    figures = {"grey levels at most": float(away.max()), "grey levels on average": float(away.mean())}
    assert 0 < figures["grey levels at most"] <= HALF_GREY, figures
    assert figures["grey levels on average"] <= HALF_MEAN_GREY, figures
    return figures


def check_inverse(device: str, method: str) -> Figures:
    """An inverse method finds what it finds on the CPU."""
    small = picture(SIDE // 2)
    with exactly():
        ours, theirs = (
            nk.restore(random_model(at), small, "downsample(factor=2)", method=method, count=2, **EXACT)
            for at in (device, "cpu")
        )
    return compare(ours.cpu(), theirs)


def check_use(device: str, use: str) -> Figures:
    """A use of a model makes the images that it makes on the CPU."""
    with exactly():
        ours, theirs = (USES[use](random_model(at)) for at in (device, "cpu"))
    return compare(ours.cpu(), theirs)


def _hole() -> Tensor:
    missing = torch.zeros(SIDE, SIDE)
    missing[2:6, 2:6] = 1
    return missing


USES: dict[str, Callable[[Diffusion], Tensor]] = {
    "edit": lambda model: nk.edit(model, picture(), condition="odd", count=2, **EXACT),
    "inpaint": lambda model: nk.inpaint(model, picture(), _hole(), count=2, **EXACT),
    "interpolate": lambda model: nk.interpolate(model, [1, 2], frames=2, **EXACT),
    "outpaint": lambda model: nk.outpaint(model, picture(), right=4, count=1, **EXACT),
    "style": lambda model: nk.style(model, picture(), condition="odd", **EXACT),
    "tiles": lambda model: model.sample(2, size=(2 * SIDE - 4, SIDE), **EXACT),
    "upscale": lambda model: nk.upscale(model, picture(), factor=2, count=1, **EXACT),
    "variations": lambda model: nk.variations(model, picture(), count=2, **EXACT),
}


CHECKS: dict[str, Check] = {
    **{f"sampler {name}": partial(check_sampler, sampler=name) for name in names("samplers")},
    **{f"inverse {name}": partial(check_inverse, method=name) for name in names("inverse")},
    **{use: partial(check_use, use=use) for use in USES},
    "sampling in bf16": check_half,
}
