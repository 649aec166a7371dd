"""Checks of sampling and of the uses of a model on a device: the same seeds give the CPU's images."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import noisekiln as nk
from gpu_tiny import SIDE, Check, Figures, compare, exactly, picture, random_model
from noisekiln.components.registry import names
from noisekiln.model.diffusion import Diffusion


def check_sampler(device: str, sampler: str) -> Figures:
    """The same seeds give the CPU's images: noise is drawn there."""
    with exactly():
        ours, theirs = (
            random_model(at).sample(["even", "odd", None, "odd"], sampler=sampler, steps=8, guidance=2.0, seed=3)
            for at in (device, "cpu")
        )
    return compare(ours.cpu(), theirs)


def check_inverse(device: str, method: str) -> Figures:
    """An inverse method finds what it finds on the CPU."""
    small = picture(SIDE // 2)
    with exactly():
        ours, theirs = (
            nk.restore(random_model(at), small, "downsample(factor=2)", method=method, count=2, steps=6)
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
    "edit": lambda model: nk.edit(model, picture(), condition="odd", count=2, steps=6),
    "inpaint": lambda model: nk.inpaint(model, picture(), _hole(), count=2, steps=6),
    "interpolate": lambda model: nk.interpolate(model, [1, 2], frames=2, steps=6),
    "outpaint": lambda model: nk.outpaint(model, picture(), right=4, count=1, steps=6),
    "style": lambda model: nk.style(model, picture(), condition="odd", steps=6),
    "tiles": lambda model: model.sample(2, size=(2 * SIDE - 4, SIDE), steps=6),
    "upscale": lambda model: nk.upscale(model, picture(), factor=2, count=1, steps=6),
    "variations": lambda model: nk.variations(model, picture(), count=2, steps=6),
}


CHECKS: dict[str, Check] = {
    **{f"sampler {name}": partial(check_sampler, sampler=name) for name in names("samplers")},
    **{f"inverse {name}": partial(check_inverse, method=name) for name in names("inverse")},
    **{use: partial(check_use, use=use) for use in USES},
}
