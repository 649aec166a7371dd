"""What a run's folder says of the run: its settings, its data, and what it learned of the machine's memory."""

import errno
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.ema import snapshots
from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import replacing
from noisekiln.machine.lock import FILE as LOCK
from noisekiln.plan.settings import Settings
from noisekiln.training import checkpoints

SETTINGS, DATA = "run.yaml", "dataset.json"
AVERAGES = "ema"  # the folder with snapshots of the averages
MEETING = ".meeting"  # what processes look for, to know that they share the folder
LOOK_EVERY = 0.05  # seconds
VISIBLE_AFTER = 60.0  # seconds at most, until a new file on a network disk is seen by all
MEMORY = "memory.json"  # the note of a sharded run that ran out of it
MAY_CHANGE = (
    "data", "minutes", "images", "device", "keep_checkpoints", "keep_every", "sampler", "steps", "guidance", "schedule",
    "micro_batch_size", "precision", "compile", "activation_checkpointing", "shard", "timeout", "ema_snapshots", "curves",
)  # fmt: skip
KEPT = (
    "model",
    "backbone",
    "batch_size",
    "sampler",
    "steps",
    "schedule",
)  # a longer budget must not change the network
CHECKPOINTS = "checkpoints"
BEGUN = (LOCK, ".run.yaml.partial")  # all that there is of a run that was killed before it had a run.yaml


def resume_settings(asked: Settings, resolved: Settings, folder: Path) -> Settings:
    """The settings of the run in a folder: of a new one as resolved, of an old one with what was chosen for it then.

    Args:
        asked: By the user.
        resolved: What they mean, were it a new run.
        folder: Of the run.

    Raises:
        ValueError: If the folder holds something else, or a run of other settings.
    """
    file = folder / SETTINGS
    if not file.exists():
        if folder.is_file():
            raise ValueError(f"{folder} is a file, and a run needs a folder. Choose a new one with --out.")
        if folder.exists() and any(not _begun(file) for file in folder.iterdir()):
            raise ValueError(
                f"{folder} holds files that are no run of noisekiln's, as there is no run.yaml. "
                "Nothing was touched. Choose an empty or new folder with --out."
            )
        return resolved
    if not (folder / CHECKPOINTS).is_dir():
        raise ValueError(
            f"{folder} holds a run and no checkpoints any more: it would begin anew over what is there. "
            "Restore them from a copy, or give another --out for a new run."
        )
    before = Settings.read(file)
    kept = {name: getattr(before, name) for name in KEPT if getattr(asked, name) in (None, "auto")}
    resolved = resolved.but(**kept)
    other = resolved.differing(before, besides=MAY_CHANGE)
    if other:
        told = ", ".join(f"{name} {theirs!r} (now {mine!r})" for name, (mine, theirs) in other.items())
        raise ValueError(
            f"{folder} holds a run with other settings: {told}. A run cannot change them midway. "
            "Give the same settings to go on with it, or another --out for a new one."
        )
    return resolved


def check_same_data(folder: Path, data: DataSet) -> None:
    """Raise ValueError if a run in the folder was trained on other images."""
    described = folder / DATA
    if not checkpoints.counts(folder / CHECKPOINTS):
        return
    if _fingerprint(described) != data.fingerprint:
        raise ValueError(
            f"The images of {data.name} are no longer those that {folder} was trained on. "
            "A run cannot change its data midway. Restore them, or give another --out for a new run."
        )


def write_metadata(folder: Path, settings: Settings, data: DataSet) -> None:
    """Write what is trained, and on what."""
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    with replacing(folder / SETTINGS) as draft:
        settings.write(draft)
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
    with replacing(folder / DATA) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def check_not_overtaken(folder: Path, images_seen: int, known: Sequence[int]) -> None:
    """Raise ValueError if there are newer checkpoints than the one that a run goes on from.

    Args:
        folder: Of the run.
        images_seen: Of the checkpoint that is gone on from.
        known: Those of all checkpoints when it was chosen.
    """
    since = set(checkpoints.counts(folder / CHECKPOINTS)) - set(known)
    if any(count > images_seen for count in since):
        raise ValueError(
            f"Another process has trained in {folder} since it was opened here. "
            "Open it again, or give the same command again, to go on from there."
        )


