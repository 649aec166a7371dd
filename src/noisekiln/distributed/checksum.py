"""Checksum of the weights, which shows whether all processes train the same model."""

from collections import Counter

import torch
from torch import Tensor, nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import RanksDiffer


def check_same_weights(module: nn.Module, ranks: Ranks) -> None:
    """Compare the trained weights of all processes, which DDP keeps equal only if all compute the same.

    It costs one pass over the weights, and one transfer from the device.

    Args:
        module: Trained module, not sharded.
        ranks: The processes; all call this.

    Raises:
        RanksDiffer: In all processes, with the ranks that differ from most others, or from rank 0.
    """
    if ranks.world_size == 1:
        return
    sums = [weight.detach().sum(dtype=torch.float64) for weight in module.parameters() if weight.requires_grad]
    found = ranks.all_gather(_checksum(torch.stack(sums).cpu()).view(1), ranks.world_size).tolist()
    most = Counter(found).most_common(1)[0][0]  # the first one, if several are equally common
    different = [rank for rank, checksum in enumerate(found) if checksum != most]
    if different:
        ranks_ = f"rank {different[0]}" if len(different) == 1 else f"ranks {', '.join(map(str, different))}"
        raise RanksDiffer(
            f"The weights of {ranks_} differ from those of rank {found.index(most)}, although all {ranks.world_size} "
            "processes took the same steps: a device is faulty, or devices or versions of PyTorch differ. These "
            "weights were not saved. Check that machine, then run the same call or command again: it resumes from "
            "the last checkpoint."
        )


def _checksum(sums: Tensor) -> Tensor:
    """One float64 for all sums, which also depends on their order."""
    return (sums * torch.arange(1, len(sums) + 1, dtype=torch.float64)).sum()
