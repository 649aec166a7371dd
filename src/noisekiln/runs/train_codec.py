"""Training of a codec as one call."""

from pathlib import Path
from typing import Any, Unpack

from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.codecs.base import Codec
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check_argument
from noisekiln.distributed import torchrun
from noisekiln.files.hub import is_hub_name
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.saving import load_codec
from noisekiln.monitor.intervals import Intervals
from noisekiln.paths import expand_home
from noisekiln.plan.chosen_components import check_components, is_trained_codec
from noisekiln.plan.codec_training import codec_of_run_or_default
from noisekiln.plan.road import LATENT
from noisekiln.plan.settings import Settings
from noisekiln.plan.settings_by_name import SettingsByName
from noisekiln.plan.task_data import GENERATE, read_images
from noisekiln.runs.codec_events import CodecEnd
from noisekiln.runs.codec_run import CodecRun
from noisekiln.runs.events import DataRead, Reading
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.train import learning, paths_as_text, stop_if_interrupted
from noisekiln.runs.watch import Watch, watch_of_this_process


@learning
def train_codec(
    data: Any,
    *,
    factor: int | None = None,
    adversarial: float | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    intervals: Intervals = Intervals(),
    **settings: Unpack[SettingsByName],
) -> Codec:
    """Train a codec for latent diffusion on images, or resume an interrupted call; it is also saved in `out`.

    ``nk.train(data, codec=out)`` then trains a model of its latents.

    Args:
        data: Images, as in `train`.
        factor: Pixels of a side that become one position of x: 2, 4 or 8; by default chosen by the size of the images.
        adversarial: Weight of a correction by a discriminator in the second half of training; by default there is none.
        out: Folder of the codec; by default ``runs/NAME-codec``.
        watch: Callback for every event (see `noisekiln.runs.events`); by default, notes become Python warnings.
        intervals: Intervals of logs, pictures and checkpoints.
        settings: Settings, as in `train`; those of a diffusion model are not used.

    Raises:
        ValueError: If the data or a setting is invalid; the message lists the valid values.
        noisekiln.errors.SaveFailed: If a file cannot be written; what was saved before is intact.
        noisekiln.errors.Diverged: If the loss is not finite; the last saved checkpoint is still good.
        KeyboardInterrupt: After Ctrl-C, once everything is saved; the same call resumes. After SIGTERM it is
            SystemExit.
    """
    watch, values = watch_of_this_process(watch), dict(settings)
    size = values.pop("size", None)
    chosen = Settings.of(**paths_as_text(all_plain(values)))
    _check_before_reading(chosen, factor, adversarial, out)
    images = read_images(data, GENERATE, size=size, progress=lambda done, total: watch(Reading(done, total)))
    watch(DataRead(images))
    folder = expand_home(out) if out else Path("runs") / f"{images.name}-codec"
    if torchrun.rank() == 0:
        RunFolder(folder).check_free()
    codec = chosen.codec or codec_of_run_or_default(RunFolder(folder).settings_file, images.size, factor, adversarial)
    name = str(data) if isinstance(data, str | Path) else images.name
    run = CodecRun(chosen.replace(codec=codec, road=LATENT, data=name), images, folder, intervals=intervals)
    with Interrupt() as interrupt:
        for event in run.events(interrupt):
            watch(event)
    assert isinstance(event, CodecEnd)
    stop_if_interrupted(event.signal)
    trained = load_codec(folder)
    assert trained is not None
    return trained


def _check_before_reading(
    settings: Settings, factor: int | None, adversarial: float | None, out: str | Path | None
) -> None:
    """Raise ValueError for what is wrong without a look at the images."""
    check_components(settings)
    if is_hub_name(settings.codec):
        raise ValueError(
            f"`codec={settings.codec}` is trained already. Give it to `noisekiln train`, or give the codec to train, "
            "such as autoencoder(factor=4)."
        )
    if is_trained_codec(settings.codec):
        raise ValueError(
            f"`codec={settings.codec}` is a folder. Give it as `out` to resume a codec, or give the codec to train, "
            "such as autoencoder(factor=4)."
        )
    for name, value in (("factor", factor), ("adversarial", adversarial)):
        if value is not None and settings.codec is not None:
            raise ValueError(f"`{name}={value}` and `codec={settings.codec}` both say what to train. Omit one of them.")
    if factor is not None:
        check_argument("factor", factor, int)
        Autoencoder(factor=factor)  # raises for a factor that there is not
    if adversarial is not None:
        check_argument("adversarial", adversarial, float)
        Autoencoder(adversarial=adversarial)  # raises for a negative one
    if out is not None:
        check_argument("out", out, Path)
        RunFolder(expand_home(out)).check_is_run_or_empty()
