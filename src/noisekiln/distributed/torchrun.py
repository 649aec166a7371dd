"""What torchrun says about this process in environment variables; read without importing torch."""

import os


def is_launched() -> bool:
    """Whether torchrun has started this process."""
    return "RANK" in os.environ


def rank() -> int:
    """Number of this process; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else 1


def local_rank() -> int:
    """Number of this process among those of its machine, which is the number of its GPU; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))
