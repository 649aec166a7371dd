"""Conditions and sources that several models share, so that their samples can be compared."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from noisekiln.conditioners.base import Conditioner, Value
from noisekiln.data import DataSet
from noisekiln.data.image_names import same_spelling
from noisekiln.errors import listed, reason_of
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model
from noisekiln.plan.task_data import read_images
from noisekiln.runs.run_summary import RunSummary
from noisekiln.session.prompts import RequestedConditions

Note = Callable[[str], None]


class ImagesOfRuns:
    """The images that runs were trained on, each data set read once."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, ...], DataSet] = {}

    def of(self, run: RunSummary) -> DataSet:
        """The images of a run.

        Raises:
            ValueError: If they are not found, or others are.
        """
        place, task, size = (run.setting(name) for name in ("data", "task", "size"))
        if not isinstance(place, str) or not isinstance(task, str):
            raise ValueError("it has no run.yaml that names its images")
        key = (place, task, str(size))
        if key not in self._read:
            self._read[key] = read_images(place, task, size=tuple(size) if isinstance(size, list) else size)
        if self._read[key].fingerprint != run.data.get("fingerprint"):
            raise ValueError(f"the images in {place} are not those that it was trained on")
        return self._read[key]


class SharedConditions:
    """Conditions of the samples of several models: the same for all that know the same kind.

    By default, classes are those that all models with classes know; other conditions are those of held-out images of
    the first run whose images are found.

    Args:
        runs: The runs.
        count: Images of each model.
        requested: Requested conditions, as text.
        images: Where images of the runs are read.
        note: Called with each line for the user.
    """

    def __init__(
        self,
        runs: Sequence[RunSummary],
        count: int,
        requested: RequestedConditions,
        images: ImagesOfRuns,
        note: Note,
    ) -> None:
        self.runs, self.count = runs, count
        self.requested, self.images = requested, images
        self.note = note
        self._shared: dict[str, list[Value] | None] = {}

    def of(self, run: RunSummary, model: Model) -> list[Value | None]:
        """The condition of each image of a model; None for an unconditional one."""
        conditioner = trained_conditioner(run, model.conditioner)
        if self.requested.requested:
            return self._requested(run, model, conditioner)
        if conditioner is None:
            return [None] * self.count
        shared = self._shared_values(conditioner)
        if shared is None:
            own = conditioner.choices
            return [None] * self.count if not own else spread(own, self.count)
        values = spread(shared, self.count)
        unknown = dict.fromkeys(word for value in values for word in conditioner.unknown_words(value))
        if unknown:
            self.note(
                f"{run.name}: its training captions lack some words, which are {conditioner.unknown_words_are}: "
                f"{listed(list(unknown), 8)}"
            )
        return values

    def _requested(self, run: RunSummary, model: Model, conditioner: Conditioner | None) -> list[Value | None]:
        try:
            if conditioner is None:
                raise ValueError("it was trained without conditions")
            return spread(self.requested.values(model, lambda line: self.note(f"{run.name}: {line}")), self.count)
        except ValueError as error:
            self.note(f"{run.name}: its samples have no condition ({reason_of(error)})")
            return [None] * self.count

    def _shared_values(self, conditioner: Conditioner) -> list[Value] | None:
        """The values that all models with conditions of this kind share; None if there are none."""
        kind = conditioner.kind
        if kind not in self._shared:
            self._shared[kind] = self._classes(kind) if conditioner.choices else self._values_of_images(kind)
        return self._shared[kind]

    def _with_kind(self, kind: str) -> list[tuple[RunSummary, Conditioner]]:
        found = [(run, trained_conditioner(run, run.model.conditioner if run.model else None)) for run in self.runs]
        return [(run, conditioner) for run, conditioner in found if conditioner and conditioner.kind == kind]

    def _classes(self, kind: str) -> list[Value] | None:
        first, *others = [conditioner.choices for _, conditioner in self._with_kind(kind)]
        known = [{same_spelling(name) for name in choices} for choices in others]
        common = [name for name in first if all(same_spelling(name) in names for names in known)]
        if common:
            return list(common)
        self.note("the models have no class in common, so each shows its own classes")
        return None

    def _values_of_images(self, kind: str) -> list[Value] | None:
        problems = []
        for run, conditioner in self._with_kind(kind):
            try:
                data = self.images.of(run)
            except (ValueError, OSError) as error:
                problems.append(f"{run.name}: {reason_of(error)}")
                continue
            values = conditioner.preview(data.held_out or data.train, data.class_names, self.count)
            found = [value for value in values or () if value is not None]
            if found:
                return found
            problems.append(f"{run.name}: its images have none")
        setting = {"text": "`prompts`"}.get(kind, "`conditions`")
        self.note(f"samples have no conditions of the kind {kind!r} ({problems[0]}); give them as {setting}")
        return None


def trained_conditioner(run: RunSummary, conditioner: Conditioner | None) -> Conditioner | None:
    """The conditioner of a model, if its conditions were trained."""
    return None if run.setting("cond") == "none" else conditioner


def spread(values: Sequence[Value], count: int) -> list[Value]:
    """`count` values, equal ones in sequence; of more values, some at equal distances."""
    return [values[place * len(values) // count] for place in range(count)]


def sources_of(model: Diffusion, data: DataSet, count: int) -> tuple[Tensor, Tensor, list[Value | None]]:
    """What a model with a task starts from: sources, how they are shown, and conditions, of the first held-out images.

    Args:
        model: The model.
        data: Its images.
        count: Number of sources; images are repeated if there are fewer.
    """
    part, task = data.held_out or data.train, model.task
    assert task is not None
    images = part.take(np.arange(count) % len(part))
    source = task.sources_of(images)
    values = None if model.conditioner is None else model.conditioner.values(images, data.class_names)
    return source, task.preview(source, data.size), [None] * count if values is None else list(values)
