"""The autoencoder: its losses, its local convolutions, and its training as a codec."""

import json
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import Command, save_image
from noisekiln.autoencoding.adversarial import PatchDiscriminator, scaled_like
from noisekiln.autoencoding.codec_learner import CodecBatches, CodecLearner
from noisekiln.autoencoding.losses import pyramid_l1, spectrum_l1
from noisekiln.blocks.tiles import apply_in_tiles
from noisekiln.cli._codec_lines import describe_codec_end
from noisekiln.codecs import autoencoder
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.components.spec import build
from noisekiln.data import DataSet, load
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.memory import bytes_allocated_by
from noisekiln.metrics.spectrum import spectrum_slope
from noisekiln.model.saving import load_codec
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.measure import measure_codec
from noisekiln.monitor.reconstruction import slopes_of
from noisekiln.plan.codec_training import default_codec, resolve_codec_settings, with_codec
from noisekiln.plan.settings import Settings
from noisekiln.runs.codec_events import CodecEnd, CodecPlan, Reconstructions
from noisekiln.runs.codec_run import CodecRun
from noisekiln.runs.events import Step
from noisekiln.training.checkpoints import load_newest

SMALL = "autoencoder(factor=2,channels=4,width=16)"
SETTINGS = Settings(codec=SMALL, images=256, batch_size=8, device="cpu", road="latent", lr=0.005)
RARE = Intervals(grids_at=(0.5,), held_out_at=())


def draw(count=24, height=12, width=14, seed=0):
    """Images of a coloured square on a coloured ground."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, height, width, 3), np.uint8)
    for image in images:
        image[:] = generator.integers(0, 256, 3)
        top, left = generator.integers(0, 6, 2)
        image[top : top + 5, left : left + 6] = generator.integers(0, 256, 3)
    return images


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "squares"
    for i, image in enumerate(draw()):
        save_image(folder / f"{i:02}.png", image)
    return folder


@pytest.fixture(scope="module")
def data(squares: Path) -> DataSet:
    return load(squares)


@pytest.fixture(scope="module")
def trained(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    folder = tmp_path_factory.mktemp("codecs") / "whole"
    return folder, list(CodecRun(SETTINGS, data, folder, intervals=RARE).events())


def random_autoencoder(factor=4, **settings):
    """Whose blocks are no identities."""
    torch.manual_seed(0)
    codec = Autoencoder(factor=factor, width=32, image_channels=3, **settings)
    for weight in codec.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return codec


# --- losses


def test_the_losses_are_zero_for_equal_images_and_count_rows_one_by_one():
    images, others = (torch.from_numpy(draw(seed=seed)).permute(0, 3, 1, 2) / 255 for seed in (0, 1))
    for loss in (pyramid_l1, spectrum_l1):
        assert loss(images, images).abs().max() == 0
        found = loss(images, others)
        assert found.shape == (24,)
        assert found.min() > 0
        torch.testing.assert_close(loss(images[3:5], others[3:5]), found[3:5])


def test_amplitudes_are_those_of_the_fourier_transform():
    block = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    exact = (torch.fft.fft2(block, norm="ortho").abs() - torch.fft.fft2(other, norm="ortho").abs()).abs().mean()
    torch.testing.assert_close(spectrum_l1(block, other)[0], exact, rtol=1e-4, atol=1e-5)
    assert float(spectrum_l1(block, block.roll((3, 5), (2, 3)))) < 1e-4  # amplitudes do not see a cyclic shift


def test_amplitudes_are_compared_on_two_grids():
    """On one alone, what lies on the borders of its blocks would count otherwise than what lies inside."""
    image, other = torch.zeros(2, 1, 1, 16, 16)
    other[..., 2, 2] = 1.0  # only in a block of the first grid
    inside = float(spectrum_l1(image, other))
    other = torch.zeros(1, 1, 16, 16)
    other[..., 8, 8] = 1.0  # in blocks of both
    assert float(spectrum_l1(image, other)) > 1.5 * inside


def test_blur_is_worse_for_amplitudes_than_for_pixels():
    """Of two images that are as far away in pixels, the blurred one loses amplitudes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 1, 16, 16, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(image, (1, 1, 1, 1), "reflect"), 3, 1)
    noisy = image + (blurred - image).flatten(1)[:, torch.randperm(256, generator=generator)].view_as(image)
    assert pyramid_l1(blurred, image).mean() == pytest.approx(float(pyramid_l1(noisy, image).mean()), rel=0.3)
    assert spectrum_l1(blurred, image).mean() > 1.2 * spectrum_l1(noisy, image).mean()


