"""The real images of an evaluation: those that samples are compared with, and those that they may be copies of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisekiln.data import DataSet, Split
from noisekiln.errors import DataError, counted

LEAST = 20  # real images: half of them are compared with the other half
MEANINGFUL = 200  # samples below which a difference is mostly chance
MOST_TRAINING, MOST_BYTES = 50_000, 1 << 30  # training images that samples are looked for in


@dataclass(frozen=True)
class RealImages:
    """The real images of an evaluation.

    Attributes:
        pool: Images that samples are compared with: twice as many as samples.
        training: Images that the model was trained on; None if they are not known.
        held_out: Images that it was not trained on; None if there are none.
        class_names: Name of each label.
        shown: Where they come from, for the report.
    """

    pool: Split
    training: Split | None
    held_out: Split | None
    class_names: tuple[str, ...]
    shown: str

    @property
    def count(self) -> int:
        """Samples, and real images on each side."""
        return len(self.pool) // 2


def choose_real_images(count: int, seed: int, trained_on: DataSet | None, against: DataSet | None) -> RealImages:
    """The real images of an evaluation, chosen by their content: the order of files changes nothing.

    Args:
        count: Samples, and images on each side; there are fewer if there are not twice as many images.
        seed: Seed of the choice.
        trained_on: Data that the model was trained on; None if they are not known.
        against: Other data to compare with; None for those that the model was trained on.

    Raises:
        DataError: If there are too few images.
    """
    data = against or trained_on
    assert data is not None
    parts = [data.train] if data.held_out is None else [data.train, data.held_out]
    total = sum(map(len, parts))
    if total < LEAST:
        raise DataError(
            data.name,
            f"it has {counted(total, 'image')}, and one half is compared with the other: {LEAST} are needed to compute "
            f"a score, and from {2 * MEANINGFUL} on it means something",
            "Compare with more images",
        )
    trained = trained_on is not None
    return RealImages(
        pool=_joined(parts, _drawn_by_content(parts, 2 * min(count, total // 2), seed)),
        training=_by_content(trained_on.train, seed) if trained_on else None,
        held_out=_by_content(trained_on.held_out, seed) if trained_on and trained_on.held_out else None,
        class_names=data.class_names,
        shown=f"{data.name} ({'other images than those of training' if against and trained else 'its images'})",
    )


def condition_rows(part: Split, count: int, seed: int) -> NDArray[np.int64]:
    """Rows of `count` images, drawn by content, whose conditions samples get; repeated if there are fewer images."""
    drawn = [row for _, row in _drawn_by_content([part], min(count, len(part)), seed)]
    return np.resize(np.array(drawn, dtype=np.int64), count)


def spread_rows(total: int, count: int) -> NDArray[np.int64]:
    """`count` of `total` rows at equal distances: samples may be sorted by class."""
    return np.linspace(0, total - 1, count).round().astype(np.int64)


def halvings(count: int, splits: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`splits` random halvings of 2 `count` rows: the rows that samples are compared with, and the other ones."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(2 * count) for _ in range(splits)]
    return [(order[:count], order[count:]) for order in orders]


def _drawn_by_content(parts: Sequence[Split], count: int, seed: int) -> list[tuple[int, int]]:
    """Part and row of `count` images, drawn by hashes of the images and in the order of these."""
    salt = seed.to_bytes(8, "little")
    keys = [
        (hashlib.blake2b(part.pixels[row].tobytes(), digest_size=8, salt=salt).digest(), _label(part, row), number, row)
        for number, part in enumerate(parts)
        for row in range(len(part))
    ]
    return [(number, row) for _, _, number, row in sorted(keys)[:count]]


def _label(part: Split, row: int) -> int:
    return 0 if part.labels is None else int(part.labels[row])


def _by_content(part: Split, seed: int) -> Split:
    """The images in the order of their hashes, or the first of them, as many as samples are looked for in."""
    most = min(MOST_TRAINING, MOST_BYTES // part.pixels[:1].nbytes)
    return part.take(np.array([row for _, row in _drawn_by_content([part], most, seed)], dtype=np.int64))


def _joined(parts: Sequence[Split], drawn: Sequence[tuple[int, int]]) -> Split:
    """Images of several parts as one, with their labels if all have some."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Split(
        np.stack([parts[number].pixels[row] for number, row in drawn]),
        np.array([labels[number][row] for number, row in drawn]) if len(labels) == len(parts) else None,
    )
