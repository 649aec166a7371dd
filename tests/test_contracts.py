"""One file and no edits: components of six kinds, written outside of the package, through everything that uses them."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln as nk
from conftest import TINY, save_image
from noisekiln.codecs.base import Codec
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.registry import find
from noisekiln.data import load
from noisekiln.data.mirrored import images_at
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Estimate
from noisekiln.levels import level
from noisekiln.model.cascade import SEED_STEP
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches, condition_choices
from noisekiln.runs.run import Run
from noisekiln.runs.save_job import SaveJob
from noisekiln.session.prompts import RequestedConditions
from noisekiln.tasks.inpaint import Inpaint

TOYS = Path(__file__).parent / "toys"
HALVING = f"{TOYS / 'halving_codec.py'}:Halving"
THIRDS = f"{TOYS / 'thirds_codec.py'}:Thirds"
POSITION = f"{TOYS / 'position_conditioner.py'}:Position"
DISTILLING = f"{TOYS / 'distilling_objective.py'}:Distilling"
TOKENS = f"{TOYS / 'token_backbone.py'}:TokenNet"
SIGN = f"{TOYS / 'sign_optimizer.py'}:Sign"
CSV = f"{TOYS / 'csv_log.py'}:CsvLog"
SMALL = {"images": 64, "batch_size": 16, "backbone": TINY, "curves": "none"}
FLAGS = ("--images", 64, "--batch", 16, "--backbone", TINY, "--curves", "none")
pytestmark = pytest.mark.usefixtures("short_previews")


def pixels(run: Path, seed: int = 3, count: int = 2, **options: object) -> torch.Tensor:
    return nk.load(run, allow_code=True).sample(count, seed=seed, steps=3, **options)


# --- a codec that halves the resolution


@pytest.fixture(scope="module")
def halved(pets, tmp_path_factory, cli):
    """A run whose network sees x of half the resolution: 4x4 with 12 channels, for images of 8x8."""
    out = tmp_path_factory.mktemp("runs") / "halved"
    result = cli("train", pets, "--out", out, *FLAGS, "--codec", HALVING)
    assert result.code == 0, result
    return out


def test_a_codec_trains_and_samples_images_of_their_own_size(halved, cli, tmp_path):
    model = nk.load(halved, allow_code=True)
    assert model.size == (8, 8)
    assert model.denoiser.backbone.channels == 12
    result = cli("sample", halved, "--class", "cat", "-n", 3, "--steps", 3, "--out", tmp_path, "--allow-code")
    assert result.code == 0, result
    assert Image.open(tmp_path / "00002.png").size == (8, 8)
    assert len(list((halved / "samples").glob("*.png"))) >= 1
    refused = cli("sample", halved, "-n", 1)
    assert refused.code == 2
    assert "Python code" in refused.flat


def test_a_codec_resumes_to_the_bit(halved, pets, tmp_path):
    out = tmp_path / "again"
    stopped = {"images": 64, "codec": HALVING, "out": out, **{k: v for k, v in SMALL.items() if k != "images"}}
    with pytest.raises(KeyboardInterrupt):
        nk.train(str(pets), watch=stop_after(32), **stopped)
    nk.train(str(pets), **stopped)
    assert torch.equal(pixels(out), pixels(halved))


LEARNED = """
import os
from halving_codec import Halving as Plain
from torch import nn
import torch


class Learned(Plain):
    def __init__(self, channels: int = 3, mean: float = 0.5, std: float = 0.25, costly: bool = False) -> None:
        super().__init__(channels, mean, std, costly)
        self.offset = nn.Parameter(torch.zeros(1))

    def fit(self, pixels):
        made = super().fit(pixels)
        made.offset.data.fill_(os.urandom(1)[0] / 1000)  # never the same twice
        return made

    def encode(self, pixels):
        return super().encode(pixels) + self.offset

    def to_image(self, x):
        return super().to_image(x - self.offset)
