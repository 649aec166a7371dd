"""Specs: a component and its settings as text, ``"ddim(eta=0.5)"`` <-> ``DDIM(eta=0.5)``.

A component is its own configuration: its constructor's arguments, kept under their own names. A spec is the call
written down; an argument that is itself a component is a nested spec: ``"uniform(schedule=cosine(offset=0))"``.
Specs are parsed, never evaluated: only names, calls and literals are understood.
"""

import ast
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from noisekiln.components.consent import ANY_CODE, Consent
from noisekiln.components.plain_values import plain
from noisekiln.components.registry import did_you_mean, find, name_of
from noisekiln.errors import CodeNotAllowed, shorten
from noisekiln.paths import expand_home

T = TypeVar("T")
NAME, SETTINGS = r"[^\W\d]\w*", r"(\(.*\))?"
OTHER_NAME = r"([^\W\d][\w +-]*)()"  # "dpm++ 2m", a name of elsewhere, about which `find` says more
FORMS = [re.compile(form, re.DOTALL) for form in (rf"({NAME}){SETTINGS}", rf"(.+\.py:{NAME}){SETTINGS}", OTHER_NAME)]


def build(base: type[T], spec: "str | T", consent: Consent = ANY_CODE, /, **context: object) -> T:
    """The component that a spec describes.

    Args:
        base: The abstract class of its room, such as `Sampler`.
        spec: "heun", "ddim(eta=0.5)", "my_file.py:MySampler"; a component is returned unchanged.
        consent: Python files that may run; all by default, for a spec that the user has written.
        context: Arguments that the caller provides (channels, condition sizes), for a constructor that has them; the
            spec may not name them.

    Raises:
        CodeNotAllowed: If it names a Python file that must not run.
        ValueError: If a component or setting is unknown (the most similar one is suggested), or a value is of the wrong
            type.
    """
    if isinstance(spec, base):
        return spec
    if not isinstance(spec, str):
        raise ValueError(
            f"A value of the type {type(spec).__name__} is no {base.__name__}. Give its name, its spec as text, or one."
        )
    name, settings = parse_spec(spec)
    return _construct(find(base, name, consent), settings, context, spec)


def describe(component: object, *, include_defaults: bool = False, exclude: tuple[str, ...] = ()) -> str:
    """The spec that builds this component again.

    Args:
        component: Anything that `build` makes.
        include_defaults: Whether to write settings at their default too, so that a change of defaults has no effect.
        exclude: Arguments to leave out, because the caller provides them.
    """
    settings = [
        f"{name}={_literal(value, include_defaults)}"
        for name, parameter in _parameters(type(component)).items()
        if name not in exclude and ((value := _kept_argument(component, name)) != parameter.default or include_defaults)
    ]
    return name_of(type(component)) + (f"({', '.join(settings)})" if settings else "")


def settings_of(component: object) -> dict[str, object]:
    """The arguments that build this component again, by name."""
    return {name: _kept_argument(component, name) for name in _parameters(type(component))}


def is_component(value: object) -> bool:
    """Whether a value is a component, and no number, text or tuple."""
    return any(map(inspect.isabstract, type(value).__mro__))


def class_of(base: type[T], spec: str) -> type[T]:
    """The class that a spec names; it is not built."""
    return find(base, parse_spec(spec)[0])


def python_file(spec: object) -> Path | None:
    """The Python file that would run if a spec were built; None for a component of noisekiln, or what is no spec."""
    try:
        file, colon, _ = parse_spec(spec)[0].rpartition(":") if isinstance(spec, str) else ("", "", "")
    except ValueError:
        return None
    return expand_home(file) if colon else None


def consent_to(specs: Mapping[str, object], allow_code: bool = False) -> Consent:
    """Consent to run the Python files that the settings of a user name; all files with `allow_code`."""
    files = frozenset(file for spec in specs.values() if (file := python_file(spec)) is not None)
    consent = Consent.of(allow_code)
    return consent if consent.files is None else Consent(files)


