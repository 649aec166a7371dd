"""A run's model with another average of its weights, chosen after training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.ema.post_hoc import Fit, fit, reconstruct
from noisekiln.ema.snapshots import list_snapshots
from noisekiln.files.model_folder import described
from noisekiln.model.adapter import FILE, ROWS, Adapter, merge
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.fine_tune import KEPT
from noisekiln.plan.settings import Settings
from noisekiln.runs.run_folder import AVERAGES

LEFT_AT_MOST = 0.5  # of a wanted profile: beyond, what is made is another average than the one asked for
TRAINED = "diffusion."  # what the trained parameters of the model are called in a run
NETWORK = "denoiser.backbone."


class PostHocEma:
    """What the snapshots of a run can be made into.

    Args:
        folder: Of the run, finished or not.
        device: Where models are put.
        allow_code: Whether the model may run components from Python files of its maker's.

    Attributes:
        settings: Of the run.
        snapshots: Those that it has kept.
        images_seen: Where all averages stand: at the newest snapshot.

    Raises:
        ValueError: If the folder is no run, or keeps no snapshots.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", allow_code: bool = False) -> None:
        self.folder, self.device, self.allow_code = folder, device, allow_code
        described(folder)  # says what is wrong with a folder that is no run
        if not (folder / "run.yaml").is_file():
            raise ValueError(f"{folder} is a model without its run, so there are no snapshots. Give the run's folder.")
        self.settings = Settings.read(folder / "run.yaml")
        self.snapshots = list_snapshots(folder / AVERAGES)
        if not self.snapshots:
            why = "it was trained by an earlier noisekiln, or its first share of the budget is not over"
            why = "it was trained with snapshots=0" if self.settings.ema_snapshots == 0 else why
            raise ValueError(
                f"{folder} keeps no snapshots of its averages: {why}. No other average can be made of it. "
                "Train with --ema-snapshots 16."
            )
        self.images_seen = self.snapshots[-1].images_seen

    def fit(self, length: float) -> Fit:
        """How an average would be made, without making it.

        Raises:
            ValueError: If the length is impossible, or too little of it can be made.
        """
        copies = [(shot.images_seen, each) for shot in self.snapshots for each in shot.lengths]
        made = fit(copies, length, self.images_seen)
        if made.residual > LEFT_AT_MOST:
            tracks = " and ".join(f"{each:g}" for each in self.snapshots[-1].lengths)
            count = len(self.snapshots)
            raise ValueError(
                f"An average of length {length:g} cannot be made of {count} snapshot{'s' * (count > 1)} of {tracks}: "
                f"{made.residual:.0%} of it would be left. "
                "Take a length nearer to those, or train with more --ema-snapshots."
            )
        return made

    def model(self, length: float) -> Diffusion:
        """The run's model with the average of this length."""
        return self._made(length)[0]

    def write(self, length: float, out: Path | None = None) -> Path:
        """Put the model with this average in the place of the run's, or into another folder; returns where.

        Its `model.json` says so under "ema". Snapshots and checkpoints stay: another length can be taken later, and
        training goes on as if nothing had been written (and then writes its own average there again).

        Args:
            length: Of the average.
            out: A new or empty folder, or one of an earlier such model; by default that of the run.

        Raises:
            ValueError: If the length is impossible, or the folder holds something else.
        """
        place = out or self.folder
        if out is not None and (out.is_file() or (out.exists() and any(out.iterdir()) and not _ours(out))):
            raise ValueError(
                f"{out} holds something that this command has not written. It might be overwritten. "
                "Choose a new folder with --out."
            )
        model, adapter = self._made(length)
        place.mkdir(parents=True, exist_ok=True)
        if adapter is not None:
            adapter.save(place / FILE)
        model.save(place / "model", ema={"length": length, "images_seen": self.images_seen})
        return place / "model"

    @torch.no_grad()
    def _made(self, length: float) -> tuple[Diffusion, Adapter | None]:
        self.fit(length)
        weights, _ = reconstruct(self.snapshots, length)
        weights = {name.removeprefix(TRAINED): w for name, w in weights.items() if name.startswith(TRAINED)}
        model = Diffusion.load(self.folder, device=self.device, allow_code=self.allow_code)
        if self.settings.lora is None:
            for name, weight in weights.items():
                model.get_parameter(name).copy_(weight)
            return model, None
        adapter = replace(Adapter.load(self.folder), tensors=_differences(weights))
        base = Diffusion.load(self.folder / KEPT, device=self.device, allow_code=self.allow_code)
        base.size, base.sampling = model.size, model.sampling
        return merge(base, adapter), adapter


def _differences(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trained parts of an adapted model, named as an adapter names them."""
    inner = {name.replace(".parametrizations.weight.0", ".weight"): weight for name, weight in weights.items()}
    return {
        ROWS if name == f"{ROWS}.difference" else name.removeprefix(NETWORK): weight for name, weight in inner.items()
    }


def _ours(folder: Path) -> bool:
    """Whether `write` has written this folder."""
    files = {file.name for file in folder.iterdir()}
    return files <= {"model", FILE} and (folder / "model" / "model.json").is_file() and "ema" in described(folder)
