"""The weights that come with noisekiln, from which codecs start to train."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import noisekiln as nk
from noisekiln.autoencoding import starting_weights
from noisekiln.autoencoding.starting_weights import FOLDER, has_starting_weights, load_starting_weights
from noisekiln.cli._codec_lines import describe_codec_plan
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build
from noisekiln.metrics.similarity import psnr
from noisekiln.plan.codec_training import codec_of_run_or_default, default_codec, with_codec
from noisekiln.plan.settings import Settings
from noisekiln.runs.codec_events import CodecPlan

INSIDE = 16  # pixels from an edge, where a first layer of zeros beyond the image makes a difference


def drawn(seed, count=4, side=48, channels=3):
    """Ramps of colours with squares on them."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, side, side, channels), np.uint8)
    for image in images:
        ends = generator.integers(0, 256, (2, channels))
        image[:] = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, side)[:, None, None]
        for top, left in generator.integers(0, side - 12, (6, 2)):
            image[top : top + 12, left : left + 9] = generator.integers(0, 256, channels)
    return torch.from_numpy(images)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A codec of random layers whose weights lie where those that come with noisekiln do."""
    torch.manual_seed(0)
    codec = Autoencoder(2, 5, 16, image_channels=3)
    for weight in codec.parameters():
        weight.data = (0.15 * torch.randn_like(weight)).half().float()
    codec.standardise(drawn(1))
    monkeypatch.setattr(starting_weights, "FOLDER", tmp_path)
    halved = {name: value.half() if "coder" in name else value for name, value in codec.state_dict().items()}
    save_file(halved, starting_weights.starting_weights_file(codec))
    return codec


def test_training_starts_from_what_the_weights_can_do(shipped):
    """Standardised over other images, what is inside of an image comes back as by the codec that was saved."""
    images = drawn(2)
    codec = Autoencoder(2, 5, 16, pretrained=True, image_channels=3)
    load_starting_weights(codec, images)
    assert not codec.statistics.measured
    codec.standardise(images)
    assert (codec.statistics.std / shipped.statistics.std - 1).abs().max() > 0.05
    both = [each.to_image(each.encode(images))[..., INSIDE:-INSIDE, INSIDE:-INSIDE] for each in (codec, shipped)]
    torch.testing.assert_close(*both, atol=1e-3, rtol=0)


def test_grey_images_are_colours_of_equal_channels(shipped):
    images = drawn(3, channels=1)
    codec = Autoencoder(2, 5, 16, pretrained=True, image_channels=1)
    load_starting_weights(codec, images)
    codec.standardise(images)
    colours = images.expand(-1, -1, -1, 3)
    torch.testing.assert_close(codec.latents(images), shipped.latents(colours), atol=1e-4, rtol=1e-4)
    grey = shipped.to_image(shipped.encode(colours)).mean(1, keepdim=True)[..., INSIDE:-INSIDE, INSIDE:-INSIDE]
    torch.testing.assert_close(
        codec.to_image(codec.encode(images))[..., INSIDE:-INSIDE, INSIDE:-INSIDE], grey, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(("factor", "least"), [(4, 24), (8, 18)])
def test_before_any_training_images_come_back(factor, least):
    codec = build(Codec, default_codec((64, 64), factor)).fit(drawn(0))
    images, found = drawn(4, side=64), []
    for load in (lambda: None, lambda: load_starting_weights(codec, images)):
        load()
        codec.standardise(images)
        found.append(float(psnr(codec.decode(codec.encode(images), (64, 64)), images).mean()))
    assert found[0] < 14
    assert found[1] > least


def test_a_codec_starts_from_them_where_there_are_some_unless_asked_otherwise(tmp_path):
    def codec_of(spec):
        return build(Codec, str(with_codec(Settings(codec=spec), (64, 64)).codec))

    assert codec_of(None).pretrained
    assert codec_of("autoencoder(noise=0.2)").pretrained
    assert not codec_of("autoencoder(pretrained=False)").pretrained
    assert not codec_of("autoencoder(channels=5)").pretrained
    assert not build(Codec, default_codec((16, 16))).pretrained
    with pytest.raises(ValueError, match="no weights for these settings come with noisekiln"):
        codec_of("autoencoder(channels=5,pretrained=True)")
    Settings(codec="autoencoder(factor=4,channels=8,width=96)").write(tmp_path / "run.yaml")
    earlier = codec_of_run_or_default(tmp_path / "run.yaml", (64, 64))
    assert "pretrained=False" in earlier
    assert "pretrained=False" in str(with_codec(Settings(codec=earlier), (64, 64)).codec)


def test_a_run_uses_them(tmp_path):
    """One step of a tiny rate leaves what the weights can do, in colour and in grey."""
    events: list[object] = []
    quick = {"images": 8, "batch_size": 8, "lr": 1e-9, "watch": events.append}
    for channels, spec, able in ((3, "", True), (1, "", True), (3, ",pretrained=False", False)):
        images, out = drawn(5, count=8, side=40, channels=channels), tmp_path / f"{channels}{spec}"
        codec = nk.train_codec(images.numpy(), codec=f"autoencoder(factor=4{spec})", out=out, **quick)
        assert (float(psnr(codec.decode(codec.encode(images), (40, 40)), images).mean()) > 20) == able
    plans = [describe_codec_plan(event)[0] for event in events if isinstance(event, CodecPlan)]
    assert ["that start from drawn shapes" in line for line in plans] == [True, True, False]


def test_the_files_are_small():
    files = list(FOLDER.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) < 6e6
    assert has_starting_weights(build(Codec, default_codec((64, 64))))
