"""Fine-tuning: what is kept, what is learned, what is refused; and that it resumes bit for bit."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import noisekiln as nk
from conftest import TINY, Command, content_of, make_images, save_image
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.spec import describe
from noisekiln.data import DataSet, load
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints
from test_runs import contents, same, train

WAYS = {"all weights": {}, "adapter": {"lora": 2}}
both_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
pytestmark = pytest.mark.usefixtures("short_previews")


def green(folder: Path, *, size: int = 8, classes: tuple[str, ...] = ("",), captions: bool = False) -> Path:
    """24 green images."""
    generator = np.random.default_rng(3)
    rows = ["file_name,text"]
    for i in range(24):
        pixels = generator.integers(0, 60, (size, size, 3)).astype(np.uint8)
        pixels[..., 1] += 180
        name = f"{classes[i % len(classes)]}/{i}.png".lstrip("/")
        save_image(folder / name, pixels)
        rows.append(f"{name},a green picture")
    if captions:
        (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def greens(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(green(tmp_path_factory.mktemp("data") / "greens"))


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """One class of the pets in other upper and lower case, and a new class."""
    return load(green(tmp_path_factory.mktemp("data") / "birds", classes=("bird", "cat")))


def fine_tune_settings(start: Path, **more: object) -> Settings:
    return Settings(start=str(start), **({"images": 128, "batch_size": 16} | more))


def greenness(model: Diffusion, conditions: int | list[str] = 16) -> float:
    """Mean of green minus the mean of red and blue, in grey levels."""
    colours = model.sample(conditions, steps=8, guidance=1.0).double().mean((0, 1, 2))
    return float(colours[1] - (colours[0] + colours[2]) / 2)


# What is kept


@both_ways
def test_network_and_codec_are_kept(plain_run: Path, greens: DataSet, tmp_path: Path, way: dict[str, int]):
    before = contents(plain_run)
    run = train(fine_tune_settings(plain_run, **way), greens, tmp_path)
    start, model = nk.load(plain_run), nk.load(tmp_path)
    assert describe(model.codec, include_defaults=True) == describe(start.codec, include_defaults=True)
    assert model.size == start.size
    assert (tmp_path / "model" / "model.json").read_text() == (plain_run / "model" / "model.json").read_text()
    assert model.state_dict().keys() == start.state_dict().keys()
    assert contents(plain_run) == before
    text = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert (text["start"], text["lora"]) == (str(plain_run), way.get("lora"))
    assert text["backbone"] == "unet(widths=(32,), blocks=(1,), patch=1, attention=(), condition=32, early_exit=False)"
    assert resolve(run.settings, greens, run.opened.base) == run.settings


def test_the_first_step_begins_where_the_model_ended(plain_run: Path, greens: DataSet, tmp_path: Path):
    start = nk.load(plain_run)
    for number, way in enumerate(WAYS.values()):
        trained = Run(fine_tune_settings(plain_run, **way), greens, tmp_path / str(number)).learner.diffusion.eval()
        assert torch.equal(trained.sample(2, steps=3), start.sample(2, steps=3))


@pytest.mark.parametrize("guidance", [3, "classifier_free(scale=3.0, low=0.3)"])
def test_sampling_settings_are_kept_unless_others_are_set(pets: Path, tmp_path: Path, guidance: float | str):
    data = load(pets)
    odd = {"sampler": "ddim(eta=1)", "steps": 7, "schedule": "cosine", "guidance": guidance}
    first = Settings(images=32, batch_size=16, backbone=TINY, prediction="eps", noise_label="log_nsr", **odd)
    train(first, data, tmp_path / "base")
    kept = Run(fine_tune_settings(tmp_path / "base"), data, tmp_path / "next").settings
    assert {name: getattr(kept, name) for name in odd} == odd
    assert (kept.prediction, kept.noise_label) == ("eps", "log_nsr")
    settings = Run(fine_tune_settings(tmp_path / "base", steps=9, guidance=1.0), data, tmp_path / "next").settings
    assert (settings.steps, settings.guidance, settings.sampler) == (9, 1.0, "ddim(eta=1)")
    default = {"sampler": "dpmpp_2m", "steps": 20, "schedule": "karras"}
    settings = Run(fine_tune_settings(tmp_path / "base", **default), data, tmp_path / "next").settings
    assert {name: getattr(settings, name) for name in default} == default  # kept as set, although they are the defaults


def test_trained_weights_get_a_lower_rate(plain_run: Path, greens: DataSet):
    for optimizer in ("muon", "adamw", "adam"):
        fresh = resolve(Settings(optimizer=optimizer), greens).lr
        lower = resolve(fine_tune_settings(plain_run, optimizer=optimizer), greens, nk.load(plain_run)).lr
        assert fresh is not None
        assert lower is not None
        assert fresh / 10 <= lower <= fresh / 2
        adapter = resolve(fine_tune_settings(plain_run, optimizer=optimizer, lora=4), greens, nk.load(plain_run)).lr
        assert adapter is not None
        assert adapter > fresh  # adapters begin at zero and allow larger steps


# What is learned


@pytest.mark.slow
@both_ways
def test_samples_move_towards_the_new_images(plain_run: Path, greens: DataSet, tmp_path: Path, way: dict[str, int]):
    before = greenness(nk.load(plain_run))
    train(fine_tune_settings(plain_run, images=800, lr=0.01, **way), greens, tmp_path)
    after = greenness(nk.load(tmp_path))
    assert before < 0
    assert after > before + 60


def test_only_the_adapter_is_trained(plain_run: Path, greens: DataSet, tmp_path: Path):
    run = train(fine_tune_settings(plain_run, lora=2), greens, tmp_path)
    start = nk.load(plain_run).denoiser.backbone.state_dict()
    now = {
        name.replace("parametrizations.weight.original", "weight"): parameter
        for name, parameter in run.learner.diffusion.denoiser.backbone.named_parameters()
    }
    assert all(torch.equal(now[name], weight) for name, weight in start.items())
    trained = {name for name, parameter in run.learner.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.endswith((".weight.0.up", ".weight.0.down")) for name in trained)
    newest = checkpoints.load_newest(tmp_path / "checkpoints")
    assert newest is not None
    assert {name.removeprefix("module.") for name in newest.tensors if name.startswith("module.")} == trained
    averaged = {name.removeprefix("ema.") for name in newest.tensors if name.startswith("ema.")} - {"images_seen"}
    assert averaged == {f"{track}.{name}" for name in trained for track in (0, 1)}
    assert run.parameters < sum(weight.numel() for weight in start.values()) / 2


def test_the_adapter_alone_makes_the_run_s_model(class_run: Path, birds: DataSet, tmp_path: Path):
    train(fine_tune_settings(class_run, lora=2), birds, tmp_path)
    model, base = nk.load(tmp_path), nk.load(class_run)
    conditions = ["cat", "bird", "dog"]
    with pytest.raises(ValueError, match="There is no class called 'bird'"):
        base.sample(conditions, steps=2)
    assert torch.equal(nk.merge(base, tmp_path).sample(conditions, steps=2), model.sample(conditions, steps=2))
    assert not torch.equal(model.sample(conditions, steps=2), nk.load(class_run).sample(["cat"] * 3, steps=2))


# Conditions


@pytest.mark.slow
@both_ways
def test_new_classes_are_added_to_the_known(class_run: Path, birds: DataSet, tmp_path: Path, way: dict[str, int]):
    run = Run(fine_tune_settings(class_run, lr=0.01, images=800, **way), birds, tmp_path)
    assert run.learner.diffusion.conditioner is not None
    assert run.learner.diffusion.conditioner.choices == ("Cat", "dog", "bird")
    assert birds.class_names == ("bird", "cat")
    assert birds.train.labels is not None
    ids = run.trainer.batches(0, 16, torch.Generator())[1]
    assert ids is not None
    assert set(ids.tolist()) - {3} == {0, 2}  # 3 is none: some are dropped
    assert "new classes: bird" in run.notes
    before = nk.load(class_run).conditioner
    table, old = run.learner.diffusion.conditioner.vectors.weight, before.vectors.weight
    assert torch.equal(table[:2], old[:2])
    assert torch.equal(table[2:], old[[2, 2]])  # the new one begins as none
    train(run.settings, birds, tmp_path)
    model = nk.load(tmp_path)
    assert greenness(model, ["bird"] * 16) > greenness(nk.load(class_run)) + 60
    if way:  # an adapter leaves the rows of the known ones alone
        assert torch.equal(model.conditioner.vectors.weight[[0, 1, 3]], old)


def test_new_words_are_added_to_the_known(text_run: Path, tmp_path: Path):
    data = load(green(tmp_path / "greens", captions=True))
    run = Run(fine_tune_settings(text_run), data, tmp_path / "run")
    before, after = nk.load(text_run).conditioner, run.learner.diffusion.conditioner
    assert after.words == (*before.words, "green")
    assert after.unknown_words("a green picture") == []
    assert "new words: green" in run.notes
    ids = before.encode(["a red picture"])
    with torch.no_grad():
        assert torch.allclose(after(ids).vector, before(ids).vector, atol=1e-6)


def test_images_without_conditions_train_the_model_s_none(class_run: Path, greens: DataSet, tmp_path: Path):
    run = Run(fine_tune_settings(class_run), greens, tmp_path)
    assert run.settings.cond == "none"
    assert set(run.trainer.batches(0, 16, torch.Generator())[1].tolist()) == {2}
    assert "greens is trained as unconditional images" in run.notes
    train(run.settings, greens, tmp_path)
    assert nk.load(tmp_path).sample(["dog", None], steps=2).shape == (2, 8, 8, 3)


def test_a_model_without_conditions_ignores_classes(plain_run: Path, birds: DataSet, tmp_path: Path):
    run = Run(fine_tune_settings(plain_run), birds, tmp_path)
    assert run.settings.cond == "none"
    assert "its model is unconditional, so the classes of birds are not used" in run.notes


def test_another_size(plain_run: Path, tmp_path: Path):
    folder = green(tmp_path / "large", size=12)
    model = nk.train(folder, start=plain_run, out=tmp_path / "kept", images=32)
    assert model.size == (8, 8)
    model = nk.train(folder, start=plain_run, out=tmp_path / "other", images=32, size=12)
    assert model.sample(1, steps=2).shape == (1, 12, 12, 3)
    run = Run(Settings(start=str(plain_run), images=32), load(folder), tmp_path / "other")
    assert "it was trained on images of 8x8, and is fine-tuned on 12x12" in run.notes


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{}, {"lora": 2}, {"lora": 3, "optimizer": "adamw"}, {"lora": 2, "loss_weight": "uncertainty", "batch_size": 9}],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    class_run: Path, birds: DataSet, tmp_path: Path, change: dict[str, object]
):
    """Also if the initial model was deleted in between."""
    start = tmp_path / "start"
    shutil.copytree(class_run, start)
    settings = fine_tune_settings(start, **change)
    train(settings, birds, tmp_path / "one")
    train(settings, birds, tmp_path / "other", stop_after=5)
    shutil.rmtree(start)
    run = train(settings, birds, tmp_path / "other")
    assert run.opened.images_seen == 5 * run.settings.batch_size
    same(tmp_path / "one", tmp_path / "other")
    if "lora" in change:
        assert (tmp_path / "one" / "adapter.safetensors").read_bytes() == (
            tmp_path / "other" / "adapter.safetensors"
        ).read_bytes()


def test_a_start_that_trains_on_meanwhile_changes_nothing(plain_run: Path, greens: DataSet, tmp_path: Path):
    start = tmp_path / "start"
    shutil.copytree(plain_run, start)
    settings = fine_tune_settings(start, lora=2)
    train(settings, greens, tmp_path / "run", stop_after=3)
    model = nk.load(start)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model.save(start / "model")
    again = Run(settings, greens, tmp_path / "run")
    assert again.opened.base is not None
    assert torch.equal(again.opened.base.state_dict()["denoiser.backbone.embed_mix.bias"], load_file(
        plain_run / "model" / "model.safetensors")["denoiser.backbone.embed_mix.bias"])  # fmt: skip


def test_killed_before_the_first_checkpoint(plain_run: Path, greens: DataSet, tmp_path: Path):
    start = tmp_path / "start"
    shutil.copytree(plain_run, start)
    killed = Run(fine_tune_settings(start, images=352), greens, tmp_path / "run").steps()
    next(killed)
    del killed
    shutil.rmtree(start)
    assert train(fine_tune_settings(start, images=352), greens, tmp_path / "run").opened.images_seen == 0


# What is refused


def refused(settings: Settings, data: DataSet, folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run(settings, data, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "eps"}, r"`prediction` 'eps' was requested, but .* has 'v'\. .* Omit `prediction`"),
        ({"noise_label": "time"}, r"`noise_label` \'time\(.*\' was requested, but .* has 'angle"),
        (
            {"backbone": TINY.replace("32,", "64,")},
            r"`backbone` 'unet\(widths=\(64,\).*Omit `backbone`",
        ),
        ({"backbone": "simple_unet"}, "`backbone` 'simple_unet"),
        ({"model": "s"}, r"`model` 'unet\(widths=\(64, 96\).*Omit `model`, or train without `start`\."),
        ({"sampler": "hein"}, "There is no sampler called 'hein'. Did you mean 'heun'"),
        ({"schedule": "karas"}, "There is no schedule called 'karas'"),
        ({"lora": 33}, "`lora=33`: no matrix of this network has a rank above 32, so more has no effect. Give at"),
        ({"cond": "class"}, r"`cond=class`: .* was trained with `cond=none`.*Omit `cond`"),
    ],
)
def test_another_network_is_refused(
    plain_run: Path, greens: DataSet, tmp_path: Path, change: dict[str, str], message: str
):
    refused(fine_tune_settings(plain_run, **change), greens, tmp_path / "run", message)


def test_the_same_network_may_be_named(plain_run: Path, greens: DataSet, tmp_path: Path):
    Run(fine_tune_settings(plain_run, backbone=TINY, prediction="v", noise_label="angle"), greens, tmp_path / "run")


def test_grey_images_fine_tune_a_colour_model(plain_run: Path, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    grey = load(pixels)
    run = Run(fine_tune_settings(plain_run), grey, tmp_path)
    assert (run.data.channels, run.data.fingerprint) == (3, grey.fingerprint)
    assert np.array_equal(run.data.train.pixels, grey.train.pixels.repeat(3, -1))
    assert "The images are grey: trained on in colour, as the model is." in run.warnings
    assert math.isfinite(next(run.trainer.run()).loss)


def test_data_that_do_not_fit_are_refused(
    plain_run: Path, class_run: Path, greens: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refused(fine_tune_settings(class_run, cond="class"), greens, tmp_path / "run", "`cond=class` needs classes")
    monkeypatch.setattr(Pixels, "image_channels", 2)  # as a codec of one's own may have
    refused(fine_tune_settings(plain_run), greens, tmp_path / "run", r"has images of 3 channels, and .* trained on 2 ")


def test_no_start(greens: DataSet, tmp_path: Path):
    refused(fine_tune_settings(tmp_path / "gone"), greens, tmp_path / "run", r"There is no folder .*gone")
    with pytest.raises(ValueError, match=r"`lora=4`: an adapter is trained for an existing model, .*`start=RUN`"):
        Settings(lora=4)
    with pytest.raises(ValueError, match="`lora=0` is out of range"):
        Settings(start="runs/a", lora=0)
    with pytest.raises(ValueError, match=r"There is no folder .* can resume without it: give its folder as `out`\."):
        nk.train(np.zeros((20, 8, 8, 3), np.uint8), start=tmp_path / "gone")


def test_another_start_is_another_run(plain_run: Path, greens: DataSet, tmp_path: Path):
    train(fine_tune_settings(plain_run, lora=2), greens, tmp_path / "run", stop_after=2)
    before = contents(tmp_path / "run")
    other = Diffusion.load(plain_run)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save(tmp_path / "other" / "model")
    for settings, text in (
        (fine_tune_settings(tmp_path / "other", lora=2), "`start=.*` "),
        (fine_tune_settings(plain_run, lora=4), r"`lora=2` \(now 4\)"),
        (fine_tune_settings(plain_run), r"`lora=2` \(now None\)"),
        (Settings(images=256, batch_size=16), r"`start=.*` \(now None\)"),
    ):
        with pytest.raises(ValueError, match=rf"holds a run with other settings: .*{text}"):
            Run(settings, greens, tmp_path / "run")
    assert contents(tmp_path / "run") == before
    respelled = Settings(start=f"{plain_run}/", lora=2, images=256, batch_size=16)
    assert Run(respelled, greens, tmp_path / "run").opened.images_seen == 32


OWN = """
import torch
from pathlib import Path
from torch import nn
from noisekiln.backbones.base import Backbone

