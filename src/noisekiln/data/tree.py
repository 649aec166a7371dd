"""Interpretation of a tree of named files, such as a folder: its parts, classes, captions and columns."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.caption_files import CaptionFiles, read_caption_files, why_not_read
from noisekiln.data.columns import Columns, parse_column
from noisekiln.data.dataset import Altered, Skipped
from noisekiln.data.formats import HEAD, SUFFIXES, foreign_suffix, is_readable, may_lack_suffix
from noisekiln.data.image_names import ImageNames
from noisekiln.data.left_out import Tree, data_of_tree
from noisekiln.data.metadata import FILES, Metadata, read_metadata
from noisekiln.data.source import Item, Part, Source, natural_sort_key
from noisekiln.errors import DataError, counted

PACKED = frozenset({".npz", ".zip", ".tar", ".tgz"})  # files whose arrays or images can be given instead of a folder
TRAIN = frozenset({"train", "training"})
TEST = frozenset({"test", "testing", "val", "valid", "validation"})

Steps = tuple[str, ...]  # the components of a path, the file's name last


def source_from_tree(name: str, files: Sequence[Item], skipped: Sequence[Skipped] = ()) -> Source:
    """Reads a tree whose items are named by their path in it ("cats/1.png"). Raises DataError if it has no image.

    Sub-folders called train and test (or val) are the parts; below them, two sub-folders or more are classes. Labels
    and captions of a metadata.jsonl or .csv have priority; a caption may also be in a .txt file of the image's name.
    Further columns of the metadata keep their names.
    """
    found = data_of_tree(name, files, skipped)
    seen = sorted(found.files, key=lambda item: natural_sort_key(item.name))
    images = [item for item in seen if _is_image(item)]
    if not images:
        raise _no_images(name, seen, found)
    names = frozenset(item.name for item in images)
    described = [item for item in seen if _last(item) in FILES]
    metadata = read_metadata(described, ImageNames(names))
    texts = read_caption_files(seen, names)
    captions = texts.captions | metadata.captions
    used = names | texts.used
    other = [item for item in seen if item.name not in used and _last(item) not in FILES]
    lost = [
        *found.skipped,
        *(Skipped(item.name, why_not_read(item.name) or foreign_suffix(item.name)) for item in other),
    ]
    images, unlabelled = _labelled(images, metadata)
    trees, notes = _split_parts(images)
    notes += found.notes
    classes, origin = _classes(trees, metadata)
    notes += [origin] if classes is None else []
    notes += map(Altered, [*metadata.notes, *texts.notes, *_about_priority(texts, metadata)])
    if described and not (metadata.captions or metadata.labels or metadata.columns or metadata.notes):
        notes.append(f"{described[0].name} has no entry for any image.")
    parts = [
        Part(
            tuple(tree),
            None if classes is None else [classes[item.name] for item in tree],
            [captions.get(item.name, "") for item in tree] if captions else None,
            columns,
        )
        for tree, columns in zip(trees, _columns_of_parts(trees, metadata), strict=True)
    ]
    return Source(
        name,
        parts[0],
        parts[1] if len(parts) > 1 else None,
        labels_from="" if classes is None else origin,
        notes=tuple(notes),
        skipped=(*lost, *texts.skipped, *unlabelled),
    )


def _is_image(item: Item) -> bool:
    """Whether it is an image by its suffix; where that tells nothing, by its first bytes."""
    if _suffix(item) in SUFFIXES or not may_lack_suffix(item.name):
        return _suffix(item) in SUFFIXES
    try:
        with item.open() as handle:
            return isinstance(handle, Image.Image) or is_readable(handle.read(HEAD))
    except OSError:
        return False


def _labelled(images: list[Item], metadata: Metadata) -> tuple[list[Item], list[Skipped]]:
    """Where metadata holds labels, an image without one is left out."""
    if not metadata.labels:
        return images, []
    out = [Skipped(item.name, "it has no label in the metadata") for item in images if item.name not in metadata.labels]
    return [item for item in images if item.name in metadata.labels], out


def _split_parts(images: list[Item]) -> tuple[list[dict[Item, Steps]], list[str]]:
    """One or two parts, each image with its steps below the part."""
    steps = _below({item: tuple(item.name.split("/")) for item in images})
    tops = {path[0].lower() if len(path) > 1 else "" for path in steps.values()}
    if not (tops & TRAIN and tops & TEST and tops <= TRAIN | TEST):
        return [steps], []
    inner = _below({item: path[1:] for item, path in steps.items()})
    trees = [{i: path for i, path in inner.items() if steps[i][0].lower() in side} for side in (TRAIN, TEST)]
    held = sorted({steps[item][0] for item in trees[1]})
    return trees, [f"The sub-folder {' and '.join(held)} is held out ({counted(len(trees[1]), 'image')})."]


def _below(steps: dict[Item, Steps]) -> dict[Item, Steps]:
    """Without the folders that all images lie in."""
    levels = zip(*(path[:-1] for path in steps.values()), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return {item: path[shared:] for item, path in steps.items()}


def _classes(trees: list[dict[Item, Steps]], metadata: Metadata) -> tuple[dict[str, str] | None, str]:
    """Class of each image, by the image's name, and the origin of the classes; or None and a note on the reason."""
    if metadata.labels:
        return metadata.labels, "the metadata"
    paths = {item.name: path for tree in trees for item, path in tree.items()}
    inside = [len(path) > 1 for path in paths.values()]
    if all(inside):
        return {name: path[0] for name, path in paths.items()}, "sub-folders"
    if any(inside):
        return None, "Some images lie in sub-folders and some do not, so the sub-folders are not read as classes."
    return (
        None,
        "There are no classes: two sub-folders with images, or a column label in metadata.csv, would give some.",
    )


