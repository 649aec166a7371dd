"""Memory, transfers between memory and devices, signals."""

import errno
import os
import signal
import sys

import pytest
import torch
from torch import nn

from noisekiln.machine import memory
from noisekiln.machine.devices import nondeterminism, prepare_for_training
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.machine.memory import bytes_allocated_by
from noisekiln.machine.transfer import copy_module_to_host, copy_to_host


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


def test_a_module_is_copied_to_main_memory_but_for_parts_that_are_there():
    """What training says of parameters stays, and so does their layout."""
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(2, 2)).to(memory_format=torch.channels_last)
    module[0].weight.requires_grad_(False)
    other = nn.Linear(2, 2)
    copied = copy_module_to_host(module, {module[2]: other})
    assert copied[2] is other
    assert not copied[0].weight.requires_grad
    assert copied[0].bias.requires_grad
    ours, theirs = copied[:2].state_dict(), module[:2].state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name])
        assert tensor.stride() == theirs[name].stride()
        assert tensor.data_ptr() != theirs[name].data_ptr()


ATTENTION = {
    "flash": (torch.backends.cuda.enable_flash_sdp, torch.backends.cuda.flash_sdp_enabled),
    "math": (torch.backends.cuda.enable_math_sdp, torch.backends.cuda.math_sdp_enabled),
    "memory-efficient": (torch.backends.cuda.enable_mem_efficient_sdp, torch.backends.cuda.mem_efficient_sdp_enabled),
    "cudnn": (torch.backends.cuda.enable_cudnn_sdp, torch.backends.cuda.cudnn_sdp_enabled),
}


@pytest.fixture
def switches(monkeypatch):
    """What is set for CUDA: the precision of products, and calls that ask for deterministic algorithms."""
    found = {"precision": [], "deterministic": []}
    monkeypatch.setattr(torch, "set_float32_matmul_precision", found["precision"].append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", found["deterministic"].append)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    attention = [(enable, enabled()) for enable, enabled in ATTENTION.values()]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is as before when the test ends
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield found
    for enable, before in attention:
        enable(before)


def test_only_cuda_is_prepared_for_training(switches):
    for device, precisions in (("cpu", []), ("mps", []), ("cuda", ["high"])):
        prepare_for_training(device)
        assert switches == {"precision": precisions, "deterministic": []}
        assert torch.backends.cudnn.benchmark == (device == "cuda")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_deterministic_training_tries_no_algorithms_on_cuda(switches):
    prepare_for_training("cpu", deterministic=True)
    assert switches["deterministic"] == []
    prepare_for_training("cuda", deterministic=True)
    assert switches == {"precision": ["high"], "deterministic": [True]}
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_deterministic_attention_uses_the_kernels_whose_backward_pass_has_a_fixed_order(switches):
    def kernels() -> set[str]:
        return {name for name, (_, enabled) in ATTENTION.items() if enabled()}

    assert kernels() == set(ATTENTION)
    prepare_for_training("cuda")
    prepare_for_training("cpu", deterministic=True)
    assert kernels() == set(ATTENTION)
    prepare_for_training("cuda", deterministic=True)
    assert kernels() == {"flash", "math"}


def test_operations_that_are_not_deterministic_are_named():
    """By the messages of torch 2.13."""
    interpolate = (
        "upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
    )
    product = (
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)`, but this operation "
        "is not deterministic because it uses CuBLAS and you have CUDA >= 10.2."
    )
    found = [nondeterminism(RuntimeError(text)) for text in (interpolate, product, "CUDA error: unspecified")]
    assert str(found[0]) == (
        "`deterministic`: upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation. Omit "
        "`deterministic`, or use another `backbone`."
    )
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in str(found[1])
    assert found[2] is None


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
