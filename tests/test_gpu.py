"""Training and sampling on a device: on a GPU if there is one, and on a pretended one, which counts what it costs.

The checks are those of `benchmarks/gpu.py`, where they run without pytest; on the CPU they are only walked.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

import conftest
import gpu_checks_graphs
import gpu_checks_sampling
import gpu_checks_training
from gpu_report import Item, Part, Recorder, run_parts
from gpu_tiny import BATCH, NETWORK, SIDE, noise_data, picture, random_model, settings_for, steps, trainer_on
from noisekiln.components.registry import names
from noisekiln.machine.speed import SIDES
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.binned import BinnedMeans
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.preview import PREVIEW
from noisekiln.optimizers.muon import MuonOptimizer
from noisekiln.plan.build import make_learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.runs.save_job import SaveJob
from pretended_device import DEVICE, pretended_device

pytestmark = pytest.mark.slow  # a minute together

ROOT = Path(__file__).resolve().parents[1]
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
)
CHECKS = gpu_checks_training.CHECKS | gpu_checks_graphs.CHECKS | gpu_checks_sampling.CHECKS
# What this device cannot: autocast, threads, a device's name in settings, a compiler, CUDA graphs.
NOT_PRETENDED = {"step in bf16", "step in fp16", "sampling in bf16", "prefetched", "run", "compiled"}
NOT_PRETENDED |= gpu_checks_graphs.CHECKS.keys()
FEW_STEPS = patch.dict(gpu_checks_sampling.EXACT, steps=4)  # of sampling: more than any sampler remembers


@pytest.fixture
def device():
    """The pretended device, which has no float64, and its meter."""
    plain = patch("noisekiln.images.Images.of", lambda pixels: pixels)  # a tensor is of one subclass only
    with pretended_device(float64=False) as meter, patch("noisekiln.plan.build.is_async", return_value=False), plain:
        yield meter


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("where", ["cpu", CUDA])
def test_a_device_does_what_the_cpu_does(name, where):
    with FEW_STEPS if where == "cpu" else nullcontext():
        print(f"{name}: {CHECKS[name](where)}")  # with `pytest -rP`


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NOT_PRETENDED])
def test_nothing_is_left_behind_in_main_memory_or_made_in_float64(name, device):
    with FEW_STEPS:
        CHECKS[name](DEVICE)
    assert device.kernels > 100


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"task": "upscale", "loss_weight": "uncertainty", "noise_label": "time"}])
def test_a_run_in_a_folder_trains_previews_evaluates_and_saves(changes, device, tmp_path, monkeypatch):
    """All that a run does besides steps, logged at every step; then it is resumed."""
    monkeypatch.setattr("noisekiln.plan.defaults.pick_device", lambda requested: requested)
    monkeypatch.setitem(SIDES, DEVICE, 64)
    monkeypatch.setitem(PREVIEW, "steps", 2)
    intervals = Intervals(0, 60, (0.5,), (0.5,), 6)
    data = noise_data()
    for images in (4 * BATCH, 5 * BATCH):
        chosen = Settings(
            images=images, batch_size=BATCH, backbone=NETWORK, device=DEVICE, precision="fp32", compile="no",
            curves="none", ema_snapshots=2, **changes,
        )  # fmt: skip
        run = Run(chosen, data, tmp_path / "run", intervals=intervals)
        events = [type(event).__name__ for event in run.events()]
        assert {"Step", "Grid", "HeldOut", "Saving", "End"} <= set(events)
    model, restored = Diffusion.load(tmp_path / "run", device=DEVICE), Diffusion.load(tmp_path / "run")
    options = {"source": torch.from_numpy(picture(SIDE // 4)[None])} if changes else {}
    ours, theirs = (each.sample(2, steps=4, **options).cpu() for each in (model, restored))
    assert torch.equal(ours, theirs)
    assert device.kernels > 1000


# --- what a step costs


def test_a_training_step_waits_once_and_copies_its_rows_once(device):
    """Loss and norm come back together. To the device go pixels, ids, levels and noise."""
    trainer = trainer_on(DEVICE)
    steps(trainer, 2)
    device.reset()
    steps(trainer, 2)
    assert device.waits.total() == 2 * 1, device.waits
    assert device.to_device.total() <= 2 * 4, device.to_device
    assert device.kernels <= 2 * 490  # of them 128 Muon's


def test_micro_batches_cost_neither_waits_nor_copies(device):
    trainer = trainer_on(DEVICE, micro_batch_size=4)
    steps(trainer, 1)
    device.reset()
    steps(trainer, 1)
    assert device.waits.total() == 1, device.waits
    assert device.to_device.total() <= 4, device.to_device


@pytest.mark.parametrize("label", names("noise_labels"))
def test_a_noise_label_costs_a_training_step_a_copy_each_way_at_most(label, device):
    """`time` is computed on the CPU, where float64 is."""
    trainer = trainer_on(DEVICE, noise_label=label)
    steps(trainer, 1)
    device.reset()
    steps(trainer, 1)
    assert device.waits.total() <= 1 + 1, device.waits
    assert device.to_device.total() <= 4 + 1, device.to_device


def test_muon_updates_on_a_device_what_it_updates_on_a_cpu(device):
    """There in fewer kernels: convolutions in their own layout, and all shapes with one smaller side at once."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (8, 16, 3, 3), (8, 24, 1, 1), (16, 8), (8, 8), (4, 8)]
    starts = [(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)) for shape in shapes]
    found = {}

    def placed(tensor: torch.Tensor, at: str) -> torch.Tensor:
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.clone(memory_format=layout).to(at)

    for at in ("cpu", DEVICE):
        weights, gradients = ([placed(each, at) for each in column] for column in zip(*starts, strict=True))
        optimizer = MuonOptimizer(weights, lr=1.0)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        device.reset()
        optimizer.step()
        found[at] = [weight.cpu() for weight in weights]
    assert device.kernels <= 97
    for ours, theirs in zip(found[DEVICE], found["cpu"], strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_line_of_the_log_waits_once(device):
    means = BinnedMeans((0.0, 1.0, 2.0), "loss/nsr")
    for _ in range(3):
        means.add(torch.rand(8).to(DEVICE), torch.rand(8).to(DEVICE))
    device.reset()
    means.read()
    assert device.waits.total() == 1, device.waits


def test_a_save_starts_all_copies_to_main_memory_before_it_waits_for_them(device):
    """The check of the weights waits once; everything else comes through `start_copy`, into pinned memory on CUDA."""
    trainer = trainer_on(DEVICE)
    steps(trainer, 1)
    data = noise_data()
    settings = settings_for(DEVICE, data)
    copies = PlainCopies(trainer, partial(make_learner, settings, data))
    SaveJob(trainer, copies, settings, None)  # copies the codec, which never changes
    device.reset()
    job = SaveJob(trainer, copies, settings, None)
    counted = Counter()
    for line, count in device.waits.items():
        counted[line.partition(":")[0]] += count
    assert set(counted) == {"training/trainer.py", "machine/transfer.py"}, device.waits
    assert counted["training/trainer.py"] == 1
    assert all(tensor.device.type == "cpu" for tensor in job.model.state_dict().values())


@pytest.mark.parametrize("name", names("samplers"))
def test_a_sampling_step_neither_waits_nor_copies(name, device):
    """Except for fresh noise, which comes from the CPU; a request waits twice: is it finite, and its images."""
    model = random_model(DEVICE)

    def cost(count: int) -> tuple[int, int]:
        device.reset()
        model.sample(["even", "odd"], sampler=name, steps=count, guidance=2.0).cpu()
        return device.to_device.total(), device.waits.total()

    (copies, waits), (more_copies, more_waits) = cost(4), cost(8)
    assert waits == more_waits == 2, device.waits
    noisy = {"ancestral": 1, "resample": 19}.get(name, 0)
    assert copies <= 3 + 4 * noisy
    assert more_copies - copies <= 4 * noisy, device.to_device


@pytest.mark.parametrize("use", ["inpaint", "tiles"])
def test_a_step_of_a_use_copies_nothing(use, device):
    """Neither the mask nor the weights of the tiles; fresh noise comes from the CPU."""
    model = random_model(DEVICE)

    def copies(count: int) -> int:
        device.reset()
        with patch.dict(gpu_checks_sampling.EXACT, steps=count):
            gpu_checks_sampling.USES[use](model)
        return device.to_device.total()

    fresh = {"inpaint": 1, "tiles": 0}[use]
    assert copies(6) - copies(4) <= 2 * fresh, device.to_device


# --- the device itself


def test_the_pretended_device_refuses_and_counts(device):
    x = torch.randn(2, 3).to(DEVICE)
    assert (device.to_device.total(), device.kernels) == (1, 0)
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.zeros(3)
    with pytest.raises(TypeError, match="float64"):
        x.double()
    device.reset()
    doubled = x * torch.tensor(2.0, dtype=torch.float64)  # 0-d: an argument
    assert device.kernels == 1
    assert doubled.dtype is torch.float32
    assert torch.equal((x + x).cpu(), doubled.cpu())
    assert device.waits.total() == 2
    assert float(x.sum()) == pytest.approx(float(x.cpu().sum()))


# --- the script


@pytest.mark.slow
def test_the_script_walks_all_its_parts_on_a_cpu(tmp_path):
    """But for the checks, which are walked above."""
    record = tmp_path / "gpu.json"
    parts = ["training", "sampling", "run", "details", "compiled"]
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--quick", "--minutes", "8"]
    command += ["--out", tmp_path, "--record", record, "--only", *parts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["machine"]["device"] == "cpu"
    assert list(written["parts"]) == parts
    for part, items in written["parts"].items():
        for item, figures in items.items():
            assert not {"error", "skipped"} & set(figures), (part, item, figures)
    assert (tmp_path / "grid.png").exists()


def test_gpus_are_hidden_unless_they_are_asked_for():
    """`make test` is green on a machine with a GPU; processes that tests start inherit it."""

    def visible(expression: str) -> str | None:
        with patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": "0"}):
            conftest.pytest_configure(SimpleNamespace(option=SimpleNamespace(markexpr=expression)))
            return os.environ["CUDA_VISIBLE_DEVICES"]

    assert [visible(each) for each in ("", "not slow", "not gpu", "slow and not gpu")] == [""] * 4
    assert [visible(each) for each in ("gpu", "slow and gpu", "gpu or slow")] == ["0"] * 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_failure_ends_its_own_item_and_time_that_is_over_only_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_report._forget", lambda: None)  # takes as long as there are objects

    def fail():
        raise RuntimeError("broken")

    items = [Item("bad", fail), Item("good", lambda: {"figure": 1.0}), Item("long", lambda: time.sleep(30))]
    recorder = Recorder(tmp_path / "record.json", {"machine": "none"})
    parts = [Part("one", 0.5, items), Part("two", 0.5, [Item("timed", lambda left: {"left": left}, needs_time=True)])]
    run_parts(parts, 2.0, recorder)
    one, two = recorder.parts["one"], recorder.parts["two"]
    assert one["bad"]["error"] == "RuntimeError: broken"
    assert one["good"]["figure"] == 1.0
    assert one["long"]["skipped"] == "no time left within it"
    assert 0.5 < two["timed"]["left"] < 1.1
    assert recorder.failed("one") == ["bad"]
    assert json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["parts"] == recorder.parts
