"""`noisekiln push`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import AllowCode, option

EXAMPLE = "noisekiln push runs/demo anna/portraits --dry-run"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, a model or an export.")],
    repository: Annotated[str, typer.Argument(help="Name on the Hugging Face Hub: user/name.")],
    license_name: Annotated[str, option("--license", help="Licence that the model card states: cc-by-4.0.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Only its owner sees it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files and card; upload nothing.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Upload a model with its card to the Hugging Face Hub; neither training images nor paths are uploaded."""
    from noisekiln import api
    from noisekiln.cli._show import console, say
    from noisekiln.errors import printable

    upload = api.push(run, repository, license=license_name, private=private, dry_run=dry_run, allow_code=allow_code)
    for name, size in upload.files.items():
        say(f"{size:>12,}  {name}")
    for line in [] if upload.url else ["", *upload.card.splitlines()]:
        console.print(printable(line), markup=False)  # as it is: settings in it are no options
    for note in upload.notes:
        say(f"note: {note}")
    say(f"uploaded to {upload.url}" if upload.url else f"nothing was uploaded to {upload.repository}")
