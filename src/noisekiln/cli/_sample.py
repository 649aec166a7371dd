"""Sampling as the commands `sample` and `demo` show it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from noisekiln.cascade import Model
from noisekiln.cli._show import console, say
from noisekiln.find import did_you_mean
from noisekiln.recipes.paint import paint


def sample(
    model: Model,
    wishes: Sequence[str | int | None],
    seeds: Sequence[int],
    folder: Path,
    *,
    batch: int = 64,
    **settings: Any,
) -> None:
    """Paint into a folder with a progress bar."""
    steps = model.count_steps(settings.get("steps")) * -(-len(wishes) // batch)
    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("painting", total=steps)
        paint(model, wishes, seeds, folder, batch=batch, step_done=lambda: bar.advance(task), **settings)
    count = "1 picture" if len(wishes) == 1 else f"{len(wishes)} pictures"
    say(f"{count} in {folder}; look at {folder / 'grid.png'}")


def unknown_words(model: Model, prompts: Sequence[str]) -> None:
    """Say which words of the prompts the model never learned."""
    conditioner = model.conditioner
    if conditioner is None:
        return
    for word in dict.fromkeys(word for prompt in prompts for word in conditioner.unknown(prompt)):
        short = word if len(word) <= 40 else f"{word[:40]}..."
        told = f"note: the word {short!r} is in fewer than two training captions; it is ignored."
        say(f"{told} {did_you_mean(word, conditioner.words[:60])}")
