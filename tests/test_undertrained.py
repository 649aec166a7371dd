"""What a run says at its end: a verdict or why there is none, what samples show so early; the time of the end."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.cli._watcher import describe_end
from noisekiln.data import DataSet, load
from noisekiln.monitor.held_out import HeldOutLoss
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.verdict import Evaluation, Verdict
from noisekiln.plan.settings import Settings
from noisekiln.runs.events import End, Note, Step
from noisekiln.runs.grids import Grids
from noisekiln.runs.reserved_time import agreed_seconds, count_as_used, reserve
from noisekiln.runs.run import Run
from noisekiln.runs.undertrained import (
    about_short_budget,
    about_undertrained_model,
    about_undertrained_run,
    clear_after,
)
from noisekiln.training.budget import Budget

SETTINGS = Settings(images=32, batch_size=16, backbone=TINY, curves="none", steps=1)


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


# Samples of an undertrained model


def test_samples_are_clear_after_enough_images_and_enough_steps():
    assert clear_after(Settings(batch_size=64)) == 20_000
    assert clear_after(Settings(batch_size=256)) == 76_800
    undertrained = Settings(batch_size=64, minutes=1)
    assert about_undertrained_model(undertrained, 20_000) is None
    assert about_undertrained_model(replace(undertrained, start="runs/a"), 10) is None
    assert about_undertrained_model(undertrained, 5_000, seconds=30.0) == (
        "after 5,000 images samples are still grainy; small images become clear with about `minutes=2`, "
        "larger ones later"
    )
    assert about_undertrained_model(undertrained, 4_999) == (
        "after 4,999 images samples are still mostly noise; small images become clear with about 20,000 images of "
        "training, larger ones later"
    )
    by_epochs = Settings(batch_size=64, epochs=3)
    half = about_undertrained_model(undertrained, 5_000, seconds=30.0, share=0.5)
    assert "`minutes=4`" in str(half)  # of the whole
    assert "`epochs=12`" in str(about_undertrained_model(by_epochs, 5_000, seconds=30.0))
    assert "`images=20000`" in str(about_undertrained_model(Settings(batch_size=64, images=5_000), 5_000, seconds=30.0))
    for seconds, minutes in ((1.0, "0.1"), (40.0, "2.7"), (60.0, "4")):
        assert f"`minutes={minutes}`" in str(about_undertrained_model(undertrained, 5_000, seconds=seconds))


def test_a_short_run_and_a_sample_of_it_say_so_in_one_line(cli: Command, pets: Path, tmp_path: Path):
    words = ("--images", 32, "--batch-size", 16, "--backbone", TINY, "--curves", "none", "--steps", 1)
    trained = cli("train", pets, *words, "--out", tmp_path / "r")
    assert trained.out.splitlines()[-1].startswith("note: after 32 images samples are still mostly noise; ")
    assert "--images 20000" in trained.out.splitlines()[-1]
    sampled = cli("sample", tmp_path / "r", "-n", 1)
    assert (
        "note: after 32 images samples are still mostly noise; small images become clear with about 20,000 images of t"
        in (sampled.flat)
    )
    assert about_undertrained_run(tmp_path / "r" / "model") is None  # it is unknown how long it was trained
    (tmp_path / "r" / "run.yaml").write_text("no settings")
    assert about_undertrained_run(tmp_path / "r") is None
    with pytest.warns(UserWarning, match="samples are still mostly noise"):
        nk.train(pets, images=16, batch_size=16, backbone=TINY, curves="none", out=tmp_path / "p")


@pytest.mark.parametrize(("changes", "speed", "share", "said"), [
    ({}, 15.0, 1.0, "64x48 pixels in 1 minute on this machine: about 900 images are seen, and samples will be mostly "
     "noise. They would become clear with about `minutes=23`"),  # 64 sqrt(.045) is below the smallest size
    ({}, 80.0, 1.0, "`minutes=5`, or with `size=24` in the same time"),
    ({}, 80.0, 0.5, "64x48 pixels in 2 minutes"),
    ({}, 80.0, 0.5, "with about `minutes=9`"),
])  # fmt: skip
def test_a_budget_that_is_too_short_is_said_beforehand(changes, speed, share, said):
    settings = Settings(minutes=1, batch_size=64, size=(64, 48)).replace(**changes)
    [line] = about_short_budget(settings, speed, share=share)
    assert said in line


@pytest.mark.parametrize(("changes", "speed"), [
    ({}, 84.0), ({}, None), ({"minutes": None, "images": 10}, 1.0), ({"task": "upscale"}, 1.0), ({"start": "a"}, 1.0),
    ({"teacher": "a"}, 1.0),
])  # fmt: skip
def test_enough_time_and_another_beginning_need_no_word(changes, speed):
    settings = Settings(minutes=1, batch_size=64, size=(64, 48)).replace(**changes)
    assert about_short_budget(settings, speed) == []


def test_a_short_run_says_so_before_it_trains(data: DataSet, tmp_path: Path):
    events = []
    for event in Run(SETTINGS.replace(images=None, minutes=1e-4), data, tmp_path, intervals=Intervals()).events():
        events.append(event)
    first = next(number for number, event in enumerate(events) if isinstance(event, Step))
    assert any("samples will be mostly noise" in event.text for event in events[:first] if isinstance(event, Note))


# A verdict, or why there is none


def test_without_a_verdict_the_end_says_why(data: DataSet, tmp_path: Path):
    short = HeldOutLoss(tmp_path, data, SETTINGS)
    assert short.why_no_verdict == "it takes a budget of 7,500 images"
    short.noisy_images = 3
    assert short.why_no_verdict == "it takes three evaluations"
    short.verdict = Verdict("flat", 1)
    assert short.why_no_verdict == ""
    assert "two images" in HeldOutLoss(tmp_path, replace(data, held_out=None), SETTINGS).why_no_verdict
    errors = np.ones((2, 3))
    short.history = [Evaluation(number, errors, errors) for number in range(3)]
    short.drop_evaluations_after(1)
    assert short.why_no_verdict == "it takes three evaluations"


def test_the_end_in_words(tmp_path: Path):
    end = End("done", tmp_path, 32, 6.0, 0, 0, None, "it takes three evaluations", "so early")
    lines = describe_end(end)
    assert "held-out images: no verdict: it takes three evaluations" in lines
    assert lines[-1] == "note: so early"
    assert describe_end(replace(end, undertrained="", verdict=Verdict("flat", 9)))[1].startswith(
        "held-out images: flat since 9"
    )


# Minutes are those of the whole run


def test_reserved_time_is_that_of_minutes_and_at_most_a_third_of_them():
    budget = Budget(minutes=1, images=1000).reserving(6.0)
    assert budget.share(27.0, 0) == 0.5
    assert budget.share(54.0, 0) == 1.0
    assert budget.share(0.0, 500) == 0.5
    assert Budget(minutes=1).reserving(50.0).share(40.0, 0) == 1.0
    assert Budget(images=10).reserving(6.0) == Budget(images=10)


def test_all_processes_reserve_the_same_time():
    ranks = SimpleNamespace(world_size=2, all_reduce_sum=lambda values: [value + 3.0 for value in values])
    trainer: Any = SimpleNamespace(budget=Budget(minutes=1), ranks=ranks)
    reserve(trainer, agreed_seconds(trainer, 1.0))
    assert trainer.budget.reserved == 2.0


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        (Budget(minutes=1).reserving(10.0), 60.0),
        (Budget(minutes=1).reserving(9.0), 50.0),  # not ended, or ended by images
        (Budget(images=9), 50.0),
    ],
)
def test_a_run_that_its_minutes_ended_has_used_them(budget: Budget, seconds: float):
    trainer: Any = SimpleNamespace(budget=budget, seconds=50.0)
    count_as_used(trainer)
    assert trainer.seconds == seconds


def test_a_run_in_minutes_keeps_time_for_its_last_grid_and_is_then_finished(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[int] = []

    def slow(self: Grids) -> Path:
        drawn.append(self.trainer.images_seen)
        time.sleep(0.1)
        return self.folder / "none.png"

    monkeypatch.setattr(Grids, "draw", slow)
    monkeypatch.setattr("noisekiln.runs.due_actions.GRID_SHARE", 10.0)
    settings = SETTINGS.replace(images=None, minutes=1.5 / 60)
    run = Run(settings, data, tmp_path, intervals=Intervals(grids_at=(0.05,)))
    list(run.events())
    assert len(drawn) == 2
    assert 0.2 <= run.trainer.budget.reserved <= 0.5  # twice the grid; at most a third
    assert run.trainer.seconds >= 1.5
    assert Run(settings, data, tmp_path).finished
