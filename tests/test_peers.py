"""Several processes train as one would; and none of them waits for ever."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.distributed.run import get_args_parser

from conftest import TINY
from noisekiln.cli import app
from noisekiln.data import load
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.sharded import whole
from noisekiln.errors import Diverged, LostRank, SaveFailed
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import agree, seen_by_all
from noisekiln.training import checkpoints
from noisekiln.training.background import Background
from noisekiln.training.compiling import compiled
from peers_driver import make


def options() -> list[str]:
    """Every option of `noisekiln train`."""
    parameters = typer.main.get_command(app).commands["train"].params
    return [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]


DRIVER = Path(__file__).parent / "peers_driver.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], list[dict]]:
    """What each of two processes tells of a training of `peers_driver.py`; all are made by the same two."""
    folder = tmp_path_factory.mktemp("ranks")
    # The last one leaves torch otherwise than it was.
    order = "ddp shard uneven uneven-shard ruined-shard ruined-ddp half-shard resume-shard resume idle short"
    command = [*TORCHRUN, "2", str(DRIVER), str(folder), *order.split()]
    subprocess.run(command, check=True, env=ENV, timeout=200)
    return lambda what: [torch.load(folder / f"{what}{rank}.pt", weights_only=True) for rank in range(2)]


def alone(**settings):
    trainer = make(Ranks(), **settings)
    losses = [report.loss for report in trainer.run()]
    return trainer.state()[0], losses


def assert_same(parts, tensors, losses):
    np.testing.assert_allclose(parts[0]["losses"], losses, rtol=1e-9)
    assert parts[0]["losses"] == parts[1]["losses"]
    assert parts[0]["norms"] == parts[1]["norms"]
    together_ = whole([part["tensors"] for part in parts], parts[0]["numbers"]["sharded"])
    assert together_.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(together_[name], tensor, rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize(("what", "batch"), [("ddp", 96), ("shard", 96), ("uneven", 97), ("uneven-shard", 97)])
def test_two_processes_train_as_one_does(trained, what, batch):
    """Over 100 steps, in double precision: only the order of sums differs."""
    parts = trained(what)
    assert_same(parts, *alone(batch=batch))
    assert bool(parts[0]["numbers"]["sharded"]) == ("shard" in what)


def test_one_that_runs_out_of_memory_has_all_take_smaller_pieces(trained):
    """In a forward pass, in the midst of the averages of a backward pass, and when rows are made."""
    parts = trained("short")
    assert_same(parts, *alone())
    assert parts[0]["micro"] == parts[1]["micro"] == [48] * 9 + [24] * 10 + [12] * 11 + [6] * 70


def test_nothing_is_left_of_a_step_whose_last_piece_is_no_number(trained):
    """Sharded weights hold back what the pieces before it have gathered: none of it gets into the next step."""
    sharded, whole_ = (trained(what)[0] for what in ("ruined-shard", "ruined-ddp"))
    assert sharded["taken"] == whole_["taken"] == [True] * 3 + [False] + [True] * 96
    np.testing.assert_allclose(sharded["norms"], whole_["norms"], rtol=1e-9)
    np.testing.assert_allclose(sharded["losses"], whole_["losses"], rtol=1e-9)


def test_a_sharded_run_goes_on_in_one_process_and_back(trained):
    """What processes wrote does not depend on how many read it."""
    parts = trained("half-shard")
    one = make(Ranks())
    one.load_state([part["tensors"] for part in parts], parts[0]["numbers"])
    assert one.images_seen == 50 * 96
    losses = [report.loss for report in one.run()]
    tensors, all_losses = alone()
    np.testing.assert_allclose(losses, all_losses[50:], rtol=1e-9)
    for what in ("resume-shard", "resume"):
        np.testing.assert_allclose(trained(what)[0]["losses"], all_losses[50:], rtol=1e-9)
    assert tensors.keys() == one.state()[0].keys()


def test_a_parameter_that_some_loss_does_not_need_is_named_by_all(trained):
    assert all("idle had no part in the loss" in part["error"] for part in trained("idle"))


def test_a_batch_too_small_for_all_is_refused():
    few = Ranks()
    few.count = 4
    with pytest.raises(ValueError, match="A batch of 3 images is less than one for each of 4 processes"):
        make(few, batch=3)


class Alike(Ranks):
    """Many processes that all say the same, added up one after the other."""

    def __init__(self, count: int) -> None:
        self.count = count

    def summed(self, values):
        total = [0.0] * len(values)
        for _ in range(self.count):
            total = [a + float(b) for a, b in zip(total, values, strict=True)]
        return total


@pytest.mark.parametrize("fingerprint", ["ffffffffffffffff", "ffeeddccbbaa9988", "0123456789abcdef"])
def test_many_processes_that_see_the_same_images_agree(tmp_path, monkeypatch, fingerprint):
    monkeypatch.setattr("secrets.randbits", lambda bits: 0)  # every one of them is the first here
    for count in (2, 64, 1000):
        agree(tmp_path, Alike(count), 12345678, fingerprint, wait=2)


def test_processes_that_see_something_else_are_refused(tmp_path):
    for resumed, mark in ((80.0, 255.0), (64.0, 254.0)):  # what the other one sees
        with pytest.raises(ValueError, match=r"do not see the same run in .*, or not the same images"):
            agree(tmp_path, Apart(0, [[0.0], [1.0], [resumed, mark]]), 64, "000000ffaa", wait=0.2)
    agree(tmp_path, Apart(0, [[0.0], [1.0], [64.0, 255.0]]), 64, "000000ffaa", wait=0.2)


def test_only_what_torch_says_is_taken_for_a_lost_connection():
    few = Ranks()
    few.count = 2
    with pytest.raises(LostRank), few.detecting_lost_ranks():
        raise RuntimeError("[gloo] Connection closed by peer")
    for error in (SaveFailed("no room in runs/speers"), Diverged("the loss is nan, in gloomy_socket.png")):
        with pytest.raises(type(error)) as raised, few.detecting_lost_ranks():
            raise error
        assert raised.value is error


# --- the command


def train(folder: Path, *words: object, count: int = 2) -> list[str]:
    return [*TORCHRUN, str(count), "-m", "noisekiln", "train", "portraits", "--backbone", TINY, "--batch-size", "16",
            "--out", str(folder), *map(str, words)]  # fmt: skip


def said(*command: object) -> str:
    """What a command says that ends well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=ENV, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_paints_the_same_and_goes_on_with_another_number_of_processes(tmp_path):
    """Two processes that share out the weights, and one that has them whole."""
    budget = ("--images", 8000, "--batch-size", 256)
    assert said(*train(tmp_path / "two", *budget, "--shard")).count("done: 8,192 images") == 1  # one process speaks
    said(*train(tmp_path / "one", *budget, count=1))
    assert len(list((tmp_path / "two" / "checkpoints" / "000000008192").glob("part-*.safetensors"))) == 2
    two, one = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("two", "one"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-2, atol=1e-3)
    told = [json.loads((tmp_path / run / "held_out.json").read_text()) for run in ("one", "two")]
    assert told[0]["points"] == told[1]["points"] > 2
    for one_, two_ in zip(*(of["evaluations"] for of in told), strict=True):  # each process evaluates its share
        np.testing.assert_allclose(two_["held_out"], one_["held_out"], rtol=0.02)
        np.testing.assert_allclose(two_["train"], one_["train"], rtol=0.02)
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines()[0] for run in ("one", "two")]
    for name, value in json.loads(lines[0]).items():  # the first step's, over the rows of all processes
        if name.startswith("loss"):
            assert json.loads(lines[1])[name] == pytest.approx(value, rel=1e-3), name
    for file in sorted((tmp_path / "one" / "samples").iterdir()):
        pictures = [np.asarray(Image.open(tmp_path / run / "samples" / file.name), float) for run in ("one", "two")]
        assert np.abs(pictures[0] - pictures[1]).mean() < 2
    on = said(*train(tmp_path / "two", "--images", 9000, "--batch-size", 256, count=1))
    assert "trained by 2 processes before, by 1 from here on: the same images and noise" in on
    assert "going on after 8,192 images" in on
    assert "done: 9,216 images" in on


