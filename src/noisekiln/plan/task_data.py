"""Task of a setting, and the images that it is trained on."""

from typing import Any

from noisekiln.components.spec import build
from noisekiln.data import DataSet, load, load_pairs
from noisekiln.tasks.base import Task

GENERATE = "generate"  # setting for no task: images from noise alone


def task_of(spec: str) -> Task | None:
    """The task of a setting: "upscale(factor=4)"; None for "generate".

    Raises:
        ValueError: If there is no such task.
    """
    return None if spec == GENERATE else build(Task, spec)


def read_images(source: Any, task: str, **options: Any) -> DataSet:
    """The data set of a task: as `noisekiln.data.load` reads it, or pairs of images for a task that needs them."""
    kind = task_of(task)
    if kind is None or not kind.paired:
        return load(source, **options)
    for name in ("labels", "captions"):
        if name in options:
            raise ValueError(
                f"`{name}`: `task={task}` is trained on pairs of images in a folder, which have none in memory. "
                "Give the folder alone."
            )
    return load_pairs(source, **options)
