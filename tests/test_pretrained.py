"""Stable Diffusion of diffusers as a model: equal to its own pipeline, and driven by everything that drives ours."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln as nk
from conftest import save_image
from noisekiln.files.png_text import read_png_text
from noisekiln.noise_labels.time import Time
from noisekiln.schedules.scaled_linear_betas import ScaledLinearBetas
from noisekiln.schedules.timesteps import Timesteps
from noisekiln.uses.latent_inpainting import inpaint_latents
from tiny_pipelines import SIDE, tiny_sd, tiny_xl

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
PROMPT, NEGATIVE, SEEDS, STEPS, SCALE = "a red hat", "bad, ugly", (3, 2**40), 8, 4.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    return {"sd": tiny_sd(place), "v": tiny_sd(place / "v", "v_prediction"), "xl": tiny_xl(place)}


@pytest.fixture(scope="module")
def pipelines(folders):
    loaded = {name: diffusers.DiffusionPipeline.from_pretrained(folder) for name, folder in folders.items()}
    for pipeline in loaded.values():
        pipeline.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def model(folders):
    return nk.load_pretrained(folders["sd"])


def theirs(pipeline, **options):
    """The image in [0, 1] and the latents of diffusers' own pipeline, (B, C, H, W)."""
    given = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": SCALE, **options}
    draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    latents = pipeline(PROMPT, num_images_per_prompt=2, generator=draws, output_type="latent", **given).images
    with torch.no_grad():
        images = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return images / 2 + 0.5, latents


def ours(model, prompt=PROMPT, **options):
    given = {"steps": STEPS, "guidance": SCALE, "precision": "fp32", **options}
    *_, last = model.generate([prompt] * len(SEEDS), seeds=SEEDS, **given)
    with torch.no_grad():
        return model.codec.to_image(last.x), last.x


@pytest.mark.parametrize(
    ("kind", "scheduler"), [*((kind, name) for kind in ("sd", "xl") for name in SCHEDULERS), ("v", "ddim")]
)
def test_the_image_is_that_of_diffusers_pipeline(kind, scheduler, folders, pipelines):
    """From the same seeds, with guidance; predictions of eps and v, one and two text encoders."""
    pipeline = pipelines[kind]
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[scheduler]).from_config(pipeline.scheduler.config)
    expected, latents = theirs(pipeline)
    images, x = ours(nk.load_pretrained(folders[kind], scheduler=scheduler))
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(x, latents, rtol=1e-4, atol=1e-4)
    assert float(images.std()) > 0.05


@pytest.mark.parametrize("kind", ["sd", pytest.param("xl", marks=pytest.mark.slow)])
def test_a_negative_prompt_is_what_guidance_leads_away_from(kind, folders, pipelines):
    pipeline = pipelines[kind]
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    model = nk.load_pretrained(folders[kind], scheduler="ddim")
    images = ours(model, f"{PROMPT}\nNegative prompt: {NEGATIVE}")[0]
    torch.testing.assert_close(images, theirs(pipeline, negative_prompt=NEGATIVE)[0], rtol=0, atol=1e-4)
    assert not torch.allclose(images, ours(model)[0], atol=1e-3)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_timesteps_are_spaced_as_in_diffusers(spacing, name, steps):
    scheduler = getattr(diffusers, SCHEDULERS[name])(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing=spacing, steps_offset=1
    )
    scheduler.set_timesteps(steps)
    left_out = 1 if name == "dpmpp_2m" and spacing != "trailing" else 0
    offset = 1 if spacing == "leading" else 0
    own = Timesteps(spacing=spacing, offset=offset, left_out=left_out).timesteps(steps)
    expected = torch.as_tensor(scheduler.timesteps)
    if name == "euler" and spacing == "linspace":  # which does not round them
        assert len(own) == 1 or bool(((own - expected).abs() <= 0.5).all())
    elif not (steps == 1 and spacing == "linspace"):
        assert own.tolist() == expected.tolist()


