"""Opening of the run that settings describe: of one model, of a cascade, or of a codec and a model of its latents."""

from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.road import AUTO, CASCADE, LATENT, PIXELS, choose_road, is_learned
from noisekiln.plan.settings import Settings
from noisekiln.runs.cascade_run import CascadeRun
from noisekiln.runs.codec_run import CODEC
from noisekiln.runs.latent_run import LatentRun
from noisekiln.runs.refusals import other_settings
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder


def open_run(
    settings: Settings,
    data: DataSet,
    folder: Path,
    *,
    intervals: Intervals = Intervals(),
    allow_code: bool = False,
) -> Run | CascadeRun | LatentRun:
    """A new run on the requested or the default road, or the run in the folder, which stays on its own.

    Arguments and errors are those of `Run`.
    """
    kinds: dict[str, type[Run | CascadeRun | LatentRun]] = {PIXELS: Run, CASCADE: CascadeRun, LATENT: LatentRun}
    kind = kinds[_road_in(settings, data, RunFolder(folder))]
    return kind(settings, data, folder, intervals=intervals, allow_code=allow_code)


def _road_in(settings: Settings, data: DataSet, folder: RunFolder) -> str:
    if (folder.path / CODEC).is_file():
        raise ValueError(
            f"{folder.path} holds a codec, which `noisekiln codec train` trains. Give another `out`, with "
            f"`codec={folder.path}` to train a model of its latents."
        )
    if not folder.settings_file.is_file():
        return choose_road(settings, data.size)
    before = Settings.read(folder.settings_file).road
    before = before if before in (CASCADE, LATENT) else PIXELS  # earlier versions wrote none
    if settings.road not in (AUTO, before):
        conflict = {"road": (settings.road, before)}
        raise other_settings(folder.path, conflict, has_model=before == PIXELS and folder.has_whole_model())
    if before == PIXELS and settings.codec is not None and is_learned(settings.codec):
        conflict = {"road": (LATENT, PIXELS)}
        raise other_settings(folder.path, conflict, has_model=folder.has_whole_model())
    return choose_road(settings.replace(road=before), data.size)