def check_specs(specs: Mapping[str, object], consent: Consent, place: Path) -> None:
    """Check that specs from a file, which are built later, name no Python file that must not run.

    Args:
        specs: The specs by setting; other values are skipped.
        consent: Python files that may run.
        place: The file that holds the specs, for the message.

    Raises:
        CodeNotAllowed: If one of them names another Python file.
    """
    for file in filter(None, map(python_file, specs.values())):
        try:
            consent.check(file)
        except CodeNotAllowed:
            raise CodeNotAllowed(file, place) from None


def matches(base: type[T], spec: str, component: T) -> bool:
    """Whether a component is of the class that a spec names, and has the settings that the spec names."""
    name, settings = parse_spec(spec)
    kind = find(base, name)
    if name_of(kind) != name_of(type(component)):
        return False
    values = _read_settings(kind, settings, spec)
    return all(word in _parameters(kind) and getattr(component, word) == value for word, value in values.items())


def is_read_back(spec: str, component: object) -> bool:
    """Whether the settings in a component's spec would be read as what they are now; no class is looked up or built."""
    try:
        values = _read_settings(type(component), parse_spec(spec)[1], spec)
    except ValueError:
        return False
    return all(_literal(value, True) == _literal(getattr(component, word), True) for word, value in values.items())


def _read_settings(kind: type[Any], settings: Mapping[str, ast.expr], spec: str) -> dict[str, object]:
    hints = typing.get_type_hints(kind.__init__)
    return {word: _value(node, hints.get(word), f"{_quoted(spec)}: {word}") for word, node in settings.items()}


def with_defaults(base: type[T], spec: str, defaults: Mapping[str, Any]) -> str:
    """The spec with settings added that it does not name itself, all in the order of the constructor."""
    name, settings = parse_spec(spec)
    kind = find(base, name)
    texts = {key: _literal(value, include_defaults=True) for key, value in defaults.items()}
    texts |= {key: ast.unparse(node) for key, node in settings.items()}
    known = list(_parameters(kind))
    ordered = sorted(texts, key=lambda key: known.index(key) if key in known else len(known))
    written = ", ".join(f"{key}={texts[key]}" for key in ordered)
    named = name if ":" in name else name_of(kind)
    return f"{named}({written})" if written else named


def has_argument(kind: type, argument: str) -> bool:
    """Whether a component's constructor has an argument of this name."""
    return argument in _parameters(kind)


def parse_spec(spec: str) -> tuple[str, dict[str, ast.expr]]:
    """The component's name and its settings; the name may be FILE.py:Class, or a word of Python such as "class".

    Raises:
        ValueError: If it is no spec.
    """
    for form in FORMS:
        found = form.fullmatch(spec.strip())
        settings = None if found is None else _settings(f"_{found[2] or '()'}")
        if found is not None and settings is not None:
            return found[1], settings
    raise ValueError(
        f"{_quoted(spec)} cannot be read as a setting. Write name, name(setting=value, ...) or FILE.py:Class."
    )


def _settings(call: str) -> dict[str, ast.expr] | None:
    """The keyword arguments of a call; None if it is not one, or has others."""
    try:
        node = ast.parse(call, mode="eval").body
        ast.unparse(node)  # a tree that is too deep for this is too deep for whatever reads it
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _keywords(node) if isinstance(node, ast.Call) else None


def _keywords(call: ast.Call) -> dict[str, ast.expr] | None:
    words = {word.arg: word.value for word in call.keywords if word.arg}
    plain = isinstance(call.func, ast.Name) and not call.args and len(words) == len(call.keywords)
    return words if plain else None


def _parameters(kind: type) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(kind).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of a Module without settings
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}