# --- the network


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_tiles_change_nothing(factor, monkeypatch):
    codec = random_autoencoder(factor)
    pixels = torch.randint(0, 256, (2, 8 * 21, 8 * 23 + 3, 3), dtype=torch.uint8)
    with torch.no_grad():
        x = codec.encode(pixels)
        image = codec.to_image(x)
        monkeypatch.setattr(autoencoder, "TILE", 32)
        torch.testing.assert_close(codec.encode(pixels), x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(codec.to_image(x), image, rtol=1e-4, atol=1e-4)
    assert x.shape == (2, 8, *codec.x_size((8 * 21, 8 * 23 + 3)))
    assert image.shape[2] >= pixels.shape[1]
    assert image.shape[3] >= pixels.shape[2]


def test_a_margin_that_is_too_small_shows():
    """The test above sees the margins of tiles."""
    codec, image = random_autoencoder(), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        whole = codec.encoder(image)
        narrow = apply_in_tiles(codec.encoder, image, side=32, margin=8, scale=(1, 4))
        wide = apply_in_tiles(codec.encoder, image, side=32, margin=40, scale=(1, 4))
    assert (narrow - whole).abs().max() > 1e-3
    assert (wide - whole).abs().max() < 1e-4


def test_x_is_standardised_and_equal_for_equal_images():
    pixels = torch.from_numpy(draw())
    codec = random_autoencoder(2)
    codec.standardise(pixels)
    x = codec.encode(pixels)
    std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(codec.encode(pixels[:3]), x[:3])
    with torch.no_grad():
        change = codec.to_image(x + 0.05) - codec.to_image(x)
    assert codec.scale == pytest.approx(float(change.square().mean().sqrt()) / 0.05, rel=0.5)


@pytest.mark.parametrize("spec", [
    {"factor": 3}, {"channels": 0}, {"width": 20}, {"noise": -1.0}, {"spectrum": -0.1}, {"equivariance": -1},
    {"adversarial": 1.5}, {"adversarial": float("inf")},
    {"adversarial": -0.1},
])  # fmt: skip
def test_what_is_no_autoencoder_is_refused(spec):
    with pytest.raises(ValueError, match="autoencoder"):
        Autoencoder(**spec)


def test_images_with_other_channels_are_refused():
    with pytest.raises(ValueError, match="Images with 1 channel cannot be encoded by a codec for 3"):
        random_autoencoder().encode(torch.zeros(1, 8, 8, 1, dtype=torch.uint8))
    with pytest.raises(ValueError, match="cannot be encoded by a codec for 3"):
        random_autoencoder().fit(torch.zeros(1, 8, 8, 4, dtype=torch.uint8))


def test_a_fitted_autoencoder_keeps_its_settings():
    pixels = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    names = ("factor", "channels", "width", "noise", "spectrum", "equivariance", "adversarial")
    fitted = Autoencoder(4, 3, 32, 0.2, 0.3, 0.4, 0.5).fit(pixels)
    assert [getattr(fitted, name) for name in names] == [4, 3, 32, 0.2, 0.3, 0.4, 0.5]
    assert fitted.fit(pixels) is fitted


@pytest.mark.parametrize(("size", "factor"), [((28, 28), 2), ((64, 48), 4), ((128, 96), 8), ((256, 256), 8)])
def test_the_factor_follows_the_size_of_the_images(size, factor):
    assert build(Autoencoder.__mro__[1], default_codec(size)).factor == factor
    for wanted in (2, 4):
        settings = with_codec(Settings(codec=default_codec(size, wanted)), size)
        assert build(Autoencoder.__mro__[1], str(settings.codec)).factor == wanted


# --- spectra


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.0])
def test_the_slope_of_a_spectrum_is_that_of_a_power_law(exponent, shape):
    generator = torch.Generator().manual_seed(0)
    frequency = torch.hypot(*torch.meshgrid(*(torch.fft.fftfreq(side) for side in shape), indexing="ij"))
    frequency[0, 0] = 1.0
    noise = torch.fft.fft2(torch.randn(64, 3, *shape, generator=generator)) * frequency ** (exponent / 2)
    x = torch.fft.ifft2(noise).real + 5.0
    assert spectrum_slope(x) == pytest.approx(exponent, abs=0.1)
    assert spectrum_slope(x, 0.25) == pytest.approx(exponent, abs=0.15)


