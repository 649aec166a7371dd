"""Latent diffusion in one folder: a codec, then a model of what it encodes."""

import copy
import math
import re
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.codecs.pixels import Pixels
from noisekiln.data import DataSet, load
from noisekiln.data.mirrored import images_at
from noisekiln.distributed.ranks import Ranks
from noisekiln.evaluation.evaluated_model import about_codec
from noisekiln.files.model_folder import digest, read_weights
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.diffusion import Diffusion
from noisekiln.operators.mask import Mask
from noisekiln.plan.codec_training import find_trained_codec
from noisekiln.plan.encoded_images import encode_images
from noisekiln.plan.road import choose_road, settings_of_codec, settings_of_latents
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.codec_events import CodecPlan
from noisekiln.runs.codec_run import CodecRun
from noisekiln.runs.events import Encoding, End, Note, Plan, Stage, Step
from noisekiln.runs.latent_run import LatentRun
from noisekiln.runs.open_run import open_run
from noisekiln.training import checkpoints
from noisekiln.uses import inpainting
from noisekiln.uses.inverse_problem import observe
from test_autoencoder import RARE, SMALL, squares  # noqa: F401

SETTINGS = Settings(
    road="latent", codec=SMALL, images=128, batch_size=8, backbone=TINY, curves="none", ema_snapshots=0, device="cpu"
)  # 32 images for the codec, in two steps of 16, then 96 in twelve
pytestmark = pytest.mark.usefixtures("short_previews")


@pytest.fixture(scope="module")
def data(squares: Path) -> DataSet:  # noqa: F811
    return load(squares)


@pytest.fixture(scope="module")
def trained(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, list(LatentRun(SETTINGS, data, folder, intervals=RARE).events())


def weights(folder: Path) -> str:
    return digest(read_weights(folder / "model" / "model.safetensors"))


def test_the_budget_is_shared_by_codec_and_model():
    settings = Settings(minutes=8.0, epochs=10, road="latent", batch_size=32, lr=0.1)
    codec, model = settings_of_codec(settings, 100), settings_of_latents(settings, 100, all_of_it=False)
    assert (codec.minutes, codec.images, codec.batch_size, codec.lr) == (2.0, 250, None, None)
    assert (model.minutes, model.images, model.batch_size, model.lr) == (6.0, 750, 32, 0.1)
    assert settings_of_latents(settings, 100, all_of_it=True) == settings


@pytest.mark.parametrize(("changes", "said"), [
    ({"codec": "pixels"}, "`codec=pixels` has nothing to train"),
    ({"start": "runs/a"}, "the model of `start=runs/a` has its own"),
    ({"teacher": "runs/a"}, "the model of `teacher=runs/a` has its own"),
])  # fmt: skip
def test_latents_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ValueError, match="road=latent") as refused:
        choose_road(Settings(road="latent", **changes), (64, 64))
    assert said in str(refused.value)


def test_a_codec_that_is_trained_chooses_the_road(tmp_path):
    assert choose_road(Settings(codec=SMALL), (64, 64)) == "latent"
    assert choose_road(Settings(codec=str(tmp_path)), (28, 28)) == "latent"
    assert choose_road(Settings(codec="pixels"), (28, 28)) == "pixels"
    with pytest.raises(ValueError, match="`road=pixels` uses no codec"):
        choose_road(Settings(codec=SMALL, road="pixels"), (64, 64))


def test_one_folder_holds_codec_and_model(trained, data):
    folder, events = trained
    assert [event.title for event in events if isinstance(event, Stage)] == [
        "a codec for 12x14 pixels",
        "a model of 6x7 latents",
    ]
    [codec_plan], [plan] = ([event for event in events if isinstance(event, kind)] for kind in (CodecPlan, Plan))
    assert (codec_plan.settings.images, plan.settings.images) == (32, 96)
    [end] = [event for event in events if isinstance(event, End)]
    assert events[-1] is end
    assert (end.why, end.folder, end.images_seen, end.codec) == ("done", folder, 96, folder / "codec")
    parts = [checkpoints.load_newest(place / "checkpoints") for place in (folder / "codec", folder)]
    assert end.seconds == pytest.approx(sum(part.state["seconds"] for part in parts))
    assert parts[0].state["seconds"] > 0
    model = nk.load(folder)
    assert isinstance(model, Diffusion)
    assert model.codec.x_size(data.size) == (6, 7)
    assert model.sample(2, steps=2).shape == (2, 12, 14, 3)
    saved = Settings.read(folder / "run.yaml")
    assert saved.road == "latent"
    assert saved.codec is not None
    assert saved.codec.startswith("autoencoder(factor=2")


