"""Archives of arrays as people make them: other names, foreign members, damage."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from noisekiln.data import Altered, DataError, load

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
LABELS = np.arange(12) % 3


def npz(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"), ("x", "y"), ("X", "Y"), ("arr_0", "arr_1"), ("data", "targets"), ("data", "label"),
        ("image", "class"), ("samples", "classes"), ("Images", "Labels"), ("X_train", "y_train"), ("trainX", "trainY"),
        ("train_images", "train_labels"), ("images_train", "labels"), ("whatever", "y"),
    ],
)  # fmt: skip
def test_labels_are_found_under_their_common_names(tmp_path: Path, images: str, labels: str):
    for column in (LABELS, LABELS[:, None]):
        data = load(npz(tmp_path, **{images: IMAGES, labels: column}))
        assert data.class_names == ("0", "1", "2")
        assert not data.train.columns
        assert not data.altered
    assert np.array_equal(load(npz(tmp_path, **{images: IMAGES})).train.pixels, data.train.pixels)


def test_arrays_of_uncertain_names_are_named(tmp_path: Path):
    data = load(npz(tmp_path, data=IMAGES, targets=LABELS))
    assert 'The array "data" is read as the images.' in data.notes
    assert 'The array "targets" is read as the labels.' in data.notes
    further = {"data": LABELS * 1.5, "targets": np.zeros((12, 4), int), "arr_1": np.zeros((3, 3))}
    other = load(npz(tmp_path, images=IMAGES, **further))
    assert other.train.labels is None
    assert sorted(other.train.columns) == ["data"]
    assert other.altered == ("Not used: 'targets', 'arr_1'.",)


def test_arrays_that_are_not_used_are_named(tmp_path: Path):
    parts = {f"{side}_{kind}": value for side in ("train", "val", "test") for kind, value in
             (("images", IMAGES), ("labels", LABELS))}  # fmt: skip
    data = load(npz(tmp_path, **parts, mean=np.zeros((2, 2))))
    assert len(data.held_out) == 12
    assert not data.held_out.columns
    assert data.altered == ("Not used: 'val_images', 'val_labels', 'mean'.",)
    assert isinstance(data.altered[0], Altered)


def test_foreign_members_are_left_out(tmp_path: Path):
    path = npz(tmp_path, images=IMAGES, meta=np.array([{}], object))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "x")
        archive.writestr("junk.npy", b"x")
    (note,) = load(path).altered
    assert note.startswith(
        "Not used: 'meta' (Python objects, which can run code when opened), 'README.txt' (not an array)"
    )
    assert "'junk' (damaged" in note


@pytest.mark.parametrize("name", ["images", "labels", "captions"])
def test_what_is_needed_and_cannot_be_read_is_an_error(tmp_path: Path, name: str):
    arrays = {"images": IMAGES, "labels": LABELS, "captions": ["a"] * 12}
    path = npz(tmp_path, **{**arrays, name: np.array([None] * 12, object)})
    with pytest.raises(DataError, match=f"cannot read its array '{name}' safely .Python objects"):
        load(path)


def test_texts_of_bytes(tmp_path: Path):
    data = load(npz(tmp_path, images=IMAGES, captions=["café".encode("latin-1")] * 12, who=[b"me"] * 12))
    assert data.train.captions[0] == "café"
    assert data.train.columns["who"][0] == "me"
    assert data.altered == ("The texts of 'captions' are not UTF-8; they were read as Western European (cp1252).",)
    with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
        load(npz(tmp_path, images=IMAGES, captions=["赤い花".encode("cp932")] * 12))


@pytest.mark.parametrize("names", [np.array("a\nb\nc"), [b"a", b"b", b"c"], [["a"], ["b"], ["c"]]])
def test_class_names_of_any_form(tmp_path: Path, names: object):
    assert load(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=names)).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "labels": np.array(3)}, "not one class per image"),
        ({"images": IMAGES, "labels": np.eye(3)[LABELS]}, r"numpy\.argmax"),
        ({"images": IMAGES, "labels": LABELS * 1j}, "not one class per image"),
        ({"images": IMAGES, "captions": [["a", "b"]] * 12}, "not a list"),
        ({"images": np.array(3)}, "a single number"),
        ({"images": np.zeros((12, 8, 8), [("r", "u1")])}, "holds no pixels"),
        ({"images": np.full((12, 8, 8), "x")}, "holds no pixels"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array(3)}, "do not cut the bytes"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 9, 5, 9])}, "do not cut the bytes"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([-9, 9])}, "do not cut the bytes"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 10])}, "do not cut the bytes"),
        ({"jpeg": np.zeros(9), "offsets": np.array([0, 9])}, "do not cut the bytes"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path: Path, arrays: dict[str, object], message: str):
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path, **arrays))


def test_a_member_without_a_name_is_left_out(tmp_path: Path):
    file = npz(tmp_path, images=IMAGES, labels=LABELS)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("x", b"nothing")
    damaged = bytearray(file.read_bytes())
    at = damaged.rindex(b"PK\x01\x02")
    assert damaged[at + 28] == 1  # the length of the name in the central directory
    damaged[at + 28] = 0
    damaged[at + 30] = 1  # the name becomes an extra field
    file.write_bytes(damaged)
    assert load(file).class_names == ("0", "1", "2")


def test_suffixes_that_were_changed(tmp_path: Path):
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "a.npy").rename(tmp_path / "array.npz")
    npz(tmp_path, images=IMAGES, labels=LABELS).rename(tmp_path / "archive.npy")
    assert len(load(tmp_path / "array.npz").train) == 11
    assert load(tmp_path / "archive.npy").class_names == ("0", "1", "2")


def test_a_header_that_promises_too_much_is_no_array(tmp_path: Path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 100, 100)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    start = time.perf_counter()
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "a.npz")
    assert time.perf_counter() - start < 2


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("noisekiln.data.array_archive.os.sysconf", lambda name: 16)
    with pytest.raises(DataError, match=r"its arrays take 0\.0 GiB, and this machine has"):
        load(npz(tmp_path, images=IMAGES))
