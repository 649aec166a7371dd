"""`noisekiln list`."""

from typing import Annotated

import typer

from noisekiln.find import did_you_mean, names, summary

EXAMPLE = "noisekiln list samplers"
ROOMS = {
    "samplers": "how to move from noise to an image",
    "schedules": "curves of noise levels",
    "draws": "which levels are trained on",
    "weights": "how levels count in the loss",
    "labels": "how a network is told the level",
    "guidance": "how to want something more",
    "backbones": "networks",
    "conditioners": "what reads classes and prompts",
    "codecs": "between images and tensors",
    "objectives": "what training minimises",
}


def command(
    room: Annotated[str | None, typer.Argument(help="Which kind; all without it.", show_default=False)] = None,
) -> None:
    """List what there is to choose from."""
    if room is not None and room not in ROOMS:
        raise ValueError(f"There is no list of {room!r}. {did_you_mean(room, list(ROOMS))}")
    for kind in [room] if room else ROOMS:
        typer.echo(typer.style(kind, bold=True) + f": {ROOMS[kind]}")
        for name in names(kind):
            typer.echo(f"  {name:16} {summary(kind, name)}")
