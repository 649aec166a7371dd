r"""Can every command be killed at any moment, and does the end stay the same to the byte?

    python benchmarks/crash_commands.py --kills 200 --images 160 --record records/crash_commands.json

Commands run as they are typed, on tiny images: `train` on plain images, on classes, on captions, with a task, as an
adapter of another run, and in two processes; `sample`; `ema` into another folder and into the run. Each is killed
(SIGKILL) at a random moment, and started again with the same words, again and again, until it ends. It must never be
refused. After each kill the run is sampled, unless it holds no model yet, and other averages are compared, unless it
has too few snapshots: these must not be refused either. At the end everything that the command has written is compared
with what an uninterrupted one writes, byte by byte, apart from times.

Commands are forked off this process, which saves the start of Python; POSIX only.
"""

import argparse
import inspect
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from noisekiln import api, cli
from noisekiln.cli import _sampling_bar, _watcher
from noisekiln.files.atomic import is_draft
from noisekiln.runs import ema_sheet, run_pictures

NETWORK = "unet(widths=(32,),blocks=(1,),patch=1,condition=32)"
TRAINING = f"--batch-size 16 --curves none --ema-snapshots 4 --backbone {NETWORK}"
COUNT = 24  # images of a data set
KILLS = "kills of "  # start of the name of a count
MANY = 20  # failures after which it ends
LOST = 6  # exit code of a process that has lost another one
TIMED = ("seconds", "images_per_second", "seconds_left", "flops_per_second", "share_of_peak", "memory_gib")
WITH_TIMES = (".lock", "environment.json", "loss.png", "SHA256SUMS")
LOADED = (_sampling_bar, _watcher, ema_sheet, run_pictures)  # what commands load late is loaded here, once


class Command(NamedTuple):
    """A command to kill.

    Attributes:
        name: Name in the record.
        words: The command, typed in a folder of data sets and runs.
        written: The folder that it writes.
        processes: Number of processes that it runs in.
        kept: Whether the folder exists before, and is copied.
    """

    name: str
    words: str
    written: str
    processes: int = 1
    kept: bool = False


def commands(images: int) -> list[Command]:
    """The commands, with the budget of each training in images seen."""
    training = f"{TRAINING} --images {images}"
    return [
        Command("train", f"train plain --out run {training}", "run"),
        Command("train, classes", f"train classes --out run {training}", "run"),
        Command("train, captions", f"train captions --out run {training}", "run"),
        Command("train, task", f"train plain --task upscale --out run {training}", "run"),
        Command("train, adapter", f"train classes --from base --lora 2 --out run {training}", "run"),
        Command("train, two processes", f"train plain --timeout 20 --out run {training}", "run", processes=2),
        Command("sample", "sample base -n 24 --steps 4 --batch-size 2 --out images", "images"),
        Command("ema, another folder", "ema base --write 0.1 --out averaged", "averaged"),
        Command("ema, in the run", "ema base --write 0.1", "base", kept=True),
    ]


def make_data(folder: Path) -> None:
    """Three data sets: plain images, images in folders of classes, and images with captions."""
    chance = np.random.default_rng(0)
    for i in range(COUNT):
        kind = ("cat", "dog")[i % 2]
        image = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        for place in (folder / "plain", folder / "classes" / kind, folder / "captions"):
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{i}.png")
        (folder / "captions" / f"{i}.txt").write_text(f"a {kind} in the grass\n", encoding="utf-8")


def execute(words: str, folder: Path, place: dict[str, str], output: Path) -> None:
    """A separate process: run a command as the shell would."""
    os.environ |= place
    os.chdir(folder)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["noisekiln", *words.split()]
    try:
        cli.main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    os._exit(0)


