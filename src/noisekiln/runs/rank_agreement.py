"""Agreement of processes on the folder, the checkpoint and the images of a run."""

import secrets
import time
from pathlib import Path

from noisekiln.distributed.ranks import Ranks
from noisekiln.files.atomic import atomic_write

FILE = ".shared_folder_test"  # file that shows whether processes share a folder
POLL_SECONDS = 0.05  # between attempts to read it
MAX_DELAY = 60.0  # seconds until a new file on a network disk is visible to all processes


def check_ranks_agree(folder: Path, ranks: Ranks, images_seen: int, fingerprint: str, timeout: float) -> None:
    """Raise ValueError in all processes if they do not resume the same run with the same images.

    Args:
        folder: Folder of the run, as this process sees it.
        ranks: The processes; all call this.
        images_seen: Images seen by the checkpoint that this process has read.
        fingerprint: Fingerprint of this process's images.
        timeout: Seconds after which a process is treated as lost.
    """
    if ranks.world_size == 1:
        return
    shared = is_folder_shared(folder, ranks, min(MAX_DELAY, timeout / 2))
    place = [float(images_seen), int(fingerprint[:8], 16)]  # 32 bits: the sum over a million processes is exact
    if ranks.all_reduce_sum(place) != [ranks.world_size * mine for mine in place] or not shared:
        raise ValueError(
            f"The processes do not see the same run in {folder}, or not the same images. "
            "All need the same folder, on a shared disk, and the same data."
        )


def is_folder_shared(folder: Path, ranks: Ranks, timeout: float) -> bool:
    """Whether every process can read a file that the first one writes; on a network disk it may take half a minute.

    Args:
        folder: The folder, as this process sees it.
        ranks: The processes; all call this.
        timeout: Seconds to wait for the file.
    """
    number = ranks.all_reduce_sum([secrets.randbits(32) if ranks.is_main else 0])[0]
    file, until = folder / FILE, time.monotonic() + timeout
    if ranks.is_main:
        with atomic_write(file) as draft:
            draft.write_text(f"{number:.0f}", encoding="utf-8")
    while not (seen := _text(file) == f"{number:.0f}") and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    shared = ranks.all_reduce_sum([seen]) == [ranks.world_size]
    if ranks.is_main:
        file.unlink(missing_ok=True)
    return shared


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # not visible yet
        return ""
