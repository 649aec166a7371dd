"""Pipelines of diffusers become models that make diffusers' own pictures; what cannot be imported says why."""

import json

import pytest
import torch
from safetensors.torch import save_file

import noisekiln as nk
from noisekiln.interop.importing import import_model

diffusers = pytest.importorskip("diffusers")


def saved_ddpm(folder, **scheduler):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    settings = {"clip_sample": False, "timestep_spacing": "trailing"} | scheduler
    pipe = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler(**settings))
    pipe.save_pretrained(folder)
    return pipe


def theirs(pipe, network, noise, steps, **inputs):
    """Diffusers' own loop from a noise, eta 0."""
    pipe.scheduler.set_timesteps(steps)
    x = noise
    with torch.no_grad():
        for step in pipe.scheduler.timesteps:
            y = network(x, step.expand(len(x)), **inputs).sample[:, : x.shape[1]]
            x = pipe.scheduler.step(y, step, x, eta=0.0).prev_sample
    return x


@pytest.mark.parametrize(
    "scheduler",
    [{}, {"prediction_type": "v_prediction", "beta_end": 0.015}, {"beta_schedule": "scaled_linear"}],
    ids=["epsilon", "v", "scaled"],
)
def test_a_ddpm_pipeline_makes_the_pictures_of_diffusers(scheduler, tmp_path):
    pipe = saved_ddpm(tmp_path / "theirs", **scheduler)
    model = nk.load(import_model(tmp_path / "theirs", tmp_path / "ours"))
    noise = torch.randn(2, 3, 16, 16)
    *_, last = model.generate(2, noise=noise, steps=10, precision="fp32")
    expected = theirs(pipe, pipe.unet, noise, 10)
    assert (last.x - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    assert model.size == (16, 16)


@pytest.mark.slow  # a transformer and an autoencoder are saved and loaded
def test_a_dit_pipeline_with_classes_makes_the_latents_of_diffusers(tmp_path):
    torch.manual_seed(0)
    dit = diffusers.DiTTransformer2DModel(
        sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
        num_embeds_ada_norm=3, norm_num_groups=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe = diffusers.DiTPipeline(dit.eval(), vae.eval(), scheduler)  # else classes are dropped
    pipe.save_pretrained(tmp_path / "theirs")
    index = tmp_path / "theirs" / "model_index.json"  # published ones hold the names of ImageNet
    names = {"id2label": {"0": "cat, tom", "1": "dog", "2": "hen"}}
    index.write_text(json.dumps(json.loads(index.read_text(encoding="utf-8")) | names), encoding="utf-8")
    model = nk.load(import_model(tmp_path / "theirs", tmp_path / "ours"))
    assert model.conditioner.names == ("cat", "dog", "hen")
    assert model.size == (16, 16)
    noise = torch.randn(2, 4, 8, 8)
    *_, last = model.generate(["dog", "hen"], noise=noise, steps=5, guidance=1.0, precision="fp32")
    expected = theirs(pipe, pipe.transformer, noise, 5, class_labels=torch.tensor([1, 2]))
    assert (last.x - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    image = model.codec.to_image(last.x)
    with torch.no_grad():
        decoded = vae.decode(last.x / vae.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(image, decoded, rtol=1e-4, atol=1e-4)
    guided = model.generate(["dog", "hen"], noise=noise, steps=5, guidance=3.0, precision="fp32")
    assert not torch.allclose(list(guided)[-1].x, last.x)


def test_what_cannot_be_imported_says_why_and_the_way_out(tmp_path, cli):
    pipe = saved_ddpm(tmp_path / "theirs")
    unet, place = tmp_path / "theirs" / "unet", tmp_path / "theirs"

    def refused(folder, *words):
        result = cli("import", folder, tmp_path / "ours")
        assert result.code == 2
        assert all(word in result.flat for word in words), result.flat
        assert not (tmp_path / "ours").exists()

    torch.save(pipe.unet.state_dict(), tmp_path / "model.ckpt")
    refused(tmp_path / "model.ckpt", "pickle", "safetensors.torch.save_file")
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    refused(tmp_path / "weights.safetensors", "without the settings of their network", "1 tensor", "noisekiln.denoiser")
    refused(tmp_path, "neither model_index.json nor config.json")
    refused(tmp_path / "google" / "ddpm", "There is no folder", "names of the Hub are not read here")
    settings = json.loads((place / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    changed = settings | {"beta_schedule": "sigmoid"}
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(changed), encoding="utf-8")
    refused(place, "sigmoid", "scaled_linear")
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings), encoding="utf-8")
    weights = unet / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "kept.safetensors")
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"x")
    refused(place, "pickle", "safe_serialization=True")
    config = json.loads((unet / "config.json").read_text(encoding="utf-8"))
    (unet / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}), encoding="utf-8")
    refused(place, "UNet2DConditionModel", "can be imported")


def test_an_imported_network_is_no_choice_of_training(cli):
    assert "diffusers_network" not in cli("list", "backbones").out
