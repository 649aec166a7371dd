"""`noisekiln codec train`."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.cli.train import DATA, parse_size
from noisekiln.plan.settings import Settings

EXAMPLE = "noisekiln codec train photos/ --factor 4 --minutes 5"
USED = (
    "minutes", "images", "epochs", "flip", "seed", "device", "batch_size", "micro_batch_size", "precision",
    "deterministic", "optimizer", "lr", "cooldown", "ema_length", "keep_checkpoints", "timeout",
)  # fmt: skip


@with_settings(Settings, exclude=tuple(field.name for field in fields(Settings) if field.name not in USED))
def command(
    action: Annotated[str, typer.Argument(help="train, which is all that there is to do.", show_default=False)],
    data: Annotated[str, typer.Argument(help=DATA)],
    out: Annotated[Path | None, option(help="Folder of the codec. Default: runs/NAME-codec.")] = None,
    size: Annotated[str | None, option(help="Image size: 64, or 48x64 (height x width).")] = None,
    factor: Annotated[
        int | None,
        option(help="Pixels of a side that become one latent: 2, 4 or 8. Default: by the size of the images."),
    ] = None,
    adversarial: Annotated[
        float | None,
        option(help="Weight of a correction by a discriminator in the second half, such as 0.1. Default: none."),
    ] = None,
    codec: Annotated[
        str | None, option(help="The codec with all of its settings, such as 'autoencoder(factor=4,channels=8)'.")
    ] = None,
    **settings: Any,
) -> None:
    """Train a codec for latent diffusion on your images: an encoder to small images of latents, and the way back.

    Then train a model of its latents: noisekiln train DATA --codec FOLDER. (`--road latent` does both.)
    Run the same command again to resume after an interruption.
    """
    from noisekiln import api
    from noisekiln.cli._watcher import Watcher

    if action != "train":
        raise ValueError(f"There is no `noisekiln codec {action}`. Write noisekiln codec train DATA.")
    with Watcher() as watcher:
        shape = parse_size(size)
        api.train_codec(
            data, out=out, watch=watcher, size=shape, factor=factor, adversarial=adversarial, codec=codec, **settings
        )
