"""Data and plan of a run in lines, and what `noisekiln train --dry-run` has measured of it."""

from collections.abc import Mapping, Sequence

from noisekiln.components.spec import class_of
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet
from noisekiln.errors import counted
from noisekiln.monitor.measure import Measurement
from noisekiln.plan.road import LATENT
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.runs.codec_events import CodecPlan
from noisekiln.runs.events import Measured, Plan
from noisekiln.runs.undertrained import look_of_samples

MAX_SKIPPED = 100  # files that are named


def describe_budget(settings: Settings) -> str:
    """The budget in words: "10 minutes", "2,000 images or 5 epochs"."""
    minutes = settings.minutes
    time = "" if minutes is None else counted(round(60 * minutes), "second") if minutes < 1 else _minutes(minutes)
    images = "" if settings.images is None else counted(settings.images, "image")
    epochs = "" if settings.epochs is None else counted(settings.epochs, "epoch")
    return " or ".join(filter(None, (time, images, epochs)))


def _minutes(minutes: float) -> str:
    return counted(round(minutes, 1), "minute")


def describe_data(data: DataSet) -> list[str]:
    """Summary of the images, in lines."""
    height, width = data.size
    kind = {1: "grey", 3: "RGB"}.get(data.channels, f"{data.channels} channels")
    held_out = f", {len(data.held_out):,} more held out" if data.held_out else ""
    pixels = f"{height}x{width} pixels" + (" (height x width)" if height != width else "")
    lines = [f"{data.name}: {counted(len(data.train), 'image')} of {pixels}, {kind}{held_out}"]
    return [*lines, *(f"  {note}" for note in data.notes)]


def describe_plan(plan: Plan) -> list[str]:
    """The plan, in lines."""
    settings, data = plan.settings, plan.data
    classes = counted(len(data.class_names), "class", "classes")
    kind = "none" if settings.cond == "none" else class_of(Conditioner, settings.cond).kind
    cond = {"class": classes, "text": "captions", "none": "unconditional"}.get(kind, f"{kind} conditions")
    network = str(settings.backbone).split("(")[0]
    adapter = f", an adapter of rank {settings.lora} with" if settings.lora else " of"
    task = "" if settings.task == GENERATE else f"{settings.task}, "
    lines = [
        f"plan: {network}{adapter} {plan.parameters / 1e6:.2f}M parameters, {task}{cond}, batch {settings.batch_size}, "
        f"{describe_budget(settings)} on {settings.device}",
        *(f"  {note}" for note in plan.notes),
    ]
    if settings.batch_size == len(data.train):
        lines.append("  batch size limited to the number of training images")
    if plan.images_seen and plan.share < 1:
        lines.append(f"resuming after {counted(plan.images_seen, 'image')}, {plan.share:.0%} of the budget")
    return lines


def describe_measurement(plan: Plan | CodecPlan, measured: Measurement) -> list[str]:
    """Work, memory, speed, budget and disk space of a run, in aligned lines."""
    batch_size = plan.settings.batch_size
    assert batch_size is not None
    kept = plan.settings.keep_checkpoints
    rows = {
        "parameters": f"{plan.parameters:,} trained",
        "work": _work(measured, batch_size),
        "memory": _memory_peak(measured),
        "speed": _speed(measured),
        "budget": _budget(plan, measured, batch_size),
        "disk": f"{_size(measured.checkpoint)} per checkpoint; {kept} are kept, plus the model and the grids",
    }
    return [f"  {name:<12}{text}" for name, text in rows.items()]


def describe_roads(roads: Mapping[str, Sequence[Measured]]) -> list[str]:
    """What each road would reach in the budget: the images that each of its networks would see, in aligned lines.

    Args:
        roads: What was measured of each, by name; the first is the one that would be taken.
    """
    lines = [
        f"  {name:<12}{_reach(found)}{'' if number else ' (chosen)'}"
        for number, (name, found) in enumerate(roads.items())
    ]
    return ["roads in this budget, and what their samples would look like, by the images seen:", *lines]


def _reach(found: Sequence[Measured]) -> str:
    counts = [(each.plan, _images_in_budget(each.plan, each.measurement)) for each in found]
    networks = ", ".join(f"{_network(plan)} {counted(count, 'image')}" for plan, count in counts)
    plan, count = next((plan, count) for plan, count in counts if isinstance(plan, Plan))
    look = f"; {look_of_samples(plan.settings, count)}" if plan.settings.task == GENERATE else ""
    return networks + look


def _network(plan: Plan | CodecPlan) -> str:
    if isinstance(plan, CodecPlan):
        return "codec"
    return "model of its latents" if plan.settings.road == LATENT else "x".join(map(str, plan.data.size))


def describe_skipped(data: DataSet) -> list[str]:
    """The files that cannot be used, a line each; the note on the data has only the first of each kind."""
    lines = [f"  skipped     {one.file}: {one.why}" for one in data.skipped[:MAX_SKIPPED]]
    more = len(data.skipped) - MAX_SKIPPED
    return [*lines, f"  ... and {more:,} more, which a run lists in its dataset.json"] if more > 0 else lines


def _work(measured: Measurement, batch_size: int) -> str:
    flops = measured.flops_per_image
    if flops is None:
        return "cannot be counted: this network does not run under torch's counter of operations"
    return f"{_with_unit(flops)}FLOP per image, {_with_unit(flops * batch_size)}FLOP per step, forward and backward"


def _memory_peak(measured: Measurement) -> str:
    if measured.memory is None:
        return "not counted by this system"
    at_once = f"a micro-batch of {counted(measured.micro_batch_size, 'image')}"
    return f"{_size(measured.memory)} at most with {at_once}, not counting the program and the images"


def _speed(measured: Measurement) -> str:
    steps = counted(measured.steps, "step")
    return f"{measured.images_per_second:,.0f} images/s in {steps} just measured{_peak(measured)}"


def _peak(measured: Measurement) -> str:
    if measured.share_of_peak is None:
        return ""
    return f", {measured.share_of_peak:.0%} of the fastest matrix product here"


def _budget(plan: Plan | CodecPlan, measured: Measurement, batch_size: int) -> str:
    """The rest of the budget: images, epochs, time."""
    images = _images_in_budget(plan, measured)
    if not images:
        return "used up; a larger one resumes training"
    count = -(-images // batch_size) * batch_size  # whole steps
    hours = count / measured.images_per_second / 3600
    epochs = count / len(plan.data.train)
    return f"about {counted(count, 'image')}, {epochs:,.1f} times through the data, in {_duration(hours)}"


def _images_in_budget(plan: Plan | CodecPlan, measured: Measurement) -> int:
    """Images that the rest of the budget holds."""
    settings = plan.settings
    limit = settings.image_budget(len(plan.data.train))
    images = [] if limit is None else [max(0, limit - plan.images_seen)]
    if settings.minutes is not None:
        images.append(int(max(0.0, 60 * settings.minutes - plan.seconds) * measured.images_per_second))
    return min(images)


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _with_unit(number: float) -> str:
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e6:.3g} M"
