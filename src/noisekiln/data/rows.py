"""Data sets of other libraries as columns: pairs, rows, batches and tables, each read once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.dataset import Altered
from noisekiln.errors import DataError, reason_of

IMAGE, SECOND, FURTHER = "image", "the second of each pair", "number {} of each entry"
THIRD = FURTHER.format(3)
LIMIT = 4 << 30  # bytes: an iterator without an end must not fill the memory
READ_AGAIN = 8  # images that are read twice, to see whether they stay the same
ENTRY = 1 << 10  # bytes that any entry is counted with, so that small images come to an end, too
IN_ORDER = ("SequentialSampler", "_InfiniteConstantSampler")  # the second: the order of an IterableDataset
GIVE = "Give a folder, a file, an array (N, H, W, C), images with their labels, or a data set of torch"


@dataclass
class Table:
    """Columns of equal length, one value for each image.

    Attributes:
        columns: Values by name; stacks of images may be arrays.
        notes: Notes on how they were read.
        class_names: Names of whole numbers that are labels, by column; "" for any column.
    """

    columns: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


@runtime_checkable
class _Keyed(Protocol):
    """A dict of columns, or a table of pandas."""

    def keys(self) -> Iterable[Any]: ...
    def __getitem__(self, key: Any) -> Any: ...


@runtime_checkable
class _Indexed(Protocol):
    """A list, or a data set of torch that is read by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: int) -> Any: ...


def read_table(source: Any) -> Table:
    """The columns of data in memory. Raises DataError."""
    read = next((read for fits, read in _READERS if fits(source)), None)
    if read is None:
        raise DataError(f"`data`: {type(source).__name__}", "this is neither a path nor a sequence of images", GIVE)
    return read(source)


def as_array(values: Any) -> NDArray[Any]:
    """Numbers of any kind as an array: a tensor from any device, bfloat16 as float32."""
    detach = getattr(values, "detach", None)  # of torch, which this room does not import
    if callable(detach):
        values = detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    try:
        return np.asarray(values)
    except ValueError:  # lists of several lengths
        return np.asarray(None)


def is_stack(values: Any) -> bool:
    """Whether this is one array or tensor of numbers, and no list."""
    numbers = getattr(values, "dtype", None) != np.dtype(object)
    return numbers and isinstance(getattr(values, "shape", None), tuple) and getattr(values, "ndim", 0) > 0


def names_of_classes(source: Any, column: str) -> tuple[str, ...]:
    """Names of the labels, which data sets of torchvision and of Hugging Face carry."""
    features = getattr(source, "features", None)
    feature = features.get(column) if isinstance(features, Mapping) else None
    names = getattr(feature, "names", None) or getattr(source, "classes", None)
    inner = getattr(source, "dataset", None)  # of a DataLoader, or a Subset
    if names is None and inner is not None:
        return names_of_classes(inner, column)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def is_images_and_words(source: Any) -> bool:
    """Whether these are (images, labels): two of one length, the second of which are numbers or texts."""
    if not isinstance(source, tuple | list) or len(source) != 2:
        return False
    images: Any = source[0]
    words: Any = source[1]
    if any(isinstance(each, str) or not isinstance(each, Sized) for each in source):
        return False
    if len(images) != len(words) or not len(words):
        return False
    if is_stack(words):
        return getattr(words, "ndim", 0) == 1 or (is_stack(images) and images.ndim == 4 and words.ndim == 2)
    pairs = isinstance(source, list) and not is_stack(images)  # a list of two pairs
    return not pairs and isinstance(words, list | tuple) and all(is_word(word) for word in words)


def is_word(value: Any) -> bool:
    """Whether this is one number or one text, of any library; None is a missing one."""
    return value is None or isinstance(value, str | int | float) or getattr(value, "shape", None) == ()


def _read_rows(source: Any) -> Table:
    """Every entry of a sequence, a data set or an iterator."""
    source, notes = _in_order(source)
    columns: dict[str, list[Any]] = {}
    count = size = 0
    for number, entry in enumerate(_entries(source)):
        row = _row(entry)
        batch = _batch_size(row)
        for name, value in row.items():
            column = columns.setdefault(name, [None] * count)
            column += [None] * (count - len(column))
            column += [value] if batch is None else _unbatched(value, batch, number)
            size += _bytes_of(value)
        size += ENTRY
        count += 1 if batch is None else batch
        if size > LIMIT:
            raise DataError(
                "the images",
                f"the first {count:,} of them take more than {LIMIT >> 30} GiB, or there is no end of them",
                "Save them as files and give the folder; of an iterator, give the first N",
            )
    if not count:
        raise DataError("an empty sequence", "there is nothing to train on", "Give at least one image")
    for column in columns.values():
        column += [None] * (count - len(column))
    return Table(dict(columns), [*notes, *_about_random(source, columns)], {"": names_of_classes(source, SECOND)})


