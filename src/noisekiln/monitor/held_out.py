"""Loss on held-out images, with the same noise at every evaluation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.components.spec import class_of
from noisekiln.data import DataSet, Split, batch_order
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_balanced
from noisekiln.draws.base import Draw
from noisekiln.errors import Diverged
from noisekiln.files.json_file import read_json, write_json
from noisekiln.levels import Level
from noisekiln.machine.memory import retry_with_halves
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.verdict import Evaluation, verdict
from noisekiln.objectives.base import Objective
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.training.batches import Batch, concat_rows, select_rows

FILE = "held_out.json"
RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # noise to signal: the range that determines images, and a little more
MIN_NOISY_IMAGES, MAX_NOISY_IMAGES = 3, 128  # different images, or a few images with several noises


@dataclass(frozen=True)
class FixedLevel(Draw):
    """The same noise level for every image.

    Args:
        ratio: Noise-to-signal ratio of the level.
    """

    ratio: float

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        angle = torch.full_like(u, self.ratio).atan()
        return Level(torch.cos(angle), torch.sin(angle))


class HeldOutLoss:
    """Evaluates the averaged model of a run, and keeps all evaluations in the run's folder.

    Always in fp32, whatever the precision of training: verdicts compare evaluations, also those before and after a run
    was resumed in another precision or on another device. An evaluation runs the network at most 1,536 times, so bf16
    would save little.

    Args:
        folder: Folder of the run.
        data: Data set; without two held-out images nothing is evaluated.
        settings: Resolved settings; for an objective that is not `is_denoising` nothing is evaluated.
        images_per_noisy_image: Images of the budget for each noisy image of an evaluation.

    Attributes:
        damage: One line of text if earlier evaluations were damaged and are lost; otherwise "".
        history: All evaluations so far, oldest first.
        noisy_images: Noisy images in an evaluation, per level and part; 0 until the first evaluation.
        verdict: Verdict on all evaluations, or None while they are too few.
    """

    def __init__(
        self,
        folder: Path,
        data: DataSet,
        settings: Settings,
        *,
        images_per_noisy_image: int = Intervals().images_per_noisy_image,
    ) -> None:
        self.file = folder / FILE
        self.data = data
        self.settings = settings
        self.images_per_noisy_image = images_per_noisy_image
        self._is_denoising = class_of(Objective, settings.objective).is_denoising
        self.history: list[Evaluation] = []
        self.noisy_images = 0
        self.damage = self._read() if self.file.exists() else ""
        self.verdict = verdict(self.history)

    def drop_evaluations_after(self, images_seen: int) -> None:
        """Remove the evaluations after a checkpoint: a resumed run makes them again."""
        self.history = [each for each in self.history if each.images_seen <= images_seen]
        self.verdict = verdict(self.history)

    def evaluate(
        self, diffusion: Diffusion, images_seen: int, share: float, ranks: Ranks | None = None
    ) -> Evaluation | None:
        """Evaluate a model once more; None if budget or images are too few, or the model is not a denoiser.

        Args:
            diffusion: Averaged model.
            images_seen: Images seen by training.
            share: Share of the budget that is used; the first evaluation derives the number of noisy images from it.
            ranks: Processes that train together: each evaluates some images, all receive all errors, the first writes.

        Raises:
            Diverged: If an error is not finite.
        """
        held_out = self.data.held_out
        if not self.noisy_images:
            self.noisy_images = min(MAX_NOISY_IMAGES, int(images_seen / share / self.images_per_noisy_image))
        if held_out is None or self.why_no_evaluation:
            return None
        count = min(self.noisy_images, len(held_out), len(self.data.train))
        ranks = ranks or Ranks()
        errors = [self._errors(diffusion, part, count, ranks) for part in (held_out, self.data.train)]
        if not all(np.isfinite(each).all() for each in errors):
            raise Diverged(f"After {images_seen} images the loss of an evaluation is not finite")
        self.history.append(Evaluation(images_seen, *errors))
        self.verdict = verdict(self.history)
        if ranks.is_main:
            self._write()
        return self.history[-1]

    @property
    def why_no_evaluation(self) -> str:
        """Why held-out images are not evaluated, as the end of a sentence; "" if they are."""
        if not self._is_denoising:
            return f"the errors of `objective={self.settings.objective}` cannot be compared"
        if self.data.held_out is None or min(len(self.data.held_out), len(self.data.train)) < 2:
            return "it takes two images that are held out, and two that are not"
        if self.noisy_images < MIN_NOISY_IMAGES:
            return f"it takes a budget of {MIN_NOISY_IMAGES * self.images_per_noisy_image:,} images"
        return ""

    @property
    def why_no_verdict(self) -> str:
        """Why there is no verdict, as the end of a sentence; "" if there is one."""
        if self.verdict is not None:
            return ""
        return self.why_no_evaluation or "it takes three evaluations"

    @torch.no_grad()
    def _errors(self, diffusion: Diffusion, part: Split, count: int, ranks: Ranks) -> NDArray[np.float64]:
        """Errors of some images of a part, (count, levels), each a mean over `noisy_images // count` noises."""
        constant = self.settings.replace(flip=False, cond_dropout=0.0, caption_dropout=0.0, seed=0)
        learner = Learner(diffusion, Denoising())
        batches = TrainingBatches(learner, replace(self.data, train=some_images(part, count)), constant)
        noises = range(self.noisy_images // count)
        rows = concat_rows([batches(0, count, torch.Generator().manual_seed(noise)) for noise in noises])
        at_once = self.settings.micro_batch_size or self.settings.batch_size
        assert at_once is not None
        total = len(noises) * count
        mine = split_balanced(total, ranks.world_size)[ranks.rank]
        own, errors = select_rows(rows, slice(mine.start, mine.stop)), torch.zeros(0, len(RATIOS))
        if mine:
            columns = retry_with_halves(
                lambda size: [errors_at(diffusion, own, ratio, size) for ratio in RATIOS], at_once
            )
            errors = torch.stack(columns, dim=1).float()
        gathered = ranks.all_gather(errors, total).view(len(noises), count, len(RATIOS))
        return gathered.mean(0).cpu().double().numpy()

    def _read(self) -> str:
        """Read the evaluations so far; a line of text if they are damaged."""
        try:
            self.noisy_images, self.history = read_evaluations(self.file)
        except (OSError, ValueError) as error:
            return f"{self.file.name} is damaged ({error}): the run starts a new comparison of held-out losses"
        return ""

    def _write(self) -> None:
        evaluations = [
            {"images_seen": each.images_seen, "held_out": _rounded(each.held_out), "train": _rounded(each.train)}
            for each in self.history
        ]
        content = {"noisy_images": self.noisy_images, "nsr": list(RATIOS), "evaluations": evaluations}
        write_json(self.file, content, indent=None)


def read_evaluations(file: Path) -> tuple[int, list[Evaluation]]:
    """The number of noisy images and all evaluations in a run's `held_out.json`, oldest first.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged.
    """
    content = read_json(file)
    try:
        noisy_images, history = int(content["noisy_images"]), [_evaluation(each) for each in content["evaluations"]]
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    if len({(each.held_out.shape, each.train.shape) for each in history}) > 1:
        raise ValueError("its evaluations are of different images")
    return noisy_images, history


def errors_at(diffusion: Diffusion, rows: Batch, ratio: float, at_once: int) -> Tensor:
    """Unweighted errors of a model's output at one noise level, (N,).

    Args:
        diffusion: Model to evaluate.
        rows: Rows of `TrainingBatches` for the objective `Denoising`.
        ratio: Noise-to-signal ratio of the level.
        at_once: Rows in memory at once.
    """
    learner, x, (*inputs, _, _, noise) = Learner(diffusion, Denoising()), cast(Tensor, rows[0]), rows
    at_level: Batch = (*inputs, *FixedLevel(ratio).levels_for(x, torch.Generator()), noise)
    batches = (select_rows(at_level, slice(start, start + at_once)) for start in range(0, len(x), at_once))
    return torch.cat([learner(*batch).per_sample for batch in batches])


def some_images(part: Split, count: int) -> Split:
    """`count` images of a part in random order, the same ones at every call."""
    return part.take(batch_order(len(part), seed=0, start=0, count=count))


def evaluation_record(evaluation: Evaluation) -> dict[str, float]:
    """Means over the images, in all and by level, as a line of a log."""
    line: dict[str, float] = {}
    for name, errors in (("held_out", evaluation.held_out), ("train_frozen", evaluation.train)):
        line[name] = errors.mean()
        line |= {f"{name}/nsr_{ratio:g}": mean for ratio, mean in zip(RATIOS, errors.mean(axis=0), strict=True)}
    return {name: float(f"{mean:.6g}") for name, mean in line.items()}


def _evaluation(content: dict[str, Any]) -> Evaluation:
    errors = [np.array(content[name], dtype=np.float64) for name in ("held_out", "train")]
    if any(each.ndim != 2 or each.shape[1] != len(RATIOS) or not np.isfinite(each).all() for each in errors):
        raise ValueError("an evaluation is no table of numbers")
    return Evaluation(int(content["images_seen"]), *errors)


def _rounded(errors: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{error:.6g}") for error in row] for row in errors]
