"""The plan of `train --dry-run`, measured."""

from collections.abc import Iterator

from noisekiln.monitor.measure import Measurement, probe
from noisekiln.runs.run import Run


def measured_plan(run: Run) -> Iterator[str]:
    """What the run would need, by a few real steps: aligned lines."""
    found = probe(run.settings, run.data, run.base, run.ranks)
    for name, told in (
        ("parameters", f"{run.parameters:,} trained"),
        ("work", _work(found, run.trainer.batch_size)),
        ("memory", _memory(found)),
        ("speed", f"{found.images_per_second:,.0f} images/s in {found.steps} steps just measured{_peak(found)}"),
        ("budget", _budget(run, found)),
        (
            "disk",
            f"{_size(found.checkpoint)} a checkpoint; {run.settings.keep_checkpoints} are kept, besides model and grids",
        ),
    ):
        yield f"  {name:<12}{told}"


def _work(found: Measurement, batch: int) -> str:
    if found.flops is None:
        return "cannot be counted: this network does not run under torch's counter of operations"
    return f"{_count(found.flops)}FLOP an image, {_count(found.flops * batch)}FLOP a step, forward and backward"


def _memory(found: Measurement) -> str:
    if found.memory is None:
        return "not counted by this system"
    return f"{_size(found.memory)} at most with {found.micro} images at once, besides the program and the images"


def _peak(found: Measurement) -> str:
    if found.share_of_peak is None:
        return ""
    return f", {found.share_of_peak:.0%} of the fastest matrix product here"


def _budget(run: Run, found: Measurement) -> str:
    """What is left of it, in the units that it does not say itself."""
    trainer, budget = run.trainer, run.trainer.budget
    images = [] if budget.images is None else [max(0, budget.images - trainer.images_seen)]
    if budget.minutes is not None:
        images.append(int(max(0.0, 60 * budget.minutes - trainer.seconds) * found.images_per_second))
    if not min(images):
        return "is spent already; a longer one goes on"
    count = -(-min(images) // trainer.batch_size) * trainer.batch_size  # whole steps
    hours = count / found.images_per_second / 3600
    epochs = count / len(run.data.train)
    return f"about {count:,} images, {epochs:,.1f} times through the data, in {_duration(hours)}"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _count(number: float) -> str:
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e6:.3g} M"
