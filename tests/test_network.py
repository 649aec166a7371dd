"""What is done to networks for training changes what it costs, never what they compute."""

import copy

import pytest
import torch

from conftest import TINY
from noisekiln.backbones.base import Backbone
from noisekiln.components.registry import names
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.data import DataSet, load
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.training.compiling import compiled
from noisekiln.training.recompute import blocks_of, recompute

every = pytest.mark.parametrize("spec", names("backbones"))


@pytest.fixture
def data(pets) -> DataSet:
    return load(pets)


def gradients(network: Backbone) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Output, gradients, and bytes that are kept between the two passes."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    network.zero_grad()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, network.channels, 32, 32, generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = network(x, torch.rand(4, generator=generator), NOTHING)
    y.square().mean().backward()
    return y, [p.grad.clone() for p in network.parameters() if p.grad is not None], sum(kept.values())


def made(spec: str) -> Backbone:
    torch.manual_seed(0)
    network = build(Backbone, spec, channels=3)
    for parameter in network.parameters():  # the last layers begin at zero, which would hide everything
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    return network


@every
def test_blocks_are_parts_with_weights_and_none_is_within_another(spec):
    network = made(spec)
    blocks = blocks_of(network)
    assert blocks
    assert all(any(True for _ in block.parameters()) for block in blocks)
    within = [part for block in blocks for part in block.modules()]
    assert len(within) == len(set(map(id, within)))


@every
def test_recomputing_changes_no_gradient_and_keeps_less(spec):
    plain, frugal = made(spec), made(spec)
    recompute(frugal)
    y, wanted, kept = gradients(plain)
    again, got, less = gradients(frugal)
    assert torch.equal(y, again)
    assert len(got) == len(wanted) > 3
    assert all(map(torch.equal, got, wanted))
    assert less < (1.0 if spec == "simple_unet" else 0.6) * kept  # that one is three convolutions a side, and no blocks


def test_a_copy_of_a_network_that_recomputes_is_its_own():
    network = made("unet")
    recompute(network)
    other = copy.deepcopy(network)
    before = gradients(other)[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(gradients(other)[0], before)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so(data, tmp_path, monkeypatch):
    def broken(function):
        raise RuntimeError("No working C++ compiler found.\nMore about it.")

    monkeypatch.setattr(torch, "compile", broken)
    settings = Settings(images=32, batch_size=16, backbone=TINY, compile="yes", curves="none")
    run = Run(settings, data, tmp_path)
    assert "not compiled: No working C++ compiler found." in run.notes
    assert len(list(run.steps())) == 2


def test_a_network_that_fails_to_compile_in_its_first_step_runs_as_it_is(data, tmp_path):
    def broken(graph, inputs):
        raise RuntimeError("no kernel for this")

    settings = Settings(images=48, batch_size=16, backbone=TINY, compile="yes", curves="none")
    run, plain = Run(settings, data, tmp_path / "broken"), Run(settings.but(compile="no"), data, tmp_path / "plain")
    run.network.compile(backend=broken)
    losses = [[report.loss for report in each.steps()] for each in (run, plain)]
    assert "no kernel for this" in run.uncompiled
    assert losses[0] == losses[1]
    another = made(TINY)
    another.compile(backend=broken)  # what was given up was this network's, not the whole process's
    with pytest.raises(RuntimeError, match="no kernel for this"):
        another(torch.zeros(1, 3, 8, 8), torch.ones(1), NOTHING)


@pytest.mark.skipif(compiled(torch.nn.Identity(), "cpu") is not None, reason="nothing can be compiled here")
def test_a_compiled_run_is_the_same_run(data, tmp_path):
    settings = Settings(images=48, batch_size=16, backbone=TINY, optimizer="adamw", curves="none", ema_snapshots=0)
    losses = {}
    for way in ("no", "yes"):
        run = Run(settings.but(compile=way), data, tmp_path / way)
        losses[way] = [report.loss for report in run.steps()]
        assert run.notes == []
        assert (run.network._compiled_call_impl is not None) == (way == "yes")
    assert losses["yes"] == pytest.approx(losses["no"], rel=1e-4)


def test_a_run_that_recomputes_is_the_same_run(data, tmp_path):
    settings = Settings(images=48, batch_size=16, backbone=TINY, curves="none", ema_snapshots=0)
    plain, frugal = (
        Run(settings.but(activation_checkpointing=way), data, tmp_path / str(way)) for way in (False, True)
    )
    assert all("forward" in vars(block) for block in blocks_of(frugal.network))
    assert not any("forward" in vars(block) for block in blocks_of(plain.network))
    assert [report.loss for report in plain.steps()] == [report.loss for report in frugal.steps()]


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_a_run_computes_in_the_precision_asked_for(data, tmp_path, name):
    run, seen = (
        Run(Settings(images=16, batch_size=16, backbone=TINY, curves="none", precision=name), data, tmp_path),
        [],
    )
    layer = next(module for module in run.network.modules() if isinstance(module, torch.nn.Conv2d))

    def note(module, given, made):
        if module is layer and module.training:  # copies are counted and sampled in fp32
            seen.append(made.dtype)

    layer.register_forward_hook(note)
    assert len(list(run.steps())) == 1
    assert set(seen) == {{"bf16": torch.bfloat16, "fp32": torch.float32}[name]}
    assert next(run.network.parameters()).dtype == torch.float32
