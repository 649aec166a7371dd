"""Fine-tuning of a run on images that it should imitate, in a folder next to the run."""

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

    The folder is named after the run, the images by name and fingerprint, and the network by its own. So a finished
    run is found again, and other images, or the base run after more training, get another folder.

    Args:
        run: Folder of the run or model to start from.
        model: Model of this run.
        data: Images, of the model's size.
        source: Path of the images, if they have one.
        minutes: Training budget.
        device: auto, cpu, cuda or mps.
    """
    content = f"{data.fingerprint} {network_fingerprint(model.denoiser)}"
    digest = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
    folder = run.parent / f"{run.resolve().name}-like-{data.name}-{digest}"
    known = folder / "run.yaml"
    start = Settings.read(known).start if known.is_file() else str(run)  # the path of its first start
    return Settings(data=source or data.name, start=start, minutes=minutes, device=device), folder
