"""`noisekiln import`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "noisekiln import ddpm-cifar10-32 models/cifar"


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of a DDPMPipeline, DDIMPipeline or DiTPipeline of diffusers.")],
    out: Annotated[Path, typer.Argument(help="Folder of the model.")],
) -> None:
    """Turn a pipeline of diffusers into a model that all other commands read."""
    from noisekiln import api
    from noisekiln.cli._show import say

    say(f"wrote {api.import_model(folder, out)}")
