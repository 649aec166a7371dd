"""Autocast: networks that compute in 16 bits, while everything around them stays in float32."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """A context in which networks compute in this precision; "fp32" leaves an outer autocast as it is.

    Args:
        precision: "fp32", "bf16" or "fp16".
        device: Type of the device, such as "cuda".
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device, DTYPES[precision])


def choose_precision(requested: str, device: str) -> str:
    """The precision to sample in: for "auto" that of `best_precision`, otherwise the requested one.

    Raises:
        ValueError: If there is no such precision.
    """
    if requested == "auto":
        return best_precision(device)
    if not isinstance(requested, str) or requested not in DTYPES:
        raise ValueError(
            f"`precision={requested}` is not a precision of networks. Give auto, {', '.join(DTYPES)}; auto is bf16 on "
            "a GPU or a processor with matrix units for it, else fp32."
        )
    return requested


def best_precision(device: str) -> str:
    """Bf16 on a GPU that computes it natively, and on a CPU with matrix units for it; otherwise fp32.

    With fp32 one seed gives the same image on all CPUs; with bf16 images differ by a few grey levels between kinds.
    """
    if device == "cpu":
        return "bf16" if has_matrix_units() else "fp32"
    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def has_matrix_units() -> bool:
    """Whether the CPU has units for matrices of bf16 (AMX), where a product takes a fifth of its time in fp32.

    Asked, not timed: each process, and each start of a run, has to find the same. The limit of oneDNN, which computes
    the products, counts too.
    """
    says_so = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)  # private: torch has no other name for it
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT").upper()
    return bool(says_so()) and ("AMX" in limit or limit in ("DEFAULT", "ALL"))


def has_fast_half() -> bool:
    """Whether the GPU computes fp16 much faster than fp32, and no bf16: V100, T4, RTX 20.

    Not the GTX 16 series: it has the same number, but no matrix units, and is known for NaN in fp16.
    """
    number, name = torch.cuda.get_device_capability(), torch.cuda.get_device_name()
    return (7, 0) <= number < (8, 0) and "GTX 16" not in name and torch.version.hip is None
