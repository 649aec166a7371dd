"""A run fine-tuned to look like some images, kept beside the run that it is made from."""

import hashlib
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.model.adapter import fingerprint
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings


def fine_tuning(
    run: Path, model: Diffusion, data: DataSet, *, source: str | None = None, minutes: float, device: str
) -> tuple[Settings, Path]:
    """The settings and the folder of the run that looks like these images.

    The folder's name says what it is made of: the run, the images by their name and fingerprint, and the network by
    its own. So a finished one is found again, and other images, or the run after more training, get another.

    Args:
        run: Folder of the run or model to start from.
        model: What is in it.
        data: The images, of the model's size.
        source: Where they come from, if they have a place.
        minutes: Of training.
        device: auto, cpu, cuda or mps.
    """
    mark = hashlib.blake2b(f"{data.fingerprint} {fingerprint(model.denoiser)}".encode(), digest_size=4).hexdigest()
    folder = run.parent / f"{run.resolve().name}-like-{data.name}-{mark}"
    known = folder / "run.yaml"
    start = Settings.read(known).start if known.is_file() else str(run)  # by the path that it was first given
    return Settings(data=source or data.name, start=start, minutes=minutes, device=device), folder
