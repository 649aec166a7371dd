"""What a training run is made of: what the user chose, and what was chosen for them."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from noisekiln.find import did_you_mean


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as `run.yaml` holds them; None means "choose for me", and nothing is None once resolved.

    Attributes:
        data: Folder, file or bundled name.
        size: Side in pixels, or (height, width).
        cond: What the model is told beside the image: "auto", "none", "class" or "text".
        minutes: Budget in minutes of training.
        images: Budget in images seen; training ends at whichever budget is spent first.
        seed: Of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        model: Size of the default network: "auto", "xs", "s", "m" or "l".
        backbone: Spec of the network, in place of the default one.
        prediction: What it outputs: "v", "eps", "x0" or "flow".
        label: Spec of how it is told the noise level.
        draw: Spec of the levels trained on.
        weight: Spec of how levels count.
        drop: Share of the images that are shown without their condition, for guidance.
        batch: Images in a step.
        optimizer: "muon" (with AdamW for what is no matrix), "adamw" or "adam".
        rate: Peak learning rate.
        cool: Share of the budget over which the rate falls to zero.
        ema: Width of the average of the weights, as a share of training.
        sampler: Spec of the sampler for grids, and usual for the model.
        steps: Steps of it.
        guidance: Usual guidance scale.
        schedule: Spec of the levels sampled along.
    """

    data: str = "portraits"
    size: int | tuple[int, int] | None = None
    cond: str = "auto"
    minutes: float | None = None
    images: int | None = None
    seed: int = 0
    device: str = "auto"
    model: str = "auto"
    backbone: str | None = None
    prediction: str = "v"
    label: str = "angle"
    draw: str = "log_normal"
    weight: str = "unit"
    drop: float = 0.1
    batch: int | None = None
    optimizer: str = "muon"
    rate: float | None = None
    cool: float = 0.7
    ema: float = 0.1
    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: float | None = None
    schedule: str = "karras"

    def __post_init__(self) -> None:
        choices = {
            "cond": ("auto", "none", "class", "text"),
            "model": ("auto", "xs", "s", "m", "l"),
            "prediction": ("v", "eps", "x0", "flow"),
            "optimizer": ("muon", "adamw", "adam"),
        }
        for name, known in choices.items():
            given = getattr(self, name)
            if given not in known:
                raise ValueError(f"{name}={given!r} is not a choice. {did_you_mean(str(given), known)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop={self.drop}: a share of the images lies between 0 and 1.")
        for name in ("batch", "rate", "minutes", "images", "steps"):
            given = getattr(self, name)
            if given is not None and given <= 0:
                raise ValueError(f"{name}={given}: there must be more than 0.")
        if self.guidance is not None and self.guidance < 0:
            raise ValueError(f"guidance={self.guidance:g}: a scale below 0 leads away from what is asked for.")

    def write(self, file: Path) -> None:
        """Write them as YAML."""
        told = asdict(self)
        told["size"] = list(self.size) if isinstance(self.size, tuple) else self.size
        file.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Settings":
        """Read what `write` wrote.

        Raises:
            ValueError: If the file is no such thing, or names a setting that there is not.
        """
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError(f"{file} holds no settings. Give a run.yaml that `noisekiln train` wrote.")
        known = [field.name for field in fields(cls)]
        for name in told:
            if name not in known:
                raise ValueError(f"{file}: there is no setting called {name!r}. {did_you_mean(str(name), known)}")
        told["size"] = tuple(told["size"]) if isinstance(told.get("size"), list) else told.get("size")
        return cls(**told)

    def differing(self, other: "Settings", besides: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
        """The settings in which two runs differ, as name -> (mine, theirs); those of `besides` may."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in besides}

    def but(self, **changes: Any) -> "Settings":
        """These settings with some changed."""
        return replace(self, **changes)
