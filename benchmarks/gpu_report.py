"""Parts of a benchmark within a fixed time, guarded and recorded item by item."""

import json
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from noisekiln.machine.memory import release_cached

Results = dict[str, Any]
LINES = 12  # of a traceback that are kept
MOST_COLUMNS = 9  # of a table


class OutOfTime(BaseException):
    """The time of a part is over; no `except Exception` may keep it."""


@dataclass(frozen=True)
class Item:
    """One thing to do.

    Args:
        name: Its name in the record.
        work: Returns figures by name.
        needs_time: Whether `work` takes the seconds that are left.
    """

    name: str
    work: Callable[..., Results]
    needs_time: bool = False


@dataclass(frozen=True)
class Part:
    """Items that share some of the time.

    Args:
        name: Its name in the record.
        share: Of the whole time; what a part leaves over, the next ones have.
        items: Most important first.
    """

    name: str
    share: float
    items: Sequence[Item]


class Recorder:
    """Results by part and item, written to a JSON file whenever one is added.

    Args:
        file: The file; None for none.
        about: What is written before the results.
    """

    def __init__(self, file: Path | None, about: Results) -> None:
        self.file, self.about, self.parts = file, about, dict[str, dict[str, Results]]()

    def add(self, part: str, item: str, results: Results) -> None:
        """Add what an item returned."""
        self.parts.setdefault(part, {})[item] = results
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.about | {"parts": self.parts}, indent=2) + "\n", encoding="utf-8")

    def failed(self, part: str) -> list[str]:
        """The items of a part that raised."""
        return [item for item, results in self.parts.get(part, {}).items() if "error" in results]


def run_parts(parts: Sequence[Part], seconds: float, recorder: Recorder) -> None:
    """Work through all parts, and print a table of each.

    Args:
        parts: Most important first.
        seconds: Time for all; shares are of it.
        recorder: Keeps what comes out.
    """
    console, start_time = Console(width=160), time.monotonic()
    whole, end = sum(part.share for part in parts), start_time
    print(json.dumps(recorder.about), flush=True)
    for part in parts:
        end += seconds * part.share / whole
        for item in part.items:
            recorder.add(part.name, item.name, _guarded(item, end))
        console.print(_table(part.name, recorder.parts[part.name]))
    print(f"{time.monotonic() - start_time:.0f} of {seconds:.0f} s", flush=True)


def _guarded(item: Item, end: float) -> Results:
    """What an item returns, or the error that it raised, and the seconds that it took."""
    start_time = time.monotonic()
    if end - start_time < 0.05:
        return {"skipped": "no time left"}
    try:
        with _alarm(end - start_time):
            results = dict(item.work(end - start_time) if item.needs_time else item.work())
    except OutOfTime:
        results = {"skipped": "no time left within it"}
    except Exception as error:
        lines = traceback.format_exc().splitlines()
        results = {"error": f"{type(error).__name__}: {error}"[:2000], "where": lines[-LINES:]}
    _forget()
    return results | {"seconds": round(time.monotonic() - start_time, 2)}


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """While it is open, `OutOfTime` comes after some seconds."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _forget() -> None:
    """Give back the memory of an item, and what was compiled for it."""
    if "torch._dynamo" in sys.modules:  # otherwise a second is spent on importing it
        torch._dynamo.reset()
    release_cached()


def describe_machine(device: str) -> Results:
    """Card, driver, torch and Python, by name."""
    about: Results = {"device": device, "torch": torch.__version__, "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        about |= {
            "card": properties.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return about | {"processor": platform.machine(), "threads": torch.get_num_threads()}


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _table(name: str, results: dict[str, Results]) -> Table:
    """Items as rows; their figures as columns, or where they differ too much, as text."""
    columns = list(dict.fromkeys(column for each in results.values() for column in each if column != "where"))
    as_text = len(columns) > MOST_COLUMNS
    table = Table(title=name)
    for column in (name, *(["figures"] if as_text else columns)):
        table.add_column(column.replace("_", " "), overflow="fold")
    for item, each in results.items():
        cells = {column: _cell(each[column]) for column in columns if column in each}
        text = ", ".join(f"{column.replace('_', ' ')} {cell}" for column, cell in cells.items())
        table.add_row(item, *([text] if as_text else [cells.get(column, "") for column in columns]))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:300]
