"""A session with a pretrained model, from options to files."""

from collections.abc import Iterator
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
from noisekiln.session.pretrained_options import PretrainedOptions
from noisekiln.session.prompts import RequestedConditions, repeat_conditions
from noisekiln.session.session import Session
from noisekiln.uses.editing import edit
from noisekiln.uses.latent_inpainting import inpaint_latents

BATCH_SIZE = 4  # images sampled at once: a Stable Diffusion needs more memory than a network of one's own
EDIT_STRENGTH, INPAINT_STRENGTH = 0.7, 1.0


def open_pretrained(
    options: PretrainedOptions, sampler: str | None, out: Path, prompts: RequestedConditions, note: NoteCallback
) -> Session:
    """A session with a Stable Diffusion of diffusers.

    Args:
        options: What to load, and how.
        sampler: "ddim", "dpmpp_2m" or "euler" for the timesteps of that scheduler by default; others change nothing.
        out: Folder for the results.
        prompts: The prompts, and the negative one.
        note: Function called with each line of text for the user.

    Raises:
        ValueError: If the model cannot be loaded, or a setting is not possible.
    """
    model = load_pretrained(
        options.model,
        scheduler=sampler if sampler in SAMPLERS else None,
        device=pick_device(options.device),
        weights=options.precision,
        low_memory=options.low_memory,
        offline=options.offline,
    )
    for adapter in options.adapters:
        merge(model, *parse_adapter_option(adapter))
    if options.size is not None:
        size = height_and_width(options.size)
        check_image_size(model.codec, size, model.device)
        model.size = size
    return Session(model, out, prompts, note, name=Path(options.model).name, command="pretrained")


def generate_pretrained(
    session: Session, options: PretrainedOptions, sampler: str | None, **sampling: Any
) -> Iterator[Progress]:
    """Generate images of the session's prompts, or change an image, and write them.

    Args:
        session: The session that `open_pretrained` made.
        options: What to do.
        sampler: Sampler or its spec.
        sampling: steps, guidance, schedule.

    Raises:
        ValueError: For invalid options.
    """
    together = options.batch_size or (1 if options.low_memory else BATCH_SIZE)
    sampling |= {"sampler": None if sampler in SAMPLERS else sampler, "batch_size": together}
    sampling["precision"] = options.precision
    if options.image is None:
        values, columns = repeat_conditions(session.conditions, options.count or len(session.conditions), session.note)
        return session.sample(values, [options.seed + i for i in range(len(values))], columns=columns, **sampling)
    sampling |= {"seed": options.seed, "count": options.count or 1}
    pixels = session.read_fitted(options.image, resize=True, keep_transparency=options.mask is not None)
    strength = options.strength
    if options.mask is None:
        return session.run_use(edit, pixels, strength=EDIT_STRENGTH if strength is None else strength, **sampling)
    missing = MaskOptions(options.mask).missing(options.image, pixels, session.model.size, session.note)
    share = INPAINT_STRENGTH if strength is None else strength
    return session.run_use(inpaint_latents, pixels, missing, strength=share, **sampling)
