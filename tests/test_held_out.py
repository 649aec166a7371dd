"""Held-out losses under frozen noise, and the verdicts drawn from them."""

import json
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, make_images
from noisekiln.cli._watcher import Watcher
from noisekiln.data import DataSet, load, load_pairs
from noisekiln.errors import Diverged
from noisekiln.monitor.held_out import RATIOS, FixedLevel, HeldOutLoss, evaluation_record
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.verdict import Evaluation, verdict
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run

SETTINGS = Settings(images=320, batch_size=16, backbone=TINY, curves="none")
SMALL_BUDGETS = Intervals(images_per_noisy_image=50, grids_at=(0.05, 0.35))
pytestmark = pytest.mark.usefixtures("short_previews")


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def opened(settings: Settings, data: DataSet, folder: Path, intervals: Intervals = SMALL_BUDGETS) -> Run:
    return Run(settings, data, folder, intervals=intervals)


def evaluate(run: Run, images_seen: int, share: float) -> dict[str, float] | None:
    """Evaluate the run's current averaged model; returns the line for the logs."""
    run.folder.path.mkdir(exist_ok=True)
    evaluation = run.held_out.evaluate(run.copies.averaged().diffusion, images_seen, share)
    return None if evaluation is None else evaluation_record(evaluation)


def train(
    settings: Settings, data: DataSet, folder: Path, *, stop_after: int | None = None,
    intervals: Intervals = SMALL_BUDGETS,
) -> Run:  # fmt: skip
    run = opened(settings, data, folder, intervals)
    for _ in islice(run.steps(), stop_after):
        pass
    if stop_after is not None:
        run.save()
    return run


def found(folder: Path) -> list[dict[str, float]]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "held_out" in line]


# The verdict, on histories that are known


def history(held_out, train, *, images=16, spread=0.2, jitter=0.0, every=1000):
    """Evaluations with these means; images differ by far more than moments do, each moment jitters a little."""
    generator = np.random.default_rng(0)
    hardness = generator.normal(0, spread, (2, images, 1))
    evaluations = []
    for moment, means in enumerate(zip(held_out, train, strict=True), 1):
        parts = (
            mean + hard + generator.normal(0, jitter, (images, 6)) for mean, hard in zip(means, hardness, strict=True)
        )
        evaluations.append(Evaluation(every * moment, *parts))
    return evaluations


FALLING = [0.9, 0.6, 0.4, 0.3, 0.25, 0.22, 0.2, 0.19]


