"""Idx files, as of MNIST, plain or gzipped: a file of images with its file of labels, or a folder of such files."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.source import Part, Source
from noisekiln.errors import DataError

FORMATS = "an idx file (or its .gz), or a folder of train and t10k idx files"
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FOLDERS = (".", "raw", "MNIST/raw", "FashionMNIST/raw")
MAX_BYTES = 1 << 33  # of one file: MNIST's largest has 47 MB
IMAGES = re.compile(r"images?[-._]idx[34]", re.IGNORECASE)


def recognises(path: Path) -> int:
    """A file by its first bytes, a folder by a file of training images in it."""
    try:
        if path.is_dir():
            return 2 * (_folder_of_files(path) is not None)
        with _open_unzipped(path) as file:
            return 2 * (file.read(4) in (b"\0\0\x08\x03", b"\0\0\x08\x04"))
    except (OSError, EOFError, zlib.error):
        return 0


def read(path: Path) -> Source:
    """A folder's t10k or test files become the held-out part; a single file is one part."""
    folder = _folder_of_files(path)
    train = path if folder is None else _images_in(folder, "train")
    test = None if folder is None else _images_in(folder, "t10k") or _images_in(folder, "test")
    assert train is not None  # recognises() saw it
    names = FASHION if _is_fashion(path) else ()
    parts = [_read_part(train), None if test is None else _read_part(test)]
    notes = [f"idx files: {', '.join(file.name for file in (train, test) if file)}."]
    if parts[0] is not None and parts[0].labels is None:
        notes.append("There is no file of labels for the images.")
    assert parts[0] is not None
    return Source(path.name.split(".")[0], parts[0], parts[1], class_names=names, notes=tuple(notes))


def _folder_of_files(path: Path) -> Path | None:
    """The folder of the files: the path, or where torchvision keeps them in it."""
    if not path.is_dir():
        return None
    places = (path / inside for inside in FOLDERS)
    return next((place for place in places if place.is_dir() and _images_in(place, "train") is not None), None)


def _read_part(images: Path) -> Part:
    labels = _labels_of(images)
    return Part(_read_array(images), None if labels is None else _read_array(labels))


def _images_in(folder: Path, word: str) -> Path | None:
    """The first file of images whose name has the word."""
    files = sorted(file for file in folder.iterdir() if word in file.name.lower() and IMAGES.search(file.name))
    return next((file for file in files if file.is_file()), None)


def _labels_of(images: Path) -> Path | None:
    """The same name with "labels" and "idx1", gzipped or not."""
    name = re.sub(r"idx[34]", "idx1", re.sub("image", "label", images.name))
    plain = name.removesuffix(".gz")
    candidates = (images.with_name(plain), images.with_name(plain + ".gz"))
    return next((file for file in candidates if file.is_file() and file != images), None)


def _read_array(path: Path) -> NDArray[np.uint8]:
    """The bytes of one idx file in the shape that its header gives."""
    try:
        with _open_unzipped(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                raise DataError(str(path), "it does not start like an idx file of bytes", "Fetch the file again")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise DataError(str(path), "it ends within its header", "Fetch the file again")
            shape = struct.unpack(f">{magic[3]}I", header)
            size = math.prod(shape)
            data = _read_up_to(file, min(size, MAX_BYTES))
            file.read(1)  # gzip compares its checksum at the end
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), f"it is damaged ({error})", "Fetch the file again") from error
    if len(data) < size:
        raise DataError(str(path), f"its header promises {shape} bytes, but it ends before", "Fetch the file again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_up_to(file: BinaryIO, size: int) -> bytes:
    """At most this many bytes, piece by piece: a damaged header must not allocate what the file does not hold."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, 1 << 24))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _open_unzipped(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _is_fashion(path: Path) -> bool:
    """Whether the folder's name says so: the files are named like MNIST's."""
    folder = path if path.is_dir() else path.parent
    return any("fashionmnist" in re.sub("[-_ ]", "", part.lower()) for part in folder.resolve().parts)
