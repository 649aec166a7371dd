"""Folder of a run: its contents, checks before a run is started or resumed, and the lock for training."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from noisekiln.codecs.base import Codec, Size
from noisekiln.components.consent import Consent
from noisekiln.components.spec import check_specs, consent_to
from noisekiln.data import DataSet, with_channels
from noisekiln.distributed.ranks import Ranks
from noisekiln.ema import snapshots
from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import atomic_write
from noisekiln.files.json_file import read_json, write_json
from noisekiln.files.links import check_no_link_leaves
from noisekiln.files.system_files import entries_of
from noisekiln.logs.json_lines import damage_of_log
from noisekiln.machine.lock import FILE as LOCK
from noisekiln.machine.lock import Lock
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.saving import load_codec, save_codec
from noisekiln.paths import expand_home
from noisekiln.plan.codec_training import with_whole_spec
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import START, TEACHER, keep_model, load_start, load_teacher, moved_models
from noisekiln.plan.teacher import settings_from_teacher
from noisekiln.runs.environment import append_environment, damage_of_environment
from noisekiln.runs.grids import delete_grids_after
from noisekiln.runs.opened import Opened
from noisekiln.runs.refusals import other_images, other_settings
from noisekiln.training import checkpoints

LEFTOVERS = (LOCK, ".run.yaml.partial")  # files of a run that was killed before it had a run.yaml


class RunFolder:
    """The folder of a run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = expand_home(path)
        self.lock = Lock(path)
        self.settings_file, self.data_file = path / "run.yaml", path / "dataset.json"
        self.memory_file = path / "memory.json"  # written by a sharded run that ran out of memory
        self.checkpoints = path / "checkpoints"
        self.snapshots = path / "ema"
        self.samples = path / "samples"
        self.model, self.codec = path / "model", path / "codec"

    def check_free(self) -> None:
        """Raise ValueError if another process trains here, or SaveFailed if nothing can be written."""
        with self.writing():
            self.lock.check()

    def check_is_run_or_empty(self) -> None:
        """Raise ValueError if the folder is a file, holds files of something else than a run, or links out of it."""
        check_no_link_leaves(self.path)
        if not self.settings_file.exists():
            self._check_empty()

    def look(self, settings: Settings, data: DataSet, *, allow_code: bool = False) -> Opened:
        """Read and check everything that a run needs to start or resume here; nothing is changed.

        Args:
            settings: Requested settings.
            data: The images.
            allow_code: Whether Python files may be run that the run or its models name, and `settings` do not.

        Raises:
            ValueError: If the folder holds other files, a run with other settings or images, or a damaged run.
        """
        with torch.random.fork_rng(devices=[]):  # building components draws their first weights
            base = load_start(settings, self.path, allow_code=allow_code)
            teacher = load_teacher(settings, self.path, allow_code=allow_code)
            loaded, model = data, base or teacher
            data = data if model is None else with_channels(data, model.codec.image_channels)
            own = settings if teacher is None or base is not None else settings_from_teacher(settings, teacher)
            consent = consent_to(asdict(own), allow_code)
            codec = load_codec(self.codec, consent)
            known = codec if model is None else model.codec
            resolved = self._resume_settings(own, data, base, known, consent)
        if checkpoints.list_images_seen(self.checkpoints):
            self.check_same_data(settings, data)
        return Opened(
            settings=resolved,
            data=data,
            base=base,
            teacher=teacher,
            codec=codec,
            checkpoint=checkpoints.load_newest(self.checkpoints),
            images_seen_of_checkpoints=checkpoints.list_images_seen(self.checkpoints),
            micro_batch_size=self._micro_batch_size(resolved),
            has_model=self.model.exists(),
            conversions=data.altered[len(loaded.altered) :],
            damage=tuple(filter(None, (damage_of_log(self.path), damage_of_environment(self.path)))),
        )

    def has_whole_model(self) -> bool:
        """Whether the folder holds a model with its weights."""
        return all((self.model / name).is_file() for name in ("model.json", "model.safetensors"))

    @contextmanager
    def claim(self, opened: Opened, codec: Codec, images_seen: int, ranks: Ranks) -> Iterator[None]:
        """Lock the folder for training, write run.yaml and dataset.json, and remove files that will be made again.

        Args:
            opened: Result of `look`.
            codec: Codec of the run, whose weights are kept.
            images_seen: Images seen by the state from which training continues.
            ranks: Processes that train together; the first one writes.

        Raises:
            ValueError: If another process trains here, or has trained here since `look`.
            SaveFailed: If something cannot be written.
        """
        with self.writing(), self.locked(ranks):
            if ranks.is_main:
                self._check_not_overtaken(opened, images_seen)
                self.write_metadata(opened.settings, opened.data)
                append_environment(self.path, images_seen, opened.settings.device, ranks.world_size)
                keep_model(opened.base, opened.settings.start, self.path / START)
                keep_model(opened.teacher, opened.settings.teacher, self.path / TEACHER)
                if (
                    codec.state_dict() and not (self.codec / "codec.json").is_file()
                ):  # codecs without weights are made again identically
                    save_codec(codec, self.codec)
                delete_grids_after(self.samples, images_seen)
                snapshots.delete_snapshots_after(self.snapshots, images_seen)
                checkpoints.delete_checkpoints_after(self.checkpoints, images_seen)
            yield

    @contextmanager
    def locked(self, ranks: Ranks) -> Iterator[None]:
        """Hold the lock, in the first process."""
        with self.lock if ranks.is_main else nullcontext():
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Convert errors of a full, broken or read-only disk to SaveFailed, which says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise
            what = f"{error.filename or self.path} could not be written"
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise SaveFailed(
                    f"{what}: {error.strerror}. What was saved before is intact. Give a folder as `out` in which you "
                    "may write."
                ) from error
            raise SaveFailed.of(what, error) from error

    def write_metadata(self, settings: Settings, data: DataSet) -> None:
        """Write `run.yaml` and `dataset.json`, beside a place for checkpoints."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.write_description(settings, data)

    def write_description(self, settings: Settings, data: DataSet) -> None:
        """Write `run.yaml` and `dataset.json`."""
        with atomic_write(self.settings_file) as draft:
            settings.write(draft)
        write_json(self.data_file, _describe_data(data))

    def read_data_description(self) -> tuple[str, tuple[str, ...]]:
        """Fingerprint and class names of the images, from `dataset.json`.

        Raises:
            ValueError: If it is missing or damaged.
        """
        described = self._read_data_file()
        return described["fingerprint"], tuple(described["class_names"])

    def limit_micro_batch(self, size: int) -> None:
        """Record that a sharded run should use micro-batches of at most `size` images from its next start on."""
        write_json(self.memory_file, {"micro_batch_size": size}, indent=None)

    def _micro_batch_size(self, settings: Settings) -> int | None:
        """Requested micro-batch, or the smaller one recorded after a sharded run ran out of memory."""
        requested = settings.micro_batch_size
        try:
            recorded = int(read_json(self.memory_file)["micro_batch_size"])
        except (OSError, ValueError, KeyError, TypeError):  # no record, or an unreadable one
            return requested
        return min(requested or recorded, recorded) if settings.shard else requested

    def _resume_settings(
        self, settings: Settings, data: DataSet, base: Diffusion | None, codec: Codec | None, consent: Consent
    ) -> Settings:
        """The requested settings, resolved; those of the existing run where none are requested."""
        self.check_is_run_or_empty()
        if not self.settings_file.exists():
            return resolve(settings, data, base, codec)
        if not self.checkpoints.is_dir():
            raise ValueError(
                f"{self.path} holds a run without its checkpoints: it would start again and overwrite its files. "
                "Restore the checkpoints from a backup, or give another `out` for a new run."
            )
        before = with_whole_spec(Settings.read(self.settings_file).with_absolute_paths())
        resumed = settings.resuming(before)
        check_specs(asdict(resumed), consent, self.settings_file)
        resolved = resolve(resumed, data, base, codec)
        conflicts = resolved.conflicts(before.replace(**moved_models(resolved, before, self.path)))
        # What was requested as before and differs now was limited by the data, which are checked next.
        conflicts = {name: pair for name, pair in conflicts.items() if getattr(resumed, name) != pair[1]}
        if conflicts:
            raise other_settings(self.path, conflicts, has_model=self.has_whole_model())
        return resolved

    def _read_data_file(self) -> dict[str, Any]:
        try:
            described = read_json(self.data_file)
            if isinstance(described["fingerprint"], str) and isinstance(described["class_names"], list):
                return dict(described)
            raise ValueError("it does not describe a data set")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.data_file} is missing or damaged, so it is unknown what this run was trained on. "
                f"Restore it from a backup, or give another `out` for a new run, with `start={self.path}` to go on "
                "from this model."
            ) from error

    def _check_empty(self) -> None:
        """Raise ValueError if the folder holds other files than those of a run that was killed at its very start."""
        for place in (self.path, *self.path.parents):
            if place.is_file():
                inside = "" if place == self.path else f", so {self.path} cannot be made"
                raise ValueError(f"{place} is a file, but a run needs a folder{inside}. Give a new folder as `out`.")
        if self.path.exists() and any(not self._is_leftover(file) for file in entries_of(self.path)):
            raise ValueError(
                f"{self.path} holds files, but no run: there is no run.yaml. Nothing was changed. "
                "Give an empty or new folder as `out`."
            )

    def _is_leftover(self, file: Path) -> bool:
        return file.name in LEFTOVERS or (file == self.checkpoints and file.is_dir() and not any(file.iterdir()))

    def image_size(self) -> Size | None:
        """Height and width of the images that the run was trained on; None if that is not known."""
        try:
            height, width = read_json(self.data_file)["size"]
        except (OSError, ValueError, LookupError, TypeError):  # no run, or a damaged file, about which others say more
            return None
        return height, width

    def check_same_data(self, settings: Settings, data: DataSet) -> None:
        """Raise ValueError if the run was trained on other images than these, which `settings.data` names."""
        described = self._read_data_file()
        size, has_model = self.image_size(), self.has_whole_model()
        if size not in (None, data.size):
            raise other_settings(self.path, {"size": (data.size, size)}, has_model=has_model)
        if described["fingerprint"] != data.fingerprint:
            parts = [described.get(name) for name in ("images", "held_out")]
            counts = [part for part in parts if isinstance(part, int)]
            count = sum(counts) if len(counts) == len(parts) else None
            before = Settings.read(self.settings_file)
            raise other_images(self.path, before, count, data, settings.data, has_model=has_model)

    def _check_not_overtaken(self, opened: Opened, images_seen: int) -> None:
        """Raise ValueError if newer checkpoints than the one to continue from have appeared since `look`."""
        since = set(checkpoints.list_images_seen(self.checkpoints)) - set(opened.images_seen_of_checkpoints)
        if any(count > images_seen for count in since):
            raise ValueError(
                f"Another process has trained in {self.path} since it was opened here. "
                "Open it again, or run the same call or command again, to resume from there."
            )


def _describe_data(data: DataSet) -> dict[str, Any]:
    """Description of a data set, for `dataset.json`."""
    return {
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
