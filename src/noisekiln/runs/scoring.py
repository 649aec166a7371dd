"""Scores of a run while it trains, and which of its weights are the best so far."""

import time
from collections.abc import Generator

import torch
from torch import Tensor

from noisekiln.data import DataSet
from noisekiln.errors import counted
from noisekiln.evaluation.default_features import default_extractor
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.reports import Reports
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.runs.best_model import BestScore, as_best, read_best
from noisekiln.runs.events import Score
from noisekiln.runs.failures import Failures
from noisekiln.runs.reserved_time import reserve
from noisekiln.runs.sample_scores import SAMPLES, SampleScores
from noisekiln.training.due import AtShares
from noisekiln.training.trainer import Trainer

FEWEST_SAMPLES = 200  # that a score is computed of, before there are fewer scores
SHARE = 0.25  # of a budget in minutes, at most, for scores
PROBE_STEPS = 2


class Scoring:
    """Scores samples of the averaged weights at equal shares of the budget, with the model's own sampling settings.

    Nothing that training depends on is changed: samples come from generators of their own. All processes call each
    method; each of them makes some samples, and the first one compares them.

    Args:
        trainer: Trainer of a `Learner`, at the checkpoint that the run resumes from.
        copies: Copies of the current and the averaged weights.
        data: The images.
        settings: Resolved settings; without `score` nothing is done.
        failures: Error messages of the run.

    Attributes:
        best: The best score so far.
        seconds: Seconds that the last score took, or that the first one will take; 0 if no score will come.

    Raises:
        ValueError: If there are no features to compare images by, or too few images.
    """

    def __init__(
        self, trainer: Trainer, copies: PlainCopies, data: DataSet, settings: Settings, failures: Failures
    ) -> None:
        self.trainer, self.copies = trainer, copies
        self.settings, self.failures = settings, failures
        self.count, self.samples = settings.score or 0, SAMPLES
        self.seconds = 0.0
        self.best: BestScore | None = None
        self._due = AtShares.equal(0)
        self._scores: SampleScores | None = None
        if settings.score:
            labels = None if data.train.labels is None else torch.from_numpy(data.train.labels)
            self._scores = SampleScores(
                data,
                default_extractor(labels),
                unconditional=settings.cond == "none",
                task=settings.task != GENERATE,
            )

    def start(self) -> list[str]:
        """Prepare the comparison, before training; returns notes for the user, one line each."""
        if self._scores is None:
            return []
        trainer = self.trainer
        self._scores.prepare(trainer.ranks, self.settings.device)
        self.best, notes = self._best_so_far()
        if self.best is not None:
            self.samples = self.best.score.samples  # MIND depends on their number
        notes += self._limit_time()
        self._due = AtShares.equal(self.count, start=trainer.share)
        return [*self._scores.notes, *notes]

    def after_step(self, reports: Reports) -> Generator[Score, None, float]:
        """Score the averaged weights and log it, if that is due; returns the seconds that it took."""
        if not self._due.due(self.trainer.share):
            return 0.0
        start = time.perf_counter()
        self.failures.check_finite()
        with self.failures.explaining_divergence():
            found = self._measure()
        score = as_best(found, self.best)
        if score.is_best:
            assert self._scores is not None
            self.best = BestScore(score, self._scores.measured_by)
        seconds = time.perf_counter() - start
        reports.add_score(numbers_of(score), seconds)
        self.seconds = seconds if self.trainer.share < 1 else 0.0
        yield score
        return seconds

    @property
    def new_best(self) -> BestScore | None:
        """The best score, if it is that of the present weights, which are then to be saved."""
        found = self.best
        return found if found is not None and found.score.images_seen == self.trainer.images_seen else None

    def _measure(self) -> Score:
        assert self._scores is not None
        trainer = self.trainer
        samples = self._sample(self.samples)
        distances = self._scores.distances(samples, trainer.ranks, self.settings.device)
        against = f"{self._scores.real_name} by {self._scores.measured_by['name']}"
        return Score(trainer.images_seen, self.samples, against, *distances, is_best=False)

    def _sample(self, count: int, **options: int) -> Tensor:
        assert self._scores is not None
        model = self.copies.averaged().diffusion
        precision = "bf16" if self.settings.precision == "bf16" else "fp32"  # as in grids
        options["at_once"] = self.trainer.micro_batch_size
        return self._scores.samples(model, count, self.trainer.ranks, precision=precision, **options)

    def _best_so_far(self) -> tuple[BestScore | None, list[str]]:
        """The record of `model-best/`, if scores can be compared with it; and a note if they cannot."""
        assert self._scores is not None
        trainer, measured_by = self.trainer, self._scores.measured_by
        best, ranks = read_best(self.failures.folder.path, trainer.images_seen), trainer.ranks
        fits = best is not None and best.measured_by == measured_by
        if ranks.all_reduce_sum([ranks.is_main and fits]) != [0]:  # only the first process has fitted the extractor
            return best, []
        if best is None:
            return None, []
        differing = ", ".join(name for name in measured_by if best.measured_by.get(name) != measured_by[name])
        return None, [f"the best score so far was measured otherwise ({differing}); the next score replaces it"]

    def _limit_time(self) -> list[str]:
        """Estimate the time of a score, and limit all of them to their share of a budget in minutes."""
        minutes = self.settings.minutes
        if minutes is None:
            return []
        one, allowed = self._seconds_per_sample(), SHARE * 60 * minutes
        count, samples = affordable(self.count, self.samples, one, allowed, keep=self.best is not None)
        requested = f"{counted(self.count, 'score')} of {self.samples:,} samples would take about "
        requested += f"{self.count * self.samples * one / 60:.1f} of {minutes:g} minutes"
        same = (count, samples) == (self.count, self.samples)
        self.count, self.samples = count, samples
        self.seconds = count and samples * one
        reserve(self.trainer, self.seconds)
        if same:
            return []
        if not count:
            return [f"{requested}: there are none. Give more `minutes`, or use `noisekiln evaluate` afterwards"]
        there = f"is 1, of {samples:,} samples" if count == 1 else f"are {count:,}, of {samples:,} samples each"
        return [f"{requested}: there {there}"]

    def _seconds_per_sample(self) -> float:
        """Seconds of a sample and its features, measured on a few of them; the same in all processes."""
        assert self._scores is not None
        ranks = self.trainer.ranks
        count = min(self.samples, self.trainer.micro_batch_size * ranks.world_size)
        self._sample(count, steps=PROBE_STEPS)  # the first call is slow: memory is allocated, kernels are chosen
        start = time.perf_counter()
        self._sample(count, steps=PROBE_STEPS)
        sampling = (time.perf_counter() - start) / count * (self.settings.steps or 1) / PROBE_STEPS
        seconds, of_features = ranks.all_reduce_sum([sampling, self._scores.seconds_per_image])
        return seconds / ranks.world_size + of_features


def numbers_of(score: Score) -> dict[str, float]:
    """A score as a line of the logs."""
    return {"kid": score.kid, "kid_error": score.kid_error, "mind": score.mind, "score_images": score.samples}


def affordable(count: int, samples: int, seconds: float, allowed: float, *, keep: bool) -> tuple[int, int]:
    """How many scores of how many samples take at most the allowed time: fewer samples first, then fewer scores.

    Args:
        count: Scores that are requested.
        samples: Samples of each.
        seconds: Seconds of one sample.
        allowed: Seconds of all.
        keep: Whether the number of samples must stay.
    """
    if count * samples * seconds <= allowed:
        return count, samples
    fewest = samples if keep else min(samples, FEWEST_SAMPLES)
    fewer = int(allowed / (count * seconds))
    if fewer >= fewest:
        return count, fewer
    return int(allowed / (fewest * seconds)), fewest
