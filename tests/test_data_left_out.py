"""What is no data: runs and samples of noisekiln, hidden files, folders of the system, formats that are not read."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noisekiln.cli import plot
from noisekiln.data import DataError, load
from noisekiln.data.dataset import Altered, Skipped, skipped_note
from noisekiln.data.formats import HEAD, foreign_content, is_readable
from noisekiln.data.resize import resize_and_crop
from noisekiln.data.source import natural_sort_key


def save(folder: Path, name: str, value: int = 200) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 10, 10)).save(path)


def test_a_plot_in_the_folder_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plot.command("schedules")
    save(tmp_path, "1.png")
    save(tmp_path, "other/schedules.png")  # of somebody else
    data = load(tmp_path)
    assert (len(data.train), data.train.pixels.shape[1]) == (2, 8)
    assert [(one.file, one.why) for one in data.skipped] == [("schedules.png", "a plot of noisekiln")]


def test_runs_and_samples_in_the_folder_are_no_data(tmp_path: Path):
    save(tmp_path, "cats/1.png")
    save(tmp_path, "dogs/1.png")
    before = load(tmp_path)
    for run in ("runs/photos", "cats/renamed"):
        save(tmp_path, f"{run}/samples/00001.png")
        save(tmp_path, f"{run}/data.png")
        (tmp_path / run / "run.yaml").write_text("data: .\n")
        (tmp_path / run / "ema").mkdir()  # an empty folder in a run is not worth a word
    save(tmp_path, "pictures/00000.png")
    (tmp_path / "pictures" / "samples.json").write_text("[]")
    data = load(tmp_path)
    assert data.fingerprint == before.fingerprint
    assert data.class_names == ("cats", "dogs")
    assert not data.skipped
    assert data.altered == (
        "3 folders of runs or samples were left out: cats/renamed, pictures, runs/photos (to train on samples, give "
        "their folder).",
    )


def test_a_folder_of_samples_can_be_data_and_a_run_cannot(tmp_path: Path):
    for name in ("00000.png", "00001.png", "grid.png", "animation.gif"):
        save(tmp_path / "samples", name)
    (tmp_path / "samples" / "samples.json").write_text("[]")
    data = load(tmp_path / "samples")
    assert data.train.files == ("00000.png", "00001.png")
    assert [one.why for one in data.skipped] == ["an overview of the samples beside it"] * 2
    save(tmp_path / "run", "samples/1.png")
    for name in ("run.yaml", "dataset.json"):
        (tmp_path / "run" / name).touch()
    with pytest.raises(DataError, match="this is the folder of a run, not of images"):
        load(tmp_path / "run")


@pytest.mark.parametrize(
    "folder",
    ["@eaDir/1.png", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", "__pycache__", ".thumbs"],
)
def test_folders_of_the_system_are_left_out_with_a_word(tmp_path: Path, folder: str):
    save(tmp_path, "cats/1.png")
    save(tmp_path, "dogs/1.png")
    save(tmp_path, f"{folder}/thumb.png")
    save(tmp_path, "cats/@eaDir/thumb.png")
    (tmp_path / "cats" / "._1.png").write_bytes(b"attributes of a Mac")
    data = load(tmp_path)
    assert data.class_names == ("cats", "dogs")
    assert len(data.train) == 2
    (note,) = data.altered
    assert note.startswith("2 hidden images, or images in folders of the system, were left out; the first is ")
    only = tmp_path / "only"
    save(only, f"{folder}/thumb.png")
    with pytest.raises(DataError, match=r"no other image in it: 1 hidden image"):
        load(only)


def test_the_content_tells_what_a_name_does_not(tmp_path: Path):
    for name, kind in (("scan", "PNG"), ("img.001", "PNG"), ("photo.jpg_large", "JPEG")):
        Image.new("RGB", (8, 8)).save(tmp_path / name, format=kind)
    contents = {
        "README": b"x",
        "b.002": b"xx",
        "phone.heic": b"\0\0\0\x18ftypheic",
        "phone.jpg": b"\0\0\0\x18ftypheic" + b"\0" * 40,
        "page.jpg": b"<!DOCTYPE html><html>",
        "lfs.png": b"version https://git-lfs.github.com/spec/v1\n",
        "film.mp4": b"x",
        "drawing.png": b"<svg xmlns='x'/>",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    data = load(tmp_path)
    assert data.train.files == ("img.001", "photo.jpg_large", "scan")
    why = {one.file: one.why for one in data.skipped}
    assert set(why) == set(contents)
    assert all("convert it to PNG or JPEG" in why[name] for name in ("phone.heic", "phone.jpg", "drawing.png"))
    assert "save its frames as images" in why["film.mp4"]
    assert "a download that failed" in why["page.jpg"]
    assert "git lfs pull" in why["lfs.png"]
    assert why["README"] == "not an image file (no suffix)"


def test_only_photos_of_a_phone_say_what_to_do(tmp_path: Path):
    for number in range(4):
        (tmp_path / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"IMG_0\.HEIC: a HEIC photo .* convert it to PNG or JPEG.* and 1 more"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", "this is a single image. Put it into a folder"),
        (b"<html>", "a download that failed"),
    ],
)
def test_a_file_in_place_of_a_folder(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are Unix")
def test_a_pipe_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "x/" * 3000])
def test_names_that_no_system_allows(name: str):
    with pytest.raises(DataError, match="there is no"):
        load(name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_read_and_printable(tmp_path: Path):
    folder = os.fsencode(tmp_path)
    for place in (b"caf\xe9", b"tea"):
        os.mkdir(folder + b"/" + place)
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        for name, content in ((b"1\xff.png", file.getvalue()), (b"1\xff.txt", b"a drink"), (b"note\xff.doc", b"x")):
            with open(folder + b"/" + place + b"/" + name, "wb") as handle:
                handle.write(content)
    os.mkdir(folder + b"/tea/empty\xfe")
    data = load(tmp_path)
    assert data.class_names == ("caf\\xe9", "tea")
    assert data.train.files == ("caf\\xe9/1\\xff.png", "tea/1\\xff.png")
    assert data.train.captions == ("a drink", "a drink")
    for text in (*data.notes, *(one.file for one in data.skipped), data.name):
        text.encode("utf-8")
    with pytest.raises(DataError) as caught:
        load(os.fsdecode(folder + b"/tea/empty\xfe"))
    str(caught.value).encode("utf-8")


def test_numbers_of_any_length_sort(tmp_path: Path):
    save(tmp_path, "2.png", 2)
    save(tmp_path, "9" * 200 + ".png", 9)
    names = ["8" * 6000, "a10", "a9", "10", "9"]
    assert sorted(names, key=natural_sort_key) == ["9", "10", "8" * 6000, "a9", "a10"]
    assert load(tmp_path).train.files == ("2.png", "9" * 200 + ".png")


def test_a_note_on_skipped_files_says_how_many_why_and_the_first():
    skipped = [Skipped(f"{number}.txt", "not an image") for number in range(5)]
    skipped += [Skipped("a", "broken"), Skipped("b", "gone"), Skipped("c", "odd"), Skipped("d", "odd")]
    assert skipped_note(skipped) == (
        "9 files were skipped (5, the first 0.txt: not an image; 2, the first c: odd; a: broken; and 1 more)."
    )
    assert isinstance(skipped_note(skipped), Altered)


def test_long_texts_in_a_png_do_not_hurt_its_pixels(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name, compressed in (("a.png", True), ("b.png", False)):
        text = PngInfo()
        text.add_text("parameters", "steps: 20")
        text.add_itxt("workflow", "z" * 3_000_000, zip=compressed)
        Image.fromarray(pixels).save(tmp_path / name, pnginfo=text)
    data = load(tmp_path)
    assert not data.skipped
    assert np.array_equal(data.train.pixels, [pixels, pixels])


def test_broken_exif_data_say_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + b"\x01\x12\0\x03\xff" * 9)
    assert len(load(tmp_path).train) == 2
    assert not [str(one.message) for one in recwarn]


class Ruler:
    """An image without pixels that checks the box of its enlargement."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = self.size = width, height

    def resize(self, size: tuple[int, int], _: object, box: tuple[float, ...], reducing_gap: float | None) -> None:
        left, top, right, bottom = box
        assert 0 <= left < right <= self.width, (self.size, size, box)
        assert 0 <= top < bottom <= self.height, (self.size, size, box)


