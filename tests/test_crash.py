"""Runs that are killed, stopped, out of disk space, damaged or started twice: nothing is lost, problems are shown."""

import errno
import json
import os
import signal
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import noisekiln as nk
from conftest import TINY, Command
from forked import Forked, script
from noisekiln.data import DataSet, load
from noisekiln.errors import SaveFailed
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.adapter import Adapter
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.runs.save_job import SaveJob
from noisekiln.training import checkpoints

ROOT = Path(__file__).parents[1]
WORDS = ("--batch-size", 16, "--backbone", TINY, "--curves", "none")
SETTINGS = Settings(images=256, batch_size=16, backbone=TINY, curves="none")
SAVE_OFTEN = Intervals(checkpoint_seconds=0.0)
pytestmark = pytest.mark.usefixtures("short_previews")


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def quick_script(file: str, *words: str) -> None:
    """A script whose runs draw grids in two steps."""
    from noisekiln.monitor.preview import PREVIEW

    PREVIEW["steps"] = 2
    script(file, *words)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_faults_change_nothing(tmp_path: Path):
    """The short form of `benchmarks/crash.py`, whose results are in records/crash.json."""
    words = ["--images", "160", "--kills", "3", "--sigterms", "1", "--full-disks", "1", "--flips", "1", "--nans", "1"]
    words += ["--record", str(tmp_path / "record.json")]
    ended = Forked(tmp_path, ROOT / "benchmarks" / "crash.py", *words, function=quick_script).end(200)
    assert ended[0] == 0, ended
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["faults"] == {"kill": 3, "sigterm": 1, "full_disk": 1, "flip": 1, "nan": 1}
    assert "in image " in record["named_of_the_ruined_batch"]
    assert record["runs_bitwise_equal"] == record["runs"] > 0
    assert record["runs_that_went_on"] > 0
    assert (record["unreadable"], record["drafts_left_on_a_full_disk"], record["flipped_bits_noticed"]) == (0, 0, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.parametrize("only", ["ema, in the run", "train, adapter"])
def test_killed_commands_go_on(only: str, tmp_path: Path):
    """The short form of `benchmarks/crash_commands.py`, whose results are in records/crash_commands.json."""
    words = ["--images", "48", "--kills", "1", "--only", only, "--record", str(tmp_path / "record.json")]
    ended = Forked(tmp_path, ROOT / "benchmarks" / "crash_commands.py", *words, function=script).end(200)
    assert ended[0] == 0, ended
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["kills"], record["kills_by_command"], record["failures"]) == (1, {only: 1}, [])
    assert record["bitwise_equal"] == record["ends"] >= 1


@pytest.mark.slow  # a process of its own
def test_one_process_a_folder_and_a_killed_one_does_not_block(cli: Command, pets: Path, tmp_path: Path):
    run = tmp_path / "run"
    other = Forked(tmp_path / "other", "train", pets, "--out", run, "--images", 10**6, *WORDS)
    try:
        until = time.monotonic() + 90
        while not (run / "metrics.jsonl").exists():
            assert other.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        result = cli("train", pets, "--out", run, "--images", 10**6, *WORDS)
        assert result.code == 2
        assert f"{run} is in use by process {other.pid} on " in result.err
        assert "or give another --out for a new run." in result.err
    finally:
        other.kill()
        other.wait()
    result = cli("train", pets, "--out", run, "--images", 32, *WORDS)
    assert result.code == 0, result


def test_a_run_opened_before_another_process_continued_it(data: DataSet, tmp_path: Path):
    late = Run(SETTINGS, data, tmp_path)
    list(Run(SETTINGS.replace(images=512), data, tmp_path).steps())
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"Another process has trained in .* since it was opened here\. Open it again"):
        list(late.steps())
    assert contents(tmp_path) == before  # nothing was touched


@pytest.mark.parametrize("left", [".lock", ".run.yaml.partial"])
def test_killed_before_anything_was_written_down(data: DataSet, tmp_path: Path, left: str):
    if left == ".lock":
        (tmp_path / left).touch()
    else:
        (tmp_path / left).mkdir()
        (tmp_path / left / "run.yaml").write_text("{")
    assert list(Run(SETTINGS.replace(images=16), data, tmp_path).steps())