def test_a_slope_that_cannot_be_measured_is_no_number():
    assert np.isnan(spectrum_slope(torch.rand(4, 3, 4, 4)))
    assert np.isnan(spectrum_slope(torch.ones(4, 3, 16, 16)))


def test_latents_are_compared_with_images_over_the_same_frequencies():
    """Where x is a small image, whose frequencies are the low ones of the large image, the slopes are about equal."""
    coarse = torch.fft.rfft2(torch.rand(32, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    coarse[..., 6:], coarse[..., 6:-5, :] = 0, 1e-4  # hardly any power beyond
    images = torch.fft.irfft2(coarse).permute(0, 2, 3, 1).mul(200).clamp(0, 255).to(torch.uint8)
    codec = Autoencoder(4, 1, 16, image_channels=1)
    codec.latents = lambda pixels: torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), 4)
    slopes = slopes_of(codec, images)
    own = images.permute(0, 3, 1, 2)
    assert slopes.images == spectrum_slope(own, 0.125)
    assert slopes.latents == pytest.approx(slopes.images, abs=0.5)
    assert spectrum_slope(own) < slopes.images - 1


@pytest.mark.parametrize(("latents", "images", "said"), [
    (-1.3, -2.6, "50% apart (the target is 20 %; smoother ones"),
    (-2.5, -2.6, "4% apart (within the target of 20 %)"),
    (-3.9, -2.6, "50% apart (the target is 20 %)"),
])  # fmt: skip
def test_the_report_says_how_smooth_latents_are(latents, images, said):
    found = Reconstructions(Path("a.png"), 30.0, 0.9, 8, latents, images)
    end = CodecEnd("done", Path("codec"), 8, 1.0, 0)
    *_, line = describe_codec_end(end, found)
    assert said in line
    assert describe_codec_end(end, replace(found, latent_slope=float("nan"))) == describe_codec_end(end)


# --- training


def test_the_loss_knows_no_scale_of_the_latents():
    """Noise is relative: a larger x could not drown it."""
    codec = random_autoencoder(2)
    rows = torch.from_numpy(draw(8)), torch.randn(8, 8, 6, 7)
    loss = CodecLearner(codec)(*rows).value
    with torch.no_grad():
        for weight in codec.encoder.conv_out.parameters():
            weight.mul_(10)
    torch.testing.assert_close(CodecLearner(codec)(*rows).value, loss, rtol=1e-3, atol=1e-4)
    loud = CodecLearner(random_autoencoder(2, noise=2.0))(*rows).value
    assert (loud - loss).abs() > 1e-3


@pytest.mark.parametrize("size", [(12, 14), (11, 9), (2, 3), (1, 1)])
def test_every_weight_learns_from_images_of_any_size(size):
    codec = random_autoencoder(2, adversarial=0.1)
    pixels, learner = torch.randint(0, 256, (4, *size, 3), dtype=torch.uint8), CodecLearner(codec)
    learner.share = 1.0
    learner(pixels, torch.randn(4, 8, *codec.x_size(size))).value.backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in learner.parameters())
    assert any(bool((weight.grad != 0).any()) for weight in codec.encoder.parameters()) or size == (1, 1)


def test_each_part_of_the_loss_counts():
    rows = torch.from_numpy(draw(4, 16, 16)), torch.randn(4, 8, 8, 8)
    losses = [
        CodecLearner(random_autoencoder(2, spectrum=spectrum, equivariance=equivariance))(*rows).value.item()
        for spectrum, equivariance in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5))
    ]
    assert losses[0] < min(losses[1:])


def test_the_discriminator_pulls_an_image_to_what_it_takes_for_real():
    torch.manual_seed(0)
    images, targets = (torch.from_numpy(draw(8, seed=seed)).permute(0, 3, 1, 2) / 255 for seed in (0, 1))
    discriminator, images = PatchDiscriminator(3), images.requires_grad_()
    judged = discriminator.judge(images, targets)
    assert judged.pull.shape == images.shape
    with torch.no_grad():
        nearer = discriminator(images - 1e-3 * scaled_like(judged.pull, images)).mean((1, 2, 3))
        assert (nearer > discriminator(images).mean((1, 2, 3))).all()
    judged.loss.mean().backward()
    assert images.grad is None
    before = float(judged.loss.mean().detach())
    for weight in discriminator.parameters():
        assert bool(weight.grad.isfinite().all())
        weight.data -= 0.01 * weight.grad
    assert float(discriminator.judge(images, targets).loss.mean().detach()) < before