def test_images_of_every_size_can_be_cropped():
    for target in ((32, 32), (28, 28), (24, 48), (57, 33)):
        for side in range(1, 600):
            for other in (side, side + 1, 2 * side, 7, 1024, 30_000):
                resize_and_crop(Ruler(side, other), target)
                resize_and_crop(Ruler(other, side), target)
    for side in (49, 98, 103, 206, 478):
        assert resize_and_crop(Image.new("L", (side, 2 * side)), (32, 32)).size == (32, 32)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "TIFF of a Mac", "NPY"])
def test_a_file_without_a_suffix_is_recognised_by_its_first_bytes(tmp_path: Path, form: str):
    with (tmp_path / "scan").open("wb") as file:
        if form == "NPY":
            np.save(file, np.zeros((8, 8, 3), np.uint8))
        elif form == "TIFF of a Mac":
            file.write(b"MM\0*" + bytes(60))
        else:
            Image.new("RGB", (8, 8)).save(file, form)
    head = (tmp_path / "scan").read_bytes()[:HEAD]
    assert is_readable(head)
    assert foreign_content(head) is None


@pytest.mark.parametrize(
    ("head", "says"),
    [
        *((b"\0\0\0\x18ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
        (b"\xff\x0a\0", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "Photoshop"), (b"%PDF-1.7", "PDF"), (b"v/1\x01", "high dynamic range"), (b"#?RADIANCE", "high dyn"),
        (b"<?xml version='1.0'?>\n<svg>", "SVG"), (b"\xef\xbb\xbf <SVG>", "SVG"), (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com", "git lfs pull"), (b"PK\x03\x04", "zip"),
        (b"\0\0\0\x20ftypisom", "video"), (b"\x1aE\xdf\xa3", "video"),
    ],
)  # fmt: skip
def test_what_other_files_are_is_said_by_their_first_bytes(head: bytes, says: str):
    assert not is_readable(head)
    assert says in str(foreign_content(head))


def test_a_run_yaml_alone_makes_no_run(tmp_path: Path):
    save(tmp_path, "1.png")
    (tmp_path / "run.yaml").write_text("of: another program")
    assert load(tmp_path).train.files == ("1.png",)
