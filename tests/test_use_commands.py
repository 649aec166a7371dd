"""The commands that use a model on a picture."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import noisekiln as nk
from conftest import TRAINING, save_image
from noisekiln.cli._sampling_bar import show
from noisekiln.distributed.ranks import Ranks
from noisekiln.session.session import Session
from noisekiln.tasks.upscale import Upscale
from test_tasks import tiny

QUICK = ("--steps", "3", "-n", "2")


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """An image like those of the training data."""
    file = tmp_path_factory.mktemp("pictures") / "red.png"
    pixels = np.random.default_rng(3).integers(0, 100, (8, 8, 3)).astype(np.uint8)
    pixels[..., 0] += 120
    save_image(file, pixels)
    return file


def read(file):
    return np.asarray(Image.open(file).convert("RGB"))


def test_inpaint_keeps_what_is_known(cli, class_run, red, tmp_path):
    result = cli("inpaint", class_run, red, "--box", "2,2,6,8", "--class", "Cat", "--out", tmp_path / "o", *QUICK)
    assert result.code == 0, result
    for name in ("00000.png", "00001.png"):
        now = read(tmp_path / "o" / name)
        assert (now[:2] == read(red)[:2]).all()
        assert (now[:, 6:] == read(red)[:, 6:]).all()
        assert (now[2:, 2:6] != read(red)[2:, 2:6]).any()
    listed = json.loads((tmp_path / "o" / "samples.json").read_text())
    assert [(e["file"], e["seed"], e["label"], e["class"]) for e in listed] == [
        ("00000.png", 0, 0, "Cat"),
        ("00001.png", 1, 0, "Cat"),
    ]
    assert (tmp_path / "o" / "grid.png").is_file()


@pytest.mark.parametrize("way", ["mask", "colour", "alpha", "invert"])
def test_a_mask_is_a_file_a_colour_or_transparency(cli, plain_run, red, tmp_path, way):
    pixels, gone = read(red).copy(), np.zeros((8, 8), dtype=bool)
    gone[1:4, 2:7] = True
    file, more = tmp_path / "in.png", []
    if way in ("mask", "invert"):
        save_image(tmp_path / "mask.png", (np.where(gone, 255, 0) ^ (255 if way == "invert" else 0)).astype(np.uint8))
        more = ["--mask", tmp_path / "mask.png", *(["--invert"] if way == "invert" else [])]
    elif way == "colour":
        pixels[gone] = (255, 0, 255)
        more = ["--colour", "#ff00ff"]
    else:
        pixels = np.dstack([pixels, np.where(gone, 0, 255).astype(np.uint8)])
    save_image(file, pixels)
    result = cli("inpaint", plain_run, file, *more, "--out", tmp_path / "o", *QUICK)
    assert result.code == 0, result
    now = read(tmp_path / "o" / "00000.png")
    assert (now[~gone] == read(red)[~gone]).all()
    assert (now[gone] != pixels[..., :3][gone]).any()


def test_outpaint(cli, plain_run, red, tmp_path):
    result = cli("outpaint", plain_run, red, "--left", 4, "--bottom", 3, "--out", tmp_path / "o", *QUICK)
    assert result.code == 0, result
    now = read(tmp_path / "o" / "00000.png")
    assert now.shape == (11, 12, 3)
    assert (now[:8, 4:] == read(red)).all()
    assert cli("outpaint", plain_run, red, "--all", 2, "--out", tmp_path / "o", *QUICK).code == 0
    assert read(tmp_path / "o" / "00000.png").shape == (12, 12, 3)
    words = ("--all", 2, "--left", 0, "--top", 3)
    assert cli("outpaint", plain_run, red, *words, "--out", tmp_path / "o", *QUICK).code == 0
    assert read(tmp_path / "o" / "00000.png").shape == (13, 10, 3)


def test_upscale(cli, plain_run, red, tmp_path):
    save_image(tmp_path / "small.png", read(red)[::2, ::2].copy())
    words = ("--factor", 2, "--out", tmp_path / "o", "--steps", 20, "-n", 1)
    result = cli("upscale", plain_run, tmp_path / "small.png", *words)
    assert result.code == 0, result
    large = read(tmp_path / "o" / "00000.png").astype(float)
    means = large.reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(means - read(tmp_path / "small.png")).mean() < 12


def test_restore_several_things(cli, plain_run, red, tmp_path):
    words = ("--operator", "blur(sigma=1)", "--operator", "noise(level=0.05)", "--out", tmp_path / "o")
    result = cli("restore", plain_run, red, *words, *QUICK)
    assert result.code == 0, result
    assert read(tmp_path / "o" / "00001.png").shape == (8, 8, 3)


def test_restore_colour_of_a_grey_picture(cli, plain_run, red, tmp_path):
    Image.open(red).convert("L").save(tmp_path / "grey.png")
    result = cli(
        "restore", plain_run, tmp_path / "grey.png", "--operator", "grayscale", "--out", tmp_path / "o", *QUICK
    )
    assert result.code == 0, result
    assert read(tmp_path / "o" / "00000.png").shape == (8, 8, 3)


def test_edit_and_variations_and_style(cli, class_run, text_run, red, tmp_path):
    for words in (
        ("edit", class_run, red, "--class", "dog", "--strength", 0.5, "-n", 2),
        ("edit", text_run, red, "--prompt", "a blue picture", "-n", 2),
        ("variations", class_run, red, "-n", 2),
        ("style", class_run, red, "--from-class", "Cat", "--class", "dog"),
    ):
        result = cli(*words, "--steps", 3, "--out", tmp_path / "o")
        assert result.code == 0, result
        assert read(tmp_path / "o" / "00000.png").shape == (8, 8, 3)
        assert "grid.png" in result.flat


def test_style_with_another_run(cli, plain_run, class_run, red, tmp_path):
    result = cli("style", plain_run, red, "--with", class_run, "--steps", 3, "--out", tmp_path / "o")
    assert result.code == 0, result


def test_interpolate(cli, plain_run, red, tmp_path):
    result = cli("interpolate", plain_run, 3, red, 9, "--frames", 3, "--steps", 3, "--out", tmp_path / "o")
    assert result.code == 0, result
    with Image.open(tmp_path / "o" / "animation.gif") as animation:
        assert animation.n_frames > 7
    with Image.open(tmp_path / "o" / "animation.webp") as animation:
        assert animation.n_frames > 7
    assert (tmp_path / "o" / "strip.png").is_file()
    assert len(json.loads((tmp_path / "o" / "samples.json").read_text())) == 7
    assert cli("interpolate", plain_run, 3, 4, "--frames", 1, "--steps", 2, "--out", tmp_path / "o").code == 0


def test_results_go_into_the_run_unless_out_is_set(cli, plain_run, red):
    result = cli("variations", plain_run, red, *QUICK)
    assert result.code == 0, result
    assert (plain_run / "variations" / "grid.png").is_file()


def test_images_of_other_sizes_are_resized_with_a_note(cli, plain_run, red, tmp_path):
    Image.open(red).resize((13, 9)).save(tmp_path / "wide.png")
    result = cli("edit", plain_run, tmp_path / "wide.png", "--out", tmp_path / "o", *QUICK)
    assert (result.code, read(tmp_path / "o" / "00000.png").shape) == (0, (9, 13, 3)), result
    assert "overlapping tiles" in result.flat
    result = cli("edit", plain_run, tmp_path / "wide.png", "--resize", "--out", tmp_path / "o", *QUICK)
    assert (result.code, read(tmp_path / "o" / "00000.png").shape) == (0, (8, 8, 3)), result
    words = ("--box", "0,0,6,9", "--resize", "--out", tmp_path / "o", *QUICK)
    assert cli("inpaint", plain_run, tmp_path / "wide.png", *words).code == 0
    Image.open(red).resize((4, 6)).save(tmp_path / "small.png")
    result = cli("inpaint", plain_run, tmp_path / "small.png", "--box", "0,0,2,2", "--out", tmp_path / "o", *QUICK)
    assert (result.code, read(tmp_path / "o" / "00000.png").shape) == (0, (12, 8, 3)), result
    assert "fewer than the model's" in result.flat


@pytest.mark.slow
def test_mistakes_are_one_message(cli, plain_run, class_run, red, tmp_path):
    save_image(tmp_path / "other.png", np.zeros((5, 8), dtype=np.uint8))
    save_image(tmp_path / "full.png", np.full((8, 8), 255, dtype=np.uint8))
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    for code, says, words in (
        (2, "is marked as missing", ("inpaint", plain_run, red)),
        (2, "5x8 pixels and", ("inpaint", plain_run, red, "--mask", tmp_path / "other.png")),
        (2, "The mask is full", ("inpaint", plain_run, red, "--mask", tmp_path / "full.png")),
        (2, "The mask is empty", ("inpaint", plain_run, red, "--mask", tmp_path / "full.png", "--invert")),
        (2, "is not a box in an image 8 pixels wide and 8 high", ("inpaint", plain_run, red, "--box", "0,0,9,9")),
        (2, "is not a box", ("inpaint", plain_run, red, "--box", "0,0,4")),
        (2, "is not a colour", ("inpaint", plain_run, red, "--colour", "pink")),
        (3, "not an image", ("inpaint", plain_run, tmp_path / "text.png", "--box", "0,0,4,4")),
        (3, "No such file", ("edit", plain_run, tmp_path / "none.png")),
        (2, "is not a run", ("edit", tmp_path, red)),
        (2, "There is no inverse called 'mmps'", ("inpaint", plain_run, red, "--box", "0,0,4,4", "--method", "mmps")),
        (2, "There is no operator called 'blr'", ("restore", plain_run, red, "--operator", "blr")),
        (2, "trained without conditions", ("edit", plain_run, red, "--class", "Cat")),
        (2, "There is no class called 'cow'", ("edit", class_run, red, "--class", "cow")),
        (2, "of the kind 'class'", ("edit", class_run, red, "--prompt", "a dog")),
        (2, "--strength 0 is not possible", ("edit", plain_run, red, "--strength", 0)),
        (2, "The result has no condition", ("style", class_run, red)),
        (2, "enlarges nothing", ("upscale", plain_run, red, "--factor", 1)),
        (2, "hold", ("edit", plain_run, red, "--out", tmp_path / "mine")),
        (2, "Give one side", ("outpaint", plain_run, red)),
        (2, "are no sequence", ("interpolate", plain_run, 3)),
        (2, "must be 0 to 600 seconds", ("interpolate", plain_run, 3, 4, "--seconds", -1)),
        (2, "must be 0 to 600 seconds", ("interpolate", plain_run, 3, 4, "--seconds", 1e9)),
        (2, "--batch-size 0 is out of range. Give 1 or more.", ("edit", plain_run, red, "--batch-size", 0)),
        (2, "overlapping tiles", ("upscale", plain_run, red, "--factor", 100000)),
        (2, "at most 1000", ("restore", plain_run, red, "--operator", "blur(sigma=1e9)")),
        (2, "to 1000", ("restore", plain_run, red, "--operator", "motion_blur(length=1e9)")),
        (
            2,
            "Give a number of degrees, such as 30",
            ("restore", plain_run, red, "--operator", "motion_blur(angle=inf)"),
        ),
    ):
        result = cli(*words, *(() if "style" in words or "interpolate" in words else ("-n", 1)), "--steps", 2)
        assert (result.code, says in result.flat) == (code, True), (words, result)
        assert "Traceback" not in result.flat
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear diary"


@pytest.mark.slow  # two runs
def test_models_that_were_trained_for_it(cli, plain, red, tmp_path):
    for task in ("upscale(factor=2)", "inpaint"):
        result = cli("train", plain, "--task", task, "--out", tmp_path / task[:5], *TRAINING[:2], *TRAINING[4:])
        assert result.code == 0, result
    save_image(tmp_path / "small.png", read(red)[::2, ::2].copy())
    result = cli("upscale", tmp_path / "upsca", tmp_path / "small.png", "--factor", 2, "--out", tmp_path / "o", *QUICK)
    assert (result.code, read(tmp_path / "o" / "00001.png").shape) == (0, (8, 8, 3)), result
    result = cli("inpaint", tmp_path / "inpai", red, "--box", "0,0,4,8", "--out", tmp_path / "o", *QUICK)
    assert result.code == 0, result
    now = read(tmp_path / "o" / "00000.png")
    assert (now[:, 4:] == read(red)[:, 4:]).all()
    assert (now[:, :4] != read(red)[:, :4]).any()
    for says, words in (
        ("trained to upscale 2 times", ("upscale", tmp_path / "upsca", tmp_path / "small.png")),
        ("not for upscale", ("upscale", tmp_path / "inpai", tmp_path / "small.png")),
        (
            "was trained for inpaint. Omit it",
            ("inpaint", tmp_path / "inpai", red, "--box", "0,0,4,8", "--method", "diffpir"),
        ),
        ("needs one image for each to be generated", ("edit", tmp_path / "inpai", red)),
    ):
        result = cli(*words, *QUICK)
        assert (result.code, says in result.flat) == (2, True), (words, result)


@pytest.mark.slow  # three seconds of training
def test_style_like_some_images(cli, plain_run, red, pets, tmp_path):
    """Fine-tuned on blue pictures, the run makes a red one bluer; the fine-tuned run is kept, and used again.

    By the images themselves: another folder of the same name, or the run after more training, is another thing.
    """
    shutil.copytree(plain_run, tmp_path / "base")
    words = ("style", tmp_path / "base", red, "--like", pets / "dog", "--minutes", 0.05, "--out", tmp_path / "o")
    for _ in range(2):
        result = cli(*words, "--steps", 12)
        assert result.code == 0, result
    assert "The budget of this run is used up" in result.flat
    (made,) = tmp_path.glob("base-like-dog-*")
    assert (made / "model" / "model.json").is_file()
    before, after = read(red).astype(int), read(tmp_path / "o" / "00000.png").astype(int)
    assert (after[..., 2] - after[..., 0]).mean() > (before[..., 2] - before[..., 0]).mean() + 40
    target = nk.fine_tune_on(tmp_path / "base", str(pets / "dog"), minutes=0.05, device="cpu")
    assert [*tmp_path.glob("base-like-*")] == [made]
    with torch.no_grad():
        kept = nk.load(made)
        assert all(torch.equal(a, b) for a, b in zip(target.parameters(), kept.parameters(), strict=True))
    image = nk.style(nk.load(tmp_path / "base"), read(red), target_model=target, steps=12)[0].numpy()
    assert np.abs(image.astype(int) - after).max() <= 1
    shutil.copytree(pets / "Cat", tmp_path / "others" / "dog")
    nk.fine_tune_on(tmp_path / "base", tmp_path / "others" / "dog", minutes=0.001, device="cpu")
    assert len([*tmp_path.glob("base-like-dog-*")]) == 2
    model = nk.load(tmp_path / "base")
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(1e-3)
    model.save(tmp_path / "base" / "model")
    nk.fine_tune_on(tmp_path / "base", tmp_path / "others" / "dog", minutes=0.001, device="cpu")
    assert len([*tmp_path.glob("base-like-dog-*")]) == 3


def test_a_missing_second_model_names_its_option(cli, plain_run, red):
    result = cli("style", plain_run, red, "--with", "nowhere")
    assert (result.code, "--with nowhere: There is no folder 'nowhere'." in result.err) == (2, True), result


def test_like_and_with_exclude_each_other(cli, plain_run, red, pets):
    result = cli("style", plain_run, red, "--like", pets / "dog", "--with", plain_run)
    assert (result.code, "Give one of them" in result.flat) == (2, True), result


STOP = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Stop(Sampler):
    order: ClassVar[int] = 1
    cost: ClassVar[int] = 1
    number: int = 2
    after: int = 1

    def step(self, denoise, x_t, t, s, carry, noise):
        count = Path(__file__).with_suffix(".count")
        steps_taken = 1 + int(count.read_text()) if count.exists() else 1
        count.write_text(str(steps_taken))
        if steps_taken == self.after:
            os.kill(os.getpid(), self.number)
        return denoise(x_t, t).at(s), None
"""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
@pytest.mark.parametrize(("after", "kept"), [(1, 0), (3, 2), (4, 2), (6, 4), (7, 4), (9, 5)])
def test_what_is_kept_when_sampling_is_stopped(cli, plain_run, tmp_path, number, code, after, kept):
    """5 images in batches of 2, with 3 steps."""
    (tmp_path / "stop.py").write_text(STOP)
    sampler, out = f"{tmp_path / 'stop.py'}:Stop(number={number}, after={after})", tmp_path / "o"
    result = cli("sample", plain_run, "-n", 5, "--batch-size", 2, "--steps", 3, "--sampler", sampler, "--out", out)
    assert len([*out.glob("0000?.png")]) == kept
    assert (out / "grid.png").exists() == (kept > 0)
    if after == 9:  # the last step: there is nothing left to stop
        assert result.code == 0, result
        return
    text = f"{kept} of 5 images are finished, and saved in" if kept else "no image was finished, so nothing was"
    assert (result.code, text in result.flat) == (code, True), result


