"""Does a run that is struck at random moments end as if nothing had happened?

    python benchmarks/crash.py --record records/crash.json
    python benchmarks/crash.py --kills 0 --sigterms 0 --flips 0 --nans 0 --tmpfs --record records/crash_full_disk.json
    python benchmarks/crash.py --processes 2 --full-disks 0 --flips 0 --nans 0 --record records/crash_two_processes.json

Small runs on one thread save after every step, are struck, and go on, again and again, until they end: by `kill -9`;
by SIGTERM; by a disk that is full from a random write on; by `kill -9` and then a flipped bit in a random file of the
newest checkpoint; by a weight that is no number from a random step on, which has to end the run with 4. After every
blow all checkpoints are checked against their sums, and the model is loaded. At the end of each run its tensors, log,
pictures and model are compared with an uninterrupted one's, byte by byte. In every run, the uninterrupted one too, an
image of one batch is no number: that step must not be taken, and the log has to name the image.

With several processes, one of them is struck, and the others have to end by themselves; with `--shard` each of them
writes a part of every checkpoint. With `--tmpfs` runs lie on a disk in memory that is made too small, which takes the
rights to mount one; without it, writing is made to fail.

Runs are forked off this process, which saves the start of Python; POSIX only.
"""

import argparse
import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from noisekiln.data import DataSet, load
from noisekiln.distributed.sharded import to_local
from noisekiln.errors import Diverged, LostRank, SaveFailed
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model import diffusion
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.runs import run as run_module
from noisekiln.runs.run import Run
from noisekiln.training import checkpoints
from noisekiln.training.batches import Batch

SETTINGS = Settings(
    batch_size=16, backbone="unet(widths=(32,),blocks=(1,),patch=1,condition=32)", curves="none", timeout=20
)
FINISHED, STOPPED, DIVERGED, NO_ROOM, LOST = 0, 143, 4, 5, 6  # exit codes
LARGE = 256 << 20  # bytes: room for any run
RUINED = 5  # the step in which an image is no number
TIMED = ("seconds", "images_per_second", "seconds_left", "flops_per_second", "share_of_peak", "memory_gib")
BLOWS = {"kill": 100, "sigterm": 30, "full_disk": 30, "flip": 30, "nan": 30}  # how many of each, unless told otherwise


def train(
    folder: Path, data: DataSet, settings: Settings, place: dict[str, str], full_after: int | None, nan_at: int | None
) -> None:
    """A process of its own: train or go on, and end with a code.

    Args:
        folder: Of the run.
        data: To train on.
        settings: Of the run.
        place: What torchrun would say in the environment.
        full_after: From so many writes on, the disk is full.
        nan_at: In this step from here on, a weight becomes no number.
    """
    os.environ |= place
    if full_after is not None:
        fill_disk(full_after)
    try:
        run = Run(settings, data, folder)
        ruin_a_batch(run)
        with Interrupt() as interrupt:
            for number, _ in enumerate(run.steps(interrupt)):
                if number == nan_at:
                    ruin_a_weight(run)
    except SaveFailed:
        os._exit(NO_ROOM)
    except Diverged:
        os._exit(DIVERGED)
    except LostRank:
        os._exit(LOST)
    os._exit(FINISHED if run.trainer.share >= 1 else STOPPED)


def ruin_a_batch(run: Run) -> None:
    """Have an image of one batch be no number."""
    batches, ruined = run.trainer.rows.batches, RUINED * run.trainer.batch_size

    def ruinous(start: int, count: int, generator: torch.Generator) -> Batch:
        x, *others = batches(start, count, generator)
        if start == ruined:
            assert x is not None
            x[3] = torch.nan
        return x, *others

    run.trainer.rows.batches = ruinous


def ruin_a_weight(run: Run) -> None:
    """Have one be no number."""
    with torch.no_grad():
        weight = next(weight for weight in run.trained.parameters() if to_local(weight).numel())
        to_local(weight).view(-1)[0] = torch.nan


