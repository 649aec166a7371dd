"""Damaged and hostile input of every kind: no traceback, no hang, no write outside, and bounded memory.

    python benchmarks/fuzz.py --count 2000 --record records/fuzz.json
    python benchmarks/fuzz.py --only image.png spec --count 200 --seed 7
    python benchmarks/fuzz.py --only image.png --again 1234      # one input, with its traceback

Inputs are functions of (kind, seed). Each is used as a user would use it, in a process that is started again when it
dies. A finding is an error that the command line would show as a traceback, more than 2 s of processor time, more
memory than the limit, or a file opened for writing elsewhere. Findings are kept in `--out`.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from fuzz_inputs import Use, ignore_warnings, kinds, make_run  # noqa: E402
from fuzz_mutate import mutate  # noqa: E402
from noisekiln.cli import _explain  # noqa: E402

SECONDS = 2.0  # of processor time, at most
PATIENCE = 30.0  # seconds by the clock, after which the process is ended
MEMORY = 2 << 30  # bytes of address space that an input may add
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Fuzz all kinds, print a line for each, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first input")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="kinds, or beginnings of their names")
    parser.add_argument("--again", type=int, metavar="SEED", help="use one input of `--only` here, with its traceback")
    parser.add_argument("--out", type=Path, default=Path(".bench/fuzz"), help="folder for inputs that failed")
    parser.add_argument("--record", type=Path, help="JSON file for the counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "made" / "run"
        make_run(run)
        chosen = [name for name in kinds(run) if not options.only or name.startswith(tuple(options.only))]
        if options.again is not None:
            use_once(run, chosen[0], options.again, Path(folder))
            return
        results = {}
        for name in chosen:
            start_time = time.monotonic()
            outcomes = list(fuzz(run, name, range(options.seed, options.seed + options.count), options.out))
            results[name] = dict(Counter(outcomes))
            print(f"{name:44} {results[name]}  {time.monotonic() - start_time:.0f} s", flush=True)
    findings = sum(count for each in results.values() for outcome, count in each.items() if outcome not in FINE)
    print(f"{findings} findings in {sum(sum(each.values()) for each in results.values())} inputs")
    if options.record:
        record = {"command": sys.argv[1:], "kinds": results, "findings": findings}
        options.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(findings))


FINE = ("used", "refused")


def fuzz(run: Path, name: str, seeds: range, out: Path) -> Iterator[str]:
    """What became of each input of a kind: "used", "refused", or what is wrong.

    Args:
        run: Folder of the run of `make_run`.
        name: The kind.
        seeds: Seeds of the inputs.
        out: Folder for inputs that failed.
    """
    todo = list(seeds)
    while todo:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, run, name, todo), daemon=True)
        process.start()
        theirs.close()
        for outcome in _outcomes(ours, len(todo)):
            seed = todo.pop(0)
            if outcome[0] not in FINE:
                _keep(run, name, seed, outcome, out)
            yield outcome[0]
            if outcome[0] in ("hangs", "dies"):
                break
        process.kill()
        process.join()


def _outcomes(connection: Connection, count: int) -> Iterator[tuple[str, str]]:
    """(outcome, details) of each input, from a worker; the last is "hangs" or "dies" if it does not answer."""
    patience = 4 * PATIENCE  # it has to start first
    for _ in range(count):
        try:
            answered = connection.poll(patience)
            yield connection.recv() if answered else ("hangs", f"more than {PATIENCE} s")
        except EOFError:
            yield "dies", "the process ended"
            return
        if not answered:
            return
        patience = PATIENCE


def _keep(run: Path, name: str, seed: int, outcome: tuple[str, str], out: Path) -> None:
    place = out / name.replace("/", "_")
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{seed}.input").write_bytes(make_input(kinds(run)[name][0], name, seed))
    (place / f"{seed}.txt").write_text("\n".join(outcome) + "\n", encoding="utf-8")


def make_input(examples: Sequence[bytes], name: str, seed: int) -> bytes:
    """The input of a seed."""
    source = random.Random(f"{name}/{seed}")
    return mutate(source.choice(examples), source)


def use_once(run: Path, name: str, seed: int, folder: Path) -> None:
    """Use one input in this process."""
    examples, use = kinds(run)[name]
    data = make_input(examples, name, seed)
    print(name, seed, len(data), data[:300])
    box = folder / "box"
    box.mkdir()
    print(use(data, box))


# --- in the worker


def work(connection: Connection, run: Path, name: str, seeds: Sequence[int]) -> None:
    """Use the inputs of these seeds, and send what became of each."""
    examples, use = kinds(run)[name]
    ignore_warnings()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with tempfile.TemporaryDirectory() as folder:
        outside = _watch_writes((Path(folder), Path(tempfile.gettempdir())))
        use_input(examples[0], use, Path(folder))  # imports are made before memory is limited
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
        for seed in seeds:
            outcome = use_input(make_input(examples, name, seed), use, Path(folder))
            if outside:
                outcome = "writes outside", outside.pop()
            connection.send(outcome)


def use_input(data: bytes, use: Use, folder: Path) -> tuple[str, str]:
    """Use an input in an empty folder of this folder: its outcome and details."""
    box = folder / "box"
    box.mkdir()
    start_time = time.process_time()
    try:
        use(data, box)
        outcome = "used", ""
    except Exception as error:
        outcome = _judge(error)
    finally:
        shutil.rmtree(box, ignore_errors=True)
    if time.process_time() - start_time > SECONDS:
        return "slow", f"{time.process_time() - start_time:.1f} s"
    return outcome


def _judge(error: Exception) -> tuple[str, str]:
    """Whether an error is a refusal in noisekiln's words."""
    where = traceback.format_exc()[-3000:]
    try:
        message, _ = _explain(error)
    except Exception:
        return "traceback", where
    if isinstance(error, MemoryError) or message.startswith("Memory ran out"):
        return "memory", where
    if len(message) > 3000:
        return "endless message", message[:300] + where
    return "refused", message


def _watch_writes(allowed: Sequence[Path]) -> list[str]:
    """A list that receives the names of files that are opened for writing elsewhere."""
    found: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[2], int) or not arguments[2] & WRITES:
            return
        place = os.path.realpath(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else ""
        if place and not place.startswith((*map(str, allowed), "/dev/", "/proc/")):
            found.append(place)

    sys.addaudithook(hook)
    return found


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    main()
