"""An image carries how it was made, and `sample --again` makes it anew, to the byte."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Command
from noisekiln.files.model_folder import digest
from noisekiln.files.png_text import png_text, read_png_text
from noisekiln.guidance.classifier_free import ClassifierFree
from noisekiln.model.diffusion import Diffusion
from noisekiln.samplers.ddim import DDIM
from noisekiln.session import again
from noisekiln.session.again import read_recorded_image, sample_again
from noisekiln.session.image_record import _without_folders, name_of_run
from noisekiln.session.session import Session


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture).copy()


def text(file: Path) -> dict[str, Any]:
    entries = read_png_text(file)
    assert entries is not None
    return entries


def rewrite(file: Path, place: Path, **changes: Any) -> Path:
    """The same image with other entries in its text; None removes one."""
    entries = {name: value for name, value in (text(file) | changes).items() if value is not None}
    with Image.open(file) as image:
        image.save(place, pnginfo=png_text(entries))
    return place


@pytest.fixture(scope="module")
def sampled(cli: Command, class_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run with four samples in it."""
    run = tmp_path_factory.mktemp("again") / "pets"
    shutil.copytree(class_run / "model", run / "model")
    words = ("--class", "dog", "-n", 4, "--seed", 5, "--steps", 3, "--sampler", "ddim(eta=1)", "--guidance", 2)
    assert cli("sample", run, *words).code == 0
    return run


def test_what_is_recorded(sampled: Path):
    file = sampled / "pictures" / "00002.png"
    assert text(file) | {"version": ""} == {
        "seed": 7, "label": 1, "class": "dog", "condition": "dog", "sampler": "ddim(eta=1.0)", "steps": 3,
        "guidance": 2.0, "schedule": "karras", "command": "sample", "model": "pets",
        "model_sha256": digest(Diffusion.load(sampled).state_dict()), "batch": [2, 4], "version": "",
    }  # fmt: skip
    entries = json.loads((sampled / "pictures" / "samples.json").read_text())
    assert entries[2] == {"file": "00002.png", **text(file)}
    assert str(sampled.parent) not in file.read_bytes().decode("latin-1")


