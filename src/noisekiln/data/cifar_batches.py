"""CIFAR-10 and CIFAR-100 as they are downloaded: batches in pickles of Python, or in the binary version."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.dataset import Altered
from noisekiln.data.plain_pickle import load_plain_pickle
from noisekiln.data.source import Item, Part, Source
from noisekiln.errors import DataError

PIXELS = 3 * 32 * 32
MAX_BYTES = 1 << 28  # of a batch: CIFAR-100's largest has 155 MB

Batch = tuple[NDArray[np.uint8], list[NDArray[np.int64]]]  # images (N, 3072), and the labels of each kind
NameLists = list[tuple[str, ...]]  # names of the labels of each kind


@dataclass(frozen=True)
class _Version:
    """Names of the files of one version, and functions that read a batch and the names of the classes."""

    title: str
    train: str
    test: str
    names: tuple[str, ...]
    batches: int
    read_batch: Callable[[Item], Batch]
    read_names: Callable[[Sequence[Item]], NameLists]


def cifar_source(name: str, items: Sequence[Item]) -> Source | None:
    """The source of a tree of files that holds one of the versions in one of its folders; None if it holds none.

    Raises:
        DataError: If a batch is damaged, or names code.
    """
    folders: dict[str, dict[str, Item]] = {}
    for item in items:
        path = PurePosixPath(item.name)
        folders.setdefault(str(path.parent), {})[path.name] = item
    for files in folders.values():
        for version in _VERSIONS:
            batches = [files[file] for file in sorted(files) if re.fullmatch(version.train, file)]
            if batches and all(file in files for file in version.names):
                try:
                    return _read(name, version, batches, files)
                except (IndexError, KeyError, TypeError, AttributeError) as error:  # content of the wrong kinds
                    raise _no_batch(batches[0], str(error)) from error
    return None


def _read(name: str, version: _Version, batches: list[Item], files: dict[str, Item]) -> Source:
    names = version.read_names([files[file] for file in version.names])
    train = _part([version.read_batch(item) for item in batches], names)
    test = _part([version.read_batch(files[version.test])], names) if version.test in files else None
    notes = [f"{version.title}, as downloaded."]
    if len(batches) < version.batches:
        notes.append(Altered(f"Only {len(batches)} of its {version.batches} batches of training images are there."))
    if len(names) > 1:
        notes.append("Its fine labels are the classes; the coarse ones are the column coarse_label.")
    return Source(name, train, test, class_names=names[0], notes=tuple(notes))


def _part(batches: list[Batch], names: NameLists) -> Part:
    pixels = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = [np.concatenate(each) for each in zip(*(labels for _, labels in batches), strict=True)]
    coarse = {"coarse_label": np.array(names[1])[labels[1]]} if len(names) > 1 else {}
    return Part(np.ascontiguousarray(pixels), labels[0], columns=coarse)


def _pickled(item: Item) -> dict[Any, Any]:
    """The dict of a pickle, its names as texts."""
    try:
        found = load_plain_pickle(_content(item))
    except ValueError as error:
        raise _no_batch(item, str(error)) from error
    if not isinstance(found, dict):
        raise _no_batch(item, "it is not a dict")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}


def _pickled_batch(item: Item) -> Batch:
    found = _pickled(item)
    pixels = found.get("data")
    kinds = [found[key] for key in ("labels", "fine_labels", "coarse_labels") if key in found]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise _no_batch(item, f"it holds no array of {PIXELS} bytes for each image")
    return pixels, [_labels(item, kind, len(pixels)) for kind in kinds]


def _labels(item: Item, labels: Any, count: int) -> NDArray[np.int64]:
    if len(labels) != count or not all(isinstance(label, int) for label in labels):
        raise _no_batch(item, "it does not hold one label for each image")
    return np.array(labels, np.int64)


def _pickled_names(items: Sequence[Item]) -> NameLists:
    found = _pickled(items[0])
    lists = [found[key] for key in ("label_names", "fine_label_names", "coarse_label_names") if key in found]
    return [
        tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in each)
        for each in lists
    ]


def _binary_batch(item: Item, kinds: int) -> Batch:
    """Records of one byte for each kind of label (the coarse one first), then the pixels."""
    content = np.frombuffer(_content(item), np.uint8)
    if not len(content) or len(content) % (kinds + PIXELS):
        raise _no_batch(item, f"its length is not a multiple of {kinds + PIXELS:,} bytes")
    records = content.reshape(-1, kinds + PIXELS)
    return records[:, kinds:], [records[:, kind].astype(np.int64) for kind in reversed(range(kinds))]


def _listed_names(items: Sequence[Item]) -> NameLists:
    return [tuple(_content(item).decode("utf-8", "replace").split()) for item in items]


def _content(item: Item) -> bytes:
    with item.open() as handle:
        assert not isinstance(handle, Image.Image)  # these items are files
        content = handle.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _no_batch(item, f"it is larger than {MAX_BYTES >> 20} MiB")
    return content


def _no_batch(item: Item, why: str) -> DataError:
    return DataError(item.name, f"it is not a batch of CIFAR as downloaded ({why})", "Download the archive again")


_VERSIONS = (
    _Version("CIFAR-10", r"data_batch_\d", "test_batch", ("batches.meta",), 5, _pickled_batch, _pickled_names),
    _Version("CIFAR-100", "train", "test", ("meta",), 1, _pickled_batch, _pickled_names),
    _Version(
        "CIFAR-10",
        r"data_batch_\d\.bin",
        "test_batch.bin",
        ("batches.meta.txt",),
        5,
        lambda item: _binary_batch(item, 1),
        _listed_names,
    ),
    _Version(
        "CIFAR-100",
        r"train\.bin",
        "test.bin",
        ("fine_label_names.txt", "coarse_label_names.txt"),
        1,
        lambda item: _binary_batch(item, 2),
        _listed_names,
    ),
)
