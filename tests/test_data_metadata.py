"""Captions and labels of files as people save them: any dialect, any encoding, names that are almost right."""

import contextlib
import csv
import json
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import Altered, DataError, load
from noisekiln.data.dataset import Split
from noisekiln.data.encoding import decode_text
from noisekiln.data.image_names import ImageNames
from noisekiln.data.split import held_out, only_trained_classes

HEAD = "file_name,text\n"


def folder(path: Path, *names: str, **files: str | bytes) -> Path:
    """Images of these names; beside them a metadata.csv (`csv=`) or .jsonl (`jsonl=`)."""
    for i, name in enumerate(names or ("0.png", "1.png", "2.png")):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9 * i, 3, 3)).save(file, "PNG")
    for kind, text in files.items():
        (path / f"metadata.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(data, *parts: str) -> bool:
    """Whether one note, which Python shows as a warning, holds all these parts."""
    return any(isinstance(note, Altered) and all(part in note for part in parts) for note in data.notes)


@pytest.mark.parametrize(
    "table",
    [
        'file_name,text\n0.png,"a, b"\n1.png,c\n',
        "file_name;text\n0.png;a, b\n1.png;c\n",
        "file_name\ttext\r\n0.png\ta, b\r\n1.png\tc\r\n",
        "file_name|text\n0.png|a, b\n1.png|c\n",
        'file_name,text\r0.png,"a, b"\r1.png,c\r',  # line ends of an old Mac
        "sep=;\r\nfile_name;text\r\n0.png;a, b\r\n1.png;c\r\n",  # Excel's own first line
        '"File Name";"Text"\n"0.png";"a, b";;;\n;;\n\n1.png;c\n',  # empty rows and cells, as spreadsheets add them
        'file_name,text\n0.png, "a, b"\n1.png,c\n',
        'image,caption\n0.png,"a, b"\n1.png,c\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_of_any_dialect(tmp_path: Path, table: str, encoding: str):
    table = "\ufeff" + table if encoding == "utf-8-sig" else table  # two marks, as some editors write
    assert load(folder(tmp_path, csv=table.encode(encoding))).train.captions == ("a, b", "c", "")


def test_commas_without_quotes_belong_to_the_caption(tmp_path: Path):
    data = load(folder(tmp_path, csv="file_name,text,label\n0.png,1girl, red hair, smile,x\n1.png,b,y\n2.png,c,x\n"))
    assert data.train.captions == ("1girl, red hair, smile", "b", "c")
    assert data.class_names == ("x", "y")
    assert said(data, "metadata.csv: in 1 row the text holds ',' without quotes")
    data = load(folder(tmp_path, csv="file_name,label\n0.png,x,z\n1.png,y\n2.png,x\n"))
    assert data.class_names == ("x", "y")
    assert said(data, "1 row has more cells than names")


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path):
    data = load(folder(tmp_path, csv=HEAD + '0.png,"a\n1.png,"c, d"\n2.png,5" wide\n'))
    assert data.train.captions == ("a", "c, d", '5" wide')
    assert said(data, "quotation marks in it have no partner")
    assert load(folder(tmp_path, csv=HEAD + '0.png,"a\nb"\n1.png,c\n')).train.captions == ("a\nb", "c", "")


def test_fields_of_any_length_and_zero_characters(tmp_path: Path):
    data = load(folder(tmp_path, csv=f"{HEAD}0.png,{'word ' * 100_000}\n1.png,a\0b\n"))
    assert len(data.train.captions[0]) == 499_999
    assert csv.field_size_limit() == 131_072  # as before, for others
    assert data.train.captions[1] == "ab"
    assert said(data, "metadata.csv: 1 zero character in it is left out.")
    data = load(folder(tmp_path, csv=f"{HEAD}0.png,a\n{chr(0) * 60}"))  # as a crash leaves a file
    assert data.train.captions == ("a", "", "")


def test_columns_of_one_name_and_cells_without_a_name(tmp_path: Path):
    data = load(folder(tmp_path, csv=",file_name,text,text\n0,0.png,a,b\n1,1.png,,c\n"))
    assert data.train.captions == ("a\nb", "c", "")
    assert said(data, "cells without a name in the first row are not used")
    assert said(data, "several columns are called text; each of them is a caption of its own")
    data = load(folder(tmp_path, csv="file_name,note,note\n0.png,,c\n1.png,d,e\n"))
    assert list(data.train.columns["note"][:2]) == ["c", "d"]
    assert said(data, "several columns are called note; the first filled one of each row is used")
    data = load(folder(tmp_path, csv=HEAD + "0.png,a\n0.png,b\n"))
    assert data.train.captions == ("b", "", "")
    assert said(data, "1 row of the metadata describes an image again", "'0.png'")


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0b", "\u2029"])
def test_a_json_line_ends_at_its_line_end_only(tmp_path: Path, separator: str):
    rows = [{"file_name": f"{i}.png", "text": f"a{separator}b"} for i in range(3)]
    lines = "\r".join(json.dumps(row, ensure_ascii=separator == "\x0b") for row in rows)
    assert load(folder(tmp_path, jsonl=lines)).train.captions == (f"a{separator}b",) * 3


def test_json_of_many_kinds(tmp_path: Path):
    rows = [{"file_name": "0.png", "text": ["red", "hat"]}, {"file_name": "1.png", "text": "a\ud800"}]
    assert load(folder(tmp_path, jsonl=json.dumps(rows))).train.captions == ("red, hat", "a?", "")
    rows = [{"file_name": "0.png", "captions": ["a red hat", "a\nhat"]}]  # captions, where a list of texts is tags
    assert load(folder(tmp_path, jsonl=json.dumps(rows))).train.captions == ("a red hat\na hat", "", "")
    for depth in range(800, 1000, 4):  # a depth can be just small enough to be read, and too large to be written
        row = '{"file_name": "0.png", "text": "a", "x": ' + "[" * depth + "]" * depth + "}"
        with contextlib.suppress(DataError):
            assert load(folder(tmp_path, jsonl=row)).train.captions[0] == "a"
    for text in ("[" * 200_000, '{"a":' * 100_000, '{"file_name": 1' + "9" * 5000 + "}", '["a"]'):
        with pytest.raises(DataError, match="not a JSON object"):
            load(folder(tmp_path, jsonl=text))


def test_an_encoding_is_guessed_only_where_it_is_clear(tmp_path: Path):
    data = load(folder(tmp_path, csv=f"{HEAD}0.png,café größer\n".encode("latin-1")))
    assert data.train.captions[0] == "café größer"
    assert said(data, "metadata.csv is not UTF-8; it was read as Western European (cp1252)")
    for text, encoding in (("赤い花と猫", "cp932"), ("红色的汽车", "gbk"), ("красный", "cp1251")):
        with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
            decode_text("a.csv", text.encode(encoding))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("images/0.png", "images/0.png"),
        ("./x/../images/0.png", "images/0.png"),
        ("images\\0.png", "images/0.png"),
        ("C:\\data\\images\\0.png", "images/0.png"),
        ("/home/me/data/images/0.png", "images/0.png"),
        ("0.png", "images/0.png"),
        ("IMAGES/0.PNG", "images/0.png"),
        ("images/0.jpg", "images/0.png"),
        ("images/0", "images/0.png"),
        ("v1.5", "v1.5.png"),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
        ("1.png", None),  # in two folders
        ("b/2.png", None),  # in another folder only
        ("../images/0.png", None),
        ("/", None),
        ("..", None),
    ],
)
def test_a_name_is_matched_where_one_image_fits(name: str, image: str | None):
    images = ["images/0.png", "a/1.png", "b/1.png", "a/2.png", "v1.5.png", unicodedata.normalize("NFD", "café.png")]
    assert ImageNames(images).find(name, "")[0] == image


