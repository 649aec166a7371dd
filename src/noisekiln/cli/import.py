"""`noisekiln import`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import option

EXAMPLE = "noisekiln import ddpm-cifar10-32 models/cifar"


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a DDPMPipeline, DDIMPipeline or DiTPipeline of diffusers; or a checkpoint of "
            "denoising_diffusion_pytorch in a file of safetensors."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the model.")],
    size: Annotated[
        str | None, option(help="Size of the images of a checkpoint: 64, or 48x64 (height x width).")
    ] = None,
) -> None:
    """Turn a pipeline of diffusers, or a checkpoint of lucidrains, into a model that all other commands read."""
    from noisekiln import api
    from noisekiln.cli._show import say
    from noisekiln.cli.train import parse_size

    say(f"wrote {api.import_model(folder, out, size=parse_size(size))}")
