import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import noisekiln as nk
from noisekiln.backbones.simple_unet import SimpleUnet
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.registry import names
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.denoisers import Denoiser
from noisekiln.files.model_folder import digest
from noisekiln.levels import Level, level
from noisekiln.model.cascade import Cascade
from noisekiln.model.diffusion import Diffusion, Sampling
from noisekiln.model.generate import finished_images
from noisekiln.noise_labels.log_nsr import LogNsr
from noisekiln.predictions import EPS, PREDICTIONS, V
from noisekiln.tasks.inpaint import Inpaint
from noisekiln.tasks.upscale import Upscale
from toys.halving_codec import Halving

NAMES = ("cat", "dog", "it's: 3")


def tiny(prediction=V, *, conditioner=True, label=None, sampling=None, channels=1):
    torch.manual_seed(0)
    classes = ClassLabel(NAMES, 5) if conditioner else None
    backbone = SimpleUnet(channels, 5 if conditioner else 0, width=8)
    codec = Pixels((0.4,) * channels, (0.3,) * channels)
    return Diffusion(
        Denoiser(backbone, prediction, label), codec, (8, 6), classes, sampling or Sampling(steps=4)
    ).eval()


# --- denoiser


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
def test_an_estimate_recombines_to_what_was_seen(prediction):
    denoiser = tiny(prediction).denoiser.double()
    x_t = torch.randn(3, 1, 8, 6, dtype=torch.float64)
    for t in (
        level(0.6, 0.8),
        level(1.0, 20.0),
        Level(torch.rand(3, 1, 1, 1).double() + 0.1, torch.rand(3, 1, 1, 1).double()),
    ):
        estimate = denoiser(x_t, t)
        torch.testing.assert_close(estimate.at(t), x_t, rtol=1e-9, atol=1e-9)


def test_the_scale_of_the_levels_makes_no_difference():
    """Therefore a model trained on one schedule can be sampled with any other."""
    denoiser = tiny().denoiser.double()
    x_t = torch.randn(2, 1, 8, 6, dtype=torch.float64)
    on_circle, exploding = denoiser(0.6 * x_t, level(0.6, 0.8)), denoiser(x_t, level(1.0, 0.8 / 0.6))
    torch.testing.assert_close(on_circle.x, exploding.x)
    torch.testing.assert_close(on_circle.eps, exploding.eps)


def test_both_conditions_at_once_are_each_alone():
    model = tiny()
    cond, unconditional = model.conditioner(torch.tensor([0, 1])), model.conditioner(torch.tensor([3, 3]))
    x_t, t = torch.randn(2, 1, 8, 6), level(0.6, 0.8)
    for one, bound in zip(model.denoiser.bind_both(cond, unconditional)(x_t, t), (cond, unconditional), strict=True):
        torch.testing.assert_close(one.x, model.denoiser.bind(bound)(x_t, t).x, rtol=1e-4, atol=1e-5)


# --- generating


def test_progress_goes_from_noise_to_finished_images():
    steps = list(tiny().generate([0, "dog", None], seeds=[1, 2, 3], steps=5))
    assert [progress.step for progress in steps] == [1, 2, 3, 4, 5]
    assert {progress.steps for progress in steps} == {5}
    assert steps[-1].images().shape == (3, 8, 6, 1)
    assert steps[-1].images().dtype == torch.uint8
    assert not any(progress.x.requires_grad for progress in steps)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 5, 9])
def test_progress_counts_over_all_batches(batch_size):
    progress = list(tiny().generate(["cat", "dog", None, 0, 1], seed=3, steps=4, batch_size=batch_size))
    size = batch_size or 5
    parts = [range(i, min(i + size, 5)) for i in range(0, 5, size)]
    assert [each.step for each in progress] == list(range(1, 4 * len(parts) + 1))
    assert {(each.steps, each.count) for each in progress} == {(4 * len(parts), 5)}
    assert [(each.start, len(each.x)) for each in progress] == [(p.start, len(p)) for p in parts for _ in range(4)]
    assert [each.finished for each in progress] == [False, False, False, True] * len(parts)
    whole = tiny().sample(["cat", "dog", None, 0, 1], seed=3, steps=4)
    assert int((finished_images(progress).int() - whole.int()).abs().max()) <= 1


