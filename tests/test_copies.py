"""Copies of a model: pickled, copied, sent to processes, cast; and modes of torch in which it is called."""

import copy
import io
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import noisekiln as nk
from conftest import TINY
from noisekiln.backbones.simple_unet import SimpleUnet
from noisekiln.codecs.pixels import Pixels
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.denoisers import Denoiser
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.predictions import PREDICTIONS, Prediction

IMAGE = np.full((8, 8, 3), 100, dtype=np.uint8)


def tiny(prediction: Prediction = PREDICTIONS["v"]) -> Diffusion:
    torch.manual_seed(0)
    denoiser = Denoiser(SimpleUnet(3, 5, width=8), prediction)
    codec = Pixels((0.4,) * 3, (0.3,) * 3)
    return Diffusion(denoiser, codec, (8, 8), ClassLabel(("cat", "dog"), 5), Sampling(steps=2)).eval()


def sample(model: Diffusion) -> Tensor:
    return model.sample(["cat", "dog"])


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
def test_a_pickled_model_is_the_same(prediction: Prediction):
    model = tiny(prediction)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        torch.load(file, weights_only=False),
    ):
        assert other.denoiser.prediction is prediction
        assert torch.equal(sample(other), sample(model))


def test_a_prediction_of_ones_own_is_pickled_if_its_function_can_be():
    own = Prediction("v", torch.add)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(own)) == own


@pytest.mark.slow
def test_a_model_is_sent_to_another_process():
    model = tiny()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.map(sample, [model])[0], sample(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_refused_with_the_way_out(dtype: torch.dtype):
    model = tiny()
    with pytest.raises(ValueError, match=rf"were to become {dtype}\. They stay .* `precision=bf16` or"):
        model.to(dtype)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.float().to("cpu").share_memory() is model


def test_inference_mode(tmp_path: Path):
    model, missing = tiny(), np.eye(8)
    model.save(tmp_path)
    with torch.inference_mode():
        loaded = nk.load(tmp_path)
        assert torch.equal(loaded.sample(["cat", "dog"]), sample(model))
        nk.inpaint(model, IMAGE, missing, method="replacement", steps=2, count=1)
        with pytest.raises(ValueError, match=r"`method=moment_matching` differentiates .* Use torch\.no_grad\(\)"):
            nk.inpaint(model, IMAGE, missing, steps=2, count=1)
    assert isinstance(loaded, Diffusion)
    nk.inpaint(loaded, IMAGE, missing, steps=2, count=1)  # its weights can be differentiated


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_needs_no_mode(mode: type, tmp_path: Path):
    words = {"images": 16, "batch_size": 16, "backbone": TINY, "curves": "none"}
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    with mode():
        model = nk.train(images, out=tmp_path / "one", **words)
    again = nk.train(images, out=tmp_path / "two", **words)
    assert torch.equal(model.sample(1, steps=1), again.sample(1, steps=1))
