"""Settings as text: ``"ddim(eta=0.5)"`` <-> ``DDIM(eta=0.5)``.

A component is its own configuration: its constructor's arguments, kept under their own names. A spec is the call
written down; an argument that is itself a component is a nested spec: ``"uniform(schedule=cosine(offset=0))"``.
Specs are parsed, never evaluated: only names, calls and literals are understood.
"""

import ast
import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from noisekiln.components.registry import did_you_mean, find, name_of

T = TypeVar("T")


def setting(default: Any, about: str, **more: str) -> Any:
    """A field of a dataclass of settings, with its help for the command line; `flag` names another option for it."""
    return dataclasses.field(default=default, metadata={"help": about, **more})


def build(base: type[T], spec: "str | T", **given: object) -> T:
    """The component that a spec describes.

    Args:
        base: The abstract class of its room, such as `Sampler`.
        spec: "heun", "ddim(eta=0.5)", "my_file.py:MySampler"; a component is returned as it is.
        given: Arguments that come from elsewhere (channels, condition size); the spec may not name them.

    Raises:
        ValueError: For an unknown component or setting (the nearest is named), or a value of the wrong kind.
    """
    if not isinstance(spec, str):
        return spec
    name, settings = _parse(spec)
    return _construct(find(base, name), settings, given, spec)


def describe(component: object, *, whole: bool = False, but: tuple[str, ...] = ()) -> str:
    """The spec that builds this component again.

    Args:
        component: Anything that `build` makes.
        whole: Say the settings at their default too, so that the spec outlives a change of defaults.
        but: Arguments to leave out, as they come from elsewhere.
    """
    told = [
        f"{name}={_literal(value, whole)}"
        for name, parameter in _parameters(type(component)).items()
        if name not in but and ((value := getattr(component, name)) != parameter.default or whole)
    ]
    return name_of(type(component)) + (f"({', '.join(told)})" if told else "")


def _parse(spec: str) -> tuple[str, dict[str, ast.expr]]:
    """The component's name and its settings; what is not Python by itself may be FILE.py:Class(...)."""
    file, colon, rest = spec.partition(".py:")
    for before, text in (("", spec), (file + colon, rest)):
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(node, ast.Name):
            return before + node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            words = {word.arg: word.value for word in node.keywords if word.arg}
            if len(words) == len(node.keywords):
                return before + node.func.id, words
    raise ValueError(f"{spec!r} cannot be read as a setting. Write name or name(setting=value, ...).")


def _parameters(kind: type) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(kind).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of a Module without settings
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}


def _construct(kind: type[T], words: dict[str, ast.expr], given: dict[str, object], spec: str) -> T:
    parameters = _parameters(kind)
    hints = typing.get_type_hints(kind.__init__)
    open_names = [name for name in parameters if name not in given]
    for word in words:
        if word not in open_names:
            known = did_you_mean(word, open_names) if open_names else "It has no settings."
            raise ValueError(f"{spec!r}: {name_of(kind)} has no setting called {word!r}. {known}")
    values = {word: _value(node, hints.get(word), f"{spec!r}: {word}") for word, node in words.items()}
    return kind(**values, **{name: value for name, value in given.items() if name in parameters})


def _value(node: ast.expr, hint: Any, where: str) -> object:
    """A literal of the hinted type, or a nested component where the hint names a component's abstract class."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    text = ast.unparse(node)
    component = next((kind for kind in kinds if inspect.isabstract(kind)), None)
    if component is not None and text != "None":
        return build(component, text)
    if float in kinds and text.lstrip("-") == "inf":
        return float(text)
    try:
        value = node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
    except ValueError:
        value = None
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is not None and not any(_fits(value, kind) for kind in kinds):
        wanted = hint.__name__ if isinstance(hint, type) and not typing.get_origin(hint) else str(hint)
        raise ValueError(f"{where}={text} is not of the kind {wanted}. Give a value of that kind.")
    return value


def _fits(value: object, kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, typing.get_args(kind)[0]) for part in value)
    if kind is int and isinstance(value, bool):
        return False
    return isinstance(value, typing.get_origin(kind) or kind)


def _literal(value: object, whole: bool) -> str:
    if isinstance(value, str | int | float | bool | tuple | None):
        return repr(value)
    return describe(value, whole=whole)
