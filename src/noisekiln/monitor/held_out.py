"""The loss on held-out images, under noise that is the same at every evaluation."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import DataSet, Images, batch_order
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_evenly
from noisekiln.draws.base import Draw
from noisekiln.files.atomic import replacing
from noisekiln.levels import Level
from noisekiln.machine.memory import retry_with_halves
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.verdict import Evaluation, verdict
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.examples import TrainingBatches
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.batches import Batch, concat_rows, select_rows

FILE = "held_out.json"
RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # noise to signal: where images are decided, and a little beyond
FEWEST, MOST = 3, 128  # points: images, or noises on few images


@dataclass(frozen=True)
class At(Draw):
    """Every image at one noise level.

    Args:
        ratio: Noise-to-signal ratio of the level.
    """

    ratio: float

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        angle = torch.full_like(u, self.ratio).atan()
        return Level(torch.cos(angle), torch.sin(angle))


class HeldOutLoss:
    """Evaluates the averaged model of a run, and keeps all evaluations in the run's folder.

    Args:
        folder: Folder of the run.
        data: The images; without two held-out ones nothing is evaluated.
        settings: Resolved settings.
        images_per_point: Images of the budget for each noisy image of an evaluation.

    Attributes:
        history: All evaluations so far, oldest first.
        points: Noisy images in an evaluation, for each level and each part; 0 until the first evaluation.
        verdict: What all evaluations together say, or None while they are too few.
    """

    def __init__(
        self,
        folder: Path,
        data: DataSet,
        settings: Settings,
        *,
        images_per_point: int = Intervals().images_per_point,
    ) -> None:
        self.file, self.data, self.settings = folder / FILE, data, settings
        self.images_per_point = images_per_point
        self.history: list[Evaluation] = []
        self.points = 0
        if self.file.exists():
            self._read()
        self.verdict = verdict(self.history)

    def forget_after(self, images_seen: int) -> None:
        """Drop the evaluations after a checkpoint: a resumed run makes them again."""
        self.history = [each for each in self.history if each.images_seen <= images_seen]
        self.verdict = verdict(self.history)

    def evaluate(
        self, diffusion: Diffusion, images_seen: int, share: float, ranks: Ranks | None = None
    ) -> Evaluation | None:
        """Evaluate a model once more; None if the budget or the images are too few for that.

        Args:
            diffusion: The averaged model.
            images_seen: Images seen by training.
            share: Share of the budget that is spent; the first evaluation derives the number of points from it.
            ranks: The processes that train together: each evaluates some images, all get all, the first one writes.
        """
        held_out = self.data.held_out
        if not self.points:
            self.points = min(MOST, int(images_seen / share / self.images_per_point))
        if held_out is None or len(held_out) < 2 or len(self.data.train) < 2 or self.points < FEWEST:
            return None
        count = min(self.points, len(held_out), len(self.data.train))
        ranks = ranks or Ranks()
        errors = [self._errors(diffusion, part, count, ranks) for part in (held_out, self.data.train)]
        self.history.append(Evaluation(images_seen, *errors))
        self.verdict = verdict(self.history)
        if ranks.is_main:
            self._write()
        return self.history[-1]

    @torch.no_grad()
    def _errors(self, diffusion: Diffusion, part: Images, count: int, ranks: Ranks) -> NDArray[np.float64]:
        """Errors of some of the part's images, (count, levels): each the mean over as many noises as points allow."""
        constant = self.settings.but(cond_dropout=0.0, seed=0)
        learner = Learner(diffusion, Denoising())
        batches = TrainingBatches(learner, replace(self.data, train=some_images(part, count)), constant)
        noises = range(self.points // count)
        rows = concat_rows([batches(0, count, torch.Generator().manual_seed(noise)) for noise in noises])
        at_once = self.settings.micro_batch_size or self.settings.batch_size
        assert at_once is not None
        total = len(noises) * count
        mine = split_evenly(total, ranks.world_size)[ranks.rank]
        own, errors = select_rows(rows, slice(mine.start, mine.stop)), torch.zeros(0, len(RATIOS))
        if mine:
            columns = retry_with_halves(
                lambda size: [errors_at(diffusion, own, ratio, size) for ratio in RATIOS], at_once
            )
            errors = torch.stack(columns, dim=1).float()
        gathered = ranks.all_gather(errors, total).view(len(noises), count, len(RATIOS))
        return gathered.mean(0).cpu().double().numpy()

    def _read(self) -> None:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            self.points = int(content["points"])
            self.history = [
                Evaluation(int(each["images_seen"]), np.array(each["held_out"]), np.array(each["train"]))
                for each in content["evaluations"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file} is damaged ({error}), so the run's held-out losses are lost. "
                "Restore it from a copy, or remove it: the run then begins a new comparison."
            ) from error

    def _write(self) -> None:
        evaluations = [
            {"images_seen": each.images_seen, "held_out": _rounded(each.held_out), "train": _rounded(each.train)}
            for each in self.history
        ]
        content = {"points": self.points, "nsr": list(RATIOS), "evaluations": evaluations}
        with replacing(self.file) as draft:
            draft.write_text(json.dumps(content) + "\n", encoding="utf-8")


def errors_at(diffusion: Diffusion, rows: Batch, ratio: float, at_once: int) -> Tensor:
    """Unweighted errors of a model's output at one noise level, (N,).

    Args:
        diffusion: The model.
        rows: Rows of `TrainingBatches` for the objective `Denoising`.
        ratio: Noise-to-signal ratio of the level.
        at_once: Rows in memory at once.
    """
    learner, count = Learner(diffusion, Denoising(At(ratio))), len(cast(Tensor, rows[0]))
    pieces = (select_rows(rows, slice(start, start + at_once)) for start in range(0, count, at_once))
    return torch.cat([learner(*piece).per_sample for piece in pieces])


def some_images(part: Images, count: int) -> Images:
    """So many of a part's images, in random order, and the same ones at every call."""
    return part.take(batch_order(len(part), seed=0, start=0, count=count))


def as_line(evaluation: Evaluation) -> dict[str, float]:
    """Means over the images, in all and by level, as a line of a log has them."""
    line: dict[str, float] = {}
    for name, errors in (("held_out", evaluation.held_out), ("train_frozen", evaluation.train)):
        line[name] = errors.mean()
        line |= {f"{name}/nsr_{ratio:g}": mean for ratio, mean in zip(RATIOS, errors.mean(axis=0), strict=True)}
    return {name: float(f"{mean:.6g}") for name, mean in line.items()}


def _rounded(errors: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{error:.6g}") for error in row] for row in errors]
