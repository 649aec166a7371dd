"""Command-line options derived from the settings of a dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from functools import partial
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import typer

from noisekiln.cli._flags import SETTING
from noisekiln.components.setting import Rules, rules_of

option = partial(typer.Option, show_default=False)  # for options whose default is "choose for me"

CountInAll = Annotated[int | None, option("-n", help="Images in all. Default: 16, or 8 of each condition.")]
condition_option = partial(option, rich_help_panel="Condition")
Classes = Annotated[
    list[str] | None, condition_option("--class", help="Class: name, number, or all. May repeat: one row each.")
]
Prompts = Annotated[list[str] | None, condition_option("--prompt", help="Prompt. May repeat: one row each.")]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Allow the model to run its own Python code (only for models that you trust)."),
]
Negative = Annotated[
    str | None, condition_option("--negative", help="What images should not show; guidance leads away from it.")
]
Conditions = Annotated[
    list[str] | None,
    condition_option("--condition", help="Any other condition, as text for the conditioner. May repeat: one row each."),
]


def with_settings(kind: type, *, exclude: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of `kind` that is not in `exclude`; they arrive as keyword arguments.

    Help and names of an option come from the `Rules` of the setting.
    """
    hints, rules = get_type_hints(kind), rules_of(kind)
    derived = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[_option_type(hints[field.name]), _derived(field, hints[field.name], rules)],
        )
        for field in fields(kind)
        if field.name in rules and field.name not in exclude
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(command).parameters.values()
        own = [
            each.replace(kind=each.KEYWORD_ONLY) if each.kind is each.POSITIONAL_OR_KEYWORD else each
            for each in parameters
            if each.kind is not each.VAR_KEYWORD
        ]

        def run(**values: Any) -> None:
            command(**values)

        run.__doc__ = command.__doc__
        # Python and typer read the attribute, which the type of functions does not declare.
        run.__signature__ = inspect.Signature([*own, *derived])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*own, *derived]}
        return run

    return decorate


def _option_type(hint: Any) -> Any:
    """The type of an option: text where a setting may be of several kinds."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return str | None if len(kinds) > 1 and str in kinds else hint


def _derived(field: Field[Any], hint: Any, rules: dict[str, Rules]) -> Any:
    own, may_be_number = rules[field.name], {str, float} <= set(get_args(hint))
    return typer.Option(
        *_names(field.name, hint, own),
        parser=_number_or_text if may_be_number else None,
        metavar="TEXT" if may_be_number else None,
        help=_with_options(own.help, rules),
        show_default=field.default not in (None, False),
        rich_help_panel=own.group or None,
    )


def _names(name: str, hint: Any, rules: Rules) -> list[str]:
    """Names of an option; a switch, which is off by default, has none with `--no-`, as typer would add."""
    return rules.flag.split() or ([_option_name(name, rules)] if hint is bool else [])


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _with_options(text: str, rules: dict[str, Rules]) -> str:
    """The help of a setting, in which other settings in backticks are shown as their options."""
    options = {name: _option_name(name, each) for name, each in rules.items()}
    return SETTING.sub(lambda found: options.get(found[1], found[0]), text)


def _option_name(name: str, rules: Rules) -> str:
    """The name of an option: a long one, if it has any."""
    names = rules.flag.split() or [f"--{name.replace('_', '-')}"]
    return next((each for each in names if each.startswith("--")), names[0])
