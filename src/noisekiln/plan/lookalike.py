"""Fine-tuning a run on images that it should look like, in a folder beside the run."""

import hashlib
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.model.adapter import network_fingerprint
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings


def lookalike_run(
    run: Path, model: Diffusion, data: DataSet, *, source: str | None = None, minutes: float, device: str
) -> tuple[Settings, Path]:
    """Settings and folder of the run that is fine-tuned on these images.

    The folder is named after the run, the images by name and fingerprint, and the network by its own. So a finished one
    is found again, and other images, or the run after more training, get another.

    Args:
        run: Folder of the run or model to start from.
        model: The model in it.
        data: The images, of the model's size.
        source: Where the images come from, if they have a place.
        minutes: Training budget.
        device: auto, cpu, cuda or mps.
    """
    mark = hashlib.blake2b(
        f"{data.fingerprint} {network_fingerprint(model.denoiser)}".encode(), digest_size=4
    ).hexdigest()
    folder = run.parent / f"{run.resolve().name}-like-{data.name}-{mark}"
    known = folder / "run.yaml"
    start = Settings.read(known).start if known.is_file() else str(run)  # by the path of its first start
    return Settings(data=source or data.name, start=start, minutes=minutes, device=device), folder
