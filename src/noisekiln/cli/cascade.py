"""`noisekiln cascade`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Classes, Conditions, CountInAll, Prompts, option
from noisekiln.cli._use import pop_common, show_note, with_use

EXAMPLE = "noisekiln cascade runs/small runs/upscaler --out runs/cascade"


@with_use(exclude=("count", "classes", "prompts", "conditions", "adapters", "out"))
def command(
    stages: Annotated[list[Path], typer.Argument(help="A run of small images, then one or more that upscale.")],
    out: Annotated[Path, typer.Option(help="Folder of the cascade.")] = Path("runs/cascade"),
    noise: Annotated[
        str | None,
        option(
            help="Share of noise on the images that a stage starts from: 0.1, or one for each stage: 0.1,0.05; up to "
            "the `most` of its task, 0.5 by default."
        ),
    ] = None,
    count: CountInAll = None,
    classes: Classes = None,
    prompts: Prompts = None,
    conditions: Conditions = None,
    **options: Any,
) -> None:
    """Join models to one that generates small images and upscales them; `noisekiln sample` reads its folder."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.model.join import cascade, save_cascade
    from noisekiln.session.image_record import name_of_run
    from noisekiln.session.prompts import RequestedConditions, repeat_conditions
    from noisekiln.session.session import Session

    common = pop_common(options)
    device = pick_device(common.device)
    model = cascade(stages, noise=_shares(noise), device=device, allow_code=common.allow_code)
    requested = RequestedConditions(classes or (), prompts or (), conditions or (), common.negative)
    values, columns = repeat_conditions(requested.values(model, show_note), count, show_note)
    session = Session(model, out / "pictures", requested, show_note, name=name_of_run(out))
    seed: int = options.pop("seed")
    seeds = range(seed, seed + len(values))
    progress = session.sample(values, seeds, columns=columns, **options)  # raises for invalid options
    place = save_cascade(model, out)
    say(f"{len(stages)} stages, {model.size[0]}x{model.size[1]} pixels, saved in {place}")
    show(progress, session)


def _shares(text: str | None) -> float | list[float] | None:
    try:
        shares = [] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"`noise={text}` is not a share of noise. Give a number such as 0.1, or one for each stage: 0.1,0.05."
        ) from None
    return shares if len(shares) > 1 else shares[0] if shares else None
