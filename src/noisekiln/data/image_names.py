"""Search for the image that a name in the metadata stands for, also where the name is not exactly the image's path."""

import posixpath
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice

Steps = tuple[str, ...]


def same_spelling(name: str) -> str:
    """A key that is equal for names that differ in case, or in the way their accents are encoded (NFC or NFD)."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


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
        steps, below = _steps(name), _steps(folder)
        for tail, index in (
            (steps, self._whole),
            (steps, self._without_endings),
            (_without_ending(steps), self._without_endings),
        ):
            found = index.agreeing(tail, below)
            if found:
                return (found[0], "") if len(found) == 1 else (None, "it fits several images")
        return None, "not there"

    @cached_property
    def _whole(self) -> "_Paths":
        return _Paths((_steps(image), image) for image in self.images)

    @cached_property
    def _without_endings(self) -> "_Paths":
        return _Paths((_without_ending(_steps(image)), image) for image in self.images)


class _Paths:
    """Images by their path, found by the end of it."""

    def __init__(self, paths: Iterable[tuple[Steps, str]]) -> None:
        self.equal: dict[Steps, list[str]] = defaultdict(list)
        for steps, image in paths:
            self.equal[steps].append(image)
        self.backwards = sorted((steps[::-1], image) for steps, images in self.equal.items() for image in images)

    def agreeing(self, tail: Steps, folder: Steps) -> list[str]:
        """Up to two images in the folder that end with these steps; else those that the steps end with, the longest."""
        longer = (image for steps, image in self._ending_with(tail) if steps[: len(folder)] == folder)
        found = list(islice(longer, 2)) if tail else []
        for start in range(1, len(tail)):
            if found:
                break
            rest = tail[start:]
            found = [*(self.equal[rest] if rest[: len(folder)] == folder else ()), *self.equal[(*folder, *rest)]]
        return list(dict.fromkeys(found))

    def _ending_with(self, tail: Steps) -> Iterator[tuple[Steps, str]]:
        """Paths with this end, and their images."""
        backwards = tail[::-1]
        for number in range(bisect_left(self.backwards, (backwards, "")), len(self.backwards)):
            steps, image = self.backwards[number]
            if steps[: len(backwards)] != backwards:
                return
            yield steps[::-1], image


def _steps(path: str) -> Steps:
    """The folders and the name of a path, as they are compared."""
    pieces = same_spelling(path.replace("\\", "/")).split("/")
    return tuple(piece for piece in pieces if piece not in ("", "."))


def _without_ending(steps: Steps) -> Steps:
    return (*steps[:-1], posixpath.splitext(steps[-1])[0]) if steps else ()