def test_two_processes_paint_what_one_does(tmp_path, portrait_model):
    for count in (1, 2):
        words = ("sample", portrait_model, "-n", 7, "--batch-size", 2, "--steps", 3, "--out", tmp_path / str(count))
        told = said(*TORCHRUN, count, "-m", "noisekiln", *words)
        assert told.count("7 pictures in") == 1
    files = [{f.name: f.read_bytes() for f in (tmp_path / str(count)).iterdir()} for count in (1, 2)]
    assert len(files[0]) == 9
    assert files[0] == files[1]


@pytest.fixture
def portrait_model(tmp_path) -> Path:
    Run(Settings(images=16, batch_size=16, backbone=TINY, curves="none"), load("portraits"), tmp_path / "run").save()
    return tmp_path / "run"


@pytest.mark.parametrize("command", ["edit", "ema", "cascade"])
def test_other_commands_are_not_started_several_times(cli, monkeypatch, command):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = cli(command, "runs/some")
    assert told.code == 2
    assert f"{command} was started 2 times, and it is the work of one process" in told.err


class Apart(Ranks):
    """One of two processes, to which the other says what it is told to say."""

    def __init__(self, rank: int, other: list[list[float]]) -> None:
        self.rank, self.count, self.other = rank, 2, other

    def summed(self, values):
        return [mine + theirs for mine, theirs in zip(values, self.other.pop(0), strict=True)]


