"""`noisekiln sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Classes, Conditions, CountInAll, Prompts, option
from noisekiln.cli._use import open_session, pop_common, with_use

EXAMPLE = 'noisekiln sample runs/demo --prompt "a person with red hair and a green shirt" -n 8'


@with_use(exclude=("count", "seed", "classes", "prompts", "conditions", "out"))
def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, a model or a cascade.")],
    count: CountInAll = None,
    classes: Classes = None,
    prompts: Prompts = None,
    conditions: Conditions = None,
    seed: Annotated[str, typer.Option(help="Seed of the first image, or one for each: 3,7,21.")] = "0",
    out: Annotated[Path | None, option(help="Folder for the images. Default: RUN/pictures.")] = None,
    **options: Any,
) -> None:
    """Generate images with a trained model: grid.png, 00000.png, ... and samples.json."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.components.registry import name_of
    from noisekiln.distributed.ranks import Ranks
    from noisekiln.machine.devices import pick_device
    from noisekiln.session.prompts import repeat_conditions

    options |= {"classes": classes, "prompts": prompts, "conditions": conditions}
    common = pop_common(options)
    ranks = Ranks.join(pick_device(common.device))
    session = open_session(run, out or run / "pictures", common)
    if session.model.task is not None:
        raise ValueError(
            f"{run} was trained to {name_of(type(session.model.task))}, so it needs images to start from. "
            f"Use `noisekiln apply {run} IMAGE`."
        )
    seeds = _seeds(seed)
    if len(seeds) > 1 and count not in (None, len(seeds)):
        raise ValueError(f"`count={count}` was given with {len(seeds)} seeds. Omit `count`, or give {count} seeds.")
    values, columns = repeat_conditions(session.conditions, len(seeds) if len(seeds) > 1 else count)
    seeds = seeds if len(seeds) > 1 else [seeds[0] + i for i in range(len(values))]
    show(session.sample(values, seeds, columns=columns, ranks=ranks, **options), session, ranks)


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) < 2**63 for word in words):
        raise ValueError(f"`seed={text}` is not a seed. Give a whole number from 0 to 2^63 - 1, or several as 3,7,21.")
    return [int(word) for word in words]
