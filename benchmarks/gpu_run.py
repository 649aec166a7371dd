"""A short real run on a device: trained, sampled, and its grid kept."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import noisekiln as nk
from noisekiln.runs.events import End, Event, Note, Plan

MOST_MINUTES = 2.0
BESIDES = 25.0  # seconds for reading, trials, the last grid and saving


def train_for_real(data: str, device: str, out: Path, seconds: float, *, quick: bool = False) -> dict[str, Any]:
    """Train at the defaults for two minutes, or as long as there is time for.

    Args:
        data: What `noisekiln train` takes.
        device: "cuda", "mps" or "cpu".
        out: Folder for the last grid.
        seconds: Time for all of it.
        quick: Whether to take a few steps of a tiny network only.
    """
    notes: list[str] = []
    figures: dict[str, Any] = {"data": data}

    def watch(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        elif isinstance(event, Plan):
            notes.extend(event.notes)
            chosen = event.settings
            figures.update(model=chosen.model, precision=chosen.precision, compile=chosen.compile)
            figures.update(parameters=event.parameters, batch_size=chosen.batch_size)
        elif isinstance(event, End):
            figures.update(images_seen=event.images_seen, minutes=round(event.seconds / 60, 3))
            figures.update(images_per_second=round(event.images_seen / event.seconds, 1))

    budget: dict[str, Any] = {"minutes": max(0.1, min(MOST_MINUTES, (seconds - BESIDES) / 60))}
    if quick:
        budget = {"images": 64, "batch_size": 16, "model": "xs"}
    with tempfile.TemporaryDirectory() as folder:
        nk.train(data, out=folder, watch=watch, device=device, curves="none", **budget)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text("utf-8").splitlines()]
        grid = max((Path(folder) / "samples").glob("*.png"))
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(grid, out / "grid.png")
    losses = [line["loss"] for line in lines if "loss" in line]
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    figures.update(first_loss=losses[0], last_loss=losses[-1], held_out=held_out[-1] if held_out else None)
    return figures | {"grid": str(out / "grid.png"), "notes": notes}
