"""Several processes train as one would; and none of them waits forever."""

import json
import os
import signal
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

import noisekiln as nk
from conftest import TINY, content_of
from distributed_driver import EVALUATION, LARGE, SMALL, UNTITLED, Matrices, drive, encoded_images, make, muon_steps
from forked import Forked, forked_ranks
from low_memory_driver import train_in_low_memory
from noisekiln.cli import app
from noisekiln.data import load
from noisekiln.distributed import torchrun
from noisekiln.distributed.checksum import check_same_weights
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.sharded import merge_shards
from noisekiln.distributed.shares import split_by_cost
from noisekiln.errors import Diverged, LostRank, RanksDiffer, SaveFailed
from noisekiln.plan.settings import Settings
from noisekiln.runs.rank_agreement import check_ranks_agree, is_folder_shared
from noisekiln.runs.run import Run
from noisekiln.training import checkpoints
from noisekiln.training.background import BackgroundWriter
from noisekiln.training.compiling import NetworkCompiler

in_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")


@pytest.fixture(scope="module")
def two_process_run(tmp_path_factory) -> Path:
    """The folder in which two processes have run `distributed_driver.py`."""
    folder = tmp_path_factory.mktemp("ranks")
    ended = [process.end(300) for process in forked_ranks(folder, folder, function=drive)]
    assert [code for code, _, _ in ended] == [0, 0], [err[-4000:] for _, _, err in ended]
    return folder


@pytest.fixture(scope="module")
def trained(two_process_run) -> Callable[[str], list[dict]]:
    """What each of two processes saved after training."""
    return lambda what: [torch.load(two_process_run / f"{what}{rank}.pt", weights_only=True) for rank in range(2)]


def printed(folder: Path, command: str) -> list[str]:
    """What each of two processes printed to standard output; the command ended well in both."""
    both = [json.loads((folder / f"printed{rank}.json").read_text())[command] for rank in range(2)]
    assert [code for code, _, _ in both] == [0, 0], both
    return [out for _, out, _ in both]


def train_single_process(**settings):
    trainer = make(Ranks(), **settings)
    losses = [report.loss for report in trainer.run()]
    return trainer.state_dict()[0], losses


def assert_same(parts, tensors, losses):
    np.testing.assert_allclose(parts[0]["losses"], losses, rtol=1e-9)
    assert parts[0]["losses"] == parts[1]["losses"]
    assert parts[0]["norms"] == parts[1]["norms"]
    merged = merge_shards([part["tensors"] for part in parts], parts[0]["numbers"]["sharded"])
    assert merged.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-7, atol=1e-10, msg=name)


# What two processes compute


@pytest.mark.slow
@pytest.mark.parametrize(("what", "batch"), [("ddp", 96), ("shard", 96), ("uneven", 97), ("uneven-shard", 97)])
def test_two_processes_train_as_one_does(trained, what, batch):
    """Over 50 steps in double precision, only the order of sums differs."""
    parts = trained(what)
    assert_same(parts, *train_single_process(batch_size=batch))
    assert bool(parts[0]["numbers"]["sharded"]) == ("shard" in what)


