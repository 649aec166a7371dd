"""Placement of a step: device, processes, precision, micro-batch; it changes results only by rounding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from noisekiln.distributed.ranks import Ranks


@dataclass(frozen=True)
class Placement:
    """Device, processes, precision and micro-batch of a step.

    Args:
        device: Device of the module: "cpu", "cuda" or "mps".
        ranks: The processes that train together.
        precision: Precision of the network: "fp32", "bf16" or "fp16".
        micro_batch_size: Images in memory at once, in each process; None: the largest number that fits.
        shard_blocks: Parts of the module whose weights are sharded over processes and gathered one part at a
            time (FSDP2); None: every process holds all weights (DDP).
        deterministic: Whether steps on CUDA are repeatable to the bit, at a lower speed; on a CPU they always are.
        prefetch: Whether the next batch is made while a step runs; for devices that leave the CPU idle.
    """

    device: str = "cpu"
    ranks: Ranks = field(default_factory=Ranks)
    precision: str = "fp32"
    micro_batch_size: int | None = None
    shard_blocks: Sequence[nn.Module] | None = None
    deterministic: bool = False
    prefetch: bool = False

    @property
    def sharded(self) -> bool:
        """Whether each process holds only a part of the weights."""
        return self.shard_blocks is not None and self.ranks.world_size > 1
