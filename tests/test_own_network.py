"""`nk.denoiser`: a network from elsewhere gives what its own library or the closed form gives, in every use."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import noisekiln as nk
from noisekiln.samplers.base import SeededNoise

MEAN, STD = 0.2, 0.3  # of the images in [-1, 1]
ALPHA_BAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def exact_eps(x_t, alpha, sigma):
    """E[eps | x_t] for Gaussian pixels."""
    alpha, sigma = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
    return (sigma * (x_t.double() - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)).to(x_t.dtype)


def discrete(x, t):
    """A network of DDPM: whole steps from 0."""
    assert t.dtype == torch.int64
    return exact_eps(x, ALPHA_BAR[t].sqrt(), (1 - ALPHA_BAR[t]).sqrt())


def flow(x, t):
    """A network of flow matching: time in [0, 1], eps - x."""
    alpha, sigma = (1 - t).double(), t.double()
    eps = exact_eps(x, alpha, sigma)
    estimate = MEAN + alpha.view(-1, 1, 1, 1) * STD**2 * (x - alpha.view(-1, 1, 1, 1) * MEAN) / (
        alpha**2 * STD**2 + sigma**2
    ).view(-1, 1, 1, 1)
    return (eps - estimate).to(x.dtype)


def denoised(x, sigma):
    """A network of EDM: sigma in, the denoised image out."""
    return MEAN + STD**2 * (x - MEAN) / (STD**2 + sigma.view(-1, 1, 1, 1) ** 2)


MODELS = {
    "steps": lambda: nk.denoiser(discrete, nk.LinearBetas(), "eps", size=8, channels=1),
    "continuous": lambda: nk.denoiser(flow, "rectified", "flow", size=8, channels=1),
    "function": lambda: nk.denoiser(denoised, nk.Karras(0.002, 80), "x0", size=8, channels=1, time=lambda t: t.nsr),
}


@pytest.mark.parametrize("schedule", [None, "karras", "cosine", "rectified"])
@pytest.mark.parametrize("kind", MODELS)
def test_any_schedule_leads_to_the_distribution_of_the_closed_form(kind, schedule):
    *_, last = MODELS[kind]().generate(64, steps=60, sampler="heun", schedule=schedule)
    assert abs(float(last.x.double().mean()) * 0.5 + 0.5 - (0.5 + 0.5 * MEAN)) < 0.01
    assert abs(float(last.x.double().std()) - STD) < 0.02


def test_ddim_is_the_formula_of_the_paper():
    model = MODELS["steps"]()
    x = SeededNoise([5])(torch.empty(1, 1, 8, 8)).double()
    for step in range(999, -1, -100):
        now, after = ALPHA_BAR[step], ALPHA_BAR[step - 100] if step >= 100 else torch.tensor(1.0)
        eps = exact_eps(x, now.sqrt(), (1 - now).sqrt())
        x = after.sqrt() * (x - (1 - now).sqrt() * eps) / now.sqrt() + (1 - after).sqrt() * eps
    *_, last = model.generate(1, seed=5, steps=10, sampler="ddim")
    torch.testing.assert_close(last.x.double(), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("prediction", "theirs"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
def test_a_network_of_diffusers_samples_as_its_scheduler_does(prediction, theirs):
    from diffusers import DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    ).eval()
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=theirs, timestep_spacing="trailing", beta_start=1e-4)
    scheduler.set_timesteps(10)
    x = SeededNoise([3, 4])(torch.empty(2, 3, 8, 8))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t).sample, t, x).prev_sample
    model = nk.denoiser(net, nk.LinearBetas(), prediction)
    *_, last = model.generate(2, seed=3, steps=10)
    assert float((last.x - x).abs().max() / x.abs().max().clamp(min=1)) < 1e-4
    assert model.size == (8, 8)


def test_every_use_works_on_it():
    model = MODELS["steps"]()
    image = np.full((8, 8, 1), 153, np.uint8)
    missing = np.eye(8)
    assert nk.inpaint(model, image, missing, count=1, steps=2).shape == (1, 8, 8, 1)
    assert nk.upscale(model, image[::2, ::2], 2, count=1, steps=2).shape == (1, 8, 8, 1)
    assert nk.edit(model, image, count=1, steps=4).shape == (1, 8, 8, 1)
    assert nk.style(model, image, steps=2).shape == (1, 8, 8, 1)
    assert nk.interpolate(model, [1, 2], frames=1, steps=2).shape == (2, 8, 8, 1)


class Classes(nn.Module):
    """The image of a class is that class, in quarters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, x, t, classes):
        self.seen.append(classes.tolist())
        return self.scale * (classes.view(-1, 1, 1, 1) / 4).expand_as(x)


