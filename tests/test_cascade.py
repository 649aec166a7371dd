"""Cascades: stages that fit, conditions that are passed on, the same face as a model, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln as nk
from conftest import Command
from noisekiln.model.cascade import Cascade, load
from noisekiln.model.diffusion import Diffusion, Sampling
from noisekiln.tasks.colorize import Colorize
from noisekiln.tasks.inpaint import Inpaint
from noisekiln.tasks.upscale import Upscale
from test_tasks import tiny

CLASSES = ("cat", "dog")


def cascade(noise=0.0):
    base = tiny(None, size=(4, 3), classes=CLASSES, sampling=Sampling(steps=4))
    middle = tiny(Upscale(2, noise), size=(8, 6), classes=CLASSES[::-1])
    return Cascade([base, middle, tiny(Upscale(2, noise), size=(15, 12))]).eval()


def test_it_generates_stage_by_stage():
    model = cascade()
    progress = list(model.generate(["cat", None], seeds=[1, 2]))
    assert [p.step for p in progress] == list(range(1, 11))
    assert {p.steps for p in progress} == {10}
    assert [tuple(p.images().shape) for p in (progress[3], progress[6], progress[9])] == [
        (2, 4, 3, 3), (2, 8, 6, 3), (2, 15, 12, 3),
    ]  # fmt: skip
    assert [p.finished for p in progress] == [False] * 9 + [True]
    assert (model.size, model.conditioner.choices) == ((15, 12), CLASSES)
    split = list(model.generate(["cat", None, "dog"], seed=1, steps=2, batch_size=2))
    assert [(p.step, p.steps, p.start, p.count) for p in split] == [(i + 1, 12, 2 * (i > 5), 3) for i in range(12)]
    assert [len(p.images()) for p in split if p.finished] == [2, 1]
    assert model.sample(["cat", None], seed=1).shape == (2, 15, 12, 3)


def test_each_stage_starts_from_the_result_of_the_one_before():
    model = cascade()
    small, middle, _ = model.stages
    images = small.sample(["dog"], seed=5)
    seeds = []
    original = middle.generate
    middle.generate = lambda conditions, **words: (
        seeds.append((conditions, words["seeds"], words["source"])) or original(conditions, **words)
    )
    list(model.generate(["dog"], seeds=[5]))
    ((conditions, (seed,), source),) = seeds
    assert conditions == ["dog"]
    assert seed != 5
    assert torch.equal(source, images)


def test_guidance_is_for_the_first_stage_alone():
    model = cascade()
    guided, plain = (model.stages[0].sample(["cat"], seed=3, guidance=scale) for scale in (8.0, 1.0))
    seen = []
    for stage in model.stages:
        original = stage.generate
        stage.generate = lambda *conditions, original=original, **words: (
            seen.append(words.get("guidance")) or original(*conditions, **words)
        )
    list(model.generate(["cat"], seed=3, guidance=8.0))
    assert seen == [8.0, None, None]
    assert not torch.equal(guided, plain)


def test_conditions_go_to_the_stages_that_know_them():
    """By name: the second stage has its classes in reverse order, the third has none."""
    model = cascade()
    seen = []
    for stage in model.stages:
        original = stage.generate
        stage.generate = lambda conditions, original=original, **words: (
            seen.append(conditions) or original(conditions, **words)
        )
    list(model.generate([0, "dog", None], seeds=[1, 2, 3]))
    assert seen == [[0, "dog", None], ["cat", "dog", None], [None, None, None]]
    with pytest.raises(ValueError, match="There is no class called 'cow'"):
        model.generate(["cow"])


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_seed_is_the_same_picture_in_any_batch(noise):
    """Up to two grey levels: later stages may enlarge differences of rounding."""
    model, conditions = cascade(noise), ["cat", "dog", None, 1, 0]
    together = model.sample(conditions, seed=7)
    alone = torch.cat([model.sample([condition], seed=7 + i) for i, condition in enumerate(conditions)])
    assert int((together.int() - alone.int()).abs().max()) <= 2
    assert int((together.int() - model.sample(conditions, seed=7, batch_size=2).int()).abs().max()) <= 2
    assert len({picture.numpy().tobytes() for picture in together}) == 5


def test_a_loaded_cascade_generates_the_same(tmp_path: Path):
    model = cascade(0.2)
    model.save(tmp_path / "run" / "model")
    for loaded in (load(tmp_path / "run"), nk.load(tmp_path / "run" / "model")):
        assert isinstance(loaded, Cascade)
        assert [stage.task for stage in loaded.stages] == [None, Upscale(2, 0.2), Upscale(2, 0.2)]
        assert int((loaded.sample(["cat"]).int() - model.sample(["cat"]).int()).abs().max()) <= 2
    with pytest.raises(ValueError, match=r"holds a cascade of models, not a single one\. Use `noisekiln sample`"):
        Diffusion.load(tmp_path / "run")
    description = tmp_path / "run" / "model" / "model.json"
    for names in ('["../../elsewhere"]', "3", "[3]"):
        description.write_text(f'{{"format": 1, "cascade": {names}}}')
        with pytest.raises(ValueError, match="names no stages of a cascade"):
            load(tmp_path / "run")


def test_one_model_loads_as_it_is(tmp_path: Path):
    tiny(None).save(tmp_path)
    assert isinstance(load(tmp_path), Diffusion)


SMALL, LARGE = tiny(None, size=(4, 4)), tiny(Upscale(2), size=(8, 8))


@pytest.mark.parametrize(("stages", "says"), [
    ([SMALL], "two models or more, and 1 was given"),
    ([LARGE, LARGE], "Stage 1 is upscale(factor=2), which needs images to start from"),
    ([SMALL, SMALL], "Stage 2 generates from noise alone, and would ignore the images of stage 1"),
    ([LARGE.__class__(LARGE.denoiser, LARGE.codec, (8, 8)), LARGE],
     "Stage 2, upscale(factor=2), takes 4x4 in colour and makes 8x8, but stage 1 makes 8x8 in colour."),
    ([SMALL, LARGE, tiny(Upscale(4), size=(16, 16))],
     "Stage 3, upscale, takes 4x4 in colour and makes 16x16, but stage 2 makes 8x8 in colour."),
    ([tiny(None, size=(4, 4), channels=1), LARGE], "but stage 1 makes 4x4 in grey."),
    ([tiny(None), tiny(Inpaint())], "takes 8x8 with 4 channels and makes 8x8, but stage 1 makes 8x8 in colour."),
])  # fmt: skip
def test_stages_that_do_not_fit(stages, says):
    with pytest.raises(ValueError) as caught:
        Cascade(stages)
    assert says in str(caught.value)


def test_grey_then_colour():
    """A cascade may consist of other stages than upscalers."""
    model = Cascade([tiny(None, channels=1), tiny(Colorize())])
    assert model.sample(2).shape == (2, 8, 8, 3)


# --- the command line


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("stages")
    tiny(None, size=(4, 4), classes=CLASSES).save(folder / "small")
    tiny(Upscale(2), classes=CLASSES).save(folder / "large")
    return folder / "small", folder / "large"


def test_the_command(cli: Command, folders: tuple[Path, Path], tmp_path: Path):
    out = tmp_path / "both"
    result = cli("cascade", *folders, "--out", out, "--noise", "0.1", "-n", 4, "--class", "all", "--steps", 2)
    assert result.code == 0, result
    assert "2 stages, 8x8 pixels, saved in" in result.out
    assert (out / "pictures" / "grid.png").exists()
    assert len(json.loads((out / "pictures" / "samples.json").read_text())) == 4
    loaded = load(out)
    assert isinstance(loaded, Cascade)
    assert loaded.stages[1].task == Upscale(2, noise=0.1)
    result = cli("sample", out, "-n", 2, "--class", "dog", "--steps", 2, "--out", tmp_path / "more")
    assert result.code == 0, result
    assert cli("cascade", *folders, "--out", out, "-n", 1, "--steps", 1).code == 0  # a cascade may be replaced


def test_sampler_schedule_and_batch_are_its_options_too(cli: Command, folders: tuple[Path, Path], tmp_path: Path):
    words = ("-n", 3, "--steps", 3, "--batch-size", 2, "--seed", 5)
    for more in ((), ("--sampler", "ddim(eta=1)"), ("--schedule", "rectified")):
        settings = {more[0].removeprefix("--"): more[1]} if more else {}
        result = cli("cascade", *folders, "--out", tmp_path / "new", *words, *more)
        assert result.code == 0, result
        images = [np.asarray(Image.open(tmp_path / "new" / "pictures" / f"0000{i}.png")) for i in range(3)]
        expected = nk.cascade(folders).sample(3, seed=5, steps=3, **settings)
        assert int((torch.from_numpy(np.stack(images)).int() - expected.int()).abs().max()) <= 2


def test_in_python(folders: tuple[Path, Path], tmp_path: Path):
    """From folders or models, which stay unchanged; saved if `out` is set."""
    small, large = (nk.load(folder) for folder in folders)
    joined = nk.cascade([small, folders[1]], noise=0.2, out=tmp_path / "both")
    assert joined.stages[1].task == Upscale(2, noise=0.2)
    again = nk.cascade([folders[0], large], noise=[0.2])
    assert large.task == Upscale(2)
    assert int((again.sample(["dog"]).int() - nk.load(tmp_path / "both").sample(["dog"]).int()).abs().max()) <= 2
    assert nk.cascade([small, large]).stages[1].task == Upscale(2)
    with pytest.raises(ValueError, match=r"`noise=2` is not possible: this stage has learned shares of noise"):
        nk.cascade([small, large], noise=2)
    with pytest.raises(ValueError, match="`noise` has 2 shares for 1 stage"):
        nk.cascade([small, large], noise=(0.1, 0.2))
    with pytest.raises(ValueError, match="does not upscale"):
        nk.cascade([tiny(None, channels=1), tiny(Colorize())], noise=0.1)
    for alone in (str(folders[0]), folders[0], small):
        with pytest.raises(ValueError, match="A cascade needs two models or more, and 1 was given"):
            nk.cascade(alone)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ValueError, match="holds something that is not a cascade"):
        nk.cascade([small, large], out=tmp_path)


@pytest.mark.parametrize(("words", "says"), [
    (("--noise", "much"), "--noise much is not a share of noise"),
    (("--noise", "0.1,0.2"), "--noise has 2 shares for 1 stage after the first"),
    (("--noise", "0.9"), "--noise 0.9 is not possible: this stage has learned shares of noise from 0 to 0.5. Give"),
    (("--batch-size", "0"), "at least one image is sampled at once"),
    (("--guidance", "-1"), "A guidance scale of -1"),
    (("--class", "cow"), "There is no class called 'cow'"),
    (("-n", "0"), "there is nothing to generate"),
])  # fmt: skip
def test_what_the_command_refuses(cli: Command, folders: tuple[Path, Path], tmp_path: Path, words, says):
    result = cli("cascade", *folders, "--out", tmp_path / "new", *words)
    assert result.code == 2, result
    assert says in result.err
    assert not (tmp_path / "new").exists()


def test_foreign_folders_are_not_overwritten(cli: Command, folders: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    result = cli("cascade", *folders, "--out", tmp_path)
    assert result.code == 2
    assert "holds something that is not a cascade" in result.err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
