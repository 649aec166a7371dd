"""The race: minutes on a CPU until 1,000 new images are nearly as good as real Fashion-MNIST ones.

    python benchmarks/speedrun.py --minutes 5 --record records/speedrun.json
    python benchmarks/speedrun.py --minutes 5 --sample "--steps 12" --record records/speedrun.json -- --lr 0.003
    python benchmarks/speedrun.py --target 1.5 --record records/speedrun.json

The rules are in records/speedrun.md. With --minutes, one budget is tried with every seed; with --target, the smallest
budget that reaches it is searched for with the first seed, by doubling and halving, and then tried with all. What
stands after `--` are options of `noisekiln train`. Needs Debian's `dataset-fashion-mnist`, or its four idx files in
--data.
"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import commands
from classifier import FASHION_CLASSIFIER, FASHION_MNIST, Judge, train_and_test, trained_classifier
from hardware import commit, hardware, hardware_line, is_busy, machine_kind

TARGETS = {"ratio 2.0": 2.0, "ratio 1.5": 1.5, "ratio 1.2": 1.2, "accuracy 90 %": 0.9}
COUNT = 1000  # samples that are judged
JUDGE = (0.915, 0.925)  # between which the classifier's accuracy on test images has to be
SEEDS = 3  # that an entry needs, at least
LEAST, MOST = 0.1, 240.0  # minutes between which a budget is searched for
NEAR = 1.1  # the search ends when the smallest budget that is enough is known to this factor
START, END = "<!-- entries -->\n", "<!-- end of entries -->\n"


@dataclass(frozen=True)
class Attempt:
    """One seed: what it took, and what its samples are worth.

    Attributes:
        seed: Seed of training.
        train_seconds: Seconds of the command that trains.
        sample_seconds: Seconds of the command that samples, with the entry's own options.
        unguided_seconds: The same without guidance.
        ratio: Fréchet ratio of the samples.
        accuracy: Share of the unguided samples that show the requested class.
        images_seen: Images seen in training.
    """

    seed: int
    train_seconds: float
    sample_seconds: float
    unguided_seconds: float
    ratio: float
    accuracy: float
    images_seen: int

    def reaches(self, target: str) -> bool:
        """Whether a target is reached."""
        limit = TARGETS[target]
        return self.accuracy >= limit if target.startswith("accuracy") else self.ratio <= limit

    def minutes(self, target: str) -> float:
        """Minutes that count: training, and sampling what is judged for this target."""
        sampling = self.unguided_seconds if target.startswith("accuracy") else self.sample_seconds
        return (self.train_seconds + sampling) / 60


def main() -> None:
    """Try one budget, or search for the smallest; print the result and write the entry."""
    arguments = parse(sys.argv[1:])
    machine = hardware()  # before anything of ours adds to the load
    if is_busy(machine):
        print("Something else is running on this machine: the times will not count.", flush=True)
    judge = prepared_judge(arguments.data, arguments.work)
    if not JUDGE[0] <= judge.test_accuracy <= JUDGE[1]:
        raise SystemExit(f"The rules ask for a judge within {JUDGE[0]:.1%} and {JUDGE[1]:.1%}: train it anew.")

    def attempt(minutes: float, seed: int) -> Attempt:
        return attempted(arguments, judge, minutes, seed)

    if arguments.target:
        start = arguments.minutes or 1.0
        minutes, attempts = search(attempt, f"ratio {arguments.target:.1f}", arguments.seeds, start)
    else:
        minutes, attempts = arguments.minutes, [attempt(arguments.minutes, seed) for seed in arguments.seeds]
    entry = entry_of(minutes, attempts, arguments, machine)
    print(json.dumps(entry, indent=2))
    if arguments.record:
        print(write_entry(entry, arguments.record))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; options of `noisekiln train` follow `--`."""
    ours, _, theirs = "\0".join(words).partition("\0--\0")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="budget of training; with --target, where the search begins")
    parser.add_argument("--target", type=float, choices=[2.0, 1.5, 1.2], help="search for the budget of this ratio")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--sample", type=shlex.split, default=[], help="options of `noisekiln sample`")
    parser.add_argument("--by", default="noisekiln", help="name of the entrant")
    parser.add_argument("--data", type=Path, default=Path(FASHION_MNIST))
    parser.add_argument("--work", type=Path, default=Path(".bench/speedrun"))
    parser.add_argument("--record", type=Path, help="JSON file of the entries; the table beside it is written anew")
    arguments = parser.parse_args(ours.split("\0") if ours else [])
    if not (arguments.minutes or arguments.target):
        parser.error("give --minutes, or a --target to search for")
    arguments.train = theirs.split("\0") if theirs else []
    return arguments


def prepared_judge(data: Path, work: Path, file: Path = FASHION_CLASSIFIER, count: int = COUNT) -> Judge:
    """The judge, whose classifier is kept in `file`.

    In `work` it puts a folder of the training part alone: what judges is never seen in training.
    """
    train, test = train_and_test(data)
    only = work / "fashion-mnist"
    only.mkdir(parents=True, exist_ok=True)
    for part in data.glob("train-*"):
        shutil.copy(part, only / part.name)
    judge = Judge(trained_classifier(*train, file), train, test, n=count)
    print(
        f"The judge is right on {judge.test_accuracy:.1%} of the test images; its floor is {judge.floor:.2f}.",
        flush=True,
    )
    return judge


