"""`noisekiln pretrained`."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Negative, option, with_settings
from noisekiln.cli._use import show_note, with_use
from noisekiln.cli.train import parse_size
from noisekiln.session.pretrained_options import PretrainedOptions

EXAMPLE = 'noisekiln pretrained "a cat in the sun, photo" --model runwayml/stable-diffusion-v1-5 -n 2'
OWN = tuple(field.name for field in fields(PretrainedOptions))
USED = ("sampler", "steps", "guidance", "schedule", "adapters")
LEFT_OUT = (
    "classes",
    "prompts",
    "negative",
    "conditions",
    "out",
    "allow_code",
    *(name for name in OWN if name not in USED),
)


@with_settings(PretrainedOptions)
@with_use(exclude=tuple(LEFT_OUT))
def command(
    prompts: Annotated[list[str], typer.Argument(help="What the images show. Several prompts: a row each.")],
    model: Annotated[
        str, typer.Option(help="Stable Diffusion 1.x, 2.x or XL: a folder of diffusers, or OWNER/NAME on the Hub.")
    ],
    negative: Negative = None,
    size: Annotated[str | None, option(help="512, or 512x768 (height x width). Default: that of its training.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("pictures"),
    **options: Any,
) -> None:
    """Generate images with a pretrained Stable Diffusion, or change one with --image.

    The weights are downloaded once. --sampler ddim, dpmpp_2m or euler visits the timesteps of diffusers' schedulers.
    """
    from noisekiln.cli._sampling_bar import show
    from noisekiln.session.pretrained_model import generate_pretrained, open_pretrained
    from noisekiln.session.prompts import RequestedConditions

    sampling = {name: options.pop(name) for name in USED if name != "adapters"}
    options["adapters"] = tuple(options["adapters"] or ())
    chosen = PretrainedOptions(model, size=parse_size(size), **options)
    requested = RequestedConditions(prompts=prompts, negative=negative)
    session = open_pretrained(chosen, sampling["sampler"], out, requested, show_note)
    show(generate_pretrained(session, chosen, **sampling), session)
