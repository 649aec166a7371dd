"""The model card in a folder: where it is, and the licence that it states."""

import re
from pathlib import Path
from typing import Any

from noisekiln.errors import printable, shorten
from noisekiln.files.plain_file import read_plain_text
from noisekiln.files.yaml_file import MAX_BYTES, parse_yaml

CARD = "README.md"
FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
NONE_STATED = ("unknown", "")


def read_card(*folders: Path) -> str:
    """The text of the card in the first of these folders that holds one; "" without one that can be read."""
    for folder in folders:
        try:
            return read_plain_text(folder / CARD, MAX_BYTES)
        except (OSError, ValueError):
            continue
    return ""


def stated_license(card: str) -> str:
    """The licence in the front matter of a card, such as "cc-by-4.0"; "" if it states none."""
    found = FRONT_MATTER.match(card)
    try:
        entries = parse_yaml(found[1]) if found else {}
    except ValueError:
        return ""
    if not isinstance(entries, dict):
        return ""
    license = entries.get("license")
    named = (entries.get("license_name") if license == "other" else None) or license
    names = [_plain_name(each) for each in (named if isinstance(named, list) else [named])]
    return ", ".join(name for name in names if name not in NONE_STATED)


def _plain_name(value: Any) -> str:
    """A name from a card of another person, as it may stand in one of ours."""
    return shorten(printable(value.replace("`", "'")), 80).strip() if isinstance(value, str) else ""
