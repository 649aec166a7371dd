"""A training run in a folder: it resumes, it shows what it does, and it is a model at any time."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.pictures import Pixels, save_picture
from noisekiln.recipes.assemble import Trained, assemble
from noisekiln.recipes.blame import blame
from noisekiln.recipes.copies import Copies
from noisekiln.recipes.environment import note_start
from noisekiln.recipes.held_out import HeldOut
from noisekiln.recipes.network import compiled, or_eagerly
from noisekiln.recipes.plan import resolve
from noisekiln.recipes.preview import preview
from noisekiln.recipes.reports import Reports
from noisekiln.recipes.saved import Saved
from noisekiln.recipes.settings import Settings
from noisekiln.recipes.start import keep_start, load_start, notes
from noisekiln.replacing import replacing
from noisekiln.training import checkpoints
from noisekiln.training.background import Background
from noisekiln.training.interrupt import Interrupt
from noisekiln.training.lock import FILE as LOCK
from noisekiln.training.lock import Lock
from noisekiln.training.peers import Peers
from noisekiln.training.snapshots import Snapshots, forget_after
from noisekiln.training.trainer import Diverged, Report

GRIDS_AT = (0.05, 0.15, 0.35, 0.6, 0.8)  # shares of the budget; the last grid is drawn at its end
CHECKPOINT_EVERY = 60.0  # seconds
AVERAGES = "ema"  # the folder in a run with snapshots of its averages
LOG_EVERY = 1.0  # seconds
MAY_CHANGE = (
    "data", "minutes", "images", "device", "keep", "keep_every", "sampler", "steps", "guidance", "schedule",
    "micro", "precision", "compile", "recompute", "shard", "wait", "snapshots", "curves",
)  # fmt: skip
BEGUN = (LOCK, ".run.yaml.partial")  # all that there is of a run that was killed before it had a run.yaml


class Run:
    """Trains into a folder: `run.yaml`, `dataset.json`, `environment.json`, `metrics.jsonl`, `samples/`, `model/`, ...

    Opening a folder that already holds this run resumes it.

    Args:
        settings: What the user chose.
        data: The images.
        folder: Where.

    Attributes:
        resumed: Images seen before, 0 for a new run.
        skipped: Damaged checkpoints that were passed over to resume, one line each.
        background: Where saves are written while `steps` runs.
        held_out: What images that training does not see say of it.

    Raises:
        ValueError: If the folder holds another run, or something else.
    """

    def __init__(self, settings: Settings, data: DataSet, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.base = load_start(settings, folder)
        self.settings = self._settled(settings)
        self.peers = Peers.join(self.settings.device, self.settings.wait)
        self.trainer = assemble(self.settings, data, self.base, peers=self.peers)
        assert isinstance(self.trainer.module, Trained)
        self.trained: Trained = self.trainer.module
        self.uncompiled: str | None = None
        if self.settings.compile == "yes":
            self.uncompiled = compiled(self.trained.diffusion.denoiser.backbone, self.settings.device)
        self.copies = Copies(self.trainer, self.settings, data, self.base)
        self.skipped: list[str] = []
        self.held_out = HeldOut(folder, data, self.settings)
        self.resumed = self._restore()
        self._lock, self.background = Lock(folder), Background()

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trained.parameters() if parameter.requires_grad)

    @property
    def notes(self) -> list[str]:
        """What somebody should know of how it starts, one line each."""
        told = notes(self.settings, self.data, self.base, self.trained.diffusion) if self.base else []
        return [*self.skipped, *told, *([f"not compiled: {self.uncompiled}"] if self.uncompiled else [])]

    def steps(self, interrupt: Interrupt | None = None) -> Iterator[Report]:
        """Train, yielding after every step; grids, logs and checkpoints are written on the way.

        At the end of the budget, or once `interrupt` has come, all is saved; whoever leaves the loop calls `save`.

        Raises:
            ValueError: If another process trains in this folder.
            noisekiln.training.checkpoints.SaveFailed: If there is no room left; what was saved before is intact.
        """
        self.peers.meet()  # all have looked at the folder
        with self._lock if self.peers.first else nullcontext(), self.background, self.peers.listening():
            yield from self._steps(interrupt)
            self.background.wait()
            self.peers.meet()  # nobody leaves, and has others stopped, while one still writes

    def _steps(self, interrupt: Interrupt | None) -> Iterator[Report]:
        if interrupt is not None:
            self.trainer.stop = lambda: interrupt.signal or 0
        if self.peers.first:
            self._write_down()
            self._forget_after(self.trainer.images_seen)
        self.peers.meet()  # nobody writes into what is still being tidied
        self._agree()
        if self.settings.compile == "yes" and self.uncompiled is None:
            self.uncompiled = or_eagerly(self.trainer.rehearse)
        if self.settings.device != "cpu":  # where memory has a hard end, better found now than in an hour
            self._sheet(steps=1)
            self.trainer.rehearse()
        saved, drawn = self.trainer.seconds, self.trainer.share
        snapshots = Snapshots(self.folder / AVERAGES, self.settings.snapshots, drawn, first=self.peers.first)
        with Reports(self.folder, self.settings, self.trainer, self.held_out, self.copies, LOG_EVERY) as told:
            for report in self._reports():
                self.background.check()
                snapshots.keep_if_due(self.trainer.ema, self.trainer.share)
                told.take(report, "" if report.taken else self.blame())
                due = any(drawn < share <= self.trainer.share < 1 for share in GRIDS_AT)
                if due:
                    drawn = self.trainer.share
                    self.draw_grid()
                # The last step's is saved after the last grid: a run that is killed before that draws it again.
                timely = report.seconds - saved >= CHECKPOINT_EVERY and report.share < 1
                if report.taken and (due or timely or self._keeper(report)):
                    saved = report.seconds
                    self.save()
                yield report  # last, so that whoever stops here misses no grid
            if self.trainer.share >= 1:
                told.finish()
        if self.trainer.share >= 1:
            snapshots.keep_if_due(self.trainer.ema, self.trainer.share)
            self.draw_grid()
        self.save()

    def _agree(self) -> None:
        """All processes go on from the same place, or none does."""
        which = int(self.data.fingerprint[:8], 16)  # 32 bits: of a million processes the sum is exact
        place = [float((self.folder / "run.yaml").exists()), self.resumed, which]
        if self.peers.summed(place) != [self.peers.count * mine for mine in place] or not place[0]:
            raise ValueError(
                f"The processes do not see the same run in {self.folder}, or not the same images. "
                "All need one folder, on a disk that they share, and the same data."
            )

    def _reports(self) -> Iterator[Report]:
        """The trainer's; when it diverges, the error says where and what to do."""
        try:
            yield from self.trainer.run()
        except Diverged as error:
            self.background.wait()
            there = checkpoints.counts(self.folder / "checkpoints")
            kept = "keeps the last checkpoint" if there else "holds no checkpoint yet"
            raise Diverged(
                f"{error}; {self.blame()}. The step was not taken; {self.folder} {kept}. "
                "Take a lower --rate and another --out, and look at the data.",
                error.losses,
            ) from None

    def blame(self) -> str:
        """Where in the last step the error was largest: at which noise, and in which image."""
        return blame(self.trainer, self.data, self.settings.seed)

    def save(self) -> None:
        """Write a checkpoint and, to `model/`, the averaged model; an adapter is merged there, and also kept alone.

        While `steps` runs it's done in the background, from copies, and by the end of `steps` all is written.
        """
        self.background.wait()
        saved = Saved(self.trainer, self.copies, self.settings, self.base)
        if self.background.open:
            self.background.submit(partial(saved.write, self.folder))
        else:
            with self._lock if self.peers.first else nullcontext():
                saved.write(self.folder)

    def _keeper(self, report: Report) -> bool:
        """Whether a checkpoint is due that is kept for good."""
        every = self.settings.keep_every
        return every is not None and report.images_seen % every < self.trainer.batch and report.share < 1

    def draw_grid(self) -> Path:
        """Write samples of fixed seeds and wishes, of the raw weights left and of the averaged ones right.

        With a task: what is given, both of these, and the original, of held-out images.
        """
        sheet = self._sheet()
        file = self.folder / "samples" / f"{self.trainer.images_seen:09d}.png"
        if self.peers.first:
            save_picture(sheet, file, at_least=512)
        return file

    def _sheet(self, **settings: int) -> Pixels:
        models = [trained.eval().diffusion for trained in (self.copies.raw(), self.copies.averaged())]
        sheet = preview(models, self.data, self.settings.cond, self.peers, **settings)
        self.trained.train()
        return sheet

    def _settled(self, settings: Settings) -> Settings:
        asked = resolve(settings, self.data, self.base)
        file = self.folder / "run.yaml"
        if not file.exists():
            if self.folder.is_file():
                raise ValueError(f"{self.folder} is a file, and a run needs a folder. Choose a new one with --out.")
            if self.folder.exists() and any(file.name not in BEGUN for file in self.folder.iterdir()):
                raise ValueError(
                    f"{self.folder} holds files that are no run of noisekiln's, as there is no run.yaml. "
                    "Nothing was touched. Choose an empty or new folder with --out."
                )
            return asked
        before = Settings.read(file)
        # What was chosen for the user then is kept: a longer budget must not change the network.
        names = ("model", "backbone", "batch", "sampler", "steps", "schedule")
        kept = {name: getattr(before, name) for name in names if getattr(settings, name) in (None, "auto")}
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
        self._found = checkpoints.counts(self.folder / "checkpoints")
        found = checkpoints.newest(self.folder / "checkpoints")
        if found is None:
            if (self.folder / "model").exists() and not (self.folder / "checkpoints").exists():
                raise ValueError(
                    f"{self.folder} holds a model and no checkpoints any more: the run would begin anew over it. "
                    "Restore them from a copy, or give another --out for a new run."
                )
            return 0
        self.skipped = found.skipped
        self.trainer.load_state(found.parts, found.numbers)
        return self.trainer.images_seen

    def _write_down(self) -> None:
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "run.yaml") as draft:
            self.settings.write(draft)
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
        with replacing(self.folder / "dataset.json") as draft:
            draft.write_text(text + "\n", encoding="utf-8")

    def _forget_after(self, images_seen: int) -> None:
        """Drop snapshots, log lines and damaged checkpoints from after the one resumed from: all that comes again."""
        forget_after(self.folder / AVERAGES, images_seen)
        since = set(checkpoints.counts(self.folder / "checkpoints")) - set(self._found)
        if any(count > images_seen for count in since):
            raise ValueError(
                f"Another process has trained in {self.folder} since it was opened here. "
                "Open it again, or give the same command again, to go on from there."
            )
        checkpoints.forget_after(self.folder / "checkpoints", images_seen)


def _fingerprint(described: Path) -> str:
    """That of the data in a `dataset.json`."""
    try:
        return str(json.loads(described.read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{described} is damaged, so it is unknown what this run was trained on. Restore it from a copy, "
            "or give another --out for a new run."
        ) from error
