"""Wrapping of a module for training by several processes: DDP, or FSDP2 for sharded weights."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from noisekiln.distributed.ddp import RecoverableDDP
from noisekiln.distributed.ranks import Ranks


def wrap(
    module: nn.Module, ranks: Ranks, blocks: Sequence[nn.Module] | None = None, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The module to call in training, whose gradients are averaged over processes.

    Args:
        module: The module, the same in all processes.
        ranks: The processes.
        blocks: Parts of the module that are sharded: every process keeps some rows of their weights, and gathers one
            part at a time (FSDP2). None: every process keeps all weights (DDP). Frozen weights outside of the blocks
            stay whole: they are also used outside of a forward pass, where sharded ones are not gathered.
        dtype: Type in which the network computes; on CUDA sharded weights are gathered in it.
    """
    if ranks.world_size == 1:
        return module
    if blocks is None:
        with ranks.detecting_lost_ranks():
            return RecoverableDDP(module)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP shards rows of contiguous memory
    device = next(module.parameters()).device.type
    mesh, policy = init_device_mesh(device, (ranks.world_size,)), _gather_policy(device, dtype)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    fully_shard(module, mesh=mesh, ignored_params=frozen)
    return module  # changed in place


def _gather_policy(device: str, dtype: torch.dtype) -> MixedPrecisionPolicy:
    """Gathers the weights of blocks in bf16 where autocast would round them to it; gradients are summed in float32.

    Inputs are not cast: a noise label in bf16 has no more than three digits. On a CPU nothing is cast, because its
    group norm does not accept bf16 weights with float32 images.
    """
    if device != "cuda" or dtype is not torch.bfloat16:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
