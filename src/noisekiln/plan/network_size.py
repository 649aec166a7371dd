"""Size of the network and of a batch, by what a budget of minutes on a CPU holds of them."""

from collections.abc import Callable
from itertools import takewhile
from math import inf

import torch

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec, Size
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.distributed.ranks import Ranks
from noisekiln.machine.autocast import DTYPES
from noisekiln.machine.flops import count_flops
from noisekiln.machine.speed import EXPECTED_SHARE, peak_flops_per_second
from noisekiln.plan.settings import Settings

ENOUGH_IMAGES = 100_000  # that a network has to see, before a larger one is better for the same time (LOG.md)
ENOUGH_STEPS = 1_500  # below which smaller batches are better (LOG.md)
SMALL_SIDE, SMALL_SHARE = 16, 0.45  # images whose steps are so small that they reach less of the peak (LOG.md)
SMALLEST_BATCH, DEFAULT_BATCH, GPU_BATCH = 16, 64, 256
WITHOUT_MINUTES, ON_GPU = "s", "l"  # where the time is not known, or nothing was measured


def fitting_size(kind: type[Backbone], settings: Settings, images_in_budget: Callable[[str], float]) -> str:
    """The size of a network: the largest of which the budget holds enough images, at least the smallest.

    Args:
        kind: The architecture, which has sizes.
        settings: Settings with a device.
        images_in_budget: Function from a size to the images that its training sees.
    """
    names = list(kind.sizes)
    if settings.device != "cpu" or images_in_budget(names[0]) == inf:
        known = ON_GPU if settings.device != "cpu" else WITHOUT_MINUTES
        return known if known in names else names[0]
    enough = takewhile(lambda name: images_in_budget(name) >= ENOUGH_IMAGES, names)  # counting large ones takes time
    return [names[0], *enough][-1]


def fitting_batch(settings: Settings, images_in_budget: float) -> int:
    """Images of a step: of a short budget on a CPU so few that it holds enough steps, a power of two.

    Args:
        settings: Settings with a device.
        images_in_budget: Images that training sees; infinite if that is not known.
    """
    if settings.device != "cpu":
        return GPU_BATCH
    batch = DEFAULT_BATCH
    while batch > SMALLEST_BATCH and images_in_budget < ENOUGH_STEPS * batch:
        batch //= 2
    return batch


def images_in_minutes(settings: Settings, backbone: str, codec: Codec) -> float:
    """Images that training a network sees in the minutes of a budget on a CPU; infinite if that is not known.

    By the operations of the network, and the speed of this machine in matrix products, measured in 0.3 seconds.

    Args:
        settings: Settings with device, precision and size.
        backbone: Spec of the network.
        codec: Codec of the images, which knows their channels.
    """
    if settings.minutes is None or settings.device != "cpu":
        return inf
    assert isinstance(settings.size, tuple)
    flops, speed = _training_flops(backbone, codec.x_channels, codec.x_size(settings.size)), _flops_per_second(settings)
    share = SMALL_SHARE if max(settings.size) <= SMALL_SIDE else EXPECTED_SHARE
    return inf if flops is None or not speed else 60 * settings.minutes * share * speed / flops


def _training_flops(backbone: str, channels: int, size: Size) -> float | None:
    """Operations of training on one x without a condition, which costs little; None if they cannot be counted."""

    def loss() -> torch.Tensor:
        network: Backbone = build(Backbone, backbone, channels=channels, vector=0, tokens=0, image=0)
        y: torch.Tensor = network(torch.empty(1, channels, *size), torch.empty(1), NOTHING)
        return y.square().mean()

    try:
        with torch.device("meta"):  # shapes alone: no memory, no time
            return count_flops(loss)
    except Exception:  # a network that is not ours may need a condition, or values
        return None


def _flops_per_second(settings: Settings) -> float:
    """FLOP/s of matrix products in all processes together; the same number in each of them."""
    own = peak_flops_per_second(settings.device, DTYPES[settings.precision or "fp32"])
    return Ranks.join(settings.device, settings.timeout).all_reduce_sum([own or 0.0])[0]
