"""The report of an evaluation: scores, conclusions, and the images by which they can be checked."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torch import Tensor

from noisekiln.evaluation.conclusions import Conclusion
from noisekiln.evaluation.report_page import PageLine, PagePicture, render_page
from noisekiln.evaluation.score_table import ComparedScore
from noisekiln.files.atomic import atomic_write
from noisekiln.files.json_file import write_json
from noisekiln.files.pictures import tile, to_pil
from noisekiln.paths import expand_home
from noisekiln.version import VERSION

JSON_FILE, PAGE_FILE = "evaluation.json", "evaluation.html"
SHEET_WIDTH = 960  # pixels that a grid may have
CLEAR_SIDE, MOST_SIDE = 64, 256  # pixels to which small images are enlarged, and large ones reduced


@dataclass(frozen=True)
class ReportImages:
    """Images of a report, each (N, H, W, C) uint8.

    Attributes:
        samples: Samples, in the order of their seeds.
        real: Real images.
        best: Samples that lie where most real images lie.
        worst: Samples that lie farthest from real images.
        pairs: Samples and the training images that they are most like, in turn.
        ratios: d1 / d2 of the pairs.
    """

    samples: Tensor
    real: Tensor
    best: Tensor
    worst: Tensor
    pairs: Tensor | None = None
    ratios: Sequence[float] = ()


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation: what was compared, its scores, and what they mean.

    Attributes:
        name: Name of the model.
        scores: Scores of the model, by name: of the averaged weights, or of the only ones.
        conclusions: Quality, variety and copying in words.
        count: Samples, and real images on each side.
        real: Where the real images come from.
        features: Name, version and preprocessing of the features.
        sampling: Settings of sampling, and the first seed.
        images_seen: Images seen by training; None if it is unknown.
        raw_scores: Scores of the weights of the last step; empty without them.
        notes: What was left out or replaced, one line each.
        images: Images by which the scores can be checked.
    """

    name: str
    scores: Mapping[str, ComparedScore]
    conclusions: Sequence[Conclusion]
    count: int
    real: str
    features: Mapping[str, str]
    sampling: Mapping[str, Any]
    images_seen: int | None = None
    raw_scores: Mapping[str, ComparedScore] = field(default_factory=dict)
    notes: Sequence[str] = ()
    images: ReportImages | None = field(default=None, repr=False, compare=False)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table as text: title, score of the model, score of real images, score of the raw weights."""
        return [
            (each.title, shown(each.value, each.spread), shown_real(each), shown_raw(self.raw_scores.get(name)))
            for name, each in self.scores.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything apart from the images, for JSON."""
        return {
            "noisekiln": VERSION,
            "model": self.name,
            "images_seen": self.images_seen,
            "count": self.count,
            "real": self.real,
            "features": dict(self.features),
            "sampling": dict(self.sampling),
            "scores": {name: rounded(score) for name, score in self.scores.items()},
            "raw_scores": {name: rounded(score) for name, score in self.raw_scores.items()},
            "conclusions": [each._asdict() for each in self.conclusions],
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write `evaluation.json` and `evaluation.html` into a folder; returns their paths."""
        folder = expand_home(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / JSON_FILE, folder / PAGE_FILE]
        write_json(files[0], self.as_dict())
        with atomic_write(files[1]) as draft:
            draft.write_text(self.page(), encoding="utf-8")
        return files

    def page(self) -> str:
        """The report as an HTML page."""
        header = ["", "samples", "real images", *(["last step"] if self.raw_scores else []), ""]
        table = [
            [*row[: len(header) - 1], score.about] for row, score in zip(self.rows(), self.scores.values(), strict=True)
        ]
        seen = "" if self.images_seen is None else f", after {self.images_seen:,} images of training"
        return render_page(
            f"How good is {self.name}?",
            f"{self.count:,} samples beside {self.count:,} real images{seen}",
            [PageLine(*each) for each in self.conclusions],
            header,
            table,
            [] if self.images is None else pictures_of(self.images),
            self._facts(),
        )

    def _facts(self) -> list[tuple[str, str]]:
        """What was compared, and how."""
        sampling = ", ".join(f"{name} {value}" for name, value in self.sampling.items() if value is not None)
        return [
            ("real images", self.real),
            *((f"features: {name}", value) for name, value in self.features.items()),
            *([("sampling", sampling)] if sampling else []),
            *(("note", note) for note in self.notes),
            ("noisekiln", VERSION),
        ]

    def _repr_html_(self) -> str:
        """The report, in a notebook."""
        return f'<iframe srcdoc="{html.escape(self.page())}" style="width: 100%; height: 40rem; border: 0"></iframe>'


def pictures_of(images: ReportImages) -> list[PagePicture]:
    """The pictures of a page."""
    pictures = [
        PagePicture("Samples", "In the order of their seeds, not chosen.", grid(images.samples)),
        PagePicture("Real images", "In an order that has to do with nothing.", grid(images.real)),
        PagePicture("Best samples", "Those that lie in the neighbourhoods of most real images.", grid(images.best)),
        PagePicture(
            "Worst samples", "Those that lie farthest from the neighbourhoods of real images.", grid(images.worst)
        ),
    ]
    if images.pairs is not None and len(images.pairs):
        nearest = ", ".join(f"{ratio:.2f}" for ratio in images.ratios)
        caption = (
            "Each sample, and beside it the training image that it is most like. The distance to that one over the "
            f"distance to the next: {nearest}; below 0.33 a sample counts as a copy."
        )
        pictures.append(PagePicture("Closest pairs", caption, grid(images.pairs, columns=8)))
    return pictures


def grid(images: Tensor, columns: int = 16) -> Image.Image:
    """Images side by side in an even number of columns; small ones enlarged by a whole factor, large ones reduced."""
    height, width = images.shape[1:3]
    share = min(1.0, MOST_SIDE / max(height, width))
    factor = max(1, CLEAR_SIDE // max(height, width))
    columns = min(columns, len(images), max(2, int(SHEET_WIDTH / (share * factor * (width + 1))) // 2 * 2))
    picture = to_pil(tile(images.numpy(), columns=columns))
    if share < 1:
        return ImageOps.scale(picture, share, Image.Resampling.LANCZOS)
    return ImageOps.scale(picture, factor, Image.Resampling.NEAREST)


def rounded(score: ComparedScore) -> dict[str, Any]:
    """A score for JSON; six digits, beyond which sums depend on their order."""
    values = asdict(score)
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in values.items()}


def shown(value: float, spread: float) -> str:
    """A value with its spread, with the digits that mean something."""
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f} ± {spread:.{digits}f}"


def shown_real(score: ComparedScore) -> str:
    """The score of real images, as text."""
    return "" if score.real is None else shown(score.real, score.real_spread or 0.0)


def shown_raw(score: ComparedScore | None) -> str:
    """The score of the raw weights, as text."""
    return "" if score is None else shown(score.value, score.spread)