def test_names_are_relative_to_their_file_and_matched_below_it(tmp_path: Path):
    folder(tmp_path, "train/1.png", "val/1.png", "val/2.png")
    (tmp_path / "train" / "metadata.csv").write_text(HEAD + "1.png,a\n2.png,b\n")
    data = load(tmp_path)
    assert (data.train.captions, data.held_out.captions) == (("a",), ("", ""))
    (tmp_path / "train" / "metadata.csv").write_text(HEAD + "train/1.png,a\n")
    data = load(tmp_path)
    assert data.train.captions == ("a",)
    assert not said(data, "differs")


def test_a_file_in_a_sub_folder_describes_the_images_there():
    images = ImageNames(["train/1.png", "2.png", "val/1.png"])
    assert images.find("photos/1.png", "train")[0] == "train/1.png"
    assert images.find("photos/2.png", "train")[0] is None
    assert images.find("2.jpg", "train")[0] is None


def test_names_that_do_not_fit_exactly_are_said(tmp_path: Path):
    data = load(folder(tmp_path, csv=HEAD + "photos/0.png,a\n1.jpg,b\nz.png,c\n"))
    assert data.train.captions == ("a", "b", "")
    assert said(data, "metadata.csv: 2 names differ from the image that is meant, such as 'photos/0.png' for '0.png'.")
    assert said(data, "1 of 3 rows belongs to no image, the first is 'z.png' (not there)", "Give the path")
    assert not data.skipped


def test_of_several_names_for_one_image_only_an_exact_one_counts(tmp_path: Path):
    data = load(folder(tmp_path, "7.png", "8.png", csv=HEAD + "cats/7.png,a\ndogs/7.png,b\nx/8.png,c\n8.png,d\n"))
    assert data.train.captions == ("", "d")
    assert said(data, "3 of 4 rows belong to no image")


def test_few_labels_do_not_leave_the_other_images_out(tmp_path: Path):
    names = [f"{kind}/{i}.png" for kind in ("cats", "dogs") for i in range(3)]
    data = load(folder(tmp_path, *names, csv="file_name,label\ncats/0.png,x\ndogs/1.png,y\n"))
    assert len(data.train) == 6
    assert data.class_names == ("cats", "dogs")
    assert said(data, "Only 2 of 6 images have a label in the metadata")


