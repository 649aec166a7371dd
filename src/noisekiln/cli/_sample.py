"""Sampling as the commands `sample`, `apply`, `cascade` and `demo` show it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisekiln.cli._painting import painting
from noisekiln.cli._show import say
from noisekiln.distributed.ranks import Ranks
from noisekiln.model.cascade import Model
from noisekiln.session.paint import paint


def sample(
    model: Model,
    wishes: Sequence[str | int | None],
    seeds: Sequence[int],
    folder: Path,
    *,
    batch: int = 64,
    ranks: Ranks | None = None,
    **settings: Any,
) -> None:
    """Paint into a folder with a progress bar; settings are those of `recipes.paint.paint`."""
    steps = model.count_steps(settings.get("steps"))
    ranks = ranks or Ranks()
    at_once = batch * ranks.world_size

    def kept(taken: int) -> str:
        finished = taken // steps * at_once
        if not finished:
            return "no picture was finished, so nothing was written"
        return f"{finished} of {len(wishes)} pictures are finished, and kept in {folder}"

    with painting(steps * -(-len(wishes) // at_once), kept) as step_done, ranks.detecting_lost_ranks():
        paint(model, wishes, seeds, folder, batch=batch, step_done=step_done, ranks=ranks, **settings)
    count = "1 picture" if len(wishes) == 1 else f"{len(wishes)} pictures"
    say(f"{count} in {folder}; look at {folder / 'grid.png'}")
