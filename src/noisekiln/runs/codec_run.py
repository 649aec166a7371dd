"""A training run of a codec in a folder: an autoencoder of one's own images."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from math import isfinite
from pathlib import Path

import torch

from noisekiln.autoencoding.codec_learner import CodecLearner
from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import Diverged
from noisekiln.files.pictures import save_image
from noisekiln.logs.base import Logs, make_logs
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.transfer import copy_to_host
from noisekiln.model.saving import has_codec, save_codec
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.reconstruction import evenly_spaced, quality_of, reconstruct, side_by_side, slopes_of
from noisekiln.monitor.throughput import Throughput
from noisekiln.plan.codec_training import (
    make_codec_learner,
    make_codec_trainer,
    resolve_codec_settings,
    with_whole_spec,
)
from noisekiln.plan.settings import Settings
from noisekiln.runs.codec_events import CodecEnd, CodecPlan, Reconstructions
from noisekiln.runs.due_actions import DueActions
from noisekiln.runs.ending import Why
from noisekiln.runs.events import Event, Note, Saving, Step
from noisekiln.runs.grids import delete_grids_after, describe_run
from noisekiln.runs.rank_agreement import check_ranks_agree
from noisekiln.runs.refusals import other_settings
from noisekiln.runs.reserved_time import count_as_used
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints
from noisekiln.training.background import BackgroundWriter
from noisekiln.training.due import EverySeconds
from noisekiln.training.report import report_record

CODEC = "codec.json"
USED = (
    "road",
    "size",
    "codec",
    "flip",
    "seed",
    "batch_size",
    "optimizer",
    "lr",
    "cooldown",
    "ema_length",
)  # all that counts
SHOWN, JUDGED, MEASURED = 8, 256, 256  # images of a picture; of the last judgement; by which x is standardised


class CodecRun:
    """Trains a codec into a folder: `codec.json` and its weights, `checkpoints/`, `samples/`, `metrics.jsonl`.

    Opening a folder that already holds this run resumes it; nothing is written before training starts.

    Args:
        settings: Requested settings; those of a diffusion model are not used.
        data: The images.
        folder: Folder of the run.
        intervals: Intervals of logs, pictures and checkpoints.

    Attributes:
        settings: Resolved settings.
        data: The images.
        folder: Folder of the run.
        ranks: Processes that train together.
        trainer: Trainer of `learner`.
        learner: The codec and its losses.
        warnings: Problems at the start that do not prevent training, one line each.

    Raises:
        ValueError: If the folder holds another run, or other files.
    """

    def __init__(self, settings: Settings, data: DataSet, folder: Path, *, intervals: Intervals = Intervals()) -> None:
        self.settings, self.data = resolve_codec_settings(settings, data), data
        self.folder, self.intervals = RunFolder(folder), intervals
        self._check_folder()
        self.ranks = Ranks.join(self.settings.device, self.settings.timeout)
        self.trainer = make_codec_trainer(self.settings, data, self.ranks)
        assert isinstance(self.trainer.module, CodecLearner)
        self.learner: CodecLearner = self.trainer.module
        self._copy = make_codec_learner(self.settings, data).requires_grad_(False).eval()
        self._averaged = self._copy.codec
        self._background = BackgroundWriter()
        checkpoint = checkpoints.load_newest(self.folder.checkpoints)
        self.warnings = checkpoint.skipped if checkpoint else []
        if checkpoint is not None:
            self.trainer.load_state_dict(checkpoint.shards, checkpoint.state)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up and the codec exists; a missing codec is written again."""
        return self.trainer.share >= 1 and has_codec(self.folder.path)

    @property
    def plan(self) -> CodecPlan:
        """Plan of the run: what will be trained."""
        return CodecPlan(
            folder=self.folder.path,
            settings=self.settings,
            data=self.data,
            parameters=sum(weight.numel() for weight in self.learner.codec.parameters()),
            pretrained=self.learner.codec.pretrained,
            x_shape=(self._averaged.x_channels, *self._averaged.x_size(self.data.size)),
            images_seen=self.trainer.images_seen,
            seconds=self.trainer.seconds,
            share=min(self.trainer.share, 1.0),
        )

    def events(self, interrupt: Interrupt | None = None) -> Generator[Event]:
        """Train, yielding events; pictures, logs and checkpoints are written meanwhile.

        At the end of the budget the codec is saved, and after a signal of `interrupt` a checkpoint.

        Raises:
            ValueError: If another process trains in this folder.
            SaveFailed: If something cannot be written; what was saved before is intact.
            Diverged: If the loss or a weight is not finite; the last saved checkpoint is still good.
        """
        yield self.plan
        yield from map(Note, self.warnings)
        if self.ranks.all_reduce_sum([not self.finished]) == [0]:
            yield self._end("finished before")
            return
        with self._claimed(), self._background, self.ranks.detecting_lost_ranks(), _explaining_divergence():
            yield from self._train(interrupt or Interrupt())
            self._background.wait()
            self.ranks.barrier()
        yield self._end("done" if self.trainer.share >= 1 else "stopped")

    def _train(self, interrupt: Interrupt) -> Iterator[Event]:
        trainer, throughput = self.trainer, Throughput(self.trainer.budget)
        images_seen, fingerprint = trainer.images_seen, self.data.fingerprint
        check_ranks_agree(self.folder.path, self.ranks, images_seen, fingerprint, self.settings.timeout)
        trainer.choose_micro_batch()
        by_shares = self.settings.replace(epochs=None)  # its pictures are not tied to epochs
        due, line = DueActions(by_shares, self.intervals, trainer), EverySeconds(self.intervals.log_seconds)
        logs = make_logs("none") if self.ranks.is_main else []
        with Logs(logs, self.folder.path, images_seen, asdict(self.settings)) as log:
            self.learner.share = trainer.share
            for report in trainer.run(lambda: interrupt.signal):
                self.learner.share = report.share
                self._background.check()
                started = time.perf_counter()
                throughput.add(report.seconds, report.images_seen)
                if line.due(report.seconds) or report.share >= 1:
                    log.write(report_record(report))
                drawn = due.grid(report)
                if drawn:
                    yield self._draw()
                if due.checkpoint(report, now=drawn):
                    yield self._save_checkpoint()
                if drawn:
                    due.grid_ended(time.perf_counter() - started)
                yield Step(report, throughput.images_per_second, throughput.seconds_left)
            if trainer.share >= 1:
                drawn_last = self._draw(JUDGED)
                log.write(_judgement(trainer.images_seen, drawn_last))
                if self.ranks.is_main:
                    save_codec(self._averaged, self.folder.path)
                count_as_used(trainer)
                yield drawn_last
        yield self._save_checkpoint()

    def _draw(self, count: int = SHOWN) -> Reconstructions:
        """Write a picture of images above their reconstructions with averaged weights; all processes call this."""
        self.trainer.check_finite()
        self._fill_average()
        originals = evenly_spaced(self.data.held_out or self.data.train, count)
        images = reconstruct(self._averaged, originals)
        file = self.folder.samples / f"{self.trainer.images_seen:09d}.png"
        if self.ranks.is_main:
            about = describe_run(self.folder.path, self.trainer.images_seen)
            save_image(side_by_side(images[:SHOWN], originals[:SHOWN]), file, at_least=512, text=about)
        return Reconstructions(file, *quality_of(images, originals), *slopes_of(self._averaged, originals))

    @torch.no_grad()
    def _fill_average(self) -> None:
        """Give the saved codec the averaged weights, and standardise its x by training images."""
        self.trainer.ema.copy_into(self._copy, self.trainer.module)
        self._averaged.standardise(evenly_spaced(self.data.train, MEASURED))

    def _save_checkpoint(self) -> Saving:
        tensors, state = self.trainer.state_dict()
        if self.ranks.is_main:
            place, seen, keep = self.folder.checkpoints, self.trainer.images_seen, self.settings.keep_checkpoints
            self._background.submit(partial(checkpoints.save, place, seen, copy_to_host(tensors), state, keep=keep))
        return Saving(self.trainer.images_seen)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Lock the folder, write the settings into it, and remove what will be made again."""
        with self.folder.writing(), self.folder.locked(self.ranks):
            if self.ranks.is_main:
                self.folder.write_metadata(self.settings, self.data)
                delete_grids_after(self.folder.samples, self.trainer.images_seen)
                checkpoints.delete_checkpoints_after(self.folder.checkpoints, self.trainer.images_seen)
            self.ranks.barrier()
            yield

    def _check_folder(self) -> None:
        """Raise ValueError if the folder holds other files, or a run with other settings or images."""
        self.folder.check_is_run_or_empty()
        self._check_is_codec()
        if self.folder.settings_file.is_file():
            conflicts = self.settings.conflicts(with_whole_spec(Settings.read(self.folder.settings_file)))
            conflicts = {name: pair for name, pair in conflicts.items() if name in USED}
            if conflicts:
                raise other_settings(self.folder.path, conflicts, has_model=False)
        if self.folder.data_file.is_file():
            self.folder.check_same_data(self.settings, self.data)

    def _check_is_codec(self) -> None:
        """Raise ValueError if the folder is that of a model, or of the codec of a model, which knows this one alone."""
        path = self.folder.path
        if (path / "codec").is_dir():
            raise ValueError(
                f"{path} is a run, and its codec is {path / 'codec'}. Give another `out` for a new codec, or resume "
                "the run by `noisekiln train`."
            )
        if path.name == "codec" and checkpoints.list_images_seen(path.parent / "checkpoints"):
            raise ValueError(
                f"{path} is the codec of a run that has a model of its latents, which would not know those of a codec "
                "that was trained further. Give another `out` for a new codec."
            )

    def _end(self, why: Why) -> CodecEnd:
        return CodecEnd(
            why=why,
            folder=self.folder.path,
            images_seen=self.trainer.images_seen,
            seconds=self.trainer.seconds,
            signal=self.trainer.stopped_by if why == "stopped" else 0,
        )


def _judgement(images_seen: int, found: Reconstructions) -> dict[str, float]:
    """What is known of a trained codec, as a line of `metrics.jsonl`."""
    line = {"images_seen": images_seen, "psnr": found.psnr, "ssim": found.ssim}
    slopes = {"latent_slope": found.latent_slope, "image_slope": found.image_slope}
    return line | {name: slope for name, slope in slopes.items() if isfinite(slope)}


@contextmanager
def _explaining_divergence() -> Iterator[None]:
    """Say of `Diverged` what was not saved and what to do."""
    try:
        yield
    except Diverged as error:
        remedy = "Train it by itself with a lower learning rate, `noisekiln codec train`, and check the data"
        what = f"{error.what}. These weights of the codec were not saved"
        raise Diverged(what, error.losses, remedy=remedy) from None
