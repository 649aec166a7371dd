"""Choice and construction of the conditioner of a run."""

import torch

from noisekiln.components.registry import find, name_of, names
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet


def choose_cond(cond: str, data: DataSet) -> str:
    """The spec of the conditioner to use, or "none": as requested; for "auto" the first that the data have values for.

    Raises:
        ValueError: If there is no such conditioner, or the data have no values for it.
    """
    if cond == "none":
        return cond
    with torch.random.fork_rng(devices=[]):  # conditioners made here are discarded
        if cond == "auto":
            kinds = [find(Conditioner, name) for name in names("conditioners")]
            ordered = sorted((kind for kind in kinds if kind.priority is not None), key=lambda kind: kind.priority or 0)
            return next((name_of(kind) for kind in ordered if kind().fit(data) is not None), "none")
        conditioner: Conditioner = build(Conditioner, cond)
        if conditioner.fit(data) is None:
            raise ValueError(
                f"`cond={cond}` needs {conditioner.needs}, and {data.name} has none. Add them, or omit `cond`."
            )
        return describe(conditioner)


def make_conditioner(cond: str, data: DataSet) -> Conditioner | None:
    """The untrained conditioner for these data; None for "none". Its initial weights are the only random draws."""
    if cond == "none":
        return None
    with torch.random.fork_rng(devices=[]):
        unfitted: Conditioner = build(Conditioner, cond)
    return unfitted.fit(data)
