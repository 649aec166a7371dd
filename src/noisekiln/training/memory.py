"""What to do when memory runs out."""

import gc

import torch


class TooLarge(RuntimeError):
    """A piece of a batch did not fit into some process's memory."""


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that a device's memory is full; only "cuda" has an error of its own for it."""
    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | TooLarge) or "out of memory" in told or "can't allocate" in told


def free() -> None:
    """Give back what is kept for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
