"""Tiny data, trainers and models for the checks of a device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisekiln.backbones.base import Backbone
from noisekiln.data.dataset import DataSet, Split
from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer

Figures = dict[str, float]
Check = Callable[[str], Figures]
"""A check of a device, called with its name: raises AssertionError, or returns what it measured."""

NETWORK = "unet(widths=(32,64),blocks=(1,1),patch=1,attention=(1,),condition=32)"
SIDE, BATCH, STEPS = 8, 16, 4
GREY, MEAN_GREY = 3, 0.1  # difference of an image from the CPU's in grey levels, at most: anywhere, and on average


def noise_data(side: int = SIDE, count: int = 64, channels: int = 3) -> DataSet:
    """Images of noise in two classes."""
    generator = np.random.default_rng(0)

    def part(length: int) -> Split:
        pixels = generator.integers(0, 256, (length, side, side, channels)).astype(np.uint8)
        return Split(pixels, labels=np.arange(length) % 2)

    return DataSet("noise", part(count), part(8), ("even", "odd"), (), (), f"noise {side}x{side}")


def settings_for(device: str, data: DataSet, **changes: object) -> Settings:
    """Resolved settings that the CPU's defaults do not leak into."""
    chosen = {"images": 40 * BATCH, "batch_size": BATCH, "precision": "fp32", "backbone": NETWORK, "curves": "none"}
    chosen |= {"compile": "no"} | changes
    return resolve(Settings.of(**chosen, device="cpu"), data).replace(device=device)


def trainer_on(device: str, data: DataSet | None = None, **changes: object) -> Trainer:
    """A trainer of the tiny network, whose output is not zero from the start."""
    data = data or noise_data()
    trainer = make_trainer(settings_for(device, data, **changes), data)
    _perturb(trainer.module)
    return trainer


def random_model(device: str) -> Diffusion:
    """An untrained model whose output is not zero, on a device: the same at every call."""
    data = noise_data()
    model = make_learner(settings_for("cpu", data), data).diffusion.eval()
    model.cuda_graphs = True
    _perturb(model)
    return model.to(device)


@contextmanager
def exactly() -> Iterator[None]:
    """While it is open, float32 is float32 on CUDA, and kernels are deterministic; open it after a trainer is made."""
    with restoring_switches():
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, False
        torch.use_deterministic_algorithms(True, warn_only=True)
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels are not deterministic in this mode
            yield


@contextmanager
def restoring_switches() -> Iterator[None]:
    """Restores at its end what making a trainer sets for the whole process."""
    cudnn = torch.backends.cudnn
    precision, flags = torch.get_float32_matmul_precision(), (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    efficient, fused = torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(precision)
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = flags
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.backends.cuda.enable_mem_efficient_sdp(efficient)
        torch.backends.cuda.enable_cudnn_sdp(fused)


def steps(trainer: Trainer, count: int = STEPS) -> list[Report]:
    """Some steps of training."""
    return list(islice(trainer.run(), count))


def picture(side: int = SIDE) -> ImageArray:
    """A smooth image, (side, side, 3) uint8."""
    row, column = np.mgrid[0:side, 0:side]
    grey = 128 + 60 * np.sin(row / 3) + 40 * np.cos(column / 4)
    return np.repeat(grey[..., None], 3, axis=2).round().clip(0, 255).astype(np.uint8)


def network_of(trainer: Trainer) -> Backbone:
    """The network that a trainer trains."""
    assert isinstance(trainer.module, Learner)
    return trainer.module.diffusion.denoiser.backbone


def compare(ours: Tensor, theirs: Tensor) -> Figures:
    """How far images are from the CPU's; raises if that is too far."""
    away = (ours.float() - theirs.float()).abs()
    figures = {"grey levels at most": float(away.max()), "grey levels on average": float(away.mean())}
    assert ours.shape == theirs.shape
    assert len(theirs.unique()) > 8, "the CPU's images are empty"
    assert figures["grey levels at most"] <= GREY, f"images differ from the CPU's: {figures}"
    assert figures["grey levels on average"] <= MEAN_GREY, f"images differ from the CPU's: {figures}"
    return figures


def relative(one: Tensor, other: Tensor) -> float:
    """Relative difference of two tensors, by their norms."""
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


def _perturb(module: nn.Module) -> None:
    """Add small noise to the weights, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_((0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter.device))
