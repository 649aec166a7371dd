"""The loss on images that training never sees, under noise that never changes."""

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
from noisekiln.monitor.verdict import Evaluation, verdict
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.examples import TrainingBatches
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.batches import Batch, concat_rows, select_rows

FILE = "held_out.json"
RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # noise to signal: where images are decided, and a little beyond
AT = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # shares of the budget; the last evaluation is at its end
# Eight evaluations run the network 2 * 6 * 8 times a point, and a run takes 0.3 to 0.5 of what training on an image
# does (LOG.md): one point for every 2,500 images of the budget makes them some 2 % of the training.
IMAGES_PER_POINT = 2500
FEWEST, MOST = 3, 128  # points: images, or noises on few images


@dataclass(frozen=True)
class At(Draw):
    """Every image at one level.

    Args:
        ratio: Its noise-to-signal ratio.
    """

    ratio: float

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        angle = torch.full_like(u, self.ratio).atan()
        return Level(torch.cos(angle), torch.sin(angle))


class HeldOut:
    """Evaluates a run's averaged model now and then, and keeps what it found in the run's folder.

    Args:
        folder: Of the run.
        data: Its images; without two held-out ones nothing is ever evaluated.
        settings: Resolved ones.

    Attributes:
        history: All evaluations so far, oldest first.
        points: Noisy images in an evaluation, for each level and each part; 0 until the first one.
        verdict: What all evaluations together say, or None while they are too few.
    """

    def __init__(self, folder: Path, data: DataSet, settings: Settings) -> None:
        self.file, self.data, self.settings = folder / FILE, data, settings
        self.history: list[Evaluation] = []
        self.points = 0
        if self.file.exists():
            self._read()
        self.verdict = verdict(self.history)

    @property
    def word(self) -> str:
        """The verdict in a word, or "" while there is none."""
        return self.verdict.word if self.verdict else ""

    def forget_after(self, images_seen: int) -> None:
        """Drop what was found after the checkpoint: those steps are taken again."""
        self.history = [found for found in self.history if found.images_seen <= images_seen]
        self.verdict = verdict(self.history)

    def evaluate(
        self, diffusion: Diffusion, images_seen: int, share: float, ranks: Ranks | None = None
    ) -> dict[str, float] | None:
        """Evaluate a model once more; the numbers for the logs, or None if the budget or the images are too few.

        Args:
            diffusion: The averaged model.
            images_seen: By training.
            share: Of the budget that is gone; with it, the first evaluation settles how many points there are.
            ranks: The processes that train together: each evaluates some, all get all, the first one keeps it.
        """
        others = self.data.held_out
        if not self.points:
            self.points = min(MOST, int(images_seen / share / IMAGES_PER_POINT))
        if others is None or len(others) < 2 or len(self.data.train) < 2 or self.points < FEWEST:
            return None
        count = min(self.points, len(others), len(self.data.train))
        ranks = ranks or Ranks()
        held_out, train = (self._errors(diffusion, part, count, ranks) for part in (others, self.data.train))
        self.history.append(Evaluation(images_seen, held_out, train))
        self.verdict = verdict(self.history)
        if ranks.is_main:
            self._write()
        return as_line(held_out, train)

    @torch.no_grad()
    def _errors(self, diffusion: Diffusion, part: Images, count: int, ranks: Ranks) -> NDArray[np.float64]:
        """Errors of some of the part's images, (count, levels): each the mean over as many noises as points allow."""
        still = self.settings.but(cond_dropout=0.0, seed=0)
        batches = TrainingBatches(Learner(diffusion, Denoising()), replace(self.data, train=_some(part, count)), still)
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
        found = ranks.all_gather(errors, total).view(len(noises), count, len(RATIOS))
        return found.mean(0).double().cpu().numpy()

    def _read(self) -> None:
        try:
            told = json.loads(self.file.read_text(encoding="utf-8"))
            self.points = int(told["points"])
            self.history = [
                Evaluation(int(one["images_seen"]), np.array(one["held_out"]), np.array(one["train"]))
                for one in told["evaluations"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file} is damaged ({error}), so the run's held-out losses are lost. "
                "Restore it from a copy, or remove it: the run then begins a new comparison."
            ) from error

    def _write(self) -> None:
        evaluations = [
            {"images_seen": one.images_seen, "held_out": _rounded(one.held_out), "train": _rounded(one.train)}
            for one in self.history
        ]
        told = {"points": self.points, "nsr": list(RATIOS), "evaluations": evaluations}
        with replacing(self.file) as draft:
            draft.write_text(json.dumps(told) + "\n", encoding="utf-8")


def errors_at(diffusion: Diffusion, rows: Batch, ratio: float, at_once: int) -> Tensor:
    """Unweighted errors of a model's output at one noise-to-signal ratio, one a row, so many rows in memory at once."""
    trained, count = Learner(diffusion, Denoising(At(ratio))), len(cast(Tensor, rows[0]))
    pieces = (select_rows(rows, slice(start, start + at_once)) for start in range(0, count, at_once))
    return torch.cat([trained(*piece).per_sample for piece in pieces])


def _some(part: Images, count: int) -> Images:
    """So many of the images, at random, and always the same."""
    rows = batch_order(len(part), seed=0, start=0, count=count)
    return Images(
        part.pixels[rows],
        labels=None if part.labels is None else part.labels[rows],
        captions=None if part.captions is None else tuple(part.captions[row] for row in rows),
        partners=None if part.partners is None else part.partners[rows],
    )


def as_line(held_out: NDArray[np.float64], train: NDArray[np.float64]) -> dict[str, float]:
    """Means over the images, in all and by level, as a line of a log has them."""
    line = {"held_out": held_out.mean(), "train_frozen": train.mean()}
    for kind, errors in (("held_out", held_out), ("train_frozen", train)):
        line |= {f"{kind}/nsr_{ratio:g}": mean for ratio, mean in zip(RATIOS, errors.mean(axis=0), strict=True)}
    return {name: float(f"{mean:.6g}") for name, mean in line.items()}


def _rounded(errors: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{error:.6g}") for error in row] for row in errors]
