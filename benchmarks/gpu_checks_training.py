"""Checks of training on a device, against the CPU."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import noisekiln as nk
from gpu_tiny import (
    BATCH,
    NETWORK,
    SIDE,
    STEPS,
    Check,
    Figures,
    compare,
    exactly,
    network_of,
    noise_data,
    relative,
    restoring_switches,
    settings_for,
    steps,
    trainer_on,
)
from noisekiln.conditions import Cond
from noisekiln.machine.graphs import GraphedNetwork
from noisekiln.machine.memory import release_cached
from noisekiln.machine.transfer import copy_to_host
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.build import make_learner
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.training import checkpoints
from noisekiln.training.batches import Prefetcher
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer

DIFFERENCE = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.05}  # from the CPU in fp32, relative, at most
RESUMED = 3.0  # difference of a resumed run from an uninterrupted one, in differences of two uninterrupted ones
NO_DIFFERENCE = 1e-3  # relative difference that is allowed in any case


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
    network = network_of(trainer)
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
    away = max(relative(one, other) for one, other in zip(*results, strict=True))
    assert away < 0.01, f"compiled and eager differ by {away:.2%}"
    return {"relative difference from eager": away}


def check_resumed(device: str) -> Figures:
    """A run that is resumed is the uninterrupted one: to the bit with the setting `deterministic`, else nearly.

    Nearly is as two uninterrupted runs are equal, whose kernels sum in no fixed order. Muon makes much of that: it
    gives all directions of a gradient one length, also those that hold only rounding.
    """
    resumed, _ = _differences(device, deterministic=True)
    assert resumed == 0, f"resumed weights differ by {resumed:.2g}"
    resumed, again = _differences(device, deterministic=False)
    allowed = max(RESUMED * again, NO_DIFFERENCE)
    assert resumed <= allowed, f"resumed weights differ by {resumed:.2g}, those of two whole runs by {again:.2g}"
    return {"deterministic": 0.0, "as training is": resumed, "two uninterrupted runs": again}


def _differences(device: str, *, deterministic: bool) -> tuple[float, float]:
    """The largest relative difference of a tensor of the state: of a resumed, and of another uninterrupted run."""
    with restoring_switches():
        whole, other, first, second = (trainer_on(device, deterministic=deterministic) for _ in range(4))
        steps(whole)
        steps(other)
        steps(first, STEPS // 2)
        with tempfile.TemporaryDirectory() as folder:
            tensors, numbers = first.state_dict()
            checkpoints.save(Path(folder), first.images_seen, copy_to_host(tensors), numbers)
            found = checkpoints.load_newest(Path(folder))
        assert found is not None
        second.load_state_dict(found.shards, found.state)
        steps(second, STEPS - STEPS // 2)
    expected, resumed, again = (trainer.state_dict()[0] for trainer in (whole, second, other))
    away = [
        max(relative(found[name].float(), tensor.float()) for name, tensor in expected.items())
        for found in (resumed, again)
    ]
    return away[0], away[1]


def check_memory(device: str, *, graphs: bool = False) -> Figures:
    """A batch that does not fit is halved until it does, with the same loss, and training goes on.

    So it does by CUDA graphs, which keep memory, or eagerly if there is none left for a graph.
    """
    on_cuda = device == "cuda"
    whole, short = ((_large() if on_cuda else trainer_on(device)) for _ in range(2))
    loss, needed = steps(whole, 1)[0].loss, 0
    if on_cuda:
        release_cached()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        steps(whole, 1)
        needed = torch.cuda.max_memory_allocated() - held
    del whole
    limit = _limited_to_more_bytes(0.6 * needed) if on_cuda else _limited_to_rows(network_of(short), 4)
    compiler = NetworkCompiler(network_of(short), device)
    compiler.use("graphs" if graphs else "no")
    with limit:
        reports = steps(short, 4)
    assert reports[-1].micro_batch_size < short.batch_size
    assert abs(reports[0].loss / loss - 1) < 0.01, "the loss depends on how the batch is cut"
    call = network_of(short)._compiled_call_impl
    captured = len(call.graphs) if isinstance(call, GraphedNetwork) else 0
    return {"batch": short.batch_size, "micro-batch that fits": reports[-1].micro_batch_size, "graphs": captured}


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
        return compare(*(each.sample(4, steps=8, precision="fp32").cpu() for each in (model, other)))


def _large(**changes: object) -> Trainer:
    """A trainer on the GPU whose activations need much more memory than its weights."""
    return trainer_on("cuda", noise_data(side=32, count=512), batch_size=256, **changes)


@contextmanager
def _limited_to_more_bytes(more: float) -> Iterator[None]:
    """While it is open, this process can have so much more of the GPU's memory than its tensors have."""
    release_cached()
    most = torch.cuda.memory_allocated() + more
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
    "compiled": check_compiled,
}
