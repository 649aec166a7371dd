"""Settings and construction of a codec that is trained on images, and codecs that were trained before."""

from pathlib import Path

import numpy as np
import torch

from noisekiln.autoencoding.codec_learner import CodecBatches, CodecLearner
from noisekiln.autoencoding.starting_weights import has_starting_weights, load_starting_weights
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.codecs.base import Codec, Size
from noisekiln.codecs.diffusers_autoencoder import DiffusersAutoencoder
from noisekiln.components.consent import NO_CODE, Consent
from noisekiln.components.registry import name_of
from noisekiln.components.spec import build, class_of, describe, parse_spec, settings_of, with_defaults
from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.torchrun import world_size
from noisekiln.files.hub import is_hub_name
from noisekiln.machine.memory import is_async
from noisekiln.machine.transfer import module_to_device
from noisekiln.model.saving import load_codec
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.paths import expand_home
from noisekiln.plan.defaults import default_precision, with_budget
from noisekiln.plan.settings import Settings
from noisekiln.pretrained.find_pipeline import find_autoencoder
from noisekiln.pretrained.pipeline_folder import is_pipeline, variant_of
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.placement import Placement
from noisekiln.training.trainer import Trainer

BATCH_SIZE = 16  # of small steps more fit into a short budget (LOG.md)
FEWEST = 8  # images in a process, over which x is standardised
MEDIUM_SIDE, LARGE_SIDE = 32, 96  # pixels from which x has a quarter and an eighth of the sides, about 16 positions

FITTED = 64  # images to whose statistics the weights that come with noisekiln are fitted
CHANNELS, WIDTHS = {2: 4, 4: 8, 8: 4}, {2: 64, 4: 96, 8: 128}  # of x, and of the network there, by factor


def default_codec(size: Size, factor: int | None = None, adversarial: float = 0.0) -> str:
    """The spec of the autoencoder for images of (height, width) pixels.

    Args:
        size: Height and width of the images.
        factor: Pixels of a side that become one position of x; by default, such that x has about 16 on a side.
        adversarial: Weight of the correction by a discriminator.
    """
    if factor is None:
        factor = 8 if max(size) > LARGE_SIDE else 4 if max(size) > MEDIUM_SIDE else 2
    codec = Autoencoder(factor=factor, channels=CHANNELS[factor], width=WIDTHS[factor], adversarial=adversarial)
    codec.pretrained = has_starting_weights(codec)
    return _whole_spec(codec)


def codec_of_run_or_default(
    settings_file: Path, size: Size, factor: int | None = None, adversarial: float | None = None
) -> str:
    """The spec of the autoencoder that a run already trains, whose default was perhaps another one; else the default.

    Args:
        settings_file: `run.yaml` of the run; it need not exist.
        size: Height and width of the images.
        factor: The requested one, if any; a run with another is not resumed.
        adversarial: The same for the weight of the correction.

    Raises:
        ValueError: If the file is damaged.
    """
    spec = Settings.read(settings_file).codec if settings_file.is_file() else None
    if spec is not None and spec.startswith(name_of(Autoencoder)):
        codec: Codec = build(Codec, spec)
        assert isinstance(codec, Autoencoder)
        if factor in (None, codec.factor) and adversarial in (None, codec.adversarial):
            return _whole_spec(codec)  # what it was before an argument was new
    return default_codec(size, factor, adversarial or 0.0)


def with_codec(settings: Settings, size: Size) -> Settings:
    """The settings with the codec to train, all of its own settings written out.

    What a spec does not say is as in the default for these images and its factor: ``autoencoder(adversarial=0.1)``
    tries the discriminator alone.

    Raises:
        ValueError: If `codec` is none that is trained.
    """
    spec = settings.codec or default_codec(size)
    codec: Codec = build(Codec, spec)
    if not isinstance(codec, Autoencoder):
        raise ValueError(f"`codec={spec}` cannot be trained. Omit it, or give one such as autoencoder(factor=4).")
    defaults = settings_of(build(Codec, default_codec(size, codec.factor if "factor" in parse_spec(spec)[1] else None)))
    filled = with_defaults(Codec, spec, {name: defaults[name] for name in ("factor", "channels", "width")})
    codec = build(Codec, filled)
    assert isinstance(codec, Autoencoder)
    if "pretrained" not in parse_spec(spec)[1]:
        codec.pretrained = has_starting_weights(codec)
    elif codec.pretrained and not has_starting_weights(codec):
        raise ValueError(
            f"`codec={spec}`: no weights for these settings come with noisekiln. Omit `pretrained`, or `channels` and "
            "`width`."
        )
    return settings.replace(codec=_whole_spec(codec))