@pytest.mark.parametrize("steps", [1, 2, 3, 9])  # in the codec, at its end, in the model
def test_an_interrupted_run_ends_with_the_same_weights(steps, trained, data, tmp_path):
    interrupt, seen, ends = Interrupt(), 0, []
    for event in LatentRun(SETTINGS, data, tmp_path, intervals=RARE).events(interrupt):
        seen += isinstance(event, Step)
        interrupt.signal = signal.SIGTERM if seen >= steps else 0
        ends += [event] if isinstance(event, End) else []
    assert [(end.why, end.signal) for end in ends] == [("stopped", signal.SIGTERM)]
    *_, end = LatentRun(SETTINGS, data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 96)
    assert weights(tmp_path) == weights(trained[0])
    *_, end = LatentRun(SETTINGS, data, tmp_path, intervals=RARE).events()
    assert end.why == "finished before"


def test_a_larger_budget_leaves_the_codec_as_it_is(trained, data, tmp_path):
    """A model of its latents would not know others."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "codec" / "codec.safetensors").read_bytes()
    described = tmp_path / "run.yaml"  # of a version whose codec had an argument less
    described.write_text(re.sub(r",\s*adversarial=0.0", "", described.read_text("utf-8")), "utf-8")
    assert "adversarial" not in described.read_text("utf-8")
    first = LatentRun(SETTINGS, data, tmp_path, intervals=RARE)
    assert [type(part).__name__ for _, part in first.parts()] == ["Run"]  # the codec is not opened again
    *_, end = LatentRun(SETTINGS.replace(images=256), data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 192)
    assert (tmp_path / "codec" / "codec.safetensors").read_bytes() == before


def test_a_run_with_the_codec_of_an_earlier_default_is_resumed(trained, data):
    folder, _ = trained  # whose codec is smaller than the default
    run = open_run(SETTINGS.replace(codec=None, road="auto"), data, folder)
    assert [type(part).__name__ for _, part in run.parts()] == ["Run"]
    assert run.open_model().settings.codec == LatentRun(SETTINGS, data, folder).settings.codec
    with pytest.raises(ValueError, match="other settings"):
        open_run(SETTINGS.replace(codec="autoencoder(factor=2)"), data, folder).open_model()


def test_a_folder_stays_on_its_road(trained, data):
    folder, _ = trained
    auto = SETTINGS.replace(road="auto")
    assert isinstance(open_run(auto, data, folder), LatentRun)
    with pytest.raises(ValueError, match=r"`road=latent` \(now cascade\)"):
        open_run(SETTINGS.replace(road="cascade", codec=None), data, folder)


# --- a codec that was trained before


@pytest.fixture(scope="module")
def codec_folder(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("codecs") / "mine"
    nk.train_codec(squares, codec=SMALL, images=32, batch_size=8, out=folder, watch=lambda event: None)
    return folder


def test_a_trained_codec_is_copied_and_the_model_has_the_whole_budget(codec_folder, data, tmp_path):
    settings = SETTINGS.replace(codec=str(codec_folder), road="auto")
    run = open_run(settings, data, tmp_path)
    assert isinstance(run, LatentRun)
    *events, end = run.events()
    assert not any(isinstance(event, CodecPlan | Stage) for event in events)
    assert (end.why, end.images_seen) == ("done", 128)
    own, copied = (read_weights(place / "codec.safetensors") for place in (codec_folder, tmp_path / "codec"))
    assert digest(own) == digest(copied)
    *_, end = open_run(settings, data, tmp_path).events()
    assert end.why == "finished before"


def test_the_codec_of_a_run_serves_another_run(trained, codec_folder, data, tmp_path):
    run = open_run(SETTINGS.replace(codec=str(trained[0]), road="auto"), data, tmp_path / "second")
    assert isinstance(run, LatentRun)
    assert run.trained_before is not None
    list(run.events())
    with pytest.raises(ValueError, match="A run cannot change its codec midway"):
        open_run(SETTINGS.replace(codec=str(codec_folder), road="auto"), data, tmp_path / "second")


def test_a_folder_without_a_codec_is_refused(data, tmp_path, codec_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no codec"):
        open_run(SETTINGS.replace(codec=str(tmp_path / "empty"), road="auto"), data, tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a codec.*another `out`"):
        open_run(SETTINGS, data, codec_folder)


# --- what is done with it


@pytest.fixture(scope="module")
def model(trained):
    return nk.load(trained[0])


def test_what_the_codec_cannot_show_counts_as_noise(model, data):
    """Otherwise latents are driven far away in search of it, and what is missing is filled with garish colours."""
    y = torch.zeros(1, 3, 12, 14)
    observed = observe(model, y, Mask(torch.ones(12, 14)), (12, 14))
    error = model.codec.reconstruction_error
    images = torch.from_numpy(data.train.pixels)
    back = model.codec.decode(model.codec.encode(images), (12, 14))
    assert error == pytest.approx(float((back.float() - images).div(255).square().mean().sqrt()), rel=0.5)
    assert observed.std == pytest.approx(2 * error / model.codec.scale)


def test_an_evaluation_says_what_the_codec_loses(model):
    [line] = about_codec(model.codec)
    assert f"a PSNR of {-20 * math.log10(model.codec.reconstruction_error):.1f} dB" in line
    assert about_codec(Pixels((0.5,), (0.5,))) == []


METHODS = (None, "replacement", "moment_matching", "pigdm", "dps", "diffpir")


@pytest.mark.parametrize("method", METHODS)
def test_known_pixels_are_kept_in_latents(method, model, data):
    """What is known comes back as it was, whether latents are kept (None) or pixels compared, through the decoder."""
    image, missing = data.train.pixels[0], torch.zeros(12, 14)
    missing[3:8, 4:9] = 1
    filled = np.asarray(nk.inpaint(model, image, missing, method=method, steps=2, count=2))
    known = missing.numpy() == 0
    assert filled.shape == (2, 12, 14, 3)
    assert (filled[:, known] == image[known]).all()


def test_boxes_are_filled_in_latents_and_scattered_pixels_through_the_decoder(model, data, monkeypatch):
    solved = []
    solve = inpainting.solve_inverse_problem
    monkeypatch.setattr(
        inpainting, "solve_inverse_problem", lambda *a, **b: solved.append(b["method"]) or solve(*a, **b)
    )
    image, box = data.train.pixels[0], torch.zeros(12, 14)
    box[4:8, 4:8] = 1
    scattered = torch.zeros(12, 14)
    scattered[::2, ::2] = 1
    in_latents = inpainting.inpaint(model, image, box, steps=2, count=1)
    assert next(iter(in_latents)).used.sampler == nk.Resample(times=inpainting.RESAMPLED)
    assert solved == []
    chosen = inpainting.inpaint(model, image, box, steps=2, count=1, sampler="ddim")
    assert next(iter(chosen)).used.sampler == nk.DDIM()
    for missing, method in ((scattered, None), (box, "replacement")):
        nk.inpaint(model, image, missing, steps=1, count=1, method=method)
    assert solved == [None, "replacement"]


@pytest.mark.parametrize(("use", "shape"), [
    (lambda model, image: nk.edit(model, image, strength=0.5, steps=4, count=1), (1, 12, 14, 3)),
    (lambda model, image: nk.variations(model, image, steps=4, count=2), (2, 12, 14, 3)),
    (lambda model, image: nk.upscale(model, image[::2, ::2], 2, steps=2, count=1), (1, 12, 14, 3)),
    (lambda model, image: nk.restore(model, image, "blur", steps=2, count=1), (1, 12, 14, 3)),
    (lambda model, image: nk.restore(model, image, "grayscale", steps=2, count=1), (1, 12, 14, 3)),
    (lambda model, image: nk.outpaint(model, image, right=4, bottom=3, steps=2, count=1), (1, 15, 18, 3)),
    (lambda model, image: nk.interpolate(model, [image, 3], frames=3, steps=4), (4, 12, 14, 3)),
    (lambda model, image: nk.style(model, image, strength=0.5, steps=4), (1, 12, 14, 3)),
], ids=["edit", "variations", "upscale", "deblur", "colour", "outpaint", "interpolate", "style"])  # fmt: skip
def test_every_use_works_in_latents(use, shape, model, data):
    assert np.asarray(use(model, data.train.pixels[0])).shape == shape


def test_one_seed_is_one_image_in_latents(model):
    together = np.asarray(model.sample(3, seed=5, steps=2))
    alone = np.asarray(model.sample(1, seed=6, steps=2))
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1


def test_a_task_is_learned_in_latents(squares, tmp_path):  # noqa: F811
    model = nk.train(
        squares, codec=SMALL, road="latent", task="upscale(factor=2)", images=32, batch_size=8, backbone=TINY,
        curves="none", out=tmp_path / "upscaler", watch=lambda event: None,
    )  # fmt: skip
    source = torch.zeros(1, 6, 7, 3, dtype=torch.uint8)
    assert model.sample(1, source=source, steps=2).shape == (1, 12, 14, 3)


def test_it_is_fine_tuned_with_its_own_codec(trained, squares, tmp_path):  # noqa: F811
    tuned = nk.train(
        squares, start=str(trained[0]), images=16, batch_size=8, curves="none", out=tmp_path / "tuned",
        watch=lambda event: None,
    )  # fmt: skip
    own = nk.load(trained[0]).codec.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in tuned.codec.state_dict().items())


def test_both_parts_are_measured(squares, tmp_path, measure_briefly):  # noqa: F811
    found = nk.measure(
        squares, road="latent", codec=SMALL, images=320, backbone=TINY, out=tmp_path / "run", watch=lambda event: None
    )
    assert len(found) == 2
    assert not (tmp_path / "run").exists()


def test_encoding_counts_in_the_minutes_of_a_new_run(trained, data, tmp_path, monkeypatch):
    """Of a folder of many large images it takes minutes."""
    encoding = TrainingBatches.encoding

    def slowly(batches, ranks):
        if batches._encoded is None:
            time.sleep(0.3)
        yield from encoding(batches, ranks)

    monkeypatch.setattr(TrainingBatches, "encoding", slowly)
    settings = SETTINGS.replace(codec=str(trained[0]), road="auto", images=8)
    *_, end = open_run(settings, data, tmp_path).events()
    assert end.seconds > 0.3


def test_encoding_shows_how_far_it_is_and_stops_after_a_signal(trained, data, tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.plan.encoded_images.ENCODED_AT_ONCE", 5)
    settings, ends = SETTINGS.replace(codec=str(trained[0]), road="auto", images=16, flip=True), []
    for stops in (True, False):
        interrupt, done = Interrupt(), []
        for event in open_run(settings, data, tmp_path).events(interrupt):
            done += [(event.done, event.total)] if isinstance(event, Encoding) else []
            interrupt.signal = signal.SIGTERM if stops and len(done) == 2 else 0
        total = 2 * len(data.train)
        assert done == [(min(number, total), total) for number in range(5, total + 5, 5)][: 2 if stops else None]
        ends.append((event.why, event.signal, event.images_seen))
    assert ends == [("stopped", signal.SIGTERM, 0), ("done", 0, 16)]


@pytest.mark.parametrize("count", [1, 10, 21])
def test_each_process_encodes_its_share(count, data, monkeypatch):
    """As many rounds in every process, also where one has an image more or none, and the same latents in all."""
    monkeypatch.setattr("noisekiln.plan.encoded_images.ENCODED_AT_ONCE", 3)
    codec, pixels = Autoencoder(2, 4, 16, image_channels=3), data.train.pixels[:20]
    counts, parts, meeting = [0, 0], [None, None], threading.Barrier(2, timeout=20)

    class Threads(Ranks):
        def all_gather(self, rows, count):
            parts[self.rank] = rows
            meeting.wait()
            return torch.cat(parts)

    def run(rank):
        own = copy.deepcopy(codec)

        def counted(images):
            counts[rank] += len(images)
            return codec.encode(images)

        own.encode = counted
        rounds = encode_images(own, pixels, count, "cpu", Threads(rank, 2))
        while True:
            try:
                assert next(rounds)[1] == count
                meeting.wait()
            except StopIteration as end:
                return end.value

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(2)))
    assert counts == [count // 2, count - count // 2]
    expected = codec.encode(torch.from_numpy(images_at(pixels, np.arange(count)))).half()
    for x in found:
        torch.testing.assert_close(x, expected, atol=2e-3, rtol=2e-3)


def test_a_dry_run_compares_the_roads(cli: Command, squares, tmp_path, monkeypatch, measure_briefly):  # noqa: F811
    monkeypatch.setattr("noisekiln.plan.road.LARGE_SIDE", 12)
    result = cli("train", squares, "--minutes", 1, "--model", "xs", "--out", tmp_path / "run", "--dry-run")
    assert result.code == 0, result
    lines = result.out[result.out.index("roads in this budget") :].splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["latent", "pixels"]
    assert "codec " in lines[1]
    assert "model of its latents " in lines[1]
    assert lines[1].endswith("(chosen)")
    assert "12x14 " in lines[2]
    assert not (tmp_path / "run").exists()


def test_the_command_says_where_it_is(cli: Command, squares, tmp_path):  # noqa: F811
    words = ("train", squares, "--road", "latent", "--codec", SMALL, "--images", 64, "--batch", 8, "--backbone", TINY)
    result = cli(*words, "--curves", "none", "--out", tmp_path / "run")
    assert result.code == 0, result
    assert "stage 1 of 2: a codec for 12x14 pixels" in result.flat
    assert "stage 2 of 2: a model of 6x7 latents" in result.flat
    assert f"codec {tmp_path / 'run' / 'codec'}" in result.flat
    assert result.out.count("done: ") == 1
    sampled = cli("sample", tmp_path / "run", "-n", 2, "--steps", 2, "--out", tmp_path / "samples")
    assert sampled.code == 0, sampled


def test_latents_by_default_are_said_in_a_note_of_a_new_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.plan.road.LARGE_SIDE", 12)
    settings = SETTINGS.replace(road="auto", codec=None, minutes=10, images=32)
    notes = [
        [event.text for event in open_run(settings, data, tmp_path).events() if isinstance(event, Note)]
        for _ in range(2)
    ]
    assert "a codec is trained first" in notes[0][0]
    assert not any("a codec is trained first" in text for text in notes[1])


def test_what_cannot_be_trained_is_said_before_the_codec_is(data, tmp_path):
    run = LatentRun(SETTINGS.replace(cond="text"), data, tmp_path, intervals=RARE)
    with pytest.raises(ValueError, match="cond=text"):
        list(run.events())
    assert not list((tmp_path / "codec").glob("checkpoints/*"))
    *_, end = LatentRun(SETTINGS, data, tmp_path, intervals=RARE).events()  # with what is requested now
    assert end.why == "done"


def test_a_run_with_a_copied_codec_resumes_without_its_folder(codec_folder, data, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(codec_folder, moved)
    settings = SETTINGS.replace(codec=str(moved), road="auto")
    nk.train(data.train.pixels, codec=moved, images=8, batch_size=8, backbone=TINY, curves="none",
             out=tmp_path / "by-path", watch=lambda event: None)  # fmt: skip
    list(open_run(settings, data, tmp_path / "run").events())
    shutil.rmtree(moved)
    *_, end = open_run(settings.replace(codec=None), data, tmp_path / "run").events()
    assert end.why == "finished before"
    with pytest.raises(ValueError, match="there is no such folder"):
        nk.train("portraits", codec=str(moved))


def test_a_run_that_was_killed_before_it_described_its_data_starts(trained, data, tmp_path):
    (tmp_path / "b" / "checkpoints").mkdir(parents=True)
    shutil.copy(trained[0] / "run.yaml", tmp_path / "b" / "run.yaml")
    *_, end = LatentRun(SETTINGS, data, tmp_path / "b", intervals=RARE).events()
    assert end.why == "done"


@pytest.mark.parametrize("lost", ["codec.json", "codec.safetensors", ""])
def test_a_codec_that_was_lost_is_taken_from_the_model(lost, trained, data, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    before = digest(read_weights(tmp_path / "codec" / "codec.safetensors"))
    (tmp_path / "codec" / lost).unlink() if lost else shutil.rmtree(tmp_path / "codec")
    events = list(LatentRun(SETTINGS.replace(images=144), data, tmp_path, intervals=RARE).events())
    assert any("is taken from the model" in event.text for event in events if isinstance(event, Note))
    assert events[-1].why == "done"
    assert digest(read_weights(tmp_path / "codec" / "codec.safetensors")) == before
    shutil.rmtree(tmp_path / "codec")
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(ValueError, match="has lost its codec, and its model holds none"):
        LatentRun(SETTINGS, data, tmp_path, intervals=RARE)


def test_the_codec_of_a_model_is_not_trained_further(trained, data):
    folder, _ = trained
    settings = SETTINGS.replace(images=1000)
    with pytest.raises(ValueError, match="is the codec of a run that has a model"):
        CodecRun(settings, data, folder / "codec")
    with pytest.raises(ValueError, match="is a run, and its codec is"):
        CodecRun(settings, data, folder)


def test_a_run_of_pixels_does_not_become_one_of_latents(data, tmp_path):
    list(open_run(SETTINGS.replace(road="pixels", codec=None, images=8), data, tmp_path).events())
    with pytest.raises(ValueError, match=r"`road=pixels` \(now latent\)"):
        open_run(SETTINGS.replace(road="auto"), data, tmp_path)


def test_a_codec_object_is_not_mistaken_for_a_new_one(codec_folder):
    with pytest.raises(ValueError, match="Give the folder in which it was saved"):
        nk.train("portraits", codec=find_trained_codec(str(codec_folder)))
    with pytest.raises(ValueError, match="is a folder"):
        nk.train_codec("portraits", codec=str(codec_folder))
