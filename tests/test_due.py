"""When something is due: at shares of the budget, every so many seconds or images."""

from math import inf
from types import SimpleNamespace

import pytest

from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.runs.due_actions import DueActions
from noisekiln.runs.step_changes import StepChanges
from noisekiln.training.budget import Budget
from noisekiln.training.due import AtShares, EveryImages, EverySeconds
from noisekiln.training.report import Report


def due_at(due, values):
    return [value for value in values if due.due(value)]


def test_each_share_is_due_once():
    percents = [value / 100 for value in range(1, 101)]
    assert due_at(AtShares((0.05, 0.5, 1.0)), percents) == [0.05, 0.5, 1.0]
    assert due_at(AtShares((0.05, 0.06, 0.5)), [0.04, 0.2, 0.3, 0.6, 0.7]) == [0.2, 0.6]  # two at once are one
    assert due_at(AtShares((0.05, 0.3, 0.5), start=0.3), percents) == [0.5]  # a resumed run
    assert due_at(AtShares(()), percents) == []


@pytest.mark.parametrize("count", [1, 7, 16, 100])
def test_equal_shares_end_with_the_budget(count):
    shares = [step / (100 * count) for step in range(1, 100 * count + 1)]
    assert due_at(AtShares.equal(count), shares) == [share for share in shares if round(share * 100 * count) % 100 == 0]
    assert due_at(AtShares.equal(0), shares) == []


def test_seconds_count_from_when_it_was_last_due():
    assert due_at(EverySeconds(60.0), [1, 59, 60, 61, 119.9, 121, 500]) == [60, 121, 500]
    assert due_at(EverySeconds(60.0, start=100.0), [101, 159, 160]) == [160]
    assert due_at(EverySeconds(1.0, start=-inf), [0.0, 0.5, 1.0]) == [0.0, 1.0]  # at once
    due = EverySeconds(60.0)
    due.restart(50.0)  # something else did it then
    assert due_at(due, [60, 109, 110]) == [110]


def test_images_are_due_at_the_first_step_beyond_each_multiple():
    assert due_at(EveryImages(100), range(64, 600, 64)) == [128, 256, 320, 448, 512]
    assert due_at(EveryImages(100, start=256), range(320, 600, 64)) == [320, 448, 512]
    assert due_at(EveryImages(10), range(64, 200, 64)) == [64, 128, 192]  # steps larger than that
    assert due_at(EveryImages(None), range(0, 10**6, 1000)) == []


# What is due after a step of a run


def due_actions(**at):
    settings = Settings(images=1000, ema_snapshots=2, keep_every=300)
    intervals = Intervals(grids_at=(0.2, 0.55), checkpoint_seconds=10)
    return DueActions(settings, intervals, SimpleNamespace(**{"share": 0.0, "images_seen": 0, "seconds": 0.0} | at))


def step(images: int, seconds: float = 0.0, *, applied: bool = True) -> Report:
    return Report(images, seconds, images / 1000, 0.1, 1.0, 1e-3, applied)


def test_grids_are_due_at_their_shares_and_not_after_the_last_step():
    due = due_actions()
    assert [images for images in range(100, 1001, 100) if due.grid(step(images))] == [200, 600]
    assert not due_actions(share=0.99).grid(step(1000))
    resumed = due_actions(share=0.2)
    assert [images for images in range(300, 1001, 100) if resumed.grid(step(images))] == [600]


def test_a_grid_of_a_budget_in_minutes_takes_a_tenth_of_the_time_at_most():
    """Large images take long to sample; the first grid is expected to take as long as training on some images."""
    trainer = SimpleNamespace(
        share=0.0, images_seen=0, seconds=0.0, budget=Budget(minutes=10),
        ranks=SimpleNamespace(all_reduce_sum=lambda values: values, world_size=1),
    )  # fmt: skip
    due = DueActions(Settings(minutes=10), Intervals(grids_at=(0.1, 0.2, 0.3, 0.4)), trainer)

    def at(share, images):
        return due.grid(Report(images, 600 * share, share, 1.0, 1.0, 1e-3))

    assert not at(0.1, 500)  # 128 images take 15 seconds, and there were 60
    assert at(0.2, 2000)  # 8 seconds of 120
    trainer.seconds = 120.0
    due.grid_ended(20.0)
    assert trainer.budget.reserved == 40
    assert not at(0.3, 3000)  # 20 seconds again, of 40
    trainer.seconds = 20.0
    due.grid_ended(2.0)
    assert at(0.4, 3000)


def test_checkpoints_are_due_by_time_at_multiples_and_with_grids():
    due = due_actions()
    steps = [(100, 4), (200, 8), (250, 12), (350, 14), (400, 20), (450, 25), (500, 31)]
    drawn = {200}
    made = [images for images, seconds in steps if due.checkpoint(step(images, seconds), now=images in drawn)]
    assert made == [200, 350, 450], "each restarts the ten seconds"


def test_no_checkpoint_of_a_skipped_step_or_the_last_one():
    due = due_actions()
    assert not due.checkpoint(step(300, 99, applied=False), now=False)
    assert not due.checkpoint(step(1000, 99), now=True), "the last one is saved after the last grid"
    assert due.checkpoint(step(310, 99), now=False)


def test_snapshots_are_due_at_equal_shares_of_what_is_left():
    due = due_actions(share=0.1)
    assert [share for share in (0.2, 0.5, 0.6, 1.0) if due.snapshot(share)] == [0.5, 1.0]


def test_a_change_of_steps_is_noted_once():
    trainer, copies = SimpleNamespace(micro_batch_size=8), SimpleNamespace(compiled=True)
    compiler = SimpleNamespace(failure=None, graphs_failure=None)
    changes = StepChanges(trainer, compiler, copies)
    assert list(changes.notes()) == []
    trainer.micro_batch_size, compiler.failure = 4, "no compiler"
    first, second = changes.notes()
    assert "not compiled: no compiler" in first.text
    assert "micro-batch is 4 images" in second.text
    assert not copies.compiled
    assert list(changes.notes()) == []
