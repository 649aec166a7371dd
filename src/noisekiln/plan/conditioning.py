"""Choice and construction of the conditioner of a run."""

import torch

from noisekiln.components.registry import find, name_of, names
from noisekiln.components.spec import build, class_of, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet
from noisekiln.errors import counted

MAJORITY = 0.5  # share of the images that must have a condition, before one that fewer images have is preferred


def choose_cond(cond: str, data: DataSet) -> str:
    """The spec of the conditioner to use, or "none": as requested, or for "auto" the one that suits the data.

    That is the first, by priority, whose conditions at least half of the images have; if there is none, the one that
    most images have.

    Raises:
        ValueError: If there is no such conditioner, or the data have no values for it.
    """
    if cond == "none":
        return cond
    with torch.random.fork_rng(devices=[]):  # conditioners made here are discarded
        if cond == "auto":
            fitting = [kind for kind in _automatic() if kind().fit(data) is not None]
            most = max((_count(kind, data) for kind in fitting), default=0)
            enough = min(most, MAJORITY * len(data.train))
            return next((name_of(kind) for kind in fitting if _count(kind, data) >= enough), "none")
        conditioner: Conditioner = build(Conditioner, cond)
        if conditioner.fit(data) is None:
            raise ValueError(
                f"`cond={cond}` needs {conditioner.needs}, and {data.name} has none. Add them, or omit `cond`."
            )
        return describe(conditioner)


def about_conditions(cond: str, data: DataSet, conditioner: Conditioner | None, *, auto: bool) -> list[str]:
    """Notes on what of the data's conditions is not trained, one line each.

    Args:
        cond: The chosen spec, or "none".
        data: The images.
        conditioner: The conditioner of the model.
        auto: Whether the conditioner was chosen, and not requested.
    """
    lines = _unused_conditions(cond, data) if auto else []
    if conditioner is not None and cond != "none":
        lines += conditioner.left_out(data.train, data.class_names)
    return lines


def _unused_conditions(cond: str, data: DataSet) -> list[str]:
    """Notes on conditions that "auto" did not choose, or could not use."""
    chosen = None if cond == "none" else class_of(Conditioner, cond)
    trained = "the images are trained without conditions" if chosen is None else f"the {chosen.plural} are trained"
    lines = []
    with torch.random.fork_rng(devices=[]):
        for kind in _automatic():
            if kind is chosen or not _count(kind, data):
                continue
            usable = kind().fit(data) is not None
            remedy = f"`cond={name_of(kind)}` trains the {kind.plural}" if usable else f"they would need {kind.needs}"
            images = f"{_count(kind, data):,} of {counted(len(data.train), 'image')}"
            lines.append(f"the {kind.plural} of {images} are not used: {trained} ({remedy})")
    return lines


def _automatic() -> list[type[Conditioner]]:
    """The conditioners that "auto" tries, in this order."""
    kinds = [find(Conditioner, name) for name in names("conditioners")]
    return sorted((kind for kind in kinds if kind.priority is not None), key=lambda kind: kind.priority or 0)


def _count(kind: type[Conditioner], data: DataSet) -> int:
    """The number of training images that have a condition of this kind."""
    values = kind().values(data.train, data.class_names)
    return sum(value is not None for value in values or ())


def make_conditioner(cond: str, data: DataSet) -> Conditioner | None:
    """The untrained conditioner for these data; None for "none". Its initial weights are the only random draws."""
    if cond == "none":
        return None
    with torch.random.fork_rng(devices=[]):
        unfitted: Conditioner = build(Conditioner, cond)
    return unfitted.fit(data)
