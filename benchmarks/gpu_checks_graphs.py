"""Checks of CUDA graphs: they compute what the eager network computes, and what cannot be captured runs eagerly."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpu_checks_training import check_memory
from gpu_tiny import BATCH, Check, Figures, exactly, network_of, random_model, relative, restoring_switches, trainer_on
from gpu_tiny import steps as take_steps
from noisekiln.conditions import Cond
from noisekiln.machine.graphs import GraphedNetwork
from noisekiln.machine.memory import release_cached
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer

STEPS = 8  # of which the third is captured, and all later ones are replayed


def check_training_graphs(device: str) -> Figures:
    """Steps by CUDA graphs are eager steps: in fp32 and bf16, in micro-batches, and after changes of the weights."""
    figures: Figures = {}
    for precision, micro in (("fp32", BATCH), ("bf16", BATCH), ("fp32", BATCH // 4)):
        with restoring_switches():
            trainers = [
                trainer_on(device, precision=precision, micro_batch_size=micro, deterministic=True) for _ in range(2)
            ]
            graphed = _graphed(trainers[1], device)
            states = []
            for trainer in trainers:
                take_steps(trainer, STEPS)
                states.append(trainer.state_dict()[0])
        name = f"{precision}, micro-batch {micro}"
        figures[name] = max(relative(states[1][key].float(), each.float()) for key, each in states[0].items())
        assert figures[name] <= 1e-6, f"weights differ by {figures[name]:.2g} ({name})"
        assert graphed is None or graphed.failure is None, graphed
        assert graphed is None or len(graphed.graphs) > 0, "nothing was captured"
    return figures


def check_sampling_graphs(device: str) -> Figures:
    """Images by CUDA graphs are those of the eager network, also of weights that were changed in place since."""
    with exactly():
        eager, graphed = random_model(device), random_model(device)
        eager.cuda_graphs = False
        away = 0.0
        for scale in (1.0, 1.1):
            with torch.no_grad():
                for model in (eager, graphed):
                    for parameter in model.parameters():
                        parameter.mul_(scale)
            images = [
                each.sample(["even", "odd"], steps=8, guidance=2.0, precision="fp32").cpu().float()
                for each in (eager, graphed)
            ]
            away = max(away, float((images[0] - images[1]).abs().max()))
    call = graphed.denoiser.backbone._compiled_call_impl
    assert device != "cuda" or (isinstance(call, GraphedNetwork) and call.graphs), "nothing was captured"
    assert away <= 1, f"images differ by {away} grey levels"
    return {"grey levels at most": away}


def check_random_graphs(device: str) -> Figures:
    """Dropout within a graph is a function of the seed, as in an eager call, and each replay has numbers of its own."""
    if device != "cuda":
        return {}
    network = _Net(nn.Dropout(0.5)).to(device)
    graphed = GraphedNetwork(network, training=True)
    outputs: dict[str, list[Tensor]] = {"eager": [], "graphs": []}
    for name, call in (("eager", network._call_impl), ("graphs", graphed)):
        for seed in (1, 2, 3, 4, 4, 5):
            torch.manual_seed(seed)
            outputs[name] += [_with_gradient(network, call), _with_gradient(network, call)]
    assert graphed.failure is None, graphed.failure
    assert graphed.graphs, "nothing was captured"
    assert not torch.equal(outputs["graphs"][-2], outputs["graphs"][-1]), "two replays have the same numbers"
    away = max(relative(ours, theirs) for ours, theirs in zip(outputs["graphs"], outputs["eager"], strict=True))
    assert away < 1e-5, f"dropout by graphs differs by {away:.2g}"
    return {"relative difference from eager": away}


def check_failing_graphs(device: str) -> Figures:
    """A network that waits for the device runs eagerly, with a reason; random numbers and later captures still work."""
    if device != "cuda":
        return {}
    network = _Net(nn.Dropout(0.5), waits=True).to(device)
    graphed = GraphedNetwork(network, training=True)
    stream = torch.cuda.current_stream()
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for call, outputs in ((network._call_impl, expected), (graphed, found)):
        torch.manual_seed(0)
        outputs += [_with_gradient(network, call) for _ in range(6)]
    assert graphed.failure, "a network that waits was captured"
    assert torch.cuda.current_stream() == stream
    away = max(relative(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert away < 1e-5, f"after the failure results differ by {away:.2g}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampled = GraphedNetwork(network)
        with torch.no_grad():
            for _ in range(4):
                sampled(*_inputs(device))
    assert [str(each.message) for each in caught if "CUDA graphs" in str(each.message)], "no warning"
    figures = check_random_graphs(device)
    before = torch.cuda.memory_reserved()
    release_cached()
    return figures | {"megabytes released": (before - torch.cuda.memory_reserved()) / 1e6}


class _Net(nn.Module):
    """A network with random numbers, which may wait for the device."""

    def __init__(self, random: nn.Module, *, waits: bool = False) -> None:
        super().__init__()
        self.layer, self.random, self.waits = nn.Conv2d(3, 3, 3, padding=1), random, waits

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        y: Tensor = self.random(self.layer(x)) * noise[:, None, None, None]
        return y + 1 if self.waits and float(y.detach().sum()) == 0 else y


def _inputs(device: str) -> tuple[Tensor, Tensor, Cond]:
    return torch.ones(4, 3, 8, 8, device=device), torch.ones(4, device=device), Cond()


def _with_gradient(network: nn.Module, call: Callable[..., Any]) -> Tensor:
    """Output and gradient, as one vector."""
    network.zero_grad()
    y = call(*_inputs("cuda"))
    y.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat([each.detach().flatten() for each in (y, *gradients)])


def _graphed(trainer: Trainer, device: str) -> GraphedNetwork | None:
    """Have a trainer's network run by CUDA graphs; None where there are none."""
    network = network_of(trainer)
    NetworkCompiler(network, device).use("graphs")
    call = network._compiled_call_impl
    return call if isinstance(call, GraphedNetwork) else None


CHECKS: dict[str, Check] = {
    "graphs in training": check_training_graphs,
    "graphs in sampling": check_sampling_graphs,
    "graphs with random numbers": check_random_graphs,
    "graphs that fail": check_failing_graphs,
    "graphs when memory is short": partial(check_memory, graphs=True),
}
