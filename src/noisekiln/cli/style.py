"""`noisekiln style`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import ImageFile, Resize, RunPath, open_use, with_use

EXAMPLE = "noisekiln style runs/fashion shoe.png --from-class sneaker --class shirt"


@with_use(exclude=("count", "sampler"))
def command(
    run: RunPath,
    image: ImageFile,
    strength: Annotated[float, typer.Option(help="How far to invert: 1 is pure noise.")] = 0.95,
    from_class: Annotated[list[str] | None, option(help="Class of the image as it is.")] = None,
    from_prompt: Annotated[list[str] | None, option(help="Prompt for the image as it is.")] = None,
    target: Annotated[
        Path | None, option("--with", help="Another run that generates the result, such as a fine-tuned one.")
    ] = None,
    like: Annotated[
        str | None, option(help="Images that the result should look like: the run is fine-tuned on them first.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Minutes of fine-tuning, with --like.")] = 1.0,
    resize: Resize = False,
    **options: Any,
) -> None:
    """Invert the image to noise, then sample with another class, prompt or model."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.session.prompts import RequestedConditions
    from noisekiln.uses.style_transfer import style

    allow_code, device = options["allow_code"], options["device"]
    session = open_use(run, "style", options)
    _check_result(target, like, conditioned=session.prompts.requested)
    pixels = session.read_fitted(image, resize=resize)
    source = RequestedConditions(from_class or (), from_prompt or ()).value(session.model, session.note)
    target_model = _target(run, target, like, minutes, device, allow_code) or session.require_single_model()
    condition = session.prompts.value(target_model, session.note)
    progress = style(
        session.require_single_model(),
        pixels,
        source_condition=source,
        strength=strength,
        target_model=target_model,
        condition=condition,
        **options,
    )
    written = session.write_results(
        progress,
        condition=condition,
        seed=options["seed"],
        precision=options["precision"],
        before=pixels,
        model=target_model,
    )
    show(written, session)


def _check_result(target: Path | None, like: str | None, *, conditioned: bool) -> None:
    """Raise ValueError unless the options say what the result shows."""
    if like and target:
        raise ValueError("`like` makes a run for the result, and `target` names one. Give one of them.")
    if not (like or target or conditioned):
        raise ValueError(
            "The result has no condition. Give `classes` or `prompts` (and `from_class` or `from_prompt` for the image "
            "as it is), images that it should look `like`, or another run as `target`."
        )


def _target(run: Path, target: Path | None, like: str | None, minutes: float, device: str, allow_code: bool) -> Any:
    """The model that generates the result; None for the run's own."""
    from noisekiln.files.model_folder import model_folder
    from noisekiln.machine.devices import pick_device
    from noisekiln.model.diffusion import Diffusion

    if like:
        from noisekiln.api import fine_tune_on
        from noisekiln.cli._watcher import Watcher

        with Watcher() as watcher:
            return fine_tune_on(run, like, minutes=minutes, device=device, allow_code=allow_code, watch=watcher)
    if not target:
        return None
    try:
        model_folder(target)
    except ValueError as error:
        raise ValueError(f"`target={target}`: {error}") from None
    return Diffusion.load(target, device=pick_device(device), allow_code=allow_code)
