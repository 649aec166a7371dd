"""Source images of a model with a task: their check, the size of the result, and the condition image made of them."""

from torch import Tensor

from noisekiln.codecs.base import Codec, Size
from noisekiln.levels import NoiseSource
from noisekiln.tasks.base import Task


def check_source(task: Task | None, source: Tensor | None, count: int, channels: int) -> Tensor | None:
    """The source of every image, (count, h, w, c) uint8, if the task can start from it; None without a task.

    Args:
        task: Task of the model, if any.
        source: Sources, (count, h, w, c) or (1, h, w, c) uint8.
        count: Number of images.
        channels: Channels of the model's images.

    Raises:
        ValueError: If the task cannot start from it, or there is no task.
    """
    if source is not None and not isinstance(source, Tensor):
        raise ValueError(f"`source`: a {type(source).__name__} was given. Give a tensor (images, h, w, c) of bytes.")
    if task is not None:
        one = source is not None and source.ndim == 4 and len(source) == 1
        source = source.expand(count, -1, -1, -1) if one and source is not None else source
        return task.check_source(source, count, channels)
    if source is not None:
        raise ValueError(
            "A `source` was given to a model that starts from noise alone. Omit it, or train a model with a `task`."
        )
    return None


def output_size(task: Task | None, source: Tensor | None, trained: Size) -> Size:
    """Height and width of the images that a model trained on a size makes of a source, if there is one."""
    if task is None or source is None:
        return trained
    return task.output_size((source.shape[1], source.shape[2]), trained)


def condition_image(task: Task | None, source: Tensor, codec: Codec, trained: Size, noise: NoiseSource) -> Tensor:
    """The ``Cond.image`` that a batch starts from; arguments as for `Task.condition_image` and `output_size`."""
    assert task is not None
    return task.condition_image(source, codec, output_size(task, source, trained), noise)
