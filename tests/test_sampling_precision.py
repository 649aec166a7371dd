"""Precision of sampling: only the network computes in 16 bits; the default on a CPU is float32, to the bit."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.blocks.group_norm import GroupNorm
from noisekiln.data import load
from noisekiln.files.pictures import ImageArray
from noisekiln.machine.autocast import best_precision, choose_precision
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.held_out import HeldOutLoss
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.defaults import default_precision
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.samplers.base import SeededNoise, sample
from noisekiln.samplers.dpmpp_2m import DPMpp2M

GREY = 4  # difference of an image in bf16 from that in fp32, at most


@pytest.fixture
def model(class_run: Path) -> Diffusion:
    return Diffusion.load(class_run)


def cat(pets: Path) -> ImageArray:
    with Image.open(pets / "Cat" / "0.png") as picture:
        return np.asarray(picture).copy()


@contextmanager
def types_seen(model: Diffusion) -> Iterator[set[torch.dtype]]:
    """The types in which the network's convolutions compute meanwhile."""
    seen: set[torch.dtype] = set()
    layers = [layer for layer in model.denoiser.backbone.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, rows, y: seen.add(y.dtype)) for layer in layers]
    yield seen
    for hook in hooks:
        hook.remove()


def differences(one: Tensor, other: Tensor) -> Tensor:
    return (one.float() - other.float()).abs()


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_images_in_bf16_are_nearly_those_in_fp32(model: Diffusion, guidance: float):
    conditions = ["Cat", "dog"] * 8
    with types_seen(model) as seen:
        half, full = (
            model.sample(conditions, guidance=guidance, steps=12, precision=name) for name in ("bf16", "fp32")
        )
    assert seen == {torch.bfloat16, torch.float32}
    away = differences(half, full)
    assert 0 < away.max() <= GREY
    assert away.mean() < 0.5
    assert full.float().std() > 20  # they show something


def test_the_default_on_a_cpu_is_float32_to_the_bit(model: Diffusion):
    """Sampled by hand from the bare network."""
    levels, noise = model.levels(steps=6), SeededNoise([3, 4])
    x = levels[0].norm * noise(model.empty_x(2))
    cond = model.conditioner(model.conditioner.encode_all(["dog", "Cat"]))
    with torch.no_grad():
        *_, x = sample(lambda x_t, t, to=None: model.denoiser(x_t, t, cond), DPMpp2M(), levels, x, noise)
    options = {"sampler": "dpmpp_2m", "steps": 6, "guidance": 1.0, "seed": 3}
    default = list(model.generate(["dog", "Cat"], **options))[-1].x
    named = list(model.generate(["dog", "Cat"], precision="fp32", **options))[-1].x
    assert torch.equal(default, x)
    assert torch.equal(named, x)


def test_only_the_network_computes_in_16_bits(model: Diffusion):
    """Noise, levels, estimates and steps are float32: x is not what bf16 can hold, and estimates recombine exactly."""
    x_t, t = SeededNoise([1, 2])(model.empty_x(2)), model.levels()[3]
    with torch.no_grad(), types_seen(model) as seen:
        estimate = model.bind(["dog", None], precision="bf16")(x_t, t)
    assert seen == {torch.bfloat16}
    assert estimate.x.dtype is estimate.eps.dtype is torch.float32
    torch.testing.assert_close(estimate.at(t), x_t, rtol=1e-5, atol=1e-5)
    progress = list(model.generate(2, steps=3, precision="bf16"))
    assert all(each.x.dtype is torch.float32 for each in progress)


USES: dict[str, Callable[[Diffusion, ImageArray], Tensor]] = {
    "edit": lambda model, image: nk.edit(model, image, count=1, steps=3, precision="bf16"),
    "generate": lambda model, image: list(nk.generate(model, 1, steps=3, precision="bf16"))[-1].images(),
    "inpaint": lambda model, image: nk.inpaint(model, image, np.eye(8), count=1, steps=3, precision="bf16"),
    "interpolate": lambda model, image: nk.interpolate(model, [1, image], frames=2, steps=3, precision="bf16"),
    "outpaint": lambda model, image: nk.outpaint(model, image, right=2, count=1, steps=3, precision="bf16"),
    "style": lambda model, image: nk.style(model, image, condition="dog", steps=3, precision="bf16"),
    "upscale": lambda model, image: nk.upscale(model, image[::2, ::2], 2, count=1, steps=3, precision="bf16"),
    "variations": lambda model, image: nk.variations(model, image, count=1, steps=3, precision="bf16"),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_has_a_precision(model: Diffusion, pets: Path, use: str):
    with types_seen(model) as seen:
        USES[use](model, cat(pets))
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize("method", ["moment_matching", "pigdm", "dps", "diffpir", "replacement"])
def test_inverse_methods_find_in_bf16_what_they_find_in_fp32(model: Diffusion, pets: Path, method: str):
    """Also those that differentiate the network."""
    image = cat(pets)
    half, full = (
        nk.upscale(model, image[::2, ::2], 2, method=method, count=4, steps=8, precision=name)
        for name in ("bf16", "fp32")
    )
    assert 0 < differences(half, full).mean() < 2


def test_every_stage_of_a_cascade_has_the_precision(plain: Path, tmp_path: Path):
    options = {"images": 64, "batch_size": 32, "backbone": TINY, "curves": "none"}
    small = nk.train(plain, size=4, out=tmp_path / "small", **options)
    large = nk.train(plain, task="upscale(factor=2)", out=tmp_path / "large", **options)
    joined = nk.cascade([small, large])
    with types_seen(joined.stages[0]) as first, types_seen(joined.stages[1]) as second:
        joined.sample(1, steps=2, precision="bf16")
    assert first == second == {torch.bfloat16}


def test_an_unknown_precision_is_refused_by_the_call(model: Diffusion):
    with pytest.raises(ValueError, match="`precision=half` is not a precision of networks"):
        model.generate(1, precision="half")


# --- what is chosen


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int], str], None]:
    """Pretends to have a card of a compute capability and name."""

    def pretend(number: tuple[int, int], name: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: number >= (8, 0))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: number)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)

    return pretend


