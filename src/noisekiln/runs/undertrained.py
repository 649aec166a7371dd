"""Whether a model has been trained for so short a time that its samples are not clear, by what was measured."""

from math import ceil
from pathlib import Path

from noisekiln.errors import counted
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.training import checkpoints

# Bundled portraits at 16x16 and 32x32, networks s and xs, batches of 16 and 64 (LOG.md): at 5,000 images faces can just
# be made out in the noise, at 20,000 they are clear; with larger batches the number of steps decides.
CLEAR_IMAGES, CLEAR_STEPS = 20_000, 300
RECOGNISABLE = 0.25  # of the images after which samples are clear
SIDE_STEP, SMALLEST_SIDE = 8, 16  # pixels of a smaller size that is advised


def clear_after(settings: Settings) -> int:
    """Images after which the samples of a model that was trained from scratch are clear."""
    return max(CLEAR_IMAGES, CLEAR_STEPS * (settings.batch_size or 1))


def look_of_samples(settings: Settings, images_seen: float) -> str:
    """What samples of a model that was trained from scratch look like after so many images, in a word or two.

    Args:
        settings: Resolved settings.
        images_seen: Images seen by training.
    """
    share = images_seen / clear_after(settings)
    return "mostly noise" if share < RECOGNISABLE else "grainy" if share < 1 else "clear"


def about_undertrained_model(
    settings: Settings, images_seen: int, seconds: float | None = None, *, share: float = 1.0
) -> str | None:
    """What samples show so early, and which budget would be enough, in one line; None after longer training.

    Args:
        settings: Resolved settings; a model that is fine-tuned, or learns from a teacher, is never undertrained.
        images_seen: Images seen by training.
        seconds: Seconds of training at its end, for advice in settings; None when a model is sampled.
        share: Share of the whole budget that these settings have.
    """
    enough = clear_after(settings)
    if images_seen >= enough or settings.start is not None or settings.teacher is not None:
        return None
    times = enough / max(images_seen, 1)
    budget = f"`images={ceil(enough / share)}`"
    if not seconds:  # sampling has no such setting
        budget = f"{enough:,} images of training"
    elif settings.epochs:
        budget = f"`epochs={ceil(settings.epochs * times)}`"
    elif settings.minutes:
        budget = f"`minutes={_rounded_up(seconds / 60 * times / share)}`"
    look = look_of_samples(settings, images_seen)
    return (
        f"after {counted(images_seen, 'image')} samples are still {look}; small images become clear with about "
        f"{budget}, larger ones later"
    )


def about_short_budget(settings: Settings, images_per_second: float | None, *, share: float = 1.0) -> list[str]:
    """What samples will show if the budget holds too few images, and which would be enough, in one line; else none.

    Args:
        settings: Resolved settings; a task, a start and a teacher give samples another beginning than noise.
        images_per_second: Expected speed; None if it is unknown.
        share: Share of the whole budget that these settings have.
    """
    if settings.minutes is None or images_per_second is None or settings.task != GENERATE:
        return []
    expected = int(60 * settings.minutes * images_per_second)
    enough = clear_after(settings)
    if expected >= RECOGNISABLE * enough or settings.start is not None or settings.teacher is not None:
        return []
    assert isinstance(settings.size, tuple)
    whole = settings.minutes / share
    needed = f"`minutes={_rounded_up(enough / images_per_second / 60 / share)}`"
    smaller = _smaller_side(settings.size, expected / enough) if share == 1 else 0
    remedy = f"{needed}, or with `size={smaller}` in the same time" if smaller else needed
    time = counted(round(whole, 2), "minute")
    return [
        f"{settings.size[0]}x{settings.size[1]} pixels in {time} on this machine: about {expected:,} images are seen, "
        f"and samples will be mostly noise. They would become clear with about {remedy}"
    ]


def _smaller_side(size: tuple[int, int], share: float) -> int:
    """The longer side, a multiple of 8, at which training is as many times faster as `share` is below 1; 0 if none."""
    side = int(max(size) * share**0.5) // SIDE_STEP * SIDE_STEP
    return side if side >= SMALLEST_SIDE else 0


def about_undertrained_run(folder: Path) -> str | None:
    """What the samples of a run show so early, in one line; None after longer training, or if it is no run."""
    settings_file = folder / "run.yaml"  # no RunFolder: for training it imports what takes a second
    seen = checkpoints.list_images_seen(folder / "checkpoints") if settings_file.is_file() else []
    if not seen:
        return None
    try:
        return about_undertrained_model(Settings.read(settings_file), max(seen))
    except ValueError:  # a damaged run.yaml, which sampling does not need
        return None


def _rounded_up(minutes: float) -> str:
    """Minutes, rounded up to a tenth below 3, else to a whole number."""
    return f"{ceil(10 * minutes) / 10:g}" if minutes < 3 else f"{ceil(minutes)}"
