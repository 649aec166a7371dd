r"""Does a run that fails at random moments end as if nothing had happened?

    python benchmarks/crash.py --record records/crash.json
    python benchmarks/crash.py --kills 0 --sigterms 0 --flips 0 --nans 0 --tmpfs --record records/crash_full_disk.json
    python benchmarks/crash.py --processes 2 --full-disks 0 --flips 0 --nans 10 --images 320 \
        --record records/crash_two_processes.json
    python benchmarks/crash.py --processes 2 --shard --kills 30 --sigterms 10 --full-disks 0 --flips 0 --nans 5 \
        --images 320 --record records/crash_sharded.json

Small runs on one thread save after every step, get a fault, and are resumed, again and again, until they end. Faults:
`kill -9`; SIGTERM; a disk that is full from a random write on; `kill -9` and then a flipped bit in a random file of the
newest checkpoint; a weight that is NaN from a random step on, which has to end the run with exit code 4. After every
fault all checkpoints are compared with their checksums, and the model is loaded. At the end of each run its tensors,
log, grids and model are compared with an uninterrupted one's, byte by byte. In every run, the uninterrupted one too, an
image of one batch is NaN: that step must be skipped, and the log has to name the image.

With several processes one of them gets the fault, and the others have to end by themselves; with `--shard` each of them
writes a part of every checkpoint. With `--tmpfs` runs lie on a disk in memory that is made too small, which takes the
right to mount one; without it, writing is made to fail.

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
from unittest.mock import patch

import numpy as np
import torch
from safetensors import SafetensorError

from noisekiln.data import DataSet, load
from noisekiln.distributed.sharded import to_local
from noisekiln.errors import Diverged, LostRank, SaveFailed
from noisekiln.files import model_folder
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.run import Run
from noisekiln.training import checkpoints, shards
from noisekiln.training.batches import Batch

SETTINGS = Settings(
    batch_size=16, backbone="unet(widths=(32,),blocks=(1,),patch=1,condition=32)", curves="none", timeout=20
)
ALWAYS = Intervals(log_seconds=0.0, checkpoint_seconds=0.0)
FINISHED, STOPPED, DIVERGED, NO_ROOM, LOST = 0, 143, 4, 5, 6  # exit codes
LARGE = 256 << 20  # bytes: room for any run
RUINED = 5  # the step in which an image is NaN
TIMED = ("seconds", "images_per_second", "seconds_left", "flops_per_second", "share_of_peak", "memory_gib")
FAULTS = {"kill": 100, "sigterm": 30, "full_disk": 30, "flip": 30, "nan": 30}  # how many of kind by default


def train(
    folder: Path, data: DataSet, settings: Settings, place: dict[str, str], full_after: int | None, nan_at: int | None
) -> None:
    """A separate process: train or resume, and end with a code.

    Args:
        folder: Folder of the run.
        data: The images.
        settings: Settings of the run.
        place: Environment variables that torchrun would set.
        full_after: Number of writes after which the disk is full.
        nan_at: Number of the step, from here on, after which a weight is NaN.
    """
    os.environ |= place
    if full_after is not None:
        fill_disk(full_after)
    try:
        run = Run(settings, data, folder, intervals=ALWAYS)
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
    """Make an image of one batch NaN."""
    batches, ruined = TrainingBatches.__call__, RUINED * run.trainer.batch_size

    def ruinous(self: TrainingBatches, start: int, count: int, generator: torch.Generator) -> Batch:
        x, *others = batches(self, start, count, generator)
        if start == ruined and self is run.trainer.batches:
            assert x is not None
            x[3] = torch.nan
        return x, *others

    patch.object(TrainingBatches, "__call__", ruinous).start()


def ruin_a_weight(run: Run) -> None:
    """Make a weight NaN."""
    with torch.no_grad():
        weight = next(weight for weight in run.learner.parameters() if to_local(weight).numel())
        to_local(weight).view(-1)[0] = torch.nan


def fill_disk(after: int) -> None:
    """Make every write from number `after` on fail in this process: synced files, and halves of tensors' files."""
    calls = count()
    sync, saves = os.fsync, {module: module.save_file for module in (shards, model_folder)}

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
                len(lines) != 1 + len(parts)
                or not parts
                or any(digest(place / name) != checksum for checksum, name in lines)
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
    """Flip a bit of the newest checkpoint; whether that was noticed, and the one before it read."""
    places = sorted((folder / "checkpoints").glob("[0-9]*[0-9]"))
    file = chance.choice(sorted(places[-1].iterdir()))
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    flipped.add(digest(file))
    found = checkpoints.load_newest(folder / "checkpoints")
    return found is not None and len(found.skipped) > 0 and found.state["images_seen"] == int(places[-2].stem)


