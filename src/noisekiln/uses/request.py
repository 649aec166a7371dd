"""How pictures are painted from a picture, whatever is done with it."""

from dataclasses import dataclass
from typing import Any

from noisekiln.components.spec import setting


@dataclass(frozen=True)
class SampleOptions:
    """Settings that all uses share; None means the model's usual ones, or the use's."""

    wish: str | int | None = None
    count: int = setting(4, "Variants to paint.", flag="-n")
    seed: int = setting(0, "Seed of the first picture; the others count on.")
    guidance: str | None = setting(None, "How strongly the wish counts (1: the model as it is), or a spec.")
    sampler: str | None = setting(None, "See `noisekiln list samplers`.")
    steps: int | None = setting(None, "Steps of the sampler.")
    schedule: str | None = setting(None, "See `noisekiln list schedules`.")
    batch: int = setting(16, "Variants painted at once; changes nothing but speed and memory.")

    def __post_init__(self) -> None:
        for name in ("count", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: there is nothing to paint. Ask for 1 or more.")

    def settings(self) -> dict[str, Any]:
        """Those that `Diffusion.generate` takes as they are."""
        return {name: getattr(self, name) for name in ("guidance", "sampler", "steps", "schedule")}

    def or_else(self, **usual: Any) -> dict[str, Any]:
        """The same, with a use's own instead of what was left open."""
        chosen = self.settings()
        return {**chosen, **{name: value for name, value in usual.items() if chosen.get(name) is None}}
