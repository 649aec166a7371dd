"""Grids, and files that people look at."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.files.pictures import concat_horizontally, concat_with_labels, save_image, tile, to_pil


def pictures(n: int, height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA"), (7, "RGB")])
def test_modes(channels: int, mode: str):
    image = pictures(1, 5, 7, channels)[0]
    picture = to_pil(image)
    assert (picture.mode, picture.size) == (mode, (7, 5))
    shown = np.asarray(picture).reshape(5, 7, -1)
    assert np.array_equal(shown, image[..., : shown.shape[-1]])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 3), (6, 3), (2, 4)])
def test_every_image_of_a_grid_is_where_it_belongs(n: int, columns: int, channels: int):
    images = pictures(n, 4, 6, channels)
    sheet = tile(images, columns)
    rows = -(-n // columns)
    assert sheet.shape == (rows * 5 + 1, columns * 7 + 1, channels)
    paper = np.ones(sheet.shape[:2], dtype=bool)
    for i, image in enumerate(images):
        top, left = 1 + i // columns * 5, 1 + i % columns * 7
        assert np.array_equal(sheet[top : top + 4, left : left + 6], image)
        paper[top : top + 4, left : left + 6] = False
    assert (sheet[paper] == 255).all()


def test_gap_and_background_of_a_grid():
    sheet = tile(pictures(2, 4, 4, 1), 2, gap=3, background=7)
    assert sheet.shape == (10, 17, 1)
    assert (sheet[:3] == 7).all()
    assert (sheet[3:7, 7:10] == 7).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_joined_horizontally(channels: int):
    left, middle, right = (pictures(1, 5, width, channels)[0] for width in (3, 6, 2))
    joined = concat_horizontally([left, middle, right])
    assert joined.shape == (5, 3 + 4 + 6 + 4 + 2, channels)
    assert np.array_equal(joined[:, :3], left)
    assert (joined[:, 3:7] == 255).all()
    assert np.array_equal(joined[:, 7:13], middle)
    assert (joined[:, 13:17] == 255).all()
    assert np.array_equal(joined[:, 17:], right)
    assert np.array_equal(concat_horizontally([left]), left)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("at_least", "factor"), [(0, 1), (7, 1), (8, 2), (14, 2), (15, 3), (512, 74)])
def test_images_are_enlarged_by_whole_factors(tmp_path: Path, channels: int, at_least: int, factor: int):
    image = pictures(1, 5, 7, channels)[0]
    file = tmp_path / "new" / "folder" / "picture.png"
    save_image(image, file, at_least=at_least)
    with Image.open(file) as saved:
        assert saved.size == (7 * factor, 5 * factor)
        pixels = np.asarray(saved).reshape(5 * factor, 7 * factor, channels)
    assert np.array_equal(pixels, image.repeat(factor, 0).repeat(factor, 1))


def test_large_pictures_are_never_made_smaller(tmp_path: Path):
    save_image(pictures(1, 40, 30, 3)[0], tmp_path / "a.png", at_least=10)
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.size == (30, 40)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_labelled_sheets(channels: int):
    """Each is enlarged by a whole factor, in colour, in order, with its label below."""
    sheets = [*pictures(2, 20, 30, channels), pictures(1, 300, 10, channels)[0]]
    strip = concat_with_labels(sheets, ["0.05", "0.25", ""], side=60)
    assert strip.shape == (300 + 28, 60 + 8 + 60 + 8 + 10, 3)
    assert strip.dtype == np.uint8
    left = 0
    for sheet, factor, has_label in zip(sheets, (2, 2, 1), (True, True, False), strict=True):
        shown = np.asarray(to_pil(sheet).convert("RGB")).repeat(factor, 0).repeat(factor, 1)
        height, width = shown.shape[:2]
        assert np.array_equal(strip[:height, left : left + width], shown)
        assert bool((strip[300:, left : left + width] < 128).any()) == has_label
        left += width + 8
    assert (strip[:, 60:68] == 255).all()
