"""A training run of latent diffusion in a folder: first a codec of the images, then a model of what it encodes."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import torch

from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build, consent_to, describe
from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.files.hub import HubUnreachable
from noisekiln.machine.devices import pick_device
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.transfer import module_to_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.saving import has_codec, load_codec, save_codec
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.chosen_components import is_trained_codec
from noisekiln.plan.codec_training import codec_of_run_or_default, find_trained_codec, with_codec
from noisekiln.plan.defaults import with_budget
from noisekiln.plan.road import AUTO, CODEC_SHARE, LATENT, settings_of_codec, settings_of_latents
from noisekiln.plan.settings import Settings
from noisekiln.runs.codec_events import CodecEnd
from noisekiln.runs.codec_run import CODEC, CodecRun
from noisekiln.runs.events import End, Event, Note, Stage
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints


class LatentRun:
    """Trains a codec in `codec/` with a share of the budget, then in the folder itself a model of its latents.

    The second is a `Run` like any other. A codec that was trained before, the folder that `codec` names, is copied to
    `codec/` instead. Opening a folder that already holds this run resumes it; nothing is written before training
    starts.

    Args:
        settings: Requested settings.
        data: The images.
        folder: Folder of the run.
        intervals: Intervals of both.
        allow_code: Whether Python files may be run that the run or its models name, and `settings` do not.

    Attributes:
        settings: Requested settings, with a budget and the road.
        data: The images.
        folder: Folder of the run.
        ranks: Processes that train together.
    """

    def __init__(
        self,
        settings: Settings,
        data: DataSet,
        folder: Path,
        *,
        intervals: Intervals = Intervals(),
        allow_code: bool = False,
    ) -> None:
        self.folder, self.data = RunFolder(folder), data
        is_new = not self.folder.settings_file.is_file()
        self._chosen_by_default = is_new and settings.road == AUTO and settings.codec is None
        self.intervals, self.allow_code = intervals, allow_code
        self.folder.check_is_run_or_empty()
        requested = with_budget(settings).replace(road=LATENT)
        self.trained_before = self._trained_before(requested)
        spec = None if self.trained_before is None else _spec_of(self.trained_before)
        codec = spec or settings.codec or codec_of_run_or_default(self.folder.settings_file, data.size)
        requested = requested.replace(codec=codec)
        self.settings = requested if spec else with_codec(requested, data.size)
        if self.folder.data_file.is_file():
            self.folder.check_same_data(self.settings, data)
        self.ranks = Ranks.join(self.settings.device, self.settings.timeout)
        consent = consent_to(asdict(self.settings), allow_code)
        lost = self.has_model and not has_codec(self.folder.codec, consent)
        self._to_restore = self._codec_of_model() if lost else None

    @property
    def has_model(self) -> bool:
        """Whether a model of the latents was saved: its codec does not change any more."""
        return bool(checkpoints.list_images_seen(self.folder.checkpoints))

    def open_codec(self) -> CodecRun:
        """The run of the codec, new or resumed.

        Raises:
            ValueError: If its folder holds another run.
        """
        count = len(self.data.train)
        return CodecRun(settings_of_codec(self.settings, count), self.data, self.folder.codec, intervals=self.intervals)

    def open_model(self) -> Run:
        """The run of the model, new or resumed.

        Raises:
            ValueError: If its folder holds another run.
        """
        return Run(
            settings_of_latents(self.settings, len(self.data.train), all_of_it=self.trained_before is not None),
            self.data,
            self.folder.path,
            intervals=self.intervals,
            allow_code=self.allow_code,
            share=1.0 if self.trained_before is not None else 1 - CODEC_SHARE,
        )

    def parts(self) -> Iterator[tuple[Stage | None, CodecRun | Run]]:
        """The run of the codec, if it may still change, and that of the model, each opened when its turn comes."""
        size = self.data.size
        if self.trained_before is None:
            if not self.has_model:
                yield Stage(1, 2, size, "a codec for {}x{} pixels".format(*size)), self.open_codec()
            codec: Codec = build(Codec, str(self.settings.codec))
            yield Stage(2, 2, size, "a model of {}x{} latents".format(*codec.x_size(size))), self.open_model()
        else:
            yield None, self.open_model()

    def events(self, interrupt: Interrupt | None = None) -> Generator[Event]:
        """Train the codec, then the model, yielding their events, and one `End`; see `Run.events`."""
        interrupt, seconds = interrupt or Interrupt(), self._seconds_of_codec()
        if self._chosen_by_default:
            yield Note(
                "a codec is trained first, which makes images small, and then a model of small images, which is faster "
                "by far; `road=pixels` trains a single network"
            )
        if self.trained_before is not None:
            self._keep(self.trained_before)
        codec_is_final = self.trained_before is None and self.has_model
        if self._to_restore is not None:
            yield Note("the codec in codec/ was lost or damaged, and is taken from the model")
            if self.ranks.is_main:
                with self.folder.writing():
                    save_codec(self._to_restore, self.folder.codec)
            self.ranks.barrier()
        for stage, run in self.parts():
            if codec_is_final:  # then there is one part, which has not refused the settings
                yield Note("the codec stays as it is, because there is a model of its latents")
            if stage is not None:
                yield stage
            events = run.events(interrupt) if isinstance(run, Run) else self._train_codec(run, interrupt)
            with closing(events):
                for event in events:
                    if isinstance(event, CodecEnd) and event.why == "stopped":
                        yield self._stopped(event)
                        return
                    if isinstance(event, CodecEnd):
                        seconds = event.seconds
                    elif isinstance(event, End):
                        yield replace(event, seconds=event.seconds + seconds, codec=self.folder.codec)
                    else:
                        yield event

    def _train_codec(self, run: CodecRun, interrupt: Interrupt) -> Generator[Event]:
        """The events of the codec's run."""
        self._write_settings(all_of_it=False)
        if not run.finished:
            self.open_model()  # which raises now, not after the codec, for what cannot be trained
        yield from run.events(interrupt)

    def _keep(self, codec: Codec) -> None:
        """Copy a codec that was trained before into the folder, unless it is there."""
        self._write_settings(all_of_it=True)
        if self.ranks.is_main and not (self.folder.codec / CODEC).is_file():
            with self.folder.writing():
                save_codec(codec, self.folder.codec)
        self.ranks.barrier()

    def _write_settings(self, *, all_of_it: bool) -> None:
        """Write the requested settings of the model, so that the folder is a run before it has checkpoints."""
        if self.ranks.is_main and not self.has_model:
            settings = settings_of_latents(self.settings, len(self.data.train), all_of_it=all_of_it)
            with self.folder.writing():
                self.folder.write_metadata(settings, self.data)
        self.ranks.barrier()

    def _trained_before(self, settings: Settings) -> Codec | None:
        """The codec of the folder that `codec` names, or None; it must be that which the run already has.

        Raises:
            ValueError: If it is not, or does not fit the images.
        """
        consent = consent_to(asdict(settings), self.allow_code)
        own = load_codec(self.folder.codec, consent) if has_codec(self.folder.codec, consent) else None
        if not is_trained_codec(settings.codec):
            copied = settings.codec is None and not (self.folder.codec / "run.yaml").is_file()
            return own if copied else None
        assert settings.codec is not None
        try:
            codec = find_trained_codec(settings.codec, consent, offline=own is not None)
        except HubUnreachable:
            if own is None:
                raise
            codec = own  # what the run has; the one on the Hub may be gone
        if codec is None:
            raise ValueError(
                f"`codec={settings.codec}` holds no codec: there is no codec.json. Give one that "
                "`noisekiln codec train` has finished, a run with `road=latent`, or an autoencoder of diffusers."
            )
        if own is None:
            device = pick_device(settings.device)
            fitted = module_to_device(codec, device).fit(torch.from_numpy(self.data.train.pixels)).cpu()
            assert isinstance(fitted, Codec)
            return fitted
        if not _same_weights(own, codec):
            raise ValueError(
                f"{self.folder.path} was trained with another codec than that of {settings.codec}. A run cannot change "
                "its codec midway. Give the same `codec` to resume it, or another `out` for a new run."
            )
        return own

    def _codec_of_model(self) -> Codec:
        """The codec that the saved model holds, for a folder that has lost its own."""
        try:
            return Diffusion.load(self.folder.path, allow_code=consent_to(asdict(self.settings), self.allow_code)).codec
        except ValueError as error:
            raise ValueError(
                f"{self.folder.path} has lost its codec, and its model holds none ({str(error).rstrip('.')}). Restore "
                "`codec/` from a backup, or give another `out`."
            ) from error

    def _seconds_of_codec(self) -> float:
        """Seconds for which the codec was trained here before; 0 for one that was copied, or is new."""
        if not self.has_model:
            return 0.0
        checkpoint = checkpoints.load_newest(self.folder.codec / "checkpoints")
        return float(checkpoint.state["seconds"]) if checkpoint else 0.0

    def _stopped(self, end: CodecEnd) -> End:
        return End(
            why="stopped",
            folder=self.folder.path,
            images_seen=end.images_seen,
            seconds=end.seconds,
            skipped_steps=0,
            signal=end.signal,
            verdict=None,
        )


def _spec_of(codec: Codec) -> str:
    """The spec of a codec, without the channels that it was fitted to."""
    return describe(codec, include_defaults=True, exclude=("image_channels",))


def _same_weights(one: Codec, other: Codec) -> bool:
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())  # without what `fit` has measured
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
