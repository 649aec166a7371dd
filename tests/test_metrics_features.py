"""Metrics of features: what all of them share, neighbours, diversity, accuracy of classes."""

import math
from collections.abc import Callable
from time import process_time

import pytest
import torch
from torch import Tensor

from noisekiln.metrics import feature_rows
from noisekiln.metrics.class_accuracy import class_accuracy
from noisekiln.metrics.clipped import ClippedReference
from noisekiln.metrics.diversity import diversity
from noisekiln.metrics.estimated import binomial_error
from noisekiln.metrics.frechet import frechet_bias, frechet_distance
from noisekiln.metrics.kid import kernel_distance, permutation_p_value
from noisekiln.metrics.memorised import duplicates, leave_one_out, memorised
from noisekiln.metrics.mind import sliced_distance
from noisekiln.metrics.neighbours import nearest

METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "frechet": frechet_distance,
    "kid": lambda first, second: kernel_distance(first, second).value,
    "kid error": lambda first, second: kernel_distance(first, second).standard_error,
    "p-value": lambda first, second: permutation_p_value(first, second, permutations=50),
    "mind": sliced_distance,
    "density": lambda first, second: ClippedReference(second).density(first),
    "coverage": lambda first, second: ClippedReference(second).coverage(first),
    "memorised": lambda first, second: memorised(first, second).fraction,
    "left out": lambda _, second: leave_one_out(second).fraction,
    "duplicates": lambda _, second: float(duplicates(second).sum()),
    "diversity": lambda _, second: diversity(second),
}


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def shuffled(x: Tensor) -> Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(9))]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Samples of which some are copies, and training images of which some are duplicates."""
    training = torch.cat([features(70, 6, 0), features(70, 6, 0)[:20]])
    samples = torch.cat([features(40, 6, 1), training[40:55] + 1e-3 * features(15, 6, 2), 5 + features(5, 6, 3)])
    return samples, training


@pytest.mark.parametrize("name", METRICS)
def test_order_of_rows_and_size_of_blocks_change_nothing(
    name: str, pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
):
    samples, training = pair
    expected = METRICS[name](samples, training)
    assert math.isfinite(expected)
    assert METRICS[name](samples, training) == expected
    assert METRICS[name](shuffled(samples), shuffled(training)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    monkeypatch.setattr(feature_rows, "BLOCK", 7)
    assert METRICS[name](samples, training) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert METRICS[name](shuffled(samples), shuffled(training)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_a_thousand_rows_of_a_large_network_take_a_second(name: str):
    first, second = features(1000, 1280, 0), features(1000, 1280, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = process_time()  # of the processor: what else the machine does is not counted
        METRICS[name](first, second)
        assert process_time() - start < 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", METRICS)
def test_features_are_checked(name: str):
    x = features(40, 3, 0)
    message = r"cannot be (compared|scored). Give \(N, D\)"
    bad = [(x, x[:, 0]), (x, x[None]), (x[:0], x[:0]), (x[:, :0], x[:, :0])]
    for first, second in bad + [(x, features(40, 4, 1))] * (name not in {"left out", "duplicates", "diversity"}):
        with pytest.raises(ValueError, match=message):
            METRICS[name](first, second)
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"not finite.*Check the images"):
            METRICS[name](x, x.index_fill(0, torch.tensor([3]), value))


def test_too_few_rows_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"shapes \(3, 2\) and \(9, 2\).* at least 4 rows each"):
        kernel_distance(features(3, 2, 0), features(9, 2, 1))
    with pytest.raises(ValueError, match=r"shape \(5, 2\).* at least 6 rows"):
        ClippedReference(features(5, 2, 0))
    with pytest.raises(ValueError, match=r"at least 5 rows"):
        ClippedReference(features(9, 2, 0)).coverage(features(4, 2, 1))
    assert 0 <= ClippedReference(features(6, 2, 0)).coverage(features(5, 2, 1)) <= 1
    assert kernel_distance(features(4, 2, 0), features(4, 2, 1)).standard_error > 0


# --- neighbours


def test_neighbours_are_those_of_all_distances():
    x, y = features(50, 5, 0), features(80, 5, 1)
    distances, order = torch.cdist(x.double(), y.double()).sort(dim=1)
    found = nearest(x, y, 4)
    torch.testing.assert_close(found.distances, distances[:, :4])
    assert torch.equal(found.rows, order[:, :4])


def test_a_row_is_no_neighbour_of_itself_but_of_its_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_rows, "BLOCK", 8)
    x = features(20, 5, 0)
    x[17] = x[3]
    found = nearest(x, x, leave_one_out=True)
    assert not (found.rows[:, 0] == torch.arange(20)).any()
    assert (int(found.rows[3]), int(found.rows[17])) == (17, 3)
    assert found.distances[3] == found.distances[17] == 0
    assert (found.distances > 0).sum() == 18
    with pytest.raises(ValueError, match="at least 4 rows"):
        nearest(x[:3], x[:3], 3, leave_one_out=True)


@pytest.mark.parametrize("offset", [0, 1000])
def test_equal_rows_have_distance_0_far_from_the_origin_too(offset: float):
    x = features(30, 64, 0) + offset
    assert nearest(x, x).distances.max() == 0
    assert nearest(x + 0.01, x).distances.min() > 0.05


# --- closed forms


def test_bias_of_the_frechet_distance():
    assert frechet_bias(2000, 2000, 16) == pytest.approx(2 * 16 / 2000 + 16 * 17 / 4000)
    assert round(frechet_bias(2000, 2000, 16), 4) == 0.084
    found = [frechet_distance(features(500, 8, i), features(1500, 8, 1000 + i)) for i in range(60)]
    assert sum(found) / 60 == pytest.approx(frechet_bias(500, 1500, 8), rel=0.05)
    with pytest.raises(ValueError, match="Take 1 or more"):
        frechet_bias(0, 5, 3)


def test_diversity_is_the_mean_pairwise_distance():
    x = features(30, 4, 0)
    assert diversity(x) == pytest.approx(float(torch.pdist(x.double()).mean()))
    assert diversity(torch.ones(5, 3)) == 0
    d = 3  # E |x - y| = 2 Gamma((d + 1) / 2) / Gamma(d / 2) for unit Gaussians
    expected = 2 * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    assert diversity(features(2000, d, 1)) == pytest.approx(expected, rel=0.02)


# --- classes


def test_class_accuracy_and_its_error():
    accuracy = class_accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]))
    assert accuracy.value == 0.75
    draws = torch.rand(4000, 200, generator=torch.Generator().manual_seed(0)) < 0.8
    shares = draws.double().mean(1)
    assert sum(binomial_error(float(share), 200) for share in shares) / 4000 == pytest.approx(
        float(shares.std()), rel=0.03
    )
    assert binomial_error(0, 100) == pytest.approx(binomial_error(1, 100))
    assert 0 < class_accuracy(torch.zeros(100), torch.ones(100)).standard_error < 0.01
    for wrong in (torch.zeros(3), torch.zeros(4, 1), torch.zeros(0)):
        with pytest.raises(ValueError, match="cannot be compared"):
            class_accuracy(wrong, torch.zeros(4 if len(wrong) else 0))
