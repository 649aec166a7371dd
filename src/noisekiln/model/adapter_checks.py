"""Whether the content of an adapter, which may come from another person, fits a model; nothing is changed."""

from collections.abc import Mapping

from torch import Tensor, nn

from noisekiln.components.registry import name_of
from noisekiln.components.spec import build, consent_to, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.errors import CodeNotAllowed


def matching_factors(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The weights that an adapter changes, each with both factors of the difference.

    Args:
        backbone: The network.
        tensors: ``NAME.up`` and ``NAME.down`` of each weight.

    Raises:
        ValueError: If the tensors of the adapter are not those of this network.
    """
    weights = dict(backbone.named_parameters())
    left = dict(tensors)
    factors: list[tuple[Tensor, Tensor, Tensor]] = []
    for name in sorted({name.rpartition(".")[0] for name in left}):
        up, down, weight = left.pop(f"{name}.up", None), left.pop(f"{name}.down", None), weights.get(name)
        if up is None or down is None or weight is None or not _is_pair_for(up, down, weight):
            raise ValueError(
                f"The adapter's tensors {name}.up and {name}.down do not fit the model's weights: its file was changed "
                "or is damaged. Restore it from a backup, or download it again."
            )
        factors.append((weight, up, down))
    if left:
        raise ValueError(
            f"The adapter has a tensor {next(iter(left))!r}, which is no difference to a weight. Its file was "
            "changed or is damaged. Restore it from a backup, or download it again."
        )
    return factors


def longer_conditioner(conditioner: Conditioner | None, spec: str | None) -> Conditioner | None:
    """The conditioner with the adapter's new classes or words; the same one if there are none.

    Args:
        conditioner: Conditioner of the model.
        spec: Spec of the longer one, from the adapter; None for none.

    Raises:
        ValueError: If the adapter names a conditioner of another class, or one from a file that the model does not use.
    """
    if spec is None:
        return conditioner
    own = consent_to({"cond": describe(conditioner)} if conditioner else {})  # the code of the model has run already
    try:
        longer: Conditioner = build(Conditioner, spec, own)
    except CodeNotAllowed as error:
        raise ValueError(
            f"The adapter brings new words or classes for a conditioner in the Python file {error.file}, which the "
            "model does not use. Code that an adapter names is never run. Use the run of the adapter by itself."
        ) from error
    if conditioner is None or name_of(type(longer)) != name_of(type(conditioner)):
        raise ValueError(
            f"The adapter brings new words or classes for the conditioner {name_of(type(longer))}, and the model has "
            f"{name_of(type(conditioner)) if conditioner else 'none'}. Give the model that it was trained from."
        )
    return conditioner.extended(longer)


def check_rows(conditioner: Conditioner | None, names: tuple[str, ...], rows: Tensor | None) -> None:
    """Raise ValueError if the rows of an adapter's new classes or words do not fit the conditioner's table."""
    table = conditioner.table() if conditioner else None
    known = set(table[1]) if table else set()
    width = conditioner.get_parameter(table[0]).shape[1] if conditioner and table else 0
    if rows is None or not set(names) <= known or rows.shape != (len(names), width) or not rows.isfinite().all():
        raise ValueError(
            "The adapter's new classes or words do not fit the model's conditioner: its file was changed or is "
            "damaged. Restore it from a backup, or download it again."
        )


def _is_pair_for(up: Tensor, down: Tensor, weight: Tensor) -> bool:
    """Whether the product of two factors is as large as a weight, and finite."""
    plain = all(each.ndim == 2 and each.is_floating_point() and bool(each.isfinite().all()) for each in (up, down))
    return plain and up.shape[1] == down.shape[0] and (len(up), down.shape[1]) == (len(weight), weight[0].numel())
