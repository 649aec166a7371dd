"""Post-hoc EMA of a run: its model with another average of its weights, chosen after training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.components.consent import Consent
from noisekiln.components.spec import check_specs
from noisekiln.ema.post_hoc import Combination, fit_combination, reconstruct
from noisekiln.ema.snapshots import list_snapshots
from noisekiln.errors import WouldOverwrite, counted
from noisekiln.files.atomic import atomic_folder
from noisekiln.files.links import check_no_link_leaves
from noisekiln.files.model_folder import read_model_description
from noisekiln.files.system_files import entries_of
from noisekiln.model.adapter import FILE, NEW_ROWS, Adapter, merge
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import START
from noisekiln.runs.refusals import check_single_run
from noisekiln.runs.run_folder import RunFolder

MAX_RESIDUAL = 0.5  # as a share of the profile: beyond, the result is another average than the requested one
MODEL = "diffusion."  # prefix of the model's parameters in a snapshot
BACKBONE = "denoiser.backbone."


class PostHocEma:
    """All averages that can be combined from the snapshots of a run.

    Args:
        folder: Folder of the run, finished or not.
        device: Device of the models.
        allow_code: Whether the model may run components from Python files of its author.

    Attributes:
        settings: Settings of the run.
        snapshots: Snapshots that the run has kept.
        images_seen: Images seen by the newest snapshot, where all averages end.

    Raises:
        ValueError: If the folder is not a run, or has no snapshots.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", allow_code: bool = False) -> None:
        self.run = RunFolder(folder)
        self.device = device
        self.allow_code = allow_code
        read_model_description(folder)  # raises a helpful error if the folder is not a run
        if not self.run.settings_file.is_file():
            raise ValueError(f"{folder} is a model without its run, so there are no snapshots. Give the run's folder.")
        check_single_run(folder)
        self.settings = Settings.read(self.run.settings_file)
        # the only setting that is built from there
        check_specs({"task": self.settings.task}, Consent.of(allow_code), self.run.settings_file)
        self.snapshots = list_snapshots(self.run.snapshots)
        if not self.snapshots:
            why = "the first of them is not due yet, or they were removed"
            why = "it was trained with `ema_snapshots=0`" if self.settings.ema_snapshots == 0 else why
            raise ValueError(
                f"{folder} has no snapshots of its averages: {why}. No other average can be combined. "
                "Train with `ema_snapshots=16`."
            )
        self.images_seen = self.snapshots[-1].images_seen

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run.path

    @property
    def tracked_lengths_text(self) -> str:
        """The lengths that were tracked, as text: "0.1 and 0.05"."""
        return " and ".join(f"{each:g}" for each in self.snapshots[-1].lengths)

    def combination(self, length: float) -> Combination:
        """The combination of snapshots for an average, without computing the average.

        Args:
            length: Width of the average, as a share of training.

        Raises:
            ValueError: If the length is impossible, or too far from those that were tracked.
        """
        copies = [(shot.images_seen, each) for shot in self.snapshots for each in shot.lengths]
        found = fit_combination(copies, length, self.images_seen)
        if found.residual > MAX_RESIDUAL:
            count = len(self.snapshots)
            raise ValueError(
                f"An average of length {length:g} cannot be combined from {counted(count, 'snapshot')} of "
                f"{self.tracked_lengths_text}: {found.residual:.0%} of it would be missing. "
                "Use a length nearer to those, or train with more `ema_snapshots`."
            )
        return found

    def model(self, length: float) -> Diffusion:
        """The run's model with the average of this length."""
        return self._make(length)[0]

    def write(self, length: float, out: Path | None = None) -> Path:
        """Replace the run's model by the one with this average, or write it into another folder; returns its path.

        Its `model.json` has the length under "ema". Snapshots and checkpoints stay: another length can be chosen later.
        A resumed run continues as if nothing had been written, and then writes its own average there again.

        Args:
            length: Width of the average, as a share of training.
            out: A new or empty folder, or one with an earlier such model; by default the folder of the run.

        Raises:
            ValueError: If the length is impossible, the folder holds something else, or the run is being trained.
        """
        if out is not None and (out.is_file() or (out.exists() and not _is_replaceable(out))):
            raise WouldOverwrite(out, "other files than a model written by this command")
        check_no_link_leaves(out or self.folder)
        model, adapter = self._make(length)
        place, about = out or self.folder, {"length": length, "images_seen": self.images_seen}
        # A run is never without its model, not even for the moment in which folders change places.
        if out is None:
            with self.run.lock:
                model.save(place / "model", ema=about)
        else:
            with atomic_folder(place / "model") as draft:
                model.save(draft, ema=about)
        if adapter is not None:
            adapter.save(place / FILE)
        return place / "model"

    @torch.no_grad()
    def _make(self, length: float) -> tuple[Diffusion, Adapter | None]:
        self.combination(length)
        weights, _ = reconstruct(self.snapshots, length)
        weights = {name.removeprefix(MODEL): w for name, w in weights.items() if name.startswith(MODEL)}
        model = Diffusion.load(self.folder, device=self.device, allow_code=self.allow_code)
        if self.settings.lora is None:
            for name, weight in weights.items():
                model.get_parameter(name).copy_(weight)
            return model, None
        adapter = replace(Adapter.load(self.folder), tensors=_adapter_tensors(weights))
        base = Diffusion.load(self.folder / START, device=self.device, allow_code=self.allow_code)
        base.size, base.sampling = model.size, model.sampling
        return merge(base, adapter), adapter


def _adapter_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trained parameters of an adapted model, named as an adapter names them."""
    tensors = {}
    for name, weight in weights.items():
        inner = name.replace(".parametrizations.weight.0", ".weight")
        # In the conditioner, only the differences of new rows are trained.
        tensors[inner.removeprefix(BACKBONE) if inner.startswith(BACKBONE) else NEW_ROWS] = weight
    return tensors


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty, or `write` has written it; a process that was killed may have left drafts."""
    names = {file.name for file in entries_of(folder)}
    return not names or (
        names <= {"model", FILE}
        and (folder / "model" / "model.json").is_file()
        and "ema" in read_model_description(folder)
    )
