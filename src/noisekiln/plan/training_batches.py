"""Training batches: encoded images, conditions and all random values."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.components.registry import name_of
from noisekiln.components.spec import describe
from noisekiln.data import DataSet, Split, batch_order
from noisekiln.data.mirrored import images_at
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import NoisekilnError, counted
from noisekiln.machine.transfer import to_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.condition_choices import ConditionChoices
from noisekiln.plan.encoded_images import encode_images
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.plan.stored_ids import StoredIds
from noisekiln.training.batches import Batch


class TrainingBatches:
    """Rows of the training part, as inputs of `Learner`.

    A row has x, ids of its condition (for the model, and for its teacher), the task's condition image, and the random
    values of the objective. With `flip`, half of the rows are mirror images; with a costly codec, x of both are kept.

    Args:
        learner: Source of codec, conditioner, task and objective. Conditions are encoded here, once; images by
            `encoding`, or at the first call, if the codec is costly. Condition images of a task are random, and encoded
            at every call.
        data: The images.
        settings: Resolved settings.

    Raises:
        ValueError: If the task needs pairs of images, and the data hold single images.
    """

    def __init__(self, learner: Learner, data: DataSet, settings: Settings) -> None:
        diffusion = learner.diffusion
        self.diffusion = diffusion
        self.objective = learner.objective
        self.images = data.train
        self.seed = settings.seed
        self.flip = settings.flip
        self.cond_dropout = settings.cond_dropout
        self.caption_dropout = settings.caption_dropout
        self.device = settings.device
        task = diffusion.task
        conditioner = diffusion.conditioner
        self.teacher = learner.teacher
        if task is not None and task.paired and data.train.partners is None:
            raise ValueError(
                f"{describe(task)} learns from pairs of images, but {data.name} holds single images. "
                "Read them with noisekiln.data.load_pairs."
            )
        unconditional = settings.cond == "none" or conditioner is None
        reader = diffusion if conditioner is not None or self.teacher is None else self.teacher
        self.choices = condition_choices(
            reader, data.train, data.class_names, parts=self.caption_dropout > 0, unconditional=unconditional
        )
        self.ids = condition_ids(diffusion, self.choices)
        self.teacher_ids = None if self.teacher is None else condition_ids(self.teacher, self.choices)
        self._encoded: Tensor | None = None
        self._encoding = Lock()  # rows are made in several threads

    @property
    def encoded(self) -> Tensor | None:
        """X of all images, with `flip` also of their mirror images, if the codec is costly.

        It is made here, by this process alone, unless `encoding` has made it.
        """
        with self._encoding:
            for _ in self.encoding(Ranks()):
                pass
            return self._encoded

    def encoding(self, ranks: Ranks) -> Generator[tuple[int, int]]:
        """Encode all images, if the codec is costly and it was not done, yielding images done, and in all.

        All processes call this together; see `encode_images`.
        """
        codec, count = self.diffusion.codec, len(self.images) * (2 if self.flip else 1)
        if codec.costly and self._encoded is None:
            self._encoded = yield from encode_images(codec, self.images.pixels, count, self.device, ranks)

    def __call__(self, start: int, count: int, generator: torch.Generator) -> Batch:
        """The next `count` images after `start`."""
        places, task = self.places(start, count), self.diffusion.task
        shown = places
        if self.flip:
            shown = places + len(self.images) * torch.randint(2, (count,), generator=generator).numpy()
        pixels = None
        if not self.diffusion.codec.costly or task is not None:
            pixels = self._on_device(images_at(self.images.pixels, shown))
        x = self._x(shown, pixels)
        ids, teacher_ids = self._ids(places, generator)
        image = None
        if task is not None and pixels is not None:
            partners = self.images.partners
            source = pixels
            if task.paired and partners is not None:
                source = self._on_device(images_at(partners, shown))
            image = task.training_condition(source, self.diffusion.codec, generator)
        return x, ids, teacher_ids, image, *self.objective.drawn(x, generator)

    def places(self, start: int, count: int) -> NDArray[np.int64]:
        """Indices of these images in the training part."""
        return batch_order(len(self.images), seed=self.seed, start=start, count=count)

    def _ids(self, rows: NDArray[np.int64], generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Ids of the conditions for the model and for its teacher; the same conditions are drawn and dropped for both.

        Only the model's own are blurred.
        """
        if self.choices is None:
            return None, None
        places = torch.from_numpy(self.choices.draw(rows, self.caption_dropout, generator))
        dropped = torch.zeros(len(rows), dtype=torch.bool)
        if self.ids is not None:
            dropped = torch.rand(len(rows), generator=generator) < self.cond_dropout
        own = _some_ids(self.diffusion, self.ids, places, dropped)
        if own is not None and self.diffusion.conditioner is not None and self.caption_dropout > 0:
            own = self.diffusion.conditioner.blur(own, self.caption_dropout, generator)
        both = (own, _some_ids(self.teacher, self.teacher_ids, places, dropped))
        of_model, of_teacher = (None if ids is None else to_device(ids, self.device) for ids in both)
        return of_model, of_teacher

    def _x(self, places: NDArray[np.int64], pixels: Tensor | None) -> Tensor:
        encoded = self.encoded
        if encoded is not None:
            return to_device(encoded[torch.from_numpy(places)], self.device).float()
        assert pixels is not None
        return self.diffusion.codec.encode(pixels)

    def _on_device(self, pixels: NDArray[np.uint8]) -> Tensor:
        return to_device(torch.from_numpy(pixels), self.device)


