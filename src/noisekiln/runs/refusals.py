"""Refusals to resume a run with other settings or images: what differs, and each way out."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noisekiln.components.setting import rules_of
from noisekiln.components.spec_difference import differing_parts
from noisekiln.data import DataSet
from noisekiln.errors import NoisekilnError, counted, shorten
from noisekiln.plan.settings import Settings

NETWORK = "Network"  # group of the settings that a run copies from the model that it starts from


class OtherRun(NoisekilnError, ValueError):
    """A folder holds a run that is not the one that was asked for."""


def other_settings(run: Path, conflicts: Mapping[str, tuple[Any, Any]], *, has_model: bool) -> OtherRun:
    """The error for settings that a resumed run cannot change.

    Args:
        run: Folder of the run.
        conflicts: Settings, as name -> (now, before).
        has_model: Whether the run holds a model to start from.
    """
    shown = ", ".join(f"`{name}={old}` (now {new})" for name, (new, old) in _all_shown(conflicts))
    same_network = not any(rules_of(Settings)[name].group == NETWORK for name in conflicts)
    return OtherRun(
        f"{run} holds a run with other settings: {shown}. A run cannot change them midway. "
        f"Give the same settings to resume it, or another `out` for a new one"
        f"{_way_on(run) if has_model and same_network else ''}."
    )


def other_images(
    run: Path, before: Settings, count: int | None, data: DataSet, now: str, *, has_model: bool
) -> OtherRun:
    """The error for images that are not those of the run.

    Args:
        run: Folder of the run.
        before: Settings of its last start.
        count: Number of its images, if that is known.
        data: The images now.
        now: Their place.
        has_model: Whether the run holds a model to start from.
    """
    total = len(data.train) + (len(data.held_out) if data.held_out else 0)
    counts = "" if count is None or count == total else f" ({counted(count, 'image')} then, {total:,} now)"
    end = f"another `out` for a new run{_way_on(run) if has_model else ''}."
    if os.path.abspath(before.data) != os.path.abspath(now):
        return OtherRun(
            f"{run} was trained on the images of {before.data}, and those of {now} are others{counts}. "
            f"A run cannot change its data midway. Give {end}"
        )
    return OtherRun(
        f"The images of {data.name} are no longer those that {run} was trained on{counts}. "
        f"A run cannot change its data midway. Restore them, or give {end}"
    )


def check_single_run(folder: Path) -> None:
    """Raise ValueError if a folder holds a cascade, whose stages have the logs and the averages of a run."""
    stage = folder / "stage0"
    if (stage / "run.yaml").is_file():
        raise ValueError(
            f"{folder} is a cascade, and each of its stages is a run with a log and averages of its own. "
            f"Give one of them, such as {stage}."
        )


def _way_on(run: Path) -> str:
    return f", with `start={run}` to go on from this model"


def _all_shown(conflicts: Mapping[str, tuple[Any, Any]]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The settings with values as the user writes them; of two specs of one component, what differs."""
    for name, (new, old) in conflicts.items():
        pair = differing_parts(new, old) if isinstance(new, str) and isinstance(old, str) else (new, old)
        yield name, (_shown(pair[0]), _shown(pair[1]))


def _shown(value: object) -> str:
    """A setting's value as the user writes it: 24x48 for a size."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else shorten(str(value), 120)
