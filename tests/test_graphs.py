"""Networks by CUDA graphs: which calls are captured, when a graph is used, and that it computes what a call computes.

There is no GPU here: a capture is replaced by one that calls again, into the same memory, as a replay would. The
capture itself is checked on a GPU, by `benchmarks/gpu_checks_graphs.py`.
"""

import copy
import math
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from conftest import TINY
from noisekiln.backbones.base import Backbone
from noisekiln.backbones.unet import Unet
from noisekiln.components.registry import names
from noisekiln.components.spec import build, class_of
from noisekiln.conditions import NOTHING, Cond
from noisekiln.data import DataSet, load
from noisekiln.distributed.ranks import Ranks
from noisekiln.machine import capture, graphs
from noisekiln.machine.capture import Captured, CapturedCall, CapturedTraining
from noisekiln.machine.graphs import GraphedFunction, GraphedNetwork, use_cuda_graphs
from noisekiln.machine.memory import release_cached
from noisekiln.optimizers.muon import MuonOptimizer, orthogonal_together
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.defaults import COMPILE_IMAGES, COMPILE_MINUTES, default_compile, resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.runs.step_changes import StepChanges
from noisekiln.training.compiling import NetworkCompiler

SETTINGS = Settings(images=96, batch_size=16, backbone=TINY, curves="none", ema_snapshots=0, device="cpu")


class Again:
    """Stands for a graph: a replay is a function."""

    def __init__(self, replay):
        self.replay = replay


class Recall(CapturedCall):
    """Calls again, and writes the results to where they were."""

    device = "cpu"

    def __init__(self, call, inputs):
        self.inputs = [None if each is None else each.detach().clone() for each in inputs]
        found = call(*self.inputs)
        self.outputs = (found.clone(),) if isinstance(found, Tensor) else tuple(each.clone() for each in found)
        self.graph = Again(lambda: self._write(call(*self.inputs)))

    def _write(self, found):
        for kept, new in zip(self.outputs, (found,) if isinstance(found, Tensor) else found, strict=True):
            kept.copy_(new)

    @staticmethod
    def stream():
        return 0


class RecallTraining(CapturedTraining):
    """Calls again, with gradients; a second forward pass loses the activations of the first, as in a graph."""

    def __init__(self, call, inputs, network, *, in_place=True):
        self.parameters = [each for each in network.parameters() if each.requires_grad]
        self.last_pass = lambda: None
        self.inputs = [
            None if each is None else each.detach().clone().requires_grad_(each.requires_grad) for each in inputs
        ]
        tensors = [*self.inputs, *self.parameters]
        sources = [each for each in tensors if each is not None and each.requires_grad]
        self.outputs = (torch.zeros_like(inputs[0]),)
        self.gradient = torch.zeros_like(inputs[0])
        self.gradients = [
            torch.zeros_like(each) if each is not None and each.requires_grad else None for each in tensors
        ]

        def forward():
            with torch.enable_grad():
                self.y = call(*self.inputs)
            self.outputs[0].copy_(self.y.detach())

        def backward():
            found = torch.autograd.grad(self.y, sources, self.gradient, allow_unused=True)
            for kept, new in zip([each for each in self.gradients if each is not None], found, strict=True):
                kept.copy_(torch.zeros_like(kept) if new is None else new)

        self.graph, self.backward_graph = Again(forward), Again(backward)


def graphed(network: nn.Module, **options: object) -> GraphedNetwork:
    call = GraphedNetwork(network, capture=Recall, capture_training=RecallTraining, **options)
    network._compiled_call_impl = call
    return call


def inputs(seed: int = 0, count: int = 2) -> tuple[Tensor, Tensor, Cond]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.rand(count, generator=generator), NOTHING


@pytest.fixture
def network() -> Unet:
    torch.manual_seed(0)
    made = Unet(3, widths=(32,), blocks=(1,), patch=1, condition=32)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


@pytest.fixture
def data(pets) -> DataSet:
    return load(pets)


# --- which calls


def test_the_third_call_of_a_shape_is_captured_and_inputs_and_weights_are_read_anew(network):
    call, plain = graphed(network.eval()), copy.deepcopy(network)
    assert plain._compiled_call_impl is None  # a copy shares no graphs
    with torch.no_grad():
        for seed in range(6):
            found = network(*inputs(seed))
            assert torch.equal(found, plain(*inputs(seed)))
            assert len(call.graphs) == (seed >= graphs.EAGER_CALLS)
        kept = found.clone()
        for each in (network, plain):
            each.conv_out.weight.mul_(2)
        assert torch.equal(network(*inputs(9)), plain(*inputs(9)))
        assert torch.equal(found, kept)  # a result is the caller's own
        assert len(call.graphs) == 1
        network(*inputs(0, count=3))
        assert len(call.graphs) == 1  # a last, smaller batch does not come again


