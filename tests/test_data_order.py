"""The order resumes exactly, and what is held out never moves."""

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import DataError, batch_order, load
from noisekiln.data.split import held_out


def test_any_cut_of_the_stream_is_the_same_stream():
    whole = batch_order(10, seed=3, start=0, count=95)
    for cut in (0, 1, 9, 10, 11, 50, 94):
        head, tail = batch_order(10, seed=3, start=0, count=cut), batch_order(10, seed=3, start=cut, count=95 - cut)
        assert np.array_equal(np.concatenate([head, tail]), whole)


def test_every_epoch_has_every_image_once_in_its_own_order():
    stream = batch_order(10, seed=0, start=0, count=1000).reshape(100, 10)
    assert np.array_equal(np.sort(stream, 1), np.tile(np.arange(10), (100, 1)))
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 100
    # every place is as likely for every image: 100 draws of 10, so about 10 +- 3 each
    counts = np.stack([np.bincount(column, minlength=10) for column in stream.T])
    assert counts.min() >= 1
    assert counts.max() <= 25


def test_batches_larger_than_the_set_do_not_hang():
    assert batch_order(1, seed=0, start=5, count=4).tolist() == [0, 0, 0, 0]
    assert sorted(batch_order(3, seed=0, start=0, count=6).tolist()) == [0, 0, 1, 1, 2, 2]
    assert batch_order(3, seed=0, start=10**12, count=0).shape == (0,)


def test_order_is_fixed():
    assert batch_order(8, seed=7, start=6, count=6).tolist() == [5, 0, 3, 1, 6, 2]
    assert batch_order(8, seed=7, start=6, count=6).dtype == np.int64


def test_seeds_differ_and_may_be_negative():
    orders = {tuple(batch_order(50, seed=seed, start=0, count=50).tolist()) for seed in (-1, 0, 1, 2**70)}
    assert len(orders) == 3  # seeds count modulo 2^64, and 2^70 is 0


def test_far_positions_are_reached_at_once():
    assert len(batch_order(1000, seed=0, start=10**15, count=100)) == 100


@pytest.mark.parametrize(("n", "start", "count"), [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_orders(n: int, start: int, count: int):
    with pytest.raises(DataError, match="at least one image"):
        batch_order(n, seed=0, start=start, count=count)


def test_result_may_be_changed_by_its_owner():
    first = batch_order(5, seed=0, start=0, count=5)
    first[:] = 0
    assert sorted(batch_order(5, seed=0, start=0, count=5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("n", "out"), [(0, 0), (1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (70_000, 7000), (300_000, 10_000)]
)
def test_how_many_are_held_out(n: int, out: int):
    assert held_out(n).sum() == out


def test_which_are_held_out_is_fixed():
    assert np.flatnonzero(held_out(50)).tolist() == [2, 32, 33, 42, 43]
    chosen = np.flatnonzero(held_out(10_000))
    assert abs(chosen.mean() - 5000) < 300  # from everywhere in the set


def test_parts_do_not_overlap():
    data = load(np.arange(40, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2))
    seen = np.concatenate([data.train.pixels, data.held_out.pixels])[:, 0, 0, 0]
    assert sorted(seen.tolist()) == list(range(40))
    assert "4 of 40 images are held out, as there is no test part." in data.notes
    assert load(np.zeros((9, 8, 8), np.uint8)).held_out is None


@pytest.mark.parametrize("held", [4, 3])  # 3: the damaged one would be held out
def test_held_out_images_are_counted_without_those_that_are_damaged(tmp_path, held):
    for i in range(40):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    chosen = np.flatnonzero(held_out(40)).tolist()
    file = tmp_path / f"{chosen[0] if held == 3 else chosen[0] + 1}.png"
    file.write_bytes(file.read_bytes()[:150])
    data = load(tmp_path)
    assert (len(data.train), len(data.held_out)) == (39 - held, held)
    assert f"{held} of 39 images are held out, as there is no test part." in data.notes