Path("it-ran").touch()


class Own(Backbone):
    def __init__(self, channels: int, vector: int = 0) -> None:
        super().__init__()
        self.channels, self.vector = channels, vector
        self.only = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, noise, cond):
        return self.only(x)
"""


QUIET = OWN.replace('Path("it-ran").touch()', "")


@pytest.fixture
def own_base(greens: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose network is in own.py; if the file runs again, it leaves `it-ran` in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(QUIET)
    train(Settings(images=32, batch_size=16, backbone="own.py:Own"), greens, Path("base"))
    Path("own.py").write_text(OWN)
    return Path("base")


def test_code_of_a_start_s_author_is_run_only_if_named(greens: DataSet, own_base: Path):
    refused(fine_tune_settings(own_base), greens, Path("run"), r"base runs the Python code .*`backbone=FILE\.py:Class")
    assert not Path("it-ran").exists()
    run = train(fine_tune_settings(own_base, backbone="own.py:Own", lora=1), greens, Path("run"))
    assert run.parameters == 3 + 27
    with pytest.raises(ValueError, match="Python code"):
        train(fine_tune_settings(own_base, images=256, lora=1), greens, Path("run"))
    longer = fine_tune_settings(own_base, backbone="own.py:Own", images=256, lora=1)
    assert train(longer, greens, Path("run")).opened.images_seen == 128


def test_a_file_of_ones_own_does_not_allow_another_one(greens: DataSet, own_base: Path):
    Path("mine.py").write_text(QUIET)
    for more in ({"backbone": "mine.py:Own"}, {"codec": "mine.py:Own"}, {"cond": "mine.py:Own"}):
        refused(fine_tune_settings(own_base, **more), greens, Path("run"), r"base runs the Python code of \S*own\.py")
    teacher = Settings(teacher=str(own_base), backbone="mine.py:Own", images=32, batch_size=16)
    refused(teacher, greens, Path("run"), r"base runs the Python code of \S*own\.py")
    assert not Path("it-ran").exists()
    Run(fine_tune_settings(own_base), greens, Path("run"), allow_code=True)
    assert Path("it-ran").exists()


def test_code_that_the_files_of_a_run_name_is_run_only_if_allowed(plain_run: Path, own_base: Path):
    greens = load(green(Path("greens")))
    plain = Settings(images=32, batch_size=16, backbone=TINY, curves="none")
    with pytest.raises(ValueError, match=r"run\.yaml runs the Python code of \S*own\.py"):  # which the run keeps
        nk.train("greens", out=own_base, images=32, batch_size=16)
    train(plain, greens, Path("run"))
    shutil.copytree("run", "other")
    Path("run/codec").mkdir()
    Path("run/codec/codec.json").write_text(json.dumps({"codec": "own.py:Own"}))
    with pytest.raises(ValueError, match=r"codec runs the Python code of \S*own\.py"):
        Run(plain, greens, Path("run"))
    description = json.loads(Path("other/model/model.json").read_text())
    Path("other/model/model.json").write_text(json.dumps(description | {"backbone": "own.py:Own(channels=3)"}))
    with pytest.raises(ValueError, match=r"other runs the Python code of \S*own\.py"):  # the run is finished
        nk.train("greens", out="other", watch=lambda event: None, images=32, batch_size=16, backbone=TINY)
    shutil.copytree(plain_run, "ema")
    known = yaml.safe_load(Path("ema/run.yaml").read_text())
    Path("ema/run.yaml").write_text(yaml.safe_dump(known | {"task": "own.py:Own"}))
    with pytest.raises(ValueError, match=r"run\.yaml runs the Python code of \S*own\.py"):
        PostHocEma(Path("ema"))
    assert not Path("it-ran").exists()


@pytest.mark.slow
def test_code_can_be_allowed_wherever_a_model_is_loaded(cli: Command, own_base: Path):
    green(Path("greens"))
    settings = {"images": 64, "batch_size": 16, "start": own_base, "out": "run", "watch": lambda event: None}
    for allowed in (False, True):
        calls = (
            lambda: list(nk.generate(own_base, 1, steps=1, allow_code=allowed)),  # noqa: B023
            lambda: nk.fine_tune_on(own_base, "greens", minutes=1e-4, allow_code=allowed),  # noqa: B023
            lambda: nk.train("greens", allow_code=allowed, **settings),  # noqa: B023
        )
        for call in calls:
            if allowed:
                call()
            else:
                with pytest.raises(ValueError, match="Python code"):
                    call()
    words = ("train", "greens", "--from", own_base, "--images", 64, "--batch", 16, "--dry-run")
    assert "Python code" in cli(*words).flat
    assert cli(*words, "--allow-code").code == 0


def test_a_run_is_found_again_from_another_working_directory(
    greens: DataSet, own_base: Path, tmp_path: Path, monkeypatch
):
    settings = Settings(images=64, batch_size=16, start="base", teacher="base", lora=1)
    before = settings.with_absolute_paths()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = settings.replace(start="../base/", teacher=str(tmp_path / "base")).with_absolute_paths()
    assert again == before
    options = {"backbone": f"{tmp_path / 'own.py'}:Own", "lora": 1, "images": 64}
    train(fine_tune_settings(Path("../base"), **options), greens, tmp_path / "run", stop_after=1)
    monkeypatch.chdir(tmp_path)
    assert Run(fine_tune_settings(Path("base"), **options), greens, tmp_path / "run").settings.start == before.start


def test_a_moved_project_resumes_with_the_same_command(
    cli: Command, plain_run: Path, text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its run.yaml names the start and the teacher where they were; the run's copies show that they are the same."""
    for project in ("here", "there"):
        (tmp_path / project).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    green(Path("greens"))
    for run in (plain_run, text_run):
        shutil.copytree(run, f"runs/{run.name}")
    distilling = f"{Path(__file__).parent / 'toys' / 'distilling_objective.py'}:Distilling"
    words = ("train", "greens", "--out", "runs/own", "--objective", distilling, "--batch-size", 16)
    models = ("--from", "runs/plain", "--teacher", "runs/plain")
    assert cli(*words, *models, "--images", 32).code == 0
    shutil.move("runs", tmp_path / "there" / "runs")
    shutil.move("greens", tmp_path / "there" / "greens")
    monkeypatch.chdir(tmp_path / "there")
    result = cli(*words, *models, "--images", 64)
    assert result.code == 0, result
    assert "resuming after 32 images" in result.out
    assert yaml.safe_load(Path("runs/own/run.yaml").read_text())["start"] == str(tmp_path / "there/runs/plain")
    result = cli(*words, *models, "--from", "runs/captioned", "--images", 96)
    assert result.code == 2
    assert "holds a run with other settings: --from" in result.flat
    result = cli(*words, "--from", "runs/plain", "--teacher", "runs/captioned", "--images", 96)
    assert "holds a run with other settings: --teacher" in result.flat


