"""From how many images on the samples of a model are clear, by what was measured on small images."""

from math import ceil

from noisekiln.errors import counted
from noisekiln.plan.settings import Settings

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
        seconds: Seconds of training at its end, for advice in minutes or epochs; None before the end.
    """
    enough = clear_after(settings)
    if images_seen >= enough or settings.start is not None or settings.teacher is not None:
        return None
    look = "mostly noise" if images_seen < RECOGNISABLE * enough else "grainy"
    times = enough / max(images_seen, 1)
    budget = f"images={enough}"
    if seconds and settings.epochs:
        budget = f"epochs={ceil(settings.epochs * times)}"
    elif seconds and settings.minutes:
        budget = f"minutes={_rounded_up(seconds / 60 * times)}"
    return (
        f"after {counted(images_seen, 'image')} samples are still {look}; small images become clear with about "
        f"`{budget}`, larger ones later"
    )


def _rounded_up(minutes: float) -> str:
    """Minutes, rounded up to a tenth below 3, else to a whole number."""
    return f"{ceil(10 * minutes) / 10:g}" if minutes < 3 else f"{ceil(minutes)}"