def with_whole_spec(settings: Settings) -> Settings:
    """The settings of an earlier run, whose autoencoder may have been written before it had all of its arguments."""
    if settings.codec is None or not settings.codec.startswith(name_of(Autoencoder)):
        return settings
    codec: Codec = build(Codec, settings.codec)
    return settings.replace(codec=_whole_spec(codec))


def _whole_spec(codec: Codec) -> str:
    return describe(codec, include_defaults=True, exclude=("image_channels",))


def resolve_codec_settings(settings: Settings, data: DataSet) -> Settings:
    """The settings of a codec's training, with every None that it uses replaced by a default.

    Raises:
        ValueError: If `codec` is none that is trained.
    """
    settings = with_codec(with_budget(settings), data.size)
    return settings.replace(
        size=data.size,
        batch_size=min(settings.batch_size or max(BATCH_SIZE, FEWEST * world_size()), max(len(data.train), 1)),
        lr=settings.lr or class_of(OptimizerFactory, settings.optimizer).lr,
        precision=settings.precision or default_precision(settings.device),
    )


def make_codec_learner(settings: Settings, data: DataSet) -> CodecLearner:
    """The untrained autoencoder with its losses, the same at every call."""
    assert settings.codec is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        codec: Codec = build(Codec, settings.codec)
        codec = codec.fit(torch.from_numpy(data.train.pixels[:1]))
        assert isinstance(codec, Autoencoder)
        learner = CodecLearner(codec)
    return module_to_device(learner, settings.device)


def make_codec_trainer(settings: Settings, data: DataSet, ranks: Ranks) -> Trainer:
    """The trainer of a `CodecLearner`.

    Args:
        settings: Settings from `resolve_codec_settings`.
        data: The images.
        ranks: Processes that train together.
    """
    assert settings.lr is not None
    assert settings.batch_size is not None
    assert settings.precision is not None
    learner = make_codec_learner(settings, data)
    if learner.codec.pretrained:
        some = data.train.pixels[:: -(-len(data.train) // FITTED)]
        load_starting_weights(learner.codec, torch.from_numpy(np.ascontiguousarray(some)), ranks)
    return Trainer(
        learner,
        CodecBatches(learner.codec, data.train, settings.seed, settings.device, flip=settings.flip),
        lambda module: _make_optimizers(settings, learner),
        budget=Budget(settings.minutes, settings.image_budget(len(data.train))),
        lr=LearningRate(settings.lr, cooldown=settings.cooldown),
        batch_size=settings.batch_size,
        seed=settings.seed,
        ema_lengths=(settings.ema_length,),
        placement=Placement(
            device=settings.device,
            ranks=ranks,
            precision=settings.precision,
            micro_batch_size=settings.micro_batch_size,
            deterministic=settings.deterministic,
            prefetch=is_async(settings.device),
        ),
    )


def _make_optimizers(settings: Settings, learner: CodecLearner) -> list[torch.optim.Optimizer]:
    """The optimizers of the codec, and of the discriminator, if there is one."""
    factory: OptimizerFactory = build(OptimizerFactory, settings.optimizer)
    networks = [each for each in (learner.codec, learner.discriminator) if each is not None]
    return [optimizer for network in networks for optimizer in factory(network, network)]


def find_trained_codec(place: str, consent: Consent = NO_CODE, *, offline: bool = False) -> Codec | None:
    """The codec of a folder that `noisekiln codec train`, a run or diffusers wrote; None if it holds none.

    Args:
        place: The folder; or "hf:OWNER/NAME", an autoencoder or a pipeline of diffusers on the Hub.
        consent: Python files that may run, if the codec names them.
        offline: Whether the Hub is not asked, and only what was downloaded before is found.

    Raises:
        ValueError: If it is damaged; or the Hub cannot be reached, or has none of this name.
    """
    of_diffusers = is_hub_name(place) or is_pipeline(place)
    folder = find_autoencoder(place, offline=offline) if of_diffusers else expand_home(Path(place))
    if (folder / "config.json").is_file():
        return DiffusersAutoencoder.from_folder(folder, variant_of(folder))
    return load_codec(folder, consent) or load_codec(folder / "codec", consent)