def test_the_correction_has_a_share_of_the_gradient_and_starts_in_the_second_half():
    rows = torch.from_numpy(draw(4, 16, 16)), torch.randn(4, 8, 8, 8)
    plain, learner = CodecLearner(random_autoencoder(2)), CodecLearner(random_autoencoder(2, adversarial=0.3))
    gradients = []
    for module, share in ((plain, 1.0), (learner, 0.0), (learner, 0.49), (learner, 1.0)):
        module.zero_grad(set_to_none=True)
        module.share = share
        found = module(*rows)
        found.value.backward()
        torch.testing.assert_close(found.value.item(), plain(*rows).value.item())  # curves stay comparable
        gradients.append(torch.cat([weight.grad.flatten() for weight in module.codec.parameters()]))
        if module is learner:
            layers = module.discriminator.edges()
            assert all(bool((layer.weight.grad == 0).all()) == (share < 0.5) for layer in layers)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert (gradients[3] - gradients[0]).norm() > 0.05 * gradients[0].norm()
    for share, expected in ((0.55, 0.15), (0.6, 0.3), (1.0, 0.3)):
        learner.share = share
        image, target = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        image.requires_grad_()
        loss = pyramid_l1(image, target)
        [own] = torch.autograd.grad(loss.sum(), image, retain_graph=True)
        [pull] = torch.autograd.grad(learner._correction(loss, image, target).sum(), image)
        assert pull.flatten(1).norm(dim=1).tolist() == pytest.approx((expected * own.flatten(1).norm(dim=1)).tolist())


def test_the_discriminator_counts_in_memory_and_operations_before_it_starts(data):
    rows = torch.from_numpy(draw(2, 16, 16)), torch.randn(2, 8, 8, 8)
    plain, learner = CodecLearner(random_autoencoder(2)), CodecLearner(random_autoencoder(2, adversarial=0.3))
    without, allocated = (bytes_allocated_by(partial(each, *rows)) for each in (plain, learner))
    image = torch.zeros(2, 3, 16, 16)
    seen = bytes_allocated_by(lambda: (learner.discriminator(image), learner.discriminator(image)))
    assert allocated >= without + seen
    plain_settings = resolve_codec_settings(SETTINGS, data)
    settings = plain_settings.replace(codec=plain_settings.codec.replace("adversarial=0.0", "adversarial=0.1"))
    before, after = (measure_codec(each, data, seconds=0.0).flops_per_image for each in (plain_settings, settings))
    assert after > before


def test_rows_depend_on_the_images_seen_alone(data):
    codec = Autoencoder(2, 4, 16, image_channels=3)
    batches = CodecBatches(codec, data.train, 0, "cpu")
    pixels, noise = batches(8, 4, torch.Generator().manual_seed(1))
    assert pixels.shape == (4, 12, 14, 3)
    assert noise.shape == (4, 4, 6, 7)
    again = batches(8, 4, torch.Generator().manual_seed(1))
    assert torch.equal(pixels, again[0])
    assert torch.equal(noise, again[1])


def test_half_of_the_rows_of_a_codec_can_be_mirror_images(data):
    codec = Autoencoder(2, 4, 16, image_channels=3)
    plain, flipped = (
        CodecBatches(codec, data.train, 0, "cpu", flip=flip)(8, 40, torch.Generator().manual_seed(1))[0]
        for flip in (False, True)
    )
    kept = (flipped == plain).all((1, 2, 3))
    assert 8 < kept.sum() < 32
    assert torch.equal(flipped[~kept], plain[~kept].flip(2))