def _construct(kind: type[T], words: dict[str, ast.expr], context: dict[str, object], spec: str) -> T:
    parameters = _parameters(kind)
    hints = typing.get_type_hints(kind.__init__)
    settable = [name for name in parameters if name not in context]
    for word in words:
        if word not in settable:
            known = did_you_mean(word, settable, "settings") if settable else "It has no settings."
            raise ValueError(f"{_quoted(spec)}: {name_of(kind)} has no setting called {_quoted(word)}. {known}")
    values = {word: _value(node, hints.get(word), f"{_quoted(spec)}: {word}") for word, node in words.items()}
    values |= {name: value for name, value in context.items() if name in parameters}
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in values:
            raise ValueError(
                f"{_quoted(spec)}: {name_of(kind)} needs the setting {name!r}, which has no default. Give it."
            )
    try:
        component = kind(**values)
    except (RuntimeError, OverflowError, ZeroDivisionError) as error:
        if ":" in name_of(kind):  # of a user's own file, where `own_code` names the line
            raise
        reason = shorten(str(error).partition("\n")[0].rstrip("."), 200)
        raise ValueError(f"{_quoted(spec)} cannot be built: {reason}. Give other numbers.") from error
    for name in parameters:
        _kept_argument(component, name)
    return component


def _kept_argument(component: object, name: str) -> object:
    """The value of a constructor's argument, which a component keeps as an attribute."""
    try:
        return getattr(component, name)
    except AttributeError as error:
        raise ValueError(
            f"{name_of(type(component))} does not keep its argument {name!r}, so it could not be saved. "
            f"Keep it in its constructor: self.{name} = {name}."
        ) from error


def _value(node: ast.expr, hint: Any, where: str) -> object:
    """A literal of the hinted type, or a nested component where the hint names a component's abstract class."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    text = ast.unparse(node)
    component = next((kind for kind in kinds if inspect.isabstract(kind)), None)
    if component is not None and text != "None":
        return _nested(component, node, f"{where}={text}")
    if float in kinds and text.lstrip("-") == "inf":
        return float(text)
    try:
        value = node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
    except ValueError:
        value = None
    if _is_infinite(value):  # such as 1e400
        value = None
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else None
    if hint is not None and not any(_fits(value, kind) for kind in kinds):
        expected = hint.__name__ if isinstance(hint, type) and not typing.get_origin(hint) else str(hint)
        shown = shorten(f"{where}={text}", 300)
        raise ValueError(f"{shown} is not of the type {expected}. Give a value of that type.")
    return value


def _is_infinite(value: object) -> bool:
    """Whether a literal is a number that is too large for a float, or holds one."""
    if isinstance(value, tuple):
        return any(map(_is_infinite, value))
    return isinstance(value, float) and not math.isfinite(value)


def _quoted(spec: str) -> str:
    """A spec in a message."""
    return shorten(repr(spec), 200)


def _nested(base: type[T], node: ast.expr, where: str) -> T:
    """A component inside of a spec, from the parsed tree: one of noisekiln's own, never from a file."""
    words = _keywords(node) if isinstance(node, ast.Call) else {}
    named = node.func if isinstance(node, ast.Call) else node
    if words is None or not isinstance(named, ast.Name):
        raise ValueError(f"{shorten(where, 300)} cannot be read as a setting. Write name or name(setting=value, ...).")
    return _construct(find(base, named.id), words, {}, ast.unparse(node))


def _fits(value: object, kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, typing.get_args(kind)[0]) for part in value)
    if kind is int and isinstance(value, bool):
        return False
    return isinstance(value, typing.get_origin(kind) or kind)


def _literal(value: object, include_defaults: bool) -> str:
    value = plain(value)
    if isinstance(value, str | int | float | bool | tuple | None):
        return repr(value)
    if not is_component(value):
        raise ValueError(f"{value!r} is a {type(value).__name__}, which no setting can be. Use a tuple, or text.")
    return describe(value, include_defaults=include_defaults)
