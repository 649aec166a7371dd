"""Speed of training and sampling on a device, measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gpu_tiny import network_of, noise_data
from noisekiln.data.dataset import DataSet
from noisekiln.machine.autocast import DTYPES
from noisekiln.machine.speed import peak_flops_per_second, peak_memory, reset_peak_memory
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.workload import Workload, flops_per_image
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer

SAMPLING_STEPS = 20
WARM_UP_STEPS = 5  # memory is allocated, kernels are chosen or compiled, and captured in the third


class Case(NamedTuple):
    """What is trained: a size of the default network on images of a side, in a precision."""

    model: str
    side: int
    precision: str

    def __str__(self) -> str:
        return f"{self.model} {self.side}x{self.side} {self.precision}"


@dataclass(frozen=True)
class Bench:
    """How figures are measured.

    Args:
        device: "cuda", "mps" or "cpu".
        batch_size: Images in a step of training.
        images: Images in the data.
        seconds: Time to measure a speed over; at least three steps are taken.
        compiler: Backend of torch.compile.
    """

    device: str
    batch_size: int = 256
    images: int = 2048
    seconds: float = 1.0
    compiler: str = "inductor"

    def trainer(self, case: Case) -> Trainer:
        """A trainer at the defaults, which runs eagerly."""
        return make_trainer(self._settings(case), data_of(case.side, self.images))

    def model(self, case: Case, *, graphs: bool) -> Diffusion:
        """An untrained model, ready to sample, by CUDA graphs or eagerly."""
        model = make_learner(self._settings(case), data_of(case.side, self.images)).diffusion.eval()
        model.cuda_graphs = graphs
        return model

    def _settings(self, case: Case) -> Settings:
        chosen = Settings(
            images=10**6 * self.batch_size,
            batch_size=self.batch_size,
            device=self.device,
            model=case.model,
            precision=case.precision,
            curves="none",
            compile="no",
        )
        return resolve(chosen, data_of(case.side, self.images))


@cache
def data_of(side: int, count: int) -> DataSet:
    """Noise in two classes, made once for a side."""
    return noise_data(side=side, count=count)


# --- training


def training_speed(bench: Bench, case: Case, *, graphs: bool = False) -> dict[str, Any]:
    """Speed of training and what it takes of the device, eager or by CUDA graphs.

    Args:
        bench: How it is measured.
        case: What is trained.
        graphs: Whether the network runs by CUDA graphs.
    """
    trainer = bench.trainer(case)
    if graphs:
        _use_graphs(trainer, bench.device)
    return _speed_of(bench, case, trainer, trainer.run())


def compiled_speed(bench: Bench, case: Case) -> dict[str, Any]:
    """Speed of training with a compiled network, and then of the same by CUDA graphs as well."""
    trainer = bench.trainer(case)
    network_of(trainer).compile(dynamic=False, fullgraph=True, backend=bench.compiler)
    run = trainer.run()
    compiled = _speed_of(bench, case, trainer, run)
    _use_graphs(trainer, bench.device)
    both = _speed_of(bench, case, trainer, run)
    return compiled | {f"{name}, with graphs": both[name] for name in ("images_per_second", "ms_per_step")}


def _use_graphs(trainer: Trainer, device: str) -> None:
    compiler = NetworkCompiler(network_of(trainer), device)
    compiler.use("graphs")
    assert device != "cuda" or compiler.graphs_failure is None, compiler.graphs_failure


def _speed_of(bench: Bench, case: Case, trainer: Trainer, run: Iterator[Report]) -> dict[str, Any]:
    reset_peak_memory(bench.device)
    start_time = time.perf_counter()
    list(islice(run, WARM_UP_STEPS))
    first = time.perf_counter() - start_time
    start_time, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - start_time < bench.seconds:
        next(run)  # waits for the device, as it reads the loss
        count += 1
    speed = count * bench.batch_size / (time.perf_counter() - start_time)
    memory = peak_memory(bench.device)
    return {
        "images_per_second": _short(speed),
        "ms_per_step": _short(1000 * bench.batch_size / speed),
        "share_of_peak": _short(_workload(bench, case).at(speed).get("share_of_peak")),
        "memory_gb": _short(None if memory is None else memory / 1e9),
        "first_steps_seconds": _short(first),
        "steps": count,
    }


@cache
def _workload(bench: Bench, case: Case) -> Workload:
    return Workload(_flops(bench, case.model, case.side), peak_flops_per_second(bench.device, DTYPES[case.precision]))


@cache
def _flops(bench: Bench, model: str, side: int) -> float | None:
    trainer = bench.trainer(Case(model, side, "fp32"))
    assert isinstance(trainer.module, Learner)
    return flops_per_image(trainer.module, trainer.batches)


def parts_of_a_step(bench: Bench, case: Case, *, graphs: bool) -> dict[str, Any]:
    """Where a step's time goes: kernels, how long the device computes, and the optimizers' share."""
    trainer = bench.trainer(case)
    if graphs:
        _use_graphs(trainer, bench.device)
    run, on_cuda = trainer.run(), bench.device == "cuda"
    list(islice(run, WARM_UP_STEPS))
    start_time = time.perf_counter()
    list(islice(run, 3))
    seconds = time.perf_counter() - start_time
    with profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]) as profiled:
        list(islice(run, 3))
    spent = _time_optimizers(trainer, bench.device)
    list(islice(run, 3))
    optimizers = sum(spent)
    events = [event for event in profiled.events() or () if not on_cuda or event.device_type.name == "CUDA"]
    busy = sum(event.self_device_time_total for event in events) / 1e6
    return {
        "ms_per_step": _short(1000 * seconds / 3),
        "optimizer_ms": _short(1000 * optimizers / 3),
        "optimizer_share": _short(optimizers / seconds),
        "kernels_per_step" if on_cuda else "operations_per_step": len(events) // 3,
        "device_busy_share": _short(busy / seconds) if on_cuda else None,
    }


def _time_optimizers(trainer: Trainer, device: str) -> list[float]:
    """A list that every step of an optimizer of the trainer adds its seconds to, the device waited for."""
    spent: list[float] = []
    started: list[float] = []

    def before(*_: Any) -> None:
        synchronize(device)
        started.append(time.perf_counter())

    def after(*_: Any) -> None:
        synchronize(device)
        spent.append(time.perf_counter() - started.pop())

    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
    return spent


# --- sampling


def sampling_speed(bench: Bench, case: Case, count: int, *, graphs: bool) -> dict[str, Any]:
    """Latency of a request of so many images, in 20 steps, without guidance."""
    model = bench.model(case, graphs=graphs)

    def request(seed: int) -> Tensor:
        chosen: dict[str, Any] = {"steps": SAMPLING_STEPS, "guidance": 1.0, "precision": case.precision}
        return model.sample(["even"] * count, seed=seed, **chosen).cpu()

    start_time = time.perf_counter()
    request(0)
    first = time.perf_counter() - start_time
    durations: list[float] = []
    while len(durations) < 2 or sum(durations) < bench.seconds:
        start_time = time.perf_counter()
        request(len(durations))
        durations.append(time.perf_counter() - start_time)
    latency = sorted(durations)[len(durations) // 2]
    return {
        "latency_ms": _short(1000 * latency),
        "images_per_second": _short(count / latency),
        "first_request_seconds": _short(first),
    }


def synchronize(device: str) -> None:
    """Wait until a device has done all that it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")
