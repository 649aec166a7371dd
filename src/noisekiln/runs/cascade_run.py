"""A training run of a cascade in a folder: its stages, each a run of its own, one after another."""

import filecmp
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch

from noisekiln.components.spec import consent_to
from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import reason_of
from noisekiln.files.atomic import atomic_folder
from noisekiln.files.card_file import CARD
from noisekiln.files.model_folder import read_description, write_description
from noisekiln.files.pictures import save_image
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.cascade import Cascade, load
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.preview import PREVIEW, generate_previews, preview_conditions, sheet_of
from noisekiln.plan.defaults import with_budget
from noisekiln.plan.road import CASCADE, cascade_stages, data_of_stage, settings_of_stage
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import load_with_consent
from noisekiln.runs.ending import Why
from noisekiln.runs.events import End, Event, Grid, Note, Saving, Stage
from noisekiln.runs.grids import delete_grids_after, describe_run
from noisekiln.runs.model_card import write_card
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.run_summary import ModelFacts
from noisekiln.training import checkpoints

MODEL, STAGE = "model", "stage"
MODEL_FILES = ("model.json", "model.safetensors")


class CascadeRun:
    """Trains the stages of a cascade in `stage0/`, `stage1/`, ..., each a run of its own with a share of the budget.

    `model/` is the cascade of the stages so far, and `samples/` shows it. Opening a folder that already holds this run
    resumes it; nothing is written before training starts.

    Args:
        settings: Requested settings.
        data: The images, at the size of the last stage.
        folder: Folder of the run.
        intervals: Intervals of each stage.
        allow_code: Whether Python files may be run that a stage names, and `settings` do not.

    Attributes:
        settings: The settings, with a budget and the road.
        folder: Folder of the run.
        stages: The stages, smallest images first.
        ranks: Processes that train together.
    """

    def __init__(
        self,
        settings: Settings,
        data: DataSet,
        folder: Path,
        *,
        intervals: Intervals = Intervals(),
        allow_code: bool = False,
    ) -> None:
        self.settings = with_budget(settings).replace(road=CASCADE, size=data.size)
        self.folder, self.data = RunFolder(folder), data
        self.intervals, self.allow_code = intervals, allow_code
        self.folder.check_is_run_or_empty()
        if self.folder.data_file.is_file():
            self.folder.check_same_data(settings, data)
        self.stages = cascade_stages(data.size)
        self.ranks = Ranks.join(self.settings.device, self.settings.timeout)
        places = [self.stage_folder(number) / "checkpoints" for number in range(len(self.stages))]
        self._images_seen = [max(checkpoints.list_images_seen(place), default=0) for place in places]
        self._seconds = [0.0] * len(self.stages)

    def open_stage(self, number: int) -> Run:
        """The run of a stage, new or resumed.

        Raises:
            ValueError: If its folder holds another run.
        """
        stage, folder = self.stages[number], self.stage_folder(number)
        return Run(
            settings_of_stage(self.settings, stage, len(self.data.train)),
            data_of_stage(self.data, stage),
            folder,
            intervals=self.intervals,
            allow_code=self.allow_code,
            share=stage.share,
        )

    def parts(self) -> Iterator[tuple[Stage, Run]]:
        """The stages and their runs, each opened when its turn comes."""
        for number, stage in enumerate(self.stages):
            yield Stage(number + 1, len(self.stages), stage.size, stage.title), self.open_stage(number)

    def stage_folder(self, number: int) -> Path:
        """The folder of a stage's run."""
        return self.folder.path / f"{STAGE}{number}"

    def events(self, interrupt: Interrupt | None = None) -> Generator[Event]:
        """Train one stage after another, yielding their events; see `Run.events`.

        The grids are those of the whole cascade, and there is one `End`. A caller that leaves earlier leaves what each
        stage has saved so far.
        """
        interrupt, ends = interrupt or Interrupt(), list[End]()
        with self._claimed():
            for number, stage in enumerate(self.stages):
                yield Stage(number + 1, len(self.stages), stage.size, stage.title)
                with closing(self._stage(number, interrupt)) as events:
                    for event in events:
                        if isinstance(event, End):
                            ends.append(event)
                        else:
                            yield event
                if ends[-1].why == "stopped":
                    break
            if self.ranks.is_main and self._why(ends) == "done":
                yield from self._write_card()
        yield self._end(ends)

    def _stage(self, number: int, interrupt: Interrupt) -> Generator[Event]:
        """The events of a stage; with each save and each grid of its own, those of the cascade."""
        run = self.open_stage(number)
        self._images_seen[number] = run.trainer.images_seen
        if self.ranks.is_main:
            delete_grids_after(self.folder.samples, sum(self._images_seen))
        with closing(run.events(interrupt)) as events:
            for event in events:
                self._images_seen[number], self._seconds[number] = run.trainer.images_seen, run.trainer.seconds
                if isinstance(event, Grid):
                    yield Grid(self._draw(number, run, event.file))
                    continue
                if isinstance(event, End) and self.ranks.is_main:
                    self._write_model()  # a kill may have come between the stage's model and this
                yield event
                if isinstance(event, Saving) and self.ranks.is_main:
                    run.background.submit(self._write_model)
        self.ranks.barrier()

    def _draw(self, number: int, run: Run, own: Path) -> Path:
        """Write a grid of the cascade with the stage's averaged weights of now; of the first stage, its own grid."""
        self.folder.samples.mkdir(parents=True, exist_ok=True)
        file = self.folder.samples / f"{sum(self._images_seen):09d}.png"
        if number == 0:
            if self.ranks.is_main:
                shutil.copyfile(own, file)
            return file
        device, stage = run.settings.device, run.copies.averaged().eval().diffusion
        load = partial(load_with_consent, settings=self.settings, device=device, allow_code=self.allow_code)
        before = [load(self.stage_folder(earlier)) for earlier in range(number)]
        with torch.random.fork_rng(devices=[]):
            cascade = Cascade([*before, stage]).eval()
        conditioner = None if self.settings.cond == "none" else cascade.conditioner
        conditions = preview_conditions(conditioner, self.data.held_out or self.data.train, self.data.class_names)
        assert conditions is not None
        sheet = sheet_of(generate_previews(cascade, conditions, self.ranks, **PREVIEW))
        if self.ranks.is_main:
            about = describe_run(self.folder.path, run.trainer.images_seen) | PREVIEW
            save_image(sheet, file, at_least=512, text=about)
        run.trainer.module.train()
        return file

    def _write_model(self) -> None:
        """Write to `model/` the cascade of the stages that have saved a model; of a single one, its model."""
        stages = range(len(self.stages))
        saved = list(takewhile(lambda number: (self.stage_folder(number) / MODEL / "model.json").is_file(), stages))
        names = [f"{STAGE}{number}" for number in saved] if len(saved) > 1 else ["."] * len(saved)
        sources = {name: self.stage_folder(number) / MODEL for name, number in zip(names, saved, strict=True)}
        if _is_current(self.folder.model, sources):
            return
        with self.folder.writing(), atomic_folder(self.folder.model) as draft:
            for name, source in sources.items():
                shutil.copytree(source, draft / name, dirs_exist_ok=True)
            if len(saved) > 1:
                write_description({"cascade": names}, draft)

    def _write_card(self) -> Iterator[Note]:
        """Write the card of the whole, unless a person has changed it; what fails is said, and ends no run."""
        try:
            facts = ModelFacts.of(
                load(self.folder.model, allow_code=consent_to(asdict(self.settings), self.allow_code))
            )
            write_card(self.folder.path, facts, images_seen=sum(self._images_seen), seconds=sum(self._seconds))
        except (OSError, ValueError) as error:
            yield Note(f"{CARD} could not be written ({reason_of(error)})")

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Lock the folder, and write the settings of the cascade into it."""
        with self.folder.writing(), self.folder.locked(self.ranks):
            if self.ranks.is_main:
                self.folder.write_description(self.settings, self.data)
            yield

    def _end(self, ends: list[End]) -> End:
        """The end of the whole run, from the ends of its stages."""
        first, last, why = ends[0], ends[-1], self._why(ends)
        return replace(
            last,
            verdict=first.verdict,  # of the stage that generates: the others see the image
            why_no_verdict=first.why_no_verdict and f"for the first stage {first.why_no_verdict}",
            why=why,
            folder=self.folder.path,
            images_seen=sum(self._images_seen),
            seconds=sum(self._seconds),
            skipped_steps=sum(end.skipped_steps for end in ends),
            undertrained=first.undertrained if why == "done" else "",
            stages=tuple(self.stage_folder(number) for number in range(len(ends))),
        )

    def _why(self, ends: list[End]) -> Why:
        if ends[-1].why == "stopped":
            return "stopped"
        return "finished before" if all(end.why == "finished before" for end in ends) else "done"


def _is_current(model: Path, sources: Mapping[str, Path]) -> bool:
    """Whether a model is that of these folders, byte for byte.

    Args:
        model: Folder of a model or a cascade.
        sources: Folders of models, by the name of each in `model`.
    """
    try:
        described = read_description(model / "model.json").get("cascade") if len(sources) > 1 else list(sources)
    except ValueError:  # there is none, or a damaged one
        return False
    files = [(place / file, model / name / file) for name, place in sources.items() for file in MODEL_FILES]
    return described == list(sources) and all(
        own.is_file() and filecmp.cmp(stages, own, shallow=False) for stages, own in files
    )
