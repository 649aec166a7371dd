"""Calls through CUDA graphs: captured at the third call with the same shapes, and replayed from then on.

A small network is faster than the processor that launches its kernels, 12 microseconds each; a replay launches all of
them at once.
"""

import warnings
import weakref
from collections.abc import Callable, Hashable, Sequence
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.errors import reason_of
from noisekiln.machine.capture import Captured, CapturedCall, CapturedTraining
from noisekiln.machine.memory import is_out_of_memory, release_cached, release_on_demand

EAGER_CALLS = 2  # before a capture: most shapes of a last, smaller batch do not come again
MOST_GRAPHS = 4  # of one network: each keeps the memory of a call
MOST_SHAPES = 16  # of one function: each keeps its inputs and results
IDLE_CALLS = 200  # after which a graph makes room for another one
MOST_COUNTED = 64  # keys whose calls are counted
LOCK = RLock()  # one capture at a time; and no thread changes the inputs of another's replay


class Captures:
    """The graphs of one function, by what they depend on; they are released when memory is short.

    Args:
        most: Graphs that are kept.

    Attributes:
        failure: Reason why no graphs are used any more; None if they are.
        graphs: The graphs, by key.
    """

    def __init__(self, most: int = MOST_GRAPHS) -> None:
        self.most = most
        self.failure: str | None = None
        self.graphs: dict[Hashable, Captured] = {}
        self._last_use: dict[Hashable, int] = {}
        self._counts: dict[Hashable, int] = {}
        self._calls = 0
        release_on_demand(self)

    def find(self, key: Hashable, capture: Callable[[], Captured]) -> Captured | None:
        """The graph for a key, captured if its time has come; None to call eagerly.

        Args:
            key: What the graph depends on: shapes, types, addresses, modes.
            capture: Makes the graph; if it raises, `failure` says why, and no graph is used any more.
        """
        self._calls += 1
        if key not in self.graphs:
            if self.failure is not None or not self._is_due(key) or not self._has_room():
                return None
            try:
                self.graphs[key] = capture()
            except RuntimeError as error:  # of CUDA, of torch, or of a library: whatever cannot be captured
                self.failure = _first_line(error)
            if self.failure is not None:  # only here, as the error keeps memory
                release_cached()
                return None
        self._last_use[key] = self._calls
        return self.graphs[key]

    def release(self) -> None:
        """Delete all graphs; they are captured again later."""
        self.graphs.clear()
        self._counts.clear()

    def _is_due(self, key: Hashable) -> bool:
        if len(self._counts) >= MOST_COUNTED:
            self._counts.clear()
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] > EAGER_CALLS

    def _has_room(self) -> bool:
        if len(self.graphs) < self.most:
            return True
        oldest = min(self.graphs, key=self._last_use.__getitem__)
        if self._calls - self._last_use[oldest] < IDLE_CALLS:
            return False
        del self.graphs[oldest], self._last_use[oldest]
        return True


class GraphedNetwork:
    """A network's calls ``(x, noise, cond)``, through CUDA graphs wherever they compute the same, otherwise eagerly.

    Eager are: the first calls, calls with gradients unless `training`, calls on other devices, of networks with hooks,
    and within transformations. Weights may change in place; weights at other addresses have graphs of their own.

    Args:
        network: The network. Its forward pass must run the same kernels for all inputs of the same shapes.
        training: Whether forward and backward passes of training are captured too; `failure` is then not a warning.
        compiled: The compiled network, which is captured instead.
        capture, capture_training: What makes graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        training: bool = False,
        compiled: Callable[..., Any] | None = None,
        capture: type[CapturedCall] = CapturedCall,
        capture_training: type[CapturedTraining] = CapturedTraining,
    ) -> None:
        self.network = weakref.ref(network)  # which refers to this object
        self.training = training
        self.compiled = compiled
        self.capture = capture
        self.capture_training = capture_training
        self._captures = Captures()

    @property
    def failure(self) -> str | None:
        """Reason why no graphs are used any more; None if they are."""
        return self._captures.failure

    @property
    def graphs(self) -> list[Captured]:
        """The graphs of now."""
        return list(self._captures.graphs.values())

    def __call__(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        """The network's output."""
        network = self.network()
        assert network is not None
        inputs = (x, noise, *cond)
        with LOCK:
            key = self._key(network, inputs)
            captured = None if key is None else self._captures.find(key, lambda: self._captured(network, inputs, cond))
            if key is not None and not self.training:
                _warn_of(self._captures)
            if captured is not None and not captured.busy:
                (y,) = captured(*inputs)
                return y if torch.is_grad_enabled() else y.clone()
        return self._eager(network, x, noise, cond)

    def _eager(self, network: nn.Module, *inputs: Any) -> Tensor:
        y: Tensor = network._call_impl(*inputs) if self.compiled is None else self.compiled(*inputs)
        return y

    def _captured(self, network: nn.Module, inputs: Sequence[Tensor | None], cond: Any) -> Captured:
        def call(x: Tensor, noise: Tensor, *slots: Tensor | None) -> Tensor:
            return self._eager(network, x, noise, type(cond)(*slots))

        if not torch.is_grad_enabled():
            return self.capture(call, inputs)
        return self.capture_training(call, inputs, network, in_place=self.compiled is None)

    def _key(self, network: nn.Module, inputs: Sequence[Tensor | None]) -> Hashable | None:
        """What a graph of this call depends on; None if it must be eager."""
        device, gradients = self.capture.device, torch.is_grad_enabled()
        if self.failure is not None or inputs[0] is None or inputs[0].device.type != device or _transformed():
            return None
        if gradients and not (self.training and network.training):
            return None
        stream, state = self.capture.stream(), _state_of(network)
        if stream is None or state is None:
            return None
        autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        exact = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
        return stream, gradients, autocast, exact, tuple(map(_layout, inputs)), state


