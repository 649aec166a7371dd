"""Evaluation: the same answer whatever the order, the batch and the cache; planted copies; mistakes in words."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import noisekiln as nk
from conftest import make_images
from noisekiln.components.spec import build
from noisekiln.data import Split, load
from noisekiln.distributed.ranks import Ranks
from noisekiln.evaluation import class_scores as class_scores_module
from noisekiln.evaluation import evaluation_steps, score_table
from noisekiln.evaluation.choose_features import choose_features
from noisekiln.evaluation.coarse_density import coarse_density
from noisekiln.evaluation.compute import EvaluationProgress, sample_images
from noisekiln.evaluation.conclusions import conclude
from noisekiln.evaluation.copying import find_copies, small_pixels
from noisekiln.evaluation.evaluated_model import model_key, open_model
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.evaluation.evaluation_options import EvaluationOptions
from noisekiln.evaluation.evaluation_report import grid
from noisekiln.evaluation.evaluation_steps import Sampled, evaluate_samples
from noisekiln.evaluation.fitted_classifier import fitted_classifier
from noisekiln.evaluation.real_images import choose_real_images, draw_by_content
from noisekiln.evaluation.requested_samples import request_samples
from noisekiln.evaluation.score_table import describe_score, similarity_scores
from noisekiln.features.base import FeatureExtractor
from noisekiln.features.classifier import Classifier
from noisekiln.metrics.estimated import Estimated
from noisekiln.predictions import PREDICTIONS
from noisekiln.runs.evaluate import is_model
from noisekiln.tasks.base import Task
from noisekiln.training.checkpoints import load_newest

OWN = """
from dataclasses import dataclass
from noisekiln.features.base import FeatureExtractor

@dataclass(frozen=True)
class Blocks(FeatureExtractor):
    def features_of(self, images):
        x = images.permute(0, 3, 1, 2).float() / 255
        return x.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(1)

    def describe(self):
        return {"name": "means of 4x4 pixels", "version": "1", "preprocessing": "none"}
