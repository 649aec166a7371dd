"""Two specs beside each other: what differs."""

import ast
from collections.abc import Mapping

from noisekiln.components.spec import parse_spec


def differing_parts(spec: str, other: str) -> tuple[str, str]:
    """Two specs without the settings that they share, if they are of one component; otherwise the specs."""
    try:
        (name, settings), (other_name, others) = parse_spec(spec), parse_spec(other)
    except ValueError:
        return spec, other
    values, other_values = ({word: ast.unparse(each) for word, each in found.items()} for found in (settings, others))
    if name != other_name or values == other_values:
        return spec, other
    return _without(name, values, other_values), _without(name, other_values, values)


def _without(name: str, values: Mapping[str, str], shared: Mapping[str, str]) -> str:
    """The spec of some settings, except those that others have, too."""
    left = [f"{word}={value}" for word, value in values.items() if shared.get(word) != value]
    return f"{name}({', '.join(left)})" if left else name