def left_behind(folder: Path) -> dict[str, dict[Any, Any]]:
    """All that a run made, but for the time that it took."""
    found = checkpoints.load_newest(folder / "checkpoints")
    assert found is not None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = sorted(file for place in ("samples", "model", "ema") for file in (folder / place).iterdir())
    files += [folder / name for name in ("data.png", "forward.png", "denoising.gif")]
    return {
        "tensors": {name: (str(t.dtype), t.numpy().tobytes()) for name, t in found.tensors.items()},
        "numbers": found.state | {"seconds": 0},
        "log": dict(enumerate({k: v for k, v in line.items() if k not in TIMED} for line in lines)),
        "files": {file.relative_to(folder): file.read_bytes() for file in files},
    }


def ended(group: list[BaseProcess]) -> list[int | None]:
    """The exit codes of processes, none of which may run forever."""
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
    """Bytes in use on a disk."""
    return shutil.disk_usage(disk).used


def resize(disk: Path, size: int) -> None:
    """Make a disk in memory larger or smaller."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


class FaultInjection:
    """Failures to inject, and their results.

    Args:
        data: To train on.
        settings: Of a run.
        left: How many faults of each kind.
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
        self.counts, self.flipped = Counter[str](), set[str]()
        self.seconds = 0.0  # that a whole run takes

    def start(self, folder: Path, full_after: int | None = None, nan_at: int | None = None) -> list[BaseProcess]:
        """Processes that train together, or resume."""
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

    def train_through(self, folder: Path) -> None:
        """Train to the end, with one fault after another, as long as there are any left."""
        before = sum(self.left.values())
        while True:
            faults = [fault for fault, times in self.left.items() if times]
            if not faults:
                codes = ended(self.start(folder))
                assert set(codes) == {FINISHED}, codes
                break
            fault = self.chance.choice(faults)
            before_it = drafts(folder)
            if not self.inject(fault, folder):
                break
            self.left[fault] -= self.inspect(fault, folder, drafts(folder) - before_it)
        self.counts["runs"] += 1
        self.counts["runs that went on"] += sum(self.left.values()) < before

    def inject(self, fault: str, folder: Path) -> bool:
        """Train, and inject a fault at a random moment; False if the run had ended before."""
        if fault == "full_disk" and self.disk is not None:
            resize(self.disk, used(self.disk) + self.chance.randrange(3 << 20))
            group = self.start(folder)
        elif fault == "full_disk":
            group = self.start(folder, full_after=self.chance.randrange(200))
        elif fault == "nan":
            group = self.start(folder, nan_at=self.chance.randrange(self.steps // 2))
        else:
            group = self.start(folder)
            group[0].join(self.chance.uniform(0, self.seconds / 2))
            victim = self.chance.choice(group)
            if victim.exitcode is None:
                os.kill(victim.pid or 0, signal.SIGTERM if fault == "sigterm" else signal.SIGKILL)
        codes = set(ended(group))
        if self.disk is not None:
            resize(self.disk, LARGE)
        if codes == {FINISHED}:
            return False
        # A SIGTERM before training has begun ends the process at once, as it does any other.
        expected = {"sigterm": {STOPPED, -signal.SIGTERM}, "full_disk": {NO_ROOM}, "nan": {DIVERGED}}.get(
            fault, {-signal.SIGKILL}
        )
        # Who has finished cannot lose the others any more; who has not, ends when one is lost.
        assert codes <= expected | ({LOST, FINISHED} if self.processes > 1 else set()), (fault, codes)
        return True

    def inspect(self, fault: str, folder: Path, left_over: set[Path]) -> bool:
        """Check what a fault left, and flip a bit if that is part of it; whether it counts as a fault of its kind."""
        if fault == "full_disk":
            self.counts["drafts left on a full disk"] += len(left_over)
        else:
            self.counts["interrupted while writing"] += len(left_over) > 0
        self.counts["unreadable"] += unreadable(folder, self.flipped)
        if fault != "flip":
            return True
        whole = checkpoints.load_newest(folder / "checkpoints")
        if whole is None or whole.skipped or len([*(folder / "checkpoints").glob("[0-9]*[0-9]")]) < 2:
            return False  # to damage the last good one is another question
        self.counts["flipped bits"] += 1
        self.counts["flipped bits noticed"] += flip_bit(folder, self.chance, self.flipped)
        return True


def main() -> None:
    """Inject faults, compare, print, write the record; fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for fault, default in FAULTS.items():
        parser.add_argument(f"--{fault.replace('_', '-')}s", type=int, default=default, dest=fault)
    parser.add_argument("--images", type=int, default=800, help="Images of a whole run, 16 a step.")
    parser.add_argument(
        "--processes", type=int, default=1, help="Processes that train together; for kills and SIGTERMs only."
    )
    parser.add_argument("--shard", action="store_true", help="Shard the weights over the processes.")
    parser.add_argument("--tmpfs", action="store_true", help="Put runs on a disk in memory that is made too small.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))
    numbers = {fault: getattr(arguments, fault) for fault in FAULTS}
    settings = SETTINGS.replace(images=arguments.images, shard=arguments.shard)
    injection = FaultInjection(data, settings, numbers, random.Random(arguments.seed), arguments.processes)
    work = Path(tempfile.mkdtemp())
    Run(settings, data, work / "never")  # what torch loads late is loaded here, once
    start_time = time.perf_counter()
    folder = work / "whole" / "run"  # pictures hold the name of their run's folder, which is the same for both
    assert set(ended(injection.start(folder))) == {FINISHED}
    injection.seconds = time.perf_counter() - start_time
    whole = left_behind(folder)
    named = [line["skipped_step"] for line in whole["log"].values() if "skipped_step" in line]
    assert len(named) == 1, named
    if arguments.tmpfs:
        injection.disk = work / "disk"
        injection.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(injection.disk)], check=True)
    faulty = (injection.disk or work) / "run"
    try:
        while any(injection.left.values()):
            injection.train_through(faulty)
            differ = differences(left_behind(faulty), whole)
            injection.counts["runs bitwise equal"] += not differ
            for what in differ:
                print(f"run {injection.counts['runs']} differs in {what}", file=sys.stderr)
            shutil.rmtree(faulty)
    finally:
        if injection.disk is not None:
            subprocess.run(["umount", str(injection.disk)], check=True)
    shutil.rmtree(work)
    counts = injection.counts
    names = ("interrupted while writing", "runs", "runs that went on", "runs bitwise equal", "unreadable")
    more = ("drafts left on a full disk", "flipped bits", "flipped bits noticed")
    how = {
        "processes": arguments.processes,
        "sharded": arguments.shard,
        "full_disk": "tmpfs" if arguments.tmpfs else "made up",
    }
    figures: dict[str, Any] = (
        how
        | {"faults": numbers, "named_of_the_ruined_batch": named[0]}
        | {name.replace(" ", "_"): counts[name] for name in (*names, *more)}
    )
    figures["seconds_of_a_whole_run"] = round(injection.seconds, 2)
    figures["seconds"] = round(time.perf_counter() - start_time, 1)
    print(json.dumps(figures, indent=2))
    if arguments.record:
        arguments.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    lost = counts["runs"] - counts["runs bitwise equal"] + counts["unreadable"] + counts["drafts left on a full disk"]
    sys.exit(1 if lost or counts["flipped bits"] != counts["flipped bits noticed"] else 0)


if __name__ == "__main__":
    main()