class RanksWithSignalElsewhere(Ranks):
    """Two processes, of which the other one receives SIGTERM in its fourth step."""

    steps = 0

    def all_gather(self, rows, count):
        self.steps += 1
        return torch.cat([rows, torch.tensor([15 if self.steps == 4 else 0])])


def test_all_processes_stop_at_the_signal_of_one(plain_run, tmp_path):
    session = Session.open(plain_run, tmp_path / "o", device="cpu")
    progress = session.sample([None] * 4, range(4), batch_size=2, steps=3)
    with pytest.raises(typer.Exit) as stopped:
        show(progress, session, RanksWithSignalElsewhere())
    assert (stopped.value.exit_code, len([*(tmp_path / "o").glob("0000?.png")])) == (143, 2)


@pytest.mark.parametrize(("after", "kept"), [(2, 0), (4, 2)])
@pytest.mark.parametrize("use", ["edit", "inpaint", "interpolate", "apply"])
def test_a_use_that_is_stopped_keeps_what_is_finished(cli, plain_run, red, tmp_path, use, after, kept):
    """4 images in batches of 2, with 3 steps: written batch by batch in every use."""
    (tmp_path / "stop.py").write_text(STOP)
    words = ("--steps", 3, "--sampler", f"{tmp_path / 'stop.py'}:Stop(after={after})", "--out", tmp_path / "o")
    words = {
        "edit": ("edit", plain_run, red, "--strength", 1, "-n", 4, "--batch-size", 2, *words),
        "inpaint": ("inpaint", plain_run, red, "--box", "0,0,4,4", "-n", 4, "--batch-size", 2, *words),
        "interpolate": ("interpolate", plain_run, 1, 2, "--frames", 3, "--batch-size", 2, *words),
        "apply": ("apply", upscaler(tmp_path), red, "-n", 4, "--batch-size", 2, *words),
    }[use]
    result = cli(*words)
    text = f"stopped: {kept} of 4 images are finished" if kept else "stopped: no image was finished, so nothing was"
    assert (result.code, text in result.flat) == (130, True), result
    assert len([*(tmp_path / "o").glob("0000?.png")]) == kept
    assert (tmp_path / "o" / "samples.json").exists() == (tmp_path / "o" / "grid.png").exists() == (kept > 0)
    assert (tmp_path / "o").exists() == (kept > 0)


