"""Search for arrays by what their names say: train_images, x_train, imagesTrain, X, ..."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

TRAIN = ("train", "")  # "" is for names without a side: images, labels
TEST = ("test", "val", "valid", "validation")


@dataclass
class NamedArrays:
    """Arrays by name, of which some are used.

    Attributes:
        arrays: The arrays.
        used: Names of those that were taken.
    """

    arrays: Mapping[str, NDArray[Any]]
    used: set[str] = field(default_factory=set)

    def take(self, key: str) -> NDArray[Any]:
        """The array of this name, which is used from now on."""
        self.used.add(key)
        return self.arrays[key]

    def find(
        self, sides: Sequence[str], kinds: Sequence[str], fits: Callable[[NDArray[Any]], bool] = lambda array: True
    ) -> str | None:
        """The name of the array called train_images, x_train, images_train, ...: the first of the sides and kinds."""
        named = {side_and_kind(key): key for key, array in [*self.arrays.items()][::-1] if fits(array)}
        return next((named[side, kind] for side in sides for kind in kinds if (side, kind) in named), None)

    def named(self, *names: str) -> str | None:
        """The array with one of these names."""
        return next((key for name in names for key in self.arrays if key.lower() == name), None)

    def further(self, sides: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The names of the arrays of these sides that are not used so far, whole and without the side."""
        for key in self.arrays:
            side, kind = side_and_kind(key, fold=False)
            if side in sides and key not in self.used:
                yield key, kind

    def unused(self) -> list[str]:
        """The names of the arrays that nothing has used."""
        return [key for key in self.arrays if key not in self.used]


def side_and_kind(key: str, *, fold: bool = True) -> tuple[str, str]:
    """("train", "images") for "train_images", "imagesTrain" or "Images_train"; ("", "images") for "images".

    Args:
        key: Name of an array.
        fold: Whether the kind is in lower case.
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[-. ]", "_", key)
    for side in filter(None, (*TRAIN, *TEST)):
        pattern = rf"(?i){side}_+(.+)|(.+?)_+{side}"
        match = re.fullmatch(pattern, name)
        if match:
            kind = match[1] or match[2]
            return side, kind.lower() if fold else kind
    return "", name.lower() if fold else key
