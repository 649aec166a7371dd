"""The examples run, and do what they say: their digits are digits, their sampler has its order."""

import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import noisekiln as nk
from noisekiln.components.spec import build
from noisekiln.data import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.predictions import EPS
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.rectified import Rectified
from oracles import BOTH, walk

EXAMPLES = Path(__file__).parents[1] / "examples"
MIDPOINT = f"{EXAMPLES / 'own_sampler.py'}:Midpoint"


def study_notes(out, *words):
    """Run the example with these arguments; returns the mean losses between its grids."""
    main = runpy.run_path(str(EXAMPLES / "study_notes.py"))["main"]
    return main(["--out", str(out), *map(str, words)])


# --- the study notes


@pytest.mark.parametrize("data", ["digits", "portraits"])
@pytest.mark.parametrize("network", ["simple_unet", pytest.param("strided_unet", marks=pytest.mark.slow)])
def test_the_notes_networks_train_and_sample(network, data, tmp_path):
    words = ["--network", network, "--data", data, "--width", 8, "--images", 1600, "--steps", 10, "-n", 4]
    losses = study_notes(tmp_path, *words)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] < 1.5
    assert len(list(tmp_path.glob("after_*.png"))) == len(losses)
    assert np.asarray(Image.open(tmp_path / "grid.png")).std() > 0
    model = Diffusion.load(tmp_path / "model")
    assert model.denoiser.prediction is EPS
    assert model.sampling.schedule == "linear_betas"
    side = 8 if data == "digits" else 16
    assert model.sample(2).shape == (2, side, side, 1 if data == "digits" else 3)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_both_variances_can_be_chosen(variance, tmp_path):
    study_notes(tmp_path, "--width", 8, "--images", 64, "--steps", 3, "-n", 1, "--variance", variance)
    assert Diffusion.load(tmp_path / "model").sampling.sampler == f"ancestral(variance={variance!r})"


def test_the_same_seed_trains_the_same_model(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        study_notes(tmp_path / name, "--width", 8, "--images", 320, "--steps", 3, "-n", 1, "--seed", seed)
    a, b, c = (Diffusion.load(tmp_path / name / "model").state_dict().values() for name in "abc")
    assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(a, c, strict=True))


@cache
def known_digits():
    """One half of the real digits for comparison, the distances of the other half to it, and the other half."""
    digits, names = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    known, other = order[:900], order[900:]
    neighbours = NearestNeighbors(n_neighbors=5).fit(digits[known])
    limit = np.quantile(neighbours.kneighbors(digits[other])[0][:, 0], 0.99)
    return neighbours, names[known], limit, digits[other]


def share_of_digits(images):
    """Share of (N, 64) images, 0 to 16, which are as near to real digits as real ones, with 5 nearest of one label."""
    neighbours, names, limit, _ = known_digits()
    distance, index = neighbours.kneighbors(images)
    are = (distance[:, 0] <= limit) & (names[index] == names[index][:, :1]).all(1)
    return are.mean(), set(names[index[are, 0]].tolist())


def test_the_digit_check_separates_digits_from_noise():
    real = known_digits()[3]
    noise = np.random.default_rng(1).normal(real.mean(0), real.std(0), (500, 64)).clip(0, 16)
    assert share_of_digits(real)[0] > 0.85
    assert share_of_digits(noise)[0] < 0.05


@pytest.mark.slow
def test_its_digits_can_be_recognised(tmp_path):
    """After a quarter of the images that its docstring names, a third is recognised; of noise, none."""
    study_notes(tmp_path, "--network", "strided_unet", "--width", 32, "--images", 15_000, "-n", 1, "--steps", 50)
    images = Diffusion.load(tmp_path / "model").sample(200, steps=50, batch_size=200)
    share, names = share_of_digits(images.reshape(200, 64).numpy() / 255 * 16)
    assert share > 0.2  # 0.32 with this seed, 0.46 after 30,000 images
    assert len(names) == 10


# --- a sampler of one's own