def test_a_codec_learns_to_reconstruct(trained, data):
    folder, events = trained
    assert isinstance(events[0], CodecPlan)
    assert events[0].x_shape == (4, 6, 7)
    found = [event.psnr for event in events if isinstance(event, Reconstructions)]
    assert found[-1] > found[0]
    assert found[-1] > 15
    assert isinstance(events[-1], CodecEnd)
    assert (events[-1].why, events[-1].images_seen) == ("done", 256)
    codec = load_codec(folder)
    assert isinstance(codec, Autoencoder)
    x = codec.encode(torch.from_numpy(data.train.pixels))
    std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close((mean, std), (torch.zeros(4), torch.ones(4)), atol=2e-2, rtol=0)
    pictures = [event.file for event in events if isinstance(event, Reconstructions)]
    assert sorted(pictures) == sorted((folder / "samples").glob("*.png"))
    [judged] = [line for line in map(json.loads, (folder / "metrics.jsonl").open(encoding="utf-8")) if "psnr" in line]
    last = [event for event in events if isinstance(event, Reconstructions)][-1]
    assert (judged["psnr"], judged["latent_slope"]) == pytest.approx((last.psnr, last.latent_slope), rel=1e-4)
    held_out = torch.from_numpy(data.held_out.pixels).permute(0, 3, 1, 2)
    assert judged["image_slope"] == pytest.approx(spectrum_slope(held_out, 0.25), rel=1e-4)


def test_the_saved_codec_has_the_averaged_weights(data, tmp_path):
    run = CodecRun(SETTINGS, data, tmp_path, intervals=RARE)
    list(run.events())
    saved = load_codec(tmp_path)
    for name, average in run.trainer.ema.tracks[0].items():
        weight = saved.get_parameter(name.removeprefix("codec."))
        assert torch.equal(weight, average)
        assert not torch.equal(weight, run.trainer.module.get_parameter(name))


def test_each_process_has_enough_images_to_standardise_by(data, monkeypatch):
    settings = SETTINGS.replace(batch_size=None)
    assert resolve_codec_settings(settings, data).batch_size == 16
    many = replace(data, train=data.train.take(np.zeros(100, np.int64)))
    monkeypatch.setattr("noisekiln.plan.codec_training.world_size", lambda: 4)
    assert resolve_codec_settings(settings, many).batch_size == 32


