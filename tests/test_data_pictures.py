"""Single files, good and bad: every kind becomes upright 8-bit pixels, or is listed with its reason."""

import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import DataError, DataSet, decode, image_collection, load
from noisekiln.data.decode import MAX_PIXELS
from noisekiln.data.image_file import read_image_file

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save_valid_image(folder: Path, name: str = "good.png", size: tuple[int, int] = (8, 8)) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, RED).save(folder / name)


def load_single_image(folder: Path) -> np.ndarray:
    """The pixels of the folder's one image."""
    data = load(folder, size=8)
    assert len(data.train) == 1, data.skipped
    return data.train.pixels[0]


def reasons(data: DataSet) -> dict[str, str]:
    return {one.file: one.why for one in data.skipped}


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def truncated(path: Path) -> None:
    noise().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_bad_files_are_listed_with_their_reason(tmp_path: Path):
    save_valid_image(tmp_path)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("I am not a picture")
    (tmp_path / "notes.md").write_text("# notes")
    truncated(tmp_path / "half.jpg")
    truncated(tmp_path / "half.png")
    truncated(tmp_path / "half.webp")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # opening it would wait forever
    data = load(tmp_path)
    assert data.train.files == ("good.png",)
    why = reasons(data)
    assert why["empty.png"] == "an empty file (0 bytes)"
    assert why["text.png"].startswith("not an image")
    assert why["notes.md"] == "not an image file (.md)"
    assert why["nowhere.png"] == "a link to nowhere"
    assert all(why[f"half.{kind}"].startswith("cut short or damaged") for kind in ("jpg", "png", "webp"))
    assert why.get("pipe.png", "not a regular file") == "not a regular file"
    (note,) = (note for note in data.altered if "skipped" in note)
    assert note.startswith(f"{len(why)} files were skipped (")
    assert "(nowhere.png: a link to nowhere; " in note


def test_unreadable_file_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_valid_image(tmp_path)
    save_valid_image(tmp_path, "locked.png")
    real = Path.open

    def refuse(self: Path, *args: object, **more: object) -> object:
        if self.name == "locked.png":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert reasons(load(tmp_path)) == {"locked.png": "cannot be opened: Permission denied"}


def test_bomb_is_refused_before_decoding_and_without_a_warning(tmp_path: Path):
    save_valid_image(tmp_path)
    side = int(MAX_PIXELS**0.5) + 10
    Image.new("1", (side, side)).save(tmp_path / "large.png")
    Image.new("1", (2 * side, 2 * side)).save(tmp_path / "huge.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        why = reasons(load(tmp_path))
    assert set(why) == {"large.png", "huge.png"}
    assert all("million pixels" in text for text in why.values())


def test_large_images_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(8):
        save_valid_image(tmp_path, f"{number}.png", (9, 9))
    at_once: list[int] = []
    seen: list[int] = []

    def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        at_once.append(1)
        time.sleep(0.01)
        seen.append(len(at_once))
        at_once.pop()
        return image.resize(size)

    monkeypatch.setattr(image_collection, "resize_and_crop", fitted)
    monkeypatch.setattr(image_collection, "THREADS", 4)
    monkeypatch.setattr(decode, "LARGE", 80)
    load(tmp_path, size=8)
    assert seen == [1] * 8


def test_hidden_and_system_files_are_ignored(tmp_path: Path):
    save_valid_image(tmp_path)
    for name in (".hidden.png", "__MACOSX/a.png", ".git/b.png"):
        save_valid_image(tmp_path, name)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    data = load(tmp_path)
    assert data.train.files == ("good.png",)
    assert not data.skipped


@pytest.mark.parametrize("name", ["UPPER.PNG", "Phötö 日本.png", "a b'c.png", "x.JpEg"])
def test_names_of_every_kind(tmp_path: Path, name: str):
    save_valid_image(tmp_path, name)
    assert load(tmp_path).train.files == (name,)


def test_content_counts_not_the_suffix(tmp_path: Path):
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "really_png.jpg", format="PNG")
    assert np.array_equal(load_single_image(tmp_path)[0, 0], GREEN)


