"""What a training run is made of: what the user chose, and what was chosen for them."""

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from noisekiln.components.registry import did_you_mean
from noisekiln.components.spec import setting
from noisekiln.logs.base import KINDS

NUMBERS: dict[type, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: ((str, Path), "a word"),
}


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
    noise_label: str | None = setting(
        None, "How it is told the noise level: see `noisekiln list labels`. Default: angle."
    )
    draw: str = setting("log_normal", "Noise levels trained on: see `noisekiln list draws`.")
    loss_weight: str = setting("unit", "How levels count: see `noisekiln list weights`.")
    cond_dropout: float = setting(0.1, "Share of images shown without their condition, for guidance.")
    batch_size: int | None = setting(None, "Images in a step.", flag="--batch-size --batch")
    micro_batch_size: int | None = setting(
        None, "Images in memory at once; what fits, unless given. Changes no result."
    )
    precision: str | None = setting(None, "fp32, bf16 or fp16. Default: bf16 on a GPU that has it.")
    compile: str = setting("auto", "Compile the network: auto (on a GPU), yes or no.")
    activation_checkpointing: bool = setting(
        False, "Compute activations twice rather than keep them: a third slower, far less memory."
    )
    shard: bool = setting(False, "Several processes: share out the weights too (FSDP2), for networks that do not fit.")
    timeout: float = setting(300.0, "Several processes: seconds after which one that does not answer is lost.")
    optimizer: str = setting("muon", "muon (with AdamW for what is no matrix), adamw or adam.")
    lr: float | None = setting(None, "Peak learning rate.")
    cooldown: float = setting(0.7, "Share of the budget over which the rate falls to zero.")
    ema_length: float = setting(0.1, "Width of the average of the weights, as a share of training.")
    ema_snapshots: int = setting(16, "Copies of the averages to keep, for `noisekiln ema`; 0 keeps none.")
    keep_checkpoints: int = setting(2, "Checkpoints to keep: so many of the newest.")
    keep_every: int | None = setting(None, "Keep a checkpoint for good every so many images.", flag="--keep-every")
    sampler: str | None = setting(None, "Usual sampler: see `noisekiln list samplers`. Default: dpmpp_2m.")
    steps: int | None = setting(None, "Usual steps of it. Default: 20.")
    guidance: float | None = setting(None, "Usual guidance scale; 1 is the model as it is.")
    schedule: str | None = setting(None, "Usual levels sampled along: see `noisekiln list schedules`. Default: karras.")
    curves: str = setting("auto", "Where curves go: auto (tensorboard if it is installed), none, tensorboard or wandb.")

    def __post_init__(self) -> None:
        self._check_types()
        choices = {
            "cond": ("auto", "none", "class", "text"),
            "optimizer": ("muon", "adamw", "adam"),
            "precision": (None, "fp32", "bf16", "fp16"),
            "compile": ("auto", "yes", "no"),
            "curves": KINDS,
        }
        for name, known in choices.items():
            given = getattr(self, name)
            if given not in known:
                raise ValueError(
                    f"{name}={given!r} is not a choice. {did_you_mean(str(given), [name for name in known if name])}"
                )
        if not 0 <= self.cond_dropout < 1:
            raise ValueError(
                f"cond_dropout={self.cond_dropout}: it is a share of the images. Give 0 or more, and less than 1."
            )
        for name in (
            "batch_size",
            "micro_batch_size",
            "lr",
            "minutes",
            "images",
            "steps",
            "lora",
            "timeout",
            "keep_every",
        ):
            given = getattr(self, name)
            if given is not None and not 0 < given < inf:
                raise ValueError(f"{name}={given}: nothing can be trained or painted so. Give a finite number above 0.")
        if self.keep_checkpoints < 1:
            raise ValueError(
                f"keep_checkpoints={self.keep_checkpoints}: without a checkpoint no run could go on. Give 1 or more; 2 is safer."
            )
        if self.lora is not None and self.start is None:
            raise ValueError(
                f"lora={self.lora}: an adapter is trained for a model that is there, and none was given. "
                "Give the model to start from: --from RUN, or start=... in Python."
            )
        if self.shard and self.precision == "fp16":
            raise ValueError("shard with fp16: scaling losses over shared weights is not built. Take bf16 or fp32.")
        if self.ema_snapshots < 0:
            raise ValueError(f"ema_snapshots={self.ema_snapshots}: it is a number of files. Give 0 for none, or more.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: seeds are numbers from 0 to 2^63 - 1. Give one of these.")
        if not 0 <= self.cooldown <= 1:
            raise ValueError(f"cooldown={self.cooldown}: it is a share of the budget. Give 0 to 1; 0.7 is usual.")
        if self.guidance is not None and not 0 <= self.guidance < inf:
            raise ValueError(
                f"guidance={self.guidance:g}: a scale below 0 leads away from what is asked for. "
                "Give 0 (ignore the wish), 1 (the model as it is) or more."
            )

    def _check_types(self) -> None:
        """Raise ValueError for words where numbers belong, as they come from Python or an edited run.yaml."""
        for name, hint in get_type_hints(Settings).items():
            kinds, given = set(get_args(hint) or (hint,)), getattr(self, name)
            if not kinds <= set(NUMBERS) | {NoneType} or (given is None and NoneType in kinds):
                continue
            kind = (kinds - {NoneType}).pop()
            fits, needed = NUMBERS[kind]
            if not isinstance(given, fits) or isinstance(given, bool) != (kind is bool):
                raise ValueError(f"{name}={given!r} is not possible: it is {needed}. Give one.")

    def write(self, file: Path) -> None:
        """Write them as YAML."""
        told = {name: _plain(given) for name, given in asdict(self).items()}
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
        told["size"] = tuple(told["size"]) if isinstance(told.get("size"), list) else told.get("size")
        try:
            return cls.of(**told)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def of(cls, **told: Any) -> "Settings":
        """Settings from names and values.

        Raises:
            ValueError: If there is no setting of a name; the message names the nearest.
        """
        known = [f.name for f in fields(cls)]
        for name in told:
            if name not in known:
                raise ValueError(f"There is no setting called {name!r}. {did_you_mean(str(name), known)}")
        return cls(**told)

    def differing(self, other: "Settings", besides: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
        """The settings in which two runs differ, as name -> (mine, theirs); those of `besides` may."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in besides}

    def but(self, **changes: Any) -> "Settings":
        """These settings with some changed."""
        return replace(self, **changes)


def _plain(given: Any) -> Any:
    """Numbers of numpy as Python's, which alone YAML knows."""
    if isinstance(given, bool) or not isinstance(given, Real):
        return given
    return int(given) if isinstance(given, Integral) else float(given)
