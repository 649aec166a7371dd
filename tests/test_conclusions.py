"""Scores in words: what the eye says of samples of which a share is bad, or a kind is missing."""

import json

import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize(("density", "mind", "quality"), [
    (1.0, 0.120, "unknown"),  # measured: photographs of flowers, of which the model draws colours and no flower
    (1.0, 0.020, "good"), (0.2, 0.120, "poor"), (1.0, None, "good"),
])  # fmt: skip
def test_samples_amid_all_images_are_not_called_good_if_they_are_far_as_a_whole(density, mind, quality):
    scores = {"density": score("density", density, 0.984), "coverage": score("coverage", 0.742, 0.994)}
    if mind is not None:
        scores["mind"] = score("mind", mind, 0.0056)
    first = conclude(scores)[0]
    assert first.grade == quality
    assert ("21 times as far" in first.text) == (quality == "unknown")


def test_grades_are_relative_to_real_images():
    """30 real images do not reach the score of 300; samples that are as good are good."""
    few = conclude({"density": score("density", 0.88, 0.887), "coverage": score("coverage", 0.89, 0.896)})
    assert [each.grade for each in few[:2]] == ["good", "good"]


def test_what_was_done_to_samples_is_said(cli, tmp_path):
    random = np.random.default_rng(0)
    for name, shape in (("real", (8, 8, 3)), ("samples", (12, 10))):
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(tmp_path / name / f"{number}.png")
    own = tmp_path / "own.py"
    own.write_text(
        "from dataclasses import dataclass\nfrom noisekiln.features.base import FeatureExtractor\n"
        "@dataclass(frozen=True)\nclass Rows(FeatureExtractor):\n"
        "    def features_of(self, images):\n        return images.float().mean((2, 3))\n"
        "    def describe(self):\n        return {'name': 'rows', 'version': '1', 'preprocessing': 'none'}\n"
    )
    out = tmp_path / "out"
    result = cli(
        "evaluate", tmp_path / "samples", "--against", tmp_path / "real", "--features", f"{own}:Rows", "--out", out
    )
    assert result.code == 0, result
    assert "samples are grey: compared in colour, as the real images are" in result.flat
    assert '"sampling": {}' in json.dumps(json.loads((out / "evaluation.json").read_text("utf-8")))
    assert "<td>sampling</td>" not in (out / "evaluation.html").read_text("utf-8")


def test_classes_that_cannot_be_told_apart_say_nothing_of_samples():
    found = {"density": score("density", 1, 1), "coverage": score("coverage", 1, 1)}
    for real, grade in ((0.3, "unknown"), (0.9, "poor")):
        found["accuracy"] = score("accuracy", 0.3, real)
        assert {each.question: each.grade for each in conclude(found)}["classes"] == grade
