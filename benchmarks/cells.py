"""Cells of a table that grows from day to day: each is measured once, and recorded as soon as it is known."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hardware import commit, hardware, hardware_line, is_busy

Cell = dict[str, Any]


def measure_cells(wanted: Iterable[Cell], measure: Callable[[Cell], Mapping[str, Any]], record: Path | None) -> None:
    """Measure the cells that a record lacks, print them, and add them to it with commit and hardware.

    Args:
        wanted: What tells each cell from the others.
        measure: Function from these to what was measured.
        record: The JSON file; None to print alone.
    """
    machine = hardware()
    if is_busy(machine):
        print("Something else is running on this machine: minutes are worth less than they should be.", flush=True)
    about = {"commit": commit(), "hardware": hardware_line(machine)}
    for cell in wanted:
        known: list[Cell] = json.loads(record.read_text()) if record is not None and record.exists() else []
        if any(cell.items() <= each.items() for each in known):
            continue
        found = cell | dict(measure(cell)) | about
        print(json.dumps(found), flush=True)
        if record is not None:
            record.write_text(json.dumps([*known, found], indent=1) + "\n", encoding="utf-8")
