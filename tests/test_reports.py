"""Reports of a run: log lines, loggers, the plan, and the environment."""

import json
import math
import re
import subprocess
import sys
import types
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.cli._watcher import Watcher
from noisekiln.data import DataSet, load
from noisekiln.logs import base as logs
from noisekiln.logs.base import Log, Logs, choose_log, make_logs
from noisekiln.logs.json_lines import JsonLines
from noisekiln.machine import speed as machine
from noisekiln.machine.flops import count_flops
from noisekiln.machine.speed import current_memory, peak_flops_per_second, peak_memory, reset_peak_memory
from noisekiln.monitor.binned import BinnedMeans
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.measure import measure
from noisekiln.monitor.reports import BINS
from noisekiln.monitor.throughput import Throughput
from noisekiln.monitor.workload import Workload, flops_per_image
from noisekiln.plan.settings import Settings
from noisekiln.runs.environment import append_environment
from noisekiln.runs.events import Step
from noisekiln.runs.run import Run
from noisekiln.training.budget import Budget
from noisekiln.training.report import Report

SETTINGS = Settings(images=256, batch_size=16, backbone=TINY, curves="none")
EVERY_STEP = Intervals(log_seconds=0.0, grids_at=(0.05, 0.35))


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def opened(settings: Settings, data: DataSet, folder: Path) -> Run:
    """A run that logs every step."""
    return Run(settings, data, folder, intervals=EVERY_STEP)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Losses by noise level


def test_means_are_those_of_each_bin_and_are_reset():
    binned = BinnedMeans((0.0, 1.0, 2.0, float("inf")), "loss/nsr")
    assert binned.names == ("loss/nsr_0-1", "loss/nsr_1-2", "loss/nsr_2-inf")
    assert binned.read() == {}
    binned.add(torch.tensor([0.5, 1.0, 9.0]), torch.tensor([1.0, 2.0, 4.0]))
    binned.add(torch.tensor([0.0, float("inf")]), torch.tensor([2.0, 8.0]))
    assert binned.read() == {"loss/nsr_0-1": 1.5, "loss/nsr_1-2": 2.0, "loss/nsr_2-inf": 6.0}
    binned.add(torch.tensor([1.5]), torch.tensor([7.0]))
    assert binned.read() == {"loss/nsr_1-2": 7.0}


def test_a_line_has_the_unweighted_errors_by_noise_level(data: DataSet, tmp_path: Path):
    run = opened(SETTINGS.replace(loss_weight="min_snr"), data, tmp_path)
    for _ in islice(run.steps(), 3):
        (loss,) = run.trainer.losses
    line = lines(tmp_path)[2]
    ratios, errors = loss.level.nsr.numpy(), loss.per_sample.numpy()
    for low, high in pairwise(BINS):
        inside = errors[(low <= ratios) & (ratios < high)]
        name = f"loss/nsr_{low:g}-{high:g}"
        assert (name in line) == (len(inside) > 0)
        assert name not in line or line[name] == pytest.approx(inside.mean(), rel=1e-4)


# Throughput


def test_throughput_is_that_of_the_last_ten_seconds():
    pace = Throughput(Budget(images=10_000))
    assert pace.images_per_second is None
    assert pace.seconds_left is None
    for second in range(100):
        pace.add(float(second), 10 * second)
    for second in range(100, 121):
        pace.add(float(second), 1000 + 50 * (second - 100))
    assert pace.images_per_second == pytest.approx(50)
    assert pace.mean == pytest.approx(2000 / 120)
    assert pace.seconds_left == pytest.approx((10_000 - 2000) / 50)


def test_what_is_left_is_of_the_budget_that_ends_first():
    for budget, left in ((Budget(minutes=2), 100), (Budget(minutes=2, images=400), 60), (Budget(images=90), 0)):
        pace = Throughput(budget)
        pace.add(0.0, 0)
        pace.add(20.0, 100)
        assert pace.seconds_left == pytest.approx(left)


