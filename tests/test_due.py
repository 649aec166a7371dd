"""When something is due: at shares of the budget, every so many seconds or images."""

from math import inf

import pytest

from noisekiln.training.due import AtShares, EveryImages, EverySeconds


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
    due.start(50.0)  # something else did it then
    assert due_at(due, [60, 109, 110]) == [110]


def test_images_are_due_at_the_first_step_beyond_each_multiple():
    assert due_at(EveryImages(100), range(64, 600, 64)) == [128, 256, 320, 448, 512]
    assert due_at(EveryImages(100, start=256), range(320, 600, 64)) == [320, 448, 512]
    assert due_at(EveryImages(10), range(64, 200, 64)) == [64, 128, 192]  # steps larger than that
    assert due_at(EveryImages(None), range(0, 10**6, 1000)) == []
