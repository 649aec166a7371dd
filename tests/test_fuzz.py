"""Damaged and hostile input of every kind ends in use or in a refusal: the short form of `benchmarks/fuzz.py`."""

from pathlib import Path

import pytest

import fuzz
import fuzz_inputs
from fuzz_mutate import mutate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_previews")]  # a dozen seconds

OF_RUNS = 6  # inputs for each file of a run, some of which are used in a training
OTHERS = 25


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    fuzz_inputs.make_run(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_no_input_ends_in_a_traceback(run: Path, tmp_path: Path):
    wrong = []
    for name, (examples, use) in fuzz_inputs.kinds(run).items():
        for seed in range(OF_RUNS if name.startswith("run/") else OTHERS):
            outcome, details = fuzz.use_input(fuzz.make_input(examples, name, seed), use, tmp_path)
            if outcome not in (*fuzz.FINE, "slow"):  # the long form measures time and memory
                wrong.append(f"{name} {seed} {outcome}: {details}")
    assert not wrong, "\n".join(wrong[:3])


def test_every_kind_of_input_is_used_as_it_is(run: Path, tmp_path: Path):
    """Otherwise each would be refused, and nothing be tested."""
    for name, (examples, use) in fuzz_inputs.kinds(run).items():
        for example in examples:
            outcome, details = fuzz.use_input(example, use, tmp_path)
            assert name == "spec" or outcome == "used", (name, details)


def test_damage_is_a_function_of_its_seed_and_of_many_kinds():
    source = bytes(range(256)) * 4
    damaged = [mutate(source, fuzz.random.Random(seed)) for seed in range(300)]
    assert damaged[7] == mutate(source, fuzz.random.Random(7))
    assert len({len(each) for each in damaged}) > 50
    assert sum(each == source for each in damaged) < 10
