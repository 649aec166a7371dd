"""A session with a pretrained model: what `noisekiln pretrained` does, from options to files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisekiln.codecs.base import check_image_size
from noisekiln.data.sizes import height_and_width
from noisekiln.machine.devices import pick_device
from noisekiln.model.adapter import merge, parse_adapter_option
from noisekiln.model.sampling import Progress
from noisekiln.pretrained.load_pretrained import load_pretrained
from noisekiln.pretrained.scheduler_config import SAMPLERS
from noisekiln.session.inputs import NoteCallback
from noisekiln.session.masks import MaskOptions
from noisekiln.session.prompts import RequestedConditions, repeat_conditions
from noisekiln.session.session import Session
from noisekiln.uses.editing import edit
from noisekiln.uses.latent_inpainting import inpaint_latents

BATCH_SIZE = 4  # images sampled at once: a Stable Diffusion needs more memory than a network of one's own
STRENGTH = {"edit": 0.7, "inpaint": 1.0}


@dataclass(frozen=True)
class PretrainedOptions:
    """What to load, and how.

    Attributes:
        model: A folder, or OWNER/NAME on the Hugging Face Hub.
        sampler: Sampler or its spec; "ddim", "dpmpp_2m" and "euler" visit the timesteps of diffusers' schedulers.
        schedule: Schedule or its spec; by default the sampler's timesteps.
        device: auto, cpu, cuda or mps.
        precision: Precision of the weights of network and text encoders: auto, fp32, fp16 or bf16.
        size: Height and width in pixels; by default those that it was trained on.
        low_memory: Whether to trade speed for memory.
        offline: Whether only what was downloaded before may be used.
        adapters: Adapters to merge, each the folder of a run, and a strength after a colon.
    """

    model: str
    sampler: str | None = None
    schedule: str | None = None
    device: str = "auto"
    precision: str = "auto"
    size: int | tuple[int, int] | None = None
    low_memory: bool = False
    offline: bool = False
    adapters: Sequence[str] = ()


class PretrainedSession(Session):
    """A session with a Stable Diffusion of diffusers.

    Args:
        chosen: What to load, and how.
        out: Folder for the results.
        prompts: The prompts, and the negative one.
        note: Function called with each line of text for the user.
        command: What generates the images: "pretrained".

    Raises:
        ValueError: If the model cannot be loaded, or a setting is not possible.
    """

    def __init__(
        self, chosen: PretrainedOptions, out: Path, prompts: RequestedConditions, note: NoteCallback, command: str
    ) -> None:
        is_scheduler = chosen.sampler in SAMPLERS
        model = load_pretrained(
            chosen.model,
            scheduler=chosen.sampler if is_scheduler else None,
            device=pick_device(chosen.device),
            weights=chosen.precision,
            low_memory=chosen.low_memory,
            offline=chosen.offline,
        )
        for adapter in chosen.adapters:
            merge(model, *parse_adapter_option(adapter))
        if chosen.size is not None:
            size = height_and_width(chosen.size)
            check_image_size(model.codec, size, model.device)
            model.size = size
        super().__init__(model, out, prompts, note, name=Path(chosen.model).name, command=command)
        self._sampling = {"sampler": None if is_scheduler else chosen.sampler, "schedule": chosen.schedule}
        self._precision = chosen.precision

    def paint(
        self,
        *,
        count: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        image: Path | None = None,
        mask: Path | None = None,
        strength: float | None = None,
        low_memory: bool = False,
        **options: Any,
    ) -> Iterator[Progress]:
        """Generate images of the prompts, or change an image, and write them.

        Args:
            count: Images in all; by default one of each prompt.
            seed: Seed of the first image; image i uses seed + i.
            batch_size: Images sampled at once.
            image: An image to change, scaled to the size of the model.
            mask: A mask of its size: only what is white in it changes.
            strength: Share of noise that the image gets; by default 0.7, and 1 with a mask.
            low_memory: Whether images are sampled one at a time, if `batch_size` does not say.
            options: `steps` and `guidance`.

        Raises:
            ValueError: For invalid options.
        """
        together = batch_size or (1 if low_memory else BATCH_SIZE)
        shared = {**self._sampling, **options, "batch_size": together, "precision": self._precision}
        if image is None:
            if mask is not None or strength is not None:
                raise ValueError(
                    "`mask` and `strength` say how an image is changed. Give an `image` too, or omit them."
                )
            conditions = self.conditions
            values, columns = repeat_conditions(conditions, count or len(conditions), self.note)
            return self.sample(values, [seed + i for i in range(len(values))], columns=columns, **shared)
        shared |= {"seed": seed, "count": 1 if count is None else count}
        pixels = self.read_fitted(image, resize=True, keep_transparency=mask is not None)
        if mask is None:
            return self.run_use(edit, pixels, strength=STRENGTH["edit"] if strength is None else strength, **shared)
        missing = MaskOptions(mask).missing(image, pixels, self.model.size, self.note)
        share = STRENGTH["inpaint"] if strength is None else strength
        return self.run_use(inpaint_latents, pixels, missing, strength=share, **shared)
