"""A budget in epochs: how long it is, its lines, its grids, and resuming it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.cli._watcher import describe_epoch
from noisekiln.data import DataSet, load
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.measure import measure
from noisekiln.plan.settings import Settings
from noisekiln.runs.due_actions import DueActions
from noisekiln.runs.epochs import EpochCounter
from noisekiln.runs.events import Epoch, Grid, Step
from noisekiln.runs.run import Run
from noisekiln.training.report import Report

QUIET = Intervals(grids_at=(), held_out_at=())
SETTINGS = Settings(epochs=2, batch_size=5, backbone=TINY, curves="none", steps=1)


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def step(images: int, *, loss: float = 0.5, applied: bool = True, seconds: float = 0.0, share: float = 0.5) -> Report:
    return Report(images, seconds, share, loss, 1.0, 1e-3, applied)


def at(images_seen: int = 0) -> SimpleNamespace:
    return SimpleNamespace(images_seen=images_seen, share=0.0, seconds=0.0)


def test_the_first_budget_that_is_used_up_ends_training():
    assert Settings(epochs=3).image_budget(40) == 120
    assert Settings(epochs=3, images=100).image_budget(40) == 100
    assert Settings(images=500).image_budget(40) == 500
    assert Settings(minutes=1).image_budget(40) is None


def test_an_epoch_ends_in_the_step_that_reaches_its_last_image_and_has_the_mean_loss_of_its_applied_steps():
    counter = EpochCounter(Settings(epochs=2), 10, at())
    steps = [
        step(4, loss=1.0),
        step(8, loss=float("nan"), applied=False),
        step(12, loss=3.0),
        step(16, loss=5.0),
        step(20, loss=7.0),
    ]
    found = [counter.add(each) for each in steps]
    assert found == [None, None, Epoch(1, 2, 12, 0.0, 2.0), None, Epoch(2, 2, 20, 0.0, 6.0)]


def test_a_resumed_run_counts_on_and_other_budgets_have_no_epochs():
    assert EpochCounter(Settings(epochs=9), 10, at(24)).add(step(28)) is None
    assert EpochCounter(Settings(epochs=9), 10, at(28)).add(step(32)) == Epoch(3, 9, 32, 0.0, 0.5)
    assert EpochCounter(Settings(images=100), 10, at()).add(step(10)) is None


def test_a_batch_of_more_images_than_there_are_ends_no_epoch_beyond_the_last():
    assert EpochCounter(Settings(epochs=2), 10, at()).add(step(32)) == Epoch(2, 2, 32, 0.0, 0.5)


def test_each_of_a_few_epochs_draws_a_grid_and_of_many_at_most_one_in_ten_seconds():
    few, many = (DueActions(Settings(epochs=epochs), Intervals(), at()) for epochs in (20, 21))
    assert all(few.grid(step(0, seconds=second), epoch_ended=True) for second in range(3))
    drawn = [second for second in range(25) if many.grid(step(0, seconds=second), epoch_ended=True)]
    assert drawn == [10, 20]
    assert not few.grid(step(0), epoch_ended=False)
    assert not few.grid(step(0, share=1.0), epoch_ended=True)  # the last grid is drawn anyway


def test_few_long_epochs_also_draw_grids_at_shares():
    marks = Intervals(grids_at=(0.2, 0.5))
    assert DueActions(Settings(epochs=1), marks, at()).grid(step(0, share=0.6))
    assert not DueActions(Settings(epochs=2), marks, at()).grid(step(0, share=0.6))


def test_epochs_are_as_many_images_and_each_has_its_event_and_its_grid(data: DataSet, tmp_path: Path):
    run = Run(SETTINGS, data, tmp_path / "a", intervals=QUIET)
    events = list(run.events())
    count = len(data.train)
    epochs = [event for event in events if isinstance(event, Epoch)]
    losses = [event.report.loss for event in events if isinstance(event, Step)]
    assert [event.number for event in epochs] == [1, 2]
    assert epochs[1].loss == pytest.approx(sum(losses[-(-count // 5) :]) / len(losses[-(-count // 5) :]))
    assert run.trainer.images_seen == -(-2 * count // 5) * 5
    assert sum(isinstance(event, Grid) for event in events) == 2

    same = Run(SETTINGS.replace(epochs=None, images=2 * count), data, tmp_path / "b", intervals=QUIET)
    list(same.events())
    one, other = (folder / "model" / "model.safetensors" for folder in (tmp_path / "a", tmp_path / "b"))
    assert one.read_bytes() == other.read_bytes()

    longer = Run(SETTINGS.replace(epochs=3), data, tmp_path / "a", intervals=QUIET)
    assert [event.number for event in longer.events() if isinstance(event, Epoch)] == [3]


@pytest.mark.slow
def test_the_command_line_takes_epochs_and_prints_one_line_for_each(cli: Command, pets: Path, tmp_path: Path):
    words = (pets, "--epochs", 2, "--batch-size", 8, "--backbone", TINY, "--curves", "none", "--out", tmp_path / "r")
    dry = cli("train", *words, "--dry-run")
    assert "2 epochs on cpu" in dry.out
    assert "2.2 times through the data" in dry.out
    result = cli("train", *words)
    assert result.code == 0, result
    assert "epoch 1 of 2 · " in result.out
    assert "epoch 2 of 2 · " in result.out
    assert {"000000024", "000000048"} <= {file.stem for file in (tmp_path / "r" / "samples").iterdir()}


def test_an_epoch_in_words():
    assert describe_epoch(Epoch(3, 5, 1200, 9.0, 0.25), "improving") == (
        "epoch 3 of 5 · 1,200 images · loss 0.2500 · improving"
    )
    assert describe_epoch(Epoch(3, 5, 1200, 9.0, None), "") == "epoch 3 of 5 · 1,200 images"


@pytest.mark.slow
def test_epochs_in_python_and_measured(data: DataSet, tmp_path: Path):
    seen: list[int] = []

    def watch(event: object) -> None:
        if isinstance(event, Epoch):
            seen.append(event.number)

    run = Run(SETTINGS, data, tmp_path / "none")
    assert measure(run.settings, data).images_per_second > 0  # the budget in epochs does not end the measurement
    nk.train(data.train.pixels, epochs=1, batch_size=8, backbone=TINY, curves="none", out=tmp_path / "r", watch=watch)
    assert seen == [1]
    with pytest.raises(ValueError, match="`epochs=0` is out of range"):
        Settings(epochs=0)
