"""Choice of a device and its preparation for training."""

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


def prepare_for_training(device: str) -> None:
    """Make training on CUDA as fast as possible without changing what is learned; other devices are unchanged.

    Matrix products in float32, such as Muon's, run in TF32 (10 bits of mantissa instead of 23), as convolutions do by
    torch's default. cuDNN tries its algorithms at the first call of each shape and keeps the fastest, so that two runs
    may differ in rounding on a GPU. Both apply to the whole process, including sampling.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
