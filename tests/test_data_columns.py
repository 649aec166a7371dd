"""Further columns: read from metadata and arrays, kept in step with the images, part of the fingerprint."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import load
from noisekiln.errors import DataError

CSV = "file_name,text,age,site,score\na.png,one,3,x,1.5\nb.png,two,,y,\nc.png,three,5e1,,-2\n"


def images(folder: Path, names: str = "abc", size: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", (size, size), (20 * i, 10, 10)).save(folder / f"{name}.png")


def numbered(count: int = 30) -> np.ndarray:
    """Images whose first pixel is their number."""
    pixels = np.zeros((count, 4, 4), np.uint8)
    pixels[:, 0, 0] = np.arange(count)
    return pixels


def test_a_column_is_of_numbers_where_every_filled_cell_is_one(tmp_path: Path):
    images(tmp_path)
    (tmp_path / "metadata.csv").write_text(CSV)
    data = load(tmp_path)
    columns = data.train.columns
    assert sorted(columns) == ["age", "score", "site"]
    np.testing.assert_array_equal(columns["age"], [3, np.nan, 50])
    np.testing.assert_array_equal(columns["score"], [1.5, np.nan, -2])
    assert columns["age"].dtype == np.float64
    assert columns["site"].tolist() == ["x", "y", ""]
    assert "3 further columns: age (numbers), score (numbers), site (text)." in data.notes
    assert data.train.captions == ("one", "two", "three")


def test_jsonl_may_hold_values_of_any_kind(tmp_path: Path):
    images(tmp_path)
    rows = [
        {"file_name": "a.png", "sick": True, "box": [1, 2], "size": 2.5},
        {"file_name": "b.png", "sick": False, "size": None},
        {"file_name": "c.png", "size": 7, "note": "4 weeks"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = load(tmp_path).train.columns
    np.testing.assert_array_equal(columns["sick"], [1, 0, np.nan])
    np.testing.assert_array_equal(columns["size"], [2.5, np.nan, 7])
    assert columns["box"].tolist() == ["[1, 2]", "", ""]
    assert columns["note"].tolist() == ["", "", "4 weeks"]


@pytest.mark.parametrize("cell", ["inf", "1_000", "3 mm", "0x10"])
def test_what_only_looks_like_a_number_is_text(tmp_path: Path, cell: str):
    images(tmp_path)
    (tmp_path / "metadata.csv").write_text(f"file_name,value\na.png,1\nb.png,{cell}\n")
    assert load(tmp_path).train.columns["value"].tolist() == ["1", cell, ""]


def test_columns_follow_images_through_split_and_skipping(tmp_path: Path):
    names = [f"{i:02d}" for i in range(24)]
    for i, name in enumerate(names):
        images(tmp_path, [name], size=8)
        Image.new("L", (8, 8), i).save(tmp_path / f"{name}.png")
    (tmp_path / "07.png").write_bytes(b"not an image")
    (tmp_path / "metadata.csv").write_text("file_name,number\n" + "".join(f"{n}.png,{int(n)}\n" for n in names))
    data = load(tmp_path)
    assert data.held_out is not None
    for part in (data.train, data.held_out):
        assert part.columns["number"].tolist() == part.pixels[:, 0, 0, 0].tolist()
    chosen = data.train.take(np.array([3, 1]))
    assert chosen.columns["number"].tolist() == chosen.pixels[:, 0, 0, 0].tolist()
    assert chosen.files == (data.train.files[3], data.train.files[1])


def test_a_part_without_a_column_has_missing_cells(tmp_path: Path):
    images(tmp_path / "train", "ab")
    images(tmp_path / "test", "cd")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,age,site\na.png,3,x\nb.png,4,y\n")
    data = load(tmp_path)
    assert data.train.columns["age"].tolist() == [3, 4]
    assert np.isnan(data.held_out.columns["age"]).all()
    assert data.held_out.columns["site"].tolist() == ["", ""]


def test_further_arrays_of_an_npz_are_columns(tmp_path: Path):
    pixels = numbered()
    number = np.arange(30, dtype=np.int32)
    np.savez(
        tmp_path / "a.npz", images=pixels, labels=number % 2, number=number, code=number.astype(str),
        single=number[:, None], scale=2.5, wide=np.zeros((30, 2)),
    )  # fmt: skip
    data = load(tmp_path / "a.npz")
    assert sorted(data.train.columns) == ["code", "number", "single"]
    for part in (data.train, data.held_out):
        first = part.pixels[:, 0, 0, 0]
        assert part.columns["number"].tolist() == first.tolist()
        assert part.columns["number"].dtype == np.float64
        assert part.columns["single"].tolist() == first.tolist()
        assert part.columns["code"].tolist() == [str(value) for value in first]  # text stays text in an array


def test_a_column_of_another_length_is_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=numbered(40), angle=np.arange(7.0))
    with pytest.raises(DataError, match=r"^`angle` has 7 values for 40 images: .* Give as many values as images"):
        load(tmp_path / "a.npz")


def test_the_parts_of_an_npz_have_their_own_columns(tmp_path: Path):
    np.savez(
        tmp_path / "a.npz", train_images=numbered(5), test_images=numbered(4),
        train_age=np.arange(5.0), age_test=np.arange(4) + 100, train_site=np.array(list("abcde")),
    )  # fmt: skip
    data = load(tmp_path / "a.npz")
    assert data.train.columns["age"].tolist() == [0, 1, 2, 3, 4]
    assert data.held_out.columns["age"].tolist() == [100, 101, 102, 103]
    assert data.held_out.columns["site"].tolist() == [""] * 4


def test_the_fingerprint_changes_with_a_cell_and_is_as_before_without_columns(tmp_path: Path):
    marks = []
    for cells in ({}, {"age": np.arange(5)}, {"age": np.arange(5) + 1}, {"years": np.arange(5)}):
        np.savez(tmp_path / "a.npz", images=numbered(5), **cells)
        marks.append(load(tmp_path / "a.npz").fingerprint)
    assert len(set(marks)) == 4
    assert marks[0] == load(numbered(5)).fingerprint == "f933596a04dccaad"


def test_data_without_further_columns_has_none_and_no_note(tmp_path: Path):
    images(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text,\na.png,one,0\n")
    data = load(tmp_path)
    assert dict(data.train.columns) == {}
    assert not any("further column" in note for note in data.notes)
