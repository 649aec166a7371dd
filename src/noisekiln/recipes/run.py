"""A training run in a folder: it resumes, it shows what it does, and it is a model at any time."""

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from noisekiln.adapter import FILE, Adapter, merge
from noisekiln.data import DataSet
from noisekiln.objectives.base import Loss
from noisekiln.pictures import beside, save_picture, tile
from noisekiln.recipes.assemble import Trained, assemble
from noisekiln.recipes.environment import note_start
from noisekiln.recipes.held_out import HeldOut
from noisekiln.recipes.plan import resolve
from noisekiln.recipes.preview import task_sheet
from noisekiln.recipes.reports import Reports
from noisekiln.recipes.settings import Settings
from noisekiln.recipes.start import keep_start, load_start, notes
from noisekiln.training import checkpoints
from noisekiln.training.interrupt import Interrupt
from noisekiln.training.trainer import Diverged, Report

GRIDS_AT = (0.05, 0.15, 0.35, 0.6, 0.8)  # shares of the budget; the last grid is drawn at its end
PREVIEW: dict[str, Any] = {
    "sampler": "dpmpp_2m",
    "steps": 12,
    "schedule": "karras",
}  # few steps show what a model knows, whatever it is for
CHECKPOINT_EVERY = 60.0  # seconds
LOG_EVERY = 1.0  # seconds
MAY_CHANGE = ("data", "minutes", "images", "device", "sampler", "steps", "guidance", "schedule", "log")


