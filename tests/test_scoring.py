"""`score`: samples are compared with images of the data while a run trains, and its best weights are kept."""

import json
import os
import time
from dataclasses import dataclass, replace
from itertools import islice
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import noisekiln as nk
from conftest import TINY, Command
from forked import forked_ranks
from noisekiln.cli._watcher import describe_end, describe_score
from noisekiln.data import DataSet, load
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import DataError, Diverged
from noisekiln.features.base import FeatureExtractor
from noisekiln.features.classifier import Classifier
from noisekiln.metrics.mind import sliced_distance
from noisekiln.model import saving
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.preview import generate_previews
from noisekiln.monitor.throughput import Throughput
from noisekiln.plan.settings import Settings
from noisekiln.runs import best_model, sample_scores, scoring
from noisekiln.runs.events import End, Note, Saving, Score
from noisekiln.runs.grids import Grids
from noisekiln.runs.run import Run
from noisekiln.runs.sample_scores import SampleScores
from noisekiln.runs.scoring import affordable
from noisekiln.training import checkpoints
from noisekiln.training.budget import Budget
from noisekiln.training.trainer import Trainer

SETTINGS = Settings(images=128, batch_size=16, backbone=TINY, curves="none", steps=2, lr=0.01, ema_snapshots=0)
SAMPLES = 24
FEW = Intervals(grids_at=(), held_out_at=())


@dataclass(frozen=True)
class Colours(FeatureExtractor):
    """Mean colours of the quarters of an image."""

    version: str = "1"

    def features_of(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float() / 255
        return F.adaptive_avg_pool2d(pixels, 2).flatten(1)

    def describe(self) -> dict[str, str]:
        return {"name": "colours", "version": self.version, "preprocessing": "none"}


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "default_extractor", lambda labels: Colours())
    for module in (scoring, sample_scores):
        monkeypatch.setattr(module, "SAMPLES", SAMPLES)
    monkeypatch.setattr(Grids, "draw", lambda self: self.folder / "none.png")  # a quarter of the time


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def lines(folder: Path) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if "mind" in line]


def numbers(folder: Path) -> list[tuple[float, ...]]:
    names = ("images_seen", "share", "kid", "kid_error", "mind", "score_images")
    return [tuple(line[name] for name in names) for line in lines(folder)]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def make_run(data: DataSet, folder: Path, **changes: Any) -> Run:
    return Run(SETTINGS.replace(**changes), data, folder, intervals=FEW)


def scores_of(run: Run) -> list[Score]:
    return [event for event in run.events() if isinstance(event, Score)]


def pretend(monkeypatch: pytest.MonkeyPatch, minds: dict[int, float]) -> None:
    """Scores by the images seen, instead of those that are measured."""

    def measure(self: scoring.Scoring) -> Score:
        seen = self.trainer.images_seen
        return Score(seen, SAMPLES, "images", 0.5, 0.1, minds[seen], is_best=False)

    monkeypatch.setattr(scoring.Scoring, "_measure", measure)


# What is measured


def test_scores_at_equal_shares_change_no_weight(data: DataSet, tmp_path: Path):
    scored, plain = (make_run(data, tmp_path / str(n), score=n) for n in (4, None))
    before = torch.get_rng_state()
    scores = scores_of(scored)
    assert torch.equal(before, torch.get_rng_state())
    assert scores_of(plain) == []
    assert [score.images_seen for score in scores] == [32, 64, 96, 128]
    assert [line[:2] for line in numbers(tmp_path / "4")] == [(32, 0.25), (64, 0.5), (96, 0.75), (128, 1)]
    for score, line in zip(scores, lines(tmp_path / "4"), strict=True):
        assert line["mind"] == pytest.approx(score.mind, rel=1e-5)
        assert line["kid"] == pytest.approx(score.kid, rel=1e-5)
        assert line["kid_error"] == pytest.approx(score.kid_error, rel=1e-5)
        assert line["score_images"] == SAMPLES
    one, other = (checkpoints.load_newest(tmp_path / name / "checkpoints") for name in ("4", "None"))
    assert one is not None
    assert other is not None
    assert equal(one.tensors, other.tensors)
    assert not (tmp_path / "None" / "model-best").exists()
    assert scores[-1].mind < scores[0].mind, "training improves the colours"


