"""Autoencoders of diffusers as codecs."""

from pathlib import Path

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, save_image
from noisekiln.codecs.diffusers_autoencoder import DiffusersAutoencoder
from noisekiln.components.spec import build, describe
from noisekiln.files import packages
from noisekiln.files.hub import HubUnreachable
from noisekiln.plan.codec_training import find_trained_codec
from noisekiln.pretrained import find_pipeline
from noisekiln.pretrained.diffusers_network import DiffusersNetwork

diffusers = pytest.importorskip("diffusers")
NAME = "hf:anna/vae"


def kl():
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=3, norm_num_groups=4,
    )  # fmt: skip


def tiny():
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=3,
    )  # fmt: skip


@pytest.fixture(params=[kl, tiny], ids=["kl", "tiny"])
def saved(request, tmp_path):
    torch.manual_seed(0)
    network = request.param()
    network.save_pretrained(tmp_path / "vae")
    return network.eval(), tmp_path / "vae"


def images(count=20):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 16, 12, 3)).astype(np.uint8))


@torch.no_grad()
def test_x_is_what_diffusers_encodes_standardised(saved):
    network, folder = saved
    codec = find_trained_codec(str(folder))
    assert isinstance(codec, DiffusersAutoencoder)
    codec = codec.fit(images())
    encoded = network.encode(images().permute(0, 3, 1, 2) / 127.5 - 1)
    z = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
    std, mean = torch.std_mean(z, dim=(0, 2, 3), keepdim=True, correction=0)
    x = codec.encode(images())
    torch.testing.assert_close(x, (z - mean) / std, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(codec.to_image(x), network.decode(z).sample / 2 + 0.5, rtol=1e-4, atol=1e-4)
    assert codec.x_size((16, 12)) == tuple(x.shape[2:])
    assert codec.scale > 0


@torch.no_grad()
@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_name_on_the_hub_or_a_pipeline_is_that_autoencoder(saved, in_pipeline, variant, tmp_path, monkeypatch):
    network, folder = saved
    network.save_pretrained(tmp_path / "hub" / "vae", variant=variant)
    if in_pipeline:
        (tmp_path / "hub" / "model_index.json").write_text("{}")
    downloaded = tmp_path / "hub" if in_pipeline else tmp_path / "hub" / "vae"
    monkeypatch.setattr(
        find_pipeline, "local_folder", lambda place, *a, **o: downloaded if place == NAME else Path(place)
    )
    expected = find_trained_codec(str(folder)).fit(images()).encode(images())
    for place in (NAME, str(downloaded)):
        torch.testing.assert_close(find_trained_codec(place).fit(images()).encode(images()), expected)


def test_a_run_of_a_codec_on_the_hub_resumes_where_that_is_gone(saved, tmp_path, monkeypatch):
    for i, image in enumerate(images().numpy()):
        save_image(tmp_path / "photos" / f"{i}.png", image)
    settings = {"codec": NAME, "batch_size": 8, "backbone": TINY, "curves": "none", "out": tmp_path / "run"}
    asked = []

    def answer(place, *words, offline, **options):
        asked.append(offline)
        if len(asked) > 1:
            raise HubUnreachable("gone")
        return saved[1]

    monkeypatch.setattr(find_pipeline, "local_folder", answer)
    nk.train(tmp_path / "photos", images=16, watch=lambda event: None, **settings)
    nk.train(tmp_path / "photos", images=32, watch=lambda event: None, **settings)
    assert asked[0] is False
    assert all(asked[1:]), "the run has a copy, so the Hub is not asked"
    with pytest.raises(HubUnreachable):
        nk.train(tmp_path / "photos", images=16, watch=lambda event: None, **settings | {"out": tmp_path / "other"})


@pytest.mark.parametrize("train", [nk.train, nk.train_codec])
def test_a_name_that_is_none_on_the_hub_is_refused_before_images_are_read(train, tmp_path):
    with pytest.raises(ValueError, match="'nowhere' is no name of a model on the Hub"):
        train(tmp_path, codec="hf:nowhere")


@torch.no_grad()
def test_its_spec_and_weights_make_it_again(saved):
    codec = DiffusersAutoencoder.from_folder(saved[1]).fit(images())
    again = build(DiffusersAutoencoder.__mro__[1], describe(codec))
    again.load_state_dict(codec.state_dict())
    assert torch.equal(again.encode(images()), codec.encode(images()))


def test_a_model_of_its_latents_is_trained_and_loaded_without_the_folder(saved, tmp_path):
    _, folder = saved
    for i, image in enumerate(images().numpy()):
        save_image(tmp_path / "photos" / f"{i}.png", image)
    model = nk.train(
        tmp_path / "photos", codec=str(folder), images=16, batch_size=8, backbone=TINY, curves="none",
        out=tmp_path / "run", watch=lambda event: None,
    )  # fmt: skip
    folder.rename(tmp_path / "moved")
    sampled = nk.load(tmp_path / "run").sample(2, steps=2, seed=3)
    assert np.array_equal(np.asarray(sampled), np.asarray(model.sample(2, steps=2, seed=3)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DiffusersAutoencoder("{}"), "An autoencoder of diffusers needs the package diffusers"),
        (lambda: DiffusersNetwork(3, config="{}"), "A network of diffusers needs the package diffusers"),
    ],
)
def test_without_diffusers_it_says_what_needs_it(make, says, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"^{says}"):
        make()


def test_what_is_no_such_autoencoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of those that can be used as an autoencoder: AutoencoderKL"):
        DiffusersAutoencoder('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match=r"config\.json of an autoencoder cannot be read"):
        DiffusersAutoencoder("nothing")
    with pytest.raises(ValueError, match=r"has no network. Give the folder"):
        DiffusersAutoencoder().fit(images())
    kl().save_pretrained(tmp_path / "vae")
    codec = DiffusersAutoencoder.from_folder(tmp_path / "vae")
    with pytest.raises(ValueError, match="Images with 1 channel cannot be encoded by a codec for 3"):
        codec.fit(images()[..., :1])
