"""A single HTML page: tables, sentences and pictures in one file, which needs nothing else."""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse } td, th { padding: .35rem 1.1rem .35rem 0; text-align: left; vertical-align: top }
tr + tr td { border-top: 1px solid #e3e6ea } td.number { white-space: nowrap; font-variant-numeric: tabular-nums }
.small { color: #5d6570; font-size: .88rem } img { max-width: 100%; image-rendering: pixelated }
.good { color: #1a7f45 } .fair { color: #9a6b00 } .poor { color: #b3261e } .unknown { color: #5d6570 }
"""


class PagePicture(NamedTuple):
    """A picture on the page, with its heading and the sentence below it."""

    heading: str
    caption: str
    image: Image.Image


class PageLine(NamedTuple):
    """A sentence on the page: its name, its grade (good, fair, poor or unknown, a colour) and its text."""

    name: str
    grade: str
    text: str


def render_page(
    title: str,
    subtitle: str,
    lines: Sequence[PageLine],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    pictures: Sequence[PagePicture],
    facts: Sequence[tuple[str, str]],
) -> str:
    """The page as text.

    Args:
        title: First line.
        subtitle: Second line, smaller.
        lines: Sentences.
        header: Heads of the table's columns; the last column is a text, the ones between are numbers.
        rows: The table.
        pictures: The pictures.
        facts: Names and values, at the end.
    """
    said = "".join(f'<p><b class="{one.grade}">{_escaped(one.name)}</b>: {_escaped(one.text)}.</p>' for one in lines)
    heads = "".join(f"<th>{_escaped(head)}</th>" for head in header)
    body = "".join(_table_row(row) for row in rows)
    shown = "".join(map(_picture, pictures))
    known = "".join(f"<tr><td>{_escaped(name)}</td><td>{_escaped(value)}</td></tr>" for name, value in facts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_escaped(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{_escaped(title)}</h1><p class="small">{_escaped(subtitle)}</p>{said}'
        f"<h2>Scores</h2><table><tr>{heads}</tr>{body}</table>{shown}"
        f'<h2>How it was measured</h2><table class="small">{known}</table></body></html>\n'
    )


def _table_row(row: Sequence[str]) -> str:
    first, *numbers, last = row
    cells = "".join(f'<td class="number">{_escaped(number)}</td>' for number in numbers)
    return f'<tr><td>{_escaped(first)}</td>{cells}<td class="small">{_escaped(last)}</td></tr>'


def _picture(picture: PagePicture) -> str:
    file = io.BytesIO()
    picture.image.save(file, "PNG")
    data, heading = base64.b64encode(file.getvalue()).decode(), _escaped(picture.heading)
    return (
        f'<h2>{heading}</h2><img alt="{heading}" src="data:image/png;base64,{data}">'
        f'<p class="small">{_escaped(picture.caption)}</p>'
    )


def _escaped(text: str) -> str:
    """Text as HTML; names of files that are not UTF-8 are escaped."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
