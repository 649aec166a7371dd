"""Files and lines of each room, and the moves between rooms of one training step and one sample.

    python tools/rooms.py

A move is a call from a function of one room to a function of another, with whatever lies outside of noisekiln in
between left out. A climb is a move to a room that stands higher in tests/test_layers.py.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import noisekiln
import noisekiln as nk
from noisekiln.data import load
from noisekiln.plan.build import make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings

SOURCE = Path(noisekiln.__file__).parent
sys.path.insert(0, str(SOURCE.parents[1] / "tests"))
from test_layers import LAYERS  # noqa: E402 (after the path)

NETWORK = "unet(widths=(32,),blocks=(1,),patch=1,condition=32)"


def room_of(file: str) -> str | None:
    """The room of a source file, or None for a file outside of the package."""
    path = Path(file)
    return path.relative_to(SOURCE).parts[0].removesuffix(".py") if path.is_relative_to(SOURCE) else None


Move = tuple[str, str, str]  # the room before, the room now, and the functions that call and are called


def moves(work: Callable[[], Any]) -> Counter[Move]:
    """Calls between rooms while some work is done."""
    found: Counter[Move] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        here = room_of(frame.f_code.co_filename)
        if event != "call" or here is None:
            return
        caller = frame.f_back
        while caller is not None and room_of(caller.f_code.co_filename) is None:
            caller = caller.f_back
        before = room_of(caller.f_code.co_filename) if caller is not None else None
        if caller is not None and before is not None and before != here:
            called = frame.f_code.co_qualname
            found[before, here, f"{caller.f_code.co_qualname} -> {called}"] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def report(title: str, found: Counter[Move]) -> None:
    """Print the moves of some work; one from function to function counts once, however often it is made."""
    height = {room: number for number, room in enumerate(LAYERS)}
    climbs = sum(height.get(after, 0) > height.get(before, 0) for before, after, _ in found)
    rooms = {room for before, after, _ in found for room in (before, after)}
    print(f"{title}: {len(found)} moves between {len(rooms)} rooms, {climbs} of them climbs")
    for (before, after), count in Counter(move[:2] for move in found).most_common(6):
        print(f"    {count:4} {before} -> {after}")


def main() -> None:
    """Print everything."""
    files = list(SOURCE.rglob("*.py"))
    rooms: dict[str, list[int]] = {}
    for file in files:
        rooms.setdefault(room_of(str(file)) or "", []).append(len(file.read_text(encoding="utf-8").splitlines()))
    print(f"{len(files)} files, {sum(map(sum, rooms.values())):,} lines; the largest rooms:")
    for room, lines in sorted(rooms.items(), key=lambda pair: -sum(pair[1]))[:8]:
        print(f"    {room:14} {len(lines):3} files {sum(lines):6,} lines")
    data = load("portraits")
    settings = Settings(images=64, batch_size=4, backbone=NETWORK, curves="none")
    steps = make_trainer(resolve(settings, data), data).run()
    next(steps)
    report("a training step", moves(lambda: next(steps)))
    with tempfile.TemporaryDirectory() as folder:
        train = partial(nk.train, "portraits", out=folder, images=4, batch_size=4, backbone=NETWORK, curves="none")
        report("nk.train, a run of one step", moves(train))
        model = nk.load(folder)
        report("a sample of one step", moves(lambda: model.sample(1, seed=0, steps=1)))


if __name__ == "__main__":
    main()