@pytest.mark.parametrize(
    ("number", "name", "sampling", "training"),
    [
        ((9, 0), "NVIDIA H100", "bf16", "bf16"),
        ((8, 6), "NVIDIA RTX 3060", "bf16", "bf16"),
        ((7, 5), "Tesla T4", "fp32", "fp16"),
        ((7, 0), "Tesla V100-SXM2-16GB", "fp32", "fp16"),
        ((7, 5), "NVIDIA GeForce GTX 1660 Ti", "fp32", "fp32"),
        ((6, 1), "NVIDIA GeForce GTX 1080", "fp32", "fp32"),
    ],
)
def test_the_default_is_what_a_card_computes_well(card, number, name, sampling, training):
    card(number, name)
    assert choose_precision("auto", "cuda") == best_precision("cuda") == sampling
    assert default_precision("cuda") == training
    assert default_precision("cuda", shard=True) == (training if training != "fp16" else "fp32")
    assert choose_precision("auto", "cpu") == choose_precision("auto", "mps") == default_precision("cpu") == "fp32"
    assert choose_precision("fp16", "cuda") == "fp16"


@pytest.mark.parametrize(
    ("says_so", "limit", "chosen"),
    [(True, "", "bf16"), (True, "avx512_core_amx", "bf16"), (True, "AVX512_CORE_BF16", "fp32"), (False, "", "fp32")],
)
def test_a_processor_with_matrix_units_computes_in_bf16(says_so, limit, chosen, monkeypatch):
    """If it says that it has them, and the environment has not switched them off."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: says_so, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert choose_precision("auto", "cpu") == default_precision("cpu") == chosen
    assert choose_precision("fp32", "cpu") == "fp32"


def test_samples_name_a_precision_other_than_fp32(cli: Command, class_run: Path, pets: Path, tmp_path: Path):
    def index(*words: object) -> list[dict[str, object]]:
        result = cli(*words, "--steps", 2, "--out", tmp_path)
        assert result.code == 0, result
        entries = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
        return [{name: each[name] for name in ("file", "seed", "precision") if name in each} for each in entries]

    assert index("sample", class_run, "-n", 1) == [{"file": "00000.png", "seed": 0}]
    assert index("sample", class_run, "-n", 1, "--precision", "fp32") == [{"file": "00000.png", "seed": 0}]
    half = [{"file": "00000.png", "seed": 0, "precision": "bf16"}]
    assert index("sample", class_run, "-n", 1, "--precision", "bf16") == half
    assert index("edit", class_run, pets / "Cat" / "0.png", "-n", 1, "--precision", "bf16") == half
    between = index("interpolate", class_run, 1, 2, "--frames", 1, "--precision", "bf16")
    assert between == [{"file": f"{i:05d}.png", "precision": "bf16"} for i in range(2)]
    styled = index("style", class_run, pets / "Cat" / "0.png", "--class", "dog", "--precision", "bf16")
    assert [entry["precision"] for entry in styled] == ["bf16"]
    refused = cli("edit", class_run, pets / "Cat" / "0.png", "--precision", "half", "--out", tmp_path)
    assert refused.code == 2
    assert "--precision half is not a choice" in refused.flat


# --- what a run draws and measures


@pytest.mark.parametrize(("precision", "drawn"), [("bf16", torch.bfloat16), ("fp16", torch.float32)])
def test_grids_are_drawn_as_training_computes_and_held_out_images_in_fp32(pets, tmp_path, precision, drawn):
    """Except for fp16, whose range only training watches."""
    settings = Settings(
        images=64, batch_size=32, backbone=TINY, device="cpu", precision=precision, curves="none", lr=0.01
    )
    run = Run(settings, load(pets), tmp_path / "run", intervals=Intervals(images_per_noisy_image=8))
    averaged = run.copies.averaged().diffusion
    with types_seen(averaged) as seen:
        run.draw_grid()
    assert seen == {drawn}
    with types_seen(averaged) as seen:
        evaluated = HeldOutLoss(tmp_path, run.data, run.settings, images_per_noisy_image=8).evaluate(averaged, 64, 1.0)
    assert evaluated is not None
    assert seen == {torch.float32}


# --- group norm


def test_group_norm_keeps_the_type_of_its_input(monkeypatch: pytest.MonkeyPatch):
    """Autocast, which on CUDA makes it float32, is off within it."""
    norm, within, plain = GroupNorm(4, 32), [], F.group_norm
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 32, 5, 5) * 2 + 10
    expected = nn.GroupNorm(4, 32).requires_grad_(False)
    expected.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), expected(x))

    def recorded(rows: Tensor, *settings: object) -> Tensor:
        within.append((rows.dtype, torch.is_autocast_enabled("cpu")))
        return plain(rows, *settings)

    monkeypatch.setattr(F, "group_norm", recorded)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            y = norm(x.to(dtype))
        assert y.dtype is dtype
        torch.testing.assert_close(y.float(), expected(x.to(dtype).float()), rtol=0.03, atol=0.03)
        assert within == [(dtype, False), (torch.float32, False)]
        within.clear()
