"""Memory, transfers between memory and devices, signals."""

import errno
import signal
import sys

import pytest
import torch
from torch import nn

from noisekiln.machine import memory
from noisekiln.machine.devices import prepare_for_training
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.machine.memory import bytes_allocated_by
from noisekiln.machine.transfer import copy_to_host


def test_allocated_bytes_are_counted_once_per_storage():
    x = torch.zeros(10, 4)
    assert bytes_allocated_by(lambda: (x + 1).view(40).add_(2).mul(3)) == 2 * 160
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten())
    one, two = (bytes_allocated_by(lambda n=n: network(torch.zeros(n, 3, 16, 16))) for n in (1, 2))
    assert two - one == 4 * 16 * 16 * (3 + 8)


def test_available_memory_is_that_of_the_container_per_process(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 200000\nactive_file 100000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_bytes("cpu") == 900_000  # files that were read give way
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert memory.available_bytes("cpu") == 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes("cpu") > 1_000_000
    assert memory.available_bytes("cuda") is None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"),
        RuntimeError("GET was unable to find an engine to execute this computation"),  # of cuDNN
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
    ],
)
def test_every_kind_of_out_of_memory_error_is_recognised(error):
    assert memory.is_out_of_memory(error)
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


def test_copies_to_main_memory_share_nothing_and_keep_the_layout():
    tensors = {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "n": torch.tensor(3)}
    copies = copy_to_host(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(copies[name], tensor)
        assert copies[name].stride() == tensor.stride()
        assert copies[name].data_ptr() != tensor.data_ptr()


def test_only_cuda_is_prepared_for_training(monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_to.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for device, precisions in (("cpu", []), ("mps", []), ("cuda", ["high"])):
        prepare_for_training(device)
        assert set_to == precisions
        assert torch.backends.cudnn.benchmark == (device == "cuda")


# --- interrupts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_a_flag_and_a_second_one_stops_at_once(number, monkeypatch):
    """A signal within a second counts as the same one, passed on by torchrun."""
    before, received = signal.signal(number, lambda *_: received.append(number)), []
    try:
        with Interrupt() as interrupt:
            assert interrupt.signal == 0
            for _ in range(3):
                signal.raise_signal(number)
                assert (interrupt.signal, received) == (number, [])
            monkeypatch.setattr("noisekiln.machine.interrupt.REPEAT", 0.0)
            signal.raise_signal(number)
            assert received == [number] * (number == signal.SIGINT)  # only people are impatient
    finally:
        signal.signal(number, before)
    assert signal.getsignal(number) == before
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGHUP")
def test_a_closed_terminal_stops_a_run_unless_it_was_started_with_nohup():
    for before, received in ((signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, 0)):
        mine = signal.signal(signal.SIGHUP, before)
        try:
            with Interrupt() as interrupt:
                signal.raise_signal(signal.SIGHUP)
                assert interrupt.signal == received
        finally:
            signal.signal(signal.SIGHUP, mine)


def test_a_signal_decides_the_exit_code():
    codes = {number: exit_code(number) for number in (0, signal.SIGINT, signal.SIGTERM, 10)}
    assert codes == {0: 0, signal.SIGINT: 130, signal.SIGTERM: 143, 10: 143}


def test_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="within"), Interrupt():
        raise RuntimeError("within")
    assert signal.getsignal(signal.SIGTERM) == before