def test_the_table_and_the_labels_are_those_of_diffusers(pipelines):
    alpha_bar = diffusers.DDIMScheduler.from_config(pipelines["sd"].scheduler.config).alphas_cumprod.double()
    table = ScaledLinearBetas()
    t = table(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(t.alpha**2, alpha_bar, rtol=1e-5, atol=0)
    label = Time(table, 1000.0, from_zero=True)(t)
    torch.testing.assert_close(label, torch.arange(1000.0).double(), rtol=0, atol=1e-6)


# --- prompts


def test_what_is_longer_than_77_tokens_is_named(model):
    assert model.conditioner.cut_from("a" * 20) == ""
    note = model.conditioner.cut_from("a " * 73 + "red hat")
    assert "79 tokens" in note
    assert "reads 75" in note
    assert "'hat'" in note.replace("d hat", "hat")
    with pytest.warns(UserWarning, match="what follows is cut"):
        model.sample("a " * 80, steps=1)


def test_tokens_are_those_of_transformers_and_weights_are_of_their_phrases(model, pipelines):
    for prompt in ("a red hat, x!", "a " * 100, "", "猫"):
        expected = pipelines["sd"].tokenizer(prompt, padding="max_length", truncation=True).input_ids
        assert model.conditioner.encode([prompt])[0, 0, 0].tolist() == expected
    ids, weights = model.conditioner.encode(["a (red:1.5) hat"])[0, 0]
    assert [weight for weight in weights.tolist() if weight != 1000] == [1500] * 3
    plain = model.conditioner(model.conditioner.encode(["a red hat"])).tokens
    weighted = model.conditioner(model.conditioner.encode(["a (red:1.5) hat"])).tokens
    torch.testing.assert_close(weighted[0], plain[0] * (weights / 1000)[:, None])
    assert len(ids) == 77


# --- everything that drives a model


def test_a_saved_one_is_the_same_model(folders, tmp_path):
    model = nk.load_pretrained(folders["xl"])
    model.save(tmp_path / "saved")
    again = nk.load(tmp_path / "saved")
    torch.testing.assert_close(ours(again, steps=2)[1], ours(model, steps=2)[1], rtol=1e-4, atol=1e-4)


def picture():
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def left_half():
    missing = np.zeros((SIDE, SIDE), bool)
    missing[:, : SIDE // 2] = True
    return missing


USES = {
    "edit": lambda model: nk.edit(model, picture(), condition=PROMPT, count=2, steps=3),
    "inpaint": lambda model: nk.inpaint(model, picture(), left_half(), condition=PROMPT, count=1, steps=2),
    "interpolate": lambda model: nk.interpolate(model, [1, 2], frames=2, condition=PROMPT, steps=2),
    "style": lambda model: nk.style(model, picture(), condition=PROMPT, steps=3),
    "restore": lambda model: nk.restore(
        model, picture(), "grayscale", method="dps", condition=PROMPT, count=1, steps=2
    ),
    "larger, in tiles": lambda model: model.sample(PROMPT, steps=2, size=(SIDE, 2 * SIDE)),
}


@pytest.mark.parametrize("use", USES)
def test_uses_go_through(use, model):
    images = USES[use](model)
    assert images.shape[1] == SIDE
    assert images.dtype == torch.uint8
    assert float(images.float().std()) > 1


def test_inpainting_in_latents_keeps_what_is_known(model):
    given = {"condition": PROMPT, "count": 2, "steps": 4, "schedule": "timesteps", "precision": "fp32"}
    *_, last = inpaint_latents(model, picture(), left_half(), **given)
    images, known = last.images(), torch.from_numpy(picture())
    assert torch.equal(images[:, :, SIDE // 2 :], known[:, SIDE // 2 :].expand(2, -1, -1, -1))
    assert not torch.equal(images[0], images[1])
    whole = model.codec.encode(known[None])
    torch.testing.assert_close(last.x[:, :, :, 4:], whole[:, :, :, 4:].expand(2, -1, -1, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_low_memory_and_half_precision_are_the_same_picture(folders, model):
    exact = ours(model, steps=4)[1]
    low = ours(nk.load_pretrained(folders["sd"], low_memory=True), steps=4)[1]
    torch.testing.assert_close(low, exact)
    half = nk.load_pretrained(folders["sd"], weights="bf16")
    assert {each.dtype for each in half.denoiser.parameters()} == {torch.bfloat16}
    scale = float(exact.std())
    assert float((ours(half, steps=4)[1] - exact).abs().mean()) < 0.05 * scale


@pytest.fixture(scope="module")
def captioned_images(tmp_path_factory):
    place = tmp_path_factory.mktemp("captioned")
    for number in range(4):
        save_image(place / f"{number}.png", picture())
        (place / f"{number}.txt").write_text(PROMPT, encoding="utf-8")
    return place


@pytest.mark.slow
def test_an_adapter_is_trained_and_merged_into_the_pipeline(folders, captioned_images, tmp_path, model):
    out = tmp_path / "lora"
    tuned = nk.train(
        captioned_images, start=folders["sd"], lora=2, images=8, batch_size=4, steps=1, out=out, curves="none"
    )
    assert "steps(schedule=scaled_linear_betas" in (out / "run.yaml").read_text(encoding="utf-8")
    merged = nk.merge(nk.load_pretrained(folders["sd"]), out)
    torch.testing.assert_close(ours(merged, steps=2)[1], ours(tuned, steps=2)[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(ours(merged, steps=2)[1], ours(model, steps=2)[1], atol=1e-4)


# --- the command


def test_the_command_writes_images_that_say_how_they_were_made(folders, tmp_path, cli):
    words = ("--model", folders["sd"], "--negative", NEGATIVE, "--sampler", "ddim", "--steps", 2, "--seed", 5)
    done = cli("pretrained", PROMPT, *words, "-n", 2, "--out", tmp_path)
    assert done.code == 0, done
    text = read_png_text(tmp_path / "00001.png")
    assert (text["seed"], text["prompt"], text["negative_prompt"]) == (6, PROMPT, NEGATIVE)
    assert (text["sampler"], text["guidance"], text["command"]) == ("ddim", 7.5, "pretrained")
    assert "end='first'" in text["schedule"]
    save_image(tmp_path / "in" / "image.png", picture())
    save_image(tmp_path / "in" / "mask.png", (255 * left_half()).astype(np.uint8))
    given = ("--image", tmp_path / "in" / "image.png", "--mask", tmp_path / "in" / "mask.png", "--strength", 0.8)
    done = cli("pretrained", PROMPT, *words, *given, "--out", tmp_path / "changed")
    assert done.code == 0, done
    assert "image.png" in read_png_text(tmp_path / "changed" / "00000.png")["source"]


def without(part):
    return lambda folder: shutil.rmtree(folder / part)


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def a_transformer(folder):
    text = '{"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"]}'
    (folder / "model_index.json").write_text(text, encoding="utf-8")


def damaged(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")


def no_pipeline(folder):
    (folder / "model_index.json").unlink()


def reads_an_image(folder):
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"in_channels": 4', '"in_channels": 9'))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("unet"), "lacks the folder 'unet'"),
        (pickled, r"pickle .*runs any code.*save_pretrained"),
        (a_transformer, "its network is a transformer .*Load Stable Diffusion 1.x"),
        (damaged, "is damaged .*Download it again"),
        (no_pipeline, "is not a pipeline of diffusers"),
        (reads_an_image, "reads 9 channels and predicts 4"),
    ],
)
def test_what_cannot_be_loaded_is_refused(change, message, folders, tmp_path):
    shutil.copytree(folders["sd"], tmp_path / "sd")
    change(tmp_path / "sd")
    with pytest.raises(ValueError, match=message):
        nk.load_pretrained(tmp_path / "sd")


def test_a_hub_out_of_reach_and_a_package_that_is_missing(monkeypatch, tmp_path, cli):
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(*arguments, **options):
        assert options["timeout"] <= 10
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub.HfApi, "model_info", unreachable)
    monkeypatch.chdir(tmp_path)
    refused = cli("pretrained", PROMPT, "--model", "nobody/nothing-here")
    assert refused.code == 2
    assert "cannot be reached" in refused.flat
    assert "snapshot_download('nobody/nothing-here'" in refused.flat
    monkeypatch.setattr("noisekiln.files.packages.find_spec", lambda name: None)
    refused = cli("pretrained", PROMPT, "--model", "nobody/nothing-here")
    assert 'pip install "noisekiln[diffusers]"' in refused.flat


def test_what_was_downloaded_before_is_read_without_the_network(monkeypatch, folders, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    repository = tmp_path / "models--me--tiny"
    shutil.copytree(folders["sd"], repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    download = hub.snapshot_download
    monkeypatch.setattr(hub, "snapshot_download", lambda *a, **o: download(*a, cache_dir=tmp_path, **o))
    monkeypatch.chdir(tmp_path)
    assert nk.load_pretrained("me/tiny", offline=True).size == (SIDE, SIDE)


# --- the notes' ten lines


def test_the_notes_lines_and_noisekiln_make_the_same_picture(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = Path(__file__).parents[1] / "examples" / "pretrained_notes.py"
    runpy.run_path(str(example))["main"](["--model", str(folders["sd"]), "--steps", "4"])
    notes, own = (np.asarray(Image.open(file)).astype(int) for file in sorted(tmp_path.glob("*.png")))
    assert notes.shape == (SIDE, SIDE, 3)
    assert np.abs(notes - own).max() <= 1
    assert notes.std() > 5
