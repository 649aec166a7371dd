import json

import pytest
import torch

from noisekiln.codecs.base import Codec
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.registry import find, names


def images(channels, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 5, 7, channels), generator=generator, dtype=torch.uint8)


EXAMPLES = {  # of codecs that cannot be made without settings
    "diffusers_autoencoder": {
        "config": json.dumps(
            {"_class_name": "AutoencoderKL", "in_channels": 1, "out_channels": 1, "norm_num_groups": 4}
            | {"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"]}
            | {"up_block_types": ["UpDecoderBlock2D"], "latent_channels": 2}
        )
    }
}


@pytest.mark.parametrize("name", names("codecs"))
def test_a_codec_says_its_channels(name):
    pixels = images(1)
    if name in EXAMPLES:
        pytest.importorskip("diffusers")
    codec = find(Codec, name)(**EXAMPLES.get(name, {})).fit(pixels)
    x = codec.encode(pixels)
    x = x.detach()
    assert x.dtype == torch.float32
    assert x.shape[1:] == (codec.x_channels, *codec.x_size((5, 7)))
    assert codec.decode(x, (5, 7)).shape == pixels.shape
    assert codec.decode(x).dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_come_back_exactly(channels):
    pixels = images(channels)
    codec = Pixels().fit(pixels)
    assert codec.image_channels == channels
    x = codec.encode(pixels)
    assert x.shape == (4, channels, 5, 7)
    back = codec.decode(x)
    assert torch.equal(back, pixels)
    assert back.is_contiguous()


def test_every_grey_comes_back_exactly_whatever_the_deviation():
    greys = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    for mean, std in ((0.5, 0.5), (0.03, 1 / 255), (0.9, 0.29)):
        codec = Pixels((mean,), (std,))
        assert torch.equal(codec.decode(codec.encode(greys)), greys)


def test_x_has_mean_zero_and_variance_one_in_every_channel():
    pixels = images(3, 50)
    pixels[..., 1] = pixels[..., 1] // 4 + 100
    x = Pixels().fit(pixels).encode(pixels)
    std, mean = torch.std_mean(x.double(), dim=(0, 2, 3), correction=0)
    assert mean.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert std.tolist() == pytest.approx([1, 1, 1], rel=1e-5)


def test_a_channel_that_never_changes_does_not_divide_by_zero():
    pixels = images(2)
    pixels[..., 1] = 200
    codec = Pixels().fit(pixels)
    assert bool(codec.encode(pixels).isfinite().all())
    assert torch.equal(codec.decode(codec.encode(pixels)), pixels)
    assert codec.std[1] == pytest.approx(1 / 255)  # one step of a byte


def test_out_of_range_is_clipped():
    codec = Pixels((0.5,), (0.5,))
    assert codec.decode(torch.full((1, 1, 1, 1), 9.0)).item() == 255
    assert codec.decode(torch.full((1, 1, 1, 1), -9.0)).item() == 0


def test_limits_are_black_and_white():
    codec = Pixels((0.2, 0.6), (0.1, 0.3))
    black, white = codec.limits
    both = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    torch.testing.assert_close(codec.encode(both), torch.stack([black, white]))


def test_images_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="Images with 3 channels cannot be encoded by a codec for 1"):
        Pixels((0.5,), (0.5,)).encode(images(3))
    with pytest.raises(ValueError, match="has 1 channel, and these images have 3"):
        Pixels(mean=(0.5,)).fit(images(3))


def test_requested_statistics_are_kept():
    pixels = images(2)
    fitted = Pixels().fit(pixels)
    assert Pixels(mean=(0.5, 0.4)).fit(pixels).mean == (0.5, 0.4)
    assert Pixels(mean=(0.5, 0.4)).fit(pixels).std == fitted.std
    assert Pixels(std=(0.5, 0.4)).fit(pixels).std == (0.5, 0.4)
    assert fitted.fit(images(2, seed=1)).mean == fitted.mean


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((), (0.0,))])
def test_what_is_no_codec_is_refused(mean, std):
    with pytest.raises(ValueError, match="one mean and one deviation above 0"):
        Pixels(mean, std)