def test_weights_elsewhere_other_modes_and_other_precision_are_other_graphs(network):
    call = graphed(network.eval())

    def count(times: int = 3) -> int:
        before = call._captures._calls
        with torch.no_grad():
            for _ in range(times):
                network(*inputs())
        return len(call.graphs) if call._captures._calls > before else -1

    assert count() == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert count() == 2
    network.conv_out.weight = nn.Parameter(network.conv_out.weight.detach().clone())
    assert count(2) == 2  # not the graph of the old weights
    assert count(1) == 3
    handle = network.conv_in.register_forward_hook(lambda *_: None)
    assert count() == -1  # hooks are called
    handle.remove()
    network.conv_out.forward = network.conv_out.forward  # as activation checkpointing does
    assert count() == -1


def test_gradients_of_sampling_counters_and_transformations_are_eager(network):
    call = graphed(network.eval())
    x, noise, cond = inputs()
    for _ in range(4):
        network(x.requires_grad_(), noise, cond).sum().backward()  # as some inverse methods do
    network.train()
    for _ in range(4):
        network(x, noise, cond)  # the graph is for sampling
    with torch.no_grad():
        for _ in range(4):
            torch.func.vmap(lambda one: network(one[None], noise[:1], cond))(x)
        with FlopCounterMode(display=False):
            for _ in range(4):
                network(x, noise, cond)
    assert call.graphs == []
    assert call._captures._calls == 0
    call = graphed(network.eval(), training=True)
    for _ in range(4):
        network(x, noise, cond).sum().backward()  # as in previews of a run
    assert call.graphs == []
    assert call._captures._calls == 0


