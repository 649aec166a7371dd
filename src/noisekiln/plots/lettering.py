"""Lettering of pictures that are drawn pixel by pixel: fonts, and text that fits into a width."""

import importlib.util
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
GREY = "#666666"
EAST = (  # fonts of systems with the signs of East Asia, which DejaVu lacks
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "simsun.ttc"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
)
ALPHABETS_OF_DEJAVU = (range(0x0900), range(0x0E80, 0x2E80))  # roughly: not those of India and Thailand


def font_for(text: str, size: int, *, bold: bool = False) -> Font:
    """A font with the signs of a text, if this machine has one: DejaVu, which comes with matplotlib."""
    eastern = _eastern(size) if _needs_eastern(text) else None
    return eastern or _dejavu(size, bold)


def lacks_font(text: str) -> bool:
    """Whether no font of this machine has the signs of a text."""
    return _needs_eastern(text) and _eastern(12) is None


def wrap_text(text: str, font: Font, width: float, most: int) -> list[str]:
    """A text in at most so many lines that fit into a width in pixels; "…" stands for the rest.

    Lines are broken at spaces, and within words that are too long, such as a sentence without spaces.
    """
    rest = " ".join(text.split())
    lines: list[str] = []
    while rest and len(lines) < most:
        size = _fitting(rest, font, width)
        if size < len(rest) and " " in rest[: size + 1]:
            size = rest[: size + 1].rindex(" ")
        lines.append(rest[:size].rstrip())
        rest = rest[size:].lstrip()
    if rest and lines:
        lines[-1] = fit_text(f"{lines[-1]} {rest}", font, width)
    return lines


def fit_text(text: str, font: Font, width: float) -> str:
    """A text, cut so that it fits into a width in pixels."""
    if font.getlength(text) <= width:
        return text
    return text[: _fitting(text, font, width - font.getlength("…"))].rstrip() + "…"


def _fitting(text: str, font: Font, width: float) -> int:
    """How many signs of a text fit into a width, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _needs_eastern(text: str) -> bool:
    return any(all(ord(sign) not in alphabet for alphabet in ALPHABETS_OF_DEJAVU) for sign in text)


@lru_cache
def _dejavu(size: int, bold: bool) -> Font:
    found = importlib.util.find_spec("matplotlib")
    folder = Path((found.submodule_search_locations or [""])[0]) if found else Path()
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(str(folder / "mpl-data" / "fonts" / "ttf" / name), size)
    except OSError:
        return ImageFont.load_default(size)


@lru_cache
def _eastern(size: int) -> Font | None:
    for name in EAST:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
