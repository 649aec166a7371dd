"""Conditions that a user requests as text: classes, prompts, or text that the conditioner parses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from noisekiln.components.limits import MOST_IMAGES, check_at_most
from noisekiln.components.registry import name_of
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.language.prompt import with_negative
from noisekiln.errors import NoisekilnError, listed
from noisekiln.model.model import Model
from noisekiln.session.inputs import NoteCallback

ALL = "all"


@dataclass(frozen=True)
class RequestedConditions:
    """The conditions that a user requests, as text; only one kind may be used.

    Attributes:
        classes: Names or numbers of classes, or "all", for models that know classes.
        prompts: Prompts, for models that know text.
        conditions: Any other conditions, as text for the model's conditioner.
        negative: What images should not show, for models that know text; guidance leads away from it.
    """

    classes: Sequence[str] = ()
    prompts: Sequence[str] = ()
    conditions: Sequence[str] = ()
    negative: str | None = None

    @property
    def requested(self) -> bool:
        """Whether any condition is requested."""
        return any(self._named().values()) or bool(self.negative)

    def values(self, model: Model, note: NoteCallback) -> list[Any]:
        """All requested conditions, as the model reads them; [None] if there are none.

        Args:
            model: The model.
            note: Function called for every word of a prompt that the model ignores.

        Raises:
            ValueError: If the model has conditions of another kind, or none.
        """
        conditioner = model.conditioner
        texts = self._with_negative(self._texts(conditioner), conditioner)
        if conditioner is None:
            model.check_conditions(texts)  # raises if there are any
            return [None]
        if texts == [ALL] and self.classes:
            return list(range(len(conditioner.choices)))
        values = [_parse_condition(conditioner, text) for text in texts]
        if self.prompts and not all(map(str.strip, texts)):
            note("an empty prompt stands for no condition: its images are unconditional.")
        for line in conditioner.ignored(values):
            note(line)
        model.check_conditions(values)
        return values or [None]

    def value(self, model: Model, note: NoteCallback) -> Any:
        """The single requested condition, for images that all show the same; None if there is none.

        Raises:
            ValueError: If several are requested, and as for `values`.
        """
        for name, texts in self._named().items():
            if len(texts) > 1:
                raise ValueError(
                    f"`{name}` was given {len(texts)} times, but an image can have only one condition. Give it once."
                )
        if list(self.classes) == [ALL]:
            raise ValueError(
                f"`classes={ALL}`: an image can have only one condition. Give the name or number of one class."
            )
        return self.values(model, note)[0]

    def _with_negative(self, texts: list[str], conditioner: Conditioner | None) -> list[str]:
        """The prompts, each with the negative one; it may also stand alone."""
        if not self.negative:
            return texts
        if conditioner is None or conditioner.kind != "text":
            kind = "none" if conditioner is None else f"of the kind {conditioner.kind!r}"
            raise ValueError(
                f"`negative={self.negative}` was given, but this model's conditions are {kind}. A negative prompt is "
                "for models that were trained on captions. Omit it."
            )
        return [with_negative(text, self.negative) for text in texts or [""]]

    def _named(self) -> dict[str, Sequence[str]]:
        return {"classes": self.classes, "prompts": self.prompts, "conditions": self.conditions}

    def _texts(self, conditioner: Conditioner | None) -> list[str]:
        """The texts of the requested kind, which has to be that of the conditioner."""
        named = {name: texts for name, texts in self._named().items() if texts}
        if len(named) > 1:
            names = " and ".join(f"`{name}`" for name in named)
            raise ValueError(f"{names} were given together, and a model knows one kind of condition. Give one of them.")
        for name, texts in named.items():
            needed = NAMES.get(conditioner.kind, "conditions") if conditioner else name
            if name not in (needed, "conditions"):
                choices = f": {listed(conditioner.choices)}" if conditioner and conditioner.choices else ""
                kind = conditioner.kind if conditioner else ""
                raise ValueError(
                    f"`{name}={texts[0]}` was given, but this model's conditions are of the kind {kind!r}{choices}. "
                    f"Use `{needed}`."
                )
        return [text for texts in named.values() for text in texts]


NAMES = {"class": "classes", "text": "prompts"}  # kinds of conditions that have their own option


def repeat_conditions(
    conditions: Sequence[Any], count: int | None, note: NoteCallback = lambda text: None
) -> tuple[list[Any], int]:
    """`count` conditions in all, equal ones in sequence, and the number of grid columns for one row per condition.

    By default there are 16 images of a single condition, or 8 of each of several.

    Args:
        conditions: The conditions, each once.
        count: Images in all.
        note: Called if there are too few images for all conditions.

    Raises:
        ValueError: If the count is below 1, or too large.
    """
    if count is not None and count < 1:
        raise ValueError(f"`count={count}`: there is nothing to generate. Give 1 or more.")
    check_at_most("count", count or 0, MOST_IMAGES)
    if count is None:
        count = 16 if len(conditions) == 1 else 8 * len(conditions)
    if count < len(conditions):
        left = len(conditions) - count
        verb = "gets" if left == 1 else "get"
        note(f"`count={count}` is too small for {len(conditions):,} conditions: {left:,} of them {verb} no image.")
    repeated = [conditions[i * len(conditions) // count] for i in range(count)]
    row = count // len(conditions)
    one_row_each = len(conditions) > 1 and row * len(conditions) == count
    return repeated, row if one_row_each else round(count**0.5)


def _parse_condition(conditioner: Conditioner, text: str) -> Any:
    """A condition from its text; an error names the text."""
    try:
        return conditioner.parse(text)
    except NoisekilnError:
        raise
    except ValueError as error:
        raise ValueError(
            f"The condition {text!r} cannot be read by {name_of(type(conditioner))} ({str(error).rstrip('.')}). "
            f"Give a condition of the kind {conditioner.kind!r} as this class reads it."
        ) from error
