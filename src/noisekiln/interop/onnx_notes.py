"""Notes on an export to ONNX: what its sampler does otherwise than the model, and which sizes its networks take."""

from collections.abc import Sequence

from noisekiln.components.spec import build
from noisekiln.guidance.classifier_free import ClassifierFree, guidance_of
from noisekiln.model.diffusion import Diffusion
from noisekiln.samplers.base import Sampler
from noisekiln.samplers.ddim import DDIM
from noisekiln.samplers.dpmpp_2m import DPMpp2M

MOST = 4096  # positions of a side

Sizes = tuple[int, int] | None  # the number that sides are multiples of, and their largest size in these; None: fixed


def about_sampling(model: Diffusion) -> list[str]:
    """Notes on what `sample.py` does otherwise than the model."""
    sampler, guidance = build(Sampler, model.sampling.sampler), guidance_of(model.sampling.guidance)
    notes = []
    if sampler not in (DDIM(), DPMpp2M()):
        notes.append(f"sample.py samples by DPM-Solver++(2M), and not by {model.sampling.sampler}")
    if not isinstance(guidance, ClassifierFree) or guidance != ClassifierFree(guidance.scale):
        notes.append(f"sample.py guides at all levels of noise by one scale, and not by {model.sampling.guidance}")
    return notes


def about_sizes(file: str, found: Sizes, size: Sequence[int]) -> list[str]:
    """A note on the sizes that a file takes; none if it takes all."""
    if found is None:
        return [f"{file} takes {size[0]}x{size[1]} alone: its network cannot be exported for other sizes"]
    multiple, most = found
    limits = [f"multiples of {multiple}"] if multiple > 1 else []
    limits += [f"{multiple * most:,} at most"] if multiple * most < MOST else []
    return [f"{file} takes heights and widths that are {', and '.join(limits)}"] if limits else []