def test_impossible_options_are_refused_by_the_call_itself():
    """Errors are raised before the first step, also those of the last of many batches."""
    for words in ({"steps": 0}, {"sampler": "huen"}, {"batch_size": 0}, {"noise": torch.zeros(2, 1, 8, 6)}):
        with pytest.raises(ValueError):
            tiny().generate(3, **words)
    with pytest.raises(ValueError, match="There is no class called 'cow'"):
        tiny().generate(["cat"] * 100 + ["cow"], batch_size=1)


def test_pictures_can_be_watched_while_they_form(tmp_path):
    tiny().save(tmp_path)
    seen = [each.images() for each in nk.generate(tmp_path, 3, seed=5, batch_size=2, steps=3)]
    assert [len(images) for images in seen] == [2, 2, 2, 1, 1, 1]
    assert torch.equal(torch.cat([seen[2], seen[5]]), nk.load(tmp_path).sample(3, seed=5, batch_size=2, steps=3))
    assert next(nk.generate(tiny(), ["dog"])).steps == 4


# --- a codec of half the resolution


def halving(task=None, size=(8, 6), channels=1):
    """A model whose x has half the resolution of its images."""
    torch.manual_seed(0)
    image = task.condition_channels(4 * channels) if task else 0
    backbone = SimpleUnet(4 * channels, 0, width=8, image=image)
    return Diffusion(Denoiser(backbone), Halving(channels), size, None, Sampling(steps=3), task).eval()


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_size_is_in_pixels_whatever_x_is(size, tmp_path):
    model = halving(size=size)
    *_, last = model.generate(2, seed=1)
    assert last.x.shape == (2, 4, 4, 3)
    assert last.images().shape == (2, *size, 1)
    assert model.sample(1, size=(13, 10)).shape == (1, 13, 10, 1)  # in tiles
    with pytest.raises(ValueError, match="smaller than the"):
        model.generate(1, size=(4, 4))
    model.save(tmp_path)
    with pytest.raises(ValueError, match=r"runs the Python code of .*halving_codec\.py"):
        Diffusion.load(tmp_path)
    loaded = Diffusion.load(tmp_path, allow_code=True)
    assert loaded.size == size
    assert int((loaded.sample(2).int() - model.sample(2).int()).abs().max()) <= 1


