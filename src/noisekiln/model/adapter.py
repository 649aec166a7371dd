"""Adapters: low-rank fine-tunings (LoRA) as small files that are merged into a model and removed again."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from noisekiln.blocks.low_rank import LowRank, RowDelta, adaptable_layers, lora_modules, scale
from noisekiln.components.setting import check_argument
from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.denoisers import Denoiser
from noisekiln.files.atomic import atomic_write
from noisekiln.files.json_file import parse_json
from noisekiln.files.model_folder import digest, refuse_pickle
from noisekiln.model.adapter_checks import check_rows, longer_conditioner, matching_factors
from noisekiln.model.diffusion import Diffusion
from noisekiln.paths import expand_home

FILE = "adapter.safetensors"
NEW_ROWS = "conditioner.rows"  # name of the tensor of new classes or words: differences to untrained rows


@dataclass(frozen=True)
class AdapterMetadata:
    """Metadata of an adapter's file.

    Attributes:
        rank: Rank of the differences.
        scale: Factor of the products of up and down.
        base: `network_fingerprint` of the network that it was trained on.
        start: Folder of that model, for messages.
        conditioner: Spec of its conditioner, if it has new classes or words.
        added: The new classes or words.
    """

    rank: int
    scale: float
    base: str
    start: str
    conditioner: str | None = None
    added: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = (self.base, self.start, *self.added, *filter(None, [self.conditioner]))
        if type(self.rank) is not int or not all(isinstance(text, str) for text in texts):
            raise ValueError("an entry of its metadata is of another type")
        if not isinstance(self.scale, float | int) or not isfinite(self.scale):
            raise ValueError("its scale is not a number")


@dataclass(frozen=True)
class Adapter:
    """Differences to a model's weights, in factors.

    Attributes:
        about: Metadata.
        tensors: ``NAME.up`` (rows, rank) and ``NAME.down`` (rank, columns) for each weight of the backbone; `NEW_ROWS`.
    """

    about: AdapterMetadata
    tensors: dict[str, Tensor]

    @classmethod
    def extract(cls, model: Diffusion, base: Diffusion, rank: int, start: str) -> "Adapter":
        """The adapter of an adapted model (see `blocks/low_rank.py`), relative to its base."""
        found: dict[str, Tensor] = {}
        for name, difference in lora_modules(model.denoiser.backbone):
            assert isinstance(difference, LowRank)
            found |= {f"{name}.up": difference.up, f"{name}.down": difference.down}
        new = new_entries(base.conditioner, model.conditioner)
        if new and model.conditioner is not None:
            ((_, row),) = lora_modules(model.conditioner)
            assert isinstance(row, RowDelta)
            found[NEW_ROWS] = row.difference
        known, knew = (
            describe(each.conditioner, include_defaults=True) if each.conditioner else None for each in (model, base)
        )
        about = AdapterMetadata(
            rank, scale(rank), network_fingerprint(base.denoiser), start, known if known != knew else None, new
        )
        return cls(about, {name: tensor.detach().cpu() for name, tensor in found.items()})

    def save(self, file: Path) -> None:
        """Write it atomically."""
        about = {**asdict(self.about), "sha256": _adapter_checksum(self)}
        metadata = {"adapter": json.dumps(about)}  # one entry: the file's bytes do not depend on an order
        with atomic_write(file) as draft:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, draft, metadata=metadata)

    @classmethod
    def load(cls, place: str | Path) -> "Adapter":
        """The adapter of a run, or in a file.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        file = expand_home(place)
        file = file / FILE if file.is_dir() else file
        refuse_pickle(file)
        if not file.is_file():
            raise ValueError(
                f"There is no adapter {str(file)!r}. Give the folder of a run that was trained with `start` and "
                f"`lora`, or its {FILE}."
            )
        try:
            with safe_open(file, framework="pt") as opened:
                about = parse_json((opened.metadata() or {})["adapter"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
            about["added"] = tuple(about["added"])
            known = {field.name: about[field.name] for field in fields(AdapterMetadata)}
            adapter = cls(AdapterMetadata(**known), tensors)
            found = _adapter_checksum(adapter)
            if about.get("sha256", found) != found:  # files of earlier versions hold none
                raise ValueError("its content is not what was written, by its SHA-256")
            return adapter
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{file} is not an adapter of noisekiln, or damaged ({error}). "
                "Restore it from a backup, or download it again."
            ) from error


def merge(model: Diffusion, adapter: str | Path | Adapter, strength: float = 1.0) -> Diffusion:
    """Merge an adapter into a model: ``W + strength scale up down`` for each weight, in place; several add up.

    Classes or words that the adapter brings are known to the model afterwards.

    Args:
        model: The model that the adapter was trained from.
        adapter: Folder of its run, its file, or the adapter itself.
        strength: 0 leaves the model as it is, 1 is the adapter as trained; others weaken, exaggerate or reverse it.

    Returns:
        The same model.

    Raises:
        ValueError: If the adapter was trained on another network.
    """
    check_argument("strength", strength, float)
    return _add(model, adapter, strength)


def unmerge(model: Diffusion, adapter: str | Path | Adapter, strength: float = 1.0) -> Diffusion:
    """Undo `merge`, exact up to rounding; its classes and words stay known, but untrained."""
    check_argument("strength", strength, float)
    return _add(model, adapter, -strength)


def parse_adapter_option(text: str) -> tuple[str, float]:
    """A place and a strength: "runs/style:0.7", or "runs/style" for 1."""
    place, colon, number = text.rpartition(":")
    if not colon or expand_home(text).exists():
        return text, 1.0
    try:
        return place, float(number)
    except ValueError:
        return text, 1.0


def new_entries(before: Conditioner | None, after: Conditioner | None) -> tuple[str, ...]:
    """The classes or words that a conditioner knows and an earlier one did not."""
    if before is None or after is None:
        return ()
    old, new = before.table(), after.table()
    if old is None or new is None:
        return ()
    return tuple(name for name in new[1] if name and name not in set(old[1]))


def rows_of(conditioner: Conditioner, names: tuple[str, ...]) -> Tensor:
    """Rows of classes or words in the conditioner's table, (N,) int64."""
    table = conditioner.table()
    assert table is not None
    places = {name: row for row, name in enumerate(table[1])}
    return torch.tensor([places[name] for name in names], dtype=torch.int64)


def network_fingerprint(denoiser: Denoiser) -> str:
    """16 hex digits of a network: all shapes, and the values of all parameters that no adapter changes (norms, biases).

    So it is the same with and without adapters merged, and differs after any other training.
    """
    changed = {f"{name}.weight" for name, _ in adaptable_layers(denoiser.backbone)}
    digest = hashlib.blake2b(denoiser.prediction.name.encode(), digest_size=8)
    for name, tensor in denoiser.backbone.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        if name not in changed:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _add(model: Diffusion, adapter: str | Path | Adapter, strength: float) -> Diffusion:
    if not isinstance(model, Diffusion):
        raise ValueError("An adapter belongs to a single model. Give one; of a cascade, one of its stages.")
    if not isinstance(adapter, Adapter):
        check_argument("adapter", adapter, Path)
        adapter = Adapter.load(adapter)
    about, tensors = adapter.about, adapter.tensors
    if not -float("inf") < strength < float("inf"):
        raise ValueError(f"strength={strength}: weights would not be finite. Give a number; 1 is as trained.")
    if network_fingerprint(model.denoiser) != about.base:
        raise ValueError(
            f"The adapter was trained for another model ({about.start} at that time) and cannot be merged into this "
            "one. Give that model, or use the run of the adapter by itself."
        )
    without_rows = {name: tensor for name, tensor in tensors.items() if name != NEW_ROWS}
    longer = longer_conditioner(model.conditioner, about.conditioner)  # whatever is refused, the model is not changed
    factors = matching_factors(model.denoiser.backbone, without_rows)
    if about.added:
        check_rows(longer, about.added, tensors.get(NEW_ROWS))
    for weight, up, down in factors:
        weight.add_((strength * about.scale * (up.to(weight) @ down.to(weight))).view_as(weight))
    if longer is not model.conditioner and longer is not None:
        model.conditioner = longer.to(model.device).eval()
    if about.added:
        _add_rows(model, about.added, strength * tensors[NEW_ROWS])
    return model


def _adapter_checksum(adapter: Adapter) -> str:
    """SHA-256 of an adapter's metadata and tensors."""
    about = json.dumps(asdict(adapter.about), sort_keys=True)
    return hashlib.sha256(f"{about} {digest(adapter.tensors)}".encode()).hexdigest()


def _add_rows(model: Diffusion, names: tuple[str, ...], change: Tensor) -> None:
    """Add the differences of new classes or words to their rows of the conditioner's table."""
    assert model.conditioner is not None
    named = model.conditioner.table()
    assert named is not None
    table = model.conditioner.get_parameter(named[0])
    table.index_add_(0, rows_of(model.conditioner, names).to(table.device), change.to(table))
