"""Command-line options derived from the fields of a dataclass of settings: written once, in the settings."""

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from functools import partial
from typing import Annotated, Any, get_type_hints

import typer

option = partial(typer.Option, show_default=False)  # for options whose default is "choose for me"

CountInAll = Annotated[int | None, option("-n", help="Images in all. Default: 16, or 8 of each wish.")]
Classes = Annotated[list[str] | None, option("--class", help="A class: name, number or all; may repeat.")]
Prompts = Annotated[list[str] | None, option("--prompt", help="A prompt. May repeat: a row each.")]


def _at_once(batch: int) -> int:
    if batch < 1:
        raise ValueError(f"--batch {batch}: at least one image is painted at once. Give 1 or more; 64 is usual.")
    return batch


Batch = Annotated[
    int, typer.Option(callback=_at_once, help="Images painted at once; changes nothing but speed and memory.")
]


def with_settings(kind: type, *, but: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of `kind` that is not in `but`; they arrive as ``**given``.

    A field's ``metadata["help"]`` is the option's help; ``metadata["flag"]`` its names, separated by spaces, where
    they are not the field's own.
    """
    hints = get_type_hints(kind)
    derived = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[hints[field.name], _derived(field)],
        )
        for field in fields(kind)
        if field.name not in but
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        keyword_only = [p.replace(kind=p.KEYWORD_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p for p in own]

        def run(**values: Any) -> None:
            command(**values)

        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature([*keyword_only, *derived])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [*keyword_only, *derived]}
        return run

    return decorate


def _derived(field: Field[Any]) -> Any:
    rules = field.metadata["rules"]
    return typer.Option(*rules.flag.split(), help=rules.help, show_default=field.default is not None)
