"""A pretended GPU: tensors that say they are on a device, compute on the CPU, and count what a GPU would feel.

What a CPU alone cannot show is that a tensor was left behind in main memory, that a number was made in float64 where
Apple's GPUs have none, or that a step waits for the device. On this device the first two raise, and the third is
counted, with the line of the package that did it.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

DEVICE = "pretended"
NOT_KERNELS = frozenset(
    [
        "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "new_empty",
        "new_empty_strided", "permute", "_reshape_alias", "select", "slice", "split", "split_with_sizes", "squeeze",
        "t", "transpose", "unbind", "unsqueeze", "_unsafe_view", "view",
    ]
)  # fmt: skip
MAY_MIX = frozenset(
    [
        "_local_scalar_dense", "_to_copy", "copy_", "index", "index_put_", "_index_put_impl_", "is_pinned",
    ]
)  # fmt: skip
MUST_WAIT = frozenset(["_local_scalar_dense", "bincount", "equal", "masked_select", "nonzero", "_unique2"])


class Backend(_DummyBackendModule):
    """What torch asks a device's module for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        """It draws no numbers of its own."""

    def _is_in_bad_fork(self) -> bool:
        return False


if not torch.cuda.is_available():  # once known to torch, it is the accelerator, also beside a GPU
    _setup_privateuseone_for_python_backend(DEVICE, Backend())  # before any gradient is computed


@dataclass
class Meter:
    """What the device has felt.

    Attributes:
        float64: Whether the device has float64; Apple's have not.
        kernels: Launches of kernels.
        to_device: Copies from main memory, by the line that made them.
        waits: Times that the processor waits for the device, by line: copies to main memory, and numbers read.
    """

    float64: bool = True
    kernels: int = 0
    to_device: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        self.kernels = 0
        self.to_device.clear()
        self.waits.clear()


meter = Meter()


class OnDevice(torch.Tensor):
    """A tensor on the device; `held` is what it holds, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE, 0),
        )
        made.held = held.detach()
        return made

    def __repr__(self) -> str:
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, torch.Tensor], context: None, size: Any, stride: Any) -> "OnDevice":
        return OnDevice(parts["held"])

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Operations without a tensor of the device, such as `torch.zeros(3, device=DEVICE)`, come here."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


def run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, computed on the CPU; counted, and refused where a GPU would refuse it."""
    target = kwargs.get("device")
    to_device = target is not None and torch.device(target).type == DEVICE
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_device = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    if not on_device and not to_device:
        return operation(*args, **kwargs)
    name = operation.overloadpacket.__name__
    if on_device and name not in MAY_MIX:
        _refuse_mixture(name, tensors)
    _count(name, args, on_device, target, to_device)
    plain = kwargs | {"device": torch.device("cpu")} if to_device else kwargs
    if name == "_efficientzerotensor":  # zeros without memory, which cannot be held
        operation = torch.ops.aten.zeros.default
    result = operation(*tree_map(_held, args), **tree_map(_held, plain))
    if name == "copy_" or (operation._schema.is_mutable and name.endswith("_") and not name.startswith("_foreach")):
        return args[0] if result is not None else None
    stays = to_device or (on_device and target is None and name != "_local_scalar_dense")
    return tree_map(lambda leaf: _wrapped(leaf, on_device, name), result) if stays else result


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnDevice) else leaf


def _wrapped(leaf: Any, arguments: list[OnDevice], name: str) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.dtype is torch.float64 and not meter.float64:
        raise TypeError(f"float64 on a device that has none: {name} at {calling_line()}")
    return next((each for each in arguments if each.held is leaf), None) or OnDevice(leaf)


def _refuse_mixture(name: str, tensors: list[torch.Tensor]) -> None:
    for tensor in tensors:
        if not isinstance(tensor, OnDevice) and tensor.dim() > 0:  # 0-d ones are arguments of a kernel
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {name} at {calling_line()} has one of shape "
                f"{tuple(tensor.shape)} on the CPU."
            )


def _count(name: str, args: Any, on_device: list[OnDevice], target: Any, to_device: bool) -> None:
    copied_to = name == "copy_" and isinstance(args[0], OnDevice) and not isinstance(args[1], OnDevice)
    copied_from = name == "copy_" and isinstance(args[1], OnDevice) and not isinstance(args[0], OnDevice)
    left = name == "_to_copy" and on_device and target is not None and not to_device
    moved_indices = name.startswith(("index", "_index")) and any(
        isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnDevice) for leaf in tree_leaves(args[1])
    )
    if copied_to or moved_indices or (name == "_to_copy" and to_device and not on_device):
        meter.to_device[calling_line()] += 1
    elif copied_from or left or name in MUST_WAIT:
        meter.waits[calling_line()] += 1
    elif name not in NOT_KERNELS:
        meter.kernels += 1


def calling_line() -> str:
    """The line of the package that the operation comes from, as file:line."""
    frame = sys._getframe(1)
    while frame is not None:
        if "/noisekiln/" in frame.f_code.co_filename:
            return f"{frame.f_code.co_filename.rpartition('/noisekiln/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


@contextmanager
def pretended_device(*, float64: bool = True) -> Iterator[Meter]:
    """While it is open, `DEVICE` can be used in this thread, and the meter counts what it feels."""
    make_tensor: Callable[..., torch.Tensor] = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        return make_tensor(data, **options).to(device)  # its constructor in C++ knows nothing of this device

    meter.reset()
    meter.float64 = float64
    with patch("torch.tensor", tensor), _Factories():
        yield meter