def test_classes_and_guidance():
    net = Classes()
    model = nk.denoiser(net, "cosine", "x0", size=4, channels=1, classes=["a", "b"], no_class=2, mean=0, std=1)
    assert not net.training
    images = model.sample(["b", "a", None], steps=2)
    assert images[:, 0, 0, 0].tolist() == [64, 0, 128]
    assert model.sample(["b"], steps=2, guidance=2.0)[0, 0, 0, 0] == 0  # 2 * 1/4 - 2/4
    assert nk.denoiser(net, "cosine", "x0", size=4, channels=1, classes=2).conditioner.choices == ("0", "1")
    always = nk.denoiser(net, "cosine", "x0", size=4, channels=1, classes=2)
    assert always.sample([1], steps=2).shape == (1, 4, 4, 1)
    with pytest.raises(ValueError, match="reads a class for every image"):
        always.sample(1, steps=1)


def test_what_it_reads_and_returns():
    seen = []

    def net(x, t):
        seen.append((x.dtype, t))
        return (torch.cat([0 * x, x], 1),)  # with a learned variance

    with pytest.warns(UserWarning, match="6 output channels for 3 of x"):
        model = nk.denoiser(net, "linear_betas", "epsilon", size=4, time="fractional")
    assert seen[-1][1].tolist() == [999.0]
    with pytest.warns(UserWarning, match="learned variance"):
        list(model.generate(1, steps=3))
    positions = [float(t) for _, t in seen[1:]]
    np.testing.assert_allclose(positions, [999, 1000 * 2 / 3 - 1, 1000 / 3 - 1], atol=1e-2)
    half = nn.Conv2d(3, 3, 1).half()
    model = nk.denoiser(_Wrapped(half), size=4)
    assert model.sample(1, steps=1).shape == (1, 4, 4, 3)
    assert math.isfinite(float(model.sample(1, steps=1).float().mean()))


class _Wrapped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, t):
        assert x.dtype == torch.float16
        return self.layer(x)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nk.denoiser(discrete), "`size`: a function does not tell how large its images are"),
        (lambda: nk.denoiser(lambda x: x, size=8), r"raised TypeError for x of the shape \(1, 3, 8, 8\)"),
        (lambda: nk.denoiser(lambda x, t: x[..., :4], size=8), r"returned the shape \(1, 3, 8, 4\) for images of"),
        (lambda: nk.denoiser(lambda x, t: {"a": x}, size=8), "returned a dict, and its output must be a tensor"),
        (lambda: nk.denoiser(discrete, prediction="epss", size=8), "`prediction=epss` is not a choice. Did you mean"),
        (lambda: nk.denoiser(discrete, size=8, time="step"), "`time=step` is not a choice. Did you mean 'steps'"),
        (lambda: nk.denoiser(discrete, "linear_bets", size=8), "Did you mean 'linear_betas'"),
        (lambda: nk.denoiser("net", size=8), "raised TypeError"),
        (lambda: nk.denoiser(discrete, size="8"), "is neither a side in pixels"),
        (lambda: nk.denoiser(discrete, size=0), "`size=0` is not possible. Give a whole number from 1 to 32,768"),
        (lambda: nk.denoiser(discrete, size=(8, 10**6)), "`size=1000000` is not possible"),
        (lambda: nk.denoiser(discrete, size=8, channels=-1), "`channels=-1` is not possible"),
        (lambda: nk.denoiser(discrete, size=8, classes=0), "`classes=0` is not possible"),
        (lambda: nk.denoiser(discrete, size=8, classes=10**12), "from 1 to 1,000,000"),
        (lambda: nk.denoiser(discrete, size=8, classes=2.5), "`classes=2.5` is no number and no list of names"),
        (lambda: nk.denoiser(discrete, size=8, classes=["a", "a"]), "there is none, or one twice"),
        (lambda: nk.denoiser(discrete, size=8, classes=2, no_class="a"), "`no_class='a'` is not possible"),
        (lambda: nk.denoiser(discrete, size=8, mean="a"), "`mean='a'` is no number"),
        (lambda: nk.denoiser(discrete, size=8, std=None), "`std=None` is no number"),
        (lambda: nk.denoiser(discrete, size=8, std=math.nan), "`std=nan` is no number"),
        (lambda: nk.denoiser(discrete, size=8, beta_schedule="linear"), "It is `schedule` here"),
        (lambda: nk.denoiser(discrete, sise=8), "no option called 'sise'. Did you mean 'size'"),
        (lambda: nk.denoiser(discrete, size=8, prediction=None), "`prediction=None` is not possible. Give one of"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_it_is_not_saved_as_what_could_not_be_loaded(tmp_path):
    with pytest.raises(ValueError, match=r"The network of this model is an object of Python.*noisekiln.denoiser"):
        MODELS["steps"]().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
