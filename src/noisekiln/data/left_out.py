"""Files of a tree that are no data: hidden ones, those of the operating system, and those that noisekiln wrote."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from noisekiln.data.dataset import Altered, Skipped
from noisekiln.data.formats import SUFFIXES, suffix_of
from noisekiln.data.source import Item
from noisekiln.errors import DataError, counted, listed
from noisekiln.files.sample_folder import INDEX, OVERVIEWS, PREVIEW
from noisekiln.files.system_files import is_system_file

PROGRAMS = frozenset({"__macosx", "picasa.ini", "__pycache__", "node_modules"})  # beside what systems leave anywhere
RUN = "run.yaml"  # by which the folder of a run is recognised
RUN_CONTENT = frozenset({"dataset.json", "metrics.jsonl", "environment.json"})
PLOT, PLOT_TEXT = "schedules.png", b"command\0plot"  # `noisekiln plot` writes this text into its first bytes


@dataclass(frozen=True)
class Tree:
    """The files that may be data, the files that cannot be used, and notes on what was left out."""

    files: list[Item]
    skipped: list[Skipped]
    notes: list[Altered]


def data_of_tree(name: str, files: Sequence[Item], skipped: Sequence[Skipped]) -> Tree:
    """Leaves out what is hidden, belongs to the operating system, or was written by noisekiln.

    Raises:
        DataError: If the tree itself is the folder of a run.
    """
    tops = {item.name for item in files if "/" not in item.name}
    if RUN in tops and tops & RUN_CONTENT:
        raise DataError(name, "this is the folder of a run, not of images", "Give the folder of the images")
    written = _outermost({_parent(item.name) for item in files if _file_name(item.name) in (RUN, INDEX)} - {"."})
    outside = [item for item in files if not _is_inside(item.name, written)]
    visible = [item for item in outside if not is_ignored(item.name)]
    overviews = [item for item in visible if INDEX in tops and item.name in (*OVERVIEWS, PREVIEW)]
    plots = [item for item in visible if _is_plot(item)]
    kept = [item for item in visible if item not in overviews and not (INDEX in tops and item.name == INDEX)]
    kept = [item for item in kept if item not in plots]
    lost = [one for one in skipped if not _is_inside(one.file, written)]
    lost += [Skipped(item.name, "an overview of the samples beside it") for item in overviews]
    lost += [Skipped(item.name, "a plot of noisekiln") for item in plots]
    return Tree(kept, lost, [*_about_written(written), *_about_ignored(outside)])


def is_ignored(path: str) -> bool:
    """Whether it is a hidden file, or one that an operating system creates."""
    return any(step.startswith(".") or step.lower() in PROGRAMS or is_system_file(step) for step in path.split("/"))


def _is_plot(item: Item) -> bool:
    """Whether it is the plot that a command of noisekiln has drawn into this folder."""
    if _file_name(item.name) != PLOT:
        return False
    try:
        with item.open() as handle:
            return not isinstance(handle, Image.Image) and PLOT_TEXT in handle.read(256)
    except OSError:
        return False


def _about_written(folders: Sequence[str]) -> list[Altered]:
    if not folders:
        return []
    what = counted(len(folders), "folder of runs or samples was", "folders of runs or samples were")
    return [Altered(f"{what} left out: {listed(folders, 3)} (to train on samples, give their folder).")]


def _about_ignored(files: Sequence[Item]) -> list[Altered]:
    """Images that are hidden; a file ._1.png holds no image, but the attributes of 1.png on a Mac."""
    ignored = [item.name for item in files if is_ignored(item.name) and suffix_of(item.name) in SUFFIXES]
    images = [file for file in ignored if not _file_name(file).startswith("._")]
    if not images:
        return []
    what = counted(len(images), "hidden image, or image in a folder of the system, was", f"{_PLURAL} were")
    return [Altered(f"{what} left out; the first is {images[0]}.")]


_PLURAL = "hidden images, or images in folders of the system,"


def _outermost(folders: Collection[str]) -> list[str]:
    return sorted(folder for folder in folders if not any(_is_inside(folder, [other]) for other in folders))


def _is_inside(path: str, folders: Sequence[str]) -> bool:
    """Whether a path is below one of these folders."""
    return any(path.startswith(f"{folder}/") for folder in folders)


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]