@pytest.mark.parametrize("steps", [3, 17, 32])  # before the first picture, after it, at the end
def test_an_interrupted_codec_ends_with_the_same_weights(steps, trained, data, tmp_path):
    interrupt, seen = Interrupt(), 0
    for event in CodecRun(SETTINGS, data, tmp_path, intervals=RARE).events(interrupt):
        seen += isinstance(event, Step)
        interrupt.signal = signal.SIGTERM if seen >= steps else 0
    assert isinstance(event, CodecEnd)
    assert event.why == ("stopped" if steps < 32 else "done")
    assert (load_codec(tmp_path) is None) == (steps < 32)
    *_, end = CodecRun(SETTINGS, data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done" if steps < 32 else "finished before", 256)
    files = [place / "codec.safetensors" for place in (tmp_path, trained[0])]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("steps", [3, 20])  # before the discriminator starts, and while it learns
def test_an_interrupted_codec_resumes_with_its_discriminator(steps, data, tmp_path):
    settings = SETTINGS.replace(codec=SMALL.replace(")", ",adversarial=0.2)"))
    list(CodecRun(settings, data, tmp_path / "whole", intervals=RARE).events())
    interrupt, seen = Interrupt(), 0
    for event in CodecRun(settings, data, tmp_path / "parts", intervals=RARE).events(interrupt):
        seen += isinstance(event, Step)
        interrupt.signal = signal.SIGTERM if seen >= steps else 0
    assert any("discriminator" in name for name in load_newest(tmp_path / "parts" / "checkpoints").tensors)
    *_, end = CodecRun(settings, data, tmp_path / "parts", intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 256)
    whole, parts = (load_newest(tmp_path / place / "checkpoints").tensors for place in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    files = [tmp_path / place / "codec.safetensors" for place in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not any("discriminator" in name for name in load_codec(tmp_path / "whole").state_dict())


def test_a_codec_of_before_there_was_a_discriminator_is_resumed(data, tmp_path):
    run = CodecRun(SETTINGS.replace(images=64), data, tmp_path, intervals=RARE)
    list(run.events())
    file = tmp_path / "run.yaml"
    text = file.read_text(encoding="utf-8")
    assert "adversarial" in text
    file.write_text(re.sub(r",\s*adversarial=0.0", "", text), encoding="utf-8")
    assert "adversarial" not in file.read_text(encoding="utf-8")
    *_, end = CodecRun(SETTINGS.replace(images=128), data, tmp_path, intervals=RARE).events()
    assert (end.why, end.images_seen) == ("done", 128)


def test_a_codec_that_a_kill_has_not_left_is_written_again(data, tmp_path):
    list(CodecRun(SETTINGS, data, tmp_path, intervals=RARE).events())
    before = (tmp_path / "codec.safetensors").read_bytes()
    for damage in (
        lambda: (tmp_path / "codec.json").unlink(),
        lambda: (tmp_path / "codec.safetensors").write_bytes(before[:1000]),
    ):
        damage()
        *_, end = CodecRun(SETTINGS, data, tmp_path, intervals=RARE).events()
        assert end.why == "done"
        assert (tmp_path / "codec.safetensors").read_bytes() == before


def test_other_settings_and_other_images_are_refused(trained, data, squares):
    with pytest.raises(ValueError, match=r"lr=0.005` \(now 0.1\)"):
        CodecRun(SETTINGS.replace(lr=0.1), data, trained[0])
    with pytest.raises(ValueError, match=r"no longer those that|are others|other settings"):
        CodecRun(SETTINGS, load(squares, size=10), trained[0])
    with pytest.raises(ValueError, match="`codec=pixels` cannot be trained"):
        CodecRun(SETTINGS.replace(codec="pixels"), data, trained[0])


def test_python_gets_the_codec(squares, tmp_path):
    settings = {"images": 16, "batch_size": 8, "watch": lambda event: None, "out": tmp_path / "codec"}
    codec = nk.train_codec(squares, factor=2, **settings)
    assert codec.x_size((12, 14)) == (6, 7)
    again = nk.train_codec(squares, factor=2, **settings)
    assert again.adversarial == 0
    assert torch.equal(again.state_dict()["statistics.mean"], codec.state_dict()["statistics.mean"])
    with pytest.raises(ValueError, match="`factor` has to be 2, 4 or 8"):
        nk.train_codec(squares, factor=3, images=16, out=tmp_path / "other")
    corrected = nk.train_codec(squares, factor=2, adversarial=0.1, **settings | {"out": tmp_path / "corrected"})
    assert corrected.adversarial == 0.1


def test_a_codec_of_an_earlier_default_is_resumed_unless_another_is_requested(squares, tmp_path):
    settings = {"images": 16, "batch_size": 8, "watch": lambda event: None, "out": tmp_path}
    earlier = "autoencoder(factor=2,channels=3,width=16)"  # the default has four
    nk.train_codec(squares, codec=earlier, **settings)
    assert nk.train_codec(squares, **settings).x_channels == 3  # finished
    longer = settings | {"images": 24}
    assert nk.train_codec(squares, factor=2, **longer).x_channels == 3
    for other in ({"factor": 4}, {"adversarial": 0.1}, {"codec": default_codec((12, 14))}):
        with pytest.raises(ValueError, match="other settings"):
            nk.train_codec(squares, **longer, **other)


def test_the_command_trains_and_resumes(cli: Command, squares, tmp_path):
    words = ("codec", "train", squares, "--factor", 2, "--images", 32, "--batch", 8, "--out", tmp_path / "codec")
    result = cli(*words)
    assert result.code == 0, result
    assert "6x7 latents of 4 channels (3 times fewer numbers), batch 8, 32 images on cpu" in result.flat
    assert "through the codec, images are" in result.flat
    assert "the power of latents falls with frequency by a slope of" in result.flat
    assert f"--codec {tmp_path / 'codec'}" in result.flat
    assert "The budget of this codec is used up" in cli(*words).flat
    for wrong, said in (
        (("codec", "fit", squares), "There is no `noisekiln codec fit`"),
        (("codec", "train", squares, "--factor", 3), "`factor` has to be 2, 4 or 8"),
        (("codec", "train", squares, "--factor", 2, "--codec", SMALL), "both say what to train"),
        (("codec", "train", squares, "--adversarial", 0.1, "--codec", SMALL), "both say what to train"),
        (("codec", "train", squares, "--adversarial", -1), "none of them may be below 0"),
        (("codec", "train", tmp_path / "nowhere"), "nowhere"),
    ):
        refused = cli(*wrong)
        assert refused.code in (2, 3), refused
        assert said.replace("`factor`", "--factor") in refused.flat or said in refused.flat


def test_what_a_codec_s_spec_does_not_say_is_as_in_the_default():
    def whole(spec, size=(32, 32)):
        return with_codec(Settings(codec=spec), size).codec

    assert whole("autoencoder(adversarial=0.1)") == whole(None).replace("adversarial=0.0", "adversarial=0.1")
    assert whole("autoencoder(factor=8)") == whole(None, (128, 128))
    assert "channels=3," in whole("autoencoder(channels=3)")
