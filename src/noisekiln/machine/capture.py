"""CUDA graphs: the kernels of a call, captured once and then replayed without launching each of them."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WARM_UPS = 2  # calls in the stream of the capture before it, in which libraries allocate and choose


class Captured(ABC):
    """The kernels of ``call(*inputs)``, to be replayed for other inputs of the same shapes.

    Weights are read where they are: a replay sees what has been changed in place. Random numbers continue those of
    torch's generator, as in a call. The memory of all intermediate results is kept.

    Args:
        call: Function that runs the same kernels at every call.
        inputs: Its arguments, of which copies are kept; None stays None.

    Raises:
        RuntimeError: If something in the call cannot be captured, or memory runs out; torch is left as it was.
    """

    device: ClassVar[str] = "cuda"

    def __init__(self, call: Callable[..., Any], inputs: Sequence[Tensor | None]) -> None:
        self.inputs = [_copy_of(tensor) for tensor in inputs]
        self.outputs: tuple[Tensor, ...] = ()
        self.graph, self.pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        with _capturing(self.pool) as stream:
            self._capture(call, stream)

    @staticmethod
    def stream() -> int | None:
        """Number of the current stream, whose calls must not share graphs with another's; None within a capture."""
        return None if torch.cuda.is_current_stream_capturing() else torch.cuda.current_stream().cuda_stream

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a replay would overwrite what an earlier one still needs."""

    @abstractmethod
    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """The results for these inputs."""

    @abstractmethod
    def _capture(self, call: Callable[..., Any], stream: torch.cuda.Stream) -> None:
        """Capture the call for `inputs`, and set `outputs`."""

    def replay(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Copy the inputs, and replay; the results are overwritten by the next replay."""
        for kept, tensor in zip(self.inputs, inputs, strict=True):
            if kept is not None and tensor is not None:
                kept.copy_(tensor)
        self.graph.replay()
        return self.outputs

    def _recording(self, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> torch.cuda.graph:
        """A context whose kernels become a graph; other threads may allocate and copy meanwhile."""
        return torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local")


class CapturedCall(Captured):
    """The kernels of a call without gradients."""

    @property
    def busy(self) -> bool:  # noqa: D102 (the base class says it)
        return False

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """The results, which are overwritten by the next replay."""
        return self.replay(inputs)

    def _capture(self, call: Callable[..., Any], stream: torch.cuda.Stream) -> None:
        for _ in range(WARM_UPS):
            call(*self.inputs)
        with self._recording(self.graph, stream):
            found = call(*self.inputs)
            self.outputs = (found,) if isinstance(found, Tensor) else tuple(found)


class CapturedTraining(Captured):
    """The kernels of a network's forward and backward pass; called with gradients, the result has them too.

    Args:
        call: The network's call.
        inputs: Its arguments.
        network: The network, whose parameters get gradients.
        in_place: Whether the call reads its parameters where the modules hold them, as a compiled one does not.
    """

    def __init__(
        self, call: Callable[..., Any], inputs: Sequence[Tensor | None], network: nn.Module, *, in_place: bool = True
    ) -> None:
        self.parameters: list[Tensor] = _parameters_to_train(network)
        self._leaves = partial(_fresh_leaves, network) if in_place else lambda: nullcontext(self.parameters)
        self.backward_graph = torch.cuda.CUDAGraph()
        self.last_pass: Callable[[], Pass | None] = lambda: None
        super().__init__(call, inputs)

    @property
    def busy(self) -> bool:
        """Whether a forward pass still waits for its backward pass, whose activations another would overwrite."""
        last = self.last_pass()
        return last is not None and not last.done

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """The results, which are the caller's own, with gradients for inputs and parameters."""
        return (_Replay.apply(self, *inputs, *self.parameters),)  # type: ignore[no-untyped-call]  # torch has no types here

    def forward(self, inputs: Sequence[Tensor | None]) -> Tensor:
        """Replay the forward pass; the result is a copy."""
        return self.replay(inputs[: len(self.inputs)])[0].clone()

    def backward(self, gradient: Tensor) -> list[Tensor | None]:
        """Replay the backward pass; copies of the gradients of all inputs and parameters."""
        self.gradient.copy_(gradient)
        self.backward_graph.replay()
        found = [each for each in self.gradients if each is not None]
        copies = iter(torch._foreach_mul(found, 1.0))  # a copy of all of them in a few kernels
        return [None if each is None else next(copies) for each in self.gradients]

    def _capture(self, call: Callable[..., Any], stream: torch.cuda.Stream) -> None:
        y = call(*self.inputs)
        expected = _gradients(y, [*self.inputs, *self.parameters], torch.zeros_like(y))
        with self._leaves() as leaves:
            sources = [*self.inputs, *leaves]
            for _ in range(WARM_UPS):
                y = call(*self.inputs)
                _gradients(y, sources, torch.zeros_like(y))
            with self._recording(self.graph, stream):
                y = call(*self.inputs)
            self.gradient = torch.zeros_like(y)
            with self._recording(self.backward_graph, stream):
                self.gradients = _gradients(y, sources, self.gradient)
        self.outputs = (y.detach(),)
        if [each is None for each in expected] != [each is None for each in self.gradients]:
            raise RuntimeError("the network keeps some of its parameters elsewhere than in its modules")


class Pass:
    """A forward pass: `done` once its gradients are computed."""

    done = False


class _Replay(torch.autograd.Function):
    """Replays of a `CapturedTraining` as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, captured: CapturedTraining, *tensors: Tensor | None) -> Tensor:
        ctx.captured, ctx.this_pass = captured, Pass()
        captured.last_pass = weakref.ref(ctx.this_pass)
        return captured.forward(tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.captured.last_pass() is not ctx.this_pass:
            raise RuntimeError(
                "A network that runs by CUDA graphs was called again before this second backward pass, so the "
                "activations are gone. Give `compile=no`."
            )
        gradients = ctx.captured.backward(gradient)
        ctx.this_pass.done = True
        return None, *gradients


def _copy_of(tensor: Tensor | None) -> Tensor | None:
    """A copy of the same layout and with `requires_grad`, outside of the autograd graph."""
    return None if tensor is None else tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _gradients(y: Tensor, sources: Sequence[Tensor | None], gradient: Tensor) -> list[Tensor | None]:
    """Gradients of the sources, None for those without; computed without autocast, as a backward pass is."""
    leaves = [tensor for tensor in sources if tensor is not None and tensor.requires_grad]
    with torch.autocast("cuda", enabled=False):
        found = iter(torch.autograd.grad(y, leaves, gradient, allow_unused=True))
    return [next(found) if tensor is not None and tensor.requires_grad else None for tensor in sources]


def _parameters_to_train(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


@contextmanager
def _fresh_leaves(network: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, the network's parameters are other leaves of the autograd graph in the same memory.

    Where a parameter's gradient arrives is bound to the stream of the calls whose graphs still live, such as those of
    a micro-batch before; a capture must stay in its own stream.
    """
    tables = [
        (module._parameters, name, each) for module in network.modules() for name, each in module._parameters.items()
    ]
    fresh = {id(each): nn.Parameter(each.detach(), each.requires_grad) for _, _, each in tables if each is not None}
    try:
        for table, name, each in tables:
            table[name] = None if each is None else fresh[id(each)]
        yield _parameters_to_train(network)
    finally:
        for table, name, each in tables:
            table[name] = each


@cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    """The stream of all captures: libraries keep a workspace for each stream that they have seen."""
    return torch.cuda.Stream(device)


@contextmanager
def _capturing(pool: Any) -> Iterator[torch.cuda.Stream]:
    """The stream of captures, current within; autocast keeps no copies of weights, which a replay would not make again.

    Afterwards stream and random generators are as before, also if a capture has failed, after which torch leaves
    stream, generator and allocator in the middle of it.
    """
    device, before = torch.cuda.current_device(), torch.cuda.current_stream()
    autocast = torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    )
    stream = _capture_stream(device)
    stream.wait_stream(before)
    with torch.random.fork_rng([device], device_type="cuda"):
        try:
            with torch.cuda.stream(stream), autocast:
                yield stream
        except RuntimeError:
            generator = torch.cuda.default_generators[device]
            generator.graphsafe_set_state(torch.Generator(f"cuda:{device}").graphsafe_get_state())
            with suppress(RuntimeError):  # the allocator has left the pool already
                torch._C._cuda_endAllocateToPool(device, pool)
                torch._C._cuda_releasePool(device, pool)
            raise
        finally:
            torch.cuda.set_stream(before)
    before.wait_stream(stream)