def test_tasks_and_cascades_work_behind_it():
    picture = torch.randint(0, 256, (9, 11, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    missing = torch.zeros(9, 11)
    missing[2:6, 3:8] = 1
    done = nk.inpaint(halving(Inpaint()), picture, missing, count=2)
    known = missing == 0
    assert torch.equal(done[:, known], torch.from_numpy(picture)[known].expand(2, -1, -1))
    assert nk.upscale(halving(Upscale(2)), picture[:4, :3], 2, count=2).shape == (2, 8, 6, 1)
    assert nk.upscale(halving(Upscale(2)), picture, 2, count=1).shape == (1, 18, 22, 1)
    both = Cascade([halving(size=(4, 3)), halving(Upscale(2), size=(7, 6))])
    assert both.sample(3, batch_size=2).shape == (3, 7, 6, 1)


class Even(Halving):
    """As it is, but without padding."""

    def encode(self, pixels):
        images = (pixels.float() / 255).permute(0, 3, 1, 2)
        return torch.nn.functional.pixel_unshuffle((images - self.mean) / self.std, 2)


class Cropping(Halving):
    """An odd row or column is lost."""

    def x_size(self, size):
        return size[0] // 2, size[1] // 2

    def encode(self, pixels):
        return super().encode(pixels[:, : pixels.shape[1] // 2 * 2, : pixels.shape[2] // 2 * 2])


@pytest.mark.parametrize(
    ("codec", "problem"), [(Even, "cannot be encoded by Even: .*divisible"), (Cropping, "lose pix")]
)
def test_an_image_that_the_codec_cannot_divide_is_refused_in_one_message(codec, problem):
    def model(task=None):
        made = halving(task)
        made.codec = codec(1)
        return made

    picture = torch.zeros(9, 11, 1, dtype=torch.uint8).numpy()
    message = f"^Images of 9x11 pixels {problem}.* a multiple of 2 and .* a multiple of 2, such as 8x12.$"
    for use in (
        lambda: nk.upscale(model(), picture[:3, :4], 3),
        lambda: model().sample(1, size=(9, 11)),
    ):
        with pytest.raises(ValueError, match=message.replace("9x11", "9x1[12]")):
            use()
    assert nk.edit(model(), picture[:8, :10], steps=2, count=1).shape == (1, 8, 10, 1)


@pytest.mark.parametrize("codec", [Even, Cropping])
def test_uses_of_an_image_pad_it_for_the_codec_and_crop_the_result(codec):
    """The result is that of the image with its edges repeated, without these edges."""

    def model(task=None):
        made = halving(task)
        made.codec = codec(1)
        return made

    random = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (9, 11, 1), generator=random, dtype=torch.uint8).numpy()
    padded = np.pad(image, [(0, 1), (0, 1), (0, 0)], mode="edge")
    missing = torch.zeros(9, 11)
    missing[2:6, 3:8] = 1
    more = torch.nn.functional.pad(missing, (0, 1, 0, 1), value=1.0)
    options = {"steps": 2, "count": 1}
    for pair in (
        (nk.edit(model(), image, **options), nk.edit(model(), padded, **options)),
        (nk.variations(model(), image, **options), nk.variations(model(), padded, **options)),
        (nk.style(model(), image, steps=2), nk.style(model(), padded, steps=2)),
        (nk.inpaint(model(), image, missing, **options), nk.inpaint(model(), padded, more, **options)),
        (nk.inpaint(model(Inpaint()), image, missing, **options),
         nk.inpaint(model(Inpaint()), padded, more, **options)),
        (nk.restore(model(), image, "noise(level=0.1)", **options),
         nk.restore(model(), padded, "noise(level=0.1)", **options)),
    ):  # fmt: skip
        assert pair[0].shape == (1, 9, 11, 1)
        assert torch.equal(pair[0], pair[1][:, :9, :11])
    assert nk.outpaint(model(), image[:8, :10], top=1, left=1, **options).shape == (1, 9, 11, 1)


# --- settings


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ancestral"])
def test_a_seed_is_the_same_picture_in_any_batch(sampler, guidance, batch):
    """Up to one grey level: a matrix product may sum in another order for another batch size."""
    model = tiny()
    conditions = ["cat", "dog", None, 2, 0, 1, 2, None]
    settings = {"seed": 40, "sampler": sampler, "guidance": guidance, "steps": 6}
    alone = torch.cat(
        [model.sample([condition], **settings | {"seed": 40 + i}) for i, condition in enumerate(conditions)]
    )
    together = model.sample(conditions, batch_size=batch, **settings)
    assert int((alone.int() - together.int()).abs().max()) <= 1
    assert len({picture.numpy().tobytes() for picture in together}) == 8


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
@pytest.mark.parametrize("schedule", names("schedules"))
def test_every_prediction_can_be_sampled_along_every_schedule(schedule, prediction):
    """Also eps, which is undefined at pure noise: its grid starts at slightly less noise."""
    model = tiny(prediction, conditioner=False)
    *_, last = model.generate([None] * 2, seeds=[0, 1], schedule=schedule, steps=6)
    assert bool(last.x.isfinite().all())


def test_eps_on_cosine_starts_where_it_can_see():
    model = tiny(EPS, conditioner=False)
    first = []

    def record(denoise):
        def recording(x_t, t, *, to=None):
            first.append(t)
            return denoise(x_t, t, to=to)

        return recording

    list(model.generate([None], seeds=[0], schedule="cosine", steps=3, wrap_denoiser=record))
    assert 0 < float(first[0].alpha) < 0.01
    first.clear()
    list(tiny(V, conditioner=False).generate([None], seeds=[0], schedule="cosine", steps=3, wrap_denoiser=record))
    assert float(first[0].alpha) == 0


@pytest.mark.parametrize("sampler", names("samplers"))
def test_every_sampler_generates(sampler):
    assert tiny().sample(2, sampler=sampler, steps=3).shape == (2, 8, 6, 1)


def test_guidance_of_one_is_the_condition_and_of_zero_is_no_condition():
    model = tiny()
    assert torch.equal(model.sample(["cat"], guidance=1), model.sample(["cat"], guidance="classifier_free(scale=1)"))
    silent = model.sample([None], guidance=1)
    assert int((model.sample(["cat"], guidance=0).int() - silent.int()).abs().max()) <= 1
    assert not torch.equal(model.sample(["cat"], guidance=1), silent)
    assert torch.equal(model.sample(["cat"]), model.sample([0]))


def test_its_own_settings_are_the_default():
    model = tiny(sampling=Sampling("ddim(eta=1)", 3, 2.0, "rectified"))
    explicit = tiny().sample(["dog"], sampler="ddim(eta=1)", steps=3, guidance=2, schedule="rectified")
    assert torch.equal(model.sample(["dog"]), explicit)


@pytest.mark.parametrize(
    ("conditions", "settings", "says"),
    [
        (["cat"], {"seeds": [1, 2]}, "2 seeds for 1 condition cannot be matched"),
        (["cta"], {}, "There is no class called 'cta'. Did you mean 'cat'?"),
        ([9], {}, "There is no class number 9"),
        (["cat"], {"steps": 0}, "`steps=0`: sampling takes at least one step"),
        (["cat"], {"steps": 2.5}, "`steps=2.5`: sampling takes a whole number of steps"),
        (["cat"], {"steps": "4"}, "`steps='4'`: sampling takes a whole number of steps"),
        (-1, {}, "-1 images were requested"),
        (0, {}, "0 images were requested"),
        (2.5, {}, "2.5 is neither a number of images nor a list of conditions"),
        (["cat"], {"guidance": -2}, "guidance scale of -2"),
        (["cat"], {"batch_size": 2.5}, "`batch_size=2.5` is not possible: it must be a whole number. Give one."),
        (["cat"], {"seed": "x"}, "`seed='x'` is not possible: it must be a whole number. Give one."),
        (["cat"], {"seeds": [None]}, "`seeds=None` is not possible: it must be a whole number. Give one."),
        ([1.5], {}, "1.5 is neither the name nor the number of a class."),
        (["cat"], {"sampler": "huen"}, "Did you mean 'heun'?"),
        (["cat"], {"schedule": "karas"}, "Did you mean 'karras'?"),
        (["cat"], {"guidance": "clasifier_free"}, "Did you mean 'classifier_free'?"),
    ],
)
def test_wrong_requests_are_errors(conditions, settings, says):
    with pytest.raises(ValueError) as caught:
        tiny().sample(conditions, **settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: nk.load(3), "`folder=3` is not possible: it must be the path of a folder or a file. Give one."),
        (
            lambda: nk.load(["a"]),
            "`folder`: a list was given, and it must be the path of a folder or a file. Give one.",
        ),
        (lambda: nk.train("portraits", out=5), "`out=5` is not possible: it must be the path of a folder or a file."),
        (lambda: nk.generate(None, 2), "A NoneType was given as `model`, and only a model generates images. Give one"),
        (lambda: nk.merge(tiny(), "runs/a", "x"), "`strength='x'` is not possible: it must be a number. Give one."),
        (lambda: nk.unmerge(tiny(), "runs/a", strength="x"), "`strength='x'` is not possible: it must be a number."),
        (lambda: nk.unmerge(None, "runs/a"), "An adapter belongs to a single model. Give one"),
        (lambda: nk.merge(tiny(), 3), "`adapter=3` is not possible: it must be the path of a folder or a file."),
        (lambda: nk.post_hoc_ema(3, 0.1), "`run=3` is not possible: it must be the path of a folder or a file."),
        (lambda: nk.fine_tune_on(3, "a"), "`run=3` is not possible: it must be the path of a folder or a file."),
    ],
)
def test_arguments_of_another_kind_are_refused_in_plain_words(call, says):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(says)


def test_text_is_one_condition():
    assert torch.equal(tiny().sample("cat", steps=2), tiny().sample(["cat"], steps=2))
    assert [each.count for each in nk.generate(tiny(), "dog", steps=2)] == [1, 1]
    assert Cascade([tiny(), halving(Upscale(2), size=(16, 12))]).sample("cat", steps=1).shape == (1, 16, 12, 1)


def test_a_model_without_classes_says_so():
    with pytest.raises(ValueError, match="'cat' was requested, but this model was trained without conditions"):
        tiny(conditioner=False).sample(["cat"])
    assert tiny(conditioner=False).sample([None]).shape == (1, 8, 6, 1)


# --- saving


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("conditioner", [True, False])
def test_a_loaded_model_generates_the_same_pictures(tmp_path, conditioner, channels):
    model = tiny(EPS, conditioner=conditioner, label=LogNsr(), sampling=Sampling(steps=3), channels=channels)
    model.save(tmp_path / "run" / "model")
    conditions = ["it's: 3", None] if conditioner else [None, None]
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        loaded = Diffusion.load(folder)
        assert loaded.sampling == model.sampling
        assert loaded.denoiser.noise_label == LogNsr()
        assert not loaded.training
        assert int((loaded.sample(conditions).int() - model.sample(conditions).int()).abs().max()) <= 1
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        Diffusion.load(tmp_path / "none")
    with pytest.raises(ValueError, match="is not a run"):
        Diffusion.load(tmp_path)


def test_a_damaged_model_is_refused(tmp_path):
    tiny().save(tmp_path)
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="missing or damaged"):
        Diffusion.load(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match="missing or damaged"):
        Diffusion.load(tmp_path)
    for text in ("", "{", "[]", '{"format": 99}'):
        description.write_text(text)
        with pytest.raises(ValueError, match=r"damaged|later noisekiln"):
            Diffusion.load(tmp_path)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    model = tiny()
    model.save(tmp_path)
    file = tmp_path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="its weights are not what was written, by their SHA-256"):
        Diffusion.load(tmp_path)
    weights = load_file(file)
    save_file(weights, file)  # as earlier versions wrote it
    assert set(Diffusion.load(tmp_path).state_dict()) == set(weights)


def test_a_digest_is_of_names_and_bytes():
    one = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.bfloat16)}
    assert digest(one) == digest(dict(reversed(one.items())))
    for other in ({"a": one["a"]}, {"a": one["a"], "c": one["b"]}, one | {"a": one["a"].nextafter(torch.tensor(2.0))}):
        assert digest(other) != digest(one)


def test_code_of_a_model_is_not_run_without_permission(tmp_path):
    tiny().save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    mine = tmp_path / "mine.py"
    mine.write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\nraise SystemExit('it ran')")
    for spec in (f"{mine}:Mine", f"time(schedule={mine}:Mine)", f"{mine}c:Mine"):
        (tmp_path / "model.json").write_text(json.dumps(description | {"noise_label": spec}))
        with pytest.raises(ValueError):
            Diffusion.load(tmp_path)
    assert not mine.with_suffix(".ran").exists()
    (tmp_path / "model.json").write_text(json.dumps(description | {"noise_label": f"{mine}:Mine"}))
    with pytest.raises(ValueError, match="SystemExit: it ran"):
        Diffusion.load(tmp_path, allow_code=True)
    assert mine.with_suffix(".ran").exists()
