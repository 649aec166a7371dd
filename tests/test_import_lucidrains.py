"""Checkpoints of lucidrains' package: what was recorded of three of its networks is what ours make of their weights.

`recorded/` holds states of `GaussianDiffusion` of denoising_diffusion_pytorch 2.3.4, of random weights (of "cosine" as
its `EMA` writes it), each with an input, steps, and the output of its network.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import noisekiln as nk
from conftest import Command
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.sigmoid import Sigmoid
from oracles import walk

RECORDED = Path(__file__).parent / "recorded"
KINDS = [("sigmoid", Sigmoid(), "v"), ("linear", LinearBetas(50), "eps"), ("cosine", Cosine(), "x0")]


@pytest.mark.parametrize(("name", "schedule", "prediction"), KINDS, ids=[kind[0] for kind in KINDS])
def test_a_checkpoint_is_the_network_that_wrote_it(name, schedule, prediction, tmp_path):
    file = RECORDED / f"lucidrains_{name}.safetensors"
    model = nk.load(nk.import_model(file, tmp_path / "model", size=(8, 12)))
    recorded = load_file(file)
    step, expected = recorded["recorded.step"], recorded["recorded.y"]
    with torch.no_grad():
        y = model.denoiser.backbone(recorded["recorded.x"], step.float(), NOTHING)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert (model.size, model.denoiser.prediction.name) == ((8, 12), prediction)
    assert build(Schedule, model.sampling.schedule) == schedule
    [betas] = [value for key, value in recorded.items() if key.endswith("betas")]
    level = schedule((step + 1).double() / 50)
    torch.testing.assert_close(level.alpha**2, (1 - betas.double()).cumprod(0)[step], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.denoiser.noise_label(level), step.double(), rtol=0, atol=1e-6)
    assert model.sample(2, steps=3).shape == (2, 8, 12, 3)


def test_a_step_of_ddim_is_that_of_the_package(tmp_path):
    """From x at step 41 to step 3, by its formulae: ``x0 = sqrt(a) x - sqrt(1 - a) v``, eps from both."""
    model = nk.load(nk.import_model(RECORDED / "lucidrains_sigmoid.safetensors", tmp_path / "model", size=(8, 12)))
    recorded = load_file(RECORDED / "lucidrains_sigmoid.safetensors")
    bar = (1 - recorded["betas"].double()).cumprod(0)
    x, v, a, b = recorded["recorded.x"][1], recorded["recorded.y"][1], bar[41], bar[3]
    x0 = a.sqrt() * x - (1 - a).sqrt() * v
    expected = b.sqrt() * x0 + (1 - b).sqrt() * (x - a.sqrt() * x0) / (1 - a).sqrt()
    levels = [Sigmoid()(torch.tensor(step / 50, dtype=torch.float64)) for step in (42, 4)]
    with torch.no_grad():
        found = walk(model.denoiser, nk.DDIM(), levels, x[None])
    torch.testing.assert_close(found[0], expected.float(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_what_cannot_be_told_is_refused(tmp_path, cli: Command):
    state = load_file(RECORDED / "lucidrains_sigmoid.safetensors")
    network = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}

    def refused(changed, words, *options):
        save_file(changed, tmp_path / "changed.safetensors")
        result = cli("import", tmp_path / "changed.safetensors", tmp_path / "model", *options)
        assert result.code == 2
        assert words in result.flat, result.flat
        assert not (tmp_path / "model").exists()

    refused(state, "does not hold the size of its images. Give it: --size 64")
    refused(state, "takes sides that are multiples of 2, and 9x9 was given", "--size", 9)
    refused(network, "weights of a Unet alone", "--size", 8)
    refused(state | {"betas": 2 * state["betas"]}, "none of the sigmoid, cosine and linear", "--size", 8)
    refused(state | {"loss_weight": 3 * state["loss_weight"]}, "do not tell what its network predicts", "--size", 8)
    refused(state | {"model.classes_emb.weight": torch.zeros(1)}, "a network with classes", "--size", 8)
    wide = torch.zeros(4, 6, 7, 7)
    refused(state | {"model.init_conv.weight": wide}, "self-conditioning", "--size", 8)
    less = {name: value for name, value in state.items() if name != "model.mid_attn.norm.g"}
    refused(less, "does not hold the layers of a Unet", "--size", 8)
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10" * 40)
    assert "is damaged" in cli("import", tmp_path / "damaged.safetensors", tmp_path / "model", "--size", 8).flat
    refused({"weight": torch.zeros(2)}, "1 tensor. Build the network with the code it was trained with")