"""


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """An extractor that costs nothing."""
    file = tmp_path_factory.mktemp("features") / "own.py"
    file.write_text(OWN)
    return f"{file}:Blocks"


@pytest.fixture
def run(class_run, tmp_path):
    """A trained run that may be written to."""
    return shutil.copytree(class_run, tmp_path / "run")


def finished(steps):
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def numbers(report):
    return {name: (score.value, score.real) for name, score in report.scores.items()}


def images_of(count, seed=0, size=8):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_the_command_prints_a_table_and_writes_a_page(cli, run, blocks):
    result = cli("evaluate", run, "-n", 12, "--steps", 2, "--features", blocks)
    assert result.code == 0, result
    for text in ("Fréchet distance", "KID", "MIND", "density", "coverage", "memorised", "real images", "last step"):
        assert text in result.flat
    for question in ("quality: ", "variety: ", "copying: "):
        assert question in result.flat
    assert "scores of 12 samples are mostly chance; from 200 on they mean something" in result.flat
    saved = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert set(saved["scores"]["mind"]) >= {"value", "spread", "real", "real_spread"}
    assert saved["features"]["name"] == "means of 4x4 pixels"
    assert saved["images_seen"] == 1600
    assert saved["scores"]["mind"]["value"] != saved["raw_scores"]["mind"]["value"]
    page = (run / "evaluation.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 5 - (saved["scores"].get("memorised") is None)
    assert "<script" not in page


def test_neither_files_nor_batches_nor_the_cache_change_a_score(plain_run, plain, blocks, tmp_path, monkeypatch):
    words = {"count": 12, "steps": 2, "features": blocks, "model_weights": "averaged"}
    first = nk.evaluate(plain_run, out=tmp_path / "first", **words)
    other = tmp_path / "other"
    for place, file in enumerate(sorted(plain.rglob("*.png"), reverse=True)):
        other.mkdir(exist_ok=True)
        shutil.copy(file, other / f"{place:03d}.png")
    again = nk.evaluate(plain_run, against=other, out=tmp_path / "again", batch_size=5, **words)
    assert again.features == first.features
    for name in ("frechet", "kid", "mind", "density", "coverage", "diversity"):
        assert numbers(again)[name] == pytest.approx(numbers(first)[name], abs=1e-4), name

    def forbidden(*_, **__):
        raise AssertionError("sampled again")

    monkeypatch.setattr("noisekiln.evaluation.compute.generate_on_ranks", forbidden)
    cached = nk.evaluate(plain_run, out=tmp_path / "first", **words)
    assert numbers(cached) == numbers(first)
    with pytest.raises(AssertionError, match="sampled again"):
        nk.evaluate(plain_run, out=tmp_path / "first", **words | {"seed": 1})


def test_an_interrupted_evaluation_goes_on_after_the_samples_that_are_kept(plain_run, blocks, tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.evaluation.compute.KEPT_TOGETHER", 4)
    words = {"count": 12, "steps": 2, "features": blocks, "model_weights": "averaged"}

    def interrupt(progress):
        if progress.part == "samples" and progress.done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nk.evaluate(plain_run, out=tmp_path / "one", watch=interrupt, **words)
    made = []
    real = evaluation_steps.sample_images.__globals__["generate_on_ranks"]
    monkeypatch.setattr(
        "noisekiln.evaluation.compute.generate_on_ranks",
        lambda model, conditions, *rest, **more: made.append(len(conditions)) or real(model, conditions, *rest, **more),
    )
    went_on = nk.evaluate(plain_run, out=tmp_path / "one", **words)
    assert made == [4]
    whole = nk.evaluate(plain_run, out=tmp_path / "two", **words)
    assert numbers(went_on) == numbers(whole)


def test_damaged_files_of_the_cache_are_made_again(tmp_path):
    cache = EvaluationCache(tmp_path)
    cache.keep("a", torch.arange(6))
    assert torch.equal(cache.read("a", (6,), torch.int64), torch.arange(6))
    assert torch.equal(cache.read("a", (None,), torch.int64), torch.arange(6))
    for shape, dtype in (((5,), torch.int64), ((6, 1), torch.int64), ((6,), torch.uint8)):
        assert cache.read("a", shape, dtype) is None  # of another size or type than was asked for
    file = tmp_path / "a.safetensors"
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for damaged in (whole[:-8], flipped, whole.replace(b"array", b"other"), b"\x93NUMPY", b"{}", b""):
        assert damaged != whole
        file.write_bytes(damaged)
        assert cache.read("a", (None,), torch.int64) is None
    assert EvaluationCache(None).read("a", (6,), torch.int64) is None


def test_the_cache_deletes_what_was_not_used_for_longest(tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.evaluation.evaluation_cache.MOST_BYTES", 3000)
    cache = EvaluationCache(tmp_path)
    other = tmp_path / "model.safetensors"  # of the user, in a folder that has the name of the cache
    other.write_bytes(bytes(10_000))
    (tmp_path / f"samples-{20 * 'f'}.safetensors").symlink_to("missing")
    for number, key in enumerate("abcd"):
        cache.keep(f"samples-{20 * key}", torch.zeros(100))
        os.utime(tmp_path / f"samples-{20 * key}.safetensors", (number, number))
    cache.keep(f"features-{20 * 'e'}", torch.zeros(400))
    assert other.exists()
    assert [file.stem[-1] for file in sorted(tmp_path.glob("*-*"))] == ["e", "c", "d", "f"]


def test_the_raw_weights_are_those_of_the_newest_checkpoint(class_run):
    opened = open_model(class_run, "raw").models["raw"].state_dict()
    averaged = open_model(class_run, "averaged").models["averaged"].state_dict()
    saved = load_newest(class_run / "checkpoints").tensors
    names = [name for name in opened if f"module.diffusion.{name}" in saved]
    assert len(names) > 10
    assert all(torch.equal(opened[name], saved[f"module.diffusion.{name}"]) for name in names)
    assert not all(torch.equal(opened[name], averaged[name]) for name in names)


def test_samples_are_given_the_classes_of_the_data(class_run, pets, tmp_path):
    model, data = nk.load(class_run), load(pets)
    requested = request_samples(model, data.train, data.class_names, 100, seed=0)
    share = requested.labels.double().mean()
    assert share == pytest.approx(data.train.labels.mean(), abs=0.03)
    assert [int(each) for each in requested.labels] == [
        data.class_names.index(each) if isinstance(each, str) else int(each) for each in requested.conditions
    ]


def test_classes_are_those_of_training_whatever_the_other_images_are_called():
    trained, other = images_of(40, seed=1), images_of(40, seed=2)
    learned = replace(load((trained, np.arange(40) % 2)), class_names=("cat", "dog"))
    for names in ((), ("dog", "cat")):
        against = replace(load(other), class_names=names)
        assert choose_real_images(10, 0, learned, against).class_names == ("cat", "dog")
        assert choose_real_images(10, 0, None, against).class_names == names


def test_samples_of_a_model_without_a_run_are_given_the_captions_of_other_images(text_run, captioned):
    model, data = nk.load(text_run), load(captioned)
    real = choose_real_images(12, 0, None, data)
    requested = request_samples(model, real.pool, real.class_names, real.count, 0)
    assert not requested.notes
    assert set(requested.conditions) == {"a red picture", "a blue picture"}
    assert (
        "blue"
        in requested.conditions[int(torch.from_numpy(real.pool.pixels[:12, ..., 2]).float().mean((1, 2)).argmax())]
    )


def test_sources_that_training_has_not_seen_come_first():
    model = SimpleNamespace(conditioner=None, task=build(Task, "upscale(factor=2)"))
    data = load(images_of(40, seed=7))
    held_out = {image.tobytes() for image in data.held_out.pixels}
    requested = request_samples(model, data.train, (), 12, 0, unseen=data.held_out)
    assert requested.unseen == len(held_out) == 4
    assert [original.numpy().tobytes() in held_out for original in requested.originals] == [True] * 4 + [False] * 8
    assert request_samples(model, data.train, (), 12, 0).unseen == 0
    assert request_samples(model, data.train, (), 3, 0, unseen=data.held_out).unseen == 3


@pytest.mark.parametrize(("unseen", "copies"), [(10, 0.0), (0, None)])
def test_restored_training_images_are_no_copies(blocks, unseen, copies):
    """PSNR and copies are of images that training has not seen."""
    data = load(images_of(200, seed=8))
    real = choose_real_images(20, 0, data, None)
    originals = torch.from_numpy(np.concatenate([real.held_out.pixels[:unseen], real.training.pixels[: 20 - unseen]]))
    images = originals.clone()
    images[:unseen] = torch.from_numpy(images_of(unseen, seed=9))  # bad
    sampled = Sampled("it", {"samples": images}, originals=originals, unseen=unseen)
    options = EvaluationOptions(count=20, fast=True)
    extractor = build(FeatureExtractor, blocks)
    steps = evaluate_samples(sampled, real, extractor, options, cache=EvaluationCache(None))
    report = finished(steps)
    memorised = report.scores.get("memorised")
    assert (memorised and memorised.value) == copies
    assert (report.scores["psnr"].value < 15) == (unseen > 0)
    note = "PSNR, SSIM and copies are of 10 samples" if unseen else "no images are held out"
    assert any(note in each for each in report.notes)


def test_classes_are_tested_on_images_that_no_classifier_has_seen(monkeypatch):
    images, labels = images_of(200, seed=10), np.arange(200) % 2
    real = choose_real_images(40, 0, load({"images": images, "labels": labels}), None)
    learned = []

    class Noting(Classifier):
        def fit(self, images, labels=None):
            learned.append(images)
            return super().fit(images, labels)

    monkeypatch.setattr(class_scores_module, "Classifier", Noting)
    samples, requested = torch.from_numpy(images_of(40, seed=11)), torch.arange(40) % 2
    scores, notes = class_scores_module.class_scores(samples, requested, real, EvaluationCache(None))
    assert [score.name for score in scores] == ["accuracy", "cas"]
    assert not notes
    held_out = {image.tobytes() for image in real.held_out.pixels}
    assert sorted(map(len, learned)) == [40, 40, 180]
    assert not held_out & {image.numpy().tobytes() for part in learned for image in part}
    assert all(score.spread > 0 for score in scores)


def test_a_classifier_is_fitted_once_and_by_the_first_process(tmp_path, monkeypatch):
    images, labels = torch.from_numpy(images_of(40, seed=14)), torch.arange(40) % 2
    cache, own = EvaluationCache(tmp_path), Classifier(side=8)
    first = fitted_classifier(own, images, labels, cache)

    def forbidden(*_, **__):
        raise AssertionError("fitted again")

    monkeypatch.setattr(Classifier, "fit", forbidden)
    other = Ranks(1, 2)
    monkeypatch.setattr(Ranks, "barrier", lambda self: None)
    for place in (cache, EvaluationCache(tmp_path, other)):
        assert fitted_classifier(own, images, labels, place).describe() == first.describe()
    for settings, part in ((Classifier(side=16), images), (own, images.flip(0))):
        with pytest.raises(AssertionError, match="fitted again"):
            fitted_classifier(settings, part, labels, cache)
    real = choose_real_images(20, 0, load({"images": images.numpy(), "labels": labels.numpy()}), None)
    with pytest.raises(AssertionError, match="fitted again"):
        choose_features("classifier", None, real, cache)


def test_class_scores_fall_with_the_share_of_wrong_classes():
    labels = np.arange(200) % 2
    images = images_of(200, seed=13) // 2 + (120 * labels[:, None, None, None]).astype(np.uint8)
    real = choose_real_images(60, 0, load({"images": images, "labels": labels}), None)
    samples, requested = torch.from_numpy(images[:60]), torch.from_numpy(labels[:60])
    cache = EvaluationCache(None)
    for classes, least, most in ((requested, 0.95, 1.0), (1 - requested, 0.0, 0.05)):
        accuracy, cas = class_scores_module.class_scores(samples, classes, real, cache)[0]
        assert least <= accuracy.value <= most
        assert least <= cas.value <= most
        assert cas.real > 0.95
    few = class_scores_module.class_scores(samples[:12], requested[:12], real, cache)
    assert [score.name for score in few[0]] == ["accuracy"]
    assert few[1][0].endswith("10 images of each class or more: evaluate more samples")


def test_what_is_left_out_of_the_classes_is_said():
    images, cache = images_of(60, seed=12), EvaluationCache(None)
    labels = np.arange(60) % 10
    real = choose_real_images(20, 0, load({"images": images, "labels": labels}), None)
    samples, requested = torch.from_numpy(images[:20]), torch.from_numpy(labels[:20])
    assert class_scores_module.class_scores(samples, None, real, cache) == ([], [])
    few = class_scores_module.class_scores(samples, requested, real, cache)
    assert few == (
        [],
        ["class accuracy and CAS are left out: a classifier learns from 10 images of each class or more"],
    )
    unknown = choose_real_images(20, 0, None, load(images))
    assert "they need held-out images" in class_scores_module.class_scores(samples, requested, unknown, cache)[1][0]


def test_the_key_of_a_model_has_all_that_its_samples_depend_on(class_run):
    keys = {model_key(nk.load(class_run)) for _ in range(2)}
    model = nk.load(class_run)
    model.denoiser.prediction = PREDICTIONS["eps" if model.denoiser.prediction.name != "eps" else "v"]
    keys.add(model_key(model))
    model = nk.load(class_run)
    model.sampling = replace(model.sampling, steps=7)
    keys.add(model_key(model))
    later = nn.Module()  # a cascade has the sampling of its first stage
    later.stages = nn.ModuleList([nk.load(class_run), model])
    keys.add(model_key(later))
    assert len(keys) == 4


def test_planted_copies_are_found_and_duplicates_do_not_raise_them(tmp_path):
    training, others = images_of(300, seed=1), images_of(200, seed=2)
    data = load(training)
    samples = torch.from_numpy(np.concatenate([data.train.pixels[:50], others[:150]]))
    copies = find_copies(samples, data.train, data.held_out)
    assert copies.score.value == pytest.approx(0.25, abs=0.01)
    assert {row for row, _ in copies.pairs} <= set(range(50))
    assert all(row == image for row, image in copies.pairs)
    twice = load(np.concatenate([training, training[:100]]))
    assert find_copies(torch.from_numpy(others), twice.train, None).score.value == 0


def test_too_few_training_images_tell_nothing_of_copies():
    assert find_copies(torch.from_numpy(images_of(20)), load(images_of(12, seed=1)).train, None) is None


def test_images_are_evaluated_as_samples(blocks):
    real, other = images_of(80, seed=3), images_of(40, seed=4)
    report = nk.evaluate(other, against=real, count=30, features=blocks)
    assert report.count == 30
    assert report.scores["density"].value > 0.7
    bad = nk.evaluate(np.zeros_like(other), against=real, count=30, features=blocks)
    assert bad.scores["density"].value == 0
    assert {each.question: each.grade for each in bad.conclusions}["quality"] == "poor"
    assert bad._repr_html_().startswith("<iframe")


@pytest.mark.parametrize(("name", "ours"), [("n", "count"), ("num_samples", "count"), ("reference", "against")])
def test_names_from_elsewhere_are_answered_with_those_of_evaluate(name, ours):
    with pytest.raises(ValueError, match=f"It is `{ours}` here"):
        nk.evaluate(images_of(20), **{name: 20})


def test_too_few_samples_are_refused_in_words(blocks):
    with pytest.raises(ValueError, match=r"9 samples: 10 are needed to compute a score, and from 200 on it means"):
        nk.evaluate(images_of(9), against=images_of(80), features=blocks)


def test_the_report_of_samples_is_not_written_among_them(cli, blocks, tmp_path, plain, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = shutil.copytree(plain, tmp_path / "samples")
    before = sorted(samples.rglob("*"))
    result = cli("evaluate", samples, "--against", plain, "--features", blocks, "-n", 10)
    assert result.code == 0, result
    assert "look at runs/evaluation/evaluation.html" in result.flat
    assert sorted(samples.rglob("*")) == before


def test_a_folder_of_images_with_a_class_called_model_holds_samples(tmp_path, class_run, plain):
    make_images(tmp_path, classes=("model", "car"))
    places = (tmp_path, plain, class_run, class_run / "model", tmp_path / "missing")
    assert [is_model(place) for place in places] == [False, False, True, True, True]


def test_the_choice_of_samples_depends_on_their_content(blocks):
    real, made = images_of(80, seed=3), images_of(60, seed=4)
    one, two = (nk.evaluate(each, against=real, count=12, features=blocks) for each in (made, made[::-1].copy()))
    assert numbers(one) == numbers(two)


def test_settings_of_sampling_may_be_objects(class_run, blocks, tmp_path):
    words = {"sampler": nk.DDIM(eta=0.5), "guidance": nk.ClassifierFree(3.0), "schedule": nk.Cosine()}
    report = nk.evaluate(class_run, count=10, steps=1, features=blocks, out=tmp_path, model_weights="averaged", **words)
    saved = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))["sampling"]
    assert saved == report.sampling
    assert (saved["sampler"], saved["guidance"], saved["schedule"]) == (
        "ddim(eta=0.5)", "classifier_free(scale=3.0)", "cosine",
    )  # fmt: skip


def test_a_run_is_evaluated_against_other_images(plain_run, blocks, tmp_path):
    grey = np.random.default_rng(5).integers(0, 256, (60, 20, 20)).astype(np.uint8)
    report = nk.evaluate(plain_run, against=grey, count=10, steps=2, features=blocks, out=tmp_path)
    assert "other images than those of training" in report.real
    assert report.scores["mind"].value > report.scores["mind"].real


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"source": "runs/none"}, r"There is no folder 'runs/none'\. Give the folder of a run"),
        ({"features": "efficientnot"}, r"There is no .*efficientnot"),
        ({"weights": "file.pt"}, r"`weights=file\.pt` was given without a network that reads this file"),
        ({"against": images_of(8)}, r"it has 8 images, and one half is compared with the other: 20 are needed"),
        ({"count": 9}, r"`count=9` is out of range\. Give 10 or more"),
        ({"out": __file__}, r"report was to be written into .*test_evaluation\.py, and .* is no folder\. Give another"),
        ({"cuont": 3}, r"There is no option called 'cuont'\. Did you mean 'count'"),
        ({"model_weights": "best"}, r"model_weights"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(plain_run, words, message, tmp_path):
    words = {"source": plain_run, "out": tmp_path} | words
    with pytest.raises(ValueError, match=message):
        nk.evaluate(words.pop("source"), **words)


def test_a_run_without_a_model_and_a_model_without_data_are_refused(plain_run, tmp_path, cli):
    run = shutil.copytree(plain_run, tmp_path / "run")
    shutil.rmtree(run / "model")
    with pytest.raises(ValueError, match=r"is not a run: it holds no model/model\.json"):
        nk.evaluate(run)
    model = shutil.copytree(plain_run / "model", tmp_path / "alone" / "model")
    with pytest.raises(
        ValueError, match=r"model is no run, so it is unknown which images it learned\. Give real images"
    ):
        nk.evaluate(model)
    with pytest.raises(ValueError, match=r"a model in memory has one kind of weights"):
        nk.evaluate(nk.load(plain_run), against=images_of(30), model_weights="raw")
    with pytest.raises(ValueError, match=r"is no model, so it was taken for samples; they need real images"):
        nk.evaluate(images_of(30))


def test_data_that_moved_are_asked_for(tmp_path, blocks):
    data = make_images(tmp_path / "data")
    run = tmp_path / "run"
    tiny = "unet(widths=(32,),blocks=(1,),patch=1,condition=32)"
    nk.train(str(data), out=run, images=16, batch_size=8, backbone=tiny, curves="none")
    data.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"cannot be read where training found them.*Give the same images.*`against`"):
        nk.evaluate(run, features=blocks)
    report = nk.evaluate(run, against=tmp_path / "moved", features=blocks, count=10, steps=1)
    assert any("copies are not looked for" in note for note in report.notes)


def test_the_choice_of_real_images_depends_on_their_content():
    images = images_of(50, seed=6)
    one, two = (choose_real_images(15, 0, load(part), None) for part in (images, images[::-1].copy()))
    assert (one.pool.pixels == two.pool.pixels).all()
    other = choose_real_images(15, 1, load(images), None)
    assert not (one.pool.pixels == other.pool.pixels).all()
    assert len(one.pool) == 30


def score(name, value, real, spread=0.0):
    return describe_score(name, Estimated(value, spread), None if real is None else Estimated(real, 0.0))


@pytest.mark.parametrize(
    ("values", "grades"),
    [
        ((0.95, 0.9, 0.0), ("good", "good", "good")),
        ((0.6, 0.1, 0.04), ("fair", "poor", "fair")),
        ((0.2, 0.6, 0.5), ("poor", "fair", "poor")),
    ],
)
def test_conclusions(values, grades):
    density, coverage, memorised = values
    scores = {
        "density": score("density", density, 1.0, 0.005),
        "coverage": score("coverage", coverage, 1.0, 0.005),
        "memorised": score("memorised", memorised, 0.0, 0.005),
    }
    found = {each.question: each.grade for each in conclude(scores)}
    assert found == dict(zip(("quality", "variety", "copying"), grades, strict=True))


def test_samples_that_lack_details_alone_are_fair():
    scores = {"density": score("density", 0.02, 1.0), "coverage": score("coverage", 0.02, 1.0)}
    for coarse, grade, said in ((None, "poor", False), (0.9, "fair", True), (0.1, "poor", False)):
        quality, *_ = conclude(scores, None if coarse is None else score("density", coarse, 1.0))
        assert (quality.grade, "samples are grainy or soft" in quality.text) == (grade, said)
    for density, coarse in ((0.85, 0.55), (0.55, 0.55), (0.6, 0.7)):
        scores = {"density": score("density", density, 1.0), "coverage": score("coverage", 0.5, 1.0)}
        assert "details" not in conclude(scores, score("density", coarse, 1.0))[0].text
    good = {"density": score("density", 0.95, 1.0), "coverage": score("coverage", 0.9, 1.0)}
    assert "details" not in conclude(good, score("density", 0.9, 1.0))[0].text


def mean_color_of_squares(images, part):
    """Features that see squares of 8 pixels, and grain within them."""
    x = images.double().unflatten(1, (3, 8)).unflatten(3, (3, 8))
    yield EvaluationProgress(part, 0, 1)
    return torch.cat([x.mean((2, 4)).flatten(1), x.std((2, 4)).flatten(1)], 1)


def test_density_without_details_sees_shapes_and_no_grain():
    random = np.random.default_rng(0)
    blocks = torch.from_numpy(random.integers(60, 200, (90, 3, 3, 1)))
    pool = blocks[:60].repeat_interleave(8, 1).repeat_interleave(8, 2)
    halving = (np.arange(30), np.arange(30, 60))
    grain = torch.from_numpy(random.normal(0, 25, pool[:30].shape))

    def density(samples):
        steps = coarse_density(
            samples.clamp(0, 255).to(torch.uint8), pool.to(torch.uint8), halving, mean_color_of_squares
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    grainy = density(pool[30:] + grain)
    others = density(255 - 4 * pool[30:] % 256)
    assert grainy.value > 0.7 * grainy.real > 0.5
    assert others.value < 0.3 * grainy.value
    assert density(pool[:30, :20, :20]) is None, "too little is left of small images"


def test_missing_kinds_are_blamed_only_beyond_the_error():
    few, missing = (
        {"density": score("density", 0.04, 1.0, 0.01), "coverage": score("coverage", coverage, 1.0, 0.01)}
        for coverage in (0.03, 0.001)
    )
    texts = [next(each.text for each in conclude(scores) if each.question == "variety") for scores in (few, missing)]
    assert ["too few samples look real" in text for text in texts] == [True, False]


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (64, 1024), (1024, 1024), (2048, 100)])
def test_grids_of_images_of_any_size_fit_on_a_page(size):
    images = torch.zeros(12, *size, 3, dtype=torch.uint8)
    for columns in (16, 8):
        picture = grid(images, columns)
        assert picture.width <= 1930
        assert picture.height <= 12 / 2 * 260
    assert grid(images[:1]).width <= 970


def test_large_images_are_computed_with_in_parts(monkeypatch):
    """1,000 images of 256 x 256 as floats in one piece, ten times in ssim, would be 15 GB."""
    samples, originals = (torch.from_numpy(images_of(30, seed=seed, size=16)) for seed in (0, 1))
    whole, pixels = similarity_scores(samples, originals), small_pixels(samples)
    monkeypatch.setattr(score_table, "PIXELS_AT_ONCE", 16 * 16 * 3 * 4)
    seen = []
    for name in ("psnr", "ssim"):
        real = getattr(score_table, name)
        monkeypatch.setattr(score_table, name, lambda a, b, real=real: seen.append(len(a)) or real(a, b))
    assert [score.value for score in similarity_scores(samples, originals)] == [
        pytest.approx(score.value) for score in whole
    ]
    assert max(seen) == 4
    assert torch.equal(small_pixels(samples), pixels)


def test_samples_that_are_all_alike_have_no_variety():
    scores = {"density": score("density", 1, 1), "coverage": score("coverage", 1, 1)}
    for value, grade in ((0.3, "poor"), (0.7, "good"), (1.2, "good")):
        found = conclude(scores | {"diversity": score("diversity", value, 1.0)})
        assert {each.question: each.grade for each in found}["variety"] == grade


def test_copies_that_held_out_images_have_too_are_no_copies():
    scores = {"density": score("density", 1, 1), "coverage": score("coverage", 1, 1)}
    scores["memorised"] = score("memorised", 0.1, 0.09, 0.01)
    assert {each.question: each.grade for each in conclude(scores)}["copying"] == "good"
    unknown = conclude({name: each for name, each in scores.items() if name != "memorised"})
    assert {each.question: each.grade for each in unknown}["copying"] == "unknown"


def test_fast_is_fewer_samples_of_fewer_steps():
    fast = EvaluationOptions.of(fast=True).resolved
    assert (fast.count, fast.steps, fast.model_weights) == (200, 10, "averaged")
    assert EvaluationOptions.of(fast=True, steps=3, model_weights="raw").resolved.steps == 3
    assert EvaluationOptions.of().resolved.count == 1000


@pytest.mark.parametrize("reference", ["class_run", "text_run"])
def test_features_of_another_run_tell_images_apart(reference, request):
    from noisekiln.evaluation.denoiser_features import denoiser_features

    extractor = denoiser_features(request.getfixturevalue(reference))
    found = extractor.extract(torch.from_numpy(images_of(10)))
    assert (found.std(0) > 0.001).float().mean() > 0.9, "neither words nor what a norm has left"


def test_features_of_another_run_depend_on_the_image_alone(class_run, plain_run, tmp_path):
    from noisekiln.evaluation.denoiser_features import denoiser_features

    extractor = denoiser_features(class_run)
    images = torch.from_numpy(images_of(10))
    together = extractor.extract(images)
    assert together.shape[1] == 2 * 32  # mean and deviation of each channel
    alone = torch.cat([extractor.extract(one[None]) for one in images.flip(0)]).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    larger = extractor.extract(torch.from_numpy(images_of(3, size=12)))
    assert larger.isfinite().all()
    report = nk.evaluate(plain_run, count=10, steps=1, features=str(class_run), out=tmp_path)
    assert report.features["name"].startswith("middle of the denoiser of")
    assert not any("judges itself" in note for note in report.notes)
    itself = nk.evaluate(class_run, count=10, steps=1, features=str(class_run), out=tmp_path)
    assert any("the network judges itself: give the folder of another run" in note for note in itself.notes)
    with pytest.raises(ValueError, match="holds no model"):
        nk.evaluate(plain_run, features=str(tmp_path), out=tmp_path)


def test_copies_are_looked_for_in_all_samples_that_were_requested(blocks):
    """Of a small training set, half of it is too few to tell."""
    real = images_of(60, seed=3)
    training = load(real).train.pixels
    samples = np.concatenate([np.repeat(training[:10], 4, axis=0), images_of(160, seed=9)])
    report = nk.evaluate(samples, against=real, count=200, features=blocks)
    assert report.count == 30
    assert report.scores["memorised"].value == pytest.approx(0.2, abs=0.01)
    assert any("are of 30 of 200 samples" in note for note in report.notes)


def test_what_changes_nothing_for_samples_that_exist_is_said(blocks, tmp_path):
    real = make_images(tmp_path / "real", classes=("a", "b"))
    made = make_images(tmp_path / "made", classes=("c", "d"), seed=1)
    notes = nk.evaluate(made, against=str(real), features=blocks, steps=3, guidance=2.0).notes
    assert "samples exist already, so `guidance`, `steps` changes nothing" in notes
    assert "class accuracy is left out: samples and real images have other classes" in notes
    with pytest.raises(ValueError, match=r"`watch`: a value of the type int was given"):
        nk.evaluate(made, against=str(real), watch=5)


def test_grids_on_the_page_enlarge_small_images():
    small, large = (grid(torch.zeros(40, side, side, 3, dtype=torch.uint8)) for side in (16, 512))
    assert 700 < small.width <= 960
    assert small.width // (small.width // 68) >= 64  # 16 pixels by 4
    assert large.width <= 960


def test_the_best_weights_of_a_run_are_compared_with_its_data(run, blocks, tmp_path):
    shutil.copytree(run / "model", run / "model-best")
    report = nk.evaluate(run / "model-best", features=blocks, count=10, steps=1, out=tmp_path)
    assert report.name == "run/model-best"
    assert "pets" in report.real
    assert not report.raw_scores


def test_drawn_images_keep_their_columns():
    """A conditioner may be of numbers in a column."""
    images = images_of(12)
    ages, kinds = np.arange(12.0), np.array([f"kind {row}" for row in range(12)])
    one, two = (
        Split(images[part], columns={"age": ages[part], "kind": kinds[part]}) for part in (slice(7), slice(7, 12))
    )
    drawn = draw_by_content([one, two], 9, seed=0)
    rows = [int(np.flatnonzero((images == pixels).all((1, 2, 3)))[0]) for pixels in drawn.pixels]
    assert drawn.columns["age"].tolist() == ages[rows].tolist()
    assert drawn.columns["kind"].tolist() == kinds[rows].tolist()
    assert not draw_by_content([one, Split(images)], 3, seed=0).columns


def test_of_other_weights_no_more_samples_are_made_than_are_compared(run, blocks, monkeypatch):
    made = []
    monkeypatch.setattr(
        evaluation_steps,
        "sample_images",
        lambda model, conditions, *_, **__: made.append(len(conditions)) or sample_images(model, conditions, *_, **__),
    )
    report = nk.evaluate(run, count=40, steps=1, features=blocks)
    assert made == [40, report.count]
    assert report.count < 40
