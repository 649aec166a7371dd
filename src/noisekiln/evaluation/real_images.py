"""The real images of an evaluation: those that samples are compared with, and those that they may be copies of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisekiln.data import DataSet, Split
from noisekiln.errors import DataError, counted
from noisekiln.evaluation.evaluation_options import FEWEST

MEANINGFUL = 200  # samples below which a difference is mostly chance
MOST_TRAINING, MOST_BYTES = 50_000, 1 << 30  # training images that samples are looked for in


@dataclass(frozen=True)
class RealImages:
    """The real images of an evaluation.

    Attributes:
        pool: Images that samples are compared with: twice as many as samples.
        training: Images that the model was trained on; None if they are not known.
        held_out: Images that it was not trained on; None if there are none.
        class_names: Name of each label of the training images, or else of the pool.
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
        DataError: If there are too few samples or images.
    """
    data = against or trained_on
    assert data is not None
    parts = parts_of(data)
    total = sum(map(len, parts))
    if count < FEWEST:
        raise DataError(
            counted(count, "sample"),
            f"{FEWEST} are needed to compute a score, and from {MEANINGFUL} on it means something",
            "Evaluate more samples",
        )
    if total < 2 * FEWEST:
        raise DataError(
            data.name,
            f"it has {counted(total, 'image')}, and one half is compared with the other: {2 * FEWEST} are needed to "
            f"compute a score, and from {2 * MEANINGFUL} on it means something",
            "Compare with more images",
        )
    trained = trained_on is not None
    return RealImages(
        pool=draw_by_content(parts, 2 * min(count, total // 2), seed),
        training=_bounded(trained_on.train, seed) if trained_on else None,
        held_out=_bounded(trained_on.held_out, seed) if trained_on and trained_on.held_out else None,
        class_names=data.class_names if trained_on is None else trained_on.class_names,
        shown=f"{data.name} ({'other images than those of training' if against and trained else 'its images'})",
    )


def parts_of(data: DataSet) -> list[Split]:
    """The training images and the held-out ones, if there are any."""
    return [data.train] if data.held_out is None else [data.train, data.held_out]


def halvings(count: int, splits: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`splits` random halvings of 2 `count` rows: the rows that samples are compared with, and the other ones."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(2 * count) for _ in range(splits)]
    return [(order[:count], order[count:]) for order in orders]


def draw_by_content(parts: Sequence[Split], count: int, seed: int) -> Split:
    """`count` images of all parts, drawn by hashes of the images and in the order of these; all if there are fewer."""
    return pick(parts, places_by_content(parts, seed)[:count])


def places_by_content(parts: Sequence[Split], seed: int) -> list[tuple[int, int]]:
    """Part and row of all images, in the order of hashes of the images."""
    salt = seed.to_bytes(8, "little")
    keys = [
        (hashlib.blake2b(part.pixels[row].tobytes(), digest_size=8, salt=salt).digest(), _label(part, row), number, row)
        for number, part in enumerate(parts)
        for row in range(len(part))
    ]
    return [(number, row) for _, _, number, row in sorted(keys)]


def pick(parts: Sequence[Split], places: Sequence[tuple[int, int]]) -> Split:
    """The images at places, each a part and a row; with whatever of labels, captions, ... all parts have."""
    labels, captions, partners = (
        None if any(values is None for values in columns) else [columns[number][row] for number, row in places]
        for columns in zip(*((part.labels, part.captions, part.partners) for part in parts), strict=True)
    )
    names = set.intersection(*(set(part.columns) for part in parts))
    return Split(
        np.stack([parts[number].pixels[row] for number, row in places]),
        None if labels is None else np.array(labels),
        None if captions is None else tuple(captions),
        partners=None if partners is None else np.stack(partners),
        columns={name: np.array([parts[number].columns[name][row] for number, row in places]) for name in names},
    )


def _label(part: Split, row: int) -> int:
    return 0 if part.labels is None else int(part.labels[row])


def _bounded(part: Split, seed: int) -> Split:
    """The images in the order of their hashes, or the first of them, as many as samples are looked for in."""
    return draw_by_content([part], min(MOST_TRAINING, MOST_BYTES // part.pixels[:1].nbytes), seed)
