"""Clipped density and coverage: a share of bad samples is the share that is missing."""

import pytest
import torch
from torch import Tensor

from noisekiln.metrics.clipped import ClippedReference, expected_coverage

N = 2000  # with 1,000 rows or in 16 dimensions one draw is off by up to .08, though the mean over draws is as near


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def reference() -> ClippedReference:
    return ClippedReference(features(N, 4, 0))


@pytest.mark.parametrize("bad", [0, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["noise far away", "one picture again and again", "noise that is wide"])
def test_scores_are_the_share_of_good_samples(reference: ClippedReference, bad: float, kind: str):
    count = round(bad * N)
    noise = features(count, 4, 2)
    wide = 3 * noise / noise.norm(dim=1, keepdim=True) * (3 + noise[:, :1].abs())  # all around, from 9 deviations on
    wrong = {"noise far away": noise + 10, "one picture again and again": 0 * noise + 6}.get(kind, wide)
    samples = torch.cat([features(N - count, 4, 1), wrong])
    assert reference.density(samples) == pytest.approx(1 - bad, abs=0.03)
    assert reference.coverage(samples) == pytest.approx(1 - bad, abs=0.03)


def test_coverage_counts_good_samples_whatever_the_number_of_samples():
    reference = ClippedReference(features(1500, 2, 0))
    for good, bad in [(300, 300), (1000, 1000), (700, 2100)]:
        samples = torch.cat([features(good, 2, 1), features(bad, 2, 2) + 20])
        assert reference.coverage(samples) == pytest.approx(good / (good + bad), abs=0.04)


def test_missing_modes_lower_the_coverage_alone():
    modes = 30 * torch.eye(4)[torch.arange(2000) % 4]
    reference = ClippedReference(features(2000, 4, 0) + modes)
    samples = (features(2000, 4, 1) + modes)[torch.arange(2000) % 4 < 2].repeat(2, 1)
    samples += 0.3 * features(2000, 4, 2)
    assert reference.coverage(samples) < 0.5
    assert reference.density(samples) > 0.9
    all_equal = modes[:1] + 0 * samples
    assert reference.coverage(all_equal) < 0.05


def test_an_outlier_of_the_real_images_does_not_make_bad_samples_good():
    outliers = 20 * features(10, 4, 3)
    reference = ClippedReference(torch.cat([features(500, 4, 0), outliers]))
    assert reference.density(outliers + features(10, 4, 4)) < 0.1


def test_density_by_all_distances():
    real, samples = features(400, 3, 0), torch.cat([features(100, 3, 1), features(100, 3, 2) + 50])
    apart = torch.cdist(real.double(), real.double()).fill_diagonal_(torch.inf)
    radii = apart.kthvalue(5, dim=1).values
    radii = radii.clamp(max=radii.median())
    inside = (torch.cdist(samples.double(), real.double()) <= radii).sum(1)
    of_real = (apart <= radii + 1e-9).sum(1)
    reference = ClippedReference(real)
    torch.testing.assert_close(reference.density_of_each(samples), inside / 5, check_dtype=False)
    assert reference.density_of_each(samples).max() > 1
    expected = float((inside / 5).clamp(max=1).mean() / (of_real / 5).clamp(max=1).mean())
    assert expected < 1
    assert reference.density(samples) == pytest.approx(expected)


def test_real_images_in_the_balls_of_the_others():
    line = torch.tensor([[0.0], [1], [3], [7]])  # radii for k=1: 1, 1, 2, 4; their median is 1
    reference = ClippedReference(line, k=1)
    # Of the clipped balls, 0 holds 1 and 1 holds 0; 2 and 3 hold no other: real images have a density of 2/4.
    assert reference.density(torch.tensor([[0.5], [1.5], [3.5], [9.0]])) == 1  # 3/4 over 2/4, clipped
    assert reference.density(torch.tensor([[0.5], [9], [9], [9]])) == pytest.approx(0.25 / 0.5)
    assert reference.density_of_each(torch.tensor([[0.5], [2.0]])).tolist() == [2, 2]  # the surface is inside


def test_copies_of_the_real_images_score_1(reference: ClippedReference):
    assert reference.density(reference.real) == reference.coverage(reference.real) == 1


def test_expected_coverage_in_closed_form():
    # k = 1: one of m samples comes before the nearest of N - 1 real images with probability m / (m + N - 1).
    m = torch.arange(31).double()
    torch.testing.assert_close(expected_coverage(20, 30, 1), m / (m + 19))
    curve = expected_coverage(50_000, 50_000, 5)
    assert curve[0] == pytest.approx(0, abs=1e-9)
    assert (curve.diff() > 0).all()
    assert curve[-1] < 1


def test_expected_coverage_is_the_mean_over_orders():
    generator, real, k = torch.Generator().manual_seed(0), 12, 3
    for m in (1, 4, 15):
        distances = torch.rand(20_000, real - 1 + m, generator=generator)
        radius = distances[:, : real - 1].kthvalue(k, dim=1, keepdim=True).values
        inside = (distances[:, real - 1 :] < radius).sum(1).clamp(max=k) / k
        assert float(expected_coverage(real, 20, k)[m]) == pytest.approx(float(inside.mean()), abs=0.01)


def test_duplicates_among_the_real_images():
    few = torch.cat([features(300, 3, 0), torch.zeros(20, 3)])
    assert ClippedReference(few).density(torch.zeros(5, 3)) == 1
    with pytest.raises(ValueError, match=r"same features as 5 others.*duplicates"):
        ClippedReference(torch.cat([features(30, 3, 0), torch.zeros(40, 3)]))
    with pytest.raises(ValueError, match=r"`k=0`.*Take 1 or more"):
        ClippedReference(few, k=0)
