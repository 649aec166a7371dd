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
from noisekiln.errors import CompileFailed
from noisekiln.plan.build import make_trainer
from noisekiln.plan.defaults import default_compile, resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.training.activation_checkpointing import blocks_of, checkpoint_activations
from noisekiln.training.batches import torch_seeded
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer

SETTINGS = Settings(images=48, batch_size=16, backbone=TINY, curves="none", ema_snapshots=0)

every = pytest.mark.parametrize("spec", names("backbones"))


@pytest.fixture
def data(pets) -> DataSet:
    return load(pets)


def gradients(network: Backbone) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Output, gradients, and bytes that are kept for the backward pass."""
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
    checkpoint_activations(frugal)
    y, expected, kept = gradients(plain)
    again, got, less = gradients(frugal)
    assert torch.equal(y, again)
    assert len(got) == len(expected) > 3
    assert all(map(torch.equal, got, expected))
    assert less < (1.0 if spec == "simple_unet" else 0.6) * kept  # that one is three convolutions a side, and no blocks


def test_a_copy_of_a_network_that_recomputes_is_its_own():
    network = made("unet")
    checkpoint_activations(network)
    other = copy.deepcopy(network)
    before = gradients(other)[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(gradients(other)[0], before)


def trainer_of(data: DataSet, **changes: object) -> tuple[Trainer, Backbone]:
    trainer = make_trainer(resolve(SETTINGS.replace(**changes), data), data)
    assert isinstance(trainer.module, Learner)
    return trainer, trainer.module.diffusion.denoiser.backbone


def losses_of(trainer: Trainer, compiler: NetworkCompiler | None = None) -> list[float]:
    reports = compiler.steps_with_fallback(trainer.run) if compiler else trainer.run()
    return [report.loss for report in reports]


def broken(graph: object, inputs: object) -> None:
    raise RuntimeError("no kernel for this")


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so(data, tmp_path, monkeypatch):
    def missing(function):
        raise RuntimeError("No working C++ compiler found.\nMore about it.")

    monkeypatch.setattr(torch, "compile", missing)
    run = Run(SETTINGS.replace(images=16, compile="yes"), data, tmp_path)
    assert run.compiler.failure == "No working C++ compiler found"
    assert any("not compiled: No working C++ compiler found" in warning for warning in run.warnings)
    assert len(list(run.steps())) == 1


def test_a_deterministic_run_is_compiled_only_on_request_and_without_choices_by_speed(data, monkeypatch):
    assert [default_compile("cuda", Settings(minutes=60, deterministic=on)) for on in (False, True)] == ["yes", "no"]
    monkeypatch.setattr("noisekiln.training.compiling._why_nothing_compiles", lambda device: None)
    chosen, prepared = [], []
    for on in (False, True):
        network = torch.nn.Identity()
        network.compile = lambda **options: chosen.append(options)
        with monkeypatch.context() as patched:
            patched.setattr(torch, "are_deterministic_algorithms_enabled", lambda on=on: on)
            NetworkCompiler(network, "cpu").compile()
    assert chosen == [{"dynamic": False, "options": None}, {"dynamic": False, "options": {"deterministic": True}}]
    monkeypatch.setattr(
        "noisekiln.training.trainer.prepare_for_training", lambda *at, **how: prepared.append((at, how))
    )
    losses = [losses_of(trainer_of(data, deterministic=on)[0]) for on in (False, True)]
    assert prepared == [(("cpu",), {"deterministic": on}) for on in (False, True)]
    assert losses[0] == losses[1]  # a CPU is deterministic in any case


@pytest.mark.slow
def test_a_network_that_fails_to_compile_in_its_first_step_runs_as_it_is(data):
    """In a trial step, or in a step of the loop."""
    expected = losses_of(trainer_of(data)[0])
    for trial in (True, False):
        trainer, network = trainer_of(data)
        compiler = NetworkCompiler(network, "cpu")
        network.compile(backend=broken)
        if trial:
            compiler.with_fallback(trainer.trial_step)
            assert not compiler.active
        assert losses_of(trainer, compiler) == expected
        assert "no kernel for this" in compiler.failure
        assert not compiler.active
    another = made(TINY)
    another.compile(backend=broken)  # what was disabled was this network's, not the whole process's
    with pytest.raises(RuntimeError, match="no kernel for this"):
        another(torch.zeros(1, 3, 8, 8), torch.ones(1), NOTHING)


def test_a_network_that_runs_eagerly_cannot_fail_to_compile():
    """Later failures of other networks are raised."""
    compiler = NetworkCompiler(torch.nn.Identity(), "cpu")

    def failing():
        raise CompileFailed("of something else")
        yield

    with pytest.raises(CompileFailed, match="of something else"):
        list(compiler.steps_with_fallback(failing))
    with pytest.raises(CompileFailed, match="of something else"):
        compiler.with_fallback(lambda: next(failing()))


def test_a_step_compiles_to_one_graph_without_breaks(data):
    """For whole micro-batches and a smaller last one: two graphs."""
    trainer, network = trainer_of(data, micro_batch_size=6)
    graphs = []

    def count(graph, inputs):
        graphs.append(len(inputs))
        return graph.forward

    network.compile(backend=count, dynamic=False, fullgraph=True)
    assert losses_of(trainer) == pytest.approx(losses_of(trainer_of(data, micro_batch_size=6)[0]), rel=1e-5)
    assert len(graphs) == 2


SMALLEST = """
from torch import nn
from noisekiln.backbones.base import Backbone

class Smallest(Backbone):
    def __init__(self, channels, vector=0, tokens=0, image=0):
        super().__init__()
        self.channels, self.vector, self.tokens, self.image = channels, vector, tokens, image
        self.one, self.other = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x, noise, cond):
        return self.other(nn.functional.silu(self.one(x) + noise[:, None, None, None]))
"""  # each kernel takes seconds to compile


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(data, tmp_path):
    (tmp_path / "own.py").write_text(SMALLEST, encoding="utf-8")
    settings = SETTINGS.replace(backbone=f"{tmp_path / 'own.py'}:Smallest", optimizer="adamw", images=32)
    losses = {}
    for way in ("no", "yes"):
        run = Run(settings.replace(compile=way), data, tmp_path / way)
        if run.compiler.failure:
            pytest.skip(f"nothing can be compiled here: {run.compiler.failure}")
        losses[way] = [report.loss for report in run.steps()]
        assert run.warnings == []
        assert run.compiler.active == (way == "yes")
    assert losses["yes"] == pytest.approx(losses["no"], rel=1e-4)


def test_a_run_that_recomputes_is_the_same_run(data):
    (plain, eager), (frugal, network) = (trainer_of(data, activation_checkpointing=way) for way in (False, True))
    assert all("forward" in vars(block) for block in blocks_of(network))
    assert not any("forward" in vars(block) for block in blocks_of(eager))
    assert losses_of(plain) == losses_of(frugal)


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_a_run_computes_in_the_requested_precision(data, name):
    (trainer, network), seen = trainer_of(data, images=16, precision=name), []
    layer = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    layer.register_forward_hook(lambda module, rows, y: seen.append(y.dtype))
    assert len(losses_of(trainer)) == 1
    assert set(seen) == {{"bf16": torch.bfloat16, "fp32": torch.float32}[name]}
    assert next(network.parameters()).dtype == torch.float32


def test_random_numbers_of_a_network_are_seeded_without_looking_for_other_devices(monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    state = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", None)  # which takes milliseconds within a step
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with torch_seeded(5):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert seeded == [5]