def test_caption_files_of_all_habits(tmp_path: Path):
    folder(
        tmp_path,
        "1.png",
        "1.jpg",
        "2.png",
        "IMG.png",
        "b.png.png",
        unicodedata.normalize("NFD", "é.png"),
        "A.png",
        "a.png",
    )
    for name, text in {
        "1.txt": "one", "2.caption": "two", "img.TXT": "three", "b.png.png.txt": "four",
        unicodedata.normalize("NFC", "é.txt"): "five", "A.txt": "six", "a.txt": "seven", "notes.txt": "eight",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    data = load(tmp_path)
    captions = dict(zip(map(unicodedata.normalize, ["NFC"] * 8, data.train.files), data.train.captions, strict=True))
    assert captions == {
        "1.png": "one", "1.jpg": "one", "2.png": "two", "IMG.png": "three", "b.png.png": "four", "é.png": "five",
        "A.png": "six", "a.png": "seven",
    }  # fmt: skip
    assert [one.file for one in data.skipped] == ["notes.txt"]


def test_the_metadata_s_captions_have_priority_over_files_for_their_images_only(tmp_path: Path):
    folder(tmp_path, csv=HEAD + "0.png,from the table\n")
    for name in ("0.txt", "1.txt"):
        (tmp_path / name).write_text("from a file")
    assert load(tmp_path).train.captions == ("from the table", "from a file", "")


def test_caption_files_that_are_none(tmp_path: Path):
    folder(tmp_path, csv=HEAD + "1.png,x\n")
    (tmp_path / "0.txt").write_bytes(b"\x93\xff\xfe\x81" * 9)  # not text
    (tmp_path / "1.txt").write_text("y")
    (tmp_path / "2.txt").write_text("0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.3 0.1\n")
    data = load(tmp_path)
    assert data.train.captions == ("", "x", "")
    assert [one.file for one in data.skipped] == ["0.txt"]
    assert said(data, "1 text file holds boxes of objects")
    assert said(data, "1 caption in text files is not used: the metadata has another")
    (tmp_path / "2.txt").write_text("1 " * 400_000 + "x")
    start = time.perf_counter()
    load(tmp_path)
    assert time.perf_counter() - start < 2


def test_captions_that_are_all_empty_are_none(tmp_path: Path):
    for name in ("0.txt", "1.txt", "2.txt"):
        (folder(tmp_path) / name).write_text(" \n")
    data = load(tmp_path)
    assert data.train.captions is None
    assert said(data, "3 captions are empty")


def test_every_class_keeps_an_image_in_training():
    labels = np.arange(40) % 2
    assert np.array_equal(held_out(40, labels), held_out(40))
    assert held_out(40).sum() == 4
    alone = np.arange(40)
    assert not held_out(40, alone).any()
    lost = np.flatnonzero(held_out(40))
    labels[lost[:2]] = 7
    chosen = held_out(40, labels)
    assert np.flatnonzero(held_out(40) & ~chosen).tolist() == [lost[0]]


def test_that_images_stay_for_their_class_is_said(tmp_path: Path):
    data = load(folder(tmp_path, *(f"c{i}/0.png" for i in range(10))))
    assert data.held_out is None
    assert len(set(data.train.labels.tolist())) == 10
    assert (
        "0 of 10 images are held out, as there is no test part; 1 more would be, but is the only one of a class."
        in (data.notes)
    )


def test_classes_without_a_training_image_are_not_offered(tmp_path: Path):
    names = [f"train/{kind}/{i}.png" for kind in ("cats", "emus") for i in range(3)]
    data = load(folder(tmp_path, *names, "val/cats/0.png", "val/birds/0.png", "val/emus/1.png"))
    assert data.class_names == ("cats", "emus")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.held_out.files == ("val/cats/0.png", "val/emus/1.png")
    assert data.held_out.labels.tolist() == [0, 1]
    assert said(data, "No training image is of the class birds", "1 held-out image of it left out")


def test_numbered_classes_keep_their_numbers():
    part = Split(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2]))
    kept, names, notes = only_trained_classes([part], ("a", "b", "c"), numbered=True)
    assert (kept, names) == ([part], ("a", "b", "c"))
    assert notes == ["No training image is of the class b, so it will never be learned."]


def test_class_names_are_one_class_in_any_encoding_of_accents(tmp_path: Path):
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    table = "file_name,label\n" + f"0.png,{forms[0]}\n1.png,{forms[1]}\n2.png,Cat\n"
    data = load(folder(tmp_path, csv=table))
    assert data.class_names == ("Cat", forms[0])
    data = load(folder(tmp_path, csv="file_name,label\n0.png,cat\n1.png,Cat\n2.png,b\n"))
    assert "Different classes by case only: Cat and cat." in data.notes
