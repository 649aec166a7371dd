"""Zip and tar archives, CIFAR as downloaded, and what is said where data are not there."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import DataError, archives, load
from noisekiln.data.plain_pickle import load_plain_pickle

OUTSIDE = "its path leads outside of the archive"


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 10, 200)).save(file, "PNG")
    return file.getvalue()


def pack_zip(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


def pack_tar(file: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


FILES = {
    "pets/cats/2.png": png(2),
    "pets/cats/10.png": png(10),
    "pets/dogs/1.png": png(1),
    "/etc/a.png": png(),
    "pets/../../b.png": png(),
    "__MACOSX/pets/cats/._2.png": b"x",
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_means_what_its_folder_means(tmp_path: Path, kind: str):
    file = tmp_path / f"set.{kind}"
    pack_zip(file, FILES) if kind == "zip" else pack_tar(file, FILES, f"w:{kind.partition('.')[2]}")
    data = load(file)
    assert (data.name, data.class_names) == ("set", ("cats", "dogs"))
    assert data.train.files == ("pets/cats/2.png", "pets/cats/10.png", "pets/dogs/1.png")
    assert data.train.pixels[:, 0, 0, 0].tolist() == [2, 10, 1]
    assert {one.file: one.why for one in data.skipped} == {"/etc/a.png": OUTSIDE, "pets/../../b.png": OUTSIDE}
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_metadata_in_an_archive(tmp_path: Path):
    captions = b"file_name,text\n0.png,a cat\n1.png,a dog\n"
    file = pack_zip(tmp_path / "a.zip", {"0.png": png(0), "1.png": png(1), "metadata.csv": captions})
    assert load(file).train.captions == ("a cat", "a dog")


def test_links_and_devices_in_archives_are_left_out(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
            member = tarfile.TarInfo(f"{number}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("good.png")
        member.size = len(png())
        archive.addfile(member, io.BytesIO(png()))
    data = load(tmp_path / "a.tar")
    assert data.train.files == ("good.png",)
    assert {one.why for one in data.skipped} == {"a link or a special file"}
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("good.png", png())
    assert [(one.file, one.why) for one in load(tmp_path / "a.zip").skipped] == [("link.png", "a link")]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "MAX_FILE", 1 << 16)
    data = load(pack_zip(tmp_path / "a.zip", {"good.png": png(), "bomb.png": b"\x89PNG\r\n\x1a\n" + b"\0" * (1 << 20)}))
    assert data.train.files == ("good.png",)
    assert "unpack it to use the file" in data.skipped[0].why
    monkeypatch.setattr(archives, "SMALL", 1 << 16)
    monkeypatch.setattr(archives, "MAX_RATIO", 2)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"\0" * (1 << 20)))
    with pytest.raises(DataError, match=r"unpacks to more than .* Unpack it yourself"):
        load(tmp_path / "a.tar.gz")


def test_damaged_archives(tmp_path: Path):
    whole = pack_tar(tmp_path / "a.tar.gz", {"a.png": os.urandom(50_000)}, "w:gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "junk.zip").write_bytes(b"PK\3\4junk")
    (tmp_path / "junk.tar").write_bytes(b"\0" * 257 + b"ustar" + b"x" * 900)
    (tmp_path / "single.gz").write_bytes(gzip.compress(b"no tar at all" * 100))
    for name in ("half.tar.gz", "junk.zip", "junk.tar", "single.gz"):
        with pytest.raises(DataError, match=r"the archive is damaged .* Download or pack it again"):
            load(tmp_path / name)


@pytest.mark.timeout(20)
def test_files_with_a_password_are_named(tmp_path: Path):
    content = bytearray(pack_zip(tmp_path / "set.zip", {"1.png": png(1), "2.png": png(2)}).read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of a file, and of its entry in the list
        content[content.rindex(mark) + flags] |= 1
    (tmp_path / "set.zip").write_bytes(content)
    data = load(tmp_path / "set.zip")
    assert data.train.files == ("1.png",)
    assert [(one.file, one.why[:15]) for one in data.skipped] == [("2.png", "it is encrypted")]


def test_a_tar_that_goes_backwards_ends(tmp_path: Path):
    content = bytearray(pack_tar(tmp_path / "a.tar", {"a.png": png(), "b.png": png()}).read_bytes())
    header = 1024  # of b.png; with a size of -512, it would follow itself for ever
    content[header + 124 : header + 136] = b"\xff" + (256**11 - 512).to_bytes(11)
    content[header + 148 : header + 156] = b" " * 8
    content[header + 148 : header + 156] = f"{sum(content[header : header + 512]):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="a negative size"):
        load(tmp_path / "a.tar")


def test_names_in_old_zips(tmp_path: Path):
    file = pack_zip(tmp_path / "a.zip", {"cafe/1.png": png(), "tea/1.png": png(), "dir\\2.png": png()})
    file.write_bytes(file.read_bytes().replace(b"cafe", "caé".encode()))  # UTF-8 that is not declared as such
    assert load(file).class_names == ("caé", "dir", "tea")


def save_pickle(file: Path, content: object) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def cifar10(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A tiny CIFAR-10 as Python 2 and torchvision have it: tmp_path/cifar-10-batches-py."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3072), np.uint8)
    for number in range(6):
        batch = {b"data": pixels[10 * number : 10 * number + 10], b"labels": list(range(10)), b"filenames": [b"x"] * 10}
        save_pickle(folder / (f"data_batch_{number + 1}" if number < 5 else "test_batch"), batch)
    save_pickle(folder / "batches.meta", {b"label_names": [b"class%d" % number for number in range(10)]})
    (folder / "readme.html").write_text("x")
    return folder, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def test_cifar10_as_downloaded(tmp_path: Path, cifar10: tuple[Path, np.ndarray]):
    folder, pixels = cifar10
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    for place in (folder, tmp_path, tmp_path / "cifar-10-python.tar.gz"):
        data = load(place)
        assert np.array_equal(data.train.pixels, pixels[:50])
        assert np.array_equal(data.held_out.pixels, pixels[50:])
        assert data.train.labels.tolist() == list(range(10)) * 5
        assert data.class_names == tuple(f"class{number}" for number in range(10))
    (folder / "data_batch_4").unlink()
    assert "Only 4 of its 5 batches of training images are there." in load(folder).altered


def test_cifar100_in_its_binary_version(tmp_path: Path):
    records = np.random.default_rng(0).integers(0, 256, (100, 3074), np.uint8)
    records[:, 0], records[:, 1] = np.arange(100) // 5, np.arange(100)
    (tmp_path / "train.bin").write_bytes(records.tobytes())
    (tmp_path / "test.bin").write_bytes(records[:3].tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine{number}" for number in range(100)))
    (tmp_path / "coarse_label_names.txt").write_text("\n".join(f"coarse{number}" for number in range(20)))
    data = load(tmp_path)
    assert data.class_names[:2] == ("fine0", "fine1")
    assert data.train.labels.tolist() == list(range(100))
    assert data.train.columns["coarse_label"][7] == "coarse1"
    assert np.array_equal(data.train.pixels[9, ..., 2].ravel(), records[9, 2 + 2048 :])
    (tmp_path / "train.bin").write_bytes(records.tobytes()[:-1])
    with pytest.raises(DataError, match=r"not a multiple of 3,074 bytes"):
        load(tmp_path)


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int):
    monkeypatch.chdir(tmp_path)
    for content in (RunsCode(), {"data": [RunsCode()]}, np.array([RunsCode()], object), os.system, print):
        with pytest.raises(ValueError, match=r"might run code|Python objects"):
            load_plain_pickle(pickle.dumps(content, protocol))
    assert not (tmp_path / "ran").exists()


def test_pickles_of_plain_data(tmp_path: Path):
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    for protocol in (0, 1, 2, 3, 4):
        found = load_plain_pickle(pickle.dumps({"a": array, "b": [1, "x", b"y"]}, protocol))
        assert np.array_equal(found["a"], array)
        assert found["b"] == [1, "x", b"y"]
    hostile = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00xK\x01sb."  # changes a function
    with pytest.raises(ValueError, match="changes an object that is no array"):
        load_plain_pickle(hostile)


@pytest.mark.parametrize("content", [{}, {"data": 3}, {"data": np.zeros((2, 3072), np.uint8), "labels": 7}, [1]])
def test_batches_of_wrong_content(cifar10: tuple[Path, np.ndarray], content: object):
    folder, _ = cifar10
    save_pickle(folder / "data_batch_1", content)
    with pytest.raises(DataError, match="not a batch of CIFAR as downloaded"):
        load(folder)
    save_pickle(folder / "data_batch_1", {"data": np.zeros((1, 3072), np.uint8), "labels": [10]})
    with pytest.raises(DataError, match="labels run from"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cifar10", r"Download https://www\.cs\.toronto\.edu/~kriz/cifar-10-python\.tar\.gz and give that file"),
        ("CIFAR-100", r"cifar-100-python\.tar\.gz and give that file"),
        ("mnist", r"train-images-idx3-ubyte\.gz, .* into a folder mnist, and give that folder"),
        ("fashion_mnist", r"zalandoresearch/fashion-mnist.* into a folder fashion-mnist"),
        ("https://example.org/a.zip", "downloads nothing"),
        ("hf:owner/name", "downloads nothing"),
    ],
)
def test_data_that_must_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedy: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=remedy):
        load(name)