def attempted(arguments: argparse.Namespace, judge: Judge, minutes: float, seed: int) -> Attempt:
    """Train once, sample twice, judge both."""
    data, run = arguments.work / "fashion-mnist", arguments.work / f"run_{seed}"
    trained = commands.train(data, run, ["--minutes", f"{minutes:g}", "--seed", str(seed), *arguments.train])
    count, first = len(judge.reference), ["--seed", str(1_000_000 * seed)]
    samples = commands.sample(run, run / "samples", count, [*first, *arguments.sample])
    unguided = commands.sample(run, run / "unguided", count, [*first, *arguments.sample, "--guidance", "1"])
    result = Attempt(
        seed=seed,
        train_seconds=round(trained.seconds, 1),
        sample_seconds=round(samples.seconds, 1),
        unguided_seconds=round(unguided.seconds, 1),
        ratio=round(judge(samples.images, samples.labels)[0], 3),
        accuracy=round(judge(unguided.images, unguided.labels)[1], 4),
        images_seen=trained.images_seen,
    )
    print(minutes, "minutes:", asdict(result), flush=True)
    return result


def search(
    attempt: Callable[[float, int], Attempt], target: str, seeds: Sequence[int], minutes: float
) -> tuple[float, list[Attempt]]:
    """The smallest budget in minutes that reaches a target with all seeds, and its attempts.

    The first seed decides while the budget is doubled, and halfway (geometrically) between one that is too small and
    one that is enough, until both are within `NEAR`; then all seeds try, with a tenth more each time that one fails.

    Raises:
        ValueError: If `MOST` minutes are not enough.
    """

    def first(budget: float) -> bool:
        if budget > MOST:
            raise ValueError(
                f"{target} is not reached in {MOST:g} minutes. Change the options of training or sampling."
            )
        return attempt(budget, seeds[0]).reaches(target)

    low = 0.0
    while not first(minutes):
        low, minutes = minutes, 2 * minutes
    while minutes > LEAST and (low == 0 or minutes / low > NEAR):
        middle = round((low * minutes) ** 0.5 if low else minutes / 2, 3)
        if first(middle):
            minutes = middle
        else:
            low = middle
    while True:
        attempts = [attempt(minutes, seed) for seed in seeds]  # the first again: it was selected for having passed
        if all(each.reaches(target) for each in attempts):
            return minutes, attempts
        minutes = round(NEAR * minutes, 3)
        if minutes > MOST:
            raise ValueError(f"{target} is not reached with every seed in {MOST:g} minutes. Change the options.")


def entry_of(
    minutes: float, attempts: Sequence[Attempt], arguments: argparse.Namespace, machine: dict[str, Any]
) -> dict[str, Any]:
    """The entry of a budget: for each target, the mean minutes if every seed has reached it, otherwise None."""
    return {
        "by": arguments.by,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "command": shlex.join(["python", "benchmarks/speedrun.py", *sys.argv[1:]]),
        "train": shlex.join(arguments.train),
        "sample": shlex.join(arguments.sample),
        "minutes": minutes,
        "targets": {
            target: round(mean(each.minutes(target) for each in attempts), 2)
            if all(each.reaches(target) for each in attempts)
            else None
            for target in TARGETS
        },
        "seeds": [asdict(each) for each in attempts],
        "hardware": machine,
        "torch": torch.__version__,
    }


def write_entry(entry: dict[str, Any], record: Path) -> str:
    """Add an entry to the record, and write the table in the page beside it; returns what was done, in words."""
    if len({each["seed"] for each in entry["seeds"]}) < SEEDS:
        return f"Not an entry: it has fewer than {SEEDS} seeds. Nothing was written."
    entries = [*(json.loads(record.read_text(encoding="utf-8")) if record.exists() else []), entry]
    record.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    page = record.with_suffix(".md")
    if page.exists():
        before, _, rest = page.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        page.write_text(before + START + table(entries) + END + after, encoding="utf-8")
    return f"Written to {record}."


def table(entries: Sequence[dict[str, Any]]) -> str:
    """All entries in Markdown, newest last; minutes in bold are the fewest for a target on this hardware."""
    if not entries:
        return "No entries yet.\n"
    heading = ["entrant", "budget", *TARGETS, "Fréchet ratio", "accuracy", "options", "hardware", "commit, date"]
    lines = [heading, ["---"] * len(heading)]
    for entry in entries:
        options = " ".join(filter(None, [entry["train"], entry["sample"] and f"sample: {entry['sample']}"]))
        lines.append(
            [
                entry["by"],
                f"{entry['minutes']:g} min",
                *(_minutes(entry, target, entries) for target in TARGETS),
                " / ".join(f"{each['ratio']:.2f}" for each in entry["seeds"]),
                " / ".join(f"{100 * each['accuracy']:.1f}" for each in entry["seeds"]),
                f"`{options}`" if options else "defaults",
                hardware_line(entry["hardware"]),
                f"{entry['commit']}, {entry['date']}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _minutes(entry: dict[str, Any], target: str, entries: Sequence[dict[str, Any]]) -> str:
    minutes = entry["targets"][target]
    if minutes is None:
        return "-"
    machine = (entry["hardware"]["cpu"], machine_kind(entry["hardware"]))
    rivals = [e["targets"][target] for e in entries if (e["hardware"]["cpu"], machine_kind(e["hardware"])) == machine]
    best = min(each for each in rivals if each is not None)
    return f"**{minutes:.1f}**" if minutes == best else f"{minutes:.1f}"


if __name__ == "__main__":
    main()
