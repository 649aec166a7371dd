"""Opening of the run that settings describe: of one model, or of a cascade."""

from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.road import AUTO, CASCADE, PIXELS, choose_road
from noisekiln.plan.settings import Settings
from noisekiln.runs.cascade_run import CascadeRun
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
) -> Run | CascadeRun:
    """A new run on the requested or the default road, or the run in the folder, which stays on its own.

    Arguments and errors are those of `Run`.
    """
    kind = CascadeRun if _road_in(settings, data, RunFolder(folder)) == CASCADE else Run
    return kind(settings, data, folder, intervals=intervals, allow_code=allow_code)


def _road_in(settings: Settings, data: DataSet, folder: RunFolder) -> str:
    if not folder.settings_file.is_file():
        return choose_road(settings, data.size)
    before = CASCADE if Settings.read(folder.settings_file).road == CASCADE else PIXELS
    if settings.road not in (AUTO, before):
        conflict = {"road": (settings.road, before)}
        raise other_settings(folder.path, conflict, has_model=before == PIXELS and folder.has_whole_model())
    return choose_road(settings.replace(road=before), data.size)