def test_an_image_is_made_anew_to_the_byte(
    sampled: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = sampled / "pictures" / "00002.png"
    result = cli("sample", "--again", file)
    assert result.code == 0, result
    assert f"its pixels are those of {file}." in result.out
    again = sampled / "again" / "00000.png"
    assert np.array_equal(pixels(again), pixels(file))
    assert {name: value for name, value in text(file).items() if name != "batch"} == text(again)
    assert np.array_equal(pixels(file), pixels(sampled / "pictures" / "00002.png"))  # still there
    moved = shutil.copy(file, tmp_path / "moved.png")
    assert cli("sample", "--again", moved, "--run", sampled, "--out", tmp_path / "a").code == 0
    assert np.array_equal(pixels(tmp_path / "a" / "00000.png"), pixels(file))
    monkeypatch.chdir(tmp_path)
    assert (
        "which has made moved.png, is not found near it or in runs. Give its folder as RUN."
        in cli("sample", "--again", "moved.png").err
    )
    shutil.copytree(sampled / "model", tmp_path / "runs" / "pets" / "model")
    assert cli("sample", "--again", "moved.png", "--out", "b").code == 0
    assert np.array_equal(pixels(tmp_path / "b" / "00000.png"), pixels(file))


def test_rounding_that_depends_on_the_batch_is_repeated(sampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A device may round another way in a batch; here alone, images are one grey level darker."""
    file = sampled / "pictures" / "00002.png"
    model, notes = Diffusion.load(sampled), []
    encode = model.codec.decode

    def decode(x: torch.Tensor, size: Any = None) -> torch.Tensor:
        images = encode(x, size)
        return images if len(images) > 1 else images.clamp(min=1) - 1

    monkeypatch.setattr(model.codec, "decode", decode)
    recorded = read_recorded_image(file)
    session = Session(model, tmp_path / "o", note=notes.append, name="pets")
    list(sample_again(session, recorded, recorded.options({}, allow_code=False)))
    assert notes == [f"its pixels are those of {file}."]
    assert np.array_equal(pixels(tmp_path / "o" / "00000.png"), pixels(file))
    assert len(list((tmp_path / "o").glob("0*.png"))) == 1
    monkeypatch.setattr(again, "LARGEST_BATCH", 3)
    list(
        sample_again(
            Session(model, tmp_path / "p", note=notes.append), recorded, recorded.options({}, allow_code=False)
        )
    )
    assert "by up to 1 of 255: other settings, another device or other versions" in notes[-1]


def test_prompts_and_a_condition_that_looks_like_a_number(text_run: Path, cli: Command, tmp_path: Path):
    words = ("--prompt", "a red picture", "--prompt", "3", "-n", 2, "--steps", 2)
    assert cli("sample", text_run, *words, "--out", tmp_path / "o").code == 0
    for number, prompt in enumerate(("a red picture", "3")):
        file = tmp_path / "o" / f"0000{number}.png"
        assert read_recorded_image(file).condition == prompt
        assert cli("sample", text_run, "--again", file, "--out", tmp_path / "p").code == 0
        assert np.array_equal(pixels(tmp_path / "p" / "00000.png"), pixels(file))


def test_images_that_need_more_than_their_text_are_refused(sampled: Path, cli: Command, tmp_path: Path):
    file = sampled / "pictures" / "00002.png"
    edited = cli("edit", sampled, file, "-n", 1, "--seed", 8, "--steps", 2, "--strength", 0.5, "--out", tmp_path / "e")
    assert edited.code == 0
    assert text(tmp_path / "e" / "00000.png") | {"version": ""} == {
        "seed": 8, "sampler": "dpmpp_2m", "steps": 2, "guidance": 1.5, "schedule": "karras", "source": "00002.png",
        "command": "edit", "model": "pets", "model_sha256": text(file)["model_sha256"], "version": "",
    }  # fmt: skip
    result = cli("sample", "--again", tmp_path / "e" / "00000.png")
    assert result.code == 2
    enemy = rewrite(file, tmp_path / "enemy.png", command="edit; rm -r ~")  # a message quotes only what is a name
    assert (said := cli("sample", "--again", enemy)).code == 2
    assert "rm" not in said.err
    assert "was made by `noisekiln edit` from the image 00002.png, and only its own settings are in it" in result.err
    assert "with that image and with the --seed, 8." in result.err
    for picture in ("pictures/grid.png", "pictures/../again/grid.png"):
        if (sampled / picture).exists():
            assert "is a picture of several images" in cli("sample", "--again", sampled / picture).err
    Image.new("RGB", (3, 3)).save(tmp_path / "other.png")
    assert "does not say how it was made" in cli("sample", "--again", tmp_path / "other.png").err
    assert "There is no file" in cli("sample", "--again", tmp_path / "none.png").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-n", 2), "-n was given with --again"),
        (("--seed", 0), "--seed was given with --again"),
        (("--class", "dog"), "--class was given with --again"),
    ],
)
def test_options_that_the_file_decides(sampled: Path, cli: Command, words: tuple[object, ...], message: str):
    result = cli("sample", "--again", sampled / "pictures" / "00000.png", *words)
    assert (result.code, message in result.err) == (2, True), result


def test_other_settings_may_be_given(sampled: Path, cli: Command, tmp_path: Path):
    file = sampled / "pictures" / "00000.png"
    result = cli("sample", "--again", file, "--steps", 5, "--out", tmp_path)
    assert result.code == 0
    assert "of its pixels differ from those of" in result.out
    assert (text(tmp_path / "00000.png")["steps"], text(tmp_path / "00000.png")["seed"]) == (5, 5)


def test_another_model_is_refused(sampled: Path, plain_run: Path, cli: Command):
    result = cli("sample", "--again", sampled / "pictures" / "00000.png", "--run", plain_run)
    assert result.code == 2
    assert f"{plain_run} does not have the weights that have made" in result.err
    assert "or sample with the --seed, 5." in result.err


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "x"}, {"seed": -1}, {"seed": None}, {"steps": 0}, {"steps": 10**12}, {"steps": "5"}, {"model": None},
        {"batch": [4, 4]}, {"batch": [0]}, {"batch": 3}, {"batch": [True, 2]}, {"precision": "fp8"}, {"sampler": 3},
        {"guidance": -1}, {"sampler": "hein"}, {"schedule": []}, {"condition": {"a": 1}}, {"condition": "bird"},
    ],
)  # fmt: skip
def test_text_that_makes_no_sense_is_refused(sampled: Path, cli: Command, tmp_path: Path, changes: dict[str, Any]):
    file = rewrite(sampled / "pictures" / "00000.png", tmp_path / "a.png", **changes)
    result = cli("sample", "--again", file, "--run", sampled, "--out", tmp_path / "o")
    assert result.code == 2, result
    assert not (tmp_path / "o").exists()


def test_no_code_runs_that_a_file_names(sampled: Path, cli: Command, tmp_path: Path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for name in ("sampler", "schedule", "guidance"):
        named = {name: f"{tmp_path / 'evil.py'}:Evil()"}
        file = rewrite(sampled / "pictures" / "00000.png", tmp_path / "a.png", **named)
        assert cli("sample", "--again", file, "--run", sampled).code == 2
    rewrite(sampled / "pictures" / "00000.png", tmp_path / "a.png", model="../../pets")
    assert cli("sample", "--again", tmp_path / "a.png").code == 2
    assert not (tmp_path / "ran").exists()


def test_folders_are_not_in_a_record():
    assert _without_folders("ddim(eta=1.0)") == "ddim(eta=1.0)"
    assert _without_folders("/home/me (old)/my.py:Mine(eta=1)") == "my.py:Mine(eta=1)"
    assert _without_folders(r"C:\me\my.py:Mine") == "my.py:Mine"
    assert _without_folders("my.py:Mine") == "my.py:Mine"
    assert name_of_run(Path("/a/run/model")) == name_of_run(Path("/a/run")) == "run"


def test_progress_names_the_settings_that_were_used(class_run: Path):
    model = Diffusion.load(class_run)
    *_, last = model.generate(["dog"], sampler="ddim", steps=2, guidance=3.0)
    assert last.used is not None
    assert (last.used.sampler, last.used.steps, last.used.guidance) == (DDIM(), 2, ClassifierFree(3.0))