def test_steps_carry_the_speed_and_the_time_left_that_are_logged(data: DataSet, tmp_path: Path):
    """A watcher computes neither again."""
    steps = [event for event in opened(SETTINGS, data, tmp_path).events() if isinstance(event, Step)]
    assert (steps[0].images_per_second, steps[0].seconds_left) == (None, None)
    logged = [line for line in lines(tmp_path) if "loss" in line]
    for name in ("images_per_second", "seconds_left"):
        numbers = [getattr(step, name) for step in steps[1:]]
        assert [line[name] for line in logged[1:]] == pytest.approx(numbers, rel=1e-5)


def test_the_last_step_has_a_line_however_short_the_run(data: DataSet, tmp_path: Path):
    run = Run(SETTINGS, data, tmp_path, intervals=Intervals(log_seconds=1e9))
    for _ in run.events():
        pass
    assert [line["images_seen"] for line in lines(tmp_path) if "loss" in line] == [16, run.trainer.images_seen]


def test_the_terminal_shows_the_speed_and_the_time_left_of_the_event(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A line for every 15 seconds of training, counted from where the run starts; a skipped step changes no mean."""
    report = Report(images_seen=160, seconds=100.0, share=0.1, loss=0.5, grad_norm=1.0, lr=0.1)
    skipped = replace(report, loss=math.nan, applied=False)
    with Watcher(line_seconds=15) as watcher:
        watcher(replace(opened(SETTINGS, data, tmp_path).plan, seconds=100.0))
        capsys.readouterr()
        for second in range(101, 141):
            watcher(Step(replace(skipped if second == 110 else report, seconds=float(second)), 1234.4, 3754.0))
    assert capsys.readouterr().out.splitlines() == [" 10% · 160 images · 1,234/s · loss 0.5000 · 1:02:34 left"] * 2


def test_the_first_loss_does_not_outlast_a_short_run(data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """After 20 steps from 1 to 0.7 the line shows 0.75: its mean is over about the last fifth."""
    losses = [*np.linspace(1.0, 0.7, 20), *[0.7] * 400]
    with Watcher(line_seconds=0.0) as watcher:
        watcher(opened(SETTINGS, data, tmp_path).plan)
        for step, loss in enumerate(losses, 1):
            watcher(Step(Report(step * 16, float(step), 0.1, loss, 1.0, 0.1), None, None))
    shown = [line.rpartition("loss ")[2] for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert (shown[0], shown[19], shown[-1]) == ("1.0000", "0.7500", "0.7000")


# The machine


def test_the_peak_is_the_work_of_a_product_over_its_shortest_time(monkeypatch: pytest.MonkeyPatch):
    ticks = iter(torch.tensor([0, 0, 0, 0.2, 0.2, 0.2, 0.25, 9], dtype=torch.float64).tolist())
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    assert peak_flops_per_second.__wrapped__("cpu") == pytest.approx(2 * 1024**3 / 0.05)


def test_the_peak_is_measured_once():
    assert peak_flops_per_second("cpu") == peak_flops_per_second("cpu")
    assert 1e8 < peak_flops_per_second("cpu") < 1e15


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux can reset the peak")
def test_memory_is_counted_in_bytes():
    reset_peak_memory("cpu")
    before, size = current_memory("cpu"), 300 * 2**20
    block = torch.ones(size // 4)
    during = current_memory("cpu")
    del block
    most = peak_memory("cpu")
    assert before is not None
    assert during is not None
    assert most is not None
    assert during - before == pytest.approx(size, rel=0.2)
    assert most - before == pytest.approx(size, rel=0.2)
    reset_peak_memory("cpu")
    assert (peak_memory("cpu") or 0) < most - size / 2


def test_work_is_counted_forward_and_backward():
    first, second = nn.Linear(3, 8), nn.Linear(8, 5)
    x = torch.randn(7, 3)
    forward = 2 * 7 * (3 * 8 + 8 * 5)
    backward = 2 * 7 * (3 * 8 + 2 * 8 * 5)  # the input wants no gradient
    assert count_flops(lambda: second(first(x)).sum()) == forward + backward
    convolve, image = nn.Conv2d(2, 4, 3, padding=1), torch.randn(1, 2, 6, 6)
    assert count_flops(lambda: convolve(image).sum()) == 2 * 2 * (36 * 4 * 2 * 9)


def test_the_work_of_attention_is_counted():
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    product = 2 * 2 * 16 * 16 * 8
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q).sum()) == 6 * product


def test_operations_that_cannot_be_counted_are_none():
    x = torch.ones(3, requires_grad=True)

    def breaks() -> torch.Tensor:
        raise NotImplementedError("no rule for this")

    assert count_flops(lambda: x.sin().sum()) is None
    assert count_flops(breaks) is None


def test_speed_work_and_time_left_fit_together(data: DataSet, tmp_path: Path):
    run = opened(SETTINGS, data, tmp_path)
    for _ in run.steps():
        pass
    first, *_, last = (line for line in lines(tmp_path) if "loss" in line)
    assert "images_per_second" not in first
    speed = last["images_per_second"]
    assert speed == pytest.approx((256 - 16) / (last["seconds"] - first["seconds"]), rel=1e-3)
    flops = measure(run.settings, data, seconds=0.0).flops_per_image
    assert flops is not None
    assert last["flops_per_second"] == pytest.approx(speed * flops, rel=1e-3)
    assert last["share_of_peak"] == pytest.approx(speed * flops / peak_flops_per_second("cpu", torch.float32), rel=1e-3)
    assert last["seconds_left"] == 0
    assert 0.05 < last["memory_gib"] < 64


def test_operations_are_reported_per_image(data: DataSet, tmp_path: Path):
    run = Run(SETTINGS, data, tmp_path)
    learner, batches = run.copies.trainable(), run.trainer.batches
    rows = batches(0, 16, torch.Generator())
    whole = count_flops(lambda: learner(*rows).value)
    assert whole is not None
    assert flops_per_image(learner, batches) == pytest.approx(whole / 16)


def test_counting_leaves_no_trace(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counted = opened(SETTINGS, data, tmp_path / "counted")
    list(islice(counted.steps(), 3))
    monkeypatch.setattr("noisekiln.monitor.reports.measure_workload", lambda *_: Workload(None, None))
    plain = opened(SETTINGS, data, tmp_path / "plain")
    list(islice(plain.steps(), 3))
    assert all(map(torch.equal, counted.learner.parameters(), plain.learner.parameters()))
    assert "flops_per_second" not in lines(tmp_path / "plain")[-1]


# Logs


def test_lines_are_kept_up_to_the_checkpoint(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    log = JsonLines()
    log.open(tmp_path, 0, {})
    for seen in (10, 20, 30):
        log.write({"images_seen": seen, "loss": 0.5})
    log.close()
    file.write_text(file.read_text() + '{"images_se')
    log = JsonLines()
    log.open(tmp_path, 20, {})
    log.write({"images_seen": 30, "loss": 0.25})
    log.close()
    assert [(line["images_seen"], line["loss"]) for line in lines(tmp_path)] == [(10, 0.5), (20, 0.5), (30, 0.25)]
    assert [f.name for f in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_each_step_once_after_an_interruption(data: DataSet, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = SETTINGS.replace(curves="tensorboard")
    first = opened(settings, data, tmp_path)
    steps = first.steps()
    list(islice(steps, 4))
    first.save()
    list(islice(steps, 3))  # these are repeated
    steps.close()
    for _ in opened(settings, data, tmp_path).steps():
        pass
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    logged = [line for line in lines(tmp_path) if "loss" in line]
    assert [event.step for event in shown.Scalars("loss")] == list(range(16, 257, 16))
    for name in ("loss", "grad_norm", "memory_gib"):
        assert [event.value for event in shown.Scalars(name)] == pytest.approx([line[name] for line in logged])
    assert any(tag.startswith("loss/nsr_") for tag in shown.Tags()["scalars"])
    assert "images_seen" not in shown.Tags()["scalars"]


class FakeRun:
    def __init__(self, how: dict[str, object]) -> None:
        self.how, self.lines, self.finished = how, [], False

    def log(self, line: dict[str, float], step: int) -> None:
        self.lines.append((step, line))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The part of the package that is used: runs are kept in `runs`; `logged_in` allows online runs."""
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace()
    module.Error = type("Error", (Exception,), {})
    module.runs, module.logged_in = [], True

    def init(**how: object) -> FakeRun:
        if not module.logged_in and how.get("mode") != "offline":
            raise module.Error("api_key not configured")
        module.runs.append(FakeRun(how))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases_gets_every_line_of_one_run(data: DataSet, tmp_path: Path, wandb: types.ModuleType):
    settings = SETTINGS.replace(curves="wandb")
    folder = tmp_path / "pets"
    run = opened(settings, data, folder)
    list(islice(run.steps(), 4))
    run.save()
    assert wandb.runs[0].finished
    wandb.logged_in = False
    for _ in opened(settings, data, folder).steps():
        pass
    first, second = wandb.runs
    assert [step for step, _ in first.lines + second.lines] == list(range(16, 257, 16))
    assert [line for _, line in first.lines + second.lines] == lines(folder)
    assert (first.how["project"], first.how["name"], first.how["dir"]) == ("noisekiln", "pets", str(folder))
    assert first.how["config"]["backbone"] == run.settings.backbone
    assert first.how["id"] == second.how["id"]
    assert first.how["resume"] == "allow"
    assert ("mode" in first.how, second.how["mode"], second.finished) == (False, "offline", True)


@pytest.mark.parametrize(
    ("package", "install"), [("tensorboard", r'"noisekiln\[log\]"'), ("wandb", "pip install wandb")]
)
def test_a_missing_package_is_named_before_anything_is_written(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, install: str
):
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    assert choose_log("auto") == "none"
    with pytest.raises(ValueError, match=f"`curves={package}` needs the package {package}.* Install it: .*{install}"):
        Run(SETTINGS.replace(curves=package), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_used_if_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: name if name == "tensorboard" else None)
    assert [choose_log(package) for package in ("auto", "none", "tensorboard")] == [
        "tensorboard",
        "none",
        "tensorboard",
    ]


def test_without_further_logs_only_the_file_is_written(tmp_path: Path):
    with Logs(make_logs("none"), tmp_path, 0, {}) as log:
        log.write({"images_seen": 1})
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_file_that_is_always_written_is_written_once(tmp_path: Path):
    with Logs(make_logs(choose_log("json_lines")), tmp_path, 0, {}) as log:
        log.write({"images_seen": 1})
    assert lines(tmp_path) == [{"images_seen": 1}]


class FailingLog(Log):
    """A log that cannot be opened, or not be closed."""

    def __init__(self, opens: bool) -> None:
        self.opens = opens

    def open(self, *start: object) -> None:
        if not self.opens:
            raise OSError("cannot be opened")

    def write(self, line: object) -> None:
        pass

    def close(self) -> None:
        raise OSError("cannot be closed")


@pytest.mark.parametrize("opens", [False, True])
def test_a_log_that_fails_leaves_no_other_open(tmp_path: Path, opens: bool):
    file = JsonLines()
    order = [FailingLog(opens), file] if opens else [file, FailingLog(opens)]
    error, message = (OSError, "cannot be closed") if opens else (ValueError, "this log cannot be opened")
    with pytest.raises(error, match=message), Logs(order, tmp_path, 0, {}):
        pass
    assert file._file.closed


def test_the_log_may_change_midway(data: DataSet, tmp_path: Path, wandb: types.ModuleType):
    run = Run(SETTINGS, data, tmp_path)
    list(islice(run.steps(), 2))
    run.save()
    assert Run(SETTINGS.replace(curves="wandb"), data, tmp_path).opened.images_seen == 32


# Surroundings


def test_every_start_is_noted(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["noisekiln", "train", "pets"])
    run = Run(SETTINGS, data, tmp_path)
    list(islice(run.steps(), 2))
    run.save()
    list(islice(Run(SETTINGS, data, tmp_path).steps(), 1))
    first, second = json.loads((tmp_path / "environment.json").read_text())
    assert (first["images_seen"], second["images_seen"]) == (0, 32)
    assert first["command"] == ["noisekiln", "train", "pets"]
    assert first["versions"]["torch"] == torch.__version__
    assert set(first["versions"]) >= {"python", "noisekiln", "numpy"}
    assert first["threads"] == torch.get_num_threads()
    assert first["device"].startswith("cpu")


def test_git_is_noted_with_what_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    append_environment(tmp_path, 0, "cpu")
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    (work / "a.txt").write_text("1")
    for words in (("init", "-q"), ("add", "a.txt"), (*who, "commit", "-qm", "a")):
        subprocess.run(["git", *words], check=True)
    append_environment(tmp_path, 0, "cpu")
    (work / "a.txt").write_text("2")
    append_environment(tmp_path, 0, "cpu")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    noted = [entry["git"]["working_directory"] for entry in json.loads((tmp_path / "environment.json").read_text())]
    assert noted == [None, {"commit": commit, "dirty": False}, {"commit": commit, "dirty": True}]


def test_damaged_notes_do_not_keep_a_run_from_starting(tmp_path: Path):
    (tmp_path / "environment.json").write_text("[{")
    append_environment(tmp_path, 5, "cpu")
    assert [entry["images_seen"] for entry in json.loads((tmp_path / "environment.json").read_text())] == [5]


# The plan


def test_measuring_measures_and_writes_nothing(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = Run(SETTINGS, data, tmp_path / "run")
    before = [parameter.clone() for parameter in run.learner.parameters()]
    found = measure(run.settings, data, seconds=0.0)
    assert not list(tmp_path.iterdir())
    assert all(map(torch.equal, before, run.learner.parameters()))
    assert found.steps == 1
    for _ in run.steps():
        pass
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    assert found.checkpoint == pytest.approx((newest / "part-00000-of-00001.safetensors").stat().st_size, rel=0.2)
    assert found.flops_per_image is not None
    assert found.share_of_peak == pytest.approx(
        found.images_per_second * found.flops_per_image / peak_flops_per_second("cpu", torch.float32)
    )


def test_measuring_finds_a_network_that_takes_more(data: DataSet):
    small = measure(Run(SETTINGS, data, Path("nowhere")).settings, data, seconds=0.1)
    wide = SETTINGS.replace(backbone=TINY.replace("32,", "256,"))
    large = measure(Run(wide, data, Path("nowhere")).settings, data, seconds=0.1)
    weights = 256 * 256 * 9 * 4  # bytes of one convolution: trained, averaged, with a gradient and a momentum
    assert (large.memory or 0) > (small.memory or 0) + 4 * weights
    assert large.checkpoint > 10 * small.checkpoint
    assert (large.flops_per_image or 0) > 10 * (small.flops_per_image or 0)
    assert large.images_per_second < small.images_per_second


@pytest.mark.usefixtures("measure_briefly")
def test_dry_run_prints_what_a_run_needs(cli: Command, pets: Path, tmp_path: Path):
    words = ("train", pets, "--out", tmp_path / "run", "--batch-size", 16, "--backbone", TINY, "--dry-run")
    result = cli(*words, "--images", 2200)
    assert result.code == 0, result
    for start in ("parameters", "work", "memory", "speed", "budget", "disk"):
        assert f"\n  {start:<12}" in result.out
    assert "about 2,208 images, 100.4 times through the data, in " in result.out
    assert "nothing was written" in result.out
    assert re.search(
        r"budget +about [\d,]+ images, [\d,.]+ times through the data, in 3\.0 minutes", cli(*words, "--minutes", 3).out
    )
    assert not (tmp_path / "run").exists()


# Settings that there are not


def test_an_unknown_setting_is_an_error_with_the_nearest_name(cli: Command, pets: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"There is no setting called 'mintues'\. Did you mean 'minutes'\?"):
        nk.train(pets, out=tmp_path / "run", mintues=3)
    result = cli("train", pets, "--out", tmp_path / "run", "--mintues", 3)
    assert (result.code, "--mintues" in result.flat, "--minutes" in result.flat) == (2, True, True)
    with pytest.raises(ValueError, match=r"There is no log called 'tensorbord'\. Did you mean 'tensorboard'\?"):
        nk.train(pets, out=tmp_path / "run", curves="tensorbord")
    assert not (tmp_path / "run").exists()


def test_the_bins_cover_every_level():
    assert BINS[0] == 0
    assert BINS[-1] == np.inf
    assert len(BINS) == 9
