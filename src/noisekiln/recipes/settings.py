"""What a training run is made of: what the user chose, and what was chosen for them."""

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import yaml

from noisekiln.find import did_you_mean
from noisekiln.spec import setting


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as `run.yaml` holds them; None means "choose for me".

    Once resolved, only a budget that was not asked for is None, and what a run does without. A field's help says what
    it is; the command line's options are derived from the fields, under the field's name or its `flag`.
    """

    data: str = setting("portraits", "Folder, file or bundled name.")
    start: str | None = setting(None, "Go on from this run's model, or a model folder.", flag="--from")
    lora: int | None = setting(None, "With --from: train an adapter of this rank. Default: all weights.")
    size: int | tuple[int, int] | None = setting(None, "Side in pixels, or (height, width).")
    task: str = setting("generate", "generate (from noise alone), or from what: see `noisekiln list tasks`.")
    cond: str = setting("auto", "What the model is told: auto, none, class or text.")
    minutes: float | None = setting(None, "Budget in minutes of training. Default: 10 on a CPU.")
    images: int | None = setting(None, "Budget in images seen; the budget that is spent first ends training.")
    seed: int = setting(0, "Of everything random.")
    device: str = setting("auto", "auto, cpu, cuda or mps.")
    model: str = setting("auto", "Size of the default network: auto, xs, s, m, l or xl.")
    backbone: str | None = setting(None, "Another network: see `noisekiln list backbones`.")
    prediction: str | None = setting(None, "What the network outputs: v, eps, x0 or flow. Default: v.")
    label: str | None = setting(None, "How it is told the noise level: see `noisekiln list labels`. Default: angle.")
    draw: str = setting("log_normal", "Noise levels trained on: see `noisekiln list draws`.")
    weight: str = setting("unit", "How levels count: see `noisekiln list weights`.")
    drop: float = setting(0.1, "Share of images shown without their condition, for guidance.")
    batch: int | None = setting(None, "Images in a step.")
    optimizer: str = setting("muon", "muon (with AdamW for what is no matrix), adamw or adam.")
    rate: float | None = setting(None, "Peak learning rate.")
    cool: float = setting(0.7, "Share of the budget over which the rate falls to zero.")
    ema: float = setting(0.1, "Width of the average of the weights, as a share of training.")
    sampler: str | None = setting(None, "Usual sampler: see `noisekiln list samplers`. Default: dpmpp_2m.")
    steps: int | None = setting(None, "Usual steps of it. Default: 20.")
    guidance: float | None = setting(None, "Usual guidance scale; 1 is the model as it is.")
    schedule: str | None = setting(None, "Usual levels sampled along: see `noisekiln list schedules`. Default: karras.")

    def __post_init__(self) -> None:
        choices = {
            "cond": ("auto", "none", "class", "text"),
            "optimizer": ("muon", "adamw", "adam"),
        }
        for name, known in choices.items():
            given = getattr(self, name)
            if given not in known:
                raise ValueError(f"{name}={given!r} is not a choice. {did_you_mean(str(given), known)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop={self.drop}: it is a share of the images. Give 0 or more, and less than 1.")
        for name in ("batch", "rate", "minutes", "images", "steps", "lora"):
            given = getattr(self, name)
            if given is not None and not 0 < given < inf:
                raise ValueError(f"{name}={given}: nothing can be trained or painted so. Give a number above 0.")
        if self.lora is not None and self.start is None:
            raise ValueError(
                f"lora={self.lora}: an adapter is trained for a model that is there, and none was given. "
                "Give the model to start from: --from RUN, or start=... in Python."
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: seeds are numbers from 0 to 2^63 - 1. Give one of these.")
        if not 0 <= self.cool <= 1:
            raise ValueError(f"cool={self.cool}: it is a share of the budget. Give 0 to 1; 0.7 is usual.")
        if self.guidance is not None and not 0 <= self.guidance < inf:
            raise ValueError(
                f"guidance={self.guidance:g}: a scale below 0 leads away from what is asked for. "
                "Give 0 (ignore the wish), 1 (the model as it is) or more."
            )

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
        try:
            told = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError):
            told = None
        if not isinstance(told, dict):
            raise ValueError(f"{file} holds no settings. Give a run.yaml that `noisekiln train` wrote.")
        known = [f.name for f in fields(cls)]
        for name in told:
            if name not in known:
                raise ValueError(f"{file}: there is no setting called {name!r}. {did_you_mean(str(name), known)}")
        told["size"] = tuple(told["size"]) if isinstance(told.get("size"), list) else told.get("size")
        return cls(**told)

    def differing(self, other: "Settings", besides: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
        """The settings in which two runs differ, as name -> (mine, theirs); those of `besides` may."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in besides}

    def but(self, **changes: Any) -> "Settings":
        """These settings with some changed."""
        return replace(self, **changes)
