"""`preview.png`: the images of the running batch, written again and again while they are sampled."""

import time
from collections.abc import Callable
from pathlib import Path

from noisekiln.files.sample_folder import PREVIEW, SampleFolder
from noisekiln.machine.memory import is_out_of_memory
from noisekiln.model.sampling import Progress

SECONDS = 3.0  # between two previews, at least
SHARE = 0.05  # of the time, for all previews after the first together, at most
MOST_IMAGES = 16


class LivePreview:
    """A preview every few seconds, if sampling takes so long; `write_batches` removes it at the end.

    Args:
        folder: Folder of the results, in which it is written.
        clock: Function that returns seconds.

    Attributes:
        file: The picture.
    """

    def __init__(self, folder: SampleFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.file: Path = folder.path / PREVIEW
        self._clock = clock
        self._start = clock()
        self._due = self._start + SECONDS

    def update(self, progress: Progress) -> bool:
        """Write the preview if it is time for one, and return whether it was written.

        Where the folder cannot be written, or memory is short, there are no previews, and sampling goes on.
        """
        now = self._clock()
        left = (now - self._start) * (progress.steps - progress.step) / progress.step
        if progress.finished or now < self._due or left < SECONDS:
            return False
        try:
            self.folder.write_preview(progress.preview(MOST_IMAGES).cpu().numpy())
        except (OSError, RuntimeError) as error:
            if not isinstance(error, OSError) and not is_out_of_memory(error):
                raise
            self._due = float("inf")
            return False
        done = self._clock()
        self._due = done + max(SECONDS, (done - now) / SHARE)
        return True
