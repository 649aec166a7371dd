"""Writing of images to a folder while they are generated, by one process or several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_balanced
from noisekiln.errors import NotFinite
from noisekiln.files.pictures import ImageArray
from noisekiln.files.sample_folder import SampleFolder
from noisekiln.machine.lock import locked_in_place
from noisekiln.machine.memory import is_out_of_memory, release_cached
from noisekiln.model.generate import generate_in_batches
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress
from noisekiln.model.sampling_batch import largest_sampling_batch, numbers_of_image
from noisekiln.model.task_source import output_size


def write_batches(
    progress: Iterable[Progress],
    folder: SampleFolder,
    describe: Callable[[Progress], Sequence[dict[str, Any]]],
    *,
    columns: int | None = None,
    before: ImageArray | None = None,
    writes: bool = True,
) -> Iterator[Progress]:
    """Pass on the progress of a request; a finished batch is on disk before its progress is passed on.

    When it ends or is closed early, a preview in the folder is removed, and a grid of all finished images is written;
    without any, no new folder is left.

    Args:
        progress: Progress of the request.
        folder: Folder for the images.
        describe: Function from the progress of a finished batch to the entries of its images in the index.
        columns: Columns of the grid.
        before: Input image, shown first in the grid.
        writes: Whether this process writes; only one of several does.

    Raises:
        ValueError: If the folder cannot be written, or another process writes there.
    """
    if writes:
        folder.create()
    with locked_in_place(folder.path) if writes else nullcontext():
        if writes:
            folder.look()  # another process may have written there until now
        try:
            for each in progress:
                if each.finished and writes:
                    images: ImageArray = each.images().cpu().numpy()
                    folder.add(images, describe(each))
                yield each
        finally:
            folder.remove_preview()
            folder.write_grid(columns, before)
            folder.remove_if_empty()


def generate_on_ranks(
    model: Model,
    conditions: Sequence[Any],
    seeds: Sequence[int],
    ranks: Ranks,
    *,
    batch_size: int | None,
    source: Tensor | None = None,
    **options: Any,
) -> Iterator[Progress]:
    """As the model's `generate`, with each batch split over processes; all of them get all finished images.

    Args:
        model: The model, the same on all processes.
        conditions: Condition of each image.
        seeds: Seed of each image.
        ranks: The processes; each calls this and iterates to the end.
        batch_size: Images sampled at once by each process; None for as many as memory holds, up to 64.
        source: Source of each image, for a model with a task.
        options: Other arguments of `generate`.
    """
    if source is not None:
        options["source"] = source
    if ranks.world_size == 1:
        return model.generate(conditions, seeds=seeds, batch_size=batch_size, **options)
    model.check_conditions(conditions)

    def generate(part: range) -> Iterator[Progress]:
        share = split_balanced(len(part), ranks.world_size)[ranks.rank]
        first, last = part.start + share.start, part.start + max(share.stop, share.start + 1)
        # A process without an image of its own samples the next one's too, so that all know shape and steps.
        own = slice(first, last) if last <= part.stop else slice(part.stop - 1, part.stop)
        shared = options | ({} if source is None else {"source": source[own]})
        progress = model.generate(conditions[own], seeds=seeds[own], batch_size=own.stop - own.start, **shared)
        return _gathered(progress, ranks, len(share), len(part))

    def on_all() -> int:
        return ranks.world_size * _fitting_everywhere(model, conditions, seeds, ranks, source, options)

    size = on_all if batch_size is None else batch_size * ranks.world_size
    return generate_in_batches(generate, len(conditions), size)


def _fitting_everywhere(
    model: Model,
    conditions: Sequence[Any],
    seeds: Sequence[int],
    ranks: Ranks,
    source: Tensor | None,
    options: dict[str, Any],
) -> int:
    """Images that every process has memory to sample at once; arguments as for `generate_on_ranks`.

    A process whose trial runs out of memory says 1, as the others wait for its number.
    """

    def trial(count: int) -> None:
        shared = options | ({} if source is None else {"source": source[:count]})
        model.trial_step(conditions[:count], seeds=seeds[:count], **shared)

    numbers = numbers_of_image(model.codec, output_size(model.task, source, model.size))
    try:
        own = largest_sampling_batch(trial, -(-len(conditions) // ranks.world_size), numbers, model.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        own = 1
        release_cached()
    return int(ranks.all_gather(torch.tensor([own]), ranks.world_size).min())


def _gathered(progress: Iterator[Progress], ranks: Ranks, own: int, count: int) -> Iterator[Progress]:
    """One batch of which each process samples a share; all get the finished images.

    Args:
        progress: Progress of this process.
        ranks: The processes.
        own: Images that this process adds to the batch.
        count: Images in the batch.
    """
    for each in _failing_together(progress, ranks):
        if not each.finished:
            yield each
            continue
        images = ranks.all_gather(each.images().cpu()[:own], count)
        x = ranks.all_gather(each.x.cpu()[:own], count)
        yield replace(each, x=x, decode=partial(_already_decoded, images))


def _failing_together(progress: Iterator[Progress], ranks: Ranks) -> Iterator[Progress]:
    """The same progress; if the images of one process are not finite, all raise before one waits for these images.

    Raises:
        NotFinite: In all processes.
    """
    failure: NotFinite | None = None
    last: Progress | None = None
    try:
        for each in progress:
            if each.finished:
                last = each
            else:
                yield each
    except NotFinite as error:
        failure = error
    if ranks.all_reduce_sum([failure is not None]) != [0]:
        raise failure or NotFinite("Sampling produced NaN or infinite values in another process. See its message.")
    assert last is not None
    yield last


def _already_decoded(images: Tensor, x: Tensor) -> Tensor:
    """The `Decode` of a gathered batch, of which each process has decoded its share."""
    return images