class Run:
    """Trains into a folder: `run.yaml`, `dataset.json`, `environment.json`, `metrics.jsonl`, `samples/`, `model/`, ...

    Opening a folder that already holds this run resumes it.

    Args:
        settings: What the user chose.
        data: The images.
        folder: Where.

    Attributes:
        resumed: Images seen before, 0 for a new run.
        held_out: What images that training does not see say of it.

    Raises:
        ValueError: If the folder holds another run, or something else.
    """

    def __init__(self, settings: Settings, data: DataSet, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.base = load_start(settings, folder)
        self.settings = self._settled(settings)
        self.trainer = assemble(self.settings, data, self.base)
        assert isinstance(self.trainer.module, Trained)
        self.trained: Trained = self.trainer.module
        self.held_out = HeldOut(folder, data, self.settings)
        self.resumed = self._restore()

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trained.parameters() if parameter.requires_grad)

    @property
    def notes(self) -> list[str]:
        """What somebody should know who has it start from a model, one line each."""
        return notes(self.settings, self.data, self.base, self.trained.diffusion) if self.base else []

    def steps(self, interrupt: Interrupt | None = None) -> Iterator[Report]:
        """Train, yielding after every step; grids, logs and checkpoints are written on the way.

        At the end of the budget, or once `interrupt` has come, all is saved; whoever leaves the loop calls `save`.
        """
        self._write_down()
        saved = self.trainer.seconds
        drawn = self.trainer.share
        with Reports(self.folder, self.settings, self.trainer, self.held_out, self._averaged, LOG_EVERY) as told:
            for report in self._reports():
                told.take(report)
                due = any(drawn < share <= self.trainer.share < 1 for share in GRIDS_AT)
                if due:
                    drawn = self.trainer.share
                    self.draw_grid()
                if due or report.seconds - saved >= CHECKPOINT_EVERY:
                    saved = report.seconds
                    self.save()
                yield report  # last, so that whoever stops here misses no grid
                if interrupt is not None and interrupt.signal is not None:
                    return self.save()
            told.finish()
        self.draw_grid()
        self.save()

    def _reports(self) -> Iterator[Report]:
        """The trainer's; when it diverges, the error names the noise level and what to do."""
        try:
            yield from self.trainer.run()
        except Diverged as error:
            assert isinstance(error.loss, Loss)
            errors = error.loss.per_sample
            worst = int(torch.where(errors.isfinite(), errors, torch.inf).argmax())
            nsr = float(error.loss.level.nsr[worst])
            there = (self.folder / "checkpoints").is_dir()
            kept = "keeps the last checkpoint" if there else "holds no checkpoint yet"
            raise Diverged(
                f"{error}; the largest error was at the noise-to-signal ratio {nsr:.3g}. "
                f"The step was not taken; {self.folder} {kept}. "
                "Take a lower --rate and another --out, and look at the data.",
                error.loss,
            ) from None

    def save(self) -> None:
        """Write a checkpoint and, to `model/`, the averaged model; an adapter is merged there, and also kept alone."""
        checkpoints.save(self.folder / "checkpoints", self.trainer.images_seen, *self.trainer.state())
        model, rank = self._averaged().diffusion, self.settings.lora
        if self.base is not None and rank is not None:
            adapter = Adapter.of(model, self.base, rank, str(self.settings.start))
            adapter.save(self.folder / FILE)
            plain = copy.deepcopy(self.base)
            plain.size, plain.sampling = model.size, model.sampling
            model = merge(plain, adapter)
        model.save(self.folder / "model")

    def draw_grid(self) -> Path:
        """Write samples of fixed seeds and wishes, of the raw weights left and of the averaged ones right.

        With a task: what is given, both of these, and the original, of held-out images.
        """
        wishes = preview_wishes(self.data, self.settings.cond)
        self.trained.eval()
        models = [trained.diffusion for trained in (self.trained, self._averaged())]
        if models[0].task is not None:
            sheet = task_sheet(models, self.data, **PREVIEW)
        else:
            sheet = beside(*(tile(model.sample(wishes, **PREVIEW).cpu().numpy(), columns=4) for model in models))
        self.trained.train()
        file = self.folder / "samples" / f"{self.trainer.images_seen:09d}.png"
        save_picture(sheet, file, at_least=512)
        return file

    def _averaged(self) -> Trained:
        module = self.trainer.ema.module
        assert isinstance(module, Trained)
        return module

    def _settled(self, settings: Settings) -> Settings:
        asked = resolve(settings, self.data, self.base)
        file = self.folder / "run.yaml"
        if not file.exists():
            if self.folder.is_file():
                raise ValueError(f"{self.folder} is a file, and a run needs a folder. Choose a new one with --out.")
            if self.folder.exists() and any(self.folder.iterdir()):
                raise ValueError(
                    f"{self.folder} holds files that are no run of noisekiln's. Nothing was touched. "
                    "Choose an empty or new folder with --out."
                )
            return asked
        before = Settings.read(file)
        # What was chosen for the user then is kept: a longer budget must not change the network.
        kept = {name: getattr(before, name) for name in ("model", "backbone", "batch") if _left_open(settings, name)}
        asked = asked.but(**kept)
        other = asked.differing(before, besides=MAY_CHANGE)
        if other:
            told = ", ".join(f"{name} {theirs!r} (now {mine!r})" for name, (mine, theirs) in other.items())
            raise ValueError(
                f"{self.folder} holds a run with other settings: {told}. A run cannot change them midway. "
                "Give the same settings to go on with it, or another --out for a new one."
            )
        return asked

    def _restore(self) -> int:
        described = self.folder / "dataset.json"
        if described.exists():
            before = _fingerprint(described)
            if before != self.data.fingerprint:
                raise ValueError(
                    f"The images of {self.data.name} are no longer those that {self.folder} was trained on. "
                    "A run cannot change its data midway. Restore them, or give another --out for a new run."
                )
        found = checkpoints.newest(self.folder / "checkpoints")
        if found is None:
            return 0
        self.trainer.load_state(*found)
        return self.trainer.images_seen

    def _write_down(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings.write(self.folder / ".run.yaml.partial")
        os.replace(self.folder / ".run.yaml.partial", self.folder / "run.yaml")
        note_start(self.folder, self.trainer.images_seen, self.settings.device)
        keep_start(self.base, self.folder)
        data = self.data
        described = {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "images": len(data.train),
            "held_out": len(data.held_out) if data.held_out else 0,
            "size": list(data.size),
            "channels": data.channels,
            "class_names": list(data.class_names),
            "notes": list(data.notes),
            "skipped": [asdict(skipped) for skipped in data.skipped],
        }
        text = json.dumps(described, indent=2, ensure_ascii=False)
        (self.folder / ".dataset.json.partial").write_text(text + "\n", encoding="utf-8")
        os.replace(self.folder / ".dataset.json.partial", self.folder / "dataset.json")


def preview_wishes(data: DataSet, cond: str, count: int = 16) -> list[str | int | None]:
    """What the grids of a run show: classes in turn, captions that training has not seen, or nothing in particular."""
    part = data.held_out or data.train
    if cond == "class":
        return [data.class_names[i % len(data.class_names)] for i in range(count)]
    if cond == "text" and part.captions:
        return [part.captions[i % len(part.captions)] for i in range(count)]
    return [None] * count


def _fingerprint(described: Path) -> str:
    """That of the data in a `dataset.json`."""
    try:
        return str(json.loads(described.read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{described} is damaged, so it is unknown what this run was trained on. Restore it from a copy, "
            "or give another --out for a new run."
        ) from error


def _left_open(settings: Settings, name: str) -> bool:
    return getattr(settings, name) in (None, "auto")
