"""Adapters: what a low-rank fine-tuning learned, as a small file that goes onto a model and comes off again."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from noisekiln.blocks.low_rank import LowRank, RowDelta, differences, matrices, scale
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.denoiser import Denoiser
from noisekiln.files.atomic import replacing
from noisekiln.files.model_folder import refuse_pickle
from noisekiln.model.diffusion import Diffusion

FILE = "adapter.safetensors"
ROWS = "conditioner.vectors.weight"  # of new classes or words: differences to rows that say nothing


@dataclass(frozen=True)
class About:
    """What an adapter's file says of it.

    Attributes:
        rank: Of the differences.
        scale: What the products of the factors are multiplied with.
        base: The `fingerprint` of the network that it was trained on.
        start: Where that model was; only to be told.
        conditioner: The spec of its conditioner, if it knows more than that of the base.
        added: The new classes or words.
    """

    rank: int
    scale: float
    base: str
    start: str
    conditioner: str | None = None
    added: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """Differences to a model's weights, in factors.

    Attributes:
        about: What it is for.
        tensors: ``NAME.up`` (rows, rank) and ``NAME.down`` (rank, columns) for each weight of the backbone; `ROWS`.
    """

    about: About
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, model: Diffusion, base: Diffusion, rank: int, start: str) -> "Adapter":
        """What an adapted model (see `blocks/low_rank.py`) has learned beyond its base."""
        found: dict[str, Tensor] = {}
        for name, difference in differences(model.denoiser.backbone):
            assert isinstance(difference, LowRank)
            found |= {f"{name}.up": difference.up, f"{name}.down": difference.down}
        new = added(base.conditioner, model.conditioner)
        if new and model.conditioner is not None:
            ((_, row),) = differences(model.conditioner)
            assert isinstance(row, RowDelta)
            found[ROWS] = row.difference
        known, knew = (describe(m.conditioner, whole=True) if m.conditioner else None for m in (model, base))
        about = About(rank, scale(rank), fingerprint(base.denoiser), start, known if known != knew else None, new)
        return cls(about, {name: tensor.detach().cpu() for name, tensor in found.items()})

    def save(self, file: Path) -> None:
        """Write it; whoever reads meanwhile never reads half a file."""
        told = {"adapter": json.dumps(asdict(self.about))}  # one entry: the file's bytes do not depend on an order
        with replacing(file) as draft:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, draft, metadata=told)

    @classmethod
    def load(cls, place: str | Path) -> "Adapter":
        """The adapter of a run, or in a file.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        file = Path(place) / FILE if Path(place).is_dir() else Path(place)
        refuse_pickle(file)
        if not file.is_file():
            raise ValueError(
                f"There is no adapter {str(file)!r}. Give the folder of a run that was trained with --from and --lora, "
                f"or its {FILE}."
            )
        try:
            with safe_open(file, framework="pt") as opened:
                told = json.loads((opened.metadata() or {})["adapter"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
            told["added"] = tuple(told["added"])
            return cls(About(**{field.name: told[field.name] for field in fields(About)}), tensors)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{file} is no adapter of noisekiln's, or damaged ({error}). Take another copy."
            ) from error


def merge(model: Diffusion, adapter: str | Path | Adapter, strength: float = 1.0) -> Diffusion:
    """Put an adapter onto a model: ``W + strength scale up down`` for each weight, in place; several add up.

    Classes or words that the adapter brings are known to the model from then on.

    Args:
        model: The one that the adapter was trained from.
        adapter: A run's folder, or a file.
        strength: 0 is the model as it is, 1 the adapter as it was trained; others weaken, exaggerate or reverse it.

    Returns:
        The same model.

    Raises:
        ValueError: If the adapter was trained on another network.
    """
    if not isinstance(model, Diffusion):
        raise ValueError("An adapter belongs to a single model. Give one; of a cascade, one of its stages.")
    return _add(model, adapter, strength)


def unmerge(model: Diffusion, adapter: str | Path | Adapter, strength: float = 1.0) -> Diffusion:
    """Take off what `merge` put on, exact up to rounding; classes and words that it brought stay, and say nothing."""
    return _add(model, adapter, -strength)


def parse(text: str) -> tuple[str, float]:
    """A place and a strength: "runs/style:0.7", or "runs/style" for 1."""
    place, colon, number = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, 1.0
    try:
        return place, float(number)
    except ValueError:
        return text, 1.0


def added(before: Conditioner | None, after: Conditioner | None) -> tuple[str, ...]:
    """The classes or words that one conditioner knows, and the one before did not."""
    if before is None or after is None:
        return ()
    known = {*before.choices, *before.words}
    return tuple(name for name in (*after.choices, *after.words) if name not in known)


def rows_of(conditioner: Conditioner, names: tuple[str, ...]) -> Tensor:
    """Where classes or words stand in the conditioner's table."""
    return conditioner.encode(names).view(len(names), -1)[:, 0]


def fingerprint(denoiser: Denoiser) -> str:
    """16 hex digits of a network: all shapes, and the values of what no adapter changes (norms, biases).

    So it is the same with adapters merged and without, and another one after any other training.
    """
    changed = {f"{name}.weight" for name, _ in matrices(denoiser.backbone)}
    digest = hashlib.blake2b(denoiser.prediction.name.encode(), digest_size=8)
    for name, tensor in denoiser.backbone.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        if name not in changed:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _add(model: Diffusion, adapter: str | Path | Adapter, strength: float) -> Diffusion:
    known = adapter if isinstance(adapter, Adapter) else Adapter.load(adapter)
    about, tensors = known.about, known.tensors
    if not -float("inf") < strength < float("inf"):
        raise ValueError(f"strength={strength}: no weights can be made so. Give a number; 1 is as it was trained.")
    if fingerprint(model.denoiser) != about.base:
        raise ValueError(
            f"The adapter was trained on the network of {about.start} as it was then, and this model is another. "
            f"Its differences mean nothing here. Give that model, or use the run of the adapter by itself."
        )
    if ".py:" in str(about.conditioner):
        raise ValueError(
            "The adapter brings new words or classes for a conditioner of its maker's own code. Code in an adapter is "
            "never run. Use the run of the adapter by itself."
        )
    backbone: nn.Module = model.denoiser.backbone
    for name in sorted({name.rpartition(".")[0] for name in tensors} - {ROWS.rpartition(".")[0]}):
        weight = backbone.get_parameter(name)
        change = tensors[f"{name}.up"].to(weight) @ tensors[f"{name}.down"].to(weight)
        weight.add_((strength * about.scale * change).view_as(weight))
    if about.conditioner:
        _add_wishes(model, about.conditioner, about.added, strength * tensors[ROWS] if about.added else None)
    return model


def _add_wishes(model: Diffusion, spec: str, new: tuple[str, ...], change: Tensor | None) -> None:
    assert model.conditioner is not None
    device = next(model.parameters()).device
    wanted: Conditioner = build(Conditioner, spec)
    model.conditioner = model.conditioner.extended(wanted).to(device).eval()
    if change is not None:
        table = model.conditioner.get_parameter("vectors.weight")
        table.index_add_(0, rows_of(model.conditioner, new).to(device), change.to(table))
