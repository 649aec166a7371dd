"""Images of more than 8 bits, floats, CMYK and colour profiles: their values, compared with numpy's arithmetic."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from noisekiln.data import load, with_channels
from noisekiln.data.deep import Extremes, windows_of

RNG = np.random.default_rng(0)
RED, GREEN = (220, 30, 30), (30, 220, 30)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def save_png16(file: Path, values: np.ndarray, kind: int, extra: bytes = b"") -> None:
    """A PNG of 16 bits, which Pillow cannot write: kind 2 is RGB, 4 grey with alpha, 6 RGB with alpha."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    size = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    pieces = (chunk(b"IHDR", size), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(pieces))


def save_tiff16(file: Path, values: np.ndarray, order: str, *, packed: bool, photometric: int) -> None:
    """A TIFF of 16 bits per sample in one strip, in the byte order "<" or ">"."""
    height, width = values.shape[:2]
    samples = values.size // (height * width)
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    data += b"\0" * (len(data) % 2)
    after = 8 + len(data) + 2 + 12 * 9 + 4
    bits = (258, 3, samples, after) if samples > 1 else (258, 3, 1, 16)
    tags = [(256, 3, 1, width), (257, 3, 1, height), bits, (259, 3, 1, 8 if packed else 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, 8), (277, 3, 1, samples), (278, 3, 1, height), (279, 4, 1, len(data))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    entries = b"".join(
        struct.pack(f"{order}HHIHH", *tag, 0) if tag[1] == 3 and tag[2] == 1 else struct.pack(f"{order}HHII", *tag)
        for tag in tags
    )
    count, end = struct.pack(f"{order}H", len(tags)), struct.pack(f"{order}I", 0)
    file.write_bytes(head + data + count + entries + end + struct.pack(f"{order}HHH", 16, 16, 16))


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_the_bits_that_it_uses(tmp_path: Path, kind: int, channels: int, top: int):
    values = RNG.integers(0, top, (8, 9, channels), np.uint16, endpoint=True)
    values[0, 0] = top
    opaque = values if channels == 3 else np.concatenate([values[..., :-1], np.full((8, 9, 1), 65535, np.uint16)], -1)
    save_png16(tmp_path / "a.png", opaque, kind)
    data = load(tmp_path)
    expected = np.rint((values if channels == 3 else values[..., :-1]) * (255 / top))
    assert np.array_equal(data.train.pixels[0], expected)
    assert f"1 image of more than 8 bits: values of 0 to {top} were scaled to 0 to 255." in data.altered


def test_16_bits_keep_their_transparency(tmp_path: Path):
    values = np.zeros((8, 8, 4), np.uint16)
    values[:4, :, 3] = 65535  # black above, and nothing below
    save_png16(tmp_path / "a.png", values, 6)
    save_png16(tmp_path / "b.png", values[..., 2:], 4)
    np.save(tmp_path / "c.npy", values)
    data = load(tmp_path)
    assert (data.train.pixels[:, :4] == 0).all()
    assert (data.train.pixels[:, 4:] == 255).all()
    assert "3 images with transparency: composited onto white." in data.altered


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_16_bit_tiff_in_colour(tmp_path: Path, order: str, packed: bool):
    values = RNG.integers(0, 4096, (8, 9, 3), np.uint16)
    save_tiff16(tmp_path / "a.tif", values, order, packed=packed, photometric=2)
    assert np.array_equal(load(tmp_path).train.pixels[0], np.rint(values * (255 / 4095)))


def test_a_tiff_whose_white_is_zero(tmp_path: Path):
    values = RNG.integers(0, 65536, (8, 9), np.uint16)
    save_tiff16(tmp_path / "a.tif", values, "<", packed=False, photometric=0)
    assert np.array_equal(load(tmp_path).train.pixels[0, ..., 0], np.rint((65535 - values.astype(float)) / 257))


@pytest.mark.parametrize(
    ("low", "high", "window"),
    [
        (0.0, 0.9, (0, 1)),
        (-0.5, 1.0, (-1, 1)),
        (0.0, 1.2, (0.0, 1.2)),
        (-3.0, 4.0, (-3.0, 4.0)),
        (10.0, 250.0, (0, 255)),
        (7.0, 7.0, (7.0, 8.0)),
    ],
)
def test_window_of_floats(low: float, high: float, window: tuple[float, float]):
    assert windows_of([Extremes(low, high, real=True)]).real == window


def test_floats_and_whole_numbers_have_windows_of_their_own(tmp_path: Path):
    floats = RNG.random((8, 8)).astype(np.float32) * 1.2
    floats[0, :2] = 0, 1.2
    Image.fromarray(floats).save(tmp_path / "a.tif")
    Image.fromarray(np.full((8, 8), 2048, np.uint16)).save(tmp_path / "b.tif")
    data = load(tmp_path)
    assert np.array_equal(
        data.train.pixels[0, ..., 0], np.rint(floats.astype(np.float64) / np.float64(floats.max()) * 255)
    )
    assert data.train.pixels[1, 0, 0, 0] == 128  # of 4095
    assert "1 image of floats: values of 0 to 1.2 were scaled to 0 to 255." in data.altered


def test_arrays_as_files(tmp_path: Path):
    arrays = {
        "a": RNG.integers(0, 256, (8, 9, 3), np.uint8),
        "b": RNG.random((8, 9, 3)),
        "c": RNG.random((3, 8, 9)).astype(np.float32),
        "d": RNG.random((8, 9)) > 0.5,
        "e": np.zeros((2, 8, 9, 3)),
        "f": np.array([{}], object),
        "g": np.full((8, 9), np.nan),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    data = load(tmp_path)
    assert data.train.files == ("a.npy", "b.npy", "c.npy", "d.npy")
    assert np.array_equal(data.train.pixels[0], arrays["a"])
    assert np.array_equal(data.train.pixels[1], np.rint(arrays["b"] * 255))
    assert np.array_equal(data.train.pixels[2], np.rint(arrays["c"].transpose(1, 2, 0).astype(float) * 255))
    assert np.array_equal(data.train.pixels[3, ..., 0], arrays["d"] * 255)
    why = {one.file: one.why for one in data.skipped}
    assert "to use a stack of images, give that file" in why["e.npy"]
    assert "Object arrays cannot be loaded" in why["f.npy"]
    assert "not finite" in why["g.npy"]


def profile_that_exchanges_red_and_green() -> bytes:
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", content[128:132])[0]
    places = {bytes(content[place : place + 4]): place for place in range(132, 132 + 12 * count, 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    content[red + 4 : red + 12], content[green + 4 : green + 12] = (
        content[green + 4 : green + 12],
        content[red + 4 : red + 12],
    )
    return bytes(content)


def test_colour_profiles_are_converted_to_srgb(tmp_path: Path):
    profile = profile_that_exchanges_red_and_green()
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", icc_profile=profile)
    Image.new("RGB", (8, 8), RED).quantize(4).save(tmp_path / "b.png", icc_profile=profile)
    Image.new("RGBA", (8, 8), (*RED, 255)).save(tmp_path / "c.png", icc_profile=profile)
    embedded = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    save_png16(tmp_path / "d.png", np.full((8, 8, 3), RED) * 257, 2, embedded)
    Image.new("RGB", (8, 8), RED).save(tmp_path / "e.png", icc_profile=own)
    Image.new("RGB", (8, 8), RED).save(tmp_path / "f.png", icc_profile=b"broken")
    Image.new("L", (8, 8), 99).save(tmp_path / "g.png", icc_profile=profile)  # of another kind than the image
    data = load(tmp_path)
    seen = data.train.pixels[:, 4, 4].astype(int)
    expected = [GREEN, GREEN, GREEN, GREEN, RED, RED, (99, 99, 99)]
    assert np.abs(seen - expected).max() <= 2
    assert np.array_equal(seen[4:], expected[4:])  # sRGB stays as it is, to the bit
    assert "4 images with a colour profile (sRGB built-in): converted to sRGB." in data.altered
    assert "1 image with a broken colour profile: read as sRGB." in data.altered


def test_print_and_lab_colours_are_named(tmp_path: Path):
    cmyk = Image.fromarray(RNG.integers(0, 256, (8, 8, 4), np.uint8), "CMYK")
    cmyk.save(tmp_path / "a.tif")
    data = load(tmp_path)
    assert np.array_equal(data.train.pixels[0], np.asarray(cmyk.convert("RGB")))
    assert "1 image in the colours of print (CMYK): converted to RGB." in data.altered
    grey = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (128, 128, 128)])
    assert np.ptp(load([grey], size=8).train.pixels) <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I"]
)
def test_every_mode_of_pillow_is_read(mode: str):
    assert len(load([Image.new(mode, (8, 8))]).train) == 1


def test_other_channels(tmp_path: Path):
    grey, colour = load(RNG.integers(0, 256, (20, 8, 8), np.uint8)), load(RNG.integers(0, 256, (20, 8, 8, 3), np.uint8))
    assert with_channels(grey, 1) is grey
    assert with_channels(colour, 4) is colour
    shown = with_channels(grey, 3)
    assert np.array_equal(shown.train.pixels, grey.train.pixels.repeat(3, -1))
    assert np.array_equal(shown.held_out.pixels, grey.held_out.pixels.repeat(3, -1))
    assert shown.altered == ("The images are grey: trained on in colour, as the model is.",)
    flat = with_channels(colour, 1)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in colour.train.pixels]
    assert np.abs(flat.train.pixels[..., 0].astype(int) - expected).max() <= 1
    assert flat.altered == ("The images are in colour: trained on in grey, as the model is.",)
    assert flat.fingerprint == colour.fingerprint


def test_images_of_one_colour_are_noted():
    masks = RNG.integers(0, 2, (12, 8, 8), np.uint8)  # 0 and 1 of 255: black
    (note,) = load(masks).altered
    assert note.startswith("Almost all values lie between 0 and 1 of 255")
    assert not load(masks.astype(bool)).altered[1:]
    hot = RNG.random((40, 40)).astype(np.float32)
    hot[3, 2:4] = 0, 1e6  # one pixel stretches the range
    (scaled, note) = load([Image.fromarray(hot)], size=40).altered
    assert scaled == "1 image of floats: values of 0 to 1e+06 were scaled to 0 to 255."
    assert "look like one colour" in note
