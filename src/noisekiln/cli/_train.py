"""Training as the commands `train` and `demo` show it."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import typer
from rich.progress import Progress

from noisekiln.cli._show import console, say, speaks, watch
from noisekiln.data import DataSet
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.lock import Lock
from noisekiln.plan.images import GENERATE, read_images
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run


def read_data(source: str, size: int | tuple[int, int] | None = None, task: str = GENERATE) -> DataSet:
    """Read the images with a progress bar, and say what was understood of them."""
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task("reading images", total=None)
        data = read_images(
            source, task, size=size, progress=lambda done, total: bar.update(row, completed=done, total=total)
        )
    height, width = data.size
    kinds = {1: "grey", 3: "RGB"}.get(data.channels, f"{data.channels} channels")
    held_out = f", {len(data.held_out):,} more held out" if data.held_out else ""
    pixels = f"{height}x{width} pixels" + (" (height x width)" if height != width else "")
    say(f"{data.name}: {len(data.train):,} images of {pixels}, {kinds}{held_out}")
    for note in data.notes:
        say(f"  {note}")
    for skipped in data.skipped[:5]:
        say(f"  skipped {skipped.file}: {skipped.why}")
    if len(data.skipped) > 5:
        say(f"  ... and {len(data.skipped) - 5} more, listed in the run's dataset.json")
    return data


def describe_plan(run: Run) -> None:
    """Say what will be trained."""
    chosen, trainer = run.settings, run.trainer
    minutes = [f"{chosen.minutes:g} minutes"] if chosen.minutes else []
    budget = " or ".join(minutes + ([f"{chosen.images:,} images"] if chosen.images else []))
    told = {"class": f"{len(run.data.class_names)} classes", "text": "captions", "none": "no condition"}[chosen.cond]
    name = str(chosen.backbone).split("(")[0]
    adapter = f", an adapter of rank {chosen.lora} with" if chosen.lora else " of"
    size = f"{name}{adapter} {run.parameters / 1e6:.2f}M parameters"
    task = "" if chosen.task == GENERATE else f"{chosen.task}, "
    say(f"plan: {size}, {task}{told}, batch {chosen.batch_size}, {budget} on {chosen.device}")
    for note in run.notes:
        say(f"  {note}")
    if chosen.batch_size == len(run.data.train):
        say("  a batch is the whole of the training images: there are no more")
    if run.resumed and trainer.share < 1:
        say(f"going on after {run.resumed:,} images, {trainer.share:.0%} of the budget")


def train(settings: Settings, data: DataSet, out: Path, again: str) -> Run:
    """Train with a progress bar; on Ctrl-C or SIGTERM save, say how to go on, and leave with 130 or 143."""
    if speaks:
        Lock(out).check()  # before anything is said of going on
    run = Run(settings, data, out)
    describe_plan(run)
    whole = all((out / "model" / name).exists() for name in ("model.json", "model.safetensors"))
    if run.trainer.share >= 1 and whole:  # otherwise it is written again
        say(f"{out} has used up its budget already. Give a longer one to go on, or another --out for a new run.")
        return run
    idle = 0
    with Interrupt() as interrupt:
        micro, uncompiled = run.trainer.micro_batch_size, run.uncompiled
        for report in watch(run.steps(interrupt), out.name, lambda: run.held_out.word):
            if not report.applied:
                idle += 1
                began = f"after {run.trainer.step_start:,} images a step was not taken"
                numbers = f"the loss is {report.loss:g}, its gradient's norm {report.grad_norm:g}"
                say(f"{began}: {numbers}; {run.why(report)}")
            if run.uncompiled != uncompiled:
                uncompiled = run.uncompiled
                say(f"the network cannot be compiled, and runs as it is: {uncompiled}")
            if report.micro_batch_size < micro:
                micro = report.micro_batch_size
                say(f"memory is short: from now on {micro} images at once, with the same result")
        if run.trainer.stopped_by and run.trainer.share < 1:
            say(f"stopped after {run.trainer.images_seen:,} images; all is saved in {out}. To go on:\n  {again}")
            raise typer.Exit(130 if run.trainer.stopped_by == signal.SIGINT else 143)
        say(f"done: {run.trainer.images_seen:,} images in {run.trainer.seconds / 60:.1f} minutes")
        if idle:
            say(f"{idle} step{'s' * (idle > 1)} came to nothing, as metrics.jsonl tells; a lower --lr may help")
        if run.held_out.verdict is not None:
            say(f"held-out images: {run.held_out.verdict.advice}")
        say(f"  grids  {out / 'samples'}\n  model  {out / 'model'}")
    return run


def command_line() -> str:
    """The command as the user gave it, to be given again."""
    several = "RANK" in os.environ
    words = [*(("torchrun", "...", "-m") if several else ()), "noisekiln", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
