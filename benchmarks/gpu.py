"""What a GPU does: checks against the CPU, speed of training and sampling, and a short real run, within minutes.

    python benchmarks/gpu.py --record records/gpu.json

It needs torch and the package's own dependencies, nothing else; `src` need not be installed. The parts come in order of
importance. A failure ends nothing but its own item; what there was no time for is listed as such. The record
is written after every item. The exit status is 1 if a check failed. `--device cpu --quick` walks all of it with tiny
sizes and no compiler.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products, before CUDA is initialized

import gpu_checks_graphs  # noqa: E402
import gpu_checks_sampling  # noqa: E402
import gpu_checks_training  # noqa: E402
from gpu_figures import (  # noqa: E402
    Bench,
    Case,
    compiled_speed,
    parts_of_a_step,
    sampling_speed,
    training_speed,
)
from gpu_report import Item, Part, Recorder, describe_machine, run_parts  # noqa: E402
from gpu_run import train_for_real  # noqa: E402
from noisekiln.machine.devices import pick_device  # noqa: E402

CASES = (Case("s", 32, "bf16"), Case("l", 64, "bf16"), Case("m", 32, "bf16"), Case("s", 64, "bf16"))


def main() -> None:
    """Run all parts, print tables, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for everything")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no compiler: for a CPU")
    parser.add_argument("--data", default="portraits", help="images of the real run, such as CIFAR-10 as .npz")
    parser.add_argument("--only", nargs="+", metavar="PART", help="only these parts: " + ", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path(".bench/gpu"), help="folder for the grid of the real run")
    parser.add_argument("--record", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    unknown = set(options.only or ()) - set(PARTS)
    if unknown:
        parser.error(f"there is no part called {', '.join(sorted(unknown))}. Give some of: {', '.join(PARTS)}")

    try:
        pick_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    recorder = Recorder(options.record, {"machine": describe_machine(options.device), "command": sys.argv[1:]})
    parts = plan(options)
    chosen = [part for part in parts if part.name in (options.only or PARTS)]
    run_parts(chosen, 60 * options.minutes, recorder)
    sys.exit(1 if recorder.failed("checks") else 0)


def plan(options: argparse.Namespace) -> list[Part]:
    """All parts, most important first, with their shares of the time."""
    device, quick = options.device, options.quick
    bench = Bench(device, 8, 16, 0.05, "eager") if quick else Bench(device)
    cases: Sequence[Case] = (Case("xs", 8, "fp32"),) if quick else CASES
    small, large, many = cases[0], cases[min(1, len(cases) - 1)], 4 if quick else 64
    run = Item("real run", partial(train_for_real, options.data, device, options.out, quick=quick), needs_time=True)
    items: dict[str, Sequence[Item]] = {
        "checks": checks(device),
        "training": [
            Item(f"{case}{GRAPHS * graphs}", partial(training_speed, bench, case, graphs=graphs))
            for case in cases
            for graphs in (False, True)
        ],
        "sampling": sampling(bench, [(small, 1), (small, many), (large, many)]),
        "run": [run],
        "details": [
            Item(f"parts of a step, {case}{GRAPHS * graphs}", partial(parts_of_a_step, bench, case, graphs=graphs))
            for case, graphs in ((small, False), (small, True), (large, True))
        ],
        "compiled": [Item(str(large), partial(compiled_speed, bench, large))],
    }
    return [Part(name, PARTS[name], items[name]) for name in PARTS]


PARTS = {"checks": 0.3, "training": 0.19, "sampling": 0.06, "run": 0.24, "details": 0.03, "compiled": 0.18}
GRAPHS = ", by CUDA graphs"


def checks(device: str) -> list[Item]:
    """What must be as on the CPU."""
    found = gpu_checks_training.CHECKS | gpu_checks_graphs.CHECKS | gpu_checks_sampling.CHECKS
    for slow in ("step in fp16", "compiled"):  # last: it is for older cards, and a compiler takes its time
        found[slow] = found.pop(slow)
    return [Item(name, partial(check, device)) for name, check in found.items()]


def sampling(bench: Bench, requests: Iterable[tuple[Case, int]]) -> list[Item]:
    """Latencies of requests for a number of images, eager and by CUDA graphs."""
    return [
        Item(f"{case} n={count}{GRAPHS * graphs}", partial(sampling_speed, bench, case, count, graphs=graphs))
        for case, count in requests
        for graphs in (False, True)
    ]


if __name__ == "__main__":
    main()
