"""Exports make the same images as the model: for diffusers and torch without noisekiln, for ONNX without torch."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import noisekiln as nk
from noisekiln.components.spec import build
from noisekiln.components.spec_paths import without_folders
from noisekiln.conditions import Cond
from noisekiln.features.denoiser_middle import DenoiserMiddle
from noisekiln.files.card_file import read_card, stated_license
from noisekiln.files.hub import HubUnreachable
from noisekiln.interop.exporting import export
from noisekiln.interop.model_code import model_code
from noisekiln.interop.pushing import push
from noisekiln.interop.source_extract import extract_source, name_of_class
from noisekiln.interop.to_onnx import export_task, sampling_table, write_onnx_folder
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.plan.source_models import keep_model
from noisekiln.runs.model_card import model_card, rewrite_card
from noisekiln.runs.run_summary import ModelFacts, RunSummary, read_summary

BLOCKED = "import sys; sys.modules['noisekiln'] = None\n"  # importing it raises


def trained(*, conditioner=None, backbone=None, codec=None, size=(8, 12), task=None, **sampling):
    """A model whose outputs depend on all of its weights, as if it were trained."""
    torch.manual_seed(0)
    codec = codec or nk.Pixels((0.5, 0.4, 0.3), (0.2, 0.3, 0.2))
    vector = conditioner.sizes.vector if conditioner else 0
    image = task.condition_channels(codec.x_channels) if task else 0
    backbone = backbone or nk.Unet(
        codec.x_channels, vector=vector, widths=(32,), blocks=(1,), patch=1, condition=32, image=image
    )
    model = Diffusion(nk.Denoiser(backbone), codec, size, conditioner, Sampling(**{"steps": 5} | sampling), task)
    for weight in model.denoiser.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


def in_another_process(code, folder, tmp_path):
    """The images that code without noisekiln leaves in `images`, (N, H, W, C) uint8."""
    code = f"{BLOCKED}{code}\nimport numpy\nnumpy.save('images.npy', numpy.asarray(images))"
    env = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(folder / "images.npy").round().astype(int)


CASES = {
    "text": (
        {"conditioner": nk.Text(("red", "blue", "hat"), 16, 5), "guidance": 2.0},
        ["red hat\nNegative prompt: blue", "Blue"],
    ),
    "class": (
        {"conditioner": nk.ClassLabel(("cat", "dog"), 8), "sampler": "ddim(eta=0.5)", "schedule": "cosine"},
        ["dog", "dog"],
    ),
    "latents": (
        {
            "backbone": nk.Dit(4, width=64, depth=2, condition=32, early_exit=True),
            "guidance": "internal(scale=2)",
            "sampler": "heun",
            "codec": nk.Autoencoder(4, 4, 16, image_channels=3),
        },
        2,
    ),
}
PIPES = """
import torch
from diffusers import DiffusionPipeline
images = []
for name, wanted in {
    "text": {"prompt": ["red hat", "Blue"], "negative_prompt": ["blue", ""]},
    "class": {"class_labels": "dog", "num_images_per_prompt": 2},
    "latents": {"num_images_per_prompt": 2},
}.items():
    pipe = DiffusionPipeline.from_pretrained(name, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(3 + i) for i in range(2)]
    images.append(255 * pipe(**wanted, generator=generator, output_type="np").images)