def test_samples_are_those_of_the_model_with_its_own_settings(data: DataSet, tmp_path: Path):
    run = make_run(data, tmp_path, score=1, guidance=2.0, steps=3)
    (score,) = scores_of(run)
    model = Diffusion.load(tmp_path)
    rows = data.train.take(nk.data.batch_order(len(data.train), seed=1, start=0, count=SAMPLES))
    samples = model.sample(list(rows.labels), seed=0)
    real = Colours().extract(torch.from_numpy(data.train.pixels))
    assert score.mind == pytest.approx(sliced_distance(Colours().extract(torch.as_tensor(samples)), real), rel=1e-4)
    assert score.against == f"{len(data.train)} training images by colours"


@pytest.mark.parametrize("cond", ["none", "auto"])
def test_conditions_are_those_of_training_images(cond: str, data: DataSet, tmp_path: Path, monkeypatch):
    asked: list[Any] = []

    def generate(model: Diffusion, conditions: list[Any], ranks: Any, **options: Any) -> np.ndarray:
        asked.append((conditions, options))
        return generate_previews(model, conditions, ranks, **options)

    monkeypatch.setattr(sample_scores, "generate_previews", generate)
    scores_of(make_run(data, tmp_path, score=1, cond=cond, micro_batch_size=5))
    ((conditions, options),) = asked
    assert options["at_once"] == 5
    if cond == "none":
        assert conditions == [None] * SAMPLES
    else:
        counts = [list(conditions).count(label) for label in data.class_names]
        assert sum(counts) == SAMPLES
        assert min(counts) >= 10


def test_training_without_conditions_is_scored_without_them(data: DataSet, class_run: Path):
    """Also where the model that is fine-tuned has some."""
    scores, model = SampleScores(data, Colours(), unconditional=True, task=False), Diffusion.load(class_run)
    samples = scores.samples(model, 4, Ranks(), steps=2)
    assert torch.equal(samples, torch.as_tensor(model.sample(4, steps=2)))


def parts(train: int, held_out: int) -> DataSet:
    images = np.random.default_rng(0).integers(0, 255, (train + held_out, 8, 8, 3)).astype(np.uint8)
    part = nk.data.Split(images)
    rows = np.arange(train + held_out)
    return DataSet("noise", part.take(rows[:train]), part.take(rows[train:]), (), (), (), "0")


def test_held_out_images_are_compared_with_where_there_are_enough():
    few, many = parts(100, SAMPLES - 1), parts(100, SAMPLES)
    assert SampleScores(few, Colours(), unconditional=True, task=False).real_name == "100 training images"
    enough = SampleScores(many, Colours(), unconditional=True, task=False)
    assert enough.real_name == f"{SAMPLES} held-out images"
    assert enough.conditioned_on is many.train
    tasks = SampleScores(many, Colours(), unconditional=True, task=True)
    assert tasks.real_name == "100 training images", "others than those that the sources are made of"
    assert tasks.conditioned_on is many.held_out


def test_too_few_images_are_refused_or_said():
    with pytest.raises(DataError, match=r"19 training images are too few\. Give 20 images or more, or omit `score`"):
        SampleScores(parts(19, 1), Colours(), unconditional=True, task=False)
    (note,) = SampleScores(parts(199, 1), Colours(), unconditional=True, task=False).notes
    assert note == "scores against 199 training images are mostly chance; from 200 on they mean something"
    assert not SampleScores(parts(200, 1), Colours(), unconditional=True, task=False).notes


def test_a_task_starts_from_sources(tmp_path: Path, plain: Path):
    run = make_run(load(plain), tmp_path, score=1, task="upscale(factor=2)")
    (score,) = scores_of(run)
    assert score.mind > 0
    assert Diffusion.load(tmp_path / "model-best").task is not None


