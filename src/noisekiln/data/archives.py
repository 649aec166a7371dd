"""Files in zip and tar archives, read one at a time: nothing is unpacked to a place that an archive names."""

import bz2
import gzip
import io
import lzma
import mmap
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from noisekiln.data.dataset import Skipped
from noisekiln.data.names import printable_name
from noisekiln.data.source import Item
from noisekiln.errors import DataError, reason_of

MAX_FILE = 1 << 27  # bytes of one file in an archive: a larger image is not what it says
MAX_RATIO, SMALL = 100, 1 << 28  # a tar that grows by more than this factor, above this many bytes, is a bomb
OUTSIDE = "its path leads outside of the archive"
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

Contents = tuple[list[Item], list[Skipped]]


def is_archive(path: Path) -> bool:
    """Whether a file's content is a zip or a tar archive, or compressed. Never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        packed = head.startswith(b"PK\3\4") or head[257:262] == b"ustar" or _decompress(head) is not None
        return packed or zipfile.is_zipfile(path)
    except OSError:
        return False


def archive_contents(path: Path) -> Contents:
    """The files in an archive, and those that cannot be read. Raises DataError."""
    try:
        return _zip_contents(path) if zipfile.is_zipfile(path) else _tar_contents(path)
    except DataError:
        raise
    except Exception as error:  # a broken archive raises errors of any class
        raise DataError(
            str(path), f"the archive is damaged ({reason_of(error)})", "Download or pack it again"
        ) from error


def _zip_contents(path: Path) -> Contents:
    archive = zipfile.ZipFile(path)
    items: dict[str, Item] = {}
    skipped: list[Skipped] = []
    for info in archive.infolist():
        if is_folder(info):
            continue
        name = _zip_name(info)
        if why := _refused(name, info.file_size) or _refused_in_zip(info):
            skipped.append(Skipped(name, why))
        else:
            name = str(PurePosixPath(name))
            items[name] = Item(name, partial(_open_in_zip, archive, info))
    return list(items.values()), skipped


def is_folder(info: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip archive is a folder, or has no name, on which Python's own check fails."""
    return info.filename[-1:] in ("", "/")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name, also where a program wrote UTF-8 without saying so, or backslashes."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return printable_name(name.replace("\\", "/"))


def _refused_in_zip(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "it is encrypted: unpack the archive with its password"
    return "a link" if stat.S_ISLNK(info.external_attr >> 16) else ""


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        with archive.open(info) as file:
            return io.BytesIO(file.read(MAX_FILE))
    # Of zipfile: NotImplementedError for an unknown compression, RuntimeError for an encrypted file.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise OSError(f"{error}") from error


def _tar_contents(path: Path) -> Contents:
    content = _mapped(path)
    items: dict[str, Item] = {}
    skipped: list[Skipped] = []
    for member in _members(content):
        if member.isdir():
            continue
        name = printable_name(member.name)
        why = _refused(name, member.size) or ("" if member.isreg() else "a link or a special file")
        why = why or ("a sparse file" if member.issparse() else "")
        end = member.offset_data + member.size
        why = why or ("the archive ends before" if end > len(content) else "")
        if why:
            skipped.append(Skipped(name, why))
        else:
            name = str(PurePosixPath(name))
            items[name] = Item(name, partial(_open_in_tar, content, member.offset_data, end))
    return list(items.values()), skipped


def _members(content: mmap.mmap) -> Iterator[tarfile.TarInfo]:
    """Every member; the archive must go forward: a negative size would lead in a circle."""
    with tarfile.open(fileobj=cast(IO[bytes], content), mode="r:") as archive:
        before = -1
        while (member := archive.next()) is not None:
            if archive.offset <= before or member.size < 0:
                raise tarfile.ReadError("a member has a negative size")
            before = archive.offset
            yield member


def _open_in_tar(content: mmap.mmap, start: int, end: int) -> BinaryIO:
    return io.BytesIO(content[start:end])


def _mapped(path: Path) -> mmap.mmap:
    """The tar archive; a compressed one is decompressed to a temporary file, which has no name and goes by itself."""
    with path.open("rb") as file:
        decompress = _decompress(file.read(8))
        if decompress is None:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    size = path.stat().st_size
    limit = min(max(SMALL, MAX_RATIO * size), shutil.disk_usage(tempfile.gettempdir()).free - SMALL)
    with tempfile.TemporaryFile() as draft, decompress(path, "rb") as packed:
        while chunk := packed.read(1 << 20):
            if draft.tell() + len(chunk) > limit:
                raise DataError(
                    str(path),
                    f"it unpacks to more than {limit >> 20:,} MiB, which is too much for its size or for the disk",
                    "Unpack it yourself, and give the folder",
                )
            draft.write(chunk)
        draft.flush()
        return mmap.mmap(draft.fileno(), 0, access=mmap.ACCESS_READ)


def _decompress(head: bytes) -> Callable[..., Any] | None:
    return next((opened for magic, opened in _COMPRESSIONS.items() if head.startswith(magic)), None)


def _refused(name: str, size: int) -> str:
    """Why a file of an archive is not read; "" if it is."""
    if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
        return OUTSIDE
    return f"larger than {MAX_FILE >> 20} MiB in an archive: unpack it to use the file" if size > MAX_FILE else ""
