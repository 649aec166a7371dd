"""Agreement of processes on the folder, the checkpoint and the images of a run."""

import secrets
import time
from pathlib import Path

from noisekiln.distributed.ranks import Ranks

FILE = ".meeting"  # by which processes know that they share a folder
LOOK_EVERY = 0.05  # seconds
VISIBLE_AFTER = 60.0  # seconds at most, until a new file on a network disk is visible to all


def check_ranks_agree(folder: Path, ranks: Ranks, images_seen: int, fingerprint: str, timeout: float) -> None:
    """Raise ValueError in all processes if they do not resume the same run with the same images.

    Args:
        folder: Folder of the run, as this process sees it.
        ranks: The processes; all call this.
        images_seen: Images seen by the checkpoint that this process has read.
        fingerprint: Fingerprint of this process's images.
        timeout: Seconds after which a process is lost.
    """
    if ranks.world_size == 1:
        return
    shared = is_shared(folder, ranks, min(VISIBLE_AFTER, timeout / 2))
    place = [float(images_seen), int(fingerprint[:8], 16)]  # 32 bits: of a million processes the sum is exact
    if ranks.all_reduce_sum(place) != [ranks.world_size * mine for mine in place] or not shared:
        raise ValueError(
            f"The processes do not see the same run in {folder}, or not the same images. "
            "All need one folder, on a disk that they share, and the same data."
        )


def is_shared(folder: Path, ranks: Ranks, timeout: float) -> bool:
    """Whether every process sees what the first one writes in a folder; on a network disk that may take half a minute.

    Args:
        folder: The folder, as this process sees it.
        ranks: The processes; all call this.
        timeout: Seconds to look for it.
    """
    number = ranks.all_reduce_sum([secrets.randbits(32) if ranks.is_main else 0])[0]
    file, until = folder / FILE, time.monotonic() + timeout
    if ranks.is_main:
        file.write_text(f"{number:.0f}", encoding="utf-8")
    while not (seen := _text(file) == f"{number:.0f}") and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
    shared = ranks.all_reduce_sum([seen]) == [ranks.world_size]
    if ranks.is_main:
        file.unlink(missing_ok=True)
    return shared


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # it is not there yet
        return ""