def forget_after(folder: Path, images_seen: int) -> None:
    """Drop snapshots and damaged checkpoints from after the one resumed from: all that comes again."""
    snapshots.forget_after(folder / AVERAGES, images_seen)
    checkpoints.forget_after(folder / CHECKPOINTS, images_seen)


def agree(folder: Path, ranks: Ranks, resumed: int, fingerprint: str, wait: float) -> None:
    """All processes go on from the same place, or none does.

    Args:
        folder: Of the run, as this process sees it.
        ranks: The processes; each calls this.
        resumed: Images seen by the checkpoint that this one has read.
        fingerprint: Of this one's images.
        wait: Seconds after which a process is lost.

    Raises:
        ValueError: If they see different folders or images.
    """
    if ranks.world_size == 1:
        return
    shared = seen_by_all(folder, ranks, min(VISIBLE_AFTER, wait / 2))
    place = [float(resumed), int(fingerprint[:8], 16)]  # 32 bits: of a million processes the sum is exact
    if ranks.all_reduce_sum(place) != [ranks.world_size * mine for mine in place] or not shared:
        raise ValueError(
            f"The processes do not see the same run in {folder}, or not the same images. "
            "All need one folder, on a disk that they share, and the same data."
        )


def seen_by_all(folder: Path, ranks: Ranks, patience: float) -> bool:
    """Whether every process sees what the first one writes there; on a network disk that may take half a minute.

    Args:
        folder: That each of them takes for the run's.
        ranks: The processes; each calls this.
        patience: Seconds to look for it.
    """
    number = ranks.all_reduce_sum([secrets.randbits(32) if ranks.is_main else 0])[0]
    file, until = folder / MEETING, time.monotonic() + patience
    if ranks.is_main:
        file.write_text(f"{number:.0f}", encoding="utf-8")
    while not (seen := _text(file) == f"{number:.0f}") and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
    together = ranks.all_reduce_sum([seen]) == [ranks.world_size]
    if ranks.is_main:
        file.unlink(missing_ok=True)
    return together


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what a system says of a full or broken disk into SaveFailed, which says what is intact and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise SaveFailed(
            f"{error.filename or folder} could not be written: {error.strerror or error}. What was saved before is "
            "intact. Free some room or look after the disk, then give the same command again to go on."
        ) from error


def note_micro(folder: Path, micro: int) -> None:
    """Note how many images shall be in memory at once from the next start on."""
    with replacing(folder / MEMORY) as draft:
        draft.write_text(json.dumps({"micro": micro}) + "\n", encoding="utf-8")


def least_micro(settings: Settings, folder: Path) -> int | None:
    """How many images at once were asked for, or noted of sharded weights, if that is less; None if nothing was."""
    try:
        noted = int(json.loads((folder / MEMORY).read_text(encoding="utf-8"))["micro"])
    except (OSError, ValueError, KeyError, TypeError):  # there is no note, or none that can be read
        return settings.micro_batch_size
    return min(settings.micro_batch_size or noted, noted) if settings.shard else settings.micro_batch_size


def _begun(file: Path) -> bool:
    """Whether it may be left of a run that ended before it had its settings written."""
    return file.name in BEGUN or (file.name == CHECKPOINTS and file.is_dir() and not any(file.iterdir()))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # it is not there yet
        return ""


def _fingerprint(described: Path) -> str:
    """That of the data in a `dataset.json`."""
    try:
        return str(json.loads(described.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{described} is missing or damaged, so it is unknown what this run was trained on. "
            "Restore it from a copy, or give another --out for a new run."
        ) from error