def test_a_use_that_has_no_image_leaves_no_folder_that_it_made(cli, plain_run, red, tmp_path, monkeypatch):
    """Ctrl-C in the inversion of `style`; a folder that was there stays, also if it is empty."""
    from noisekiln.uses import image_to_noise

    steps = image_to_noise.invert

    def press_ctrl_c(*arguments):
        for x_t in steps(*arguments):
            os.kill(os.getpid(), 2)
            yield x_t

    monkeypatch.setattr(image_to_noise, "invert", press_ctrl_c)
    words = ("style", plain_run, red, "--with", plain_run, "--steps", 3)
    for out in (tmp_path / "new" / "folder", tmp_path / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        result = cli(*words, "--out", out)
        assert (result.code, "no image was finished, so nothing was written" in result.flat) == (130, True), result
    assert [place.name for place in tmp_path.iterdir() if place.is_dir()] == ["there"]


def upscaler(folder):
    tiny(Upscale(2), size=(16, 16)).save(folder / "upscaler")
    return folder / "upscaler"


def test_unused_transparency_is_noted(cli, plain_run, red, tmp_path):
    alpha = np.full((8, 8), 255, np.uint8)
    save_image(tmp_path / "opaque.png", np.dstack([read(red), alpha]))
    alpha[:4] = 0
    save_image(tmp_path / "clear.png", np.dstack([read(red), alpha]))
    for words, noted in (
        (("edit", plain_run, tmp_path / "clear.png"), True),
        (("upscale", plain_run, tmp_path / "clear.png", "--factor", 2), True),
        (("edit", plain_run, tmp_path / "opaque.png"), False),
        (("inpaint", plain_run, tmp_path / "clear.png"), False),
        (("inpaint", plain_run, tmp_path / "clear.png", "--box", "0,0,4,4"), True),
    ):
        result = cli(*words, "--out", tmp_path / "o", *QUICK)
        assert (
            result.code,
            "50% of its pixels are transparent" in result.flat,
        ) == (0, noted)


def test_a_mask_may_be_drawn_on_a_transparent_ground(cli, plain_run, red, tmp_path):
    """Drawn pixels are missing, in any colour."""
    drawn = np.zeros((8, 8, 4), np.uint8)
    drawn[1:4, 2:7] = (10, 0, 0, 255)
    save_image(tmp_path / "mask.png", drawn)
    result = cli("inpaint", plain_run, red, "--mask", tmp_path / "mask.png", "--out", tmp_path / "o", *QUICK)
    assert (result.code, "its opaque pixels are missing" in result.flat) == (0, True), result
    now, gone = read(tmp_path / "o" / "00000.png"), drawn[..., 3] > 0
    assert (now[~gone] == read(red)[~gone]).all()
    assert (now[gone] != read(red)[gone]).any()


def test_one_condition_for_one_picture(cli, class_run, text_run, red):
    for words in (("edit", class_run, red, "--class", "dog", "--class", "Cat"),
                  ("edit", text_run, red, "--prompt", "a red", "--prompt", "a blue picture"),
                  ("style", class_run, red, "--class", "dog", "--from-class", "Cat", "--from-class", "dog"),
    ):  # fmt: skip
        result = cli(*words, *(() if "style" in words else QUICK))
        assert (result.code, "was given 2 times" in result.flat) == (2, True), result


def test_the_input_image_is_never_overwritten(cli, plain_run, red, tmp_path):
    shutil.copytree(plain_run, tmp_path / "run")
    assert cli("edit", tmp_path / "run", red, *QUICK).code == 0
    first = tmp_path / "run" / "edit" / "00001.png"
    before = read(first)
    result = cli("edit", tmp_path / "run", first, *QUICK)
    assert (result.code, "would be replaced" in result.flat) == (2, True), result
    assert (read(first) == before).all()
    result = cli("edit", tmp_path / "run", red, *QUICK)
    assert (result.code, "the 2 earlier images" in result.flat) == (0, True), result


def test_an_output_that_cannot_be_written_is_refused_before_sampling(cli, plain_run, red, tmp_path):
    result = cli("edit", plain_run, red, "--out", red, *QUICK)
    assert result.code == 2, result
    assert "images in" not in result.flat


def test_sixteen_bits_come_out_as_they_went_in(cli, plain_run, tmp_path):
    grey = np.random.default_rng(0).integers(60, 200, (8, 8)).astype(np.uint16)
    Image.fromarray(grey * 257).save(tmp_path / "deep.png")
    result = cli("inpaint", plain_run, tmp_path / "deep.png", "--box", "0,0,4,4", "--out", tmp_path / "o", *QUICK)
    assert result.code == 0, result
    assert (read(tmp_path / "o" / "00000.png")[4:, :, 0] == grey[4:]).all()


def test_conditions_need_a_conditional_model(cli, class_run, red):
    result = cli("edit", class_run, red, "--class", "all", *QUICK)
    assert (result.code, "an image can have only one condition" in result.flat) == (2, True), result


def test_images_with_nan_are_not_saved(cli, class_run, tmp_path):
    result = cli(
        "sample", class_run, "--class", "Cat", "--guidance", "1e38", "-n", 1, "--steps", 3, "--out", tmp_path / "o"
    )
    assert (result.code, "produced NaN or infinite values" in result.flat) == (2, True), result


@pytest.mark.slow
def test_every_use_accepts_adapters(cli, plain_run, red, pets, tmp_path):
    words = ("--from", plain_run, "--lora", 2, "--images", 320, "--batch-size", 16, "--lr", 0.05)
    assert cli("train", pets / "dog", *words, "--out", tmp_path / "style").code == 0
    images = []
    for more in ((), ("--adapter", tmp_path / "style"), ("--adapter", f"{tmp_path / 'style'}:0")):
        result = cli("variations", plain_run, red, "--strength", 1, *more, "--out", tmp_path / "o", *QUICK)
        assert result.code == 0, result
        images.append(read(tmp_path / "o" / "00000.png"))
    assert (images[0] != images[1]).any()
    assert (images[0] == images[2]).all()
