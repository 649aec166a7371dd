"""Conditions from what a user writes: classes, prompts, or text that the conditioner parses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from noisekiln.components.registry import did_you_mean
from noisekiln.conditioners.base import Conditioner
from noisekiln.model.cascade import Model
from noisekiln.session.inputs import Note

ALL = "all"


@dataclass(frozen=True)
class Prompts:
    """What a user requests, as text, for conditioners of one kind each.

    Attributes:
        classes: Names or numbers of classes, or "all", for models that know classes.
        prompts: Prompts, for models that know text.
        conditions: Conditions of any other kind, as its conditioner parses them.
    """

    classes: Sequence[str] = ()
    prompts: Sequence[str] = ()
    conditions: Sequence[str] = ()

    @property
    def requested(self) -> bool:
        """Whether anything is."""
        return any(self._named().values())

    def values(self, model: Model, note: Note) -> list[Any]:
        """All of them as the model takes them; [None] if nothing is requested.

        Args:
            model: The model.
            note: Called for every word of a prompt that the model ignores.

        Raises:
            ValueError: If the model has conditions of another kind, or none.
        """
        conditioner = model.conditioner
        texts = self._texts(conditioner)
        if conditioner is None:
            model.check_conditions(texts)  # raises if there are any
            return [None]
        if texts == [ALL] and self.classes:
            return list(range(len(conditioner.choices)))
        values = [conditioner.parse(text) for text in texts]
        _note_unknown_words(conditioner, values, note)
        model.check_conditions(values)
        return values or [None]

    def value(self, model: Model, note: Note) -> Any:
        """The single one that is requested, for images that all show the same; None if nothing is.

        Raises:
            ValueError: If several are requested, and as for `values`.
        """
        for name, texts in self._named().items():
            if len(texts) > 1:
                raise ValueError(f"`{name}` was given {len(texts)} times, and an image shows one. Give it once.")
        if list(self.classes) == [ALL]:
            raise ValueError(f"`classes={ALL}`: an image shows one class. Give its name or number.")
        return self.values(model, note)[0]

    def _named(self) -> dict[str, Sequence[str]]:
        return {"classes": self.classes, "prompts": self.prompts, "conditions": self.conditions}

    def _texts(self, conditioner: Conditioner | None) -> list[str]:
        """The texts of the one kind that is requested, which has to be the conditioner's."""
        named = {name: texts for name, texts in self._named().items() if texts}
        if len(named) > 1:
            names = " and ".join(f"`{name}`" for name in named)
            raise ValueError(f"{names} were given together, and a model knows one kind of condition. Give one of them.")
        for name, texts in named.items():
            needed = NAMES.get(conditioner.kind, "conditions") if conditioner else name
            if name not in (needed, "conditions"):
                choices = f": {', '.join(conditioner.choices)}" if conditioner and conditioner.choices else ""
                kind = conditioner.kind if conditioner else ""
                raise ValueError(
                    f"`{name}={texts[0]}` was given, but this model's conditions are of the kind {kind!r}{choices}. "
                    f"Use `{needed}`."
                )
        return [text for texts in named.values() for text in texts]


NAMES = {"class": "classes", "text": "prompts"}  # kinds of conditions that have an option of their own


def repeat_conditions(conditions: Sequence[Any], count: int | None) -> tuple[list[Any], int]:
    """`count` conditions in all, each in a run of its own, and how many columns show them one row a condition.

    By default there are 16 of a single condition, and 8 of each of several.

    Raises:
        ValueError: If the count is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"`count={count}`: there is nothing to generate. Ask for 1 image or more.")
    if count is None:
        count = 16 if len(conditions) == 1 else 8 * len(conditions)
    repeated = [conditions[i * len(conditions) // count] for i in range(count)]
    row = count // len(conditions)
    one_row_each = len(conditions) > 1 and row * len(conditions) == count
    return repeated, row if one_row_each else round(count**0.5)


def _note_unknown_words(conditioner: Conditioner, values: Sequence[Any], note: Note) -> None:
    """Note each word of the conditions that the model has never learned."""
    for word in dict.fromkeys(word for value in values for word in conditioner.unknown_words(value)):
        short = word if len(word) <= 40 else f"{word[:40]}..."
        known = did_you_mean(word, conditioner.vocabulary[:60])
        note(f"the word {short!r} is in fewer than two training captions; it is ignored. {known}")
