"""Arguments by a name that a function does not have are answered with the nearest name."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, get_args

from noisekiln.components.registry import did_you_mean
from noisekiln.components.words import answer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
EMPTY = inspect.Parameter.empty
BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def answering_unknown_names(words: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator: a misspelt argument raises ValueError with its name here, instead of Python's TypeError.

    Args:
        words: Table of `words.yaml` that has the names of elsewhere.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        parameters = inspect.signature(function).parameters.values()
        required = {each.name for each in parameters if each.kind in BY_NAME and each.default is EMPTY}
        options = [each.name for each in parameters if each.kind in BY_NAME and each.default is not EMPTY]
        for each in parameters:
            if each.kind is inspect.Parameter.VAR_KEYWORD:  # **options: Unpack[a TypedDict]
                options += get_args(each.annotation)[0].__annotations__

        @wraps(function)
        def checked(*positional: Arguments.args, **named: Arguments.kwargs) -> Result:
            for name in named:
                if name not in required and name not in options:
                    near = answer(words, name) or did_you_mean(name, options, f"options of {function.__name__}")
                    raise ValueError(f"There is no option called {name!r}. {near}")
            return function(*positional, **named)

        return checked

    return decorate