@pytest.mark.slow
def test_sharded_muon_is_computed_once(trained):
    """Each matrix by one process, and the result is that of one process that computes them all."""
    parts, alone = trained("muon"), muon_steps(Ranks())
    assert sum(part["computed"] for part in parts) == alone["computed"] == 3 * len(Matrices.SHAPES)
    assert all(part["computed"] > 0 for part in parts)
    for part in parts:
        for weight, expected in zip(part["weights"], alone["weights"], strict=True):
            torch.testing.assert_close(weight, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_each_process_encodes_its_share_of_the_latents(trained):
    parts, alone = trained("latents"), encoded_images(Ranks())
    assert [part["encoded"] for part in parts] == [3, 4]
    for part in parts:
        assert part["x"].dtype == torch.float16
        torch.testing.assert_close(part["x"], alone["x"], atol=2e-3, rtol=2e-3)


def test_work_is_split_by_cost():
    assert split_by_cost([1, 9, 4, 4, 1], 2) == [[1, 4], [2, 3, 0]]
    assert split_by_cost([2], 3) == [[0], [], []]


@pytest.mark.slow
def test_if_one_process_runs_out_of_memory_all_use_a_smaller_micro_batch(trained):
    """In a forward pass, during the all-reduce of a backward pass, and when rows are made."""
    parts = trained("short")
    assert_same(parts, *train_single_process())
    sizes = [48] * 9 + [24] * 10 + [12] * 11 + [6] * 20
    assert parts[0]["micro_batch_size"] == parts[1]["micro_batch_size"] == sizes


@pytest.mark.slow
def test_a_step_whose_last_micro_batch_is_nan_leaves_no_gradient_behind(trained):
    """Sharded weights accumulate gradients over micro-batches; none of them must get into the next step."""
    sharded, whole = (trained(what)[0] for what in ("ruined-shard", "ruined-ddp"))
    assert sharded["applied"] == whole["applied"] == [True] * 3 + [False] + [True] * 46
    np.testing.assert_allclose(sharded["norms"], whole["norms"], rtol=1e-9)
    np.testing.assert_allclose(sharded["losses"], whole["losses"], rtol=1e-9)


@pytest.mark.slow
def test_a_sharded_run_resumes_in_one_process_and_back(trained):
    """A checkpoint can be read by any number of processes."""
    parts = trained("half-shard")
    one = make(Ranks())
    one.load_state_dict([part["tensors"] for part in parts], parts[0]["numbers"])
    assert one.images_seen == 25 * 96
    losses = [report.loss for report in one.run()]
    tensors, all_losses = train_single_process()
    np.testing.assert_allclose(losses, all_losses[25:], rtol=1e-9)
    for what in ("resume-shard", "resume"):
        np.testing.assert_allclose(trained(what)[0]["losses"], all_losses[25:], rtol=1e-9)
    assert tensors.keys() == one.state_dict()[0].keys()


@pytest.mark.slow
def test_an_error_in_one_process_is_raised_in_all(two_process_run):
    """A parameter without gradient, and weights that have changed in one process only."""
    for rank in range(2):
        errors = json.loads((two_process_run / f"errors{rank}.json").read_text())
        assert "idle had no part in the loss" in errors["unused"]
        assert "The weights of rank 1 differ from those of rank 0" in errors["different"]


@pytest.mark.slow
def test_the_command_resumes_with_another_number_of_processes_and_samples_the_same(two_process_run, cli, tmp_path):
    """Two processes with sharded weights, and one with full weights."""
    two, one = two_process_run / "two", tmp_path / "one"
    outputs = printed(two_process_run, "two")
    assert [out.count("done: 8,192 images") for out in outputs] == [1, 0]  # one process prints
    assert cli(*LARGE, "--out", one).code == 0
    assert len(list((two / "checkpoints" / "000000008192").glob("part-*.safetensors"))) == 2
    weights = [load_file(run / "model" / "model.safetensors") for run in (two, one)]
    for name, weight in weights[1].items():
        torch.testing.assert_close(weights[0][name], weight, rtol=1e-2, atol=1e-3)
    evaluated = [json.loads((run / "held_out.json").read_text()) for run in (one, two)]
    assert evaluated[0]["noisy_images"] == evaluated[1]["noisy_images"] > 2
    for one_, two_ in zip(*(of["evaluations"] for of in evaluated), strict=True):  # each process evaluates its share
        np.testing.assert_allclose(two_["held_out"], one_["held_out"], rtol=0.02)
        np.testing.assert_allclose(two_["train"], one_["train"], rtol=0.02)
    lines = [(run / "metrics.jsonl").read_text().splitlines()[0] for run in (one, two)]
    for name, value in json.loads(lines[0]).items():  # the first step's, over the rows of all processes
        if name.startswith("loss"):
            assert json.loads(lines[1])[name] == pytest.approx(value, rel=1e-3), name
    for file in sorted((one / "samples").iterdir()):
        pictures = [np.asarray(Image.open(run / "samples" / file.name), float) for run in (one, two)]
        assert np.abs(pictures[0] - pictures[1]).mean() < 2
    longer = cli(*LARGE, "--images", 9000, "--out", two)
    assert longer.code == 0
    assert "trained by 2 processes before, by 1 from here on: the same images and noise" in longer.flat
    assert "after 8,192 images" in longer.flat
    assert "done: 9,216 images" in longer.flat


@pytest.mark.slow
@pytest.mark.parametrize("command", ["codec", "student", "latent"])
def test_a_codec_with_weights_and_a_teacher_stay_whole_where_weights_are_sharded(two_process_run, command):
    """They are used outside of the sharded forward pass: images are encoded, and the codec is saved."""
    printed(two_process_run, command)
    codec = load_file(two_process_run / command / "codec" / "codec.safetensors")
    model = nk.load(two_process_run / command, allow_code=True)
    assert all(torch.equal(codec[name], tensor) for name, tensor in model.codec.state_dict().items())
    assert model.sample(1, steps=2).shape == (1, *model.size, 3)


@pytest.mark.slow
def test_two_processes_sample_what_one_does(two_process_run, cli, tmp_path):
    outputs = printed(two_process_run, "sample")
    assert [out.count("7 images in") for out in outputs] == [1, 0]
    model = two_process_run / "whole"
    assert len(list((two_process_run / "2").iterdir())) == 9
    alone_ = cli("sample", model, "-n", 7, "--batch-size", 2, "--steps", 3, "--out", tmp_path / "1")
    assert alone_.code == 0
    folders = (tmp_path / "1", two_process_run / "2")
    images = [{file.name: content_of(file) for file in folder.glob("*.png")} for folder in folders]
    assert images[0] == images[1]
    entries = [json.loads((folder / "samples.json").read_text("utf-8")) for folder in folders]
    for entry in (*entries[0], *entries[1]):
        entry.pop("batch", None)  # two processes sample twice as many at once
    assert entries[0] == entries[1]


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(two_process_run, cli, tmp_path):
    outputs = printed(two_process_run, "evaluate")
    assert [out.count("copying: ") for out in outputs] == [1, 0]
    assert cli("evaluate", two_process_run / "whole", *EVALUATION, "--out", tmp_path / "alone").code == 0
    folders = (tmp_path / "alone", two_process_run / "evaluated")
    alone, shared = (json.loads((folder / "evaluation.json").read_text("utf-8")) for folder in folders)
    assert alone["count"] == shared["count"] == 15
    for part in ("scores", "raw_scores"):
        for name, score in alone[part].items():
            assert shared[part][name]["value"] == pytest.approx(score["value"], rel=1e-4, abs=1e-5), name
    assert alone["conclusions"] == shared["conclusions"]


# What processes agree on


def test_a_batch_too_small_for_all_is_refused():
    with pytest.raises(ValueError, match="`batch_size=3` is less than one image for each of 4 processes"):
        make(Ranks(0, 4), batch_size=3)


class Alike(Ranks):
    """Many processes with equal values, summed one after the other."""

    def all_reduce_sum(self, values):
        total = [0.0] * len(values)
        for _ in range(self.world_size):
            total = [a + float(b) for a, b in zip(total, values, strict=True)]
        return total


class Apart(Ranks):
    """One of two processes, which receives fixed numbers from the other."""

    def __init__(self, rank: int, other: list[list[float]]) -> None:
        super().__init__(rank, 2)
        self.other = other

    def all_reduce_sum(self, values):
        return [mine + theirs for mine, theirs in zip(values, self.other.pop(0), strict=True)]


class Gathered(Ranks):
    """One of several processes, each with its own number."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__(0, len(numbers))
        self.numbers = numbers

    def all_gather(self, rows, count):
        return rows + torch.tensor(self.numbers, dtype=rows.dtype)


@pytest.mark.parametrize("fingerprint", ["ffffffffffffffff", "ffeeddccbbaa9988", "0123456789abcdef"])
def test_many_processes_that_see_the_same_images_agree(tmp_path, monkeypatch, fingerprint):
    monkeypatch.setattr("secrets.randbits", lambda bits: 0)  # every one of them is the first here
    for count in (2, 64, 1000):
        check_ranks_agree(tmp_path, Alike(0, count), 12345678, fingerprint, 2)


def test_processes_that_see_something_else_are_refused(tmp_path):
    for resumed, mark in ((80.0, 255.0), (64.0, 254.0)):  # what the other one sees
        ranks = Apart(0, [[0.0], [1.0], [resumed, mark]])
        with pytest.raises(ValueError, match=r"do not see the same run in .*, or not the same images"):
            check_ranks_agree(tmp_path, ranks, 64, "000000ffaa", 0.2)
    check_ranks_agree(tmp_path, Apart(0, [[0.0], [1.0], [64.0, 255.0]]), 64, "000000ffaa", 0.2)


def test_processes_without_a_shared_folder_are_refused(tmp_path):
    """Even if each folder holds an old run."""
    start_time = time.monotonic()
    assert not is_folder_shared(tmp_path, Apart(1, [[77.0], [1.0]]), 0.2)
    assert not is_folder_shared(tmp_path, Apart(0, [[0.0], [0.0]]), 0.2)
    assert time.monotonic() - start_time < 5
    later = threading.Timer(0.2, (tmp_path / ".shared_folder_test").write_text, ("77",))
    later.start()
    assert is_folder_shared(tmp_path, Apart(1, [[77.0], [1.0]]), 10)  # a network disk shows it later
    later.join()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0.0, 1e-9], "weights of rank 1 differ from those of rank 0, although all 2 processes"),
        ([0.0, 0.0, 2.0, 0.0], "weights of rank 2 differ from those of rank 0"),
        ([3.0, 0.0, 0.0], "weights of rank 0 differ from those of rank 1"),
        ([0.0, 1.0, 0.0, 2.0, 0.0], "weights of ranks 1, 3 differ from those of rank 0"),
    ],
)
def test_processes_whose_weights_differ_are_named(numbers, message):
    module = nn.Linear(3, 2)
    check_same_weights(module, Gathered([0.0] * len(numbers)))
    with pytest.raises(RanksDiffer, match=message):
        check_same_weights(module, Gathered(numbers))


def test_a_checksum_knows_weights_apart_that_have_changed_places():
    one, other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[0].load_state_dict(one[1].state_dict())
    other[1].load_state_dict(one[0].state_dict())
    seen = []

    class Noted(Gathered):
        def all_gather(self, rows, count):
            seen.append(float(rows))
            return super().all_gather(rows, count)

    for module in (one, one, other):
        check_same_weights(module, Noted([0.0, 0.0]))
    assert seen[0] == seen[1] != seen[2]


def test_only_errors_of_torch_are_treated_as_a_lost_connection():
    few = Ranks(0, 2)
    with pytest.raises(LostRank), few.detecting_lost_ranks():
        raise RuntimeError("[gloo] Connection closed by peer")
    for error in (SaveFailed("no room in runs/speers"), Diverged("the loss is nan, in gloomy_socket.png")):
        with pytest.raises(type(error)) as raised, few.detecting_lost_ranks():
            raise error
        assert raised.value is error


def test_a_network_is_compiled_in_all_processes_or_in_none(monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler here")

    for here, there in ((False, True), (True, False)):
        compiler = NetworkCompiler(nn.Linear(1, 1), "cpu", Apart(0, [[float(there)]]))
        with monkeypatch.context() as patched:
            patched.setattr(torch, "compile", broken if here else lambda function: function)
            compiler.compile()
        assert compiler.failure == ("no compiler here" if here else "another process cannot compile it")
        assert not compiler.active


# The command


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "3"},
        {"LOCAL_RANK": "2", "WORLD_SIZE": "4"},
        {"RANK": "3", "WORLD_SIZE": "4", "SLURM_PROCID": "3"},  # no address
        {**LAUNCHED, "RANK": "2"},  # outside of the world
        {**LAUNCHED, "WORLD_SIZE": "two"},
        {**LAUNCHED, "RANK": ""},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "SLURM_NTASKS": "8"},
    ],
    ids=str,
)
def test_what_another_launcher_left_in_the_environment_mutes_no_single_process(monkeypatch, left):
    for name in (*LAUNCHED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    found = (torchrun.is_launched(), torchrun.rank(), torchrun.world_size(), torchrun.local_rank())
    assert found == (False, 0, 1, 0)


def test_all_variables_of_torchrun_together_count(monkeypatch):
    for name, value in {**LAUNCHED, "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    found = (torchrun.is_launched(), torchrun.rank(), torchrun.world_size(), torchrun.local_rank())
    assert found == (True, 1, 2, 1)


@pytest.mark.parametrize("command", ["edit", "ema", "cascade"])
def test_other_commands_are_not_started_several_times(cli, monkeypatch, command):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    refused = cli(command, "runs/some")
    assert refused.code == 2
    assert f"{command} was started in 2 processes, but it runs in one" in refused.err


def options() -> list[str]:
    """Every option of `noisekiln train`."""
    parameters = typer.main.get_command(app).commands["train"].params
    return [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]


@pytest.mark.parametrize("option", [option for option in options() if option.startswith("--")])
def test_torchrun_passes_on_every_option_of_train(option):
    """torchrun also reads abbreviations of its own options among those of the program."""
    parsed = get_args_parser().parse_args(["-m", "noisekiln", "train", "portraits", option, "1"])
    assert parsed.training_script_args == ["train", "portraits", option, "1"]


# Memory


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.slow  # six runs
def test_the_micro_batch_that_a_sharded_run_should_try_is_kept(tmp_path, monkeypatch):
    """Out of memory, a sharded run ends; the same command resumes with a smaller micro-batch."""
    settings, data = (
        Settings(images=64, batch_size=16, backbone=TINY, curves="none", shard=True),
        load(np.zeros((24, 8, 8, 3), np.uint8)),
    )
    run = Run(settings, data, tmp_path)
    run.trainer.gradients.sharded = True
    monkeypatch.setattr(run.learner, "forward", out_of_memory)
    with pytest.raises(ValueError, match=r"process 0, with a micro-batch of 16 images.* will use micro-batches of 8"):
        list(run.steps())
    again = Run(settings, data, tmp_path)
    assert again.trainer.micro_batch_size == 8
    assert again.settings.micro_batch_size is None
    assert len(list(again.steps())) == 4
    for requested, shard, used in ((16, True, 8), (2, True, 2), (16, False, 16), (None, False, 8)):  # saved with 8
        run = Run(settings.replace(micro_batch_size=requested, shard=shard), data, tmp_path)
        assert run.trainer.micro_batch_size == used, (requested, shard)


@pytest.mark.slow
def test_a_sharded_run_that_was_out_of_memory_fits_when_it_is_started_again(tmp_path):
    """Process 1 has memory for 4 of 8 images: all end, as torchrun needs to restart them; then the run finishes."""
    run = tmp_path / "run"
    words = ("train", "portraits", "--backbone", TINY, "--images", 32, "--batch-size", 16, "--shard", "--out", run)
    words += ("--cond", "none")
    first, second = (
        [each.end() for each in forked_ranks(tmp_path / start, *words, function=train_in_low_memory)]
        for start in ("first", "second")
    )
    assert all(code for code, _, _ in first), first
    assert "it will use micro-batches of 4 images" in first[1][2]
    assert [code for code, _, _ in second] == [0, 0], second
    assert "done: 32 images" in second[0][1]
    assert json.loads((run / "memory.json").read_text()) == {"micro_batch_size": 4}


# Processes that are lost or stopped


class Pair:
    """Two processes in the middle of training, started without torchrun, or by it."""

    def __init__(
        self,
        folder: Path,
        *words: object,
        train: tuple[object, ...] = UNTITLED,
        torchrun: tuple[object, ...] | None = None,
    ) -> None:
        self.run = folder / "run"
        command = [*train, "--out", self.run, *words]
        if torchrun is None:
            self.started = forked_ranks(folder, *command)
        else:
            launch = ["--standalone", "--nproc-per-node", 2, *torchrun, "-m", "noisekiln"]
            self.started = [Forked(folder / "torchrun", *launch, *command, function=launch_by_torchrun)]
        until = time.monotonic() + 60
        while not (self.run / "metrics.jsonl").exists():
            assert all(process.poll() is None for process in self.started), self.end()
            assert time.monotonic() < until
            time.sleep(0.05)
        self.numbers = [each.pid for each in self.started] if torchrun is None else children(self.started[0].pid)

    def end(self, seconds: float = 60) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of each process that was started, once all have ended."""
        try:
            return [process.end(seconds) for process in self.started]
        finally:
            for process in self.started:
                process.kill()


def launch_by_torchrun(*words: str) -> None:
    """`torchrun`, without another import of torch."""
    torch.distributed.run.main(words)


def children(parent: int) -> list[int]:
    """Numbers of the processes that torchrun has started, by rank."""
    ranks: dict[int, int] = {}
    for task in Path("/proc").glob("[0-9]*"):
        try:
            environment = (task / "environ").read_bytes().split(b"\0")
            of = int((task / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        named = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
        if of == parent and b"RANK" in named:
            ranks[int(named[b"RANK"])] = int(task.name)
    return [ranks[0], ranks[1]]


def lives(process: int) -> bool:
    """Whether the process still runs; one whose exit code was not yet read has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_ends_the_run_and_is_named(tmp_path, how):
    pair = Pair(tmp_path, "--minutes", 5, "--timeout", 3)
    start_time = time.monotonic()
    pair.started[1].send_signal(how)
    code, out, err = pair.started[0].end(30)
    assert time.monotonic() - start_time < 30
    pair.started[1].kill()
    assert code == 6
    assert "Lost process 1 of 2: it died or does not answer." in err
    assert "done" not in out


@pytest.mark.slow
@in_proc
def test_torchrun_ends_the_other_process_if_one_dies(tmp_path):
    pair = Pair(tmp_path, "--minutes", 5, "--timeout", 5, torchrun=())
    os.kill(pair.numbers[1], signal.SIGKILL)
    ((code, out, err),) = pair.end()
    assert code != 0
    assert "rank      : 1" in err or "Lost process 1 of 2" in err
    assert not [number for number in pair.numbers if lives(number)]
    assert "done" not in out


@pytest.mark.slow
@in_proc
def test_after_a_killed_process_is_replaced_the_run_ends_with_the_same_result(tmp_path, two_process_run):
    """An elastic restart gives the same result bit for bit."""
    pair = Pair(tmp_path, "--images", 640, train=SMALL, torchrun=("--max-restarts", 2))
    until = time.monotonic() + 60
    while not checkpoints.list_images_seen(pair.run / "checkpoints"):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(pair.numbers[1], signal.SIGKILL)
    ((code, _, err),) = pair.end(120)
    assert code == 0, err
    starts = json.loads((pair.run / "environment.json").read_text())
    assert [start["images_seen"] > 0 for start in starts] == [False, True]
    whole, killed = (
        checkpoints.load_newest(folder / "checkpoints") for folder in (two_process_run / "whole", pair.run)
    )
    assert killed.state["images_seen"] == 640
    for name, tensor in whole.shards[0].items():
        assert torch.equal(killed.shards[0][name], tensor), name


@pytest.mark.slow
@in_proc
@pytest.mark.parametrize(
    ("number", "to"), [(signal.SIGUSR1, "one"), (signal.SIGTERM, "both"), (signal.SIGINT, "torchrun too")]
)
def test_a_signal_stops_and_saves_all(tmp_path, number, to):
    by_torchrun = to == "torchrun too"
    pair = Pair(tmp_path, "--minutes", 5, torchrun=() if by_torchrun else None)
    for each in pair.numbers[1:] if to == "one" else pair.numbers:
        os.kill(each, number)
    if by_torchrun:
        os.kill(pair.started[0].pid, number)
    ended = pair.end(120)
    assert [code for code, _, _ in ended] == [143, 143] or by_torchrun
    assert ended[0][0] != 0
    found = checkpoints.load_newest(pair.run / "checkpoints")
    assert f"stopped after {found.state['images_seen']:,} images" in ended[0][1]
    assert found.skipped == []


def background_of_a_lost(work: Callable[[], None]) -> None:
    """Work in the background while another process turns out to be lost."""

    def train() -> None:
        with BackgroundWriter() as background:
            background.submit(work)
            raise LostRank("Lost process 0 of 2")

    with pytest.raises(LostRank):
        train()


def test_work_that_waits_for_a_lost_process_does_not_block_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("noisekiln.training.background.GRACE", 0.2)
    start_time, tensors = time.monotonic(), {"weight": torch.ones(2)}
    background_of_a_lost(partial(checkpoints.save, tmp_path, 8, tensors, {}, shard=1, num_shards=2, timeout=20))
    assert time.monotonic() - start_time < 5


def test_work_that_needs_no_other_process_is_finished_when_one_is_lost(tmp_path):
    def slow():
        time.sleep(0.3)
        checkpoints.save(tmp_path, 8, {"weight": torch.ones(2)}, {})

    background_of_a_lost(slow)
    assert checkpoints.list_images_seen(tmp_path) == [8]
