"""A training run in a folder: resumable, with logs, grids, checkpoints and a loadable model."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.ema.snapshots import make_write_task
from noisekiln.machine.interrupt import Interrupt
from noisekiln.monitor.held_out import HeldOutLoss
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.reports import Reports, open_reports
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.conditioning import about_conditions
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.due_actions import DueActions
from noisekiln.runs.ending import Why
from noisekiln.runs.epochs import EpochCounter
from noisekiln.runs.events import End, Event, Grid, HeldOut, Note, Plan, Saving, Step
from noisekiln.runs.failures import Failures
from noisekiln.runs.grids import Grids
from noisekiln.runs.notebook import as_html
from noisekiln.runs.rank_agreement import check_ranks_agree
from noisekiln.runs.reserved_time import count_as_used
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.run_pictures import RunPictures
from noisekiln.runs.save_job import SaveJob
from noisekiln.runs.scoring import Scoring
from noisekiln.runs.start_notes import start_notes
from noisekiln.runs.step_changes import StepChanges
from noisekiln.runs.trial_run import prepare_training
from noisekiln.runs.undertrained import about_short_budget, about_undertrained_model
from noisekiln.training.background import BackgroundWriter
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.report import Report


class Run:
    """Trains into a folder: `run.yaml`, `dataset.json`, `environment.json`, `metrics.jsonl`, `samples/`, `model/`, ...

    Opening a folder that already holds this run resumes it; nothing is written before training starts.

    Args:
        settings: Requested settings.
        data: The images.
        folder: Folder of the run.
        intervals: Intervals of logs, evaluations, grids and checkpoints.
        allow_code: Whether Python files may be run that the run or its models name, and `settings` do not.
        share: Share of the whole budget that `settings` have; advice is about the whole.

    Attributes:
        folder: Folder of the run.
        opened: Contents of the folder when it was opened.
        ranks: Processes that train together.
        trainer: Trainer of `learner`.
        learner: The model and its objective.
        compiler: Compiler of the network.
        copies: Copies of the current and the averaged weights.
        grids: Grids of samples.
        pictures: Other pictures of the run.
        held_out: Loss on held-out images.
        scoring: Scores of samples, and the best weights.
        background: Writer of files while `events` runs.

    Raises:
        ValueError: If the folder holds another run, or other files.
    """

    def __init__(
        self,
        settings: Settings,
        data: DataSet,
        folder: Path,
        *,
        intervals: Intervals = Intervals(),
        allow_code: bool = False,
        share: float = 1.0,
    ) -> None:
        self.folder, self.intervals = RunFolder(folder), intervals
        self._share = share
        self.opened = self.folder.look(settings, data, allow_code=allow_code)
        chosen, data = self.settings, self.opened.data
        base, teacher, codec = self.opened.base, self.opened.teacher, self.opened.codec
        self.ranks = Ranks.join(chosen.device, chosen.timeout)
        limited = chosen.replace(micro_batch_size=self.opened.micro_batch_size)
        self.trainer = make_trainer(limited, data, base, teacher=teacher, codec=codec, ranks=self.ranks)
        assert isinstance(self.trainer.module, Learner)
        self.learner: Learner = self.trainer.module
        network = self.learner.diffusion.denoiser.backbone
        self.compiler = NetworkCompiler(network, chosen.device, self.ranks)
        self.compiler.use(chosen.compile, static_graph=network.static_graph)
        fresh = partial(make_learner, chosen, data, base, teacher, codec)
        self.copies = PlainCopies(self.trainer, fresh, compiled=self.compiler.active)
        self.grids = Grids(self.folder.samples, self.trainer, self.copies, data, chosen)
        self.pictures = RunPictures(folder, self.trainer, self.copies, data, chosen)
        self.held_out = HeldOutLoss(folder, data, chosen, images_per_noisy_image=intervals.images_per_noisy_image)
        self.background = BackgroundWriter()
        self.failures = Failures(self.folder, chosen, data, self.trainer, self.background)
        self.scoring = Scoring(self.trainer, self.copies, data, chosen, self.failures)
        self.opened = self.opened.load_into(self.trainer)
        self._changes = StepChanges(self.trainer, self.compiler, self.copies)
        self._skipped_steps, self._auto_cond = 0, settings.cond == "auto" and base is None
        self._share_of_peak: float | None = None

    def _repr_html_(self) -> str:
        """Its progress and its newest grid, in a notebook."""
        return as_html(self.folder, self.trainer)

    @property
    def settings(self) -> Settings:
        """Resolved settings."""
        return self.opened.settings

    @property
    def data(self) -> DataSet:
        """The images."""
        return self.opened.data

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.learner.parameters() if parameter.requires_grad)

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the start of the run, one line each."""
        model, before, now = self.learner.diffusion, self.trainer.previous_world_size, self.ranks.world_size
        return start_notes(self.settings, self.data, self.opened.base, model, before=before, now=now)

    @property
    def warnings(self) -> list[str]:
        """Problems at the start that do not prevent training, one line each."""
        reader = self.learner.diffusion.conditioner
        unused = about_conditions(self.settings.cond, self.data, reader, auto=self._auto_cond)
        damaged = [self.held_out.damage] if self.held_out.damage else []
        return [*self.settings.notes, *self.opened.warnings, *damaged, *unused, *self.compiler.failures]

    @property
    def plan(self) -> Plan:
        """Plan of the run: what will be trained."""
        return Plan(
            folder=self.folder.path,
            settings=self.settings,
            data=self.data,
            parameters=self.parameters,
            images_seen=self.trainer.images_seen,
            seconds=self.trainer.seconds,
            share=min(self.trainer.share, 1.0),
            notes=tuple(self.notes),
            verdict=self.held_out.verdict,
        )

    @property
    def finished(self) -> bool:
        """Whether the budget is used up and the model exists; a missing model is written again."""
        return self.trainer.share >= 1 and self.folder.has_whole_model()

    def steps(self, interrupt: Interrupt | None = None) -> Generator[Report]:
        """Train, yielding the report of every step; see `events`."""
        with closing(self.events(interrupt)) as events:
            yield from (event.report for event in events if isinstance(event, Step))

    def events(self, interrupt: Interrupt | None = None) -> Generator[Event]:
        """Train, yielding events, while files are written; everything is saved at the end, or after a signal.

        A caller that leaves the loop earlier, after a `Step`, must call `save`.

        Raises:
            ValueError: If another process trains in this folder.
            SaveFailed: If something cannot be written; what was saved before is intact.
            Diverged: If the loss or a weight is not finite; the last saved checkpoint is still good.
        """
        yield self.plan
        yield from map(Note, self.warnings)
        if self.ranks.all_reduce_sum([not self.finished]) == [0]:  # after this, all processes have read the folder
            yield self._end("finished before")
            return
        claim = self.folder.claim(self.opened, self.learner.diffusion.codec, self.trainer.images_seen, self.ranks)
        with claim, self.background, self.ranks.detecting_lost_ranks():
            yield from self._train(interrupt or Interrupt())
            self.background.wait()
            self.ranks.barrier()  # no process exits, which would stop the others, while one still writes
        yield self._end("done" if self.trainer.share >= 1 else "stopped")

    def save(self) -> Saving:
        """Write a checkpoint and, to `model/`, the averaged model; an adapter is merged, and also saved separately.

        While `events` runs, copies are written in the background; when `events` has ended, everything is written.
        """
        self.background.wait()
        with self.failures.explaining_divergence():
            job = SaveJob(self.trainer, self.copies, self.settings, self.opened.base, self.scoring.new_best)
        if self.background.open:
            self.background.submit(partial(job.write, self.folder.path))
        else:
            with self.folder.locked(self.ranks):
                job.write(self.folder.path)
        return Saving(self.trainer.images_seen)

    def draw_grid(self) -> Path:
        """Write a grid of samples into `samples/`; see `Grids`."""
        self.failures.check_finite()
        with self.failures.explaining_divergence():
            return self.grids.draw()

    def _train(self, interrupt: Interrupt) -> Iterator[Event]:
        self.ranks.barrier()  # no process writes while another still removes old files
        settings, trainer, folder = self.settings, self.trainer, self.folder
        check_ranks_agree(folder.path, self.ranks, trainer.images_seen, self.data.fingerprint, settings.timeout)
        if not (yield from prepare_training(trainer, self.compiler, self.grids, self.failures, interrupt)):
            return  # nothing has changed that would have to be saved
        yield from self._changes.notes()
        yield from map(Note, [*self.pictures.start(), *self.scoring.start()])
        due = DueActions(settings, self.intervals, trainer)
        epochs = EpochCounter(settings, len(self.data.train), trainer)
        with open_reports(folder.path, settings, trainer, self.held_out, self.copies, self.intervals) as reports:
            yield from map(Note, about_short_budget(settings, reports.expected_speed, share=self._share))
            for report in self._reports_of_steps(interrupt):
                self.background.check()
                started = time.perf_counter()
                yield from self._log(report, reports, due)
                if report.applied:
                    started += yield from self.scoring.after_step(reports)
                epoch = epochs.add(report)
                if epoch is not None:
                    yield epoch
                if drawn := due.grid(report, epoch_ended=epoch is not None):
                    yield Grid(self.draw_grid())
                    yield from map(Note, self.pictures.after_grid())
                if due.checkpoint(report, now=drawn or self.scoring.new_best is not None):
                    yield self.save()
                if drawn:  # the end of the run does the same, and draws an animation
                    due.grid_ended(time.perf_counter() - started, also=self.scoring.seconds)
                yield Step(report, reports.throughput.images_per_second, reports.throughput.seconds_left)
            if trainer.share >= 1:
                self.failures.check_finite()
                with self.failures.explaining_divergence():
                    evaluation = reports.evaluate_at_end()
                if evaluation is not None:
                    yield HeldOut(evaluation, self.held_out.verdict)
                yield from self.scoring.after_step(reports)
        self._share_of_peak = reports.share_of_peak
        if trainer.share >= 1:
            self._snapshot_if_due(due)
            yield Grid(self.draw_grid())
            yield from map(Note, self.pictures.finish())  # before the save, after which a killed run is complete
            count_as_used(trainer)
        yield self.save()
        if trainer.share < 1:
            yield from map(Note, self.pictures.finish())

    def _reports_of_steps(self, interrupt: Interrupt) -> Iterator[Report]:
        """The trainer's reports; a network that fails to compile during training is run eagerly."""
        with self.failures.explaining_divergence(), self.failures.explaining_lack_of_memory():
            yield from self.compiler.steps_with_fallback(partial(self.trainer.run, lambda: interrupt.signal))

    def _log(self, report: Report, reports: Reports, due: DueActions) -> Iterator[Event]:
        """Logs, snapshots and evaluations after a step."""
        if report.applied:  # otherwise the averages have not changed
            self._snapshot_if_due(due)
            reports.add_step(report)
            with self.failures.explaining_divergence():
                evaluation = reports.evaluate_if_due(report)
            if evaluation is not None:
                yield HeldOut(evaluation, self.held_out.verdict)
        else:
            self._skipped_steps += 1
            reason = self.failures.reason(report)
            reports.add_skipped_step(report, reason)
            numbers = f"loss {report.loss:g}, gradient norm {report.grad_norm:g}"
            yield Note(f"after {self.trainer.step_start:,} images a step was skipped ({numbers}): {reason}")
        yield from self._changes.notes()

    def _snapshot_if_due(self, due: DueActions) -> None:
        if due.snapshot(self.trainer.share):
            self.failures.check_finite()
            task = make_write_task(self.folder.snapshots, self.trainer.ema)
            if self.ranks.is_main:
                self.background.submit(task)

    def _end(self, why: Why) -> End:
        seen, seconds = self.trainer.images_seen, self.trainer.seconds
        return End(
            why=why,
            folder=self.folder.path,
            images_seen=seen,
            seconds=seconds,
            skipped_steps=self._skipped_steps,
            signal=self.trainer.stopped_by if why == "stopped" else 0,
            verdict=self.held_out.verdict,
            why_no_verdict=self.held_out.why_no_verdict,
            undertrained=about_undertrained_model(self.settings, seen, seconds, share=self._share) or "",
            best=self.scoring.best.score if self.scoring.best else None,
            share_of_peak=self._share_of_peak,
        )