@pytest.mark.slow  # a process of its own
@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes")
def test_a_program_that_stops_reading_does_not_stop_training(pets: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "stdout")
    process = Forked(tmp_path, "train", pets, "--out", tmp_path / "run", "--images", 256, *WORDS)
    with (tmp_path / "stdout").open(encoding="utf-8") as out:
        out.readline()
    assert process.wait() == 0, (tmp_path / "stderr").read_text("utf-8")
    assert checkpoints.list_images_seen(tmp_path / "run" / "checkpoints")[-1] == 256


@pytest.mark.parametrize("what", ["metrics.jsonl", "samples"])
def test_no_space_for_the_log_or_a_grid(
    cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    with monkeypatch.context() as patched:
        log = what == "metrics.jsonl"
        patched.setattr(f"noisekiln.{'logs.json_lines.JsonLines.write' if log else 'runs.grids.save_image'}", disk_full)
        result = cli("train", pets, "--out", tmp_path, "--images", 64, *WORDS)
    assert result.code == 5
    assert (
        f"{tmp_path} could not be written: No space left on device. What was saved before is intact. Free" in result.err
    )
    assert cli("train", pets, "--out", tmp_path, "--images", 64, *WORDS).code == 0


def test_memory_that_is_short_when_something_is_saved(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 147456 bytes.")

    run = Run(SETTINGS, data, tmp_path)
    monkeypatch.setattr("noisekiln.training.shards.save_file", full)
    with pytest.raises(SaveFailed, match=r"memory ran out\. What was saved before is intact\. Run the same"):
        list(run.steps())


def test_a_damaged_checkpoint_is_named(cli: Command, pets: Path, tmp_path: Path):
    run = tmp_path / "run"
    words = {"images": 64, "batch_size": 16, "backbone": TINY, "curves": "none"}
    nk.train(pets, out=run, intervals=SAVE_OFTEN, **words)
    damaged = max((run / "checkpoints").iterdir())
    (damaged / "state.json").write_text("{}")
    named = f"checkpoint {damaged.name} is damaged: 'state.json': not what was written, by its SHA256SUMS"
    result = cli("train", pets, "--out", run, "--images", 64, *WORDS)
    assert result.code == 0
    assert f"note: {named}\n" in result.out
    assert "resuming after 48 images" in result.out
    (damaged / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match=named):
        nk.train(pets, out=run, **words)


@pytest.mark.parametrize("what", ["checkpoint", "model"])
def test_a_full_disk_stops_the_run_and_it_resumes_when_there_is_space(
    cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    run = tmp_path / "run"
    assert cli("train", pets, "--out", run, "--images", 64, *WORDS).code == 0
    with monkeypatch.context() as patch:
        if what == "checkpoint":
            patch.setattr(checkpoints, "_check_space", disk_full)
        else:
            patch.setattr("noisekiln.files.model_folder.save_file", disk_full)
        result = cli("train", pets, "--out", run, "--images", 128, *WORDS)
    assert result.code == 5
    assert f"noisekiln: The {what} after 80 images could not be written to {run}" in result.err
    assert "No space left on device." in result.err
    assert "intact. Free some space or check the disk, then run the same call or command again to resume." in result.err
    assert checkpoints.list_images_seen(run / "checkpoints")[-1] == 64
    assert not list(run.rglob(".*.partial"))
    result = cli("train", pets, "--out", run, "--images", 128, *WORDS)
    assert "resuming after 64 images" in result.out
    assert "done: 128 images" in result.out


def test_training_continues_while_a_save_is_written(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The saved state is that of the moment of the request."""
    go, write = threading.Event(), SaveJob.write
    run = Run(SETTINGS.replace(ema_snapshots=0), data, tmp_path)  # which would have to wait their turn
    steps = run.steps()
    for _ in islice(steps, 4):  # the first two grids are drawn after 1 and 3 steps, and saved
        pass
    run.background.wait()
    monkeypatch.setattr(SaveJob, "write", lambda self, folder: (go.wait(30), write(self, folder)))
    run.save()
    assert next(steps).images_seen == 80
    assert checkpoints.list_images_seen(tmp_path / "checkpoints") == [16, 48]
    go.set()
    run.background.wait()
    found = checkpoints.load_newest(tmp_path / "checkpoints")
    assert found is not None
    again = Run(SETTINGS.replace(ema_snapshots=0), data, tmp_path / "again")
    for _ in islice(again.steps(), 4):
        pass
    tensors, _ = again.trainer.state_dict()
    assert found.state["images_seen"] == 64
    assert all((found.tensors[name] == tensor).all() for name, tensor in tensors.items())
    model = load_file(tmp_path / "model" / "model.safetensors")
    assert all((tensors[f"ema.0.diffusion.{name}"] == tensor).all() for name, tensor in model.items())


@pytest.mark.slow
def test_killed_while_the_last_grid_is_drawn(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The run is not complete until its last grid is written."""
    draw_grid = Run.draw_grid

    def killed(run: Run) -> Path:
        if run.trainer.share >= 1:
            raise KeyboardInterrupt
        return draw_grid(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "draw_grid", killed)
        with pytest.raises(KeyboardInterrupt):
            list(Run(SETTINGS, data, tmp_path, intervals=SAVE_OFTEN).steps())
    run = Run(SETTINGS, data, tmp_path, intervals=SAVE_OFTEN)
    assert run.trainer.share < 1
    list(run.steps())
    assert (tmp_path / "samples" / "000000256.png").exists()


def test_stopped_in_the_last_step(data: DataSet, tmp_path: Path):
    """A run with all its steps is complete: the last grid is drawn."""
    interrupt = Interrupt()
    for report in Run(SETTINGS, data, tmp_path).steps(interrupt):
        if report.share == 1:
            interrupt.signal = signal.SIGTERM
    assert (tmp_path / "samples" / "000000256.png").exists()


def test_a_save_that_fails_stops_training_at_the_next_step(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run(SETTINGS.replace(images=16_000), data, tmp_path)
    steps = run.steps()
    next(steps)
    run.background.wait()
    monkeypatch.setattr(checkpoints, "_check_space", disk_full)
    run.save()
    time.sleep(0.2)
    with pytest.raises(SaveFailed, match="No space left"):
        next(steps)
    assert run.trainer.images_seen < 16_000


def test_keepers(data: DataSet, tmp_path: Path):
    list(Run(SETTINGS.replace(keep_checkpoints=1, keep_every=70), data, tmp_path).steps())
    assert checkpoints.list_images_seen(tmp_path / "checkpoints") == [80, 144, 224, 256]
    list(Run(SETTINGS.replace(keep_checkpoints=1, images=272), data, tmp_path).steps())
    assert checkpoints.list_images_seen(tmp_path / "checkpoints") == [272]


def test_to_keep_none_is_refused():
    with pytest.raises(ValueError, match=r"`keep_checkpoints=0` is out of range\. Give 1 or more\."):
        Settings(keep_checkpoints=0)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pkl"])
def test_pickles_are_refused_unopened_with_a_way_out(cli: Command, pets: Path, tmp_path: Path, suffix: str):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    refusal = f"'{file}' is a pickle, and opening one runs any code that is in it; noisekiln reads none."
    with pytest.raises(ValueError, match=r"torch\.load\(\.\.\., weights_only=True\), and .* noisekiln\.denoiser\."):
        nk.load(file)
    for words in (("sample", file), ("train", pets, "--from", file)):
        result = cli(*words)
        assert result.code == 2
        assert refusal in result.flat


def test_a_pickled_adapter_is_refused(tmp_path: Path):
    (tmp_path / "lora.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="is a pickle"):
        Adapter.load(tmp_path / "lora.bin")


def test_a_file_is_no_model(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a file, and a model is a folder: .* Give the folder of a run"):
        nk.load(tmp_path / "model.safetensors")
