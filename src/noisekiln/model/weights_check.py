"""A check that a network which a file describes is no larger than its weights, before memory is reserved for it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from noisekiln.files.plain_file import check_plain


def check_matches_weights(make: Callable[[], nn.Module], file: Path) -> None:
    """Check that a model has the parameters of a file, from its header alone; nothing is allocated.

    A description from another person may ask for any number of layers of any size.

    Args:
        make: Function that builds the model, on torch's meta device.
        file: Weights in the format of safetensors.

    Raises:
        ValueError: If it has more parameters, or others; building it ends early then.
    """
    check_plain(file)
    with safe_open(file, framework="pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (no dict)
    owner, made = get_ident(), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        made += get_ident() == owner
        if made > 2 * len(shapes):  # a parameter may be replaced while a module is built
            raise ValueError("its network has more layers than its weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), _WithoutValues():
            parameters = dict(make().named_parameters())
    finally:
        hook.remove()
    for name, parameter in parameters.items():
        if shapes.get(name) != tuple(parameter.shape):
            raise ValueError(f"its weights are not those of its network: {name} is missing or of another shape")


class _WithoutValues(TorchFunctionMode):
    """Computes no values of weights and buffers: for some, the meta device imports torch's compiler, or sympy.

    Each takes a second or more, which every start of a command would wait for.
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func.__name__ in ("normal_", "uniform_"):
            return next(iter((*args, *named.values())))
        if func in (torch.linspace, torch.logspace):
            return torch.empty(named["steps"] if "steps" in named else args[2])
        return func(*args, **named)
