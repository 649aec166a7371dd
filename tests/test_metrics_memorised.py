"""Memorised samples: planted copies are found, duplicates and chance are not."""

import pytest
import torch
from torch import Tensor

from noisekiln.metrics.memorised import Memorised, closest_pairs, duplicates, leave_one_out, memorised


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


TRAINING = features(800, 32, 0)
HELD_OUT = features(1000, 32, 1)


def with_copies(count: int, noise: float) -> tuple[Tensor, Tensor]:
    """Held-out images of which the first are replaced by copies; which training images these are."""
    rows = torch.randint(len(TRAINING), (count,), generator=torch.Generator().manual_seed(2))
    return torch.cat([TRAINING[rows] + noise * features(count, 32, 3), HELD_OUT[count:]]), rows


@pytest.mark.parametrize("noise", [0, 0.1])
@pytest.mark.parametrize("count", [0, 20, 237, 1000])
def test_planted_copies_are_found(count: int, noise: float):
    samples, rows = with_copies(count, noise)
    found = memorised(samples, TRAINING)
    assert found.fraction == pytest.approx(count / 1000, abs=0.01)
    assert torch.equal(found.nearest[:count], rows)
    assert found.ratio.shape == (1000,)
    assert (found.ratio[:count] < 0.2).all()
    assert (found.ratio[:count] == 0).all() or noise
    assert 0 < found.standard_error < 0.02


@pytest.mark.parametrize("noise", [0, 0.01])
def test_duplicates_in_the_training_set_change_nothing(noise: float):
    samples, rows = with_copies(237, 0.02)
    repeats = TRAINING[rows[:100]] + noise * features(100, 32, 4)
    more = torch.cat([TRAINING, repeats, TRAINING[:50], TRAINING[:50]])
    assert memorised(samples, more).fraction == memorised(samples, TRAINING).fraction
    assert torch.equal(memorised(samples, more).nearest[:237], rows)
    assert memorised(HELD_OUT, more).fraction == memorised(HELD_OUT, TRAINING).fraction == 0
    assert leave_one_out(more).fraction == 0
    kept = torch.zeros(len(more), dtype=torch.bool)
    assert memorised(samples, more, repeated=kept).fraction < 0.2  # not left out, they hide copies
    assert memorised(samples, more, repeated=duplicates(more)).fraction == memorised(samples, more).fraction


@pytest.mark.parametrize("times", [2, 4])
def test_copies_are_found_where_every_training_image_stands_several_times(times: int):
    """As a file that was saved with other settings: all of its versions are near each other, none is equal."""
    samples = with_copies(237, 0.02)[0]
    versions = torch.cat([TRAINING + 0.01 * features(800, 32, 10 + number) for number in range(times)])
    assert int(duplicates(versions).sum()) == 800 * (times - 1)
    assert memorised(samples, versions).fraction == memorised(samples, TRAINING).fraction


def test_an_image_that_fills_the_neighbourhood_of_a_sample_is_one_image():
    near_one = TRAINING[:1] + 0.6 * features(1, 32, 5)  # near it, no copy of it
    samples = torch.cat([near_one, TRAINING[1:2], HELD_OUT[4:8]])
    alone = memorised(samples, TRAINING)
    more = torch.cat([TRAINING, TRAINING[:2].repeat_interleave(100, 0)])
    torch.testing.assert_close(memorised(samples, more).ratio, alone.ratio)
    assert 0.5 < float(alone.ratio[0]) < 1
    assert alone.ratio[1] == 0


def test_copies_of_an_image_that_has_many_duplicates_are_copies():
    crowd = TRAINING[:1] + 0.01 * features(200, 32, 6)
    samples = TRAINING[:1] + 0.01 * features(50, 32, 7)
    assert memorised(samples, torch.cat([TRAINING, crowd])).fraction == 1


def test_real_images_give_what_chance_gives():
    assert memorised(HELD_OUT, TRAINING).fraction == 0
    assert leave_one_out(TRAINING).fraction == 0
    # In D dimensions, nearest over second nearest distance is below 1/3 with probability 3^-D.
    generator = torch.Generator().manual_seed(0)
    for d in (1, 2):
        points = torch.rand(3000, d, generator=generator)
        assert leave_one_out(points, repeated=torch.zeros(3000, dtype=torch.bool)).fraction == pytest.approx(
            3**-d, abs=0.03
        )


def test_the_error_is_that_of_a_share():
    found = [memorised(with_copies(0, 0)[0][i : i + 20], TRAINING).standard_error for i in (0, 20)]
    assert found[0] == found[1] == pytest.approx(0.0321, abs=1e-3)  # no copies among 20: not certainly none at all
    assert memorised(with_copies(500, 0)[0], TRAINING).standard_error == pytest.approx(0.5 / 1000**0.5, rel=0.01)


def test_closest_pairs_come_by_ratio():
    samples, rows = with_copies(5, 0.05)
    found = memorised(samples, TRAINING)
    pairs = closest_pairs(found, 5)
    assert sorted(pairs[:, 0].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(pairs[:, 1], rows[pairs[:, 0]])
    assert (found.ratio[pairs[:, 0]].diff() >= 0).all()
    assert closest_pairs(found, 5000).shape == (1000, 2)
    tied = Memorised(0, 0.1, torch.arange(3), torch.zeros(3))
    assert closest_pairs(tied).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_rows_that_repeat_an_earlier_row():
    x = features(60, 8, 0)
    assert not duplicates(x).any()
    chain = x[7] + 0.04 * torch.linspace(0, 5, 6)[:, None]  # each near the next, the ends far from each other
    more = torch.cat([x, chain, x[3:5], x[3:5] + 0.01])
    assert duplicates(more).tolist() == [False] * 60 + [True] * 10
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    assert int(duplicates(more[order]).sum()) == 10
    assert duplicates(more, tolerance=0).tolist() == [False] * 60 + [True] + [False] * 5 + [True] * 2 + [False] * 2
    assert duplicates(torch.cat([x, x])).tolist() == [False] * 60 + [True] * 60
    assert duplicates(torch.cat([x, x, x[:5] + 0.01])).tolist() == [False] * 60 + [True] * 65
    assert duplicates(torch.ones(4, 3)).tolist() == [False, True, True, True]
    assert duplicates(x[:1]).tolist() == [False]


@pytest.mark.parametrize("training", [TRAINING[:19], TRAINING[:19].repeat(5, 1), torch.ones(100, 32), TRAINING[:1]])
def test_small_training_sets_allow_no_conclusion(training: Tensor):
    message = r"are distinct. With fewer than 20.*nothing can be concluded about copying"
    for score in (lambda: memorised(HELD_OUT, training), lambda: leave_one_out(training)):
        with pytest.raises(ValueError, match=message):
            score()
    assert memorised(HELD_OUT, TRAINING[:20]).fraction == 0
