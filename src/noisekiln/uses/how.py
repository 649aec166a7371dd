"""How pictures are painted from a picture, whatever is done with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisekiln.diffusion import Diffusion


def _setting(default: Any, about: str, **more: str) -> Any:
    return field(default=default, metadata={"help": about, **more})


@dataclass(frozen=True)
class How:
    """Settings that all uses share; None means the model's usual ones, or the use's."""

    wish: str | int | None = None
    count: int = _setting(4, "Variants to paint.", flag="-n")
    seed: int = _setting(0, "Seed of the first variant; the others count on.")
    guidance: str | None = _setting(None, "How strongly the wish counts (1: the model as it is), or a spec.")
    sampler: str | None = _setting(None, "See `noisekiln list samplers`.")
    steps: int | None = _setting(None, "Steps of the sampler.")
    schedule: str | None = _setting(None, "See `noisekiln list schedules`.")
    batch: int = _setting(16, "Variants painted at once; changes nothing but speed and memory.")

    def __post_init__(self) -> None:
        for name in ("count", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: there is nothing to paint. Ask for 1 or more.")

    def settings(self) -> dict[str, Any]:
        """Those that `Diffusion.generate` takes as they are."""
        chosen = {name: getattr(self, name) for name in ("sampler", "steps", "schedule")}
        return chosen | {"guidance": _scale(self.guidance)}

    def or_else(self, **usual: Any) -> dict[str, Any]:
        """The same, with a use's own instead of what was left open."""
        chosen = self.settings()
        return {**chosen, **{name: value for name, value in usual.items() if chosen.get(name) is None}}


def variants(
    model: Diffusion,
    how: How,
    *,
    size: tuple[int, int],
    step_done: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Tensor:
    """Paint ``how.count`` pictures that differ in their seeds, (N, H, W, C) uint8.

    Args:
        model: What paints.
        how: Wish, count, seed and batch.
        size: Height and width of the pictures.
        step_done: Called after every step.
        settings: Of `Diffusion.generate`, the same for all.
    """
    done = []
    for first in range(0, how.count, how.batch):
        seeds = [how.seed + i for i in range(first, min(first + how.batch, how.count))]
        for progress in model.generate([how.wish] * len(seeds), seeds=seeds, size=size, **settings):  # noqa: B007
            step_done()
        done.append(progress.images())
    return torch.cat(done)


def _scale(guidance: str | float | None) -> str | float | None:
    try:
        return None if guidance is None else float(guidance)
    except ValueError:
        return guidance