"""


@pytest.mark.slow  # starts diffusers in a process of its own
def test_diffusers_makes_the_same_images_where_noisekiln_is_not_installed(tmp_path):
    expected = []
    for name, (parts, conditions) in CASES.items():
        model = trained(**parts)
        model.save(tmp_path / "saved" / name)
        folder = export(tmp_path / "saved" / name, tmp_path / name, to="diffusers")
        expected.append(model.sample(conditions, seed=3, precision="fp32").numpy().astype(int))
        weights = load_file(folder / "model" / "diffusion_pytorch_model.safetensors")
        assert weights.keys() == model.state_dict().keys()
    found = in_another_process(PIPES, tmp_path, tmp_path)
    assert np.abs(found - np.stack(expected)).max() == 0
    assert np.stack(expected).std(axis=(1, 2, 3, 4)).min() > 20  # there is something to compare


def test_torch_alone_makes_the_same_images(tmp_path):
    """Also from a source image, which the model's task prepares."""
    model = trained(task=nk.Upscale(2))
    model.save(tmp_path / "model")
    folder = export(tmp_path / "model", tmp_path / "out", to="torch")
    source = torch.arange(4 * 6 * 3, dtype=torch.uint8).view(1, 4, 6, 3)
    torch.save(source, folder / "source.pt")
    code = """
import torch
from model import load
generator = torch.Generator().manual_seed(7)
noise = lambda like: torch.randn(like.shape, generator=generator).to(like)
images = load().images([None], noise, source=torch.load("source.pt"))
"""
    expected = model.sample(1, seed=7, source=source, precision="fp32").numpy()
    assert np.abs(in_another_process(code, folder, tmp_path) - expected).max() <= 1e-4


def test_the_code_of_an_export_leaves_out_what_serves_training():
    text, names = extract_source(map(name_of_class, (nk.Text, nk.Unet, nk.Autoencoder)), used=["encode"])
    assert names[name_of_class(nk.Text)] == "Text"
    assert "noisekiln" not in text.replace("https", "")
    assert "def fit" not in text
    assert "def measure" not in text
    assert "split_words" in text


OWN = """
from torch import nn
from noisekiln.backbones.base import Backbone

WIDTH = 8


class Plain(Backbone):
    def __init__(self, channels: int, vector: int = 0, width: int = WIDTH) -> None:
        super().__init__()
        self.channels, self.vector, self.width = channels, vector, width
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, noise, cond):
        return noise[:, None, None, None] * self.conv(x)
"""


