"""Whether the model in a folder has been trained for so short a time that its samples are not clear."""

from pathlib import Path

from noisekiln.monitor.maturity import about_undertrained_model
from noisekiln.plan.settings import Settings
from noisekiln.training import checkpoints


def about_undertrained_run(folder: Path) -> str | None:
    """What the samples of a run show so early, in one line; None after longer training, or if it is no run."""
    settings_file = folder / "run.yaml"  # no RunFolder: for training it imports what takes a second
    seen = checkpoints.list_images_seen(folder / "checkpoints") if settings_file.is_file() else []
    if not seen:
        return None
    try:
        return about_undertrained_model(Settings.read(settings_file), max(seen))
    except ValueError:  # a damaged run.yaml, which sampling does not need
        return None
