"""YAML files, which may come from other people: whatever is wrong with them is a ValueError."""

from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent

from noisekiln.errors import reason_of
from noisekiln.files.plain_file import read_plain_text

MAX_BYTES = 1 << 20


class _TreeLoader(yaml.SafeLoader):
    """Loader of plain values: without aliases, by which a short file could stand for endless lists, and tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # yaml has no types here
        if isinstance(event, AliasEvent) or getattr(event, "tag", None) is not None:
            raise ValueError("it has an alias or a tag, which noisekiln never writes")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> Any:
    """The value in a YAML file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, too large, nested too deeply, has aliases, or is no plain file.
    """
    return parse_yaml(read_plain_text(file, MAX_BYTES))


def parse_yaml(text: str) -> Any:
    """The value of a text in YAML; raises ValueError as `read_yaml` does."""
    try:
        return _TreeLoader(text).get_single_data()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(reason_of(error)) from None
