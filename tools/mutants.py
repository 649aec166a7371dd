"""Plants single-symbol mistakes, one at a time, and reports which of them no test notices.

    python tools/mutants.py                          # those of tools/mutants.txt
    python tools/mutants.py --only samplers/ddim.py  # of some files
    python tools/mutants.py --make levels.py -n 20   # new ones, drawn at random from a file

Mistakes are planted in a copy of the working tree. The tests that run are those that name the file, its classes or its
functions; a line of the list may name other test files. The exit status is 1 if a mistake went unnoticed.
"""

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/noisekiln")
LIST = ROOT / "tools" / "mutants.txt"
MOST_FILES = 4  # of tests, for one mistake
SLOW = "test_distributed.py"  # its tests of two processes are slow ones
SECONDS = 240  # for the tests of one mistake; a mistake that makes them hang is caught
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "/", "/": "*",
    "min": "max", "max": "min", "and": "or", "or": "and", "True": "False", "False": "True", "sin": "cos", "cos": "sin",
    "floor": "ceil", "ceil": "floor", "sum": "mean", "mean": "sum", "0": "1", "1": "2", "2": "3",
}  # fmt: skip
TOKEN = re.compile(r"(?<![\w.=])(?:<=|>=|==|!=|\*\*|->|[<>+\-*/]|\b(?:min|max|and|or|True|False|[012])\b)(?![=\w.])")


@dataclass(frozen=True)
class Mistake:
    """One thing to plant.

    Args:
        path: File, relative to the package.
        was: Text of the file, which occurs there once.
        planted: Text that replaces it.
        tests: Test files to run; those that name the file if empty.
        harmless: Why it changes no result; None if a test has to notice it.
    """

    path: str
    was: str
    planted: str
    tests: tuple[str, ...] = ()
    harmless: str | None = None


def main() -> None:
    """Plant all mistakes, print a line for each, and what went unnoticed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="FILE", help="only mistakes in these files, such as levels.py")
    parser.add_argument("--make", nargs="+", metavar="FILE", help="draw mistakes at random from these files instead")
    parser.add_argument("-n", type=int, default=10, help="number of mistakes that are drawn from each file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    options = parser.parse_args()

    mistakes = read_list(LIST)
    if options.make:
        mistakes = [each for file in options.make for each in draw(file, options.n, options.seed)]
    if options.only:
        mistakes = [each for each in mistakes if each.path in options.only]
    unnoticed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        for mistake in mistakes:
            start_time = time.monotonic()
            verdict = try_mistake(tree, mistake)
            seconds = time.monotonic() - start_time
            print(f"{verdict:9} {seconds:4.0f} s  {mistake.path}: {mistake.was!r} -> {mistake.planted!r}", flush=True)
            if verdict not in ("caught", "harmless"):
                unnoticed.append(mistake)
    print(f"{len(mistakes) - len(unnoticed)} of {len(mistakes)} are caught, or change no result")
    sys.exit(bool(unnoticed))


def read_list(file: Path) -> list[Mistake]:
    r"""Mistakes of a list: ``path | was | planted [| tests: FILE ...] [| harmless: REASON]``; ``\n``: a new line."""
    return [_read_line(line) for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def _read_line(line: str) -> Mistake:
    path, was, planted, *others = (part.replace("\\n", "\n") for part in line.split(" | "))
    named = dict(other.split(": ", 1) for other in others)
    return Mistake(path, was, planted, tuple(named.get("tests", "").split()), named.get("harmless"))


def draw(path: str, count: int, seed: int) -> list[Mistake]:
    """Mistakes at random places of a file's code, whose lines are unique; comments and docstrings are left out."""
    text = (ROOT / PACKAGE / path).read_text("utf-8")
    found = []
    for line in _code(text):
        for token in TOKEN.finditer(line):
            if text.count(line) == 1 and token[0] in SWAPS:
                found.append(Mistake(path, line, f"{line[: token.start()]}{SWAPS[token[0]]}{line[token.end() :]}"))
    return random.Random(f"{seed}/{path}").sample(found, min(count, len(found)))


def _code(text: str) -> Iterator[str]:
    """Lines of the code inside of functions, without docstrings, comments and signatures."""
    lines = text.splitlines()
    wanted: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            for part in body:
                wanted |= set(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    for number in sorted(wanted):
        line = lines[number - 1]
        if not line.lstrip().startswith("#") and '"' not in line and "'" not in line:
            yield line.partition("  # ")[0]


def copy_tree(folder: Path) -> Path:
    """A copy of the working tree, with what git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def try_mistake(tree: Path, mistake: Mistake) -> str:
    """Plant a mistake, run the tests, and take it out: "caught", "UNNOTICED", "harmless", or what is wrong."""
    if mistake.harmless is not None:
        return "harmless"
    file = tree / PACKAGE / mistake.path
    text = file.read_text("utf-8") if file.is_file() else ""
    if text.count(mistake.was) != 1:
        return "NOT THERE"
    tests = mistake.tests or tests_of(tree, mistake.path)
    if not tests:
        return "NO TESTS"
    if not tests_pass_as_they_are(tree, tests):
        return "FAILS"
    file.write_text(text.replace(mistake.was, mistake.planted), "utf-8")
    try:
        return "UNNOTICED" if tests_pass(tree, tests) else "caught"
    finally:
        file.write_text(text, "utf-8")


def tests_of(tree: Path, path: str) -> tuple[str, ...]:
    """The test files that name a file of the package, or what it defines, most often first; else those of its users."""
    text = (tree / PACKAGE / path).read_text("utf-8")
    module = path.removesuffix(".py").replace("/", ".")
    names = [re.escape(module)]
    names += [re.escape(node.name) for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    pattern = re.compile(rf"\b(?:{'|'.join(name for name in names if not name.startswith('_'))})\b")
    counts = {file.name: len(pattern.findall(file.read_text("utf-8"))) for file in (tree / "tests").glob("test_*.py")}
    found = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])[:MOST_FILES]
    if found:
        return tuple(found)
    users = [
        file.relative_to(tree / PACKAGE).as_posix()
        for file in (tree / PACKAGE).rglob("*.py")
        if re.search(rf"\bfrom noisekiln\.{re.escape(module)} import", file.read_text("utf-8"))
    ]
    return tuple(dict.fromkeys(name for user in users for name in tests_of(tree, user)))[:MOST_FILES]


@cache
def tests_pass_as_they_are(tree: Path, tests: tuple[str, ...]) -> bool:
    """Whether tests pass without a mistake; otherwise they could catch none."""
    return tests_pass(tree, tests)


def tests_pass(tree: Path, tests: Sequence[str]) -> bool:
    """Whether all tests of some files pass, apart from slow ones, unless two processes are needed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [] if SLOW in tests else ["-m", "not slow"]
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        result = subprocess.run(
            [*command, *(f"tests/{name}" for name in tests)],
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode in (0, 5)  # 5: there was no test to run


if __name__ == "__main__":
    main()
