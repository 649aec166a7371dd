"""`noisekiln cascade`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Batch, Classes, CountInAll, Prompts, option
from noisekiln.cli._use import taken, with_use

EXAMPLE = "noisekiln cascade runs/small runs/upscaler --out runs/cascade"


@with_use(but=("count", "batch", "classes", "prompts", "adapters", "out"))
def command(
    stages: Annotated[list[Path], typer.Argument(help="A run that paints small, then one or more that upscale.")],
    out: Annotated[Path, typer.Option(help="Folder of the cascade.")] = Path("runs/cascade"),
    noise: Annotated[
        str | None, option(help="How noisy a stage is shown the one before: 0.1, or one each: 0.1,0.05.")
    ] = None,
    count: CountInAll = None,
    classes: Classes = None,
    prompts: Prompts = None,
    batch: Batch = 64,
    **given: Any,
) -> None:
    """Join models to one that paints small, then upscales; `noisekiln sample` takes its folder."""
    from noisekiln.cli._sample import sample
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.model.join import cascade, save_cascade
    from noisekiln.session.paint import repeated
    from noisekiln.session.prompts import wishes

    asked = taken(given)
    device = pick_device(asked.device)
    model = cascade(stages, noise=_shares(noise), device=device, allow_code=asked.allow_code)
    wanted, columns = repeated(wishes(model, classes or [], prompts or []), count)
    model.bind(wanted)  # a wish that cannot be has written nothing
    place = save_cascade(model, out)
    say(f"{len(stages)} stages, {model.size[0]}x{model.size[1]} pixels, saved in {place}")
    first: int = given.pop("seed")
    seeds = range(first, first + len(wanted))
    sample(model, wanted, seeds, out / "pictures", columns=columns, batch=batch, **given)


def _shares(text: str | None) -> float | list[float] | None:
    try:
        shares = [] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--noise {text} is no share of noise. Give a number such as 0.1, or one each: 0.1,0.05."
        ) from None
    return shares if len(shares) > 1 else shares[0] if shares else None
