"""Checks of a device against the CPU: plain functions of its name, which `gpu.py` and tests/test_gpu.py both call.

Each raises AssertionError where the device does something else than it should, and returns what it measured. All of
them take tiny networks; on the CPU they show that they can be walked.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import noisekiln as nk
from noisekiln.backbones.base import Backbone
from noisekiln.components.registry import names
from noisekiln.conditions import Cond
from noisekiln.data.dataset import DataSet, Images
from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.examples import TrainingBatches
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training import checkpoints
from noisekiln.training.batches import Prefetcher
from noisekiln.training.trainer import Report, Trainer

Figures = dict[str, float]
Check = Callable[[str], Figures]

NETWORK = "unet(widths=(32,64),blocks=(1,1),patch=1,attention=(1,),condition=32)"
SIDE, BATCH, STEPS = 8, 16, 4
DIFFERENCE = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.05}  # from the CPU in fp32, relative, at most
GREY, MEAN_GREY = 3, 0.1  # difference of an image from the CPU's in grey levels, at most: anywhere, and on average
RESUMED = 0.05  # relative difference of resumed weights where kernels are not deterministic, at most


def noise_data(side: int = SIDE, count: int = 64, channels: int = 3) -> DataSet:
    """Images of noise in two classes."""
    generator = np.random.default_rng(0)

    def part(length: int) -> Images:
        pixels = generator.integers(0, 256, (length, side, side, channels)).astype(np.uint8)
        return Images(pixels, labels=np.arange(length) % 2)

    return DataSet("noise", part(count), part(8), ("even", "odd"), (), (), f"noise {side}x{side}")


def settings_for(device: str, data: DataSet, **changes: object) -> Settings:
    """Resolved settings that the CPU's defaults do not leak into."""
    chosen = {"images": 40 * BATCH, "batch_size": BATCH, "precision": "fp32", "backbone": NETWORK, "curves": "none"}
    chosen |= {"compile": "no"} | changes
    return resolve(Settings.of(**chosen, device="cpu"), data).but(device=device)


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
    _perturb(model)
    return model.to(device)


