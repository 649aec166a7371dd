"""A model opened for use: its input images, its conditions, and a folder for the images that it generates."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.files.pictures import ImageArray
from noisekiln.files.sample_folder import SampleFolder
from noisekiln.guidance.base import ScaledGuidance
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.machine.autocast import choose_precision
from noisekiln.machine.devices import pick_device
from noisekiln.model.adapter import merge, parse_adapter_option
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress
from noisekiln.pretrained.load_pretrained import load_pretrained
from noisekiln.pretrained.pipeline_folder import is_pipeline
from noisekiln.session.image_record import ImageRecords, name_of_run
from noisekiln.session.inputs import NoteCallback, read_image, read_sources
from noisekiln.session.prompts import RequestedConditions
from noisekiln.session.write_samples import generate_on_ranks, write_batches
from noisekiln.uses.fit_image import fit_to_model_size


class Session:
    """A model, the requested conditions, and a folder for the results. It never prints.

    Args:
        model: The model or cascade.
        out: Folder for the results: new, empty, or of earlier samples, which are replaced.
        prompts: Requested conditions, as text.
        note: Function called with each line of text for the user.
        name: Name of the model, recorded with each image.
        command: What generates the images, recorded with each of them: sample, edit, ...

    Raises:
        WouldOverwrite: If the folder holds anything else.

    Attributes:
        later_notes: Lines for the user that are noted after the first step, when nothing can be refused any more.
    """

    def __init__(
        self,
        model: Model,
        out: Path,
        prompts: RequestedConditions = RequestedConditions(),
        note: NoteCallback = lambda text: None,
        *,
        name: str = "",
        command: str = "sample",
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.note = note
        self.results = SampleFolder(out)
        self.later_notes: list[str] = []
        self.name, self.command = name, command
        self._inputs: list[str] = []

    @classmethod
    def open(
        cls,
        folder: Path,
        out: Path,
        *,
        prompts: RequestedConditions = RequestedConditions(),
        adapters: Sequence[str] = (),
        device: str = "auto",
        allow_code: bool = False,
        note: NoteCallback = lambda text: None,
        command: str = "sample",
    ) -> "Session":
        """A session with the model in a folder.

        Args:
            folder: Folder of a run, a model or a cascade; or of a Stable Diffusion of diffusers.
            out: Folder for the results.
            prompts: Requested conditions, as text.
            adapters: Adapters to merge, each the folder of a run, and a strength after a colon: "runs/style:0.7".
            device: auto, cpu, cuda or mps.
            allow_code: Whether Python files that the model names may be run.
            note: Function called with each line of text for the user.
            command: What generates the images.

        Raises:
            ValueError: If there is no such model, adapter or device.
        """
        place = pick_device(device)
        model: Model = (
            load_pretrained(folder, device=place)
            if is_pipeline(folder)
            else load(folder, device=place, allow_code=allow_code)
        )
        for adapter in adapters:
            run, strength = parse_adapter_option(adapter)
            if not isinstance(model, Diffusion):
                raise ValueError("An adapter is merged into a single model, and this is a cascade. Omit it.")
            merge(model, run, strength)
        return cls(model, out, prompts, note, name=name_of_run(folder), command=command)

    def require_single_model(self) -> Diffusion:
        """The model, if it is a single one.

        Raises:
            ValueError: If it is a cascade.
        """
        if not isinstance(self.model, Diffusion):
            raise ValueError(
                "This is a cascade of models, and this command needs a single model. "
                "Train one with `road=pixels`, or give the folder of one of its stages."
            )
        return self.model

    @cached_property
    def condition(self) -> Any:
        """The condition of all images, as the model reads it; None if none is requested."""
        return self.prompts.value(self.model, self.note)

    @cached_property
    def conditions(self) -> list[Any]:
        """All requested conditions, as the model reads them; [None] if there are none."""
        return self.prompts.values(self.model, self.note)

    def read(self, file: Path, *, keep_transparency: bool = False) -> ImageArray:
        """An image in the model's channels, at its own size, (H, W, C) uint8.

        Args:
            file: The image.
            keep_transparency: Whether transparent pixels are missing ones; otherwise they are composited onto white.

        Raises:
            ValueError: If it would be replaced by the results.
        """
        self.check_input(file)
        self._inputs.append(file.name)
        return read_image(self.require_single_model(), file, self.note, keep_transparency=keep_transparency)

    def read_fitted(self, file: Path, *, resize: bool = False, keep_transparency: bool = False) -> ImageArray:
        """An image in the model's channels, of a size that the model can work on.

        Args:
            file: The image.
            resize: Whether to scale it to the model's size; otherwise a larger one is sampled in tiles.
            keep_transparency: Whether transparent pixels are missing ones.
        """
        fitted, done = fit_to_model_size(
            self.read(file, keep_transparency=keep_transparency), self.model.size, exactly=resize
        )
        if done:
            self.note(f"{file}: {done}.")
        return fitted

    def read_sources(self, files: Sequence[Path]) -> Tensor:
        """The sources of a model with a task, (N, h, w, c) uint8."""
        for file in files:
            self.check_input(file)
            self._inputs.append(file.name)
        return read_sources(self.require_single_model(), files, self.note)

    def check_input(self, file: Path) -> None:
        """Raise ValueError if an input image lies in the folder for the results, where it would be replaced."""
        if os.path.dirname(os.path.realpath(file)) == os.path.realpath(self.results.path):
            raise ValueError(
                f"{file} lies in {self.results.path}, whose images would be replaced. Give another `out`, or copy it."
            )

    def is_unguided(self, guidance: str | float | None) -> bool:
        """Whether guidance that is requested (None: the model's own) has a scale of 1."""
        found = guidance_of(self.model.sampling.guidance if guidance is None else guidance)
        return isinstance(found, ScaledGuidance) and found.scale == 1

    def sample(
        self,
        conditions: Sequence[Any],
        seeds: Sequence[int],
        *,
        columns: int | None = None,
        batch_size: int | None = None,
        source: Tensor | None = None,
        ranks: Ranks | None = None,
        precision: str = "auto",
        **options: Any,
    ) -> Iterator[Progress]:
        """Generate one image for each condition, and write them.

        Args:
            conditions: Condition of each image.
            seeds: Seed of each image.
            columns: Columns of the grid.
            batch_size: Images sampled at once by each process; by default as many as memory holds, up to 64.
            source: Source of each image, for a model with a task.
            ranks: The processes that share the work; each calls this.
            precision: Precision of the network.
            options: Other arguments of the model's `generate`.
        """
        ranks, precision = ranks or Ranks(), choose_precision(precision, self.model.device.type)
        options = {**options, "precision": precision}
        progress = generate_on_ranks(
            self.model, conditions, seeds, ranks, batch_size=batch_size, source=source, **options
        )
        records = self._records(self.model, conditions.__getitem__, seeds.__getitem__, precision, options)
        noted = self._noting_earlier(progress) if ranks.is_main else progress
        return write_batches(noted, self.results, records, columns=columns, writes=ranks.is_main)

    def run_use(
        self, use: Callable[..., Iterator[Progress]], image: ImageArray, *arguments: Any, **options: Any
    ) -> Iterator[Progress]:
        """Apply a use to an image under the requested condition, and write the results.

        Args:
            use: A use of `noisekiln.uses` with one input image, such as `edit`.
            image: The input image, shown first in the grid.
            arguments: Further arguments of the use.
            options: Options of the use, with a `seed`.
        """
        progress = use(self.require_single_model(), image, *arguments, condition=self.condition, **options)
        precision = options.get("precision", "auto")
        return self.write_results(
            progress, condition=self.condition, seed=options["seed"], precision=precision, before=image
        )

    def write_results(
        self,
        progress: Iterable[Progress],
        *,
        condition: Any = None,
        seed: int | None = None,
        precision: str = "auto",
        before: ImageArray | None = None,
        model: Model | None = None,
        requested: Mapping[str, Any] | None = None,
    ) -> Iterator[Progress]:
        """Write the images of a use while they are generated.

        Args:
            progress: Progress of the use.
            condition: Condition of the images, as the model reads it.
            seed: Seed of the first image; None where images have no seed of their own.
            precision: Precision of the network.
            before: Input image, shown first in the grid.
            model: The model that generates them; the session's by default.
            requested: Options of the request.
        """
        model = model or self.require_single_model()
        precision = choose_precision(precision, model.device.type)
        records = self._records(
            model,
            lambda index: condition,
            lambda index: None if seed is None else seed + index,
            precision,
            requested or {},
        )
        return write_batches(self._noting_earlier(progress), self.results, records, before=before)

    def _records(
        self,
        model: Model,
        condition: Callable[[int], Any],
        seed: Callable[[int], int | None],
        precision: str,
        requested: Mapping[str, Any],
    ) -> ImageRecords:
        name = self.name if model is self.model else ""
        return ImageRecords(model, self.command, name, condition, seed, precision, requested, self._inputs)

    def _noting_earlier(self, progress: Iterable[Progress]) -> Iterator[Progress]:
        """The progress, with notes after the first step, when nothing can be refused any more, on earlier images."""
        for number, each in enumerate(progress):
            if number == 0:
                for line in [*self.later_notes, *self.results.notes]:
                    self.note(line)
            yield each