def _columns_of_parts(trees: list[dict[Item, Steps]], metadata: Metadata) -> list[Columns]:
    """Every part's further columns; whether a column holds numbers or texts is decided over all parts."""
    columns: list[dict[str, NDArray[Any]]] = [{} for _ in trees]
    for name, cells in metadata.columns.items():
        values = parse_column([cells.get(item.name, "") for tree in trees for item in tree])
        start = 0
        for tree, part in zip(trees, columns, strict=True):
            part[name] = values[start : start + len(tree)]
            start += len(tree)
    return list(columns)


def _about_priority(texts: CaptionFiles, metadata: Metadata) -> list[str]:
    """A note on text files that are not used, because the metadata caption their images differently."""
    unused = [name for name, caption in texts.captions.items() if metadata.captions.get(name, caption) != caption]
    files = f"{counted(len(unused), 'caption')} in text files {'is' if len(unused) == 1 else 'are'} not used"
    return [f"{files}: the metadata {'has another' if len(unused) == 1 else 'have others'}."] if unused else []


def _no_images(name: str, seen: Sequence[Item], found: Tree) -> DataError:
    packed = next((item.name for item in seen if _suffix(item) in PACKED), None)
    if packed:
        what = "arrays" if packed.lower().endswith(".npz") else "images"
        return DataError(name, "it holds no image files", f"To use the {what} in {packed}, give that file")
    if not seen and not found.skipped:
        reason = (
            f"there is no other image in it: {found.notes[0].rstrip('.')}" if found.notes else "the folder is empty"
        )
        return DataError(name, reason, "Put images into it, or give another folder")
    reasons = [f"{one.file}: {one.why}" for one in found.skipped]
    reasons += [f"{item.name}: {foreign_suffix(item.name)}" for item in seen]
    more = f"; and {len(reasons) - 3:,} more" if len(reasons) > 3 else ""
    return DataError(
        name,
        f"no image in it can be used ({'; '.join(reasons[:3])}{more})",
        "Give a folder of .png, .jpg or similar files",
    )


def _suffix(item: Item) -> str:
    return PurePosixPath(item.name).suffix.lower()


def _last(item: Item) -> str:
    return PurePosixPath(item.name).name.lower()