def test_processes_with_folders_of_their_own_are_told(tmp_path):
    """Even if there is an old run in each."""
    begun = time.monotonic()
    assert not seen_by_all(tmp_path, Apart(1, [[77.0], [1.0]]), patience=0.2)
    assert not seen_by_all(tmp_path, Apart(0, [[0.0], [0.0]]), patience=0.2)
    assert time.monotonic() - begun < 5
    later = threading.Timer(0.2, (tmp_path / ".meeting").write_text, ("77",))
    later.start()
    assert seen_by_all(tmp_path, Apart(1, [[77.0], [1.0]]), patience=10)  # a network disk shows it later
    later.join()


def test_a_network_is_compiled_in_all_processes_or_in_none(monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler here")

    for here, there in ((False, True), (True, False)):
        network = nn.Linear(1, 1)
        with monkeypatch.context() as patched:
            patched.setattr(torch, "compile", broken if here else lambda function: function)
            why = compiled(network, "cpu", Apart(0, [[float(there)]]))
        assert why == ("no compiler here" if here else "another process cannot")
        assert network._compiled_call_impl is None


def test_what_a_sharded_run_learned_of_memory_is_kept(tmp_path, monkeypatch):
    """It leaves no way back within a run; the same command goes on with smaller pieces."""
    settings, data = Settings(images=64, batch_size=16, backbone=TINY, curves="none", shard=True), load("portraits")
    run = Run(settings, data, tmp_path)
    run.trainer.gradients.sharded = True
    monkeypatch.setattr(run.trained, "forward", out_of_memory)
    with pytest.raises(ValueError, match=r"process 0, with 16 images at once.* the same command again: it takes 8 at"):
        list(run.steps())
    again = Run(settings, data, tmp_path)
    assert again.trainer.gradients.micro_batch_size == 8
    assert again.settings.micro_batch_size is None
    assert len(list(again.steps())) == 4
    for asked, shard, taken in ((16, True, 8), (2, True, 2), (16, False, 16), (None, False, 8)):  # saved with 8
        run = Run(settings.but(micro_batch_size=asked, shard=shard), data, tmp_path)
        assert run.trainer.gradients.micro_batch_size == taken, (asked, shard)


def test_torchrun_takes_a_sharded_run_on_whose_memory_is_short(tmp_path):
    """Process 1 has room for 4 images of 16: two restarts, and all is done."""
    script = [*TORCHRUN[:-1], "--max-restarts", "3", TORCHRUN[-1], "2", str(DRIVER.with_name("short_driver.py"))]
    words = train(tmp_path / "run", "--images", 64, "--batch-size", 32, "--shard")
    told = said(*script, *words[words.index("noisekiln") + 1 :])
    assert "done: 64 images" in told
    assert json.loads((tmp_path / "run" / "memory.json").read_text()) == {"micro": 4}


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def started(folder: Path, *words: object) -> tuple[subprocess.Popen[str], list[int]]:
    """Two processes in the midst of training, and their numbers in order of rank."""
    process = subprocess.Popen(
        train(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV
    )
    until = time.monotonic() + 60
    while not (folder / "model" / "model.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    ranks: dict[int, int] = {}
    for task in Path("/proc").glob("[0-9]*"):
        try:
            environment = (task / "environ").read_bytes().split(b"\0")
            parent = int((task / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        named = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
        if parent == process.pid and b"RANK" in named:
            ranks[int(named[b"RANK"])] = int(task.name)
    return process, [ranks[0], ranks[1]]


def lives(process: int) -> bool:
    """Whether it has not ended; one that nobody has asked for yet has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_ends_the_run_and_is_named(tmp_path, monkeypatch, how):
    process, ranks = started(tmp_path, "--minutes", 5, "--timeout", 5)
    os.kill(ranks[1], how)
    begun = time.monotonic()
    try:
        while lives(ranks[0]) and time.monotonic() - begun < 60:
            time.sleep(0.1)
        assert time.monotonic() - begun < 30
        if lives(ranks[1]):
            os.kill(ranks[1], signal.SIGKILL)  # torchrun would give a stopped one 30 s to end
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    if how == signal.SIGSTOP:  # a dead one is named by torchrun too, which may be quicker than we are
        assert "Lost process 1 of 2: it died or does not answer." in err, err
    assert "rank      : 1" in err or "Lost process 1 of 2" in err
    assert not [rank for rank in ranks if lives(rank)]
    assert "done" not in out


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_killed_process_is_replaced_and_the_run_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    """Elastic restart, bit for bit."""
    monkeypatch.setattr(sys.modules[__name__], "TORCHRUN", [*TORCHRUN[:-1], "--max-restarts", "2", TORCHRUN[-1]])
    subprocess.run(train(tmp_path / "whole", "--images", 640), check=True, env=ENV, timeout=120, capture_output=True)
    process, ranks = started(tmp_path / "killed", "--images", 640)
    os.kill(ranks[1], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "going on after" in out
    whole_, killed = (checkpoints.newest(tmp_path / name / "checkpoints") for name in ("whole", "killed"))
    assert killed.numbers["images_seen"] == 640
    for name, tensor in whole_.parts[0].items():
        assert torch.equal(killed.parts[0][name], tensor), name


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("number", "to"), [(signal.SIGUSR1, "one"), (signal.SIGTERM, "both"), (signal.SIGINT, "torchrun too")]
)
def test_a_signal_stops_and_saves_all(tmp_path, number, to):
    process, ranks = started(tmp_path, "--minutes", 5)
    for each in {"one": ranks[1:], "both": ranks, "torchrun too": [*ranks, process.pid]}[to]:
        os.kill(each, number)
    out, err = process.communicate(timeout=150)
    assert process.returncode != 0
    assert to != "one" or "exitcode  : 143" in err
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert f"stopped after {found.numbers['images_seen']:,} images" in out
    assert found.skipped == []


@pytest.mark.parametrize("option", [option for option in options() if option.startswith("--")])
def test_torchrun_hands_on_every_option_of_train(option):
    """It reads abbreviations of its own options even among those of the program."""
    told = get_args_parser().parse_args(["-m", "noisekiln", "train", "portraits", option, "1"])
    assert told.training_script_args == ["train", "portraits", option, "1"]


def background_of_a_lost(work: Callable[[], None]) -> None:
    """Do work, and meanwhile find that another process is lost."""

    def train() -> None:
        with Background() as background:
            background.submit(work)
            raise LostRank("Lost process 0 of 2")

    with pytest.raises(LostRank):
        train()


def test_what_waits_for_a_lost_process_does_not_keep_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.training.background.GRACE", 0.2)
    begun, tensors = time.monotonic(), {"weight": torch.ones(2)}
    background_of_a_lost(partial(checkpoints.save, tmp_path, 8, tensors, {}, part=1, parts=2, patience=20))
    assert time.monotonic() - begun < 5


def test_what_waits_for_nobody_is_written_though_another_process_is_lost(tmp_path):
    def slow():
        time.sleep(0.3)
        checkpoints.save(tmp_path, 8, {"weight": torch.ones(2)}, {})

    background_of_a_lost(slow)
    assert checkpoints.counts(tmp_path) == [8]