@pytest.mark.parametrize(
    ("held_out", "train", "trend", "since"),
    [
        (FALLING, FALLING, "improving", 5000),
        ([0.9, 0.6, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9], FALLING, "memorising", 3000),
        ([0.9, 0.6, 0.5, 0.46, 0.45, 0.45, 0.45, 0.45], FALLING, "flat", 5000),
        ([0.9, 0.6, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9], [0.9, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "worsening", 3000),
        ([0.9, 0.6, 0.7, 0.8, 0.7, 0.6, 0.4, 0.3], FALLING, "improving", 5000),  # it has recovered
        ([0.9, 0.6, 0.5, 0.55, 0.6], [0.5] * 5, "memorising", 3000),
    ],
)
def test_the_verdict_on_a_known_history(held_out, train, trend, since):
    found = verdict(history(held_out, train, jitter=1e-3))
    assert found is not None
    assert (found.trend, found.since) == (trend, since)
    assert found.advice.startswith(f"{trend} since {since:,} images: ")


def test_the_verdict_depends_on_paired_differences():
    """Images differ by 50 times the rise of the loss, but the rise is detected, because every image rises."""
    rising = [0.5, 0.4, 0.3, 0.304, 0.308, 0.31]
    found = verdict(history(rising, FALLING[:6], spread=0.5, jitter=1e-3))
    assert found is not None
    assert found.trend == "memorising"


def test_a_rise_within_its_standard_error_is_no_memorising():
    nearly = [0.5, 0.4, 0.3, 0.3, 0.3, 0.302]
    found = verdict(history(nearly, FALLING[:6], jitter=0.05))
    assert found is not None
    assert found.trend == "flat"


def test_three_images_are_enough_if_all_agree():
    found = verdict(history([0.9, 0.6, 0.5, 0.6, 0.8, 1.0], FALLING[:6], images=3, jitter=0.02))
    assert found is not None
    assert found.trend == "memorising"


def test_two_evaluations_say_nothing():
    assert verdict([]) is None
    assert verdict(history(FALLING[:2], FALLING[:2])) is None


# Evaluations


def test_a_fixed_level_draws_that_level():
    level = FixedLevel(2.0)(torch.rand(5, dtype=torch.float64))
    torch.testing.assert_close(level.nsr, torch.full((5,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(level.norm, torch.ones(5, dtype=torch.float64))


def test_the_same_model_gets_the_same_errors_and_another_one_others(data: DataSet, tmp_path: Path):
    run = opened(SETTINGS, data, tmp_path)
    first = evaluate(run, 160, 0.5)
    torch.manual_seed(5)
    assert evaluate(run, 240, 0.75) == first
    with torch.no_grad():
        for average in run.trainer.ema.tracks[0].values():
            average.add_(0.1 * torch.randn_like(average))
    assert evaluate(run, 320, 1.0) != first


@pytest.mark.slow
def test_where_memory_is_short_fewer_images_are_evaluated_at_once(data: DataSet, tmp_path: Path):
    run, sizes = opened(SETTINGS, data, tmp_path), []
    whole = evaluate(run, 160, 0.5)

    def run_short(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    run.copies.averaged().diffusion.denoiser.backbone.register_forward_pre_hook(run_short)
    assert evaluate(run, 160, 0.5) == pytest.approx(whole, rel=1e-4)
    assert max(sizes) > 2


def set_zero_output(run: Run) -> None:
    """Make the network of the averaged model return zeros."""
    for average in run.trainer.ema.tracks[0].values():
        average.zero_()


def test_a_network_of_zero_output_has_an_error_of_one_at_every_level(data: DataSet, tmp_path: Path):
    """The v of unit-variance images has variance 1, whatever the level; here up to the chance of few images."""
    run = opened(SETTINGS, data, tmp_path)
    set_zero_output(run)
    line = evaluate(run, 160, 0.5)
    assert line is not None
    assert set(line) == {f"{kind}{at}" for kind in ("held_out", "train_frozen") for at in ("", *names())}
    assert line["train_frozen"] == pytest.approx(1, abs=0.15)
    assert line["held_out"] == pytest.approx(np.mean([line[f"held_out{name}"] for name in names()]), rel=1e-4)


def test_errors_are_those_of_each_image_over_its_noises(tmp_path: Path):
    """With zero output, v is wrong by alpha^2 + sigma^2 x^2: at much noise that shows how strong each image is."""
    generator = np.random.default_rng(0)
    strength = np.linspace(0, 120, 40)[:, None, None, None]
    images = load((128 + strength * generator.choice([-1, 1], (40, 8, 8, 3))).astype(np.uint8))
    run = opened(SETTINGS.replace(images=1200), images, tmp_path)
    set_zero_output(run)
    seen: list[torch.Tensor] = []
    model = run.copies.averaged().diffusion
    model.denoiser.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    evaluate(run, 600, 0.5)
    assert run.held_out.noisy_images == 24  # six noises on each of four images
    assert len(torch.cat(seen).unique(dim=0)) == 2 * 6 * 24  # and no noise twice
    assert images.held_out is not None
    squares = model.codec.encode(torch.from_numpy(images.held_out.pixels)).square().flatten(1).mean(1)
    expected = (1 + 25 * squares.sort().values.numpy()) / 26
    found_now = np.sort(run.held_out.history[0].held_out[:, RATIOS.index(5.0)])
    np.testing.assert_allclose(found_now, expected, atol=0.1)


def test_held_out_images_are_held_out_and_the_others_trained_on(data: DataSet, tmp_path: Path):
    assert data.held_out is not None
    run = train(SETTINGS, data, tmp_path)
    swapped = replace(data, train=data.held_out, held_out=data.train)
    held_out_loss = HeldOutLoss(tmp_path, swapped, run.settings, images_per_noisy_image=50)
    held_out_loss.evaluate(run.copies.averaged().diffusion, 320, 1.0)
    _, held_out, trained = run.held_out.history[-1]
    np.testing.assert_array_equal(held_out_loss.history[-1].held_out, trained)
    np.testing.assert_array_equal(held_out_loss.history[-1].train, held_out)
    assert not np.allclose(held_out, trained)


def test_evaluation_keeps_no_activations(data: DataSet, tmp_path: Path):
    run, enabled = opened(SETTINGS, data, tmp_path), []
    model = run.copies.averaged().diffusion.requires_grad_(True)
    model.denoiser.backbone.register_forward_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
    evaluate(run, 160, 0.5)
    assert enabled == [False] * 12


def names() -> list[str]:
    return [f"/nsr_{ratio:g}" for ratio in RATIOS]


def test_images_are_evaluated_with_their_own_classes(data: DataSet, tmp_path: Path):
    """Conditions are never dropped in an evaluation."""
    run = train(SETTINGS, data, tmp_path)
    model = run.copies.averaged().diffusion
    assert model.conditioner is not None
    classes = model.conditioner.get_parameter("vectors.weight")
    before = run.held_out.evaluate(model, 320, 1.0)
    assert before is not None
    with torch.no_grad():
        classes[2] += 10
    assert evaluation_record(run.held_out.evaluate(model, 320, 1.0)) == evaluation_record(before)
    with torch.no_grad():
        classes[:2] += 10
    assert evaluation_record(run.held_out.evaluate(model, 320, 1.0)) != evaluation_record(before)


def test_evaluations_at_their_times(data: DataSet, tmp_path: Path):
    run = train(SETTINGS, data, tmp_path)
    assert [line["images_seen"] for line in found(tmp_path)] == [16, 48, 96, 144, 192, 240, 288, 320]
    assert found(tmp_path)[-1]["share"] == 1
    assert run.held_out.noisy_images == 6
    assert run.held_out.verdict is not None
    again = opened(SETTINGS, data, tmp_path)
    assert again.held_out.verdict == run.held_out.verdict
    one, other = again.held_out.history[3], run.held_out.history[3]
    np.testing.assert_allclose(one.held_out, other.held_out, rtol=1e-5)
    assert one.held_out.shape == (2, len(RATIOS))


@pytest.mark.slow
def test_evaluating_changes_nothing_in_training(data: DataSet, tmp_path: Path):
    with_it = train(SETTINGS, data, tmp_path / "with")
    without = train(SETTINGS, data, tmp_path / "without", intervals=Intervals(images_per_noisy_image=10**9))
    assert len(with_it.held_out.history) == 8
    assert without.held_out.history == []
    assert not (tmp_path / "without" / "held_out.json").exists()
    assert all(map(torch.equal, with_it.learner.parameters(), without.learner.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False])
def test_interrupted_and_resumed_finds_the_same(data: DataSet, tmp_path: Path, saved: bool):
    train(SETTINGS, data, tmp_path / "one")
    run = opened(SETTINGS, data, tmp_path / "other")
    steps = run.steps()
    list(islice(steps, 5))
    if saved:
        run.save()
    else:
        list(islice(steps, 1))  # with an evaluation after the last checkpoint, to be forgotten
    steps.close()
    train(SETTINGS, data, tmp_path / "other")
    one, other = ((tmp_path / name / "held_out.json").read_text() for name in ("one", "other"))
    assert one == other
    assert [line["images_seen"] for line in found(tmp_path / "other")] == [16, 48, 96, 144, 192, 240, 288, 320]


def test_a_longer_budget_keeps_the_points(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path)
    longer = train(SETTINGS.replace(images=640), data, tmp_path)
    assert longer.held_out.noisy_images == 6
    assert [one.images_seen for one in longer.held_out.history][8:] == [384, 480, 576, 640]


@pytest.mark.slow  # six runs
def test_text_tasks_pairs_and_adapters(captioned: Path, data: DataSet, tmp_path: Path):
    texts, few = load(captioned), SETTINGS.replace(images=64)
    train_briefly = partial(train, intervals=Intervals(images_per_noisy_image=16, grids_at=(), held_out_at=(0.5,)))
    assert len(train_briefly(few, texts, tmp_path / "text").held_out.history) == 2
    for task in ("inpaint", "colorize", "upscale(factor=2)"):
        run = train_briefly(few.replace(task=task), data, tmp_path / task)
        assert len(run.held_out.history) == 2, task
    for side in ("from", "to"):
        make_images(tmp_path / "pairs" / side, seed=len(side))
    pairs = load_pairs(tmp_path / "pairs")
    assert len(train_briefly(few.replace(task="translate"), pairs, tmp_path / "translate").held_out.history) == 2
    adapted = few.replace(start=str(tmp_path / "text"), lora=2, backbone=None)
    assert len(train_briefly(adapted, texts, tmp_path / "adapted").held_out.history) == 2


def test_an_objective_with_another_aim_has_none(data: DataSet, tmp_path: Path, class_run: Path):
    """The denoising loss of a student that learns to take large steps says nothing about overfitting."""
    distilling = f"{Path(__file__).parent / 'toys' / 'distilling_objective.py'}:Distilling"
    run = train(SETTINGS.replace(objective=distilling, teacher=str(class_run)), data, tmp_path)
    assert run.finished
    assert not found(tmp_path)
    assert run.held_out.verdict is None


def test_few_images_and_small_budgets_have_none(data: DataSet, tmp_path: Path):
    few = load(np.random.default_rng(0).integers(0, 255, (9, 8, 8, 3)).astype(np.uint8))
    assert few.held_out is None
    assert train(SETTINGS, few, tmp_path / "few").held_out.history == []
    assert train(SETTINGS.replace(images=96), data, tmp_path / "short").held_out.history == []
    assert found(tmp_path / "short") == []


def test_points_follow_the_budget_up_to_a_limit(data: DataSet, tmp_path: Path):
    run, counts = opened(SETTINGS, data, tmp_path), []
    for images in (10_000, 60_000, 10**9):
        held_out = HeldOutLoss(tmp_path, data, run.settings)
        held_out.evaluate(run.copies.averaged().diffusion, images // 2, 0.5)
        (tmp_path / "held_out.json").unlink()
        counts.append(held_out.noisy_images)
    assert counts == [4, 24, 128]


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"noisy_images": 3, "evaluations": [{"images_seen": 1}]}', "\x00", "ragged"]
)
def test_damaged_evaluations_do_not_keep_a_run_from_going_on(data: DataSet, tmp_path: Path, damage: str):
    file, row = tmp_path / "held_out.json", [0.5] * len(RATIOS)
    ragged = [{"images_seen": seen, "held_out": [row] * seen, "train": [row]} for seen in (1, 2)]
    text = json.dumps({"noisy_images": 3, "evaluations": ragged}) if damage == "ragged" else damage
    file.write_text(text)
    run = opened(SETTINGS, data, tmp_path.parent / f"{tmp_path.name}-run")
    loss = HeldOutLoss(tmp_path, data, run.settings)
    assert loss.damage.startswith("held_out.json is damaged (")
    assert loss.damage.endswith("): the run starts a new comparison of held-out losses")
    assert (loss.history, loss.verdict) == ([], None)
    run.held_out.damage = loss.damage
    assert loss.damage in run.warnings


def test_an_evaluation_that_is_not_finite_is_divergence(data: DataSet, tmp_path: Path):
    run = opened(SETTINGS, data, tmp_path)
    averaged = run.copies.averaged().diffusion
    with torch.no_grad():
        for weight in averaged.parameters():
            weight.fill_(1e30)
    with pytest.raises(Diverged, match="After 160 images the loss of an evaluation is not finite"):
        run.held_out.evaluate(averaged, 160, 0.5)
    assert not (tmp_path / "held_out.json").exists()


def test_the_watcher_prints_the_verdict(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = {"images": 320, "batch_size": 16, "backbone": TINY, "curves": "none"}
    with Watcher(line_seconds=0.0) as watcher:
        nk.train(pets, out=tmp_path, watch=watcher, intervals=SMALL_BUDGETS, **words)
    final = HeldOutLoss(tmp_path, load(pets), watcher.plan.settings).verdict
    assert final is not None
    out = capsys.readouterr().out
    assert f"held-out images: {final.advice}" in out
    shown = [line for line in out.splitlines() if "/s · loss" in line]
    assert any(line.split(" · ")[-2] in ("improving", "flat", "memorising") for line in shown)
