"""`noisekiln list`."""

from typing import Annotated

import typer

from noisekiln.components.registry import did_you_mean, names, rooms, summary

EXAMPLE = "noisekiln list samplers"


def command(
    room: Annotated[
        str | None, typer.Argument(help="Kind of component; all kinds by default.", show_default=False)
    ] = None,
) -> None:
    """List the components that can be chosen by name."""
    if room is not None and room not in rooms():
        raise ValueError(f"There is no list of {room!r}. {did_you_mean(room, rooms(), 'lists')}")
    for kind in [room] if room else rooms():
        typer.echo(typer.style(kind, bold=True) + ":" + summary(kind).partition(":")[2])
        for name in names(kind):
            typer.echo(f"  {name:16} {summary(kind, name)}")
