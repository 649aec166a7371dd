"""Text in PNG files: how an image was made, as any image viewer can show it and noisekiln can read it again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noisekiln.files.json_file import parse_json
from noisekiln.version import VERSION

KEY = "noisekiln"  # all entries together, as JSON, with their types
SOFTWARE = "Software"  # a keyword of the PNG standard


def png_text(entries: Mapping[str, Any]) -> PngInfo:
    """Chunks (tEXt, or iTXt for what Latin-1 cannot write) with each entry under its name, and all of them as JSON.

    Args:
        entries: How the image was made; values that JSON can write. The version of noisekiln is added.
    """
    info = PngInfo()
    info.add_text(SOFTWARE, f"noisekiln {VERSION}")
    for name, value in entries.items():
        info.add_text(name, _as_utf8(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    info.add_text(KEY, _as_utf8(json.dumps({**entries, "version": VERSION}, ensure_ascii=False)))
    return info


def _as_utf8(text: str) -> str:
    """Text in which names of files that are not UTF-8 are escaped, as JSON escapes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_png_text(file: Path) -> dict[str, Any] | None:
    """The entries that `png_text` wrote; None if the file is no PNG of noisekiln, or is damaged."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            entries = parse_json(image.info[KEY])
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):  # SyntaxError is PIL's, for a damaged PNG
        return None
    return entries if isinstance(entries, dict) else None
