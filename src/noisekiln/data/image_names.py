"""Search for the image that a name in the metadata stands for, also where the name is not exactly the image's path."""

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath

Steps = tuple[str, ...]


def same_spelling(name: str) -> str:
    """A key that is equal for names that differ in case, or in the way their accents are encoded (NFC or NFD)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class ImageNames:
    """The paths of all images, below the folder of the data.

    Args:
        images: The paths.
    """

    def __init__(self, images: Iterable[str]) -> None:
        self.images = frozenset(images)

    def find(self, name: str, folder: str) -> tuple[str | None, str]:
        """The image that a name in a file in `folder` stands for, or None and the reason in words.

        It is the path from there. If there is no such image, it is the only one whose path agrees with the name from
        the end on, apart from case, accents and, if there is no other way, the file's ending.
        """
        path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
        if path in self.images:
            return path, ""
        if path.startswith("../") or path == "..":
            return None, "outside the data's folder"
        steps = _steps(name)
        for wanted, ending in ((steps, True), (steps, False), (_without_ending(steps), False)):
            found = self._agreeing(wanted, _steps(folder), ending=ending)
            if found:
                return (found[0], "") if len(found) == 1 else (None, f"it fits {len(found)} images")
        return None, "not there"

    def _agreeing(self, wanted: Steps, folder: Steps, *, ending: bool) -> Sequence[str]:
        """The images in the folder that agree with the last steps of a name best, and up to the end of one of both."""
        best = 0
        found: list[str] = []
        for image in self._by_last_step[ending].get(wanted[-1], ()) if wanted else ():
            path = _steps(image) if ending else _without_ending(_steps(image))
            if path[: len(folder)] != folder:
                continue
            length = max(_agreement(wanted, path), _agreement(wanted, path[len(folder) :]))
            if length > best:
                best, found = length, []
            if length and length == best:
                found.append(image)
        return found

    @cached_property
    def _by_last_step(self) -> Mapping[bool, Mapping[str, list[str]]]:
        """Images by the last step of their path, with its ending (True) and without (False)."""
        index: dict[bool, dict[str, list[str]]] = {True: defaultdict(list), False: defaultdict(list)}
        for image in sorted(self.images):
            steps = _steps(image)
            index[True][steps[-1]].append(image)
            index[False][_without_ending(steps)[-1]].append(image)
        return index


def _steps(path: str) -> Steps:
    """The folders and the name of a path, as they are compared."""
    pieces = same_spelling(path.replace("\\", "/")).split("/")
    return tuple(piece for piece in pieces if piece not in ("", "."))


def _agreement(one: Steps, other: Steps) -> int:
    """The number of steps in the shorter path if the longer one ends with it; else 0."""
    length = min(len(one), len(other))
    return length if length and one[-length:] == other[-length:] else 0


def _without_ending(steps: Steps) -> Steps:
    return (*steps[:-1], PurePosixPath(steps[-1]).stem) if steps else ()