def started(words: str, folder: Path, processes: int, output: Path) -> list[BaseProcess]:
    """The processes of a command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    group = []
    for rank in range(processes):
        place = {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)} | address
        args = (words, folder, place if processes > 1 else {}, output.with_name(f"{output.name}{rank}"))
        group.append(multiprocessing.get_context("fork").Process(target=execute, args=args))
        group[-1].start()
    return list(group)


def ended(group: list[BaseProcess]) -> list[int | None]:
    """The exit codes of processes, none of which may run forever."""
    for process in group:
        process.join(180)
    return [process.exitcode for process in group]


def written_by(folder: Path) -> dict[str, Any]:
    """All that a command has written, but for times."""
    found: dict[str, Any] = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in WITH_TIMES):
        name = str(file.relative_to(folder))
        if file.name == "metrics.jsonl":
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            found[name] = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
        elif file.name == "state.json":
            found[name] = json.loads(file.read_text(encoding="utf-8")) | {"seconds": 0}
        elif file.name == "README.md":
            lines = file.read_text(encoding="utf-8").splitlines()
            found[name] = [line for line in lines if not line.startswith(("| Time |", "<!-- Written by"))]  # a checksum
        else:
            found[name] = file.read_bytes()
    return found


class Killing:
    """Kills commands, and counts what comes of it.

    Args:
        work: Folder with the data sets and the run `base`.
        seed: Seed of the moments.
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.chance = work, random.Random(seed)
        self.output = work / "output"
        self.counts = Counter[str]()
        self.failures: list[str] = []

    def run(self, command: Command, kills: int) -> None:
        """Kill a command this often in all, and compare each end with that of an uninterrupted one."""
        start_time = time.perf_counter()
        codes = ended(started(command.words, self.fresh(command), command.processes, self.output))
        seconds, expected = time.perf_counter() - start_time, written_by(self.work / "now" / command.written)
        self.check(set(codes) == {0}, command, f"uninterrupted: {codes}")
        left = kills
        while left > 0 and len(self.failures) < MANY:
            folder, before = self.fresh(command), left
            while self.killed(command, folder, seconds if left > 0 else None):
                left -= 1
                self.use(command, folder)
            found = written_by(folder / command.written)
            differing = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
            self.counts["ends"] += 1
            self.counts["ends after kills"] += left < before
            self.counts["bitwise equal"] += not differing
            self.check(not differing, command, f"differs in {', '.join(differing[:5])}")
        self.counts[f"{KILLS}{command.name}"] += kills - left

    def fresh(self, command: Command) -> Path:
        """The folder in which a command is typed, without what it writes."""
        folder = self.work / "now"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("plain", "classes", "captions", "base"):
            if command.kept and name == command.written:
                shutil.copytree(self.work / name, folder / name)
            else:
                (folder / name).symlink_to(self.work / name)
        return folder

    def killed(self, command: Command, folder: Path, seconds: float | None) -> bool:
        """Run a command and kill one of its processes within these seconds; False if it has ended before."""
        group = started(command.words, folder, command.processes, self.output)
        if seconds is not None:
            group[0].join(self.chance.uniform(0, seconds))
            victim = self.chance.choice(group)
            if victim.exitcode is None:
                os.kill(victim.pid or 0, signal.SIGKILL)
        codes = ended(group)
        was_killed = -signal.SIGKILL in codes
        expected = {0, -signal.SIGKILL, LOST} if was_killed else {0}
        self.check(set(codes) <= expected, command, f"exit codes {codes}: {self.said()}")
        self.counts["interrupted while writing"] += was_killed and any(map(is_draft, folder.rglob(".*")))
        return was_killed and set(codes) <= expected

    def use(self, command: Command, folder: Path) -> None:
        """Sample what a killed command has left, and compare other averages: neither may be refused."""
        written = folder / command.written
        if command.name == "sample" or not (written / "model" / "model.json").is_file():
            return
        if "task" not in command.name:
            self.must_run(command, folder, f"sample {command.written} -n 1 --steps 1 --out used")
        if len([*written.glob("ema/0*.safetensors")]) == 4:  # of fewer, not every average can be combined
            shutil.rmtree(folder / "average", ignore_errors=True)
            self.must_run(command, folder, f"ema {command.written} --write 0.1 --out average")

    def must_run(self, command: Command, folder: Path, words: str) -> None:
        """Run another command, which must not fail."""
        self.counts["other commands"] += 1
        codes = ended(started(words, folder, 1, self.output))
        self.check(codes == [0], command, f"then `{words}`: exit codes {codes}: {self.said()}")

    def said(self) -> str:
        """The last line of the last command."""
        file = self.output.with_name(f"{self.output.name}0")
        return next(iter(file.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]), "")

    def figures(self) -> dict[str, Any]:
        """The counts and the failures, for JSON."""
        kills = {name: count for name, count in self.counts.items() if name.startswith(KILLS)}
        others = {name.replace(" ", "_"): count for name, count in self.counts.items() if name not in kills}
        named = {name.removeprefix(KILLS): count for name, count in kills.items()}
        return {"kills": sum(kills.values()), "kills_by_command": named, **others, "failures": self.failures}

    def check(self, good: bool, command: Command, what: str) -> None:
        """Note a failure."""
        if not good:
            self.failures.append(f"{command.name}: {what}")
            print(self.failures[-1], file=sys.stderr, flush=True)


def main() -> None:
    """Kill, compare, print, write the record; fail if anything was refused or differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="In all, over all commands.")
    parser.add_argument("--images", type=int, default=320, help="Images of a training, 16 a step.")
    parser.add_argument("--only", default="", help="Only commands whose name has this text.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    intervals = inspect.signature(api.train).parameters["intervals"].default
    object.__setattr__(intervals, "checkpoint_seconds", 0.0)  # commands save after every step
    object.__setattr__(intervals, "log_seconds", 0.0)
    start_time = time.perf_counter()
    work = Path(tempfile.mkdtemp()).resolve()  # no TemporaryDirectory: a process of two removes it when it ends
    try:
        killing = Killing(work, arguments.seed)
        make_data(work)
        base = f"train plain --out base {TRAINING} --images {arguments.images}"
        assert ended(started(base, work, 1, killing.output)) == [0], killing.said()
        chosen = [each for each in commands(arguments.images) if arguments.only in each.name]
        for number, command in enumerate(chosen):
            first, last = (each * arguments.kills // len(chosen) for each in (number, number + 1))
            killing.run(command, last - first)
            figures = killing.figures() | {
                "images": arguments.images,
                "seconds": round(time.perf_counter() - start_time),
            }
            if arguments.record:  # after each command, as all of them take long
                arguments.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(work)
    print(json.dumps(figures, indent=2))
    sys.exit(1 if killing.failures else 0)


if __name__ == "__main__":
    main()
