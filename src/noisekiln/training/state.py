"""All tensors of a training run by name, and back."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noisekiln.distributed.sharded import match_layout
from noisekiln.ema.power import Ema


def collected(module: nn.Module, ema: Ema, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Weights, averages and moments; what is frozen is left out, as whoever makes the module makes it so."""
    frozen = _frozen(module)
    tensors = {f"module.{k}": v for k, v in module.state_dict().items() if k not in frozen}
    tensors |= {f"ema.{k}": v for k, v in ema.state().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{number}.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
    return tensors


def put_back(tensors: Mapping[str, Tensor], module: nn.Module, ema: Ema, optimizers: Sequence[Optimizer]) -> None:
    """Load what `collected` gave, in full, laid out as things are there."""
    frozen = _frozen(module)
    _fill(module, frozen | _under("module.", tensors))
    ema.load_state(_under("ema.", tensors))
    for number, optimizer in enumerate(optimizers):
        weights = [(weight, group.get("fused")) for group in optimizer.param_groups for weight in group["params"]]
        for key, value in _under(f"optimizer{number}.", tensors).items():
            index, name = key.split(".", 1)
            weight, fused = weights[int(index)]
            if value.shape == weight.shape:  # fused steps walk weights and moments in memory order alike
                optimizer.state[weight][name] = match_layout(value, weight)
            else:  # and count on the device
                optimizer.state[weight][name] = value.to(weight.device if fused else value.device, copy=True)


@torch.no_grad()
def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    there = module.state_dict()
    if there.keys() != tensors.keys():
        differ = ", ".join(sorted(there.keys() ^ tensors.keys())[:4])
        raise ValueError(f"The checkpoint is of another network: it differs in {differ}. Give another --out.")
    for name, tensor in there.items():
        tensor.copy_(match_layout(tensors[name], tensor))


def _frozen(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