def test_processes_that_compare_nothing_receive_the_distances(data: DataSet):
    scores = SampleScores(data, Colours(), unconditional=True, task=False)
    ranks: Any = SimpleNamespace(is_main=False, all_reduce_sum=lambda values: [value + 7.0 for value in values])
    scores.prepare(ranks, "cpu")
    assert scores.distances(torch.zeros(0), ranks, "cpu") == (7.0, 7.0, 7.0)


# The best weights


def test_the_best_weights_are_kept(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Command):
    pretend(monkeypatch, {32: 0.5, 64: 0.3, 96: 0.4, 128: 0.3})
    run = make_run(data, tmp_path, score=4, keep_checkpoints=99)
    events = [event for event in run.events() if isinstance(event, Score | Saving | End)]
    assert [event.is_best for event in events if isinstance(event, Score)] == [True, True, False, False]
    assert {32, 64} <= {event.images_seen for event in events if isinstance(event, Saving)}
    averaged = averaged_after(64, data, tmp_path / "until")
    assert equal(weights(tmp_path / "model-best"), averaged)
    assert not equal(weights(tmp_path / "model"), averaged)
    record = json.loads((tmp_path / "model-best" / "score.json").read_text())
    assert (record["images_seen"], record["mind"], record["samples"]) == (64, 0.3, SAMPLES)
    assert record["measured_by"] == Colours().describe() | {"images": "22 training images"}
    assert isinstance(events[-1], End)
    assert events[-1].best is not None
    assert events[-1].best.images_seen == 64
    assert nk.load(tmp_path / "model-best").sample(1, steps=1).shape == (1, 8, 8, 3)
    done = cli("sample", tmp_path / "model-best", "-n", 1, "--steps", 1, "--out", tmp_path / "out")
    assert done.code == 0, done


def test_an_adapter_is_merged_into_the_best_model(data: DataSet, tmp_path: Path, class_run: Path):
    run = Run(Settings(images=32, batch_size=16, curves="none", start=str(class_run), lora=2, score=1), data, tmp_path)
    (score,) = scores_of(run)
    assert score.is_best
    assert equal(weights(tmp_path / "model-best"), weights(tmp_path / "model"))


def train(data: DataSet, folder: Path, stop_after: int | None = None, **changes: Any) -> Run:
    """Train to the end; or stop after so many steps, and save."""
    run = make_run(data, folder, score=4, **changes)
    for _ in islice(run.steps(), stop_after):
        pass
    if stop_after is not None:
        run.save()
    return run


def assert_same(one: Path, other: Path) -> None:
    assert numbers(one) == numbers(other)
    for name in ("model", "model-best"):
        assert equal(weights(one / name), weights(other / name)), name
    assert (one / "model-best" / "score.json").read_text() == (other / "model-best" / "score.json").read_text()


