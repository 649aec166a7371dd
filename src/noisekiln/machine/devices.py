"""Devices."""

import torch


def pick_device(asked: str) -> str:
    """The device to use for "auto", or the one asked for.

    Raises:
        ValueError: If it is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(asked, False):
        raise ValueError(
            f"The device {asked!r} is not on this machine. Here there is: "
            f"{', '.join(name for name, is_there in there.items() if is_there)}. Leave --device away to take the best."
        )
    return asked