@contextmanager
def exactly() -> Iterator[None]:
    """While it is open, float32 is float32 on CUDA, and kernels are deterministic; open it after a trainer is made."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


def steps(trainer: Trainer, count: int = STEPS) -> list[Report]:
    """Some steps of training."""
    return list(islice(trainer.run(), count))


# --- training


def check_step(device: str, precision: str) -> Figures:
    """Training steps have the losses and gradient norms that the CPU has in fp32."""
    theirs, ours = (steps(trainer_on(at, precision=of)) for at, of in (("cpu", "fp32"), (device, precision)))
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one.applied]
    figures = {
        "loss": max((abs(one.loss / other.loss - 1) for one, other in pairs), default=0),
        "gradient norm": max((abs(one.grad_norm / other.grad_norm - 1) for one, other in pairs), default=0),
        "skipped steps": STEPS - len(pairs),
    }
    away = max(figures["loss"], figures["gradient norm"])
    assert away <= DIFFERENCE[precision], f"relative differences from the CPU's are {figures}"
    assert len(pairs) == STEPS or precision == "fp16", figures  # which finds its loss scale by skipping steps
    return figures


def check_compiled(device: str) -> Figures:
    """The network compiles to one graph, forward and backward, and computes what it computes eagerly."""
    trainer = trainer_on(device)
    network = _network(trainer)
    x, noise = torch.randn(4, 3, SIDE, SIDE).to(device), torch.rand(4).to(device)
    cond = Cond(vector=torch.randn(4, network.vector).to(device)) if network.vector else Cond()
    explained = torch._dynamo.explain(network)(x, noise, cond)
    assert explained.graph_break_count == 0, f"graph breaks: {explained.break_reasons}"
    backend = "inductor" if device == "cuda" else "eager"
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend=backend)
    results = []
    for call in (network, compiled):
        network.zero_grad()
        y = call(x, noise, cond)
        y.square().mean().backward()
        gradients = [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
        results.append((y.detach(), torch.cat(gradients)))
    away = max(_relative(one, other) for one, other in zip(*results, strict=True))
    assert away < 0.01, f"compiled and eager differ by {away:.2%}"
    return {"relative difference from eager": away}


def check_resumed(device: str) -> Figures:
    """A run that is resumed is the uninterrupted one: to the bit where kernels are deterministic, else nearly."""
    figures = {"deterministic": _resumed_difference(device, exactly), "as training is": 0.0}
    assert figures["deterministic"] == 0, f"resumed weights differ by {figures['deterministic']:.2g}"
    figures["as training is"] = _resumed_difference(device, nullcontext)
    assert figures["as training is"] <= RESUMED, f"resumed weights differ by {figures['as training is']:.2g}"
    return figures


def _resumed_difference(device: str, meanwhile: Callable[[], AbstractContextManager[None]]) -> float:
    """The largest relative difference of a tensor of the resumed run's state."""
    whole, first, second = (trainer_on(device) for _ in range(3))
    with meanwhile():  # making a trainer sets what `exactly` sets
        steps(whole)
        steps(first, STEPS // 2)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.save(Path(folder), first.images_seen, *first.state_dict())
            found = checkpoints.newest(Path(folder))
        assert found is not None
        second.load_state_dict(found.parts, found.numbers)
        steps(second, STEPS - STEPS // 2)
    expected, resumed = whole.state_dict()[0], second.state_dict()[0]
    return max(_relative(resumed[name].float(), tensor.float()) for name, tensor in expected.items())


def check_memory(device: str) -> Figures:
    """A batch that does not fit is halved until it does, with the same loss, and training goes on."""
    small = trainer_on(device, micro_batch_size=4) if device != "cuda" else _large(micro_batch_size=32)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    loss = steps(small, 1)[0].loss
    needed = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    del small
    large = trainer_on(device) if device != "cuda" else _large()
    with _limited_to_bytes(1.2 * needed) if device == "cuda" else _limited_to_rows(_network(large), 4):
        reports = steps(large, 3)
    assert reports[-1].micro_batch_size < large.batch_size
    assert abs(reports[0].loss / loss - 1) < 0.01, "the loss depends on how the batch is cut"
    return {"batch": large.batch_size, "micro-batch that fits": reports[-1].micro_batch_size}


def check_prefetched(device: str) -> Figures:
    """Batches made ahead, in threads and a stream of their own, are those made in place."""
    data = noise_data()
    settings = settings_for(device, data)
    batches = TrainingBatches(make_learner(settings, data), data, settings)
    ahead, plain = (Prefetcher(batches, 0, BATCH, range(BATCH), ahead=on, device=device) for on in (True, False))
    busy = torch.ones(2048, 2048).to(device) if device == "cuda" else torch.ones(8, 8).to(device)
    for step in range(20):
        for _ in range(10):
            busy = busy @ busy / len(busy)  # keeps the main stream behind
        rows, expected = ahead(step * BATCH), plain(step * BATCH)
        for one, other in zip(rows, expected, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or torch.equal(one.cpu(), other.cpu()), f"step {step} has other rows"
    return {"steps": 20}


def check_run(device: str) -> Figures:
    """A run in a folder trains, draws, evaluates and saves on the device, and its model samples the same on the CPU."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (64, SIDE, SIDE, 3)).astype(np.uint8)
    chosen: dict[str, Any] = {"images": 30 * BATCH, "batch_size": BATCH, "backbone": NETWORK, "curves": "none"}
    with tempfile.TemporaryDirectory() as folder:
        model = nk.train(images, out=folder, device=device, precision="fp32", compile="no", **chosen)
        assert list((Path(folder) / "samples").glob("*.png"))
        other = Diffusion.load(folder)
    with exactly():
        return _compare(model.sample(4, steps=8).cpu(), other.sample(4, steps=8))


# --- sampling and uses


def check_sampler(device: str, sampler: str) -> Figures:
    """The same seeds give the CPU's images: noise is drawn there."""
    with exactly():
        ours, theirs = (
            random_model(at).sample(["even", "odd", None, "odd"], sampler=sampler, steps=8, guidance=2.0, seed=3)
            for at in (device, "cpu")
        )
    return _compare(ours.cpu(), theirs)


def check_inverse(device: str, method: str) -> Figures:
    """An inverse method finds what it finds on the CPU."""
    small = picture(SIDE // 2)
    with exactly():
        ours, theirs = (
            nk.restore(random_model(at), small, "downsample(factor=2)", method=method, count=2, steps=6)
            for at in (device, "cpu")
        )
    return _compare(ours.cpu(), theirs)


def check_use(device: str, use: str) -> Figures:
    """A use of a model makes the images that it makes on the CPU."""
    with exactly():
        ours, theirs = (USES[use](random_model(at)) for at in (device, "cpu"))
    return _compare(ours.cpu(), theirs)


def picture(side: int = SIDE) -> ImageArray:
    """A smooth image, (side, side, 3) uint8."""
    row, column = np.mgrid[0:side, 0:side]
    grey = 128 + 60 * np.sin(row / 3) + 40 * np.cos(column / 4)
    return np.repeat(grey[..., None], 3, axis=2).round().clip(0, 255).astype(np.uint8)


def _hole() -> Tensor:
    missing = torch.zeros(SIDE, SIDE)
    missing[2:6, 2:6] = 1
    return missing


USES: dict[str, Callable[[Diffusion], Tensor]] = {
    "edit": lambda model: nk.edit(model, picture(), condition="odd", count=2, steps=6),
    "inpaint": lambda model: nk.inpaint(model, picture(), _hole(), count=2, steps=6),
    "interpolate": lambda model: nk.interpolate(model, [1, 2], frames=2, steps=6),
    "outpaint": lambda model: nk.outpaint(model, picture(), right=4, count=1, steps=6),
    "style": lambda model: nk.style(model, picture(), condition="odd", steps=6),
    "tiles": lambda model: model.sample(2, size=(2 * SIDE - 4, SIDE), steps=6),
    "upscale": lambda model: nk.upscale(model, picture(), factor=2, count=1, steps=6),
    "variations": lambda model: nk.variations(model, picture(), count=2, steps=6),
}


# --- details


def _compare(ours: Tensor, theirs: Tensor) -> Figures:
    away = (ours.float() - theirs.float()).abs()
    figures = {"grey levels at most": float(away.max()), "grey levels on average": float(away.mean())}
    assert ours.shape == theirs.shape
    assert len(theirs.unique()) > 8, "the CPU's images are empty"
    assert figures["grey levels at most"] <= GREY, f"images differ from the CPU's: {figures}"
    assert figures["grey levels on average"] <= MEAN_GREY, f"images differ from the CPU's: {figures}"
    return figures


def _perturb(module: nn.Module) -> None:
    """Add small noise to the weights, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_((0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter.device))


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


def _network(trainer: Trainer) -> Backbone:
    assert isinstance(trainer.module, Learner)
    return trainer.module.diffusion.denoiser.backbone


def _large(**changes: object) -> Trainer:
    """A trainer on the GPU whose activations need much more memory than its weights."""
    return trainer_on("cuda", noise_data(side=32, count=512), batch_size=256, **changes)


@contextmanager
def _limited_to_bytes(most: float) -> Iterator[None]:
    """While it is open, this process can have no more of the GPU's memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / torch.cuda.get_device_properties(0).total_memory))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def _limited_to_rows(network: nn.Module, most: int) -> Iterator[None]:
    """While it is open, a network acts as if memory ran out with more rows."""

    def refuse(module: nn.Module, arguments: Sequence[Tensor]) -> None:
        if len(arguments[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = network.register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


CHECKS: dict[str, Check] = {
    "step in fp32": partial(check_step, precision="fp32"),
    "step in bf16": partial(check_step, precision="bf16"),
    "step in fp16": partial(check_step, precision="fp16"),
    "memory that runs out": check_memory,
    "resumed": check_resumed,
    "prefetched": check_prefetched,
    "run": check_run,
    **{f"sampler {name}": partial(check_sampler, sampler=name) for name in names("samplers")},
    **{f"inverse {name}": partial(check_inverse, method=name) for name in names("inverse")},
    **{use: partial(check_use, use=use) for use in USES},
    "compiled": check_compiled,
}
