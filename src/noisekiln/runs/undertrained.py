"""Whether a model has been trained for so short a time that its samples are not clear, by what was measured."""

from math import ceil
from pathlib import Path

from noisekiln.errors import counted
from noisekiln.plan.settings import Settings
from noisekiln.training import checkpoints

# Bundled portraits at 16x16 and 32x32, networks s and xs, batches of 16 and 64 (LOG.md): at 5,000 images faces can just
# be made out in the noise, at 20,000 they are clear; with larger batches the number of steps decides.
CLEAR_IMAGES, CLEAR_STEPS = 20_000, 300
RECOGNISABLE = 0.25  # of the images after which samples are clear


def clear_after(settings: Settings) -> int:
    """Images after which the samples of a model that was trained from scratch are clear."""
    return max(CLEAR_IMAGES, CLEAR_STEPS * (settings.batch_size or 1))


def about_undertrained_model(settings: Settings, images_seen: int, seconds: float | None = None) -> str | None:
    """What samples show so early, and which budget would be enough, in one line; None after longer training.

    Args:
        settings: Resolved settings; a model that is fine-tuned, or learns from a teacher, is never undertrained.
        images_seen: Images seen by training.
        seconds: Seconds of training at its end, for advice in settings; None when a model is sampled.
    """
    enough = clear_after(settings)
    if images_seen >= enough or settings.start is not None or settings.teacher is not None:
        return None
    look = "mostly noise" if images_seen < RECOGNISABLE * enough else "grainy"
    times = enough / max(images_seen, 1)
    budget = f"`images={enough}`"
    if not seconds:  # sampling has no such setting
        budget = f"{enough:,} images of training"
    elif settings.epochs:
        budget = f"`epochs={ceil(settings.epochs * times)}`"
    elif settings.minutes:
        budget = f"`minutes={_rounded_up(seconds / 60 * times)}`"
    return (
        f"after {counted(images_seen, 'image')} samples are still {look}; small images become clear with about "
        f"{budget}, larger ones later"
    )


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
