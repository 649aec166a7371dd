"""Tensors of a training run by name: weights, averages, optimizer moments."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noisekiln.distributed.sharded import match_layout
from noisekiln.ema.power import Ema


def collect_tensors(module: nn.Module, ema: Ema, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Weights, averages and moments; frozen weights are left out, because they are recreated with the module."""
    frozen = _frozen_weights(module)
    tensors = {f"module.{name}": value for name, value in module.state_dict().items() if name not in frozen}
    tensors |= {f"ema.{name}": average for name, average in ema.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            prefix = f"optimizer{number}.{index}"
            tensors |= {f"{prefix}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return tensors


def restore_tensors(
    tensors: Mapping[str, Tensor], module: nn.Module, ema: Ema, optimizers: Sequence[Optimizer]
) -> None:
    """Load what `collect_tensors` returned, unsharded, into the device, layout and sharding of each tensor."""
    _restore_module(module, _frozen_weights(module) | _under("module.", tensors))
    ema.load_state_dict(_under("ema.", tensors))
    for number, optimizer in enumerate(optimizers):
        weights = [(weight, group.get("fused")) for group in optimizer.param_groups for weight in group["params"]]
        for key, value in _under(f"optimizer{number}.", tensors).items():
            index, name = key.split(".", 1)
            weight, fused = weights[int(index)]
            if value.shape == weight.shape:  # fused steps need the same memory layout for weights and moments
                optimizer.state[weight][name] = match_layout(value, weight)
            else:  # and the number of steps on the device
                optimizer.state[weight][name] = value.to(weight.device if fused else value.device, copy=True)


@torch.no_grad()
def _restore_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = module.state_dict()
    other = own.keys() ^ tensors.keys() or {name for name in own if own[name].shape != tensors[name].shape}
    if other:
        differ = ", ".join(sorted(other)[:4])
        raise ValueError(
            f"The checkpoint holds the weights of another network: they differ in these tensors: {differ}. "
            "Give another `out` for a new run."
        )
    for name, tensor in own.items():
        tensor.copy_(match_layout(tensors[name], tensor))


def _frozen_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in module.named_parameters() if not weight.requires_grad}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, which is removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
