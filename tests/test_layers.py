"""Imports go strictly down the floors, and some words never appear."""

import ast
import re
from pathlib import Path

import pytest

import noisekiln

SOURCE = Path(noisekiln.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

FLOORS = {  # a module or room may import what stands on a lower floor, and its own room
    "levels": 0.0,
    "find": 0.0,
    "replacing": 0.0,
    "folder": 0.05,
    "estimate": 0.1,
    "spec": 0.1,
    "predictions": 1.0,
    "schedules": 1.0,
    "conditions": 1.0,
    "draws": 1.1,
    "labels": 1.1,
    "chain": 1.1,
    "blocks": 2.0,
    "operators": 2.1,
    "conditioners": 2.1,
    "codecs": 2.1,
    "backbones": 2.1,
    "inversion": 1.0,
    "tiling": 1.0,
    "tasks": 2.2,
    "denoiser": 3.0,
    "weights": 4.0,
    "objectives": 4.1,
    "samplers": 4.1,
    "inverse": 4.2,
    "guidance": 4.1,
    "sampling": 4.0,
    "diffusion": 5.0,
    "uses": 5.5,
    "stages": 5.1,
    "adapter": 5.1,
    "recipes": 6.0,
    "interop": 6.0,
    "facade": 6.1,
    "cli": 7.0,
    "web": 7.0,
    "__init__": 8.0,
    "__main__": 8.0,
}
ALONE = {"data", "training", "metrics", "pictures"}  # these know nothing of the floors
SEE_ALONE = {"recipes", "interop", "facade", "cli", "web", "__init__", "__main__"}  # and only these know of them
EXCEPTIONS = {("data", "pictures"), ("metrics", "pictures"), ("training", "replacing")}


def room(file):
    """The first part of a module's name: a room, or the module itself."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file):
    """Rooms that a file imports from, wherever in it: (room, line)."""
    package = ["noisekiln", *file.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = base + (node.module.split(".") if node.module else [])
            modules = [[*path, alias.name] for alias in node.names] if path == ["noisekiln"] else [path]
        else:
            continue
        for module in modules:
            if module[0] == "noisekiln" and len(module) > 1:
                there = (SOURCE / module[1]).is_dir() or (SOURCE / f"{module[1]}.py").is_file()
                yield (module[1] if there else "__init__"), node.lineno


EDGES = sorted(
    {(room(file), other, str(file.relative_to(SOURCE)), line) for file in FILES for other, line in imported(file)}
)


def test_every_room_has_a_floor():
    homeless = {room(file) for file in FILES} - set(FLOORS) - ALONE
    assert not homeless, f"say in FLOORS, on which floor {homeless} stand"


def test_imports_are_seen():
    assert ("samplers", "estimate") in {edge[:2] for edge in EDGES}
    assert ("draws", "schedules") in {edge[:2] for edge in EDGES}
    assert len(EDGES) > 100


def test_imports_go_strictly_down():
    up = [
        f"{file}:{line} imports {other}"
        for mine, other, file, line in EDGES
        if mine in FLOORS and other in FLOORS and mine != other and FLOORS[mine] <= FLOORS[other]
    ]
    assert not up, up


def test_data_training_and_metrics_know_nothing_of_diffusion():
    wrong = [
        f"{file}:{line} imports {other}"
        for mine, other, file, line in EDGES
        if mine in ALONE and other != mine and (mine, other) not in EXCEPTIONS
    ]
    assert not wrong, wrong


def test_only_the_top_knows_of_data_training_and_metrics():
    wrong = [
        f"{file}:{line} imports {other}"
        for mine, other, file, line in EDGES
        if other in ALONE and mine not in SEE_ALONE | ALONE
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("mine", ["samplers", "guidance"])
def test_how_to_move_and_where_to_aim_do_not_know_networks(mine):
    """All that they know of a model is `Denoise`."""
    wrong = [
        edge for edge in EDGES if edge[0] == mine and edge[1] in {"denoiser", "backbones", "conditions", "conditioners"}
    ]
    assert not wrong, wrong


def test_importing_noisekiln_imports_no_torch():
    """`noisekiln --help` answers at once; whoever needs torch imports it."""
    import subprocess
    import sys

    ask = "import sys, noisekiln; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


# --- words


def test_no_room_is_a_drawer():
    named = [part for file in FILES for part in file.relative_to(SOURCE).with_suffix("").parts]
    assert not {"utils", "util", "helpers", "common", "misc", "manager", "scheduler"} & set(named)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_is_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


FORBIDDEN = {
    r"prediction(\.name|_type)? ==": "predictions are pairs of coefficients; a new one needs no ladder",
    r"\bhasattr\(": "say in the type what there is",
    r"\.ndim <|\.dim\(\) <": "levels broadcast as they are",
    r"(import|from) torchvision\b": "it breaks CPU builds of torch; PIL, numpy and F.interpolate do all that is needed",
    r"\bpickle\.loads?\b|\bimport pickle\b": "a file from somebody else must not run code",
    r"weights_only\s*=\s*False|allow_pickle\s*=\s*True": "a file from somebody else must not run code",
    r"\byaml\.(unsafe_|full_)?load\(": "a file from somebody else must not run code",
    r"(?<![\w.])(eval|exec)\(": "text is parsed, never evaluated",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_some_words_never_appear(pattern):
    found = [
        f"{file.relative_to(SOURCE)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"{FORBIDDEN[pattern]}: {found}"


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if room(file) in FLOORS and FLOORS[room(file)] < 6],
    ids=lambda f: str(f.relative_to(SOURCE)),
)
def test_the_core_prints_nothing(file):
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
