"""What is recorded with an image: its condition and seed, the settings of sampling, and the model."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.files.model_folder import digest
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import ClassifierFree
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress, UsedSampling
from noisekiln.version import VERSION

MOST_NAMED = 3  # input images
SETTINGS = ("sampler", "steps", "guidance", "schedule")


@dataclass(frozen=True)
class ImageRecords:
    """Makes the entries of images in `samples.json`, which are the text of their files too.

    Attributes:
        model: The model that generates them.
        command: What generates them: sample, edit, ...
        name: Name of the model.
        condition: Function from the index of an image to its condition, as the model reads it.
        seed: Function from the index of an image to its seed; None where images have no seed of their own.
        precision: Precision of the network.
        requested: Options of the request.
        source: Names of the input images.
    """

    model: Model
    command: str
    name: str
    condition: Callable[[int], Any]
    seed: Callable[[int], int | None]
    precision: str
    requested: Mapping[str, Any]
    source: Sequence[str] = ()

    def __call__(self, batch: Progress) -> list[dict[str, Any]]:
        """The entries of a finished batch."""
        count = len(batch.x)
        shared = describe_sampling(batch.used, self.requested) | self._about
        return [
            {
                **self._own(batch.start + i),
                **shared,
                **({"batch": [i, count]} if count > 1 else {}),
            }
            for i in range(count)
        ]

    def _own(self, index: int) -> dict[str, Any]:
        seed = self.seed(index)
        seeded = {} if seed is None else {"seed": seed}
        return seeded | describe_condition(self.model.conditioner, self.condition(index))

    @cached_property
    def _about(self) -> dict[str, Any]:
        """What all images share apart from the settings of sampling; a checksum of the weights takes a moment."""
        precision = {} if self.precision == "fp32" else {"precision": self.precision}
        more = [f"{len(self.source) - MOST_NAMED:,} more"] if len(self.source) > MOST_NAMED else []
        source = {"source": ", ".join([*self.source[:MOST_NAMED], *more])} if self.source else {}
        return {**precision, **source, "command": self.command, **describe_model(self.model, self.name)}


def describe_model(model: Model, name: str) -> dict[str, Any]:
    """The name of a model, without the folders above it, the SHA-256 of its weights, and the version of noisekiln."""
    return {"model": name, "model_sha256": digest(model.state_dict()), "version": VERSION}


def name_of_run(folder: Path) -> str:
    """The name of a run, from its folder or that of its model."""
    place = Path(os.path.realpath(folder))
    return place.parent.name if place.name == "model" else place.name


def describe_condition(conditioner: Conditioner | None, value: Any) -> dict[str, Any]:
    """A condition for people, and as `condition` for `generate`, if JSON can write it; {} for no condition."""
    if value is None or conditioner is None:
        return {}
    return {**conditioner.describe(value), **({"condition": value} if _is_json(value) else {})}


def describe_sampling(used: UsedSampling | None, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of sampling as they are requested: numbers and specs.

    Args:
        used: The settings that were used; None for a cascade, whose stages have their own ones.
        requested: Options of the request, of which those are recorded that `used` would hold, if it is None.
    """
    if used is None:
        chosen = {name: requested.get(name) for name in SETTINGS}
        return {name: value for name, value in chosen.items() if isinstance(value, str | int | float)}
    return {
        "sampler": _without_folders(describe(used.sampler)),
        "steps": int(used.steps),
        "guidance": _guidance(used.guidance),
        "schedule": _without_folders(describe(used.schedule)),
    }


def _guidance(guidance: Guidance) -> str | float:
    """A guidance method as it is requested: its scale, where that is all."""
    if isinstance(guidance, ClassifierFree) and guidance == ClassifierFree(guidance.scale):
        return guidance.scale
    return _without_folders(describe(guidance))


def _without_folders(spec: str) -> str:
    """A spec in which a Python file has its name alone: its folders are of no use to people who get the image."""
    return re.sub(r"^.*?[/\\](?=[^/\\]+\.py:\w+(\(|$))", "", spec)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