def condition_choices(
    diffusion: Diffusion,
    images: Split,
    class_names: tuple[str, ...],
    *,
    parts: bool = False,
    unconditional: bool = False,
) -> ConditionChoices | None:
    """The images' conditions: empty ones for images without any; None without a conditioner.

    Args:
        diffusion: The model, whose conditioner finds them.
        images: The images.
        class_names: Names of their labels.
        parts: Whether parts of captions are conditions too.
        unconditional: Whether all are empty.

    Raises:
        ValueError: If the conditioner cannot read the data's conditions, or returns another number of them.
    """
    conditioner = diffusion.conditioner
    if conditioner is None:
        return None
    name = name_of(type(conditioner))
    with _naming(name):
        values = None if unconditional else conditioner.alternatives(images, class_names)
        values = [[None]] * len(images) if values is None else values
        if len(values) == len(images):
            return ConditionChoices.of(conditioner, values, parts=parts)
    raise ValueError(
        f"`cond={name}` found {counted(len(values), 'condition')} for {counted(len(images), 'image')}, and each image "
        "needs one. Correct its `values`: None stands for an image without a condition."
    )


def condition_ids(diffusion: Diffusion, choices: ConditionChoices | None) -> StoredIds | None:
    """Ids of the conditions that occur; None without a conditioner, or without conditions.

    Raises:
        ValueError: If the conditioner cannot read them.
    """
    conditioner = diffusion.conditioner
    if conditioner is None or choices is None:
        return None
    with _naming(name_of(type(conditioner))):
        return StoredIds(conditioner, choices.values)


def _some_ids(model: Diffusion | None, ids: StoredIds | None, places: Tensor, dropped: Tensor) -> Tensor | None:
    """The ids at these places, some of them dropped; None for a model without a conditioner."""
    if model is None or model.conditioner is None or ids is None:
        return None
    return model.conditioner.drop(ids[places], dropped)


@contextmanager
def _naming(conditioner: str) -> Iterator[None]:
    """Names the conditioner in errors about the data's conditions."""
    try:
        yield
    except NoisekilnError:
        raise
    except ValueError as error:
        raise ValueError(
            f"`cond={conditioner}` cannot read the conditions of the images ({str(error).rstrip('.')}). "
            "Correct them in the data, or omit `cond`."
        ) from error
