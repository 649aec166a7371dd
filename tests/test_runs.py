"""Run folders: what is in them, and that interrupted + resumed == uninterrupted, bit for bit."""

import base64
import json
import re
import shutil
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import noisekiln as nk
from conftest import TINY, Command, content_of, make_images, save_image
from noisekiln.data import DataSet, batch_order, load
from noisekiln.errors import Diverged
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.preview import preview_conditions
from noisekiln.objectives.base import Loss
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.predictions import PREDICTIONS, Prediction
from noisekiln.runs.events import End, Event, Measured, Note, Plan, Step
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints
from noisekiln.training.batches import Batch

SETTINGS = Settings(images=256, batch_size=16, backbone=TINY, curves="none")
EVERY_STEP = Intervals(log_seconds=0.0, grids_at=(0.05, 0.35))
pytestmark = pytest.mark.usefixtures("short_previews")


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): content_of(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def train(settings: Settings, data: DataSet, folder: Path, *, stop_after: int | None = None) -> Run:
    """Train to the end; or stop after `stop_after` steps, and save."""
    run = Run(settings, data, folder, intervals=EVERY_STEP)
    for _ in islice(run.steps(), stop_after):
        pass
    if stop_after is not None:
        run.save()
    return run


def log(folder: Path) -> list[tuple[int, float, float, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "held_out" not in line]
    return [(line["images_seen"], line["loss"], line["grad_norm"], line["lr"]) for line in steps]


def same(one: Path, other: Path) -> None:
    """Assert that two runs wrote the same, except times."""
    first, second = (checkpoints.load_newest(folder / "checkpoints") for folder in (one, other))
    assert first is not None
    assert second is not None
    assert first.tensors.keys() == second.tensors.keys()
    assert {name.split(".")[0] for name in first.tensors} >= {"module", "ema", "optimizer0"}
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    assert first.state | {"seconds": 0} == second.state | {"seconds": 0}
    assert log(one) == log(other)
    made = [f"{folder}/{file.name}" for folder in ("samples", "ema") for file in sorted((one / folder).iterdir())]
    assert made == [f"{folder}/{f.name}" for folder in ("samples", "ema") for f in sorted((other / folder).iterdir())]
    for name in (*made, "model/model.safetensors", "model/model.json"):
        assert content_of(one / name) == content_of(other / name), name


# What a run leaves


def test_run_folder(class_run: Path):
    assert sorted(f.name for f in class_run.iterdir()) == [
        ".lock", "README.md", "checkpoints", "data.png", "dataset.json", "denoising.gif", "ema", "environment.json",
        "forward.png", "loss.png", "metrics.jsonl", "model", "run.yaml", "samples",
    ]  # fmt: skip
    assert sorted(f.name for f in (class_run / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert len(list((class_run / "checkpoints").iterdir())) == 2
    settings = yaml.safe_load((class_run / "run.yaml").read_text())
    left_open = {"minutes", "epochs", "start", "lora", "teacher", "micro_batch_size", "keep_every", "score"}
    assert {name for name, value in settings.items() if value is None} == left_open
    assert "auto" not in settings.values()
    assert (settings["cond"], settings["images"], settings["size"]) == ("class_label", 1600, [8, 8])
    described = json.loads((class_run / "dataset.json").read_text())
    assert (described["images"], described["held_out"], described["size"]) == (22, 2, [8, 8])
    assert (described["class_names"], described["channels"], described["skipped"]) == (["Cat", "dog"], 3, [])
    first = json.loads((class_run / "metrics.jsonl").read_text().splitlines()[0])
    assert set(first) >= {"images_seen", "seconds", "share", "loss", "grad_norm", "lr", "memory_gib"}
    assert first["images_seen"] == 16


def test_grids_at_the_shares_of_the_budget(class_run: Path):
    seen = [int(file.stem) for file in sorted((class_run / "samples").iterdir())]
    assert seen == [80, 240, 560, 960, 1280, 1600]
    for file in (class_run / "samples").iterdir():
        with Image.open(file) as grid:
            grid.verify()
        assert max(grid.size) >= 512


def test_training_learns_something(class_run: Path, pets: Path):
    """The model is the average, loadable; its reds and blues are those of its classes."""
    images = Diffusion.load(class_run).sample(["cat"] * 16 + ["dog"] * 16, guidance=2.0).double()
    red_less_blue = (images[..., 0] - images[..., 2]).mean((1, 2))
    assert float(red_less_blue[:16].mean()) > float(red_less_blue[16:].mean()) + 50


def test_model_is_the_average(class_run: Path):
    newest = checkpoints.load_newest(class_run / "checkpoints")
    assert newest is not None
    model = load_file(class_run / "model" / "model.safetensors")
    assert all(torch.equal(tensor, newest.tensors[f"ema.0.diffusion.{name}"]) for name, tensor in model.items())


def test_settings_survive_writing(tmp_path: Path):
    settings = Settings(data="ä b", size=(24, 48), minutes=0.5, lr=3e-4, guidance=0.0, sampler="ddim(eta=0.5)")
    settings.write(tmp_path / "run.yaml")
    assert Settings.read(tmp_path / "run.yaml") == settings


def test_runs_of_an_earlier_version_with_all_settings_written_resume(data: DataSet, tmp_path: Path):
    """Their run.yaml holds the defaults of that version."""
    resolve(SETTINGS, data).write(tmp_path / "run.yaml")
    text = (tmp_path / "run.yaml").read_text()
    assert "sampler: dpmpp_2m\nsteps: 20\n" in text
    assert "schedule: karras\n" in text
    assert Settings.read(tmp_path / "run.yaml") == resolve(SETTINGS, data)
    assert resolve(Settings(sampler="heun", steps=3, schedule="cosine"), data).sampler == "heun"


def test_resolved_settings_resolve_to_themselves(data: DataSet):
    once = resolve(SETTINGS, data)
    assert resolve(once, data) == once


@pytest.mark.slow
def test_previews(data: DataSet, class_run: Path, text_run: Path, captioned: Path):
    classes, texts = (Diffusion.load(run).conditioner for run in (class_run, text_run))
    assert preview_conditions(classes, data.train, data.class_names, 5) == ["Cat", "dog", "Cat", "dog", "Cat"]
    assert preview_conditions(classes, None, data.class_names, 2) == ["Cat", "dog"]
    assert preview_conditions(None, data.train, data.class_names, 2) == [None, None]
    held_out = load(captioned).held_out
    assert held_out is not None
    assert held_out.captions is not None
    assert set(preview_conditions(texts, held_out, ()) or ()) <= set(held_out.captions)
    assert preview_conditions(texts, data.train, (), 2) == [None, None]  # images without captions
    assert preview_conditions(texts, None, ()) is None  # it needs the images


# Resuming


@pytest.mark.parametrize(
    ("change", "stops"),
    [
        ({}, (5,)),
        ({}, (1, 1, 7)),
        ({"optimizer": "adamw"}, (6,)),
        ({"optimizer": "adam", "loss_weight": "uncertainty"}, (6,)),
        ({"batch_size": 9, "prediction": "flow", "draw": "logit_normal", "cond": "none", "cond_dropout": 0.0}, (11,)),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    data: DataSet, tmp_path: Path, change: dict[str, object], stops: tuple[int, ...]
):
    settings = SETTINGS.replace(**change)
    train(settings, data, tmp_path / "one")
    for steps in stops:
        train(settings, data, tmp_path / "other", stop_after=steps)
    run = train(settings, data, tmp_path / "other")
    assert run.opened.images_seen == settings.batch_size * sum(stops)
    assert run.opened.checkpoint is not None
    assert run.opened.checkpoint.shards == []  # nothing holds on to the memory of what was loaded
    same(tmp_path / "one", tmp_path / "other")


@pytest.mark.slow
def test_text_resumes_too(captioned: Path, tmp_path: Path):
    texts = load(captioned)
    train(SETTINGS, texts, tmp_path / "one")
    train(SETTINGS, texts, tmp_path / "other", stop_after=3)
    train(SETTINGS, texts, tmp_path / "other")
    same(tmp_path / "one", tmp_path / "other")


@pytest.mark.slow
def test_killed_without_saving(data: DataSet, tmp_path: Path):
    """Steps after the last checkpoint are repeated, and their lines in the log are not doubled."""
    train(SETTINGS, data, tmp_path / "one")
    killed = Run(SETTINGS, data, tmp_path / "other", intervals=EVERY_STEP)
    steps = killed.steps()
    for _ in islice(steps, 9):
        pass
    del steps
    with (tmp_path / "other" / "metrics.jsonl").open("a") as cut_off:
        cut_off.write('{"images_seen": 1')
    again = train(SETTINGS, data, tmp_path / "other")
    assert 0 < again.opened.images_seen < 9 * 16
    same(tmp_path / "one", tmp_path / "other")


def test_killed_while_saving(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train(SETTINGS, data, tmp_path / "one")
    run = train(SETTINGS, data, tmp_path / "other", stop_after=4)
    list(islice(run.trainer.run(), 2))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            run.save()
    again = train(SETTINGS, data, tmp_path / "other")
    assert again.opened.images_seen == 64
    same(tmp_path / "one", tmp_path / "other")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path / "one")
    train(SETTINGS, data, tmp_path / "other", stop_after=8)
    places = sorted((tmp_path / "other" / "checkpoints").iterdir())
    (places[-1] / "part-00000-of-00001.safetensors").write_bytes(b"cut off")
    again = train(SETTINGS, data, tmp_path / "other")
    assert again.opened.images_seen == int(places[-2].name)
    same(tmp_path / "one", tmp_path / "other")
    for place in (tmp_path / "other" / "checkpoints").iterdir():
        (place / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"No checkpoint in .* can be read .*All are damaged\. Restore"):
        Run(SETTINGS, data, tmp_path / "other")


@pytest.mark.slow
def test_only_two_checkpoints_are_kept(data: DataSet, tmp_path: Path):
    list(Run(SETTINGS, data, tmp_path, intervals=Intervals(checkpoint_seconds=0.0)).steps())
    assert [int(place.name) for place in sorted((tmp_path / "checkpoints").iterdir())] == [240, 256]


def test_finished_and_longer(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path)
    finished = Run(SETTINGS, data, tmp_path)
    assert (finished.opened.images_seen, finished.trainer.share) == (256, 1.0)
    longer = train(SETTINGS.replace(images=320), data, tmp_path)
    assert (longer.opened.images_seen, longer.trainer.images_seen) == (256, 320)
    assert [seen for seen, *_ in log(tmp_path)] == list(range(16, 321, 16))
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["images"] == 320


def test_automatic_settings_are_kept(data: DataSet, tmp_path: Path):
    """A longer budget would choose a larger network; the run keeps its own."""
    chosen = Run(Settings(minutes=1.0), data, tmp_path).settings
    RunFolder(tmp_path).write_metadata(chosen, data)
    assert resolve(Settings(minutes=600.0), data).backbone != chosen.backbone
    assert Run(Settings(minutes=600.0), data, tmp_path).settings == chosen.replace(minutes=600.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "`lr=0.002` (now 0.5)"),
        ({"prediction": "eps"}, "`prediction=v` (now eps)"),
        ({"batch_size": 8, "seed": 1}, "`seed=0` (now 1), `batch_size=16` (now 8)"),
        ({"cond": "none"}, "`cond=class_label` (now none)"),
        ({"optimizer": "adam", "lr": 0.002}, "`optimizer=muon` (now adam)"),
        ({"backbone": TINY.replace("32", "64")}, "`backbone="),
    ],
)
def test_changed_settings_are_refused(data: DataSet, tmp_path: Path, change: dict[str, object], message: str):
    train(SETTINGS, data, tmp_path, stop_after=3)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with other settings: .* another `out` for a new one") as error:
        Run(SETTINGS.replace(**change), data, tmp_path)
    assert message in str(error.value)
    same_network = change.keys().isdisjoint({"prediction", "backbone"})  # a new run may start from this one's model
    assert (f", with `start={tmp_path}` to go on from this model." in str(error.value)) == same_network
    assert contents(tmp_path) == before


def test_what_may_change(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path, stop_after=3)
    moved = SETTINGS.replace(data="elsewhere", sampler="heun", steps=3, guidance=4.0, schedule="cosine", minutes=9.0)
    assert train(moved, data, tmp_path).opened.images_seen == 48
    default = Diffusion.load(tmp_path).sampling
    assert (default.sampler, default.steps, default.guidance, default.schedule) == ("heun", 3, 4.0, "cosine")
    kept = Run(SETTINGS, data, tmp_path).settings  # where nothing else is requested
    assert (kept.sampler, kept.steps, kept.guidance, kept.schedule) == ("heun", 3, 4.0, "cosine")


def test_changed_data_are_refused(data: DataSet, pets: Path, tmp_path: Path):
    folder = tmp_path / "run"
    train(SETTINGS, data, folder, stop_after=3)
    shutil.copytree(pets, tmp_path / "pets")
    assert Run(SETTINGS, load(tmp_path / "pets"), folder).opened.images_seen == 48
    save_image(tmp_path / "pets" / "dog" / "1.png", np.zeros((8, 8, 3), np.uint8))
    before = contents(folder)
    way_on = f"or give another `out` for a new run, with `start={folder}` to go on from this model."
    refusal = "are no longer those that {} was trained on{}. A run cannot change its data midway. Restore them, {}"
    with pytest.raises(ValueError, match=re.escape(refusal.format(folder, "", way_on))):
        Run(SETTINGS, load(tmp_path / "pets"), folder)
    assert contents(folder) == before
    save_image(tmp_path / "pets" / "dog" / "new.png", np.zeros((8, 8, 3), np.uint8))
    more = refusal.format(folder, " (24 images then, 25 now)", way_on)
    with pytest.raises(ValueError, match=re.escape(more)):
        Run(SETTINGS, load(tmp_path / "pets"), folder)
    elsewhere = (
        rf"was trained on the images of {SETTINGS.data}, and those of other/pets are others \(24 .*25 now\)\..*out"
    )
    with pytest.raises(ValueError, match=elsewhere):
        Run(SETTINGS.replace(data="other/pets"), load(tmp_path / "pets"), folder)
    shutil.rmtree(folder / "model")
    with pytest.raises(ValueError, match=r"another `out` for a new run\.$"):  # nothing to start from
        Run(SETTINGS, load(tmp_path / "pets"), folder)


def test_another_size_is_named_and_of_a_spec_what_differs(data: DataSet, pets: Path, tmp_path: Path):
    train(SETTINGS, data, tmp_path, stop_after=3)
    with pytest.raises(ValueError, match=r"other settings: `size=8x8` \(now 4x6\)\. A run"):
        Run(SETTINGS, load(pets, size=(4, 6)), tmp_path)
    wider = SETTINGS.replace(backbone="unet(widths=(32, 32), blocks=(1, 1), patch=1, condition=32)")
    with pytest.raises(ValueError, match=r"backbone=unet\(widths=\(32,\), blocks=\(1,\)\)` \(now unet") as error:
        Run(wider, data, tmp_path)
    assert "condition" not in str(error.value)


def test_folders_that_are_not_runs_are_refused(data: DataSet, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(
        ValueError,
        match=r"holds files, but no run: there is no run\.yaml\. Nothing was changed\.",
    ):
        Run(SETTINGS, data, tmp_path)
    with pytest.raises(ValueError, match=r"is a file, but a run needs a folder\. Give a new folder as `out`\."):
        Run(SETTINGS, data, tmp_path / "thesis.tex")
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.yaml", "", r"run\.yaml holds no settings"),
        ("run.yaml", "a: [1", r"run\.yaml cannot be read \(.*Restore it from a backup"),
        ("run.yaml", "lrr: 1", r"run\.yaml: There is no setting called 'lrr'\. Did you mean 'lr'\?"),
        ("dataset.json", "{", r"dataset\.json is missing or damaged, so it is unknown what this run"),
        ("dataset.json", "[]", r"dataset\.json is missing or damaged"),
        ("dataset.json", "{}", r"dataset\.json is missing or damaged"),
    ],
)
def test_damaged_runs_are_refused(data: DataSet, tmp_path: Path, file: str, text: str, message: str):
    train(SETTINGS, data, tmp_path, stop_after=1)
    (tmp_path / file).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        Run(SETTINGS, data, tmp_path)
    assert contents(tmp_path) == before


def test_opening_a_run_writes_nothing(data: DataSet, tmp_path: Path):
    Run(SETTINGS, data, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    train(SETTINGS, data, tmp_path / "run", stop_after=3)
    before = contents(tmp_path / "run")
    Run(SETTINGS.replace(images=999), data, tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_first_start_that_never_saved(data: DataSet, tmp_path: Path):
    longer = SETTINGS.replace(images=640)
    steps = Run(longer, data, tmp_path).steps()
    next(steps)
    del steps
    assert [seen for seen, *_ in log(tmp_path)] == [16]
    assert train(longer, data, tmp_path).opened.images_seen == 0
    assert [seen for seen, *_ in log(tmp_path)] == list(range(16, 641, 16))


# Divergence


def test_a_nan_keeps_the_last_good_checkpoint(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    longer = SETTINGS.replace(images=400)
    run = Run(longer, data, tmp_path, intervals=EVERY_STEP)
    steps = run.steps()
    for _ in islice(steps, 7):
        pass
    run.background.wait()
    saved = contents(tmp_path / "checkpoints") | contents(tmp_path / "model")
    before = [parameter.clone() for parameter in run.learner.parameters()]
    batches = TrainingBatches.__call__

    def ruined(self: TrainingBatches, start: int, count: int, generator: torch.Generator) -> Batch:
        x, *rest = batches(self, start, count, generator)
        assert x is not None
        if self is run.trainer.batches:
            x[5] = torch.nan
        return x, *rest

    monkeypatch.setattr(TrainingBatches, "__call__", ruined)
    with pytest.raises(Diverged) as error:
        list(steps)
    message = str(error.value)
    assert message.startswith("After 272 images the loss is nan")
    assert "and 10 other recent steps were skipped" in message
    place = batch_order(len(data.train), seed=0, start=272, count=16)[5]
    assert "the largest error was at the noise-to-signal ratio" in message
    assert f", in {data.train.files[place]}. These weights were not saved" in message
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum("skipped_step" in line for line in lines) == 10
    assert f"These weights were not saved: {tmp_path} keeps the last checkpoint. Use a lower `lr`" in message
    assert all(torch.equal(a, b) for a, b in zip(before, run.learner.parameters(), strict=True))
    assert contents(tmp_path / "checkpoints") | contents(tmp_path / "model") == saved
    assert Diffusion.load(tmp_path).sample(1, steps=1).shape == (1, 8, 8, 3)
    monkeypatch.undo()
    assert train(longer, data, tmp_path).opened.images_seen > 0  # with repaired data it resumes


def test_a_new_prediction_is_chosen_by_its_name(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = Prediction("mine", lambda t: (torch.ones_like(t.alpha), -torch.ones_like(t.alpha)))
    with pytest.raises(ValueError, match=r"`prediction=mine` is not a choice\. .*Known prediction types: .*flow"):
        nk.train(pets, out=tmp_path, prediction="mine")
    monkeypatch.setitem(PREDICTIONS, "mine", mine)
    words = {"images": 32, "batch_size": 16, "backbone": TINY, "curves": "none"}
    model = nk.train(pets, out=tmp_path, prediction="mine", **words)
    assert model.denoiser.prediction == mine
    assert nk.load(tmp_path).sample(1, steps=1).shape == (1, 8, 8, 3)


def test_a_nan_before_the_first_checkpoint(data: DataSet, tmp_path: Path):
    with pytest.raises(Diverged, match="holds no checkpoint yet"):
        train(SETTINGS.replace(images=100_000, lr=1e30), data, tmp_path)


def test_weights_too_large_to_sample_are_divergence(data: DataSet, tmp_path: Path):
    """They may be finite still, as the loss is."""
    run = train(SETTINGS, data, tmp_path, stop_after=3)
    with torch.no_grad():
        for weight in run.learner.parameters():
            weight.fill_(1e15)
    message = r"After 48 images the weights are so large that samples are .* keeps the last checkpoint.* lower `lr`"
    with pytest.raises(Diverged, match=message) as error:
        run.draw_grid()
    assert error.value.exit_code == 4


# Odd data


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 5, 9, 1), (40, 4, 4, 3)])
def test_few_odd_and_constant_images(tmp_path: Path, shape: tuple[int, ...]):
    images = load(np.full(shape, 90, np.uint8))
    run = train(Settings(images=4 * shape[0], backbone=TINY, curves="none"), images, tmp_path)
    assert run.settings.batch_size == min(64, len(images.train))
    assert run.settings.cond == "none"
    assert Diffusion.load(tmp_path).sample(2, steps=2).shape == (2, *shape[1:])


# In Python

QUICK = {"batch_size": 16, "backbone": TINY, "curves": "none"}


def test_train_in_python(pets: Path, tmp_path: Path):
    model = nk.train(pets, out=tmp_path / "run", images=64, size=6, intervals=EVERY_STEP, **QUICK)
    assert model.sample(2, steps=2).shape == (2, 6, 6, 3)
    again = nk.load(tmp_path / "run").sample(["cat", "dog"], steps=2, seed=3)
    assert torch.equal(again, model.sample(["cat", "dog"], steps=2, seed=3))
    longer = nk.train(str(pets), out=tmp_path / "run", images=96, size=6, intervals=EVERY_STEP, **QUICK)
    assert longer.conditioner is not None
    assert [seen for seen, *_ in log(tmp_path / "run")][-1] == 96


def test_train_takes_arrays_and_chooses_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), dtype=np.uint8)
    nk.train(images, images=40, backbone=TINY, curves="none")
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "model" / "model.json").exists()


