"""Options of `noisekiln pretrained`; they import no torch."""

from dataclasses import dataclass
from pathlib import Path

from noisekiln.components.setting import check, setting


@dataclass(frozen=True)
class PretrainedOptions:
    """Which pretrained model is loaded, and what it does; None is the default of the model.

    Attributes:
        model: A folder, or OWNER/NAME on the Hugging Face Hub.
        size: Height and width in pixels, or one side.
        adapters: Adapters to merge, each the folder of a run, and a strength after a colon.
    """

    model: str
    size: int | tuple[int, int] | None = None
    adapters: tuple[str, ...] = ()

    image: Path | None = setting(None, "An image to change.", group="Image")
    mask: Path | None = setting(None, "With `image`: its white part alone is generated.", group="Image")
    strength: float | None = setting(
        None, "With `image`: share of noise, above 0 and at most 1. Default: 0.7; with `mask` 1.", group="Image"
    )
    count: int | None = setting(None, "Images in all. Default: one of each prompt.", flag="-n", at_least=1)
    seed: int = setting(0, "Seed of the first image; image i uses seed + i.", at_least=0, below=2**63)
    batch_size: int | None = setting(
        None, "Images sampled at once. Default: 4.", flag="--batch-size --batch", at_least=1
    )
    low_memory: bool = setting(
        False,
        "Less memory, slower: one image at a time, and parts on the device only while they work.",
        flag="--low-memory",
        group="Model and device",
    )
    offline: bool = setting(
        False,
        "Use only what was downloaded before; no network.",
        flag="--offline",
        group="Model and device",
    )
    device: str = setting("auto", "auto, cpu, cuda or mps.", group="Model and device")
    precision: str = setting(
        "auto",
        "Precision of the weights: auto (fp16 on a GPU, else fp32), fp32, bf16 or fp16.",
        choices=("auto", "fp32", "bf16", "fp16"),
        group="Model and device",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.image is None and not (self.mask is None and self.strength is None):
            raise ValueError("`mask` and `strength` say how an image is changed. Give an `image` too, or omit them.")
