"""The road of a run: images at once, or a cascade of small and larger ones, in one folder."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, Command, save_image
from noisekiln.data import DataSet, load
from noisekiln.files.model_folder import digest, read_weights
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.cascade import Cascade
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.road import cascade_stages, choose_road, data_of_stage, settings_of_stage
from noisekiln.plan.settings import Settings
from noisekiln.runs.cascade_run import CascadeRun
from noisekiln.runs.events import End, Grid, Measured, Note, Plan, Stage, Step
from noisekiln.runs.model_card import rewrite_card
from noisekiln.runs.open_run import open_run
from noisekiln.runs.run import Run
from noisekiln.runs.run_summary import ModelFacts
from noisekiln.tasks.upscale import Upscale

SETTINGS = Settings(
    road="cascade", images=128, batch_size=8, backbone=TINY, curves="none", ema_snapshots=0, device="cpu"
)  # 64 images for each of two stages
RARE = Intervals(grids_at=(0.5,), held_out_at=())
pytestmark = pytest.mark.usefixtures("short_previews")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images of 24x20 pixels, in two classes."""
    folder, generator = tmp_path_factory.mktemp("data") / "faces", np.random.default_rng(0)
    for i in range(20):
        pixels = generator.integers(0, 256, (6, 5, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        save_image(folder / ("left", "right")[i % 2] / f"{i}.png", pixels)
    return folder


@pytest.fixture(scope="module")
def data(faces: Path) -> DataSet:
    return load(faces)


@pytest.fixture(scope="module")
def trained(faces: Path, data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A cascade that was never interrupted, and its events."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, list(CascadeRun(SETTINGS.replace(data=str(faces)), data, folder, intervals=RARE).events())


def weights(folder: Path) -> list[str]:
    return [digest(read_weights(file)) for file in sorted((folder / "model").rglob("model.safetensors"))]


# --- the plan


@pytest.mark.parametrize(("size", "sizes"), [
    ((64, 64), [(16, 16), (32, 32), (64, 64)]),
    ((256, 256), [(16, 16), (32, 32), (64, 64), (128, 128), (256, 256)]),
    ((50, 37), [(13, 10), (25, 19), (50, 37)]),
    ((28, 28), [(14, 14), (28, 28)]),
    ((16, 16), [(16, 16)]),
    ((64, 9), [(64, 9)]),
])  # fmt: skip
def test_each_stage_has_half_the_sides_of_the_next(size, sizes):
    stages = cascade_stages(size)
    assert [stage.size for stage in stages] == sizes
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert stages[0].task == "generate"
    assert all(stage.task.startswith("upscale(factor=2") for stage in stages[1:])


def test_latents_are_the_default_where_images_are_large_and_time_is_short(monkeypatch):
    auto = Settings(device="cpu")
    assert choose_road(auto, (64, 64)) == "latent"
    assert choose_road(auto, (48, 20)) == "latent"
    assert choose_road(auto, (47, 47)) == "pixels"
    assert choose_road(auto.replace(road="pixels"), (64, 64)) == "pixels"
    assert choose_road(auto.replace(road="cascade"), (64, 64)) == "cascade"
    assert choose_road(auto.replace(minutes=600), (64, 64)) == "latent"
    assert choose_road(auto.replace(images=1000), (64, 64)) == "latent"
    for changes in ({"task": "upscale"}, {"start": "runs/a"}, {"codec": "halving.py:Halving"}, {"codec": "pixels"}):
        assert choose_road(auto.replace(**changes), (64, 64)) == "pixels"
    monkeypatch.setattr("noisekiln.plan.defaults.pick_device", lambda device: "cuda")
    assert choose_road(Settings(), (64, 64)) == "pixels"


@pytest.mark.parametrize(("changes", "size", "said"), [
    ({"task": "upscale"}, (64, 64), "`task=upscale` starts from images"),
    ({"start": "runs/a"}, (64, 64), "`start=runs/a` is a single model"),
    ({"codec": "own.py:Codec"}, (64, 64), "`codec=own.py:Codec` makes images small in its own way"),
    ({}, (16, 16), "images of 16x16 pixels are small enough"),
])  # fmt: skip
def test_a_cascade_that_cannot_be_is_refused(changes, size, said):
    with pytest.raises(ValueError, match="road=cascade") as refused:
        choose_road(Settings(road="cascade", **changes), size)
    assert said in str(refused.value)


def test_the_images_of_a_stage_are_what_the_next_one_learns_to_upscale(data):
    first, last = cascade_stages(data.size)
    small = data_of_stage(data, first)
    sources = Upscale(2).observe(torch.from_numpy(data.train.pixels), torch.Generator()).numpy()
    assert np.array_equal(small.train.pixels, sources)
    assert small.train.labels is data.train.labels
    assert small.held_out is None or small.held_out.pixels.shape[1:3] == first.size
    assert small.fingerprint != data.fingerprint
    assert data_of_stage(data, last) is data


def test_the_budget_is_shared_out():
    stages = cascade_stages((64, 64))
    settings = Settings(minutes=8.0, epochs=10, road="cascade", guidance=2.0)
    shares = [settings_of_stage(settings, stage, image_count=100) for stage in stages]
    assert [each.minutes for each in shares] == [2.0, 2.0, 4.0]
    assert [each.images for each in shares] == [250, 250, 500]
    assert {each.epochs for each in shares} == {None}
    assert [each.guidance for each in shares] == [2.0, None, None]  # the other stages keep to their images


# --- the run


def test_one_folder_holds_the_stages_and_the_cascade(trained, data):
    folder, events = trained
    assert [(event.number, event.count, event.size) for event in events if isinstance(event, Stage)] == [
        (1, 2, (12, 10)), (2, 2, (24, 20)),
    ]  # fmt: skip
    assert [event.settings.task for event in events if isinstance(event, Plan)] == [
        "generate",
        "upscale(factor=2, noise=0.1)",
    ]
    [end] = [event for event in events if isinstance(event, End)]
    assert events[-1] is end
    assert (end.why, end.folder, end.images_seen) == ("done", folder, 128)
    assert end.stages == (folder / "stage0", folder / "stage1")
    model = nk.load(folder)
    assert isinstance(model, Cascade)
    assert model.sample(["left", "right"], steps=2).shape == (2, 24, 20, 3)
    assert Settings.read(folder / "run.yaml").road == "cascade"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "A cascade of 2 diffusion models of colour images of 24x20 pixels" in card
    assert "![Samples](samples/" in card
    assert rewrite_card(folder, ModelFacts.of(model)) == ""
    assert "| Images seen | 128 |" in (folder / "README.md").read_text(encoding="utf-8"), "by the logs of the stages"
    assert "| Images seen | 128 |" in card
    assert card.count("unet(") == 2, "the network of each stage"
    for stage in end.stages:
        assert Settings.read(stage / "run.yaml").road == "pixels"


def test_its_grids_show_the_cascade(trained):
    folder, events = trained
    grids = [event.file for event in events if isinstance(event, Grid)]
    assert sorted(grids) == sorted((folder / "samples").glob("*.png"))
    assert [int(file.stem) for file in grids] == [32, 64, 96, 128]
    own = (folder / "stage0" / "samples").glob("*.png")
    assert [file.read_bytes() for file in grids[:2]] == [file.read_bytes() for file in sorted(own)]


def test_the_model_is_the_cascade_so_far(data, tmp_path):
    run, sizes = CascadeRun(SETTINGS, data, tmp_path, intervals=RARE), {}
    for event in run.events():
        if isinstance(event, Stage) and event.number == 2:
            sizes["after the first"] = nk.load(tmp_path).size
        if isinstance(event, Step) and event.report.images_seen == 56 and run.ranks.is_main:
            sizes.setdefault(len(sizes), nk.load(tmp_path).size if (tmp_path / "model").exists() else None)
    assert sizes["after the first"] == (12, 10)
    assert nk.load(tmp_path).size == (24, 20)


@pytest.mark.parametrize("steps", [1, 7, 8, 11])  # in the first stage, at its end, in the second
def test_an_interrupted_cascade_ends_with_the_same_weights(steps, trained, data, tmp_path):
    interrupt, seen, ends = Interrupt(), 0, []
    run = CascadeRun(SETTINGS, data, tmp_path, intervals=RARE)
    for event in run.events(interrupt):
        seen += isinstance(event, Step)
        interrupt.signal = signal.SIGTERM if seen >= steps else 0
        ends += [event] if isinstance(event, End) else []
    assert [(end.why, end.signal) for end in ends] == [("stopped", signal.SIGTERM)]
    (tmp_path / "samples").mkdir(exist_ok=True)
    (tmp_path / "samples" / "000000100.png").touch()  # of steps that a kill has undone
    *_, end = CascadeRun(SETTINGS, data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 128)
    assert weights(tmp_path) == weights(trained[0])
    assert {file.name for file in (tmp_path / "samples").iterdir()} >= {"000000096.png", "000000128.png"}
    assert not (tmp_path / "samples" / "000000100.png").exists()
    *_, end = CascadeRun(SETTINGS, data, tmp_path, intervals=RARE).events()
    assert end.why == "finished before"


def test_a_cascade_that_a_kill_left_behind_its_stages_is_written_again(trained, data, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    before = weights(tmp_path)
    for damage in (lambda: shutil.rmtree(tmp_path / "model"), lambda: (tmp_path / "model" / "model.json").unlink()):
        damage()
        list(CascadeRun(SETTINGS, data, tmp_path, intervals=RARE).events())
        assert isinstance(nk.load(tmp_path), Cascade)
        assert weights(tmp_path) == before
    changed = (tmp_path / "model").stat().st_mtime_ns
    list(CascadeRun(SETTINGS, data, tmp_path, intervals=RARE).events())
    assert (tmp_path / "model").stat().st_mtime_ns == changed  # a model that is whole is left alone


def test_a_larger_budget_resumes_every_stage(trained, data, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    *_, end = CascadeRun(SETTINGS.replace(images=192), data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 192)


# --- which run a folder holds


def test_a_folder_stays_on_its_road(trained, data, tmp_path):
    folder, _ = trained
    auto = SETTINGS.replace(road="auto")
    assert isinstance(open_run(auto, data, folder), CascadeRun)
    with pytest.raises(ValueError, match=r"`road=cascade` \(now pixels\)"):
        open_run(SETTINGS.replace(road="pixels"), data, folder)
    assert isinstance(open_run(auto, data, tmp_path), Run)  # small images
    list(Run(SETTINGS.replace(road="auto", images=8), data, tmp_path, intervals=RARE).events())
    with pytest.raises(ValueError, match=r"`road=pixels` \(now cascade\)"):
        open_run(SETTINGS, data, tmp_path)


def _darker(data: DataSet) -> DataSet:
    pixels = data.train.pixels // 2
    return replace(data, train=replace(data.train, pixels=pixels), fingerprint="0" * 16)


def test_other_images_are_refused_before_anything_is_written(trained, faces, data):
    folder, _ = trained
    before = (folder / "dataset.json").read_bytes()
    for other, said in (
        (load(faces, size=22), "`size=24x20` \\(now 22x22\\)"),
        (_darker(data), "no longer those that"),
    ):
        with pytest.raises(ValueError, match=said):
            CascadeRun(SETTINGS.replace(data=str(faces)), other, folder)
    assert (folder / "dataset.json").read_bytes() == before


def test_a_network_of_ones_own_is_trained_at_every_stage(data, tmp_path):
    """The settings name the file, which is consent enough for the grids too."""
    (tmp_path / "own.py").write_text(
        "from noisekiln.backbones.unet import Unet\n\n\nclass Own(Unet):\n    pass\n", encoding="utf-8"
    )
    own = TINY.replace("unet", f"{tmp_path / 'own.py'}:Own")
    *_, end = CascadeRun(SETTINGS.replace(backbone=own), data, tmp_path / "run", intervals=RARE).events()
    assert end.why == "done"
    with pytest.raises(ValueError, match=r"runs the Python code of"):
        nk.load(tmp_path / "run")


def test_files_of_something_else_are_refused(data, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files, but no run"):
        CascadeRun(SETTINGS, data, tmp_path)


# --- in Python and on the command line


def test_python_gets_the_cascade(faces, tmp_path):
    model = nk.train(
        faces, road="cascade", images=32, batch_size=8, backbone=TINY, curves="none", out=tmp_path / "run",
        watch=lambda event: None,
    )  # fmt: skip
    assert isinstance(model, Cascade)


def test_each_stage_is_measured(faces, tmp_path, measure_briefly):
    events: list[object] = []
    found = nk.measure(faces, road="cascade", images=320, backbone=TINY, out=tmp_path / "run", watch=events.append)
    assert [event.measurement for event in events if isinstance(event, Measured)] == found
    assert len(found) == 2
    assert not (tmp_path / "run").exists()


def test_the_command_says_where_it_is(cli: Command, faces, tmp_path):
    words = ("train", faces, "--road", "cascade", "--images", 32, "--batch", 8, "--backbone", TINY, "--curves", "none")
    result = cli(*words, "--out", tmp_path / "run")
    assert result.code == 0, result
    assert "stage 1 of 2: 12x10 pixels" in result.out
    assert "stage 2 of 2: 24x20 pixels" in result.out
    assert f"stages {tmp_path / 'run' / 'stage0'}, stage1: a run each" in result.flat
    assert result.out.count("done: ") == 1
    sampled = cli("sample", tmp_path / "run", "-n", 2, "--steps", 2, "--out", tmp_path / "samples")
    assert sampled.code == 0, sampled
    again = cli(*words, "--out", tmp_path / "run")
    assert "The budget of this run is used up" in again.flat


def test_the_road_cannot_be_changed_on_the_command_line(cli: Command, faces, trained):
    result = cli("train", faces, "--road", "pixels", "--images", 32, "--out", trained[0])
    assert result.code == 2
    assert "--road cascade (now pixels)" in result.flat


@pytest.mark.parametrize("words", [("plot",), ("ema", "--length", 0.1)])
def test_what_only_a_stage_has_is_asked_of_a_stage(words, cli: Command, trained):
    command, *options = words
    result = cli(command, trained[0], *options)
    assert result.code == 2
    assert f"Give one of them, such as {trained[0] / 'stage0'}." in result.flat


def test_no_note_is_lost(data, tmp_path):
    """The first stage has fewer images than its batch, which the plan says."""
    events = list(CascadeRun(SETTINGS.replace(batch_size=64), data, tmp_path, intervals=RARE).events())
    assert all(event.text for event in events if isinstance(event, Note))
    [end] = [event for event in events if isinstance(event, End)]
    assert "mostly noise" in end.undertrained