"""


def test_a_codec_with_weights_is_made_once_for_a_run(pets, tmp_path, monkeypatch):
    """What fitting it again would make differently is kept in the run's folder; it is not trained."""
    monkeypatch.syspath_prepend(str(TOYS))
    file = tmp_path / "learned.py"
    file.write_text(LEARNED, encoding="utf-8")
    out = tmp_path / "run"
    options = {**SMALL, "codec": f"{file}:Learned", "out": out}
    with pytest.raises(KeyboardInterrupt):
        nk.train(str(pets), watch=stop_after(32), **options)
    first = nk.load(out, allow_code=True).codec.offset
    assert (out / "codec" / "codec.safetensors").is_file()
    resumed = nk.train(str(pets), **options)
    assert torch.equal(resumed.codec.offset, first)
    assert resumed.sample(1, steps=2).shape == (1, 8, 8, 3)


STRICT = """
from halving_codec import Halving
from torch.nn.functional import pixel_unshuffle


class Even(Halving):
    def encode(self, pixels):
        return pixel_unshuffle(pixels.permute(0, 3, 1, 2) / 255 - 0.5, 2)


class Lying(Halving):
    def x_size(self, size):
        return size
"""


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("Even", 7, r"7x7 pixels cannot be encoded by Even: .*multiple of 2, such as 8x8\."),
        ("Lying", 8, r"Lying makes x of the shape \(12, 4, 4\) from images of 8x8 .*\(12, 8, 8\)\. Correct"),
    ],
)
def test_a_codec_that_does_not_fit_is_refused_before_the_folder_is_made(
    pets, tmp_path, monkeypatch, name, size, message
):
    monkeypatch.syspath_prepend(str(TOYS))
    (tmp_path / "strict.py").write_text(STRICT, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        nk.train(str(pets), **SMALL, size=size, codec=f"{tmp_path / 'strict.py'}:{name}", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_codec_stays_frozen_and_in_evaluation_mode_in_training(pets):
    """A student's codec comes from its teacher, whose weights could be trained."""
    data = load(str(pets))
    settings = resolve(Settings(codec=THIRDS, **SMALL), data)
    codec = find(Codec, THIRDS)(3).requires_grad_(True)
    learner = make_learner(settings, data, codec=codec).train()
    assert learner.training
    assert not learner.diffusion.codec.training
    assert not any(weight.requires_grad for weight in learner.diffusion.codec.parameters())
    assert not TrainingBatches(learner, data, settings)(0, 4, torch.Generator().manual_seed(0))[0].requires_grad


@pytest.mark.parametrize("objective", ["denoising", DISTILLING])
def test_copies_and_saves_share_what_never_changes(pets, tmp_path, objective):
    data = load(str(pets))
    first = nk.train(str(pets), codec=THIRDS, out=tmp_path / "teacher", **SMALL)
    teacher = None if objective == "denoising" else str(tmp_path / "teacher")
    run = Run(
        Settings(objective=objective, teacher=teacher, codec=THIRDS, **SMALL), data, tmp_path / "run", allow_code=True
    )
    codec = run.learner.diffusion.codec
    for sharded in (False, True):
        run.copies.sharded = sharded
        copied = run.copies.trainable()
        assert copied.diffusion.codec is codec
        assert copied.teacher is run.learner.teacher
        assert copied.diffusion.denoiser is not run.learner.diffusion.denoiser
    run.copies.sharded = False
    assert SaveJob(run.trainer, run.copies, run.settings, None).model.codec is codec
    assert torch.equal(first.codec.mean, codec.mean)


def stop_after(images: int):
    """A watcher that presses Ctrl-C."""
    import signal

    def watch(event: object) -> None:
        if getattr(getattr(event, "report", None), "images_seen", 0) == images:
            signal.raise_signal(signal.SIGINT)

    return watch


def test_a_costly_codec_encodes_every_image_once(pets, tmp_path, halved):
    codec = f"{HALVING}(costly=True)"
    data = load(str(pets))
    settings = resolve(Settings(codec=codec, **SMALL), data)
    learner = make_learner(settings, data)
    encode, counts = learner.diffusion.codec.encode, []

    def counting(pixels):
        counts.append(len(pixels))
        if len(pixels) > 16:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
        return encode(pixels)

    learner.diffusion.codec.encode = counting
    batches = TrainingBatches(learner, data, settings)
    assert not counts, "nothing is encoded before the first batch"
    x = batches(5, 7, torch.Generator().manual_seed(0))[0]
    batches(12, 7, torch.Generator().manual_seed(0))
    fits = [count for count in counts if count <= 16]
    assert len(fits) < len(counts), "fewer images at once, if memory runs out"
    assert sum(fits) == len(data.train)
    del learner.diffusion.codec.encode
    assert batches.encoded.dtype == torch.float16
    assert batches.encoded.shape == (len(data.train), 12, 4, 4)
    fresh = learner.diffusion.codec.encode(torch.from_numpy(data.train.pixels[batches.places(5, 7)]))
    torch.testing.assert_close(x, fresh, atol=2e-3, rtol=2e-3)
    nk.train(str(pets), codec=codec, out=tmp_path / "run", **SMALL)
    assert pixels(tmp_path / "run").shape == (2, 8, 8, 3)


@pytest.mark.parametrize("codec", ["pixels", f"{HALVING}(costly=True)"])
def test_half_of_the_rows_are_mirror_images(codec, pets):
    """Those of latents are encoded from mirror images: channels of the left and the right pixel change places."""
    data = load(str(pets))
    settings = resolve(Settings(codec=codec, flip=True, **SMALL), data)
    learner = make_learner(settings, data)
    batches = TrainingBatches(learner, data, settings)
    x = batches(8, 64, torch.Generator().manual_seed(0))[0]
    places, encode = batches.places(8, 64), learner.diffusion.codec.encode
    plain, flipped = (
        encode(torch.from_numpy(images_at(data.train.pixels, numbers)))
        for numbers in (places, places + len(data.train))
    )
    as_it_is, mirrored = ((x - each).abs().amax((1, 2, 3)) < 1e-2 for each in (plain, flipped))
    assert (as_it_is | mirrored).all()
    assert 16 < mirrored.sum() < 48
    assert torch.equal(x, batches(8, 64, torch.Generator().manual_seed(0))[0])
    if codec != "pixels":
        assert batches.encoded.shape == (2 * len(data.train), 12, 4, 4)
        assert batches.encoded.dtype == torch.float16
        assert (flipped - plain.flip(-1)).abs().max() > 0.1
    unflipped = settings.replace(flip=False)
    x = TrainingBatches(make_learner(unflipped, data), data, unflipped)(8, 64, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(x, plain, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("size", [(8, 8), (12, 11)])
def test_every_use_works_behind_a_codec(halved, size):
    model = nk.load(halved, allow_code=True)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    missing = np.zeros(size, np.float32)
    missing[2:5, 1:6] = 1
    options = {"steps": 3, "count": 2}
    done = nk.inpaint(model, image, missing, condition="cat", **options)
    assert done.shape == (2, *size, 3)
    assert torch.equal(done[0][torch.from_numpy(missing) == 0], torch.from_numpy(image)[torch.from_numpy(missing) == 0])
    assert nk.edit(model, image, strength=0.5, **options).shape == (2, *size, 3)
    assert nk.variations(model, image, strength=0.5, **options).shape == (2, *size, 3)
    assert nk.style(model, image, condition="dog", source_condition="cat", steps=3).shape == (1, *size, 3)
    assert nk.restore(model, image, "blur(sigma=1)", **options).shape == (2, *size, 3)
    assert nk.outpaint(model, image, left=3, **options).shape == (2, size[0], size[1] + 3, 3)
    assert nk.upscale(model, image, factor=2, **options).shape == (2, 2 * size[0], 2 * size[1], 3)
    assert nk.interpolate(model, [1, 2], frames=2, steps=3).shape == (3, 8, 8, 3)


def test_style_between_models_of_different_x_is_refused(halved, class_run):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"x of the shape \(12, 4, 4\) and that of the first \(3, 8, 8\)"):
        nk.style(nk.load(class_run), image, target_model=nk.load(halved, allow_code=True), condition="dog", steps=3)


def test_inverse_methods_behind_a_codec_agree_with_the_observation(halved):
    """The operator sees images, through the decoder: known means are met by what comes out."""
    model = nk.load(halved, allow_code=True)
    small = np.random.default_rng(1).integers(60, 190, (4, 4, 3)).astype(np.uint8)
    large = nk.upscale(model, small, factor=2, count=2, steps=8).float()
    means = torch.nn.functional.avg_pool2d(large.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert float((means - torch.from_numpy(small).float()).abs().mean()) < 12


def test_fine_tuning_refuses_another_setting_of_the_codec(pets, halved, tmp_path):
    options = {**SMALL, "start": str(halved), "images": 16, "allow_code": True}
    del options["backbone"]
    with pytest.raises(ValueError, match=r"`codec` .*Halving.mean=0.25.* was requested.* has .*Halving"):
        nk.train(str(pets), out=tmp_path / "run", codec=f"{HALVING}(mean=0.25)", **options)
    nk.train(str(pets), out=tmp_path / "run", codec=f"{HALVING}(costly=False)", **options)


@pytest.mark.parametrize("codec", [HALVING, THIRDS])
@pytest.mark.parametrize("task", ["inpaint", "upscale(factor=2)"])
def test_tasks_train_behind_a_codec(pets, tmp_path, task, codec):
    model = nk.train(str(pets), codec=codec, task=task, out=tmp_path / "run", **SMALL)
    image = np.full((8, 8, 3), 120, np.uint8)
    if task == "inpaint":
        missing = np.zeros((8, 8), np.float32)
        missing[:4] = 1
        done = nk.inpaint(model, image, missing, steps=3, count=1)
        assert torch.equal(done[0, 4:], torch.from_numpy(image)[4:])
    else:
        assert nk.upscale(model, image, factor=2, steps=3, count=1).shape == (1, 16, 16, 3)


@pytest.mark.parametrize(("codec", "factor"), [(HALVING, 2), (THIRDS, 3)])
def test_a_position_of_x_is_known_where_all_its_pixels_are(codec, factor):
    """So the known part of x is that of the image, and holes are generated alone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 11, 8, 3), generator=generator, dtype=torch.uint8)
    fitted = find(Codec, codec)().fit(images)
    known = torch.rand(3, 11, 8, 1, generator=generator) > 0.1
    source = torch.cat([images, 255 * known.to(torch.uint8)], dim=-1)
    condition = Inpaint().condition_image(source, fitted, (11, 8), torch.zeros_like)
    height, width = fitted.x_size((11, 8))
    expected = torch.tensor([
        [[known[i, factor * y : factor * (y + 1), factor * x : factor * (x + 1)].all() for x in range(width)]
         for y in range(height)] for i in range(3)
    ]).unsqueeze(1)  # fmt: skip
    assert 0 < int(expected.sum()) < expected.numel()
    assert torch.equal(condition[:, -1:].bool(), expected)
    x = fitted.encode(images)
    torch.testing.assert_close(condition[:, :-1], x * expected)
    estimate = Inpaint().clamp_known(lambda x_t, t, to=None: Estimate.of_x(x_t, x + 9, t), condition)
    clamped = estimate(x, level(0.6, 0.8)).x
    torch.testing.assert_close(clamped, torch.where(expected, x, x + 9))


def test_a_cascade_of_codecs(halved, tmp_path):
    generator = np.random.default_rng(0)
    large = tmp_path / "large"
    for i in range(24):
        save_image(large / ("Cat", "dog")[i % 2] / f"{i}.png", generator.integers(0, 256, (16, 16, 3)).astype(np.uint8))
    upscaler = nk.train(str(large), codec=HALVING, task="upscale(factor=2)", out=tmp_path / "up", **SMALL)
    joined = nk.cascade([halved, upscaler], allow_code=True)
    images = joined.sample(["cat", "dog"], seed=0, steps=3)
    small = nk.load(halved, allow_code=True).sample(["cat", "dog"], seed=0, steps=3)
    options = {"seeds": [(seed + SEED_STEP) % 2**63 for seed in (0, 1)], "steps": 3, "source": small}
    assert torch.equal(images, upscaler.sample(["Cat", "dog"], **options))
    assert not torch.equal(images, upscaler.sample(["Cat", "dog"], **options | {"source": 255 - small}))


# --- a conditioner of two numeric columns


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Dark images with a bright pixel, whose position a metadata.csv gives; one has none."""
    folder = tmp_path_factory.mktemp("data") / "places"
    rows = ["file_name,left,top"]
    for i in range(24):
        image = np.full((8, 8, 3), 30, np.uint8)
        left, top = i % 8, i // 3
        image[top, left] = 255
        save_image(folder / f"{i}.png", image)
        rows.append(f"{i}.png,{left / 8},{top / 8}" if i else f"{i}.png,,")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_conditioner_of_numbers(places, tmp_path, cli):
    out = tmp_path / "run"
    train = ("train", places, "--out", out, *FLAGS, "--cond", POSITION, "--images", 480, "--lr", 0.01)
    result = cli(*train)
    assert result.code == 0, result
    model = nk.load(out, allow_code=True)
    one, other = model.sample([(0.1, 0.9), None], seeds=[5, 5], steps=3, guidance=2.0)
    assert not torch.equal(one, other)
    words = ("--condition", "0.5,0.25", "-n", 2, "--steps", 3, "--allow-code", "--out", tmp_path / "samples")
    result = cli("sample", out, *words)
    assert result.code == 0, result
    listed = json.loads((tmp_path / "samples" / "samples.json").read_text(encoding="utf-8"))
    assert listed[0]["left"] == 0.5
    assert listed[0]["top"] == 0.25
    wrong = cli("sample", out, "--condition", "here", "--allow-code")
    assert wrong.code == 2
    assert "is not a position" in wrong.flat
    for flag in ("--class", "--prompt"):
        wrong = cli("sample", out, flag, "x", "--allow-code")
        assert wrong.code == 2
        assert "--condition" in wrong.flat
    assert cli(*train, "--images", 512).code == 0  # and it resumes


def test_data_that_have_nothing_for_a_conditioner_are_refused(plain, tmp_path, cli):
    result = cli("train", plain, "--out", tmp_path / "run", *FLAGS, "--cond", POSITION)
    assert result.code == 2
    assert "needs the numeric columns left and top" in result.flat
    assert not (tmp_path / "run").exists()


PATTERN = """
from noisekiln.conditions import CondSizes
from position_conditioner import Position


class Pattern(Position):
    @property
    def sizes(self):
        return CondSizes(vector=self.width, image=1)

    def forward(self, ids):
        return super().forward(ids)._replace(image=ids.nan_to_num()[:, :1, None, None].expand(-1, 1, 8, 8))
"""


def test_a_conditioner_may_fill_the_condition_image_unless_a_task_does(places, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))
    file = tmp_path / "pattern.py"
    file.write_text(PATTERN, encoding="utf-8")
    options = {**SMALL, "cond": f"{file}:Pattern", "out": tmp_path / "run"}
    model = nk.train(str(places), **options)
    assert model.denoiser.backbone.image == 1
    one, other = model.sample([(0.1, 0.9), (0.9, 0.9)], seeds=[5, 5], steps=3)
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match=r"fills Cond\.image, and so does `task=inpaint`"):
        nk.train(str(places), **options | {"task": "inpaint", "out": tmp_path / "other"})


# --- an objective with a teacher


def test_an_objective_with_a_teacher(pets, class_run, tmp_path, cli):
    out, source = tmp_path / "student", tmp_path / "source"
    shutil.copytree(class_run, source)
    words = ("--objective", DISTILLING, "--teacher", source)
    train = ("train", pets, "--out", out, *FLAGS, *words)
    assert cli(*train).code == 0
    assert (out / "teacher" / "model.json").is_file(), "a run keeps its teacher, so that it can always go on"
    teacher, student = nk.load(class_run), nk.load(out)
    assert {name for name, _ in student.named_parameters()} == {name for name, _ in teacher.named_parameters()}
    before = nk.load(out).denoiser.state_dict()
    shutil.rmtree(source)
    assert cli(*train, "--images", 96).code == 0
    assert any(not torch.equal(before[name], value) for name, value in nk.load(out).denoiser.state_dict().items())


def test_a_setting_that_the_objective_does_not_take_is_refused(pets, class_run, tmp_path, cli):
    words = ("train", pets, "--out", tmp_path / "run", *FLAGS, "--objective", DISTILLING, "--teacher", class_run)
    result = cli(*words, "--loss-weight", "min_snr")
    assert result.code == 2
    assert "--loss-weight min_snr was requested" in result.flat
    assert "takes no loss weight" in result.flat
    assert not (tmp_path / "run").exists()


def test_a_student_comes_near_its_teacher(pets, class_run):
    data = load(str(pets))
    teacher = nk.load(class_run)
    chosen = Settings(
        objective=DISTILLING, teacher=str(class_run), images=960, batch_size=16, backbone=TINY, lr=0.01, curves="none"
    )
    trainer = make_trainer(resolve(chosen, data), data, teacher=teacher)
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    losses = [report.loss for report in trainer.run()]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert all(torch.equal(value, frozen[name]) for name, value in teacher.state_dict().items())
    saved, _ = trainer.state_dict()
    assert not [name for name in saved if "teacher" in name], "a checkpoint holds what is trained, not its teacher"


def test_a_teacher_reads_conditions_by_its_own_conditioner(pets, class_run):
    """The student's conditioner begins elsewhere; the teacher is bound to the same classes, by its own vectors."""
    data = load(str(pets))
    teacher = nk.load(class_run)
    chosen = Settings(objective=DISTILLING, teacher=str(class_run), seed=5, cond_dropout=0.5, backbone=TINY)
    settings = resolve(chosen, data)
    learner = make_learner(settings, data, teacher=teacher).eval()
    rows = TrainingBatches(learner, data, settings)(0, 16, torch.Generator().manual_seed(0))
    ids, teacher_ids = rows[1:3]
    assert torch.equal(ids, teacher_ids)
    assert 0 < int((ids == 2).sum()) < 16  # the same ones are dropped for both
    seen = []
    learner.objective.loss = lambda denoiser, x, cond, drawn, teacher: seen.append((cond, teacher))
    learner(*rows)
    ((cond, bound),) = seen
    assert not torch.allclose(cond.vector, bound.denoise.cond.vector)
    assert torch.equal(bound.denoise.cond.vector, teacher.conditioner(teacher_ids).vector)
    learner.train()
    assert not learner.teacher.training


def test_a_teacher_is_required_or_refused(pets, class_run, tmp_path, cli):
    result = cli("train", pets, "--out", tmp_path / "run", *FLAGS, "--objective", DISTILLING)
    assert result.code == 2
    assert "--teacher" in result.flat
    result = cli("train", pets, "--out", tmp_path / "run", *FLAGS, "--teacher", class_run)
    assert result.code == 2
    assert "does not use a teacher" in result.flat


def test_a_student_has_the_codec_of_its_teacher(pets, class_run, halved, tmp_path):
    options = {**SMALL, "objective": DISTILLING, "teacher": str(halved), "allow_code": True}
    student = nk.train(str(pets), out=tmp_path / "student", **options)
    assert student.codec.x_channels == 12
    assert Settings.read(tmp_path / "student" / "run.yaml").codec.endswith(":Halving"), "and run.yaml says so"
    nk.train(str(pets), out=tmp_path / "student", **options | {"images": 80})
    with pytest.raises(ValueError, match=r"`codec=pixels` was requested, but .* has .*Halving"):
        nk.train(str(pets), out=tmp_path / "other", codec="pixels", **options)
    with pytest.raises(ValueError, match=r"Halving.*channels=3"):
        nk.train(str(pets), out=tmp_path / "other", codec=f"{HALVING}(mean=0.25)", **options)
    assert not (tmp_path / "other").exists()


def test_a_teacher_that_does_not_fit_is_refused(pets, captioned, class_run, plain_run):
    data = load(str(pets))
    chosen = {"objective": DISTILLING, "teacher": "RUN", "backbone": TINY}
    settings = resolve(Settings(**chosen), data)
    with pytest.raises(ValueError, match="has `cond=none`, and the model to train has `cond=class_label`"):
        make_learner(settings, data, teacher=nk.load(plain_run))
    with pytest.raises(ValueError, match="has the task generate, and `task=inpaint"):
        make_learner(resolve(Settings(**chosen, task="inpaint"), data), data, teacher=nk.load(class_run))
    codec = Pixels().fit(torch.from_numpy(data.train.pixels // 2))
    with pytest.raises(ValueError, match=r"has the codec pixels.*their x differ"):
        make_learner(settings, data, teacher=nk.load(class_run), codec=codec)
    make_learner(resolve(Settings(**chosen, cond="none"), data), data, teacher=nk.load(class_run))


def test_a_teacher_whose_codec_has_other_weights_is_refused(pets):
    data = load(str(pets))
    settings = resolve(Settings(objective=DISTILLING, teacher="RUN", codec=THIRDS, **SMALL), data)
    teacher = make_learner(settings.replace(objective="denoising", teacher=None), data).diffusion
    codec = copy.deepcopy(teacher.codec)
    make_learner(settings, data, teacher=teacher, codec=codec)
    with torch.no_grad():
        codec.mean += 1e-3
    with pytest.raises(ValueError, match="with other weights: their x differ"):
        make_learner(settings, data, teacher=teacher, codec=codec)


# --- a backbone that reads tokens and both levels of a step


def test_a_backbone_that_reads_tokens(captioned, tmp_path, cli):
    out = tmp_path / "run"
    train = ("train", captioned, "--out", out, "--images", 64, "--batch", 16, "--curves", "none", "--backbone", TOKENS)
    assert cli(*train).code == 0
    model = nk.load(out, allow_code=True)
    assert model.denoiser.backbone.tokens == model.conditioner.sizes.tokens > 0
    assert model.denoiser.backbone.width == 8
    red, blue = model.sample(["a red picture", "a blue picture"], seeds=[1, 1], steps=3)
    assert not torch.equal(red, blue)
    assert cli(*train, "--images", 96).code == 0


def test_a_backbone_has_its_own_sizes(captioned, tmp_path, cli):
    train = ("train", captioned, "--images", 16, "--batch", 16, "--curves", "none", "--backbone", TOKENS)
    assert cli(*train, "--out", tmp_path / "m", "--model", "m").code == 0
    assert nk.load(tmp_path / "m", allow_code=True).denoiser.backbone.width == 16
    result = cli(*train, "--out", tmp_path / "xl", "--model", "xl")
    assert result.code == 2
    assert "Known sizes: auto, s, m" in result.flat


def test_a_network_that_reads_the_target_gets_both_levels():
    from noisekiln.backbones.base import Backbone
    from noisekiln.components.spec import build

    denoiser = Denoiser(build(Backbone, TOKENS, channels=1, tokens=0))
    x = torch.randn(2, 1, 4, 4)
    t, s = level(0.6, 0.8), level(0.8, 0.6)
    to_s, to_t, alone = denoiser(x, t, to=s).x, denoiser(x, t, to=t).x, denoiser(x, t).x
    assert not torch.allclose(to_s, to_t)
    assert torch.equal(alone, to_t)


def test_a_backbone_that_cannot_see_the_task_is_refused(captioned, tmp_path, cli):
    result = cli(
        "train", captioned, "--out", tmp_path / "run", "--images", 16, "--backbone", TOKENS, "--task", "inpaint"
    )
    assert result.code == 2
    assert "does not read Cond.image" in result.flat


# --- an optimizer, and a log


def test_an_optimizer_and_a_log(pets, tmp_path, cli):
    out = tmp_path / "run"
    train = ("train", pets, "--out", out, "--batch", 16, "--backbone", TINY, "--optimizer", SIGN, "--curves", CSV)
    assert cli(*train, "--images", 64).code == 0
    lines = (out / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# from 0, seed 0"
    assert lines[1].startswith("16,")
    first = nk.load(out).denoiser.state_dict()
    assert cli(*train, "--images", 128).code == 0
    assert "# from 64, seed 0" in (out / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert any(not torch.equal(first[name], value) for name, value in nk.load(out).denoiser.state_dict().items())


def test_an_optimizer_resumes_to_the_bit(pets, tmp_path):
    options = {**SMALL, "optimizer": SIGN}
    straight = nk.train(str(pets), out=tmp_path / "straight", **options).state_dict()
    with pytest.raises(KeyboardInterrupt):
        nk.train(str(pets), out=tmp_path / "run", watch=stop_after(32), **options)
    resumed = nk.train(str(pets), out=tmp_path / "run", **options).state_dict()
    assert all(torch.equal(straight[name], value) for name, value in resumed.items())


@pytest.mark.parametrize(
    ("flag", "spec", "says"),
    [
        ("--codec", "pixel", "There is no codec called 'pixel'. It is 'pixels' here."),
        ("--cond", "txt", "There is no conditioner called 'txt'. Did you mean 'text'?"),
        ("--objective", "denoise", "There is no objective called 'denoise'. Did you mean 'denoising'?"),
        ("--optimizer", "muoon", "There is no optimizer called 'muoon'. Did you mean 'muon'?"),
        ("--curves", "tensorbord", "There is no log called 'tensorbord'. Did you mean 'tensorboard'?"),
        ("--backbone", "unett", "There is no backbone called 'unett'. Did you mean 'unet'?"),
    ],
)
def test_a_component_that_does_not_exist_names_the_nearest(pets, tmp_path, cli, flag, spec, says):
    result = cli("train", pets, "--out", tmp_path / "run", "--images", 16, flag, spec)
    assert result.code == 2
    assert says in result.flat
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "old", "new", "says"),
    [
        (
            "curves",
            "(folder / self.name)",
            '(folder / "none" / self.name)',
            "`curves=.*CsvLog`: this log cannot be opened",
        ),
        (
            "objective",
            "return Loss(error.mean()",
            "return Loss(error.mean().detach()",
            "a loss that does not depend on",
        ),
    ],
)
def test_a_mistake_in_a_component_names_its_setting(pets, tmp_path, class_run, kind, old, new, says):
    spec = {"curves": CSV, "objective": DISTILLING}[kind]
    source, _, name = spec.rpartition(":")
    text = Path(source).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.py").write_text(text.replace(old, new), encoding="utf-8")
    options = {**SMALL, kind: f"{tmp_path / 'mine.py'}:{name}"}
    if kind == "objective":
        options["teacher"] = str(class_run)
    with pytest.raises(ValueError, match=says):
        nk.train(str(pets), out=tmp_path / "run", **options)


@pytest.mark.parametrize(
    ("setting", "spec", "place", "mistake", "says"),
    [
        ("codec", HALVING, "images = (pixels.float()", "len(3)", "TypeError: object of type 'int' has no len()"),
        ("curves", CSV, 'if "loss" in line', 'line["los"]', "KeyError: 'los'"),
        ("objective", DISTILLING, "assert teacher is not None", 'raise ValueError("my loss is broken.")',
         "ValueError: my loss is broken"),
    ],
)  # fmt: skip
def test_an_error_in_a_component_names_its_setting_file_and_line(
    pets, tmp_path, class_run, cli, monkeypatch, setting, spec, place, mistake, says
):
    """On the command line in one message; in Python as a note on the error itself."""
    monkeypatch.chdir(tmp_path)
    source, _, name = spec.rpartition(":")
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.lstrip().startswith(place))
    indent = lines[number - 1][: -len(lines[number - 1].lstrip())]
    Path("mine.py").write_text("\n".join([*lines[: number - 1], indent + mistake, *lines[number - 1 :]]) + "\n")
    teacher = ("--teacher", class_run) if setting == "objective" else ()
    flags = FLAGS[:-2] if setting == "curves" else FLAGS
    result = cli("train", pets, "--out", "run", *flags, f"--{setting}", f"mine.py:{name}", *teacher)
    assert result.code == 2
    assert result.err.startswith(f"noisekiln: --{setting} mine.py:{name} raised {says}. The error comes from mine.py:")
    assert f"mine.py:{number}, in " in result.err
    assert result.err.endswith(f"Correct the file, or give another --{setting}.\n")
    options = {**SMALL, setting: f"mine.py:{name}", **({"teacher": str(class_run)} if teacher else {})}
    with pytest.raises((TypeError, KeyError, ValueError)) as caught:
        nk.train(str(pets), out="other", watch=lambda event: None, **options)
    assert type(caught.value).__name__ == says.partition(":")[0]
    assert [note for note in caught.value.__notes__ if f"`{setting}=mine.py:{name}` raised {says}. " in note]


def test_conditions_that_cannot_be_read_are_named(pets, monkeypatch):
    diffusion = make_learner(resolve(Settings(**SMALL), load(pets)), load(pets)).diffusion
    conditioner, images = diffusion.conditioner, load(pets).train
    monkeypatch.setattr(conditioner, "parse", float)
    requested = RequestedConditions(classes=("abc",))
    with pytest.raises(ValueError, match=r"The condition 'abc' cannot be read by class_label \(could not convert"):
        requested.values(diffusion, print)
    monkeypatch.setattr(conditioner, "values", lambda *_: ["cat"])
    with pytest.raises(ValueError, match=r"`cond=class_label` found 1 condition for [0-9]+ images"):
        condition_choices(diffusion, images, ())
    monkeypatch.setattr(conditioner, "values", lambda *_: [float("abc")])
    with pytest.raises(ValueError, match=r"`cond=class_label` cannot read the conditions of the images \(could not"):
        condition_choices(diffusion, images, ())


def test_all_choices_are_listed(cli):
    result = cli("list")
    for room in ("codecs", "conditioners", "objectives", "optimizers", "logs", "backbones"):
        assert f"{room}:" in result.out