def _in_order(source: Any) -> tuple[Any, list[str]]:
    """The data set of a loader that shows each image once, without its shuffling; notes on any other loader."""
    dataset, sampler = getattr(source, "dataset", None), getattr(source, "sampler", None)
    if dataset is None or sampler is None:
        return source, []
    plain = str(getattr(source.collate_fn, "__module__", "")).startswith("torch.utils.data")
    every = type(sampler).__name__ in ("RandomSampler", "SequentialSampler") and not getattr(sampler, "replacement", 0)
    if plain and every and isinstance(dataset, _Indexed):
        return dataset, ["The images of the loader are read once, in the order of its data set."]
    notes = ["The batches of the loader are read once."]
    if getattr(source, "drop_last", False):
        notes.append(Altered("The loader drops its last batch (drop_last), so these images are left out."))
    if type(sampler).__name__ not in IN_ORDER:
        notes.append(
            Altered(
                "The loader has an order of its own, mostly another one at every start, by which a stopped run is "
                "not resumed. Give its data set instead."
            )
        )
    return source, notes


def _entries(source: Any) -> Iterator[Any]:
    """The entries of an iterator until it ends; those of a data set that is none, by number."""
    number = 0
    try:
        for entry in source if isinstance(source, Iterable) else (source[place] for place in range(len(source))):
            yield entry
            number += 1
    except DataError:
        raise
    except Exception as error:  # the data set of another library may raise anything
        raise DataError(
            f"image number {number}",
            f"reading it raised {type(error).__name__}: {reason_of(error, 300)}",
            f"Correct the {type(source).__name__}, or leave this image out",
        ) from error


def _row(entry: Any) -> dict[str, Any]:
    """One entry by names: a row has its own, a pair is an image and a label or caption."""
    if isinstance(entry, Mapping) and not {"bytes", "path"} >= set(entry):
        return {str(name): value for name, value in entry.items()}
    if isinstance(entry, tuple | list) and entry and (not is_word(entry[0]) or isinstance(entry[0], str)):
        named = {IMAGE: entry[0], **({SECOND: entry[1]} if len(entry) > 1 else {})}
        return named | {FURTHER.format(place + 1): value for place, value in enumerate(entry) if place > 1}
    return {IMAGE: entry}


def _batch_size(row: dict[str, Any]) -> int | None:
    """Images in a batch; None for a single image."""
    stacks = [value for value in row.values() if is_stack(value) and value.ndim == 4]
    return len(stacks[0]) if stacks else None


def _unbatched(values: Any, batch: int, number: int) -> list[Any]:
    if not isinstance(values, Sized) or isinstance(values, str) or len(values) != batch:
        raise DataError(
            f"batch number {number}",
            f"it has {batch} images, but not {batch} labels or captions",
            "Correct its batches",
        )
    unbatched: Any = as_array(values) if is_stack(values) else values
    return list(unbatched)


def _bytes_of(value: Any) -> int:
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    return int(getattr(value, "nbytes", 0)) if is_stack(value) else 0


def _about_random(source: Any, columns: Mapping[str, list[Any]]) -> list[str]:
    """A note if an image is another one when it is read again: some are, as a random flip leaves half of them."""
    if isinstance(source, Iterable) or any(len(values) != len(source) for values in columns.values()):
        return []  # a list, something that is read only once, or batches
    places = range(0, len(source), max(1, len(source) // READ_AGAIN))[:READ_AGAIN]
    again = ((place, name, value) for place in places for name, value in _row(source[place]).items())
    if all(_same(columns[name][place], value) for place, name, value in again if name in columns):
        return []
    return [
        Altered(
            "The data set returns another image whenever it is read, as random transforms do: each was read once, and "
            "a stopped run is not resumed with others. Take the random transforms out."
        )
    ]


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Image.Image) and not is_stack(one):
        return True
    return np.array_equal(as_array(one), as_array(other))


_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Table]], ...] = (  # the first that fits
    (
        lambda source: isinstance(source, _Keyed),
        lambda source: Table({str(name): source[name] for name in source.keys()}),  # noqa: SIM118 (no dict)
    ),
    (is_stack, lambda source: Table({IMAGE: as_array(source)})),
    (lambda source: isinstance(source, Image.Image), lambda source: Table({IMAGE: [source]})),
    (is_images_and_words, lambda source: Table({IMAGE: source[0], SECOND: source[1]})),
    (
        lambda source: isinstance(source, Iterable | _Indexed) and not isinstance(source, set | frozenset | bytes),
        _read_rows,
    ),
)
