"""Notes for the user at the start of a run, or when it is resumed."""

import re

from noisekiln.data import DataSet
from noisekiln.errors import counted
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.fine_tune import notes
from noisekiln.plan.settings import Settings


def start_notes(
    settings: Settings, data: DataSet, base: Diffusion | None, diffusion: Diffusion, *, before: int, now: int
) -> list[str]:
    """Notes about the model that a run starts from and about its processes, one line each.

    Args:
        settings: Resolved settings.
        data: The images.
        base: Model to fine-tune, if any.
        diffusion: The model that is trained.
        before: Number of processes that trained the state which is resumed.
        now: Number of processes.
    """
    lines = notes(settings, data, base, diffusion) if base else []
    if settings.flip and (word := _side_word(data)):
        lines.append(
            f"with `flip`, half of the images are mirrored, and their captions are not: those that say {word!r} become "
            "wrong. Omit `flip` if sides matter"
        )
    if before != now:
        lines.append(
            f"trained by {counted(before, 'process', 'processes')} before, by {now} from here on: "
            "the same images and noise, but sums are rounded differently"
        )
    return lines


def _side_word(data: DataSet) -> str | None:
    """The first word of the captions that names a side, if any."""
    found = (re.search(r"\b(left|right)\b", caption, re.IGNORECASE) for caption in data.train.captions or ())
    return next((each[0].lower() for each in found if each), None)
