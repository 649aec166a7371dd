"""The interface of conditioners."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.components.registry import did_you_mean
from noisekiln.conditions import NOTHING, Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.errors import listed, shorten

MOST_WORDS_NAMED = 4  # unknown words that have a line each, with the most similar known word

Value = Any  # a condition as a person writes it: a class name or number, a prompt, numbers, ...


class Conditioner(nn.Module, ABC):
    """Turns conditions into a `Cond` in two steps: `encode` once per data set, `forward` at every training step.

    Ids are a tensor with a row for each condition, (B, ...). Classifier-free guidance
    compares with the ids of `nothing`, the empty condition. Constructor arguments are kept under their own names.
    Frozen weights (of a pretrained encoder) are saved with the model, but not in checkpoints: a resumed run gets them
    from `fit`, which must return the same ones. `plural`, `priority` and `ids_are_of_words` may be overridden.
    """

    kind: ClassVar[str]  # kind of its conditions: "class", "text", ...
    plural: ClassVar[str] = "conditions"  # its conditions in a message: "classes", "captions", ...
    needs: ClassVar[str]  # requirement for a data set, for messages: "captions (a metadata.csv beside the images)"
    priority: ClassVar[int | None] = None  # `auto` tries conditioners in this order; None: only when requested
    ids_are_of_words: ClassVar[bool] = False  # (B, words, numbers): rows of words, which captions have in common
    choices: tuple[str, ...] = ()  # all conditions by name, where they are a fixed list
    vocabulary: tuple[str, ...] = ()  # the words that it knows, where conditions are made of words
    unknown_words_are: str = "ignored"  # what becomes of other words, for messages

    @property
    @abstractmethod
    def sizes(self) -> CondSizes:
        """Sizes of the slots that it fills."""

    @abstractmethod
    def fit(self, data: DataSet) -> Self | None:
        """A conditioner with these settings and new weights for a data set; None if the data have no values for it."""

    @abstractmethod
    def values(self, images: Split, class_names: tuple[str, ...]) -> Sequence[Value | None] | None:
        """The condition of each image, for `encode`, None for an image without one; None if no image has any."""

    @abstractmethod
    def encode(self, values: Sequence[Value]) -> Tensor:
        """Ids of conditions, (B, ...).

        Raises:
            ValueError: If a condition cannot be understood.
        """

    @abstractmethod
    def nothing(self, count: int) -> Tensor:
        """Ids of the empty condition, (count, ...)."""

    @abstractmethod
    def forward(self, ids: Tensor) -> Cond:
        """The `Cond` of each row of ids."""

    @abstractmethod
    def describe(self, value: Value) -> dict[str, Any]:
        """A condition as `samples.json` has it: {"class": "boot", "label": 9}, {"prompt": "a red boot"}, ..."""

    def preview(self, images: Split | None, class_names: tuple[str, ...], count: int) -> Sequence[Value | None] | None:
        """The conditions that a run's grids show; None if they must be those of images, and there are none.

        May be overridden; by default they are those of the first images, repeated.
        """
        values = None if images is None else self.values(images, class_names)
        return None if values is None else [values[i % len(values)] for i in range(count)]

    def alternatives(self, images: Split, class_names: tuple[str, ...]) -> Sequence[Sequence[Value | None]] | None:
        """All conditions of each image, one of which is drawn whenever it is trained on; None if no image has any.

        May be overridden; by default the one of `values`.
        """
        values = self.values(images, class_names)
        return None if values is None else [[value] for value in values]

    def of_data(self, value: Value | None, generator: torch.Generator | None = None) -> Value | None:
        """A condition as it stands beside an image of the data, where a loop of one's own passes it.

        May be overridden; by default it is the condition. A text may hold several captions, of which one is drawn.
        """
        return value

    def parts(self, value: Value, seed: str) -> Sequence[Value]:
        """Conditions that name a part of what this one names, so that short ones are learned too.

        May be overridden; by default none.

        Args:
            value: The condition.
            seed: Text that decides which parts, the same everywhere.
        """
        return []

    def blur(self, ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Ids of which a share is less exact, for training, such as words with some of their letters unknown.

        May be overridden; by default they do not change, and no random number is drawn.
        """
        return ids

    def encode_negative(self, values: Sequence[Value | None]) -> Tensor:
        """Ids of what guidance leads away from: by default the empty condition. May be overridden."""
        return self.nothing(len(values))

    def example(self) -> str:
        """A condition as a person writes it, for a model card; "" if none is known.

        May be overridden; by default one of its choices.
        """
        return self.choices[0] if self.choices else ""

    def parse(self, text: str) -> Value:
        """A condition from the text that a person writes. May be overridden; by default it is the text itself."""
        return text

    def meant_word(self, word: str) -> str | None:
        """The known word as which an unknown one is read. May be overridden; by default none."""
        return None

    def unknown_words(self, value: Value) -> list[str]:
        """Words of a condition that this conditioner does not know. May be overridden."""
        return []

    def not_read(self, value: Value) -> list[str]:
        """Notes on what of a condition is not read as it stands, such as the end of a long one. May be overridden."""
        return []

    def ignored(self, values: Sequence[Value]) -> list[str]:
        """Notes on what is not read as it stands, a line each: those of `not_read`, and unknown words."""
        lines = list(dict.fromkeys(line for value in values for line in self.not_read(value)))
        words = list(dict.fromkeys(word for value in values for word in self.unknown_words(value)))
        meant = {word: known for word in words if (known := self.meant_word(word)) is not None}
        if meant:
            pairs = [f"{shorten(word, 40)!r} as {known!r}" for word, known in meant.items()]
            lines.append(
                "words that no caption has are read as known ones that mean the same or are spelled alike: "
                f"{listed(pairs, 8)}"
            )
        words = [word for word in words if word not in meant]
        if len(words) > MOST_WORDS_NAMED:
            known = f"Known words: {listed(self.vocabulary, 30)}."
            lines.append(
                f"{len(words):,} words are each in fewer than two training captions; they are "
                f"{self.unknown_words_are}: {listed(words, MOST_WORDS_NAMED)}. {known}"
            )
            return lines
        for word in words:
            known = did_you_mean(word, self.vocabulary[:60], "words")
            lines.append(
                f"the word {shorten(word, 40)!r} is in fewer than two training captions; it is "
                f"{self.unknown_words_are}. {known}"
            )
        return lines

    def left_out(self, images: Split, class_names: tuple[str, ...]) -> list[str]:
        """Notes on what of the images' conditions is not learned, a line each. May be overridden."""
        return []

    def extended(self, other: Self) -> Self:
        """This conditioner with the entries of `other` added; their embeddings are not trained yet.

        May be overridden, together with `table`; by default there is nothing to extend.
        """
        return self

    def table(self) -> tuple[str, tuple[str, ...]] | None:
        """The name of the embedding's parameter and the entry that each of its rows stands for ("" for none).

        May be overridden by a conditioner that can be `extended`; adapters train and carry the new rows.
        """
        return None

    def encode_all(self, values: Sequence[Value | None]) -> Tensor:
        """Ids of conditions; None is the empty condition."""
        ids = self.nothing(len(values))
        places = [place for place, value in enumerate(values) if value is not None]
        if places:
            ids[places] = self.encode([values[place] for place in places])
        return ids

    def drop(self, ids: Tensor, dropped: Tensor) -> Tensor:
        """Ids with some rows replaced by `nothing`, those of a (B,) bool (Ho & Salimans 2022, algorithm 1)."""
        return torch.where(dropped.view(-1, *[1] * (ids.ndim - 1)), self.nothing(len(ids)), ids)


def conds_of(
    conditioner: Conditioner | None, conditions: Sequence[Any], device: torch.device
) -> tuple[Cond, Cond | None]:
    """What a network reads of conditions, and what guidance leads away from; None if there is nothing to guide towards.

    Args:
        conditioner: The conditioner of a model, if it has one.
        conditions: Condition of each image, None for an unconditional one.
        device: Device of the model.
    """
    if conditioner is None:
        return NOTHING, None
    negative: Cond = conditioner(conditioner.encode_negative(conditions).to(device))
    if all(value is None for value in conditions):
        return negative, None
    return conditioner(conditioner.encode_all(conditions).to(device)), negative