class GraphedFunction:
    """A function of tensors without gradients, through CUDA graphs: ``function(tensors, setting)``, a list of tensors.

    Args:
        function: The function, which runs the same kernels for the same shapes and setting.
        largest: Number of elements of all tensors above which it is called eagerly: its kernels are large enough.
        capture: What makes graphs.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Tensor], int], list[Tensor]],
        *,
        largest: int,
        capture: type[CapturedCall] = CapturedCall,
    ) -> None:
        self.function = function
        self.largest = largest
        self.capture = capture
        self._captures = Captures(MOST_SHAPES)

    def __call__(self, tensors: Sequence[Tensor], setting: int) -> list[Tensor]:
        """The results, which the next call with these shapes may overwrite."""
        on_device = all(tensor.device.type == self.capture.device for tensor in tensors)
        if not on_device or self._captures.failure or sum(tensor.numel() for tensor in tensors) > self.largest:
            return self.function(tensors, setting)
        with LOCK:
            key = self.capture.stream(), torch.get_float32_matmul_precision(), setting, tuple(map(_layout, tensors))
            captured = self._captures.find(
                key, lambda: self.capture(lambda *copies: self.function(copies, setting), tensors)
            )
            _warn_of(self._captures)
            return self.function(tensors, setting) if captured is None else list(captured(*tensors))


def use_cuda_graphs(network: nn.Module) -> None:
    """Sample a network through CUDA graphs from now on, unless it is compiled; copies of it are plain."""
    if network._compiled_call_impl is None:
        network._compiled_call_impl = GraphedNetwork(network)


def _warn_of(captures: Captures) -> None:
    """Warn of a capture that has just failed; calls after it do not come here."""
    if captures.failure is not None:
        warnings.warn(f"CUDA graphs are not used, so this is slower: {captures.failure}", stacklevel=4)


def _transformed() -> bool:
    """Whether something watches or changes each operation, such as a counter, `torch.func`, or a compiler."""
    return (
        torch.is_inference_mode_enabled()
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _layout(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad)


def _state_of(network: nn.Module) -> Hashable | None:
    """Modes, and addresses of all weights and buffers; None if the network has hooks or a replaced forward.

    It is written for speed, as every call computes it.
    """
    found: list[Hashable] = []
    modules: list[nn.Module | None] = [network]
    for module in modules:  # grows: `network.modules()` would take several times as long
        if module is None:
            continue
        held = module.__dict__
        if held["_forward_pre_hooks"] or held["_forward_hooks"] or "forward" in held:
            return None
        if held["_backward_pre_hooks"] or held["_backward_hooks"]:
            return None
        found.append(held["training"])
        for table in (held["_parameters"], held["_buffers"]):
            for each in table.values():
                if each is not None:
                    found += (each.data_ptr(), each.requires_grad)
        modules += held["_modules"].values()
    return tuple(found)


def _first_line(error: RuntimeError) -> str:
    """What a failed capture stumbled over; the end of the capture raises as well, and hides it."""
    cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
    return "memory is short" if is_out_of_memory(cause) else reason_of(cause)
