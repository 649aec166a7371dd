"""The split into training and held-out images, for sources without a test part, and the classes that are trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.dataset import Altered, Split
from noisekiln.errors import counted, listed

MIN_IMAGES = 10  # with fewer images, holding one out costs more than it is worth
MAX_HELD_OUT = 10_000
MAX_NAMED = 5  # classes that a note names


def held_out(count: int, labels: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """(count,) True for a tenth of the images (at most 10,000; none of fewer than 10), the same on every machine.

    Of every class, at least one image stays for training: the first, if all were chosen.
    """
    chosen = np.zeros(count, np.bool_)
    if count >= MIN_IMAGES:
        chosen[np.argsort(_scramble(count), kind="stable")[: min(count // 10, MAX_HELD_OUT)]] = True
    if labels is not None:
        classes, first = np.unique(labels, return_index=True)
        chosen[first[~np.isin(classes, labels[~chosen])]] = False
    return chosen


def only_of_their_class(out: NDArray[np.bool_]) -> int:
    """How many images a split of `held_out` keeps for training because they are the only ones of a class."""
    return min(len(out) // 10, MAX_HELD_OUT) - int(out.sum()) if len(out) >= MIN_IMAGES else 0


def about_held_out(held: int, count: int, only: int) -> str:
    """A note on `held` of `count` images that are held out; `only` more are the only ones of a class."""
    if not held and count < MIN_IMAGES:
        return f"There are fewer than {MIN_IMAGES} images, so none is held out."
    note = f"{held:,} of {count:,} images are held out, as there is no test part"
    if not only:
        return f"{note}."
    return f"{note}; {only:,} more would be, but {'is the only one' if only == 1 else 'are the only ones'} of a class."


def only_trained_classes(
    parts: Sequence[Split], names: tuple[str, ...], *, numbered: bool
) -> tuple[list[Split], tuple[str, ...], list[str]]:
    """The parts and class names without classes that have no training image, and a note on these.

    Args:
        parts: The training part, and the held-out part if there is one.
        names: Name of each label.
        numbered: Whether the data define the number of each class: then all are kept.
    """
    labels = parts[0].labels
    trained = np.zeros(0, np.int64) if labels is None else np.unique(labels)
    if not names or len(trained) == len(names):
        return list(parts), names, []
    known = set(trained.tolist())
    lacking = [name for label, name in enumerate(names) if label not in known]
    which = f"No training image is of the {'class' if len(lacking) == 1 else 'classes'} "
    which += f"{listed(lacking, MAX_NAMED)}, so {'it' if len(lacking) == 1 else 'they'} will never be learned"
    if numbered:
        return list(parts), names, [Altered(f"{which}.")]
    kept = [part.take(np.flatnonzero(np.isin(part.labels, trained))) for part in parts[1:] if part.labels is not None]
    lost = sum(map(len, parts[1:])) - sum(map(len, kept))
    without = f"; {counted(lost, 'held-out image')} of {'it' if len(lacking) == 1 else 'them'} left out" if lost else ""
    renumbered = [_renumbered(part, trained) for part in (parts[0], *kept) if len(part)]
    return renumbered, tuple(names[label] for label in trained), [Altered(f"{which}{without}.")]


def _renumbered(part: Split, trained: NDArray[np.int64]) -> Split:
    """The part with labels that count the trained classes only."""
    assert part.labels is not None
    return replace(part, labels=np.searchsorted(trained, part.labels).astype(np.int64))


def _scramble(count: int) -> NDArray[np.uint64]:
    """splitmix64 of 0..count-1: fixed arithmetic, so that no version of numpy changes the choice."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