def test_link_in_a_circle_ends(tmp_path: Path):
    save_valid_image(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(load(tmp_path).train) == 1


def test_animation_gives_its_first_frame(tmp_path: Path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = load(tmp_path)
    assert np.array_equal(data.train.pixels[0, 0, 0], RED)
    assert "1 image with several frames: the first is used." in data.notes


def test_cmyk(tmp_path: Path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    pixel = load_single_image(tmp_path)[0, 0].astype(int)
    assert pixel[0] > 240
    assert pixel[1:].max() < 15


def test_palette(tmp_path: Path):
    Image.new("RGB", (8, 8), RED).quantize(4).save(tmp_path / "a.png")
    assert np.array_equal(load_single_image(tmp_path)[0, 0], RED)


def test_palette_with_transparency_shows_white(tmp_path: Path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 255, 0, 255, 0, 0])
    image.paste(0, (0, 0, 4, 8))
    image.save(tmp_path / "a.png", transparency=0)
    pixels = load_single_image(tmp_path)
    assert np.array_equal(pixels[0, 0], WHITE)
    assert np.array_equal(pixels[0, 7], RED)


def test_hidden_colours_never_show(tmp_path: Path):
    Image.new("RGBA", (8, 8), (*GREEN, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (8, 8), (*RED, 255)).save(tmp_path / "b.png")
    data = load(tmp_path)
    assert np.array_equal(data.train.pixels[:, 0, 0], [WHITE, RED])
    assert "2 images with transparency: composited onto white." in data.notes


def test_grey_with_alpha_stays_grey(tmp_path: Path):
    Image.new("LA", (8, 8), (0, 127)).save(tmp_path / "a.png")
    pixels = load_single_image(tmp_path)
    assert pixels.shape == (8, 8, 1)
    assert abs(int(pixels[0, 0, 0]) - 128) <= 1


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_is_one_channel(tmp_path: Path, mode: str):
    Image.new(mode, (8, 8), 255).save(tmp_path / "a.png")
    assert load_single_image(tmp_path).shape == (8, 8, 1)


def test_grey_beside_colour_becomes_colour(tmp_path: Path):
    save_valid_image(tmp_path)
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
    data = load(tmp_path)
    assert data.channels == 3
    assert np.array_equal(data.train.pixels[1, 0, 0], (7, 7, 7))


def test_grey_saved_as_colour_becomes_grey(tmp_path: Path):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a.png")
    data = load(tmp_path)
    assert data.train.pixels.shape == (1, 8, 8, 1)
    assert "All images are grey: 1 channel." in data.notes


def test_16_bits_share_one_window(tmp_path: Path):
    for name, value in (("a", 4000), ("b", 2000)):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "c.tif")
    data = load(tmp_path)
    assert data.train.pixels[:, 0, 0, 0].tolist() == [249, 125, 249]  # of 4095, twelve bits
    assert "3 images of more than 8 bits: values of 0 to 4095 were scaled to 0 to 255." in data.notes


def test_float_pictures(tmp_path: Path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "b.tif")
    data = load(tmp_path)
    assert data.train.pixels[0, 0, 0, 0] == 128
    assert reasons(data) == {"b.tif": "it holds values that are not finite numbers"}


def test_one_image_of_12_bits_is_no_darker_than_in_a_data_set(tmp_path: Path):
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = read_image_file(tmp_path / "a.png", channels=1)
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    Image.fromarray(values).save(tmp_path / "b.png")
    assert np.array_equal(pixels, load(tmp_path, size=8).train.pixels[0])


def test_16_bit_colour_becomes_8_bit(tmp_path: Path):
    save_valid_image(tmp_path)
    (tmp_path / "a.ppm").write_bytes(b"P6 8 8 65535\n" + b"\xff\xff\x00\x00\x00\x00" * 64)
    assert np.array_equal(load(tmp_path).train.pixels[0, 0, 0], RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int):
    upright = Image.new("RGB", (16, 8), WHITE)
    upright.paste(RED, (0, 0, 8, 4))  # top left
    turn = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(turn.FLIP_LEFT_RIGHT),
        3: upright.transpose(turn.ROTATE_180),
        4: upright.transpose(turn.FLIP_TOP_BOTTOM),
        5: upright.transpose(turn.TRANSPOSE),
        6: upright.transpose(turn.ROTATE_90),
        7: upright.transpose(turn.TRANSVERSE),
        8: upright.transpose(turn.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    stored.save(tmp_path / "b.jpg", exif=exif, quality=100, subsampling=0)
    pixels = load(tmp_path).train.pixels.astype(int)
    assert pixels.shape == (2, 8, 16, 3)  # kept as is: both have one size once they are turned
    assert np.array_equal(pixels[0], np.asarray(upright))
    assert np.abs(pixels[1] - np.asarray(upright)).mean() < 6


def test_1x1_and_very_long(tmp_path: Path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "1.png")
    Image.new("RGB", (1, 10_000), GREEN).save(tmp_path / "2.png")
    data = load(tmp_path)
    assert np.array_equal(data.train.pixels[:, 16, 16], [RED, GREEN])
    assert "2 of 2 images are smaller than 32x32 and were enlarged." in data.notes


def test_only_1x1_is_enlarged_too(tmp_path: Path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "1.png")
    assert load(tmp_path).size == (32, 32)


def test_nothing_usable_gives_three_reasons(tmp_path: Path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()
    with pytest.raises(DataError, match=r"a\.png: an empty file.*b\.png.*c\.png.*and 1 more"):
        load(tmp_path)


def test_all_cut_short_is_an_error_too(tmp_path: Path):
    truncated(tmp_path / "a.png")
    with pytest.raises(DataError, match="cut short"):
        load(tmp_path)
