"""What scores mean, in words: quality, variety, copying."""

from collections.abc import Mapping
from typing import NamedTuple

from noisekiln.evaluation.score_table import ComparedScore

ALIKE = 0.5  # mean distance of two samples, over that of real images, below which they are no variety
GOOD, FAIR = 0.9, 0.5  # shares of what real images reach; one of five kinds that is missing leaves a coverage of 0.8
HARD_TO_TELL = 0.5  # share of real images whose class is recognised, below which it says nothing of samples
MORE = 0.2  # share of images that have to look real without details alone, before details are to blame
FAR = 10.0  # times the distance of real images, at which a high density does not show that samples look real (LOG.md)
CLEAR = 2.0  # standard errors by which two shares must differ to count as different


class Conclusion(NamedTuple):
    """A conclusion on one question.

    Attributes:
        question: quality, variety, copying or classes.
        grade: good, fair or poor; or unknown.
        text: The conclusion, in a sentence.
    """

    question: str
    grade: str
    text: str


def conclude(scores: Mapping[str, ComparedScore], coarse: ComparedScore | None = None) -> list[Conclusion]:
    """Conclusions from the scores of samples.

    Args:
        scores: The scores, by name.
        coarse: Density without details, if it was computed.
    """
    found = [_about_quality(scores["density"], scores.get("mind"), coarse), _about_variety(scores)]
    if "accuracy" in scores:
        found.append(_about_classes(scores["accuracy"]))
    found.append(_about_copying(scores.get("memorised")))
    return found


def is_good(density: ComparedScore) -> bool:
    """Whether about as many samples look real as real images do."""
    return _grade(density) == "good"


def _grade(score: ComparedScore) -> str:
    """The grade of a share, beside that of real images: in small numbers not even these reach 1."""
    share = _share(score)
    return "good" if share >= GOOD else "fair" if share >= FAIR else "poor"


def _share(score: ComparedScore) -> float:
    """A score as a share of that of real images, if that is known."""
    return score.value if score.ratio is None else score.ratio


def _about_quality(density: ComparedScore, mind: ComparedScore | None, coarse: ComparedScore | None) -> Conclusion:
    grade = _grade(density)
    share = f"{density.value:.0%} of the samples lie where real images lie"
    ratio = None if mind is None else mind.ratio
    if grade == "good" and ratio is not None and ratio >= FAR:
        text = (
            f"{share}, but as a whole they are {ratio:.0f} times as far from real images as other real images are "
            "(MIND). Blurred images lie amid all others: look at the pictures"
        )
        return Conclusion("quality", "unknown", text)
    if grade != "good" and coarse is not None and _grade(coarse) != "poor" and _share(coarse) > _share(density) + MORE:
        text = (
            f"{share}; without details, {coarse.value:.0%} do. So shapes and colours are mostly right, and details are "
            "not: samples are grainy or soft"
        )
        return Conclusion("quality", "fair", text)
    advice = {"good": "most look real", "fair": "many look real, others do not", "poor": "most do not look real"}
    return Conclusion("quality", grade, f"{share}: {advice[grade]}")


def _about_variety(scores: Mapping[str, ComparedScore]) -> Conclusion:
    density, coverage, diversity = scores["density"], scores["coverage"], scores.get("diversity")
    ratio = None if diversity is None else diversity.ratio
    if ratio is not None and ratio < ALIKE:  # one mean image may lie in the neighbourhoods of all real ones
        text = f"samples are alike: two of them differ by {ratio:.0%} of what two real images do, in the mean"
        text += ". Few look real, and noise is alike, too" if _grade(density) == "poor" else ""
        return Conclusion("variety", "poor", text)
    grade = _grade(coverage)
    share = f"samples reach {coverage.value:.0%} of the variety of real images"
    advice = {"good": "hardly anything is missing", "fair": "some kinds are missing", "poor": "most kinds are missing"}
    cause = advice[grade]
    error = (coverage.spread**2 + density.spread**2) ** 0.5
    if grade != "good" and coverage.value >= GOOD * density.value - error:  # what that share of real images would reach
        few = _grade(density) == "poor"
        cause = "too few samples look real to show more" if few else "bad samples show none; the good ones lack little"
    return Conclusion("variety", grade, f"{share}: {cause}")


def _about_classes(accuracy: ComparedScore) -> Conclusion:
    assert accuracy.real is not None
    text = f"{accuracy.value:.0%} of the samples show the class that was requested"
    if accuracy.real < HARD_TO_TELL:
        return Conclusion("classes", "unknown", f"{text}; but of real images only {accuracy.real:.0%} are recognised")
    grade = _grade(accuracy)
    return Conclusion("classes", grade, f"{text}; of real images {accuracy.real:.0%} are recognised")


def _about_copying(memorised: ComparedScore | None) -> Conclusion:
    if memorised is None:
        return Conclusion("copying", "unknown", "it is unknown which images the model learned, or they are too few")
    expected = memorised.real or 0.0
    error = (memorised.spread**2 + (memorised.real_spread or 0.0) ** 2) ** 0.5
    excess = memorised.value - expected
    share = f"{memorised.value:.1%} of the samples are copies of a training image"
    calibration = "" if memorised.real is None else f"; of real held-out images {expected:.1%} would count as copies"
    if excess <= max(CLEAR * error, 0.005):
        return Conclusion("copying", "good", f"no more copies than by chance ({share}{calibration})")
    grade = "fair" if excess < 0.1 else "poor"
    cause = "train on more images, or for a shorter time"
    return Conclusion("copying", grade, f"{share}{calibration}: {cause}")
