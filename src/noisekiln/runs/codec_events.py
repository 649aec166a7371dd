"""Events of the training of a codec, which a watcher receives among those of `runs/events.py`."""

from dataclasses import dataclass
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.plan.settings import Settings
from noisekiln.runs.ending import Why


@dataclass(frozen=True)
class CodecPlan:
    """Plan of a codec's run: what will be trained.

    Attributes:
        folder: Folder of the run.
        settings: Resolved settings.
        data: The images.
        parameters: Number of trained parameters.
        pretrained: Whether these start from weights that come with noisekiln.
        x_shape: Channels, height and width of an encoded image.
        images_seen: Images seen before this start; 0 for a new run.
        seconds: Seconds of training before this start.
        share: Share of the budget that is used.
    """

    folder: Path
    settings: Settings
    data: DataSet
    parameters: int
    pretrained: bool
    x_shape: tuple[int, int, int]
    images_seen: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Reconstructions:
    """Images were encoded and decoded by a codec that is being trained.

    Attributes:
        file: Picture of some images, above their reconstructions.
        psnr: Mean peak signal-to-noise ratio of the reconstructions, in decibels.
        ssim: Mean structural similarity, 1 for equal images.
        images: Number of images over which these are means.
        latent_slope: Slope of the power spectrum of their latents; nan if there are too few frequencies.
        image_slope: That of the images, over the same frequencies.
    """

    file: Path
    psnr: float
    ssim: float
    images: int
    latent_slope: float
    image_slope: float


@dataclass(frozen=True)
class CodecEnd:
    """Training of a codec has ended, and everything is saved.

    Attributes:
        why: "done"; "stopped" by a signal; "finished before": the budget was used up when the run was opened.
        folder: Folder of the run, with the codec unless it was stopped.
        images_seen: Images seen in all.
        seconds: Seconds of training in all.
        signal: Number of the signal that stopped the run, or 0.
    """

    why: Why
    folder: Path
    images_seen: int
    seconds: float
    signal: int