def test_watch_gets_every_event_in_order(pets: Path, tmp_path: Path):
    events: list[Event] = []
    nk.train(pets, out=tmp_path, images=48, watch=events.append, **QUICK)
    names = list(dict.fromkeys(type(event).__name__ for event in events))
    assert names == ["Reading", "DataRead", "Plan", "Grid", "Saving", "Step", "End"]
    plan = next(event for event in events if isinstance(event, Plan))
    assert (plan.images_seen, plan.share, plan.settings.images, plan.folder) == (0, 0.0, 48, tmp_path)
    assert [event.report.images_seen for event in events if isinstance(event, Step)] == [16, 32, 48]
    assert isinstance(events[-1], End)
    assert (events[-1].why, events[-1].images_seen, events[-1].signal) == ("done", 48, 0)
    before = contents(tmp_path)
    again: list[Event] = []
    nk.train(pets, out=tmp_path, images=48, watch=again.append, **QUICK)
    assert isinstance(again[-1], End)
    assert (again[-1].why, contents(tmp_path)) == ("finished before", before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_call_once_all_is_saved(pets: Path, tmp_path: Path, number: signal.Signals):
    words = {"out": tmp_path, "images": 128, **QUICK}

    def interrupt(event: Event) -> None:
        if isinstance(event, Step) and event.report.images_seen == 32:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as stopped:
        nk.train(pets, watch=interrupt, **words)  # half a model is not returned as a whole one
    assert number == signal.SIGINT or stopped.value.code == 143
    assert nk.train(pets, **words).conditioner is not None
    newest = checkpoints.load_newest(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.state["images_seen"] == 128


def test_without_a_watcher_notes_are_warnings_of_the_caller(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw_grid = Run.draw_grid

    def interrupted(run: Run) -> Path:
        signal.raise_signal(signal.SIGINT)
        return draw_grid(run)

    monkeypatch.setattr(Run, "draw_grid", interrupted)
    stopped = pytest.raises(KeyboardInterrupt)
    with pytest.warns(UserWarning, match="Stopped and saved after 32 images") as warned, stopped:
        nk.train(pets, out=tmp_path, images=640, **QUICK)
    assert warned[0].filename == __file__


@pytest.mark.usefixtures("measure_briefly")
def test_measuring_writes_nothing(pets: Path, tmp_path: Path):
    events: list[Event] = []
    [found] = nk.measure(pets, out=tmp_path / "run", watch=events.append, images=640, **QUICK)
    assert found.images_per_second > 0
    assert [type(event) for event in events[-2:]] == [Plan, Measured]
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("measure_briefly")
def test_only_the_first_process_shows_events(pets: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("noisekiln.distributed.torchrun.rank", lambda: 1)
    events: list[Event] = []
    nk.measure(pets, watch=events.append, images=640, **QUICK)
    assert events == []


def test_a_folder_in_use_is_refused_before_the_run_is_opened(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("noisekiln.runs.train.open_run", None)
    with RunFolder(tmp_path).lock, pytest.raises(ValueError, match="is in use by process"):
        nk.train(pets, out=tmp_path, watch=lambda event: None, **QUICK)


def test_interrupt_in_another_thread_changes_nothing():
    handlers = []

    def work() -> None:
        with Interrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("noisekiln.machine.interrupt.REPEAT", 0.0)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_command_finds_the_run_again_by_another_spelling(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_images(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    words = ("--batch-size", 16, "--backbone", TINY)
    assert cli("train", "pets", "--images", 64, *words).code == 0
    result = cli("train", "./pets/", "--images", 96, *words)
    assert result.code == 0, result
    assert "resuming after 64 images, 67% of the budget" in result.out


# Memory


@pytest.mark.slow
def test_a_preview_that_does_not_fit_is_generated_in_smaller_batches(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    generate, sizes = Diffusion.generate, []

    def short(self: Diffusion, conditions: list[Any], *, batch_size: int, **options: Any) -> Iterator[Progress]:
        sizes.append(batch_size)
        if batch_size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, conditions, batch_size=batch_size, **options)

    run = Run(SETTINGS, data, tmp_path)
    expected = run.draw_grid().read_bytes()
    monkeypatch.setattr(Diffusion, "generate", short)
    assert run.draw_grid().read_bytes() == expected
    assert sizes == [16, 8, 4] * 2


@pytest.mark.slow
def test_a_trial_step_finds_what_fits_and_changes_nothing(data: DataSet, tmp_path: Path):
    plain, tried = (Run(SETTINGS, data, tmp_path / name) for name in "ab")
    forward = tried.learner.forward

    def short(x: torch.Tensor, *others: torch.Tensor) -> Loss:
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, *others)

    tried.learner.forward = short  # type: ignore[method-assign]
    tried.trainer.trial_step()
    assert (tried.trainer.micro_batch_size, tried.trainer.images_seen) == (4, 0)
    losses = [[report.loss for report in run.steps()] for run in (plain, tried)]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=0.1)  # optimizers magnify the rounding of sums


@pytest.mark.slow
def test_running_out_of_memory_during_a_run_is_noted(data: DataSet, tmp_path: Path):
    run = Run(SETTINGS, data, tmp_path)
    forward = run.learner.forward

    def short(x: torch.Tensor, *others: torch.Tensor) -> Loss:
        if len(x) > 8 and run.trainer.images_seen >= 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, *others)

    run.learner.forward = short  # type: ignore[method-assign]
    notes = [event.text for event in run.events() if isinstance(event, Note)]
    assert notes == ["memory is short: from now on the micro-batch is 8 images, with the same result"]


@pytest.mark.slow
def test_a_run_on_a_device_that_is_tried_first_is_the_same_run(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU: a trial of a grid and a step, and batches that are prefetched."""
    plain = Run(SETTINGS, data, tmp_path / "plain")
    losses = [report.loss for report in plain.steps()]
    monkeypatch.setattr("noisekiln.machine.memory.raises_on_oom", lambda device: True)
    monkeypatch.setattr("noisekiln.plan.build.is_async", lambda device: True)
    tried, trial_steps = Run(SETTINGS, data, tmp_path / "tried"), []
    trial_step = tried.trainer.trial_step
    monkeypatch.setattr(tried.trainer, "trial_step", lambda: trial_steps.append(trial_step()))
    assert [report.loss for report in tried.steps()] == losses
    assert len(trial_steps) == 1
    assert tried.trainer.placement.prefetch
    for part in ("model", "samples"):
        assert contents(tmp_path / "plain" / part) == contents(tmp_path / "tried" / part)


def test_a_copy_beside_a_compiled_network_has_its_buffers_too(pets: Path, tmp_path: Path):
    run = Run(SETTINGS, load(pets), tmp_path)
    run.learner.diffusion.denoiser.backbone.register_buffer("offset", torch.arange(3.0))
    assert run.copies.current() is run.learner
    run.copies.compiled = True
    copied = run.copies.current()
    assert copied is not run.learner
    for name, tensor in run.learner.state_dict().items():
        assert torch.equal(copied.state_dict()[name], tensor), name


# What users do to folders and settings


def test_a_run_whose_checkpoints_are_gone_does_not_overwrite_its_model(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path)
    before = contents(tmp_path / "model")
    shutil.rmtree(tmp_path / "checkpoints")
    for gone in ("nothing more", "model"):
        shutil.rmtree(tmp_path / gone, ignore_errors=True)
        with pytest.raises(ValueError, match=r"holds a run without its checkpoints.* Restore the checkpoints"):
            Run(SETTINGS, data, tmp_path)
        assert gone == "model" or contents(tmp_path / "model") == before


def test_a_run_without_its_description_may_have_other_images(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(ValueError, match="is missing or damaged, so it is unknown what this run was trained on"):
        Run(SETTINGS, data, tmp_path)


def test_a_run_that_had_no_space_for_its_settings_starts_when_it_has(data: DataSet, tmp_path: Path):
    (tmp_path / ".lock").touch()
    (tmp_path / "checkpoints").mkdir()
    assert train(SETTINGS, data, tmp_path).opened.images_seen == 0


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("keep_checkpoints", "2", "a whole number"), ("seed", None, "a whole number"), ("lr", "fast", "a number"),
        ("micro_batch_size", 2.5, "a whole number"), ("steps", True, "a whole number"),
        ("shard", "no", "True or False"), ("activation_checkpointing", 1, "True or False"),
    ],
)  # fmt: skip
def test_text_where_a_number_belongs_is_refused(name: str, value: object, needed: str):
    with pytest.raises(ValueError, match=f"`{name}={value!r}` is not possible: it must be {needed}"):
        Settings.of(**{name: value})


@pytest.mark.parametrize(
    ("name", "needed"),
    [("teacher", "the folder of a run"), ("start", "the folder of a run"), ("codec", "its name or its spec")],
)
def test_a_module_where_text_belongs_is_named_by_its_type_alone(data: DataSet, name: str, needed: str):
    with pytest.raises(ValueError) as caught:
        nk.train(data, **{name: torch.nn.Linear(2, 2)})
    assert f"`{name}`: a Linear was given, and it must be text. Give {needed}" in str(caught.value)
    assert "in_features" not in str(caught.value)


def test_a_watcher_that_cannot_be_called_is_refused_before_training(data: DataSet, tmp_path: Path):
    with pytest.raises(ValueError, match="`watch`: a value of the type int was given"):
        nk.train(data, out=tmp_path / "run", watch=5)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_kept_as_pythons(tmp_path: Path):
    settings = Settings(images=np.int64(64), lr=np.float32(0.5))  # type: ignore[arg-type]
    settings.write(tmp_path / "run.yaml")
    assert Settings.read(tmp_path / "run.yaml") == settings


def test_a_run_that_starts_over_with_an_existing_model_notes_it(data: DataSet, tmp_path: Path):
    run = train(SETTINGS, data, tmp_path)
    assert run.notes == run.warnings == []
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    assert "there is no checkpoint to resume from: training starts" in Run(SETTINGS, data, tmp_path).warnings[0]


def test_numbers_of_numpy_are_numbers():
    assert Settings(keep_checkpoints=np.int64(3), lr=np.float32(0.5), minutes=2).keep_checkpoints == 3


def test_a_run_shows_itself_in_a_notebook(data: DataSet, tmp_path: Path):
    run = Run(SETTINGS, data, tmp_path / "<run>")
    assert run._repr_html_() == "<b>&lt;run&gt;</b>: 0% of the budget, 0 images seen"
    next(run.steps())
    grid = run.draw_grid()
    line, _, image = run._repr_html_().partition("<br>")
    assert f"{SETTINGS.batch_size} images seen" in line
    assert base64.b64encode(grid.read_bytes()).decode() in image
