"""A checksum of the weights, by which processes find that one of them trains another model."""

from collections import Counter

import torch
from torch import Tensor, nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import RanksDiffer


def check_same_weights(module: nn.Module, ranks: Ranks) -> None:
    """Compare the trained weights of all processes, which DDP keeps equal only if every one computes alike.

    It costs one pass over the weights, and one transfer from the device.

    Args:
        module: What is trained, whole in every process.
        ranks: The processes; all call this.

    Raises:
        RanksDiffer: In all processes, with the ranks that differ from most others, or from rank 0.
    """
    if ranks.world_size == 1:
        return
    sums = [weight.detach().sum(dtype=torch.float64) for weight in module.parameters() if weight.requires_grad]
    found = ranks.all_gather(_checksum(torch.stack(sums).cpu()).view(1), ranks.world_size).tolist()
    most = Counter(found).most_common(1)[0][0]  # the first of several that are as common
    different = [rank for rank, checksum in enumerate(found) if checksum != most]
    if different:
        ranks_ = f"rank {different[0]}" if len(different) == 1 else f"ranks {', '.join(map(str, different))}"
        raise RanksDiffer(
            f"The weights of {ranks_} differ from those of rank {found.index(most)}, although all {ranks.world_size} "
            "processes took the same steps: a device is faulty, or devices or versions of PyTorch differ. Nothing of "
            "it was saved. Look at that machine, then give the same command again to continue from the last checkpoint."
        )


def _checksum(sums: Tensor) -> Tensor:
    """One float64 of all sums, which also depends on their order."""
    return (sums * torch.arange(1, len(sums) + 1, dtype=torch.float64)).sum()
