"""The same predictions through diffusers' schedulers and through ours give the same images.

Theirs compute their tables in float32, hence tolerances of 1e-5. Our steps share nothing with theirs; where
their grid is a different one, ours visits its levels.
"""

import pytest
import torch

from noisekiln.levels import Level
from noisekiln.predictions import EPS, FLOW, V
from noisekiln.samplers.ancestral import Ancestral
from noisekiln.samplers.base import grid
from noisekiln.samplers.ddim import DDIM
from noisekiln.samplers.dpmpp_2m import DPMpp2M
from noisekiln.samplers.heun import Heun
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.rectified import Rectified
from oracles import GAUSSIAN, MIXTURE, walk

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy's, to diffusers

START = torch.linspace(-1.6, 1.6, 6, dtype=torch.float64).view(2, 1, 1, 3)
DDPM_TABLE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


class Drawn:
    """The noise that diffusers draws from a generator of this seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, like):
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)


def ddpm_output(prediction, x, timestep):
    """The network's output at a step of diffusers' table."""
    t = LinearBetas()((timestep.double() + 1) / 1000)
    return {"epsilon": EPS, "v_prediction": V}[prediction].target(*MIXTURE(x, t), t)


def assert_same(theirs, ours):
    torch.testing.assert_close(theirs.double(), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1000, 50])
@pytest.mark.parametrize(("theirs", "ours"), [("fixed_small", "small"), ("fixed_large", "large")])
def test_ancestral_is_ddpm(theirs, ours, steps):
    scheduler = diffusers.DDPMScheduler(
        **DDPM_TABLE, variance_type=theirs, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    x, generator = START, torch.Generator().manual_seed(7)
    levels, timesteps = grid(LinearBetas(), steps), scheduler.timesteps
    if theirs == "fixed_large" and steps < 1000:  # its last step adds noise to what it calls finished; ours does not
        levels, timesteps = levels[:-1], timesteps[:-1]
    for timestep in timesteps:
        x = scheduler.step(ddpm_output("epsilon", x, timestep), timestep, x, generator=generator).prev_sample
    assert_same(x, walk(MIXTURE, Ancestral(ours), levels, START, Drawn(7)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_ddim(eta, prediction):
    scheduler = diffusers.DDIMScheduler(
        **DDPM_TABLE, prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(50)
    x, noise = START, Drawn(3)
    for timestep in scheduler.timesteps:
        fresh = noise(x) if eta else None
        x = scheduler.step(ddpm_output(prediction, x, timestep), timestep, x, eta=eta, variance_noise=fresh).prev_sample
    assert_same(x, walk(MIXTURE, DDIM(eta), grid(LinearBetas(), 50), START, Drawn(3)))


@pytest.mark.parametrize("steps", [20, 40])
def test_dpmpp_2m_is_dpm_solver_multistep(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **DDPM_TABLE,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    x = START
    for timestep in scheduler.timesteps:
        x = scheduler.step(ddpm_output("epsilon", x, timestep), timestep, x).prev_sample
    assert_same(x, walk(MIXTURE, DPMpp2M(), grid(LinearBetas(), steps), START))


def edm_output(x, sigma):
    """EDM's F of its own preconditioning, for images of unit variance: our v with the other sign."""
    t = Level(torch.ones((), dtype=torch.float64), sigma.double())
    return -V.target(*GAUSSIAN(x, t), t)


@pytest.mark.parametrize(
    ("name", "sampler", "settings"),
    [
        ("EDMEulerScheduler", DDIM(), {}),
        (
            "EDMDPMSolverMultistepScheduler",
            DPMpp2M(),
            {"solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"},
        ),
    ],
)
def test_on_karras_levels_ours_are_the_edm_schedulers(name, sampler, settings):
    scheduler = getattr(diffusers, name)(sigma_min=0.004, sigma_max=160.0, sigma_data=1.0, rho=7.0, **settings)
    scheduler.set_timesteps(20)
    levels = grid(Karras(), 20)
    torch.testing.assert_close(scheduler.sigmas.double(), torch.stack([t.sigma for t in levels]), rtol=1e-5, atol=0)
    x = levels[0].norm * START
    ours = walk(GAUSSIAN, sampler, levels, x)
    for i, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(edm_output(x, scheduler.sigmas[i]), timestep, x).prev_sample
    assert_same(x, ours)


def test_heun_is_heun_discrete():
    scheduler = diffusers.HeunDiscreteScheduler(**DDPM_TABLE, timestep_spacing="trailing")
    scheduler.set_timesteps(12)
    one = torch.ones((), dtype=torch.float64)
    levels = [Level(one, sigma * one) for sigma in dict.fromkeys(scheduler.sigmas.tolist())]  # theirs repeat
    x = levels[0].norm * START
    ours = walk(MIXTURE, Heun(), levels, x)
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(x, timestep)  # sets its place in the list; the network's scaling is not ours to use
        sigma = scheduler.sigmas[scheduler.step_index].double()
        eps = MIXTURE(x, Level(one, sigma)).eps
        x = scheduler.step(eps, timestep, x).prev_sample
    assert_same(x, ours)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_on_the_straight_path_ddim_is_flow_match_euler(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    steps = 16
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    levels = grid(Rectified(shift), steps)
    torch.testing.assert_close(scheduler.sigmas.double(), torch.stack([t.sigma for t in levels]), rtol=1e-5, atol=1e-6)
    x, ours = START, walk(MIXTURE, DDIM(), levels, START)
    for t, timestep in zip(levels, scheduler.timesteps, strict=False):
        x = scheduler.step(FLOW.target(*MIXTURE(x, t), t), timestep, x).prev_sample
    assert_same(x, ours)
