"""Settings of a training run, requested by the user or filled with defaults."""

import os
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from noisekiln.components.as_spec import as_spec
from noisekiln.components.limits import LONGEST_MINUTES
from noisekiln.components.plain_values import all_plain
from noisekiln.components.registry import did_you_mean
from noisekiln.components.setting import check, rules_of, setting
from noisekiln.errors import shorten
from noisekiln.files.hub import is_hub_name
from noisekiln.files.yaml_file import read_yaml
from noisekiln.paths import expand_home

LARGEST_SEED = 2**63 - 1
MANY_SAMPLING_STEPS, MOST_SAMPLING_STEPS = 100, 1000  # more must be meant as steps of training

# Fields of one group: its heading in the help, and the rules that all of them share.
_data = partial(setting, group="Data and budget")
_fine_tuning = partial(setting, group="Fine-tuning")
_network = partial(setting, group="Network")
_loss = partial(setting, group="Training loss")
_optimization = partial(setting, group="Optimization")
_machine = partial(setting, group="Memory and speed", may_change=True)
_kept = partial(setting, group="Snapshots, checkpoints and curves", may_change=True)
_sampling = partial(setting, group="Sampling, as saved with the model", may_change=True, keep_on_resume=True)


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as stored in `run.yaml`; None means the default.

    A component that holds no weights may be given as such, and is stored as its spec.

    In resolved settings, only unused features and a budget that was not requested are None. The `Rules` of a field hold
    its description, its possible values, and whether a resumed run may change it; the flags are derived from them.
    """

    data: str = _data("portraits", "Folder, file or bundled name.", may_change=True)
    start: str | None = _fine_tuning(
        None, "Fine-tune the model of this run, or of a model folder.", flag="--from", folder=True
    )
    lora: int | None = _fine_tuning(None, "With `start`: train an adapter of this rank. Default: all weights.", above=0)
    size: int | tuple[int, int] | None = _data(None, "Side in pixels, or (height, width).")
    task: str = _data(
        "generate",
        "generate (from noise alone), or a task with a source image: see `noisekiln list tasks`.",
        room="tasks",
    )
    road: str = _data(
        "auto",
        "How images are generated: pixels (at once), cascade (small images first, then larger ones of them, each by a "
        "network of its own), latent (small images of a codec that is trained first), or auto: on a CPU latent from 48 "
        "pixels on.",
        choices=("auto", "pixels", "cascade", "latent"),
        keep_on_resume=True,
    )
    cond: str = _data(
        "auto",
        "Condition: auto (what the images have), none, class (class_label), text, or see `noisekiln list "
        "conditioners`.",
    )
    codec: str | None = _network(
        None,
        "Encoder between images and the network's input: see `noisekiln list codecs`, the folder of a trained "
        "codec, or hf:OWNER/NAME, an autoencoder of diffusers on the Hub. Default: pixels; with `road=latent` an "
        "autoencoder that is trained first.",
        room="codecs",
    )
    minutes: float | None = _data(
        None,
        "Training budget in minutes. Default: 10 on a CPU, else 30.",
        above=0,
        at_most=LONGEST_MINUTES,
        may_change=True,
    )
    images: int | None = _data(
        None,
        "Training budget in images seen. If several budgets are set, training ends when the first is used up.",
        above=0,
        may_change=True,
    )
    epochs: int | None = _data(
        None,
        "Training budget in epochs: times that each image is seen. After each, a line with the loss and a grid of "
        "samples; beyond 20 epochs, at most one in ten seconds.",
        above=0,
        may_change=True,
    )
    flip: bool = _data(False, "Train on mirror images too: an image is flipped left to right half of the time.")
    seed: int = _data(0, "Random seed.", at_least=0, at_most=LARGEST_SEED)
    device: str = _machine("auto", "auto, cpu, cuda or mps.")
    model: str = _network(
        "auto", "Size of the network: auto (by budget and speed), or one such as s, m, l.", keep_on_resume=True
    )
    backbone: str | None = _network(
        None, "Network architecture: see `noisekiln list backbones`. Default: unet.", keep_on_resume=True
    )
    prediction: str | None = _network(None, "What the network predicts, such as v, eps, x0 or flow. Default: v.")
    noise_label: str | None = _network(
        None, "Encoding of the noise level: see `noisekiln list noise_labels`. Default: angle.", room="noise_labels"
    )
    draw: str = _loss("log_normal", "Distribution of training noise levels: see `noisekiln list draws`.", room="draws")
    loss_weight: str = _loss(
        "unit", "Loss weight of each noise level: see `noisekiln list loss_weights`.", room="loss_weights"
    )
    objective: str = _loss("denoising", "Training loss: see `noisekiln list objectives`.", room="objectives")
    teacher: str | None = _loss(None, "Run or model folder of the teacher, for an objective that distils.", folder=True)
    cond_dropout: float = _loss(
        0.1, "Condition dropout: share of images trained on without their condition, for guidance.", at_least=0, below=1
    )
    caption_dropout: float = _loss(
        0.1, "Share of images trained with some clauses of a caption, of words by some letters.", at_least=0, below=1
    )
    batch_size: int | None = _optimization(
        None,
        "Images in a step. Default: 64 on a CPU (down to 16 where minutes hold few steps), else 256; a codec has 16.",
        flag="--batch-size --batch",
        above=0,
        keep_on_resume=True,
    )
    micro_batch_size: int | None = _machine(
        None,
        "Images in memory at once (gradient accumulation); changes no result. "
        "Default: the largest that fits into memory.",
        above=0,
    )
    precision: str | None = _machine(
        None,
        "fp32, bf16 or fp16. Default: bf16 on a GPU or a CPU (AMX) with units for it, else fp32.",
        choices=("fp32", "bf16", "fp16"),
    )
    compile: str = _machine(
        "auto",
        "On an Nvidia GPU: graphs (CUDA graphs: launch all kernels of the network at once), yes (torch.compile, too: "
        "faster, after a minute), no, or auto: yes for 10 minutes or more, otherwise graphs.",
        choices=("auto", "yes", "graphs", "no"),
    )
    deterministic: bool = _machine(
        False,
        "On an Nvidia GPU: use deterministic algorithms, so that a resumed run is equal to the bit; slower, and not "
        "compiled by default.",
    )
    activation_checkpointing: bool = _machine(
        False, "Recompute activations in the backward pass: about a third less memory, a third slower."
    )
    shard: bool = _machine(
        False, "Distributed training: shard the weights (FSDP2), for networks that do not fit into memory."
    )
    timeout: float = _machine(
        300.0, "Distributed training: seconds before an unresponsive process is treated as lost.", above=0, at_most=1e6
    )
    optimizer: str = _optimization("muon", "Optimizer: see `noisekiln list optimizers`.", room="optimizers")
    lr: float | None = _optimization(
        None,
        "Peak learning rate. Default: the optimizer's; a third of it when fine-tuning all weights, three times it for "
        "adapters.",
        above=0,
    )
    cooldown: float = _optimization(
        0.7, "Cool-down: last share of the budget, over which the learning rate falls to 0.", at_least=0, at_most=1
    )
    ema_length: float = _optimization(
        0.1, "Width of the EMA of the weights, as a share of training.", above=0, at_most=0.25
    )
    ema_snapshots: int = _kept(
        16, "Snapshots of the EMA to keep, for `noisekiln ema`; 0 keeps none.", at_least=0, at_most=10_000
    )
    keep_checkpoints: int = _kept(2, "Number of newest checkpoints to keep.", at_least=1)
    keep_every: int | None = _kept(None, "Also keep permanently the first checkpoint after every N images.", above=0)
    score: int | None = _kept(
        None,
        "Times in the run at which 500 samples are compared with images of the data (KID and MIND); the best averaged "
        "weights are kept in model-best/. Default: never.",
        above=0,
        at_most=1000,
    )
    sampler: str | None = _sampling(
        None, "Default sampler of the model: see `noisekiln list samplers`. Default: dpmpp_2m.", room="samplers"
    )
    steps: int | None = _sampling(None, "Default number of sampling steps of the model. Default: 20.", above=0)
    guidance: str | float | None = _sampling(
        None,
        "Default guidance of the model: a scale (1: no guidance), or a method: see `noisekiln list guidance`. "
        "Default: 1.5; 1 with a task.",
        at_least=0,
        room="guidance",
    )
    schedule: str | None = _sampling(
        None,
        "Default sampling schedule of the model: see `noisekiln list schedules`. Default: karras.",
        room="schedules",
    )
    curves: str = _kept("auto", "Curves: auto (tensorboard if installed), none, or see `noisekiln list logs`.")

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, as_spec(each.name, getattr(self, each.name)))
        check(self)
        if self.steps is not None and self.steps > MOST_SAMPLING_STEPS:
            raise ValueError(
                f"`steps={self.steps}` is the number of sampling steps of the model's images, not that of training "
                f"steps, and more than {MOST_SAMPLING_STEPS:,} show no more. Set how long to train by `epochs`, "
                f"`minutes` or `images`: so many training steps are `images={self.steps * (self.batch_size or 64)}`."
            )
        if self.lora is not None and self.start is None:
            raise ValueError(
                f"`lora={self.lora}`: an adapter is trained for an existing model, but none was given. "
                "Give the run to fine-tune: `start=RUN`."
            )
        if self.shard and self.precision == "fp16":
            raise ValueError("`shard` with `precision=fp16`: loss scaling over sharded weights is not supported. "
                             "Use bf16 or fp32.")  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """Settings that may not be what was meant, one line each."""
        if self.steps is None or self.steps < MANY_SAMPLING_STEPS:
            return []
        return [
            f"`steps={self.steps}` is the number of sampling steps of the model's images; how long to train is set by "
            "`epochs`, `minutes` or `images`"
        ]

    def image_budget(self, image_count: int) -> int | None:
        """The budget in images seen, of `images` and `epochs`; None if there is neither.

        Args:
            image_count: Number of training images.
        """
        budgets = [self.images, None if self.epochs is None else self.epochs * image_count]
        return min((each for each in budgets if each is not None), default=None)

    def write(self, file: Path) -> None:
        """Write them as YAML."""
        values = all_plain(asdict(self))  # YAML supports only numbers of Python
        values["size"] = list(self.size) if isinstance(self.size, tuple) else self.size
        file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Settings":
        """Read a file that `write` wrote.

        Raises:
            ValueError: If the file does not hold settings, or has an unknown one.
        """
        try:
            found = read_yaml(file)
        except ValueError as error:
            raise ValueError(
                f"{file} cannot be read ({error}). It is damaged, or no run.yaml. Restore it from a backup."
            ) from error
        if not isinstance(found, dict):
            raise ValueError(f"{file} holds no settings. Give a run.yaml that `noisekiln train` wrote.")
        found["size"] = tuple(found["size"]) if isinstance(found.get("size"), list) else found.get("size")
        try:
            return cls.of(**{str(name): value for name, value in found.items()})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """Settings from names and values.

        Raises:
            ValueError: If a setting is unknown; the message suggests the most similar one.
        """
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                shown = repr(shorten(name, 60))
                raise ValueError(f"There is no setting called {shown}. {did_you_mean(name, known, 'settings')}")
        return cls(**values)

    def resuming(self, before: "Settings") -> "Settings":
        """These settings with the `keep_on_resume` ones of the run's last start, if no others are requested."""
        kept = [name for name, rules in rules_of(Settings).items() if rules.keep_on_resume]
        return self.replace(**{name: getattr(before, name) for name in kept if getattr(self, name) in (None, "auto")})

    def with_absolute_paths(self) -> "Settings":
        """These settings with absolute paths of models, by which a run is found again from any working directory."""
        folders = [name for name, rules in rules_of(Settings).items() if rules.folder]
        paths = {name: value for name in folders if (value := getattr(self, name)) and not is_hub_name(value)}
        return self.replace(**{name: os.path.abspath(expand_home(value)) for name, value in paths.items()})

    def conflicts(self, before: "Settings") -> dict[str, tuple[Any, Any]]:
        """Differences in settings that a resumed run must not change, as name -> (now, before)."""
        fixed = [name for name, rules in rules_of(Settings).items() if not rules.may_change]
        pairs = {name: (getattr(self, name), getattr(before, name)) for name in fixed}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def replace(self, **changes: Any) -> "Settings":
        """These settings with some changed."""
        return replace(self, **changes)
