"""Copies between main memory and a device, without waiting of one for the other."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noisekiln.machine.devices import as_device

Module = TypeVar("Module", bound=nn.Module)


def to_device(tensor: Tensor, device: str | torch.device) -> Tensor:
    """The tensor on a device; to CUDA via pinned memory, in the order of the current stream."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # the pinned copy lives until the transfer has ended


def module_to_device(module: Module, device: str | torch.device | None) -> Module:
    """The module, moved to a device, with channels-last weights: the layout in which convolutions are fastest."""
    module.to(as_device(device))
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's type hints lack the argument
    return module


def copy_to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in main memory that share nothing with the tensors; from CUDA all at once, into pinned memory."""
    copies = {name: start_copy(tensor) for name, tensor in tensors.items()}
    finish_copies(tensors.values())
    return copies


def copy_module_to_host(module: Module, stand_ins: Mapping[nn.Module, nn.Module]) -> Module:
    """A deep copy of a module with all parameters and buffers in main memory; from CUDA all are copied at once.

    Args:
        module: The module, on any device.
        stand_ins: Parts that are not copied, and the modules in main memory that take their places.
    """
    memo: dict[int, Any] = {id(part): other for part, other in stand_ins.items()}
    left_out = {id(tensor) for part in stand_ins for tensor in (*part.parameters(), *part.buffers())}
    named = dict([*module.named_parameters(), *module.named_buffers()])
    tensors = {name: tensor for name, tensor in named.items() if id(tensor) not in left_out}
    for name, copied in copy_to_host(tensors).items():
        tensor = tensors[name]
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if is_parameter else copied
    return copy.deepcopy(module, memo)


def start_copy(tensor: Tensor) -> Tensor:
    """A copy in main memory of a tensor's layout; from CUDA it is filled only once `finish_copies` has returned."""
    copied = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return copied.copy_(tensor.detach(), non_blocking=tensor.is_cuda)


def finish_copies(tensors: Iterable[Tensor]) -> None:
    """Wait for the copies that were started of these tensors."""
    if any(tensor.is_cuda for tensor in tensors):
        torch.cuda.synchronize()


class SideStream:
    """A CUDA stream in which threads prepare tensors while the main stream computes; without effect on other devices.

    Args:
        device: Device: "cpu", "cuda" or "mps"; with several GPUs, the current one of the calling thread.
    """

    def __init__(self, device: str) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device == "cuda":
            self._gpu = torch.cuda.current_device()
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())  # for weights and tables that are read in it

    def enter_thread(self) -> None:
        """Send all work of the current thread to this stream, on its GPU: each thread has its own current stream."""
        if self._stream is not None:
            torch.cuda.set_device(self._gpu)
            torch.cuda.set_stream(self._stream)

    def hand_over(self, tensors: Iterable[Tensor | None]) -> None:
        """Make tensors of this stream usable in the current stream of the calling thread.

        That stream waits for all work that is queued in this one; the CPU does not.
        """
        if self._stream is None:
            return
        current = torch.cuda.current_stream()
        current.wait_stream(self._stream)
        for tensor in tensors:
            if tensor is not None and tensor.is_cuda:
                tensor.record_stream(current)  # its memory is not reused before this stream has finished with it
