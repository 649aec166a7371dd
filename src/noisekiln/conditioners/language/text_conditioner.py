"""What all conditioners of text have in common: captions, parts of captions, negative prompts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.language.captions import captions_of, shorter_captions
from noisekiln.conditioners.language.prompt import NEGATIVE, Caption, numbers_without_weight, read_prompt
from noisekiln.data import Split
from noisekiln.errors import listed, shorten


class TextConditioner(Conditioner, ABC):
    """A conditioner of prompts; an image may have several captions, one on each line of its text.

    `most_parts` may be overridden.
    """

    kind: ClassVar[str] = "text"
    plural: ClassVar[str] = "captions"
    most_parts: ClassVar[int] = 1  # shorter captions that are made of one

    @abstractmethod
    def encode(self, values: Sequence[str]) -> Tensor:  # noqa: D102 (the base class says it)
        ...

    @abstractmethod
    def cut_from(self, value: str) -> str:
        """A note that begins with "the prompt", if it has more words or tokens than are read; else ""."""

    def not_read(self, value: str) -> list[str]:
        """Notes on a prompt and a negative prompt that are too long, and on numbers that are no weights."""
        negative = read_prompt(value).negative
        lines = [self.cut_from(value), self.cut_from(negative).replace("the prompt", "the negative prompt", 1)]
        no_weights = numbers_without_weight(value)
        if no_weights:
            shown = listed([repr(shorten(each, 40)) for each in no_weights], 4)
            lines.append(
                f"{shown}: the number is read as a word, because a weight is from 0 to below 10, "
                "with a point, as in (red hair:1.3)"
            )
        return [line for line in lines if line]

    def values(self, images: Split, class_names: tuple[str, ...]) -> list[Caption | None] | None:
        """The first caption of each image."""
        found = self.alternatives(images, class_names)
        return None if found is None else [captions[0] for captions in found]

    def alternatives(self, images: Split, class_names: tuple[str, ...]) -> list[list[Caption | None]] | None:
        """The captions of each image."""
        found = [[Caption(text) for text in captions_of(each)] for each in images.captions or ()]
        return [[*captions] if captions else [None] for captions in found] if any(found) else None

    def of_data(self, value: str | None, generator: torch.Generator | None = None) -> Caption | None:
        """One of the captions in a text, in which nothing is a weight; None if it has none."""
        if value is None:
            return None
        check_is_text(value)
        captions = captions_of(value)
        if not captions:
            return None
        return Caption(captions[int(torch.randint(len(captions), (), generator=generator))])

    def parts(self, value: str, seed: str) -> list[Caption]:
        """Captions of some of its clauses."""
        return [Caption(text) for text in shorter_captions(value, self.most_parts, seed)]

    def encode_negative(self, values: Sequence[str | None]) -> Tensor:
        """Ids of the negative prompts."""
        return self.encode_all([(read_prompt(value).negative or None) if value else None for value in values])

    def describe(self, value: str) -> dict[str, Any]:  # noqa: D102 (the base class says it)
        positive, _, negative = str(value).partition(NEGATIVE)
        return {"prompt": positive.strip(), **({"negative_prompt": negative.strip()} if negative.strip() else {})}


def check_is_text(prompt: object) -> None:
    """Raise ValueError for a prompt that is not text."""
    if not isinstance(prompt, str):
        raise ValueError(
            f"The prompt {prompt!r} is not text, and this model's conditions are words. "
            "Give text, such as 'a red hat', or None for an unconditional image."
        )
