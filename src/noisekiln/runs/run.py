"""A training run in a folder: it resumes, it shows what it does, and it is a model at any time."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from math import isfinite
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.ema.snapshots import Snapshots
from noisekiln.errors import BatchTooLarge, CompileFailed, Diverged
from noisekiln.files.pictures import ImageArray, save_picture
from noisekiln.machine import memory
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.lock import Lock
from noisekiln.monitor.diagnosis import diagnose
from noisekiln.monitor.held_out import HeldOut
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.preview import preview
from noisekiln.monitor.reports import Reports
from noisekiln.plan.build import assemble
from noisekiln.plan.defaults import resolve
from noisekiln.plan.fine_tune import keep_start, load_start, notes
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.environment import note_start
from noisekiln.runs.run_folder import (
    AVERAGES,
    agree,
    check_not_overtaken,
    check_same_data,
    forget_after,
    least_micro,
    note_micro,
    resume_settings,
    write_metadata,
    writing,
)
from noisekiln.runs.save import SaveJob
from noisekiln.training import checkpoints
from noisekiln.training.background import Background
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.due import AtShares
from noisekiln.training.trainer import Report, never

GRIDS_AT = (0.05, 0.15, 0.35, 0.6, 0.8)  # shares of the budget; the last grid is drawn at its end
CHECKPOINT_EVERY = 60.0  # seconds
LOG_EVERY = 1.0  # seconds


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
        self.settings = resume_settings(settings, resolve(settings, data, self.base), folder)
        check_same_data(folder, data)
        self.ranks = Ranks.join(self.settings.device, self.settings.timeout)
        micro = least_micro(self.settings, folder)
        self.trainer = assemble(self.settings.but(micro_batch_size=micro), data, self.base, ranks=self.ranks)
        assert isinstance(self.trainer.module, Learner)
        self.trained: Learner = self.trainer.module
        self.network = self.trained.diffusion.denoiser.backbone
        self.compiler = NetworkCompiler(self.network, self.settings.device, self.ranks)
        if self.settings.compile == "yes":
            self.compiler.compile()
        self.copies = PlainCopies(self.trainer, self.settings, data, self.base)
        self.skipped: list[str] = []
        self.held_out = HeldOut(folder, data, self.settings)
        self.resumed = self._restore()
        self._anew = not self.resumed and (folder / "model").exists()
        self._lock, self.background = Lock(folder), Background()

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trained.parameters() if parameter.requires_grad)

    @property
    def uncompiled(self) -> str | None:
        """Why the network runs eagerly although it was to be compiled."""
        return self.compiler.failure

    @property
    def notes(self) -> list[str]:
        """What somebody should know of how it starts, one line each."""
        told = notes(self.settings, self.data, self.base, self.trained.diffusion) if self.base else []
        if self._anew:
            told.append("there is no checkpoint to go on from: it begins anew, over the model that is there")
        before, now = self.trainer.previous_world_size, self.ranks.world_size
        if before != now:
            told.append(
                f"trained by {before} process{'es' * (before > 1)} before, by {now} from here on: "
                "the same images and noise, but sums are rounded otherwise"
            )
        return [*self.skipped, *told, *([f"not compiled: {self.uncompiled}"] if self.uncompiled else [])]

    def steps(self, interrupt: Interrupt | None = None) -> Iterator[Report]:
        """Train, yielding after every step; grids, logs and checkpoints are written on the way.

        At the end of the budget, or once `interrupt` has come, all is saved; whoever leaves the loop calls `save`.

        Raises:
            ValueError: If another process trains in this folder.
            noisekiln.training.checkpoints.SaveFailed: If there is no room left; what was saved before is intact.
        """
        self.ranks.barrier()  # all have looked at the folder
        lock = self._lock if self.ranks.is_main else nullcontext()
        with lock, writing(self.folder), self.background, self.ranks.detecting_lost_ranks():
            yield from self._steps(interrupt)
            self.background.wait()
            self.ranks.barrier()  # nobody leaves, and has others stopped, while one still writes

    def _steps(self, interrupt: Interrupt | None) -> Iterator[Report]:
        if self.ranks.is_main:
            check_not_overtaken(self.folder, self.trainer.images_seen, self._found)
            write_metadata(self.folder, self.settings, self.data)
            note_start(self.folder, self.trainer.images_seen, self.settings.device, self.ranks.world_size)
            keep_start(self.base, self.folder)
            forget_after(self.folder, self.trainer.images_seen)
        self.ranks.barrier()  # nobody writes into what is still being tidied
        agree(self.folder, self.ranks, self.resumed, self.data.fingerprint, self.settings.timeout)
        self._fit()
        saved, drawn = self.trainer.seconds, self.trainer.share
        at = AtShares.equal(self.settings.ema_snapshots, drawn)
        snapshots = Snapshots(self.folder / AVERAGES, at.due)
        with Reports(self.folder, self.settings, self.trainer, self.held_out, self.copies, LOG_EVERY) as told:
            for report in self._reports(interrupt):
                self.background.check()
                if report.applied:  # the averages stand where they stood
                    self._keep_if_due(snapshots)
                told.take(report, "" if report.applied else self.why(report))
                due = any(drawn < share <= self.trainer.share < 1 for share in GRIDS_AT)
                if due:
                    drawn = self.trainer.share
                    self.draw_grid()
                # The last step's is saved after the last grid: a run that is killed before that draws it again.
                timely = report.seconds - saved >= CHECKPOINT_EVERY and report.share < 1
                if report.applied and (due or timely or self._keeper(report)):
                    saved = report.seconds
                    self.save()
                yield report  # last, so that whoever stops here misses no grid
            if self.trainer.share >= 1:
                self._check()
                told.finish()
        if self.trainer.share >= 1:
            self._keep_if_due(snapshots)
            self.draw_grid()
        self.save()

    def _fit(self) -> None:
        """Find what fits into memory, better now than in an hour: where it has a hard end, by a rehearsal of all."""
        self.trainer.choose_micro_batch()
        tried = memory.raises_on_oom(self.settings.device)
        if tried:
            self._sheet(steps=1)
        with self._short():
            if self.compiler.active:
                self._compile_in_trial_step()
            elif tried or self.ranks.world_size > 1:  # after its first backward pass DDP sums in another order
                self.trainer.trial_step()

    def _compile_in_trial_step(self) -> None:
        """Take a trial step, which compiles the network; if that fails, the network runs eagerly."""
        try:
            self.compiler.with_fallback(self.trainer.trial_step)
        except CompileFailed as error:
            raise ValueError(
                f"The network cannot be compiled: {error}. Sharded weights leave no way back. Give --compile no."
            ) from error

    def _keep_if_due(self, snapshots: Snapshots) -> None:
        if snapshots.due(self.trainer.share):
            self._check()
            work = snapshots.work(self.trainer.ema)
            if self.ranks.is_main:
                self.background.submit(work)

    def _reports(self, interrupt: Interrupt | None) -> Iterator[Report]:
        """The trainer's; when it diverges, or memory is short for good, the error says where and what to do."""
        with self._blaming(), self._short():
            stop = (lambda: interrupt.signal or 0) if interrupt is not None else never
            yield from self.compiler.steps_with_fallback(lambda: self.trainer.run(stop))

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            yield
        except Diverged as error:
            self.background.wait()
            there = checkpoints.counts(self.folder / "checkpoints")
            kept = "keeps the last checkpoint" if there else "holds no checkpoint yet"
            raise Diverged(
                f"{error}; {self.diagnose()}. Nothing of it was saved: {self.folder} {kept}. "
                "Take a lower --lr and another --out, and look at the data.",
                error.losses,
            ) from None

    @contextmanager
    def _short(self) -> Iterator[None]:
        """Sharded weights leave no way back within a step: a note has the run begin with smaller pieces next time."""
        try:
            yield
        except BatchTooLarge as error:
            micro = self.trainer.micro_batch_size
            if micro == 1:
                raise ValueError(
                    "Not even one image fits into memory with this network, shared out as it is. "
                    "Take a smaller --model or --size, or more processes."
                ) from error
            note_micro(self.folder, -(-micro // 2))
            raise ValueError(
                f"Memory ran out in process {self.ranks.rank}, with {micro} images at once. "
                "Sharded weights leave no way back within a run. "
                f"Give the same command again: it takes {-(-micro // 2)} at once then, with the same result."
            ) from error

    def _check(self) -> None:
        """Raise Diverged before anything is made of weights that are no numbers."""
        with self._blaming():
            self.trainer.check_finite()

    def why(self, report: Report) -> str:
        """Why a step was not taken."""
        if self.settings.precision == "fp16" and isfinite(report.loss):
            return "its gradient is too large for fp16, whose scale is lowered for it"
        return self.diagnose()

    def diagnose(self) -> str:
        """Where in the last step the error was largest: at which noise, and in which image."""
        return diagnose(self.trainer, self.data, self.settings.seed)

    def save(self) -> None:
        """Write a checkpoint and, to `model/`, the averaged model; an adapter is merged there, and also kept alone.

        While `steps` runs it's done in the background, from copies, and by the end of `steps` all is written.
        """
        self.background.wait()
        with self._blaming():
            saved = SaveJob(self.trainer, self.copies, self.settings, self.base)
        if self.background.open:
            self.background.submit(partial(saved.write, self.folder))
        else:
            with self._lock if self.ranks.is_main else nullcontext():
                saved.write(self.folder)

    def _keeper(self, report: Report) -> bool:
        """Whether a checkpoint is due that is kept for good."""
        every = self.settings.keep_every
        return every is not None and report.images_seen % every < self.trainer.batch_size and report.share < 1

    def draw_grid(self) -> Path:
        """Write samples of fixed seeds and wishes, of the raw weights left and of the averaged ones right.

        With a task: what is given, both of these, and the original, of held-out images.
        """
        self._check()
        sheet = self._sheet()
        file = self.folder / "samples" / f"{self.trainer.images_seen:09d}.png"
        if self.ranks.is_main:
            save_picture(sheet, file, at_least=512)
        return file

    def _sheet(self, **settings: int) -> ImageArray:
        models = [trained.eval().diffusion for trained in (self.copies.raw(), self.copies.averaged())]
        sheet = preview(models, self.data, self.settings.cond, self.ranks, **settings)
        self.trained.train()
        return sheet

    def _restore(self) -> int:
        self._found = checkpoints.counts(self.folder / "checkpoints")
        found = checkpoints.newest(self.folder / "checkpoints")
        if found is None:
            return 0
        self.skipped = found.skipped
        self.trainer.load_state_dict(found.parts, found.numbers)
        return self.trainer.images_seen
