"""Training and sampling on a device: on a GPU if there is one, and on a pretended one, which counts what it costs.

The checks are those of `benchmarks/gpu.py`, where they run without pytest; on the CPU they are only walked.
"""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import gpu_checks_sampling
import gpu_checks_training
from gpu_tiny import random_model, steps, trainer_on
from noisekiln.components.registry import names
from pretended_device import DEVICE, pretended_device

ROOT = Path(__file__).resolve().parents[1]
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
)
CHECKS = gpu_checks_training.CHECKS | gpu_checks_sampling.CHECKS
# What this device cannot: autocast, threads, a device's name in settings, a compiler.
NOT_PRETENDED = ("step in bf16", "step in fp16", "prefetched", "run", "compiled")


@pytest.fixture
def device():
    """The pretended device, which has no float64, and its meter."""
    with pretended_device(float64=False) as meter, patch("noisekiln.plan.build.is_async", return_value=False):
        yield meter


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("where", ["cpu", CUDA])
def test_a_device_does_what_the_cpu_does(name, where):
    CHECKS[name](where)


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NOT_PRETENDED])
def test_nothing_is_left_behind_in_main_memory_or_made_in_float64(name, device):
    CHECKS[name](DEVICE)
    assert device.kernels > 100


# --- what a step costs


def test_a_training_step_waits_once_and_copies_its_rows_once(device):
    """Loss and norm come back together. To the device go pixels, ids, noise, and the levels' two coefficients."""
    trainer = trainer_on(DEVICE)
    steps(trainer, 2)
    device.reset()
    steps(trainer, 2)
    assert device.waits.total() == 2 * 1, device.waits
    assert device.to_device.total() <= 2 * 5, device.to_device
    assert device.kernels <= 2 * 800


def test_micro_batches_cost_no_waits(device):
    trainer = trainer_on(DEVICE, micro_batch_size=4)
    steps(trainer, 1)
    device.reset()
    steps(trainer, 1)
    assert device.waits.total() == 1, device.waits
    assert device.to_device.total() <= 3 + 4 * 2, device.to_device


@pytest.mark.parametrize("label", names("noise_labels"))
def test_a_noise_label_costs_a_training_step_two_copies_at_most(label, device):
    """`time` is computed on the CPU, where float64 is."""
    trainer = trainer_on(DEVICE, noise_label=label)
    steps(trainer, 1)
    device.reset()
    steps(trainer, 1)
    assert device.waits.total() <= 1 + 2, device.waits
    assert device.to_device.total() <= 5 + 1, device.to_device


@pytest.mark.parametrize("name", names("samplers"))
def test_a_sampling_step_neither_waits_nor_copies(name, device):
    """Except for fresh noise, which comes from the CPU; a request waits twice: is it finite, and its images."""
    model = random_model(DEVICE)

    def cost(count: int) -> tuple[int, int]:
        device.reset()
        model.sample(["even", "odd"], sampler=name, steps=count, guidance=2.0).cpu()
        return device.to_device.total(), device.waits.total()

    (copies, waits), (more_copies, more_waits) = cost(4), cost(8)
    assert waits == more_waits == 2, device.waits
    noisy = {"ancestral": 1, "resample": 20}.get(name, 0)
    assert copies <= 3 + 4 * noisy
    assert more_copies - copies <= 4 * noisy, device.to_device


# --- the device itself


def test_the_pretended_device_refuses_and_counts(device):
    x = torch.randn(2, 3).to(DEVICE)
    assert (device.to_device.total(), device.kernels) == (1, 0)
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.zeros(3)
    with pytest.raises(TypeError, match="float64"):
        x.double()
    device.reset()
    doubled = x * torch.tensor(2.0, dtype=torch.float64)  # 0-d: an argument
    assert device.kernels == 1
    assert doubled.dtype is torch.float32
    assert torch.equal((x + x).cpu(), doubled.cpu())
    assert device.waits.total() == 2
    assert float(x.sum()) == pytest.approx(float(x.cpu().sum()))