def test_a_file_of_ones_own_is_copied_into_the_code(tmp_path):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    model = trained(backbone=build(nk.Backbone, f"{tmp_path / 'own.py'}:Plain(width=4)", channels=3))
    (tmp_path / "made.py").write_text(model_code(model, "Made"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("made", tmp_path / "made.py")
    sys.modules["made"] = made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert "from noisekiln" not in (tmp_path / "made.py").read_text(encoding="utf-8")
    copy = made.Made()
    copy.load_state_dict(model.state_dict())
    images = copy.images([None], nk.SeededNoise([5]))
    assert torch.equal(images, torch.as_tensor(model.sample(1, seed=5, precision="fp32")))


def test_two_definitions_of_one_name_get_two():
    from noisekiln.blocks import rotary
    from noisekiln.conditioners import text as words
    from noisekiln.interop.parsed_module import Name

    both = [Name(rotary.__name__, "LONGEST"), Name(words.__name__, "LONGEST"), Name(rotary.__name__, "rotary_angles")]
    text, names = extract_source(both)
    namespace = {}
    exec(text, namespace)
    assert [namespace[names[name]] for name in both[:2]] == [rotary.LONGEST, words.LONGEST]
    angles = namespace["rotary_angles"](2, 3, 8, torch.device("cpu"))
    assert torch.equal(angles, rotary.rotary_angles(2, 3, 8, torch.device("cpu")))


def test_a_step_of_the_table_is_a_step_of_the_sampler():
    for sampler in ("dpmpp_2m", "ddim"):
        for schedule in ("karras", "cosine", "linear_betas"):
            model = trained(sampler=sampler, schedule=schedule)
            noise, before = torch.randn(1, 3, 8, 12), 0.0
            table = sampling_table(model)
            x = table["first"] * noise
            with torch.no_grad():
                for row in table["steps"]:
                    y = model.denoiser.backbone(row["scale"] * x, torch.full((1,), row["label"]), Cond())
                    clean = row["of_x"] * x + row["of_y"] * y
                    x = row["keep"] * x + row["add"] * (clean + row["ahead"] * (clean - before))
                    before = clean
            *_, last = model.generate(1, noise=noise, precision="fp32")
            torch.testing.assert_close(x, last.x, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # torch's exporter takes seconds for each network
def test_onnx_equals_torch_for_three_sizes(tmp_path):
    """Networks at three sizes and batches; `sample.py` with prompts, guidance, and without."""
    import onnxruntime

    from noisekiln.interop.onnx_sample import ids_of, sample

    text = nk.Text(("red", "blue", "hat"), 16, 5, buckets=50, layers=1)
    net = nk.Unet(3, vector=16, tokens=16, widths=(32, 32), blocks=(1, 1), patch=1, condition=32, attention=(1,))
    model = trained(conditioner=text, backbone=net, guidance=2.0)
    notes = write_onnx_folder(model, tmp_path)
    assert notes == ["denoiser.onnx takes heights and widths that are multiples of 2"]
    run = {file.stem: onnxruntime.InferenceSession(file) for file in tmp_path.glob("*.onnx")}
    for batch, height, width in ((1, 8, 12), (3, 16, 8), (2, 20, 22)):
        x, label, vector = torch.randn(batch, 3, height, width), torch.rand(batch), torch.randn(batch, 16)
        tokens, mask = torch.randn(batch, 5, 16), torch.rand(batch, 5) > 0.3
        cond = {"vector": vector, "tokens": tokens, "mask": mask}
        inputs = {name: value.numpy() for name, value in ({"x": x, "label": label} | cond).items()}
        with torch.no_grad():
            y = model.denoiser.backbone(x, label, Cond(**cond)).numpy()
            image = model.codec.to_image(x).numpy()
        assert np.abs(run["denoiser"].run(None, inputs)[0] - y).max() < 1e-4
        assert np.abs(run["decoder"].run(None, {"x": x.numpy()})[0] - image).max() < 1e-4
        pixels = np.random.default_rng(0).uniform(0, 255, (batch, height, width, 3)).astype(np.float32)
        encoded = run["encoder"].run(None, {"pixels": pixels})[0]
        assert np.abs(encoded - model.codec.encode(torch.from_numpy(pixels)).numpy()).max() < 1e-4
    condition = json.loads((tmp_path / "sampling.json").read_text(encoding="utf-8"))["condition"]
    ids = np.concatenate([ids_of(condition, "a RED hat"), ids_of(condition, "blues")])
    noise = torch.randn(2, 3, 8, 12)
    for values, own, scale in (
        (["a red hat", "blues"], ids, 2.0),
        (["a red hat", "blues"], ids, 1.0),
        ([None] * 2, None, 2.0),
    ):
        *_, last = model.generate(values, noise=noise, guidance=scale, precision="fp32")
        expected = model.codec.to_image(last.x).permute(0, 2, 3, 1).clamp(0, 1).numpy()
        assert np.abs(sample(tmp_path, noise.numpy(), own, scale) - expected).max() < 1e-4
    command = [sys.executable, "sample.py", "red hat", "-n", "2"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, check=True, capture_output=True)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


@pytest.mark.slow
def test_onnx_of_a_task_makes_the_images_of_the_model(tmp_path):
    """With guidance, by classes; prompts are exported above."""
    from noisekiln.interop.onnx_sample import ids_of, sample

    model = trained(conditioner=nk.ClassLabel(("cat", "dog"), 16), task=nk.Inpaint(), guidance=2.0)
    notes = write_onnx_folder(model, tmp_path)
    assert "source.onnx takes 8x12 alone, to which sample.py scales the image" in notes
    source, noise = random_source((2, 8, 12, 4)), torch.randn(2, 3, *model.size)
    condition = json.loads((tmp_path / "sampling.json").read_text(encoding="utf-8"))["condition"]
    for value, ids in (("dog", ids_of(condition, "dog").repeat(2, 0)), (None, None)):
        *_, last = model.generate([value] * 2, noise=noise, source=torch.from_numpy(source), precision="fp32")
        expected = model.codec.to_image(last.x).permute(0, 2, 3, 1).clamp(0, 1).numpy()
        assert np.abs(sample(tmp_path, noise.numpy(), ids, 2.0, source) - expected).max() < 1e-4
    Image.fromarray(source[0], "RGBA").save(tmp_path / "photo.png")
    command = [sys.executable, "sample.py", "dog", "-n", "2", "-i", "photo.png"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, check=True, capture_output=True)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


@pytest.mark.parametrize("task", [nk.Upscale(2, noise=0.2), nk.Colorize(), nk.Translate()], ids=["up", "grey", "pair"])
def test_onnx_of_a_source_is_the_condition_image_of_the_task(task, tmp_path):
    import onnxruntime

    from noisekiln.interop.onnx_sample import image_of

    model = trained(task=task)
    export_task(task, model, model.empty_x(2).zero_(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["source.onnx"], "nothing is known of the pixels"
    source = random_source((3, *task.source_size(model.size), task.source_channels(3)))
    noise = torch.randn(3, 3, *model.size)
    expected = task.condition_image(torch.from_numpy(source), model.codec, model.size, lambda like: noise)
    found = image_of(onnxruntime.InferenceSession(tmp_path / "source.onnx"), source, noise.numpy())
    assert np.abs(found - expected.numpy()).max() < 1e-4


RUN_CARDS = r"""
import os, re, sys
from pathlib import Path
import numpy as np
images = []
for card in sorted(Path().glob("*/README.md")):
    [code] = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    alone, found = "from model" in code, {}
    os.chdir(card.parent if alone else ".")
    sys.path.insert(0, os.getcwd())
    sys.modules.pop("model", None)
    exec(code.replace("photo.png", "../photo.png" if alone else "photo.png"), found)
    corner = np.array(found["photo"])[0, 0].flat[0]
    images.append([(*(each.shape[1::-1] if alone else each.size), corner) for each in found["images"]])
    os.chdir(".." if alone else ".")
    sys.path.pop(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch", "diffusers"])
def test_the_code_of_a_card_of_a_task_runs(to, tmp_path):
    (tmp_path / "cards").mkdir()
    tasks = {"colorize": nk.Colorize(), "inpaint": nk.Inpaint(), "translate": nk.Translate(), "upscale": nk.Upscale(2)}
    for name, task in tasks.items():
        trained(task=task).save(tmp_path / name)
        export(tmp_path / name, tmp_path / "cards" / name, to=to)
    photo = random_source((30, 50, 4))
    photo[:15, :25] = 0  # transparent
    Image.fromarray(photo).save(tmp_path / "cards" / "photo.png")
    sizes_and_corners = in_another_process(RUN_CARDS, tmp_path / "cards", tmp_path)
    on_white, transparent = [[12, 8, 255]] * 4, [[12, 8, 0]] * 4
    assert sizes_and_corners.tolist() == [on_white, transparent, on_white, on_white]


def random_source(shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_the_card_of_a_model_of_latents_names_its_codec(tmp_path):
    codec = nk.Autoencoder(4, 4, 16, image_channels=3)
    model = trained(codec=codec, backbone=nk.Unet(4, widths=(32,), blocks=(1,), patch=1))
    model.save(tmp_path / "model")
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "metrics.jsonl").write_text('{"images_seen": 160}\n', encoding="utf-8")
    card = model_card(read_summary(tmp_path, "x", model=ModelFacts.of(model)))
    assert ", and a codec, `autoencoder`, of latents of 4 channels for 4x4 pixels), and was" in card
    assert "| Before that, its codec | 160 images |" in card
    assert "codec" not in model_card(RunSummary("x", tmp_path / "model", model=ModelFacts.of(trained())))


def test_an_image_without_holes_is_not_inpainted():
    source = torch.full((2, 8, 12, 4), 255, dtype=torch.uint8)
    with pytest.raises(ValueError, match="No pixel of the image is transparent"):
        trained(task=nk.Inpaint()).sample(2, source=source, steps=1)
    source[1, 2, 3, 3] = 0
    assert trained(task=nk.Inpaint()).sample(2, source=source, steps=1).shape == (2, 8, 12, 3)


def test_the_source_of_an_onnx_export_is_upright_and_white_where_transparent(tmp_path):
    from noisekiln.interop.onnx_sample import read_source

    holes = np.full((8, 6, 4), (200, 10, 10, 255), np.uint8)
    holes[:4] = 0
    Image.fromarray(holes).save(tmp_path / "holes.png")
    assert read_source(tmp_path / "holes.png", 8, 6, 3)[0, [0, 7], 0].tolist() == [[255, 255, 255], [200, 10, 10]]
    assert read_source(tmp_path / "holes.png", 8, 6, 4)[0, [0, 7], 0, 3].tolist() == [0, 255]
    exif = Image.Exif()
    exif[0x112] = 6  # is shown turned by a quarter
    Image.fromarray(holes[..., :3]).save(tmp_path / "turned.png", exif=exif)
    assert read_source(tmp_path / "turned.png", 6, 8, 1)[0, 0, [0, 7], 0].tolist() == [67, 0]
    with pytest.raises(SystemExit, match="no transparent pixels"):
        read_source(tmp_path / "turned.png", 6, 8, 4)
    with pytest.raises(SystemExit, match="cannot be read"):
        read_source(tmp_path / "none.png", 6, 8, 4)


def test_the_source_of_a_pipeline_is_upright_and_white_where_transparent():
    from noisekiln.interop.diffusers_pipeline import _in_mode

    photo = np.full((2, 3, 4), (200, 10, 10, 255), np.uint8)
    photo[0, 0] = 0
    image = Image.fromarray(photo)
    assert np.array(_in_mode(image, "RGB"))[0, :2].tolist() == [[255, 255, 255], [200, 10, 10]]
    assert np.array(_in_mode(image, "RGBA"))[0, :2, 3].tolist() == [0, 255]
    image.getexif()[0x112] = 6
    assert _in_mode(image, "L").size == (2, 3)


def test_what_cannot_be_exported_says_what_to_do(tmp_path, cli, monkeypatch):
    model = trained()
    model.save(tmp_path / "model")
    result = cli("export", tmp_path / "model", "--to", "onxn")
    assert result.code == 2
    assert "Did you mean 'onnx'?" in result.flat
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert "is not empty" in cli("export", tmp_path / "model", tmp_path / "out").flat
    assert not (tmp_path / "out" / "model_index.json").exists()
    monkeypatch.setattr("noisekiln.files.packages.find_spec", lambda name: None)
    assert 'pip install "noisekiln[onnx]"' in cli("export", tmp_path / "model", "--to", "onnx").flat
    assert not (tmp_path / "model" / "onnx").exists()


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.slow  # trains, and draws the pictures of the run
def test_a_run_has_a_card_that_a_person_may_change(pets, tmp_path, cli, draws_pictures):
    command = ("train", pets, "--out", tmp_path / "run", "--images", "64", "--batch-size", "32", "--model", "xs")
    assert cli(*command).code == 0
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert front_matter(card)["pipeline_tag"] == "unconditional-image-generation"
    for words in (
        "conditioned on classes (Cat, dog)",
        "`pets`: ",
        "64 images",
        "| Images seen | 66 |",
        "loss.png",
        "samples/000000066.png",
    ):
        assert words in card, card
    assert not rewrite_card(tmp_path / "run", ModelFacts.of(nk.load(tmp_path / "run")))
    again = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert [line for line in again.splitlines() if "Checksum" not in line and "| Time |" not in line] == [
        line for line in card.splitlines() if "Checksum" not in line and "| Time |" not in line
    ]
    assert "In this folder:\n\n```bash\npip install noisekiln\nnoisekiln sample . --class Cat -n 16" in card
    assert "sample(['Cat'] * 16, seed=0)" in card
    (tmp_path / "run" / "README.md").write_text(card + "Mine.", encoding="utf-8")
    upload = push(tmp_path / "run", "anna/pets", dry_run=True)
    assert upload.card.endswith("Mine.")


BLOCKS = """
from dataclasses import dataclass
from noisekiln.features.base import FeatureExtractor

@dataclass(frozen=True)
class Blocks(FeatureExtractor):
    def features_of(self, images):
        return images.flatten(1).float() / 255

    def describe(self):
        return {"name": "pixels", "version": "1", "preprocessing": "none"}
"""


def test_an_evaluation_writes_its_figures_into_the_card_unless_a_person_has_changed_it(class_run, tmp_path):
    run, own = shutil.copytree(class_run, tmp_path / "run"), tmp_path / "own.py"
    own.write_text(BLOCKS, encoding="utf-8")
    words = {"count": 10, "steps": 1, "features": f"{own}:Blocks", "model_weights": "averaged"}
    card = run / "README.md"
    report = nk.evaluate(run, **words)
    written = card.read_text(encoding="utf-8")
    kid = report.rows()[list(report.scores).index("kid")]
    assert f"| KID | {kid[1]} ({kid[2]}) |" in written
    nk.evaluate(run, **words)
    assert card.read_text(encoding="utf-8") == written
    card.write_text(written.replace("# run", "# Mine"), encoding="utf-8")
    report = nk.evaluate(run, **words | {"seed": 1})
    says = "and stays as it is; delete README.md to get a new one from the next evaluation"
    assert report.notes[-1] == f"README.md was changed by hand, {says}"
    assert card.read_text(encoding="utf-8") == written.replace("# run", "# Mine")
    card.write_text(re.sub("<!-- Written.*\n", "", written), encoding="utf-8")
    assert rewrite_card(run, ModelFacts.of(nk.load(run))) == f"README.md is by hand or of an earlier noisekiln, {says}"


def test_the_card_names_what_a_model_was_made_from_and_its_licence(class_run, pets, tmp_path, cli):
    base = shutil.copytree(class_run, tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: my-own-1\n---\n# Base", encoding="utf-8")
    command = ("--images", "16", "--batch-size", "8", "--curves", "none")
    assert cli("train", pets, "--from", base / "model", *command, "--out", tmp_path / "tuned").code == 0
    shutil.rmtree(base)
    card = push(tmp_path / "tuned", "anna/tuned", dry_run=True).card
    assert "was fine-tuned from `base` with" in card
    assert "It was fine-tuned from `base`, whose licence is `my-own-1` by its card." in card
    assert "| `start` | `base` |" in card
    settings = yaml.safe_load((tmp_path / "tuned" / "run.yaml").read_text(encoding="utf-8"))
    settings["start"] = "hf:anna/base@v2"
    (tmp_path / "tuned" / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (tmp_path / "tuned" / "start" / "README.md").unlink()
    card = push(tmp_path / "tuned", "anna/tuned", dry_run=True).card
    assert front_matter(card)["base_model"] == ["anna/base"]
    assert "`hf:anna/base@v2`, whose licence is unknown here: look at the model's page." in card


@pytest.mark.parametrize(
    ("source", "model", "is_run", "found"),
    [
        ("run", "run/model", True, True),
        ("run/model", "run/model", True, True),
        ("run/model-best", "run/model-best", True, True),
        ("repository", "repository/model", False, True),  # which was named, and is no run
        ("data/model", "data/model", False, False),
        ("data/model-x", "data/model-x", False, False),
        ("run/model-x", "run/model-x", True, False),
    ],
)
def test_the_card_of_a_model_is_none_that_lies_beside_it_by_chance(source, model, is_run, found, tmp_path):
    trained().save(tmp_path / model)
    above = tmp_path / model.partition("/")[0]
    (above / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    if is_run:
        (above / "run.yaml").touch()
    keep_model(nk.load(tmp_path / source), str(tmp_path / source), tmp_path / "start")
    assert stated_license(read_card(tmp_path / "start")) == ("mit" if found else "")


def test_the_example_of_a_card_is_a_prompt_of_frequent_words_and_safe_in_a_shell():
    facts = ModelFacts.of(trained(conditioner=nk.Text(("a", "cat's", "red", "hat", "blue"), 16, 5)))
    card = model_card(RunSummary("cats", Path("cats"), model=facts))
    assert f"""noisekiln sample . --prompt {shlex.quote("cat's red hat")} -n 16""" in card
    assert """sample(["cat's red hat"] * 16, seed=0)""" in card


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: cc-by-4.0\n---\n# Name", "cc-by-4.0"),
        ("\ufeff---\r\nlicense: [mit, apache-2.0]\r\n---\r\n", "mit, apache-2.0"),
        ("---\nlicense: unknown\n---\n", ""),
        ("# Name\n---\nlicense: mit\n---\n", ""),
        ("---\nlicense: {a: b\n---\n", ""),
        ("---\nlicense: 7\n---\n", ""),
        ("", ""),
    ],
)
def test_the_licence_of_a_card(card, license):
    assert stated_license(card) == license


def test_a_push_leaves_private_files_behind(class_run, cli):
    result = cli("push", class_run, "anna/pets", "--dry-run", "--license", "cc-by-4.0")
    assert result.code == 0
    assert "license: cc-by-4.0" in result.out
    assert 'nk.load("hf:anna/pets")' in result.out
    files = push(class_run, "anna/pets", dry_run=True).files
    assert {"README.md", "model/model.json", "model/model.safetensors"} <= files.keys()
    assert files["model/model.safetensors"] == (class_run / "model" / "model.safetensors").stat().st_size
    assert not {"run.yaml", "dataset.json", "data.png", "forward.png", "environment.json"} & files.keys()
    assert str(class_run.parent) not in upload_text(class_run)
    assert "Give user/name" in cli("push", class_run, "anna").flat


def test_a_pushed_model_names_its_author_s_files_by_their_copies(tmp_path, monkeypatch, cli):
    own = tmp_path / "anna" / "own.py"
    own.parent.mkdir()
    own.write_text(OWN, encoding="utf-8")
    model = trained(backbone=build(nk.Backbone, f"{own}:Plain(width=4)", channels=3))
    model.save(tmp_path / "run" / "model")
    expected = torch.as_tensor(model.sample(1, seed=1))
    uploaded = capture_upload(monkeypatch, tmp_path / "uploaded")
    upload = push(tmp_path / "run", "anna/own", allow_code=True)
    assert upload.notes == (f"model.json names code/own.py in place of {own}",)
    assert str(tmp_path) not in upload.card
    assert "own.py:Plain" in upload.card
    assert str(tmp_path) not in (uploaded / "model" / "model.json").read_text(encoding="utf-8")
    assert str(own) in (tmp_path / "run" / "model" / "model.json").read_text(encoding="utf-8"), "the run is as before"
    shutil.rmtree(own.parent)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text("raise RuntimeError", encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # where another file has the name of the copy
    assert torch.equal(torch.as_tensor(nk.load(uploaded, allow_code=True).sample(1, seed=1)), expected)
    assert push(uploaded, "anna/own", dry_run=True, allow_code=True).notes == ()
    result = cli("push", tmp_path / "run", "anna/own", "--dry-run", "--allow-code")
    assert f"note: model.json names code/own.py in place of {own}" in result.flat


def test_an_uploaded_evaluation_names_no_folders_of_this_computer(class_run, tmp_path, monkeypatch):
    run, home = shutil.copytree(class_run, tmp_path / "run"), tmp_path / "anna b"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    middle = DenoiserMiddle("/data/our runs/reference").describe()
    evaluation = {
        "model": "pets",
        "features": middle,
        "sampling": {"sampler": f"{home}/own.py:Mine(eta=1)", "steps": 2},
        "scores": {"kid": {"value": 0.5, "about": "d1 / d2, images/s, see https://a.org/b"}},
        "notes": [f"copies are not looked for: {home}/pets is gone", r"no D:\anna\x, 'C:/a b/y' or ~anna/z."],
    }
    (run / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    uploaded = capture_upload(monkeypatch, tmp_path / "uploaded")
    upload = push(run, "anna/pets")
    assert json.loads((uploaded / "evaluation.json").read_text(encoding="utf-8")) == evaluation | {
        "features": middle | {"name": middle["name"].replace("/data/our runs/", "./")},
        "sampling": {"sampler": "./own.py:Mine(eta=1)", "steps": 2},
        "notes": ["copies are not looked for: ./pets is gone", "no ./x, './y' or ./z."],
    }
    assert "evaluation.json names ./reference in place of /data/our runs/reference" in upload.notes
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8")) == evaluation, "the run is as before"
    (run / "evaluation.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"evaluation.json cannot be read .* Evaluate the run again"):
        push(run, "anna/pets", dry_run=True)


def capture_upload(monkeypatch, folder):
    """The folder in which a push leaves what it would upload."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "create_repo", lambda *names, **rest: None)
    monkeypatch.setattr(
        huggingface_hub, "upload_folder", lambda folder_path, **rest: shutil.copytree(folder_path, folder)
    )
    return folder


@pytest.mark.parametrize(
    ("spec", "expected", "notes"),
    [
        ("unet(widths=(32,))", "unet(widths=(32,))", 0),
        ("pretrained_text(model='/home/a/t5', width=16)", "pretrained_text(model='./t5', width=16)", 1),
        ("pretrained_text(model='C:\\\\a\\\\t5')", "pretrained_text(model='./t5')", 1),
        ("pretrained_text(model='org/t5')", "pretrained_text(model='org/t5')", 0),
        ("class_label(names=('/a/b', 'c'))", "class_label(names=('/a/b', 'c'))", 0),
        ("text(words=('/a', '~b'))", "text(words=('/a', '~b'))", 0),
        ("w(inner=text(words=('/a',), file='/a'))", "w(inner=text(words=('/a',), file='./a'))", 1),
        ("compose(parts=('/home/anna/a', 'b'))", "compose(parts=('./a', 'b'))", 1),
        ("a(b=['/home/anna/x', ('~/y', 1)])", "a(b=['./x', ('./y', 1)])", 2),
        ("w(inner=c(model='/home/anna/run'), n=2)", "w(inner=c(model='./run'), n=2)", 1),
        ("w(inner=c(of=d(model='C:\\\\anna\\\\run')))", "w(inner=c(of=d(model='./run')))", 1),
        ("/home/a/own.py:Heun", "own.py:Heun", 1),
        ("/home/a/net.py:Net(x='/b', y=1e-05)", "code/2/net.py:Net(x='./b', y=1e-05)", 2),
        ("not a spec (", "not a spec (", 0),
    ],
)
def test_a_spec_without_the_folders_of_this_computer(spec, expected, notes):
    replaced = without_folders(spec, {"/home/a/net.py": "code/2/net.py"})
    assert replaced.spec == expected
    assert len(replaced.files) + len(replaced.folders) == notes


def upload_text(run):
    return push(run, "anna/pets", dry_run=True).card


def test_a_model_of_the_hub(class_run, pets, tmp_path, cli, monkeypatch):
    """What is downloaded is a folder that `load` reads; without network, or without the package, the error says so."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *names, **rest: asked.append(names) or str(class_run)
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *names, **rest: SimpleNamespace(siblings=None))
    ours = nk.load(class_run).sample(["dog"], seed=1)
    assert torch.equal(torch.as_tensor(nk.load("hf:anna/pets").sample(["dog"], seed=1)), torch.as_tensor(ours))
    assert set(asked) == {("anna/pets",)}
    monkeypatch.chdir(tmp_path)
    done = cli("sample", "hf:anna/pets", "-n", "1", "--class", "dog", "--steps", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "pictures" / "00000.png").is_file()
    tuned = cli("train", pets, "--from", "hf:anna/pets", "--images", "16", "--batch", "8", "--out", "tuned")
    assert tuned.code == 0, tuned.err
    assert nk.load("tuned").size == nk.load(class_run).size

    def unreachable(*names, **rest):
        raise LocalEntryNotFoundError("Cannot find the requested files")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(HubUnreachable, match="and give that folder"):
        nk.load("hf:anna/pets")
    monkeypatch.setattr("noisekiln.files.packages.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"noisekiln\[hub\]"):
        nk.load("hf:anna/pets")
    with pytest.raises(ValueError, match="Give user/name"):
        nk.load("hf:anna")