def test_few_graphs_are_kept_and_an_idle_one_makes_room(network, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    call = graphed(network.eval())
    call._captures.most = 2
    with torch.no_grad():
        for count in (1, 2, 3):
            for _ in range(4):
                network(*inputs(count=count))
        assert [len(each.inputs[0]) for each in call.graphs] == [1, 2]  # of shapes in turn none drives out another
        monkeypatch.setattr(graphs, "IDLE_CALLS", 4)
        network(*inputs(count=3))
        assert [len(each.inputs[0]) for each in call.graphs] == [2, 3]
        release_cached()  # as when memory is short
        assert call.graphs == []
        for _ in range(3):
            network(*inputs(count=3))
        assert len(call.graphs) == 1


def test_what_cannot_be_captured_runs_eagerly_and_is_told_once(network, monkeypatch):
    tried = []

    class Failing(Recall):
        def __init__(self, call, inputs):
            tried.append(1)
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
            except RuntimeError:
                raise RuntimeError("capture has ended")  # noqa: B904 (as the context of the capture does)

    plain = copy.deepcopy(network.eval())
    network._compiled_call_impl = call = GraphedNetwork(network, capture=Failing)
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(6):
            assert torch.equal(network(*inputs()), plain(*inputs()))
    assert len(tried) == 1
    assert [str(each.message) for each in caught] == [
        "CUDA graphs are not used, so this is slower: operation not permitted when stream is capturing"
    ]
    assert call.failure == "operation not permitted when stream is capturing"


# --- training


def losses(trainer) -> list[float]:
    return [report.loss for report in trainer.run()]


@pytest.mark.parametrize("micro_batch_size", [16, 5])
def test_training_by_graphs_is_training(data, micro_batch_size):
    """To the bit, with gradients for the embedding of classes, and added up over micro-batches."""
    settings = resolve(SETTINGS.replace(micro_batch_size=micro_batch_size), data)
    eager, other = (make_trainer(settings, data) for _ in range(2))
    assert isinstance(other.module, Learner)
    call = graphed(other.module.diffusion.denoiser.backbone, training=True)
    assert losses(other) == losses(eager)
    assert any(isinstance(each, RecallTraining) for each in call.graphs)
    ours, theirs = (trainer.module.state_dict() for trainer in (other, eager))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def with_gradients(network, terms) -> list[Tensor]:
    network.zero_grad()
    sum(network(*inputs(seed)).square().mean() for seed in terms).backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_a_second_forward_pass_before_the_backward_pass_is_eager(network):
    plain = copy.deepcopy(network)
    graphed(network.train(), training=True)
    for _ in range(4):
        for ours, theirs in zip(*(with_gradients(each, [1, 2, 3]) for each in (network, plain)), strict=True):
            torch.testing.assert_close(ours, theirs)
    network(*inputs())  # and a pass whose result is dropped holds up nothing
    assert not any(each.busy for each in network._compiled_call_impl.graphs)


def test_a_second_backward_pass_after_another_forward_pass_is_refused(network):
    graphed(network.train(), training=True)
    for _ in range(3):
        with_gradients(network, [1])
    loss = network(*inputs(1)).square().mean()
    loss.backward(retain_graph=True)
    network(*inputs(2))
    with pytest.raises(RuntimeError, match="compile=no"):
        loss.backward()


def test_gradients_are_copies(network):
    graphed(network.train(), training=True)
    for _ in range(3):
        with_gradients(network, [1])
    held = torch.autograd.grad(network(*inputs(1)).sum(), list(network.parameters()))
    kept = [each.clone() for each in held]
    with_gradients(network, [2])
    assert all(map(torch.equal, held, kept))


@pytest.fixture
def dry(monkeypatch) -> None:
    """A capture in which the calls are made, and nothing is recorded."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Again(lambda: None))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(capture, "_capturing", lambda pool: nullcontext())
    monkeypatch.setattr(Captured, "_recording", lambda self, graph, stream: nullcontext())


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_a_capture_has_the_gradients_of_inputs_and_parameters_and_leaves_the_network_as_it_was(network, dry):
    x, noise, _ = inputs()
    network.conv_in.requires_grad_(False)
    parameters = dict(network.named_parameters())
    captured = CapturedTraining(
        lambda x, noise, slot: network(x, noise, NOTHING), [x.requires_grad_(), noise, None], network
    )
    assert all(parameters[name] is each and each.grad is None for name, each in network.named_parameters())
    y = network(x, noise, NOTHING)
    assert torch.equal(captured.outputs[0], y)
    captured.gradient.fill_(0.5)
    found = CapturedTraining.backward(captured, torch.ones_like(y))  # nothing is recorded: zeros, of the right shapes
    trained = [each for each in parameters.values() if each.requires_grad]
    assert [None if each is None else each.shape for each in found] == [
        x.shape,
        None,
        None,
        *(each.shape for each in trained),
    ]
    assert torch.equal(captured.gradient, torch.ones_like(y))
    assert captured.inputs[0] is not x
    assert captured.inputs[0].requires_grad
    assert not captured.outputs[0].requires_grad


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_a_network_that_keeps_parameters_elsewhere_is_not_captured(network, dry):
    """Its gradients would be lost."""
    kept = network.conv_out.weight
    network.conv_out.forward = lambda x: nn.functional.conv2d(x, kept, network.conv_out.bias, padding=1)
    with pytest.raises(RuntimeError, match="keeps some of its parameters elsewhere"):
        CapturedTraining(lambda x, noise: network(x, noise, NOTHING), inputs()[:2], network)
    assert network.conv_out.weight is kept


# --- the setting


def test_the_budget_decides_between_compiling_and_graphs(monkeypatch):
    def way(**changes: object) -> str:
        return default_compile("cuda", Settings(**changes))

    assert [way(minutes=each) for each in (0.5, COMPILE_MINUTES - 1, COMPILE_MINUTES)] == ["graphs", "graphs", "yes"]
    assert [way(images=each) for each in (1000, COMPILE_IMAGES)] == ["graphs", "yes"]
    assert [default_compile("cuda", Settings(epochs=10), images=each) for each in (1, 10**6)] == ["graphs", "yes"]
    assert way(minutes=1, activation_checkpointing=True) == "no"
    assert way(minutes=60, deterministic=True) == "no"
    assert [default_compile(device, Settings(minutes=60)) for device in ("cpu", "mps")] == ["no", "no"]
    with monkeypatch.context() as patched:
        patched.setattr("noisekiln.plan.defaults.world_size", lambda: 2)
        assert way(minutes=1) == "no"
    monkeypatch.setattr(Unet, "static_graph", False)
    assert way(minutes=1) == "no"


def test_graphs_that_are_not_possible_are_told(data, tmp_path):
    run = Run(SETTINGS.replace(compile="graphs", images=16), data, tmp_path)
    assert run.warnings == ["the network does not run by CUDA graphs: they need an Nvidia GPU, and the device is cpu"]
    assert not run.compiler.active
    assert len(list(run.steps())) == 1


def test_graphs_of_a_single_process_may_be_of_a_compiled_network(network):
    class Two(Ranks):
        def __init__(self):
            super().__init__(0, 2)

        def all_reduce_sum(self, values):
            return list(values)

    compiler = NetworkCompiler(network, "cuda", Two())
    compiler.use("graphs")
    assert compiler.failures == [
        "the network does not run by CUDA graphs: they are for a single process, and 2 train together"
    ]
    compiler = NetworkCompiler(network, "cuda")
    compiler.use("graphs")
    assert not compiler.active
    assert compiler.failures == []
    network._compiled_call_impl = compiled = object()
    compiler.use_graphs()
    assert network._compiled_call_impl.compiled is compiled
    assert compiler.active
    compiler.run_eagerly("no kernel for this")  # compiled; graphs stay
    assert not compiler.active
    assert network._compiled_call_impl.compiled is None
    assert compiler.failures == ["the network is not compiled: no kernel for this"]


def test_a_run_tells_that_its_graphs_have_failed(data):
    trainer = make_trainer(resolve(SETTINGS, data), data)
    compiler = NetworkCompiler(trainer.module.diffusion.denoiser.backbone, "cuda")
    compiler.use("graphs")
    changes = StepChanges(trainer, compiler, copies=None)
    assert list(changes.notes()) == []
    compiler.network._compiled_call_impl._captures.failure = "memory is short"
    (note,) = changes.notes()
    assert note.text == "the network does not run by CUDA graphs any more: memory is short"
    assert list(changes.notes()) == []


def test_sampling_uses_graphs_of_networks_with_a_static_graph_unless_training_said_no(data, monkeypatch):
    used = []
    monkeypatch.setattr("noisekiln.model.diffusion.use_cuda_graphs", used.append)
    settings = resolve(SETTINGS.replace(cond="none"), data)
    diffusion = make_learner(settings, data).diffusion
    assert not diffusion.cuda_graphs
    diffusion.bind([None], precision="fp32")
    diffusion.cuda_graphs = True
    diffusion.bind([None], precision="fp32")
    assert used == []  # on a CPU
    monkeypatch.setattr(type(diffusion), "device", torch.device("cuda"))
    diffusion.bind([None], precision="fp32")
    monkeypatch.setattr(Unet, "static_graph", False)
    diffusion.bind([None], precision="fp32")
    assert used == [diffusion.denoiser.backbone]
    use_cuda_graphs(used[0])
    first = used[0]._compiled_call_impl
    use_cuda_graphs(used[0])
    assert used[0]._compiled_call_impl is first


@pytest.mark.parametrize("spec", names("backbones"))
def test_a_static_graph_has_the_same_operations_for_all_values(spec):
    """And none of them waits for the device."""
    assert class_of(Backbone, spec).static_graph
    network = build(Backbone, spec, channels=3, vector=4).train()
    found = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            found[-1].append(operation)
            return operation(*args, **(kwargs or {}))

    for scale in (0.0, 1.0, math.nan):
        found.append([])
        with Log():
            network(torch.randn(2, 3, 32, 32) * scale, torch.rand(2), Cond(vector=torch.randn(2, 4) * scale))
    assert found[0] == found[1] == found[2]
    assert not {"_local_scalar_dense", "nonzero", "is_nonzero"} & {each.overloadpacket.__name__ for each in found[0]}


# --- the optimizer


def test_muon_by_graphs_is_muon(monkeypatch):
    def trained(**options: object) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(8, 4, 3, 3), (8, 8), (4, 8)]]
        optimizer = copy.deepcopy(MuonOptimizer(weights, lr=0.1))
        weights = optimizer.param_groups[0]["params"]
        if options:
            optimizer._orthogonal = GraphedFunction(orthogonal_together, **options)
        for _ in range(6):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        if options:
            assert len(optimizer._orthogonal._captures.graphs) == (3 if options["largest"] > 100 else 0)
        return weights

    expected = trained()
    for largest in (10**6, 10):
        assert all(map(torch.equal, trained(largest=largest, capture=Recall), expected))


def test_a_function_s_graphs_know_the_setting_that_they_were_captured_with():
    scaled = GraphedFunction(lambda tensors, factor: [tensors[0] * factor], largest=100, capture=Recall)
    found = [float(scaled([torch.ones(1)], factor)[0]) for factor in (2, 3) * 4]
    assert found == [2, 3] * 4
    assert len(scaled._captures.graphs) == 2
