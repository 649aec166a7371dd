"""What a tree of files means: flat, classes, parts, metadata, sizes."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import DataError, load
from noisekiln.data import store as store_module


def save(folder: Path, name: str, colour: int = 200, size: tuple[int, int] = (8, 8)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 10, 10)).save(path)


def many(folder: Path, count: int, prefix: str = "") -> None:
    for i in range(count):
        save(folder, f"{prefix}{i}.png", i)


def test_flat_in_natural_order(tmp_path: Path):
    many(tmp_path, 12)
    data = load(tmp_path)
    assert data.held_out is not None
    files = data.train.files + data.held_out.files
    assert sorted(files, key=lambda name: int(name[:-4])) == [f"{i}.png" for i in range(12)]
    assert list(data.train.files) == sorted(data.train.files, key=lambda name: int(name[:-4]))
    assert data.train.labels is None
    assert data.class_names == ()
    assert any("There are no classes" in note and "column label in metadata.csv" in note for note in data.notes)
    assert data.train.pixels[:, 0, 0, 0].tolist() == [int(name[:-4]) for name in data.train.files]


def test_nested_flat(tmp_path: Path):
    many(tmp_path, 3, "all/of/them/")
    assert load(tmp_path).train.labels is None
    save(tmp_path, "beside.png")
    data = load(tmp_path)
    assert len(data.train) == 4
    assert any("not read as classes" in note for note in data.notes)


def test_sub_folders_are_classes(tmp_path: Path):
    save(tmp_path, "pets/dogs/1.png")
    many(tmp_path, 3, "pets/cats/deep/er/")
    data = load(tmp_path)
    assert data.class_names == ("cats", "dogs")
    assert data.train.labels is not None
    assert data.train.labels.dtype == np.int64
    assert data.train.labels.tolist() == [0, 0, 0, 1]
    assert "2 classes from sub-folders: cats, dogs." in data.notes


@pytest.mark.parametrize("other", ["test", "val", "Validation"])
def test_part_folders(tmp_path: Path, other: str):
    for part, count in (("train", 4), (other, 2)):
        many(tmp_path, count, f"{part}/a/")
        many(tmp_path, count, f"{part}/b/")
    data = load(tmp_path)
    assert len(data.train) == 8
    assert data.held_out is not None
    assert len(data.held_out) == 4
    assert data.class_names == ("a", "b")
    assert data.held_out.labels.tolist() == [0, 0, 1, 1]


def test_part_folders_without_classes(tmp_path: Path):
    many(tmp_path, 3, "train/")
    many(tmp_path, 1, "test/")
    data = load(tmp_path)
    assert (len(data.train), len(data.held_out), data.class_names) == (3, 1, ())


def test_folders_that_all_images_of_the_parts_lie_in_are_no_classes(tmp_path: Path):
    for part, names in (("train", ("cat", "dog")), ("test", ("cat",))):
        for name in names:
            many(tmp_path, 2, f"{part}/images/{name}/")
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert (data.train.labels.tolist(), data.held_out.labels.tolist()) == ([0, 0, 1, 1], [0, 0])


def test_beside_a_third_folder_train_and_test_are_classes(tmp_path: Path):
    for name in ("train", "test", "plane"):
        many(tmp_path, 2, f"{name}/")
    assert load(tmp_path).class_names == ("plane", "test", "train")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata(tmp_path: Path, kind: str):
    many(tmp_path, 3, "images/")
    rows = [("images/0.png", 'red, "bright"', "ten"), ("images/1.png", "ünï", "two"), ("images/9.png", "x", "two")]
    if kind == "jsonl":
        lines = [json.dumps({"file_name": name, "text": text, "label": label}) for name, text, label in rows]
        text = "\n".join(lines) + "\n\n"
    else:
        text = "\ufefffile_name,caption,label\r\n" + "\r\n".join(
            f'{name},"{text.replace(chr(34), chr(34) * 2)}",{label}' for name, text, label in rows
        )
    (tmp_path / f"metadata.{kind}").write_bytes(text.encode())
    data = load(tmp_path)
    assert data.train.files == ("images/0.png", "images/1.png")
    assert data.train.captions == ('red, "bright"', "ünï")
    assert data.class_names == ("ten", "two")
    assert [(one.file, one.why) for one in data.skipped] == [("images/2.png", "it has no label in the metadata")]
    assert any(
        f"metadata.{kind}: 1 of 3 rows belongs to no image, the first is 'images/9.png'" in n for n in data.notes
    )


def test_metadata_may_miss_captions(tmp_path: Path):
    many(tmp_path, 3)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "one"}\n{"file_name": "2.png"}')
    data = load(tmp_path)
    assert data.train.captions == ("", "one", "")
    assert "1 of 3 images have a caption." in data.notes


def test_numeric_labels_sort_as_numbers(tmp_path: Path):
    many(tmp_path, 2)
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,10\n1.png,9\n")
    data = load(tmp_path)
    assert data.class_names == ("9", "10")
    assert data.train.labels.tolist() == [1, 0]


def test_text_files_beside_images_are_captions(tmp_path: Path):
    many(tmp_path, 2)
    (tmp_path / "0.txt").write_text(" a red \t square \n\n a square\n")
    (tmp_path / "other.txt").write_text("x")
    data = load(tmp_path)
    assert data.train.captions == ("a red square\na square", "")
    assert "1 caption file has several lines; each line is a caption of its own." in data.notes
    assert [one.file for one in data.skipped] == ["other.txt"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "0.png"}\nnot json', "metadata.jsonl, line 2: it is not a JSON object"),
        ("metadata.jsonl", '{"text": "x"}', "no file_name"),
        ("metadata.csv", "picture,text\n0.png,x\n", "no file_name"),
        ("metadata.csv", "file_name,text\n0.png,赤い花\n".encode("cp932"), "Save it as UTF-8"),
    ],
)
def test_broken_metadata(tmp_path: Path, name: str, text: str | bytes, message: str):
    many(tmp_path, 1)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_metadata_cannot_point_outside(tmp_path: Path):
    many(tmp_path, 1, "in/")
    many(tmp_path, 1)
    (tmp_path / "in" / "metadata.jsonl").write_text('{"file_name": "../0.png", "text": "x"}')
    data = load(tmp_path / "in")
    assert data.train.files == ("0.png",)
    assert data.train.captions is None


def test_small_odd_and_oblong_are_kept(tmp_path: Path):
    save(tmp_path, "a.png", size=(13, 7))
    data = load(tmp_path)
    assert data.size == (7, 13)
    assert not any("scaled" in note for note in data.notes)


def test_different_sizes_are_named(tmp_path: Path):
    for number, size in enumerate([(20, 30), (640, 480), (100, 100)]):
        save(tmp_path, f"{number}.png", size=size)
    data = load(tmp_path)
    assert data.size == (64, 64)
    assert "3 different sizes, 30x20 to 480x640: scaled and centre-cropped to 64x64 (`size` changes it)." in data.notes
    assert "1 of 3 images are smaller than 64x64 and were enlarged." in data.notes
    assert load(tmp_path, size=(16, 24)).size == (16, 24)


def test_large_of_one_size_is_scaled(tmp_path: Path):
    save(tmp_path, "a.png", size=(65, 65))
    data = load(tmp_path)
    assert data.size == (64, 64)
    assert "65x65: scaled and centre-cropped to 64x64 (`size` changes it)." in data.notes


@pytest.mark.parametrize(("widths_and_heights", "default"), [
    ([(100, 100), (40, 40)], (32, 32)), ([(100, 100), (90, 90), (40, 40)], (64, 64)),
    ([(65, 49)], (49, 65)), ([(72, 48)], (48, 72)), ([(128, 96)], (48, 64)), ([(192, 108)], (32, 64)),
    ([(96, 128)] * 9 + [(128, 96)], (64, 48)), ([(96, 128)] * 8 + [(128, 96)], (64, 64)),
    ([(1024, 4)], (16, 32)), ([(128, 32)], (32, 128)), ([(96, 128), (300, 400)], (64, 48)),
    ([(96, 128), (128, 96)], (64, 64)), ([(96, 144), (30, 42)], (32, 24)),
    ([(300, 64)], (32, 64)), ([(300, 20), (200, 12)], (16, 32)),
])  # fmt: skip
def test_the_default_size_has_the_shape_of_the_images_and_is_one_that_most_fill(widths_and_heights, default, tmp_path):
    for number, size in enumerate(widths_and_heights):
        save(tmp_path, f"{number}.png", size=size)
    assert load(tmp_path).size == default


def test_crop_keeps_the_centre_and_pixel_art_stays_sharp(tmp_path: Path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cropped = load(tmp_path, size=8).train.pixels[0]
    assert np.array_equal(cropped, pixels[:, 4:12])
    enlarged = load(tmp_path, size=32).train.pixels[0]
    assert np.array_equal(enlarged, cropped.repeat(4, 0).repeat(4, 1))


def test_shrinking_averages(tmp_path: Path):
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inside = load(tmp_path).train.pixels[0, 4:-4, 4:-4]
    assert np.abs(inside.astype(int) - 128).max() <= 3


def test_big_sets_are_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    many(tmp_path / "in", 40)
    (tmp_path / "in" / "5.png").write_bytes((tmp_path / "in" / "5.png").read_bytes()[:60])  # found broken on the way
    expected = load(tmp_path / "in")
    monkeypatch.setattr(store_module, "LARGE", 100)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        data = load(tmp_path / "in", cache=cache)
        assert isinstance(data.train.pixels, np.memmap)
        assert np.array_equal(data.train.pixels, expected.train.pixels)
        assert data.fingerprint == expected.fingerprint
        assert data.train.files == expected.train.files
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == ["held-out.npy", "train.npy"]


def test_full_disk_is_an_error_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    many(tmp_path, 4)
    monkeypatch.setattr(store_module, "LARGE", 100)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"only 0\.0 GiB are free"):
        load(tmp_path, cache=tmp_path / "cache")


def test_progress_reaches_the_end(tmp_path: Path):
    many(tmp_path, 12)
    calls: list[tuple[int, int]] = []
    load(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)


def test_fingerprint_changes_with_the_data(tmp_path: Path):
    many(tmp_path, 3, "a/")
    many(tmp_path, 3, "b/")
    first = load(tmp_path)
    assert first.fingerprint == load(tmp_path).fingerprint
    assert len(first.fingerprint) == 16
    (tmp_path / "b" / "2.png").rename(tmp_path / "a" / "9.png")
    moved = load(tmp_path).fingerprint
    save(tmp_path, "a/0.png", 99)
    assert len({first.fingerprint, moved, load(tmp_path).fingerprint}) == 3


def test_missing_folder_suggests_its_neighbours(tmp_path: Path):
    many(tmp_path, 1, "photos/")
    with pytest.raises(DataError, match=r"there is no such file or folder\. Did you mean .*photos"):
        load(tmp_path / "photo")
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "a" / "b")


def test_empty_and_useless_folders(tmp_path: Path):
    with pytest.raises(DataError, match="the folder is empty"):
        load(tmp_path)
    (tmp_path / "a.md").write_text("x")
    with pytest.raises(DataError, match=r"a\.md: not an image file"):
        load(tmp_path)
    np.savez(tmp_path / "data.npz", images=np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"the arrays in data\.npz"):
        load(tmp_path)


@pytest.mark.parametrize("size", [3, 0, -8, (32, 2)])
def test_too_small_a_size(tmp_path: Path, size: int | tuple[int, int]):
    many(tmp_path, 1)
    with pytest.raises(DataError, match="a side under 4 pixels"):
        load(tmp_path, size=size)


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(DataError("a", "b", "C")))  # our own bytes: a worker's error must arrive whole
    assert str(error) == "a: b. C."


def test_an_empty_class_folder_is_named(tmp_path: Path):
    many(tmp_path, 5, "cat/")
    (tmp_path / "dog").mkdir()
    assert [(one.file, one.why) for one in load(tmp_path).skipped] == [("dog", "an empty folder")]


@pytest.mark.parametrize("text", ["file_name,text\n", "file_name,text\n0.png,\n", ""])
def test_metadata_that_says_nothing_is_named(tmp_path: Path, text: str):
    many(tmp_path, 3)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    assert "metadata.csv has no entry for any image." in load(tmp_path).notes


def test_metadata_outside_of_the_folder_is_called_so(tmp_path: Path):
    many(tmp_path / "data", 3)
    save(tmp_path, "beside.png")
    (tmp_path / "data" / "metadata.csv").write_text("file_name,text\n../beside.png,a cat\n", encoding="utf-8")
    assert any("'../beside.png' (outside the data's folder)" in note for note in load(tmp_path / "data").notes)
