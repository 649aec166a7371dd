"""Scores in words: what the eye says of samples of which a share is bad, or a kind is missing."""

import pytest

from noisekiln.evaluation.conclusions import conclude
from noisekiln.evaluation.score_table import ComparedScore


def score(name, value, real):
    return ComparedScore(name, name, value, 0.03, real, 0.03, "higher", "")


@pytest.mark.parametrize(
    ("density", "coverage", "quality", "variety", "cause"),
    [  # measured: 300 samples and 300 real images of five kinds, of which real ones reach 0.974 and 0.984
        (0.983, 0.961, "good", "good", "hardly anything is missing"),  # images like the real ones
        (1.000, 0.822, "good", "fair", "some kinds are missing"),  # one of the kinds is missing
        (0.732, 0.724, "fair", "fair", "bad samples show none; the good ones lack little"),  # a third is noise
        (0.805, 0.667, "fair", "fair", "some kinds are missing"),  # both
        (1.000, 0.207, "good", "poor", "most kinds are missing"),  # a single kind
        (0.000, 0.000, "poor", "poor", "too few samples look real to show more"),  # all is noise
    ],
)
def test_bad_samples_and_missing_kinds_are_distinguished(density, coverage, quality, variety, cause):
    found = conclude({"density": score("density", density, 0.974), "coverage": score("coverage", coverage, 0.984)})
    grades = {each.question: each.grade for each in found}
    assert (grades["quality"], grades["variety"]) == (quality, variety)
    assert found[1].text.endswith(f": {cause}")


def test_grades_are_relative_to_real_images():
    """30 real images do not reach the score of 300; samples that are as good are good."""
    few = conclude({"density": score("density", 0.88, 0.887), "coverage": score("coverage", 0.89, 0.896)})
    assert [each.grade for each in few[:2]] == ["good", "good"]
