"""`noisekiln export`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import AllowCode, option

EXAMPLE = "noisekiln export runs/demo --to diffusers portraits-diffusers"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run or a model.")],
    out: Annotated[
        Path | None, typer.Argument(help="Folder to write. Default: RUN/diffusers, RUN/onnx or RUN/torch.")
    ] = None,
    to: Annotated[
        str, typer.Option(help="diffusers (a pipeline), onnx (with a sampler for onnxruntime), or torch (one file).")
    ] = "diffusers",
    license_name: Annotated[str, option("--license", help="Licence that the model card states: cc-by-4.0.")] = "",
    allow_code: AllowCode = False,
) -> None:
    """Write a model as a folder that others open without noisekiln: for diffusers, onnxruntime or torch."""
    from noisekiln import api
    from noisekiln.cli._show import console, say

    if to == "onnx":
        say("each network is traced for ONNX, which takes one to three minutes")
    with console.status(f"exporting {run} to {to}"):  # nothing without a terminal
        place = api.export(run, out, to=to, license=license_name, allow_code=allow_code)
    say(f"wrote {place}; {place / 'README.md'} says how to sample it")
