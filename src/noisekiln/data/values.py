"""Conversion of arrays to (N, H, W, C) uint8, with notes on how they were read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.errors import DataError

CHANNELS = (1, 3, 4)
MIN_SIDE = 4  # pixels


def as_bytes(name: str, arrays: Sequence[NDArray[Any]]) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Arrays (N, H, W), (N, H, W, C) or (N, C, H, W), read by one common range -> (N, H, W, C) uint8, C = 1 or 3.

    Bytes stay as they are; floats must lie in [0, 1] or [-1, 1]; wider integers are scaled by the smallest 2^k - 1 that
    holds them all; a fourth channel is read as transparency and composited onto white.

    Raises:
        DataError: For another number of dimensions or channels, sides under 4 pixels, values outside these ranges.
    """
    notes: list[str] = []
    stacks = [_upright(name, array, notes) for array in arrays]
    if any(len(stack) == 0 for stack in stacks):
        raise DataError(name, "an array holds no images (its length is 0)", "Check how it was saved")
    pixels = scaled_to_bytes(name, stacks, notes)
    if any(stack.shape[3] == 4 for stack in pixels):
        notes.append("The fourth channel is read as transparency and composited onto white.")
        pixels = [_pixels_on_white(stack) if stack.shape[3] == 4 else stack for stack in pixels]
    if len({stack.shape[3] for stack in pixels}) > 1:
        raise DataError(name, "one part is grey and the other in colour", "Convert both to the same number of channels")
    return pixels, list(dict.fromkeys(notes))


def _upright(name: str, array: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Channels last."""
    shape = array.shape
    if array.ndim == 3:
        array = array[..., np.newaxis]
    elif array.ndim == 4 and shape[3] not in CHANNELS and shape[1] in CHANNELS:
        array = array.transpose(0, 2, 3, 1)
        notes.append(f"The shape {shape} was read as (images, channels, height, width).")
    if array.ndim != 4 or array.shape[3] not in CHANNELS or min(array.shape[1:3]) < MIN_SIDE:
        raise DataError(
            name,
            f"an array of shape {shape} is not a stack of images of at least {MIN_SIDE}x{MIN_SIDE} pixels",
            "Save (N, H, W) for grey or (N, H, W, C) with 1, 3 or 4 channels",
        )
    if array.dtype.kind not in "biuf":
        raise DataError(name, f"an array of {array.dtype} holds no pixels", "Save numbers, such as uint8 (0 to 255)")
    return array


def scaled_to_bytes(name: str, stacks: list[NDArray[Any]], notes: list[str]) -> list[NDArray[np.uint8]]:
    """All parts as bytes, by one range for all."""
    if all(stack.dtype == np.uint8 for stack in stacks):
        return stacks
    kinds: set[str] = {stack.dtype.kind for stack in stacks}
    if kinds == {"b"}:
        notes.append("True and False became 255 and 0.")
        return [stack.astype(np.uint8) * np.uint8(255) for stack in stacks]
    low = min(float(stack.min()) for stack in stacks)
    high = max(float(stack.max()) for stack in stacks)
    if kinds <= set("iu"):
        bottom, top = _whole_range(name, low, high)
    else:
        bottom, top = _float_range(name, kinds, low, high)
    if (bottom, top) != (0.0, 255.0):
        notes.append(f"Values of {bottom:g} to {top:g} were scaled to 0 to 255.")
    return [to_byte(stack, bottom, top) for stack in stacks]


def _whole_range(name: str, low: float, high: float) -> tuple[float, float]:
    """0 to the smallest 2^k - 1 (at least 255) that holds everything."""
    if low < 0:
        raise DataError(
            name,
            f"its whole numbers run from {low:g} to {high:g}, so it is unclear which value is black",
            "Shift them to start at 0, or save floats in [-1, 1]",
        )
    return 0.0, full_scale(high)


def _float_range(name: str, kinds: set[str], low: float, high: float) -> tuple[float, float]:
    """[0, 1] or [-1, 1]."""
    if kinds == {"f"} and 0 <= low <= high <= 1:
        return 0.0, 1.0
    if kinds == {"f"} and -1 <= low <= high <= 1:
        return -1.0, 1.0
    what = f"floats from {low:g} to {high:g}" if kinds == {"f"} else "numbers of mixed or unknown types"
    raise DataError(
        name,
        f"it holds {what}, so it is unclear which values are black and white",
        "Give uint8 (0 to 255), or floats in [0, 1] or [-1, 1], not normalized by mean and deviation",
    )


def full_scale(high: float) -> float:
    """The smallest 2^k - 1 that is at least `high`, from 255 up: 255, 511, ..., 4095, ..., 65535, ..."""
    return float(2 ** max(8, int(high).bit_length()) - 1)


def to_byte(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """low..high -> 0..255, rounded; a chunk at a time, as floats take eight times the memory of bytes."""
    out = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        unit = (values[start : start + 256].astype(np.float64) - low) / (high - low)
        out[start : start + 256] = np.rint(np.clip(unit, 0, 1) * 255)
    return out


def _pixels_on_white(stack: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 4) -> (N, H, W, 3): transparent parts become white, never their hidden colour."""
    out = np.empty((*stack.shape[:3], 3), np.uint8)
    for start in range(0, len(stack), 256):
        chunk = stack[start : start + 256].astype(np.uint32)
        alpha = chunk[..., 3:]
        out[start : start + 256] = (chunk[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return out
