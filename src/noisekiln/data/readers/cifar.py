"""A folder of CIFAR's files, or one that holds it, as torchvision and Keras keep it."""

from pathlib import Path

from noisekiln.data.cifar_batches import cifar_source
from noisekiln.data.source import Item, Source, file_item

FORMATS = "a folder or archive of CIFAR-10 or CIFAR-100 as downloaded"
FOLDERS = ("", "cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")
MARKS = ("batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt")


def recognises(path: Path) -> int:
    """By the file that names its classes, next to a batch of images."""
    return 2 * (_batches(path) is not None)


def read(path: Path) -> Source:
    """The train batches, and the test batch as the held-out part."""
    folder = _batches(path)
    assert folder is not None  # recognises() saw it
    found = cifar_source(path.resolve().name, _files_in(folder))
    assert found is not None
    return found


def _batches(path: Path) -> Path | None:
    """The folder of the batches."""
    try:
        for name in FOLDERS:
            folder = path / name
            marked = any((folder / mark).is_file() for mark in MARKS)
            batch = any(
                (folder / file).is_file() for file in ("data_batch_1", "train", "data_batch_1.bin", "train.bin")
            )
            if marked and batch:
                return folder
    except OSError:
        pass
    return None


def _files_in(folder: Path) -> list[Item]:
    return [file_item(file.name, file) for file in sorted(folder.iterdir()) if file.is_file()]
