"""`noisekiln demo`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "noisekiln demo --minutes 1"
PROMPTS = (
    "a person with long red hair, light skin and a green shirt",
    "a person with short black hair, dark skin, glasses and a yellow shirt",
    "a person with long pink hair, brown skin and a purple shirt",
    "a person with short blonde hair, tan skin, a beard and a red shirt",
    "a person with short green hair, brown skin, glasses and a white shirt",
    "a person with a blue hat, light skin and an orange shirt",
)


def command(
    minutes: Annotated[float, typer.Option(help="Training budget in minutes.")] = 3.5,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Train on the bundled portraits, then generate one row of images for each prompt."""
    from noisekiln import api
    from noisekiln.cli._sampling_bar import show
    from noisekiln.cli._show import say
    from noisekiln.cli._use import show_note
    from noisekiln.cli._watcher import Watcher
    from noisekiln.session.image_record import name_of_run
    from noisekiln.session.prompts import repeat_conditions
    from noisekiln.session.session import Session

    with Watcher() as watcher:
        model = api.train("bundled:portraits", out=out, watch=watcher, minutes=minutes, seed=seed)
    session = Session(model, out / "pictures", note=show_note, name=name_of_run(out))
    conditions, columns = repeat_conditions(PROMPTS, None)
    show(session.sample(conditions, range(len(conditions)), columns=columns), session)
    for row, prompt in enumerate(PROMPTS, 1):
        say(f"  row {row}: {prompt}")
    say("Now generate your own:")
    say(f'  noisekiln sample {out} --prompt "{PROMPTS[0]}"')