def test_opening_a_run_leaves_the_random_state(plain_run: Path, greens: DataSet, tmp_path: Path):
    before = torch.get_rng_state()
    RunFolder(tmp_path / "run").look(fine_tune_settings(plain_run), greens)
    assert torch.equal(torch.get_rng_state(), before)


# The command line


@pytest.mark.slow
def test_from_the_command_line(cli: Command, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(plain_run, "runs/base")
    green(Path("greens"))
    result = cli("train", "greens", "--from", "runs/base", "--images", 64, "--batch-size", 16)
    assert result.code == 0, result
    assert "continues from runs/base: its network, codec and conditions are kept" in result.out
    assert Path("runs/greens-from-base/model/model.json").is_file()
    words = (
        "train",
        "greens",
        "--from",
        "runs/base",
        "--lora",
        2,
        "--lr",
        0.05,
        "--batch-size",
        16,
        "--out",
        "runs/style",
    )
    assert cli(*words, "--images", 64).code == 0
    longer = cli(*words, "--images", 128)
    assert "an adapter of rank 2 with 0.0" in longer.out
    assert "resuming after 64 images, 50% of the budget" in longer.out

    def sampled(*adapters: str) -> bytes:
        more = [word for adapter in adapters for word in ("--adapter", adapter)]
        result = cli("sample", "runs/base", "-n", 2, "--steps", 2, "--out", "pictures", *more)
        assert result.code == 0, result
        return content_of(Path("pictures/grid.png"))

    plain = sampled()
    assert sampled("runs/style:0") == plain
    full = sampled("runs/style")
    assert len({plain, full, sampled("runs/style:0.5")}) == 3
    assert sampled("runs/style/adapter.safetensors", "runs/style:-1") == plain
    result = cli("sample", "runs/greens-from-base", "-n", 2, "--adapter", "runs/style")
    assert result.code == 2
    assert (
        "The adapter was trained for another model (runs/base at that time) and cannot be merged into this one."
        in result.err
    )
    assert "There is no adapter 'runs/base/adapter" in cli("sample", "runs/base", "--adapter", "runs/base").err
    result = cli("train", "greens", "--from", "runs/bse", "--images", 64)
    assert result.code == 2
    assert "There is no folder 'runs/bse'" in result.err


def test_in_python(plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = make_images(tmp_path / "more", classes=("a", "b"))
    nk.train(folder, start=plain_run, lora=4, images=48)
    (made,) = Path("runs").iterdir()
    assert made.name == f"more-from-{plain_run.name}"
    text = json.loads((made / "dataset.json").read_text())
    assert text["class_names"] == ["a", "b"]
    model = nk.unmerge(nk.merge(nk.load(plain_run), made, strength=0.7), made, strength=0.7)
    assert torch.allclose(
        model.sample(2, steps=2).float(), nk.load(plain_run).sample(2, steps=2).float(), atol=1
    )  # one grey step