@pytest.mark.parametrize("stop_after", [2, 5])
def test_interrupted_and_resumed_equals_uninterrupted(stop_after: int, data: DataSet, tmp_path: Path):
    train(data, tmp_path / "whole")
    train(data, tmp_path / "parts", stop_after)
    train(data, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_resumed_run_knows_the_best_so_far(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, {32: 0.5, 64: 0.2, 96: 0.3, 128: 0.25})
    train(data, tmp_path, 5)
    before = weights(tmp_path / "model-best")
    scores = scores_of(make_run(data, tmp_path, score=4))
    assert [(score.images_seen, score.is_best) for score in scores] == [(96, False), (128, False)]
    assert equal(weights(tmp_path / "model-best"), before)


def test_a_resumed_run_keeps_the_number_of_samples(data: DataSet, tmp_path: Path):
    """MIND depends on it."""
    train(data, tmp_path, 2)
    file = tmp_path / "model-best" / "score.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"samples": 9}))
    assert {score.samples for score in scores_of(make_run(data, tmp_path, score=4))} == {9}


def test_after_a_skipped_step_nothing_is_scored(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compute = Trainer._compute_gradient
    monkeypatch.setattr(
        Trainer, "_compute_gradient", lambda self: (nan, 1.0) if self.images_seen == 16 else compute(self)
    )
    scores = scores_of(make_run(data, tmp_path, score=4))
    assert [score.images_seen for score in scores] == [48, 64, 96, 128]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("killed_by", ["record", "weights", "description", "checkpoint"])
def test_a_run_that_is_killed_between_two_writes_resumes(
    killed_by: str, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second of the best weights is being written; the first are from a checkpoint before."""
    pretend(monkeypatch, {32: 0.5, 64: 0.2, 96: 0.3, 128: 0.25})
    train(data, tmp_path / "whole")
    with monkeypatch.context() as during:
        kill_in(during, killed_by)
        with pytest.raises(Killed):
            train(data, tmp_path / "killed")
    assert nk.load(tmp_path / "killed" / "model-best").sample(1, steps=1).shape == (1, 8, 8, 3)
    train(data, tmp_path / "killed")
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_the_record_is_that_of_the_weights_also_after_a_kill(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where steps are not repeated to the bit, the scores after the kill may be worse than those before."""
    pretend(monkeypatch, {32: 0.5, 64: 0.2})
    with monkeypatch.context() as during:
        kill_in(during, "description")
        with pytest.raises(Killed):
            train(data, tmp_path / "killed")
    pretend(monkeypatch, {64: 0.6, 96: 0.7, 128: 0.8})
    train(data, tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "model-best" / "score.json").read_text())["images_seen"] == 64
    assert equal(weights(tmp_path / "killed" / "model-best"), averaged_after(64, data, tmp_path / "until"))


def averaged_after(images: int, data: DataSet, folder: Path) -> dict[str, Tensor]:
    """The averaged weights after so many images."""
    run = make_run(data, folder)
    for _ in islice(run.steps(), images // 16):
        pass
    return run.copies.averaged().diffusion.state_dict()


def kill_in(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Kill the run before this is written of the second best weights, those of 64 images."""
    module, name = {
        "record": (best_model, "write_json"),
        "weights": (saving, "write_weights"),
        "description": (saving, "write_description"),
        "checkpoint": (checkpoints, "save"),
    }[what]
    original, written = getattr(module, name), []

    def write(*arguments: Any, **options: Any) -> Any:
        written.extend(each for each in arguments if "model-best" in str(each) or each == 64)
        if len(written) == 2 or 64 in written:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, write)


def test_weights_after_the_checkpoint_are_forgotten(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, {32: 0.5, 64: 0.2, 96: 0.3, 128: 0.25})
    train(data, tmp_path, 2)
    file = tmp_path / "model-best" / "score.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"images_seen": 33, "mind": 0.1}))
    scores = scores_of(make_run(data, tmp_path, score=4))
    assert [score.is_best for score in scores] == [True, False, False]


@pytest.mark.parametrize("damage", ["{", "[]", '{"mind": 1}'])
def test_a_damaged_record_is_made_again(damage: str, data: DataSet, tmp_path: Path):
    train(data, tmp_path, 2)
    (tmp_path / "model-best" / "score.json").write_text(damage)
    assert scores_of(make_run(data, tmp_path, score=4))[0].is_best


def test_a_classifier_is_fitted_again_and_the_same(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring, "default_extractor", lambda labels: Classifier(side=8))
    train(data, tmp_path / "whole")
    train(data, tmp_path / "parts", 2)
    events = list(make_run(data, tmp_path / "parts", score=4).events())
    assert not [event for event in events if isinstance(event, Note) and "otherwise" in event.text]
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_scores_by_other_features_are_not_compared(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train(data, tmp_path, 2)
    monkeypatch.setattr(scoring, "default_extractor", lambda labels: Colours("2"))
    events = list(make_run(data, tmp_path, score=4).events())
    said = [event.text for event in events if isinstance(event, Note)]
    assert "the best score so far was measured otherwise (version); the next score replaces it" in said
    assert next(event for event in events if isinstance(event, Score)).is_best


# Time


@pytest.mark.parametrize(
    ("seconds", "keep", "expected"),
    [
        (0.01, False, (4, 500)),  # 20 s
        (0.05, False, (4, 500)),
        (0.1, False, (4, 250)),
        (0.125, False, (4, 200)),
        (0.13, False, (3, 200)),
        (0.1, True, (2, 500)),
        (1.0, False, (0, 200)),
    ],
)
def test_scores_take_a_share_of_the_minutes(seconds: float, keep: bool, expected: tuple[int, int]):
    assert affordable(4, 500, seconds, 100.0, keep=keep) == expected


@pytest.mark.parametrize(
    ("seconds", "said", "count"),
    [
        (0.001, None, 2),
        (0.3, "2 scores of 24 samples would take about 0.2 of 0.5 minutes: there is 1, of 24 samples", 1),
        (9.0, "2 scores of 24 samples would take about 7.2 of 0.5 minutes: there are none. Give more `minutes`, or "
         "use `noisekiln evaluate` afterwards", 0),
    ],
)  # fmt: skip
def test_a_run_in_minutes_says_which_scores_it_leaves_out(
    seconds: float, said: str | None, count: int, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scoring.Scoring, "_seconds_per_sample", lambda self: seconds)
    monkeypatch.setattr(scoring, "FEWEST_SAMPLES", 24)
    settings = SETTINGS.replace(score=2, minutes=0.5, images=32)
    run = Run(settings, data, tmp_path)
    events = list(run.events())
    notes = [event.text for event in events if isinstance(event, Note) and "of 24 samples" in event.text]
    assert notes == ([] if said is None else [said])
    assert len([event for event in events if isinstance(event, Score)]) == count
    assert (tmp_path / "model-best").exists() == bool(count)


def test_time_is_kept_for_the_last_score(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring.Scoring, "_seconds_per_sample", lambda self: 0.25 / SAMPLES)
    settings = SETTINGS.replace(score=1, images=None, minutes=1 / 60)
    run = Run(settings, data, tmp_path, intervals=replace(FEW, grids_at=(0.1,)))
    reserved = [run.trainer.budget.reserved for _ in run.events()]
    assert max(reserved[:2]) <= 0.25
    assert 0.25 <= reserved[-1] <= 20 / 60 + 1e-9, "with a little for the last grid, after the first one"
    assert run.scoring.seconds == 0, "no score follows"
    assert [line["share"] for line in lines(tmp_path)] == [1]


def test_speed_is_that_without_scores(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pace = Throughput(Budget(minutes=1, images=1000))
    for seconds in range(3):
        pace.add(seconds, 100 * seconds)
    pace.leave_out(30.0)
    pace.add(33.0, 300)
    assert (pace.images_per_second, pace.seconds_left, pace.mean) == (100.0, 7.0, 100.0)

    def slow(scores: SampleScores, *_: Any) -> tuple[float, float, float]:
        time.sleep(0.2)
        return 0.5, 0.1, 0.3

    left_out: list[float] = []
    monkeypatch.setattr(SampleScores, "distances", slow)
    monkeypatch.setattr(Throughput, "leave_out", lambda self, seconds: left_out.append(seconds))
    scores_of(make_run(data, tmp_path, score=2))
    assert len(left_out) == 2
    assert min(left_out) >= 0.2


# Words


def test_without_features_the_run_is_refused(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.setattr("noisekiln.evaluation.default_features.find_spec", lambda name: None)
    unlabelled = replace(data, train=replace(data.train, labels=None), class_names=())
    rare = replace(data, train=replace(data.train, labels=np.arange(len(data.train.pixels)) // 15))
    for images in (unlabelled, rare):
        with pytest.raises(
            ValueError, match=r"no classes of 10 images or more: there are no .* \"noisekiln\[evaluate\]\""
        ):
            make_run(images, tmp_path / "run", score=1, cond="none")
    assert not (tmp_path / "run").exists()
    assert isinstance(make_run(data, tmp_path / "run", score=1).scoring._scores.extractor, Classifier)


def test_weights_that_cannot_be_sampled_end_the_run(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make_run(data, tmp_path, score=4)
    averaged = run.copies.averaged

    def ruined() -> Any:
        learner = averaged()
        for weight in learner.parameters():
            weight.fill_(1e30)
        return learner

    monkeypatch.setattr(run.copies, "averaged", ruined)
    with pytest.raises(Diverged, match="samples are NaN or infinite"):
        list(run.events())


SCORE = Score(40_000, 500, "2,000 training images by efficientnet", 0.0123, 0.0012, 0.4512, is_best=True)


def test_the_line_of_a_score():
    assert describe_score(SCORE) == "score after 40,000 images: KID 0.0123 ± 0.0012, MIND 0.4512 (best so far)"
    assert describe_score(replace(SCORE, is_best=False), first=True) == (
        "score after 40,000 images: KID 0.0123 ± 0.0012, MIND 0.4512 "
        "(500 samples against 2,000 training images by efficientnet)"
    )


def test_the_end_names_the_best_model(tmp_path: Path):
    end = End("done", tmp_path, 50_000, 6.0, 0, 0, None)
    assert not any("model-best" in line for line in describe_end(end))
    assert describe_end(replace(end, best=SCORE))[-1] == (
        f"  best   {tmp_path / 'model-best'}, after 40,000 images: MIND 0.4512"
    )


def test_the_command_shows_scores(plain: Path, tmp_path: Path, cli: Command):
    words = ("--images", 32, "--batch-size", 16, "--steps", 2, "--backbone", TINY, "--curves", "none")
    done = cli("train", plain, "--out", tmp_path / "run", *words, "--score", 2)
    assert done.code == 0, done
    assert done.out.count("score after ") == 2
    assert "score after 16 images: KID " in done.flat
    assert f"({SAMPLES} samples against 22 training images by colours)" in done.flat
    assert str(tmp_path / "run" / "model-best") in done.flat.replace(" ", "")
    refused = cli("train", plain, "--out", tmp_path / "other", *words, "--score", 0)
    assert refused.code == 2
    assert "--score 0 is out of range. Give a number above 0" in refused.flat


# Several processes


def score_in_ranks(pets: str, folder: str) -> None:
    """What each of two processes runs."""
    scoring.default_extractor = lambda labels: Colours()
    scoring.SAMPLES = sample_scores.SAMPLES = 7
    for shard in (False, True):
        run = make_run(load(pets), Path(folder) / f"shard={shard}", score=2, shard=shard)
        print([score.mind for score in scores_of(run)], flush=True)
    os._exit(0)  # at exit, Python sometimes aborts while threads of torch still run


@pytest.mark.slow  # two processes
def test_processes_share_samples_and_agree(
    data: DataSet, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (scoring, sample_scores):
        monkeypatch.setattr(module, "SAMPLES", 7)
    alone = [score.mind for score in scores_of(make_run(data, tmp_path / "alone", score=2))]
    ended = [process.end(200) for process in forked_ranks(tmp_path, pets, tmp_path, function=score_in_ranks)]
    assert [code for code, _, _ in ended] == [0, 0], [err[-4000:] for _, _, err in ended]
    for shard in (False, True):
        folder = tmp_path / f"shard={shard}"
        assert [line["mind"] for line in lines(folder)] == pytest.approx(alone, rel=1e-3)
        assert json.loads((folder / "model-best" / "score.json").read_text())["mind"] == pytest.approx(min(alone), 1e-3)
    of_ranks = [out.splitlines() for _, out, _ in ended]
    assert len(of_ranks[0]) == 2
    assert of_ranks[0] == of_ranks[1], "all processes know the same distances"
