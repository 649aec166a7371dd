"""Choice of a device and its preparation for training."""

import os

import torch


def pick_device(requested: str) -> str:
    """The device to use for "auto", or the requested one.

    Raises:
        ValueError: If it is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(requested, False):
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise ValueError(
            f"The device {requested!r} is not available; available: {names}. "
            "Give one of these, or omit `device` to use the best."
        )
    return requested


def as_device(requested: str | torch.device | None) -> torch.device:
    """A device of torch, by its name, "auto" for the best, or None for the CPU.

    Raises:
        ValueError: If there is no such device, or it is not available.
    """
    if isinstance(requested, torch.device):
        return requested
    name = requested or "cpu"
    if not isinstance(name, str) or name in ("auto", "cuda", "mps"):
        return torch.device(pick_device(name))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device(pick_device(name))  # raises
    index = device.index or 0
    if device.type == "cuda" and index >= torch.cuda.device_count():
        pick_device(name)  # raises
    return device


def prepare_for_training(device: str, *, deterministic: bool = False) -> None:
    """Make training on CUDA as fast as possible without changing what is learned; other devices are unchanged.

    Matrix products in float32, such as Muon's, run in TF32 (10 bits of mantissa instead of 23), as convolutions do by
    torch's default. cuDNN tries its algorithms at the first call of each shape and keeps the fastest, so that two runs
    may differ in rounding on a GPU. All this applies to the whole process, including sampling.

    Args:
        device: "cpu", "cuda" or "mps".
        deterministic: Whether two runs must be equal to the bit, at a lower speed: cuDNN tries nothing, and every
            operation has a fixed order of sums, or raises an error if it has none (see `nondeterminism`). Attention
            uses the kernels that always have one: flash attention in 16 bits, plain products in float32.
    """
    if device != "cuda":
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the process's first matrix product
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        # All memory is written before it is read.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at run time


def nondeterminism(error: Exception) -> ValueError | None:
    """The error to raise instead, if an operation has no deterministic form and `deterministic` was requested."""
    first_sentence = str(error).partition(". ")[0].partition(", but you set")[0]
    if "CuBLAS" in str(error) and "deterministic" in str(error):
        return ValueError(
            "`deterministic`: matrix products cannot be made deterministic any more, because this process has computed "
            "some before. Start a new process, or set the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8 first."
        )
    if "does not have a deterministic implementation" in str(error):
        return ValueError(f"`deterministic`: {first_sentence}. Omit `deterministic`, or use another `backbone`.")
    return None
