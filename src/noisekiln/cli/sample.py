"""`noisekiln sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Batch, Classes, CountInAll, Prompts, option
from noisekiln.cli._use import open_model, taken, with_use

EXAMPLE = 'noisekiln sample runs/demo --prompt "a person with red hair and a green shirt" -n 8'


@with_use(but=("count", "seed", "batch", "classes", "prompts", "out"))
def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a model.")],
    count: CountInAll = None,
    classes: Classes = None,
    prompts: Prompts = None,
    seed: Annotated[str, typer.Option(help="Seed of the first image, or one for each: 3,7,21.")] = "0",
    out: Annotated[Path | None, option(help="Folder for the pictures. Default: RUN/pictures.")] = None,
    batch: Batch = 64,
    **given: Any,
) -> None:
    """Paint images with a trained model: grid.png, 00000.png, ... and samples.json."""
    from noisekiln.cli._sample import sample
    from noisekiln.components.registry import name_of
    from noisekiln.distributed.ranks import Ranks
    from noisekiln.machine.devices import pick_device
    from noisekiln.model.cascade import load
    from noisekiln.model.diffusion import Diffusion
    from noisekiln.session.paint import repeated
    from noisekiln.session.prompts import wishes

    asked = taken(given)
    ranks = Ranks.join(pick_device(asked.device))
    model = open_model(load, run, asked)
    if isinstance(model, Diffusion) and model.task is not None:
        raise ValueError(
            f"{run} was trained to {name_of(type(model.task))}, so it needs images to start from. "
            f"Use: noisekiln apply {run} IMAGE"
        )
    seeds = _seeds(seed)
    if len(seeds) > 1:
        if count not in (None, len(seeds)):
            raise ValueError(f"-n {count} came with {len(seeds)} seeds. Leave -n away, or give as many seeds.")
        count = len(seeds)
    wanted, columns = repeated(wishes(model, classes or [], prompts or []), count)
    seeds = seeds if len(seeds) > 1 else [seeds[0] + i for i in range(len(wanted))]
    sample(model, wanted, seeds, out or run / "pictures", columns=columns, batch=batch, ranks=ranks, **given)


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) < 2**63 for word in words):
        raise ValueError(f"--seed {text} is not a seed. Give a whole number from 0 to 2^63 - 1, or several as 3,7,21.")
    return [int(word) for word in words]
