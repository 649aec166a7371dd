"""Captions in text files beside the images, one a line: `1.txt` or `1.caption` beside `1.png`, also `1.png.txt`."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from noisekiln.data.dataset import Skipped
from noisekiln.data.image_names import same_spelling
from noisekiln.data.source import Item
from noisekiln.data.text_files import read_text
from noisekiln.errors import DataError, counted

ENDINGS = (".txt", ".caption")  # where an image has both, the first one counts
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".xls", ".parquet")
MAX_BYTES = 1 << 20
BOX = re.compile(r"\d+(?:\s+-?[\d.]+(?:e-?\d+)?){4,}")  # a class and a box on each line, as detectors use it


@dataclass(frozen=True)
class CaptionFiles:
    """Captions from files beside the images.

    Attributes:
        captions: Captions of each image that has a file, one on each line; "" for an empty file.
        used: Names of the files that belong to images.
        notes: Notes on how the files were read.
        skipped: Files that belong to an image and cannot be read.
    """

    captions: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def read_caption_files(seen: Sequence[Item], images: frozenset[str]) -> CaptionFiles:
    """Reads the caption files of all images; a file counts for every image with its name.

    Args:
        seen: All files.
        images: Names of the images.
    """
    found = CaptionFiles()
    boxes, several, guessed = 0, 0, []
    for item, theirs in _files_of_images(seen, images):
        found.used.add(item.name)
        try:
            text, notes = read_text(item, MAX_BYTES)
        except DataError as error:
            found.skipped.append(Skipped(item.name, str(error.args[1])))
            continue
        guessed += notes
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines and all(map(BOX.fullmatch, lines)):
            boxes += 1
            continue
        several += len(lines) > 1
        found.captions.update(dict.fromkeys(theirs, "\n".join(" ".join(line.split()) for line in lines)))
    if boxes:
        found.notes.append(f"{counted(boxes, 'text file holds', 'text files hold')} boxes of objects, not captions.")
    if several:
        files = counted(several, "caption file has", "caption files have")
        found.notes.append(f"{files} several lines; each line is a caption of its own.")
    if guessed:
        more = f" The same is true of {counted(len(guessed) - 1, 'more file')}." if len(guessed) > 1 else ""
        found.notes.append(guessed[0] + more)
    return found


def why_not_read(name: str) -> str:
    """The reason why a file that may hold captions or labels is not used; "" for other files."""
    if name.lower().endswith(ENDINGS):
        return "a text file with the name of no image"
    return "a table that is not called metadata.csv or metadata.jsonl" if name.lower().endswith(TABLES) else ""


def _files_of_images(seen: Sequence[Item], images: frozenset[str]) -> list[tuple[Item, list[str]]]:
    """Every caption file that belongs to images, with them; a name in the same spelling has priority."""
    files = {item.name: item for item in seen if item.name.lower().endswith(ENDINGS)}
    if not files:
        return []
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(files, key=lambda name: (not name.lower().endswith(ENDINGS[0]), name)):
        alike[same_spelling(name)].append(name)
    owners: dict[str, list[str]] = defaultdict(list)
    for image in sorted(images):
        stems = (image, image.rpartition(".")[0])
        exact = [stem + ending for ending in ENDINGS for stem in stems if stem + ending in files]
        others = [name for ending in ENDINGS for stem in stems for name in alike.get(same_spelling(stem + ending), ())]
        if exact or others:
            owners[(exact or others)[0]].append(image)
    return [(files[name], theirs) for name, theirs in owners.items()]
