"""The bundled portraits, and the checker of their colours."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from noisekiln.data import DataError, DataSet, load
from noisekiln.data.find import BUNDLED

CHECKER = Path(__file__).resolve().parents[1] / "benchmarks" / "portrait_colours.py"


@pytest.fixture(scope="module")
def portraits() -> DataSet:
    return load("bundled:portraits")


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("portrait_colours", CHECKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_portraits(portraits: DataSet):
    assert portraits.train.pixels.shape == (9000, 16, 16, 3)
    assert portraits.held_out.pixels.shape == (1000, 16, 16, 3)
    assert portraits.name == "portraits"
    assert not portraits.skipped
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 1_000_000
    assert "CC0 1.0" in (BUNDLED / "LICENSE-portraits.txt").read_text("utf-8")


def test_no_portrait_occurs_twice(portraits: DataSet):
    pixels = np.concatenate([portraits.train.pixels, portraits.held_out.pixels])
    assert len({picture.tobytes() for picture in pixels}) == 10_000


def test_captions_use_few_words(portraits: DataSet):
    words = {word for caption in portraits.train.captions for word in re.findall(r"\w+", caption)}
    assert len(words) <= 40
    assert all(caption.startswith("a person with ") for caption in portraits.train.captions)


def test_upper_bound_of_the_checker(portraits: DataSet, checker: ModuleType):
    part = portraits.held_out
    scores = checker.agreement(part.pixels, part.captions)
    assert all(scores[key] >= 0.99 for key in ("hair", "hat", "skin", "clothing", "all")), scores


def test_checker_sees_wrong_portraits(portraits: DataSet, checker: ModuleType):
    part = portraits.held_out
    scores = checker.agreement(np.roll(part.pixels, 1, 0), part.captions)
    assert scores["hair"] < 0.25
    assert scores["skin"] < 0.4
    assert scores["clothing"] < 0.25
    assert scores["all"] < 0.05


def test_checker_tolerates_some_noise(portraits: DataSet, checker: ModuleType):
    part = portraits.held_out
    noise = np.random.default_rng(0).normal(0, 10, part.pixels.shape)
    noisy = np.clip(part.pixels + noise, 0, 255).astype(np.uint8)
    assert checker.agreement(noisy, part.captions)["all"] > 0.97


def test_checker_reads_captions(checker: ModuleType):
    caption = "a person with a red hat, tan skin, glasses, an orange shirt"
    assert checker.requested_colours(caption) == {"hat": "red", "skin": "tan", "clothing": "orange"}
    assert checker.requested_colours("a person with long hair") == {}
    assert checker.requested_colours("short grey hair") == {"hair": "grey"}


def test_a_folder_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portraits").mkdir()
    with pytest.raises(DataError, match="empty"):
        load("portraits")
    np.save(tmp_path / "portraits" / "a.npy", np.zeros(3))
    assert load("bundled:portraits").size == (16, 16)


def test_unknown_bundled_name():
    with pytest.raises(DataError, match="Choose from: portraits"):
        load("bundled:portrait")
    with pytest.raises(DataError, match="Did you mean portraits"):
        load("portrait")