@pytest.mark.parametrize("schedule", [Cosine(offset=0), Rectified(), Karras()], ids=repr)
@pytest.mark.parametrize("data", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize(("settings", "order"), [("", 2), ("(place=0.2)", 1)], ids=["middle", "elsewhere"])
def test_the_own_sampler_has_its_order(settings, order, data, schedule):
    sampler, steps, errors = build(Sampler, MIDPOINT + settings), [32, 64, 128], []
    x = torch.tensor([-1.2, -0.3, 0.4, 1.3], dtype=torch.float64).view(-1, 1, 1, 1)
    for n in steps:
        levels = [schedule(time) for time in torch.linspace(0.98, 0.02, n + 1, dtype=torch.float64)]
        start = levels[0].norm * x
        exact = data.flow(start, levels[0], levels[-1])
        errors.append(float((walk(data, sampler, levels, start) - exact).square().mean().sqrt()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order - 0.3 < slope < order + 1


def test_the_own_sampler_refuses_a_place_outside_of_the_step():
    with pytest.raises(ValueError, match="between 0 and 1"):
        build(Sampler, f"{MIDPOINT}(place=1.0)")


def test_the_own_sampler_works_from_the_command_line(tmp_path, cli):
    study_notes(tmp_path, "--width", 8, "--images", 64, "--steps", 3, "-n", 1)
    words = ["sample", str(tmp_path), "-n", "2", "--sampler", MIDPOINT, "--steps", "4", "--out", str(tmp_path / "own")]
    assert cli(*words).code == 0
    assert len(list((tmp_path / "own").glob("0000*.png"))) == 2


# --- a network of one's own


@pytest.mark.slow
def test_the_own_network_is_used_in_five_lines(tmp_path):
    runpy.run_path(str(EXAMPLES / "own_network.py"))["main"](128, tmp_path)
    assert Image.open(tmp_path / "ddim.png").size == (137, 137)  # 8 x 8 images of 16 pixels, with gaps
    assert Image.open(tmp_path / "dpmpp_2m.png").size == (137, 137)
    assert Image.open(tmp_path / "inpainted.png").size == (69, 69)
    assert len((EXAMPLES / "own_network.py").read_text(encoding="utf-8").splitlines()) < 75


@pytest.mark.slow
def test_the_own_network_learns_portraits():
    """After a fifteenth of its default; a network of eps was black, white and pure colours even after all of it."""
    example = runpy.run_path(str(EXAMPLES / "own_network.py"))
    pixels = torch.from_numpy(load("portraits").train.pixels)
    torch.manual_seed(0)
    net = example["train"](pixels.permute(0, 3, 1, 2) / 127.5 - 1, 6400)
    images = nk.denoiser(net, schedule=nk.LinearBetas(), prediction="v", size=16).sample(32, steps=10)
    means = torch.stack([part.double().mean(0).flatten() for part in (images.as_subclass(torch.Tensor), pixels)])
    assert means.corrcoef()[0, 1] > 0.6  # it is 0.78, and was 0.30
    assert np.isin(np.asarray(images), (0, 255)).mean() < 0.4  # it is 0.18, and was 0.94


# --- other people's loops


LOOPS = {  # examples/plain_loop.py, examples/accelerate_loop.py, examples/lightning_loop.py
    "plain": {"epochs": 1, "limit": 192},
    "accelerate": {"epochs": 1, "limit": 192},
    "lightning": {"max_epochs": 1, "limit": 192, "accelerator": "cpu", "enable_progress_bar": False},
}


@pytest.mark.filterwarnings("ignore")  # those of the other libraries
@pytest.mark.parametrize("loop", ["plain", "accelerate", pytest.param("lightning", marks=pytest.mark.slow)])
def test_other_loops_end_with_a_model_that_is_sampled(loop, tmp_path):
    if loop != "plain":
        pytest.importorskip(loop)
    file = EXAMPLES / f"{loop}_loop.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) < 60
    torch.manual_seed(0)
    runpy.run_path(str(file))["main"](out=tmp_path, **LOOPS[loop])
    assert Image.open(tmp_path / "samples.png").size == (69, 69)  # 4 x 4 images of 16 pixels, with gaps
    model = Diffusion.load(tmp_path)
    assert (model.conditioner is not None) == (loop == "plain")
    assert model.denoiser.backbone.conv_out.weight.abs().max() > 0  # where it began


def test_every_example_says_how_to_run_it_and_is_tested():
    here = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    for file in EXAMPLES.glob("*.py"):
        assert f"examples/{file.name}" in file.read_text(encoding="utf-8")
        assert file.name in here
