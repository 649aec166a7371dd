"""`noisekiln sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Classes, Conditions, CountInAll, Negative, Prompts, option
from noisekiln.cli._use import folder_of_results, open_session, pop_common, show_note, with_use

EXAMPLE = 'noisekiln sample runs/demo --prompt "a person with red hair and a green shirt" -n 8'


@with_use(exclude=("count", "seed", "classes", "prompts", "negative", "conditions", "out"))
def command(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run, a model or a cascade.", show_default=False)
    ] = None,
    count: CountInAll = None,
    classes: Classes = None,
    prompts: Prompts = None,
    negative: Negative = None,
    conditions: Conditions = None,
    seed: Annotated[str | None, option(help="Seed of the first image, or one for each: 3,7,21. Default: 0.")] = None,
    out: Annotated[Path | None, option(help="Folder for the images. Default: RUN/pictures, or RUN/again.")] = None,
    again: Annotated[
        Path | None, option(help="Generate this PNG of `noisekiln sample` again, with the settings recorded in it.")
    ] = None,
    run_of_again: Annotated[
        Path | None, option("--run", help="With --again: the run, if it is not found near the PNG or in runs.")
    ] = None,
    **options: Any,
) -> None:
    """Generate images with a trained model: grid.png, 00000.png, ... and samples.json."""
    request = {"count": count, "classes": classes, "prompts": prompts, "conditions": conditions, "seed": seed}
    request["negative"] = negative
    if again is not None:
        _repeat(again, run or run_of_again, out, request, options)
    else:
        _sample(run or run_of_again, out, request, options)


def _sample(run: Path | None, out: Path | None, request: dict[str, Any], options: dict[str, Any]) -> None:
    from noisekiln.cli._sampling_bar import show
    from noisekiln.components.registry import name_of
    from noisekiln.distributed.ranks import Ranks
    from noisekiln.machine.devices import pick_device
    from noisekiln.session.prompts import repeat_conditions

    if run is None:
        raise ValueError("No run was given, so there is no model to sample. Give the folder of one, such as runs/demo.")
    count, seeds = request["count"], _seeds(request["seed"] or "0")
    options |= {name: request[name] for name in ("classes", "prompts", "negative", "conditions")}
    common = pop_common(options)
    ranks = Ranks.join(pick_device(common.device))
    session = open_session(run, out or folder_of_results(run, "pictures"), common)
    if session.model.task is not None:
        raise ValueError(
            f"{run} was trained to {name_of(type(session.model.task))}, so it needs images to start from. "
            f"Use `noisekiln apply {run} IMAGE`."
        )
    if len(seeds) > 1 and count not in (None, len(seeds)):
        raise ValueError(f"`count={count}` was given with {len(seeds)} seeds. Omit `count`, or give {count} seeds.")
    values, columns = repeat_conditions(session.conditions, len(seeds) if len(seeds) > 1 else count, show_note)
    seeds = seeds if len(seeds) > 1 else [seeds[0] + i for i in range(len(values))]
    if request["negative"] and session.is_unguided(options["guidance"]):
        show_note("`negative` changes nothing without guidance. Use `guidance=2`, or another scale above 1.")
    show(session.sample(values, seeds, columns=columns, ranks=ranks, **options), session, ranks)


def _repeat(again: Path, run: Path | None, out: Path | None, request: dict[str, Any], options: dict[str, Any]) -> None:
    from noisekiln.cli._sampling_bar import show
    from noisekiln.distributed import torchrun
    from noisekiln.session.again import open_again, read_recorded_image, sample_again

    if torchrun.world_size() > 1:
        raise ValueError("`again` generates one image, and several processes were started. Start one.")
    for name, value in request.items():
        if value:
            raise ValueError(
                f"`{name}` was given with `again`, which generates the image that a file records. Omit it."
            )
    common = pop_common(options)
    options.pop("batch_size")
    recorded = read_recorded_image(again)
    if options["precision"] == "auto":
        options["precision"] = None
    chosen = recorded.options(options, allow_code=common.allow_code)
    session = open_again(recorded, run, lambda place: open_session(place, out or place / "again", common))
    session.check_input(again)
    show(sample_again(session, recorded, chosen), session)


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) < 2**63 for word in words):
        raise ValueError(f"`seed={text}` is not a seed. Give a whole number from 0 to 2^63 - 1, or several as 3,7,21.")
    return [int(word) for word in words]