def fill_disk(after: int) -> None:
    """Have every write from the given one on fail in this process: synced files, and halves of tensors' files."""
    calls = count()
    sync, saves = os.fsync, {module: module.save_file for module in (checkpoints, diffusion)}

    def fsync(handle: int) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    def save_half(save: Callable[..., None]) -> Callable[..., None]:
        def save_file(tensors: Any, file: Path, **settings: Any) -> None:
            save(tensors, file, **settings)
            if next(calls) >= after:
                os.truncate(file, file.stat().st_size // 2)
                raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        return save_file

    os.fsync = fsync  # type: ignore[assignment]
    for module, save in saves.items():
        module.save_file = save_half(save)  # type: ignore[attr-defined]


def digest(file: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def unreadable(folder: Path, flipped: set[str]) -> int:
    """How many checkpoints and models of a run are not whole, but for files that were damaged on purpose."""
    bad = 0
    for place in (folder / "checkpoints").glob("[0-9]*"):
        if flipped & {digest(file) for file in place.iterdir()}:
            continue
        try:
            lines = [line.split("  ") for line in (place / "SHA256SUMS").read_text().splitlines()]
            parts = [*place.glob("part-*.safetensors")]
            bad += (
                len(lines) != 1 + len(parts) or not parts or any(digest(place / name) != told for told, name in lines)
            )
        except (OSError, ValueError):
            bad += 1
    if (folder / "model" / "model.json").exists():
        try:
            Diffusion.load(folder)
        except ValueError:
            bad += 1
    return bad


def drafts(folder: Path) -> set[Path]:
    """Files and folders that were being written."""
    return {*folder.rglob(".*.partial")}


def flip_bit(folder: Path, chance: random.Random, flipped: set[str]) -> bool:
    """Flip a bit of the newest checkpoint; whether that was noticed, and the one before it taken."""
    places = sorted((folder / "checkpoints").glob("[0-9]*[0-9]"))
    file = chance.choice(sorted(places[-1].iterdir()))
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    flipped.add(digest(file))
    found = checkpoints.newest(folder / "checkpoints")
    return found is not None and len(found.skipped) > 0 and found.numbers["images_seen"] == int(places[-2].stem)


def left_behind(folder: Path) -> dict[str, dict[Any, Any]]:
    """All that a run made, but for the time that it took."""
    found = checkpoints.newest(folder / "checkpoints")
    assert found is not None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = sorted(file for place in ("samples", "model", "ema") for file in (folder / place).iterdir())
    return {
        "tensors": {name: (str(t.dtype), t.numpy().tobytes()) for name, t in found.tensors.items()},
        "numbers": found.numbers | {"seconds": 0},
        "log": dict(enumerate({k: v for k, v in line.items() if k not in TIMED} for line in lines)),
        "files": {file.relative_to(folder): file.read_bytes() for file in files},
    }


def ended(group: list[BaseProcess]) -> list[int | None]:
    """The exit codes of processes, of which none may go on for ever."""
    for process in group:
        process.join(120)
    return [process.exitcode for process in group]


def differences(one: dict[str, dict[Any, Any]], other: dict[str, dict[Any, Any]]) -> list[str]:
    """Names of what two runs do not share."""
    return [
        f"{kind}: {name}"
        for kind in one
        for name in sorted(one[kind].keys() | other[kind].keys(), key=str)
        if one[kind].get(name) != other[kind].get(name)
    ]


def used(disk: Path) -> int:
    """Bytes that are taken on it."""
    return shutil.disk_usage(disk).used


def resize(disk: Path, size: int) -> None:
    """Make a disk in memory larger or smaller."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


class Storm:
    """Blows to be dealt, and what came of them.

    Args:
        data: To train on.
        settings: Of a run.
        left: How many blows of each kind.
        chance: Decides what comes when.
        processes: How many train together.
    """

    def __init__(
        self, data: DataSet, settings: Settings, left: dict[str, int], chance: random.Random, processes: int = 1
    ) -> None:
        self.data, self.settings, self.left, self.chance = data, settings, dict(left), chance
        self.processes = processes
        self.steps = (settings.images or 0) // (settings.batch_size or 1)
        self.disk: Path | None = None  # on which runs lie, if it can be made too small
        self.told, self.flipped = Counter[str](), set[str]()
        self.seconds = 0.0  # that a whole run takes

    def start(self, folder: Path, full_after: int | None = None, nan_at: int | None = None) -> list[BaseProcess]:
        """Processes that train together, or go on."""
        fork, started = multiprocessing.get_context("fork"), []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(self.processes):
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(self.processes)}
            place |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            args = (folder, self.data, self.settings, place, full_after, nan_at)
            started.append(fork.Process(target=train, args=args))
            started[-1].start()
        return list(started)

    def endure(self, folder: Path) -> None:
        """Train to the end, struck again and again, as long as there are blows left."""
        before = sum(self.left.values())
        while True:
            blows = [blow for blow, times in self.left.items() if times]
            if not blows:
                codes = ended(self.start(folder))
                assert set(codes) == {FINISHED}, codes
                break
            blow = self.chance.choice(blows)
            before_it = drafts(folder)
            if not self.strike(blow, folder):
                break
            self.left[blow] -= self.inspect(blow, folder, drafts(folder) - before_it)
        self.told["runs"] += 1
        self.told["runs that went on"] += sum(self.left.values()) < before

    def strike(self, blow: str, folder: Path) -> bool:
        """Train, and strike at a random moment; False if the run had ended before."""
        if blow == "full_disk" and self.disk is not None:
            resize(self.disk, used(self.disk) + self.chance.randrange(3 << 20))
            group = self.start(folder)
        elif blow == "full_disk":
            group = self.start(folder, full_after=self.chance.randrange(200))
        elif blow == "nan":
            group = self.start(folder, nan_at=self.chance.randrange(self.steps // 2))
        else:
            group = self.start(folder)
            group[0].join(self.chance.uniform(0, self.seconds / 2))
            struck = self.chance.choice(group)
            if struck.exitcode is None:
                os.kill(struck.pid or 0, signal.SIGTERM if blow == "sigterm" else signal.SIGKILL)
        codes = set(ended(group))
        if self.disk is not None:
            resize(self.disk, LARGE)
        if codes == {FINISHED}:
            return False
        # A SIGTERM before training has begun ends the process at once, as it does any other.
        expected = {"sigterm": {STOPPED, -signal.SIGTERM}, "full_disk": {NO_ROOM}, "nan": {DIVERGED}}.get(
            blow, {-signal.SIGKILL}
        )
        # Who has finished cannot lose the others any more; who has not, ends when one is lost.
        assert codes <= expected | ({LOST, FINISHED} if self.processes > 1 else set()), (blow, codes)
        return True

    def inspect(self, blow: str, folder: Path, left_over: set[Path]) -> bool:
        """Look at what the blow left, and flip a bit if that is part of it; whether it was a blow of its kind."""
        if blow == "full_disk":
            self.told["drafts left on a full disk"] += len(left_over)
        else:
            self.told["struck while writing"] += len(left_over) > 0
        self.told["unreadable"] += unreadable(folder, self.flipped)
        if blow != "flip":
            return True
        whole = checkpoints.newest(folder / "checkpoints")
        if whole is None or whole.skipped or len([*(folder / "checkpoints").glob("[0-9]*[0-9]")]) < 2:
            return False  # to damage the last good one is another question
        self.told["flipped bits"] += 1
        self.told["flipped bits noticed"] += flip_bit(folder, self.chance, self.flipped)
        return True


def main() -> None:
    """Strike, compare, tell, write the record; fail if anything was lost."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for blow, usual in BLOWS.items():
        ask.add_argument(f"--{blow.replace('_', '-')}s", type=int, default=usual, dest=blow)
    ask.add_argument("--images", type=int, default=800, help="Of a whole run, 16 a step.")
    ask.add_argument("--processes", type=int, default=1, help="That train together; strike with kill and SIGTERM only.")
    ask.add_argument("--shard", action="store_true", help="Weights are shared out over the processes.")
    ask.add_argument("--tmpfs", action="store_true", help="Runs lie on a disk in memory, which is made too small.")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--record", type=Path)
    given = ask.parse_args()
    torch.set_num_threads(1)
    run_module.CHECKPOINT_EVERY = run_module.LOG_EVERY = 0.0
    data = load(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))
    asked = {blow: getattr(given, blow) for blow in BLOWS}
    settings = SETTINGS.but(images=given.images, shard=given.shard)
    storm = Storm(data, settings, asked, random.Random(given.seed), given.processes)
    work = Path(tempfile.mkdtemp())
    Run(settings, data, work / "never")  # what torch loads late is loaded here, once
    begun = time.perf_counter()
    assert set(ended(storm.start(work / "whole"))) == {FINISHED}
    storm.seconds = time.perf_counter() - begun
    whole = left_behind(work / "whole")
    named = [line["not_taken"] for line in whole["log"].values() if "not_taken" in line]
    assert len(named) == 1, named
    if given.tmpfs:
        storm.disk = work / "disk"
        storm.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(storm.disk)], check=True)
    struck = (storm.disk or work) / "struck"
    try:
        while any(storm.left.values()):
            storm.endure(struck)
            differ = differences(left_behind(struck), whole)
            storm.told["runs bitwise equal"] += not differ
            for what in differ:
                print(f"run {storm.told['runs']} differs in {what}", file=sys.stderr)
            shutil.rmtree(struck)
    finally:
        if storm.disk is not None:
            subprocess.run(["umount", str(storm.disk)], check=True)
    shutil.rmtree(work)
    told = storm.told
    names = ("struck while writing", "runs", "runs that went on", "runs bitwise equal", "unreadable")
    more = ("drafts left on a full disk", "flipped bits", "flipped bits noticed")
    how = {"processes": given.processes, "sharded": given.shard, "full_disk": "tmpfs" if given.tmpfs else "made up"}
    figures: dict[str, Any] = (
        how
        | {"blows": asked, "named_of_the_ruined_batch": named[0]}
        | {name.replace(" ", "_"): told[name] for name in (*names, *more)}
    )
    figures["seconds_of_a_whole_run"] = round(storm.seconds, 2)
    figures["seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(figures, indent=2))
    if given.record:
        given.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    lost = told["runs"] - told["runs bitwise equal"] + told["unreadable"] + told["drafts left on a full disk"]
    sys.exit(1 if lost or told["flipped bits"] != told["flipped bits noticed"] else 0)


if __name__ == "__main__":
    main()
