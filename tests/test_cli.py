"""The command line: what it says, what it refuses, and with which exit code."""

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml

import noisekiln
from conftest import TINY, Command, CommandResult, make_images, save_image
from forked import Forked
from noisekiln import errors
from noisekiln.cli import app, demo
from noisekiln.cli._flags import with_flags
from noisekiln.cli._watcher import Watcher
from noisekiln.components.registry import names, rooms
from noisekiln.components.setting import rules_of
from noisekiln.data import batch_order, find, load
from noisekiln.machine import processor
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.environment import version_of
from noisekiln.runs.events import Encoding, Reading, Saving
from noisekiln.training import checkpoints
from noisekiln.training.batches import Batch
from noisekiln.uses.request import SampleOptions

TOYS = Path(__file__).parent / "toys"
QUICK = ("--images", 32, "--batch-size", 8, "--backbone", TINY)
COMMAND = [sys.executable, "-m", "noisekiln"]
pytestmark = pytest.mark.usefixtures("short_previews")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def refused(result: CommandResult, code: int, message: str) -> None:
    """One clear message on stderr, in whole sentences, and no traceback."""
    assert result.code == code, result
    assert result.err.startswith("noisekiln: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.err.rstrip().endswith((".", "?", ")"))
    assert len(re.findall(r"[.?] (?=[A-Z])", result.err)) <= 4
    assert "Traceback" not in result.out + result.err


# Help


def test_help_names_every_command(cli: Command):
    result = cli("--help")
    assert result.code == 0
    for command in ("train", "sample", "demo", "list", "doctor"):
        assert command in result.out
    assert "noisekiln demo" in result.flat


@pytest.mark.parametrize("command", ["train", "sample", "demo", "list", "doctor"])
def test_help_of_every_command(cli: Command, command: str):
    result = cli(command, "-h")
    assert result.code == 0
    assert f"Example: noisekiln {command}" in result.flat


@pytest.mark.parametrize("command", [name for name in names("cli") if not name.startswith("_")])
def test_help_at_80_columns_cuts_nothing(cli: Command, monkeypatch: pytest.MonkeyPatch, command: str):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in cli(command, "--help").out


def test_every_setting_is_an_option(cli: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = cli("train", "--help")
    for name, rules in rules_of(Settings).items():
        flags = rules.flag.split() or [f"--{name.replace('_', '-')}"]
        assert name == "data" or all(flag in result.out for flag in flags), name


@pytest.mark.parametrize(("words", "kind"), [(("train",), Settings), (("edit",), SampleOptions)])
def test_help_lists_settings_under_their_groups(
    cli: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str], kind: type
):
    monkeypatch.setenv("COLUMNS", "200")
    parts = cli(*words, "--help").out.split("╭─ ")
    panels = {part.partition(" ─")[0]: part for part in parts}
    for name, rules in rules_of(kind).items():
        flag = rules.flag.split()[0] if rules.flag else f"--{name.replace('_', '-')}"
        assert rules.group, name
        assert name == "data" or flag in panels[rules.group], name


def test_nothing_heavy_is_imported_for_help():
    look = (
        "import sys; from noisekiln.cli import app; import noisekiln;"
        "print([m for m in ('torch', 'numpy', 'PIL', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["list"]])
def test_help_is_quick(words: list[str]):
    """0.7 s of processor time, or on a slow or busy machine what five imports of typer take; with torch it is ten."""
    best, blank = 9.0, 9.0
    for _ in range(12):
        blank = min(blank, processor_seconds([sys.executable, "-c", "import typer.rich_utils"]))
        best = min(best, processor_seconds([*COMMAND, *words]))
        if best < max(0.7, 5 * blank):
            return
    raise AssertionError(f"{best} s, and {blank} s for typer alone")


def processor_seconds(command: list[str]) -> float:
    """Of a command that prints nothing to standard error."""
    start = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended = os.times()  # processor time, as other tests run at the same time
    assert done.stderr == ""
    return ended.children_user + ended.children_system - start.children_user - start.children_system


# Looking around


def test_list(cli: Command):
    result = cli("list")
    assert result.code == 0
    assert result.err == ""
    assert [line.split(":")[0] for line in result.out.splitlines() if not line.startswith(" ")] == list(rooms())
    for room in rooms():
        assert names(room)
        assert re.search(rf"^{room}: \w", cli("list", room).out)
        for name in names(room):
            assert re.search(rf"^  {name} +\S.*\.$", result.out, re.MULTILINE), name


def test_list_of_every_folder_of_components(cli: Command):
    """A new room is listed by itself."""
    package = Path(noisekiln.__file__).parent
    assert {base.parent.name for base in package.glob("*/base.py")} == set(rooms())


def test_list_of_an_unknown_kind_is_refused(cli: Command):
    refused(
        cli("list", "samplrs"), 2, "There is no list of 'samplrs'. Did you mean 'samplers'? Known lists: backbones, "
    )


def test_doctor(cli: Command):
    result = cli("doctor")
    assert result.code == 0
    lines = result.out.splitlines()
    subjects = [line.split()[1] for line in lines]
    assert subjects[:5] == ["noisekiln", "python", "system", "torch", "packages"]
    assert subjects[-6:] == ["wandb", "processor", "gpu", "memory", "disk", "speed"]
    extras = dict(zip(subjects[5:-6], lines[5:-6], strict=True))
    assert {"diffusers", "evaluate", "log"} <= set(extras)
    assert not {"test", "all"} & set(extras)
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert torch.__version__ in result.out
    assert f"tensorboard {version_of('tensorboard')}" in extras["log"]
    assert "GFLOP/s" in lines[-1]
    for private in (str(Path.home()), str(Path.cwd()), sys.prefix, platform.node()):  # it is pasted into issues
        assert private not in result.out


def test_doctor_names_what_is_missing(cli: Command, monkeypatch: pytest.MonkeyPatch):
    from noisekiln.cli import _doctor

    there = {"accelerate": "1.0", "torchvision": "9.9"}
    monkeypatch.setattr(_doctor, "version_of", lambda package: there.get(package))
    report = cli("doctor").flat
    assert 'log not installed: tensorboard, needed for --curves tensorboard; pip install "noisekiln[log]"' in report
    assert 'diffusers not installed: diffusers, transformers; pip install "noisekiln[diffusers]"' in report
    assert re.search(r"warn torch .*; torchvision 9.9 is not needed, and", report)


def test_the_processor_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cpuinfo").write_text("flags\t: fpu\nmodel name\t: Kiln 3000: fast\nmodel name\t: other\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.processor_name() == "Kiln 3000: fast"
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert processor.processor_name()


def test_help_shows_settings_in_backticks_as_options(cli: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "`start`" in rules_of(Settings)["lora"].help
    assert "With --from: train an adapter" in cli("train", "--help").flat


# Completion


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["tra"], {"train"}),
        (["train", "portraits", "--model"], {"--model"}),
        (["sample", "runs/a", "--see"], {"--seed"}),
        (["--vers"], {"--version"}),
    ],
)
def test_the_shell_completes_commands_and_options(typed: list[str], offered: set[str]):
    words = {"COMP_WORDS": " ".join(["noisekiln", *typed]), "COMP_CWORD": str(len(typed))}
    environment = os.environ | {"_NOISEKILN_COMPLETE": "complete_bash"} | words
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""


def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    command = f"{shlex.join(COMMAND)} --install-completion; true"  # so that bash does not become Python
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert "bash completion installed" in done.stdout
    (script,) = (tmp_path / ".bash_completions").glob("*")
    assert "_NOISEKILN_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


# What typer refuses


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "No such command 'trian'"),
        (("train",), "Missing argument 'data'"),
        (("train", "x", "--minuts", "3"), "No such option: --minuts"),
        (("train", "x", "--minutes", "three"), "Invalid value for '--minutes'"),
        (("train", "x", "--images", "2.5"), "Invalid value for '--images'"),
        (("train", "x", "--minutes"), "Option '--minutes' requires an argument"),
        (("sample", "x", "--steps", "many"), "Invalid value for '--steps'"),
        (("sample", "x", "y"), "Got unexpected extra argument"),
    ],
)
def test_wrong_arguments(cli: Command, words: tuple[str, ...], message: str):
    result = cli(*words)
    assert result.code == 2
    assert result.out == ""
    assert message in result.flat
    assert "Usage: noisekiln" in result.flat or "requires an argument" in message
    assert "Traceback" not in result.err


# What train refuses


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--minutes", 0), "--minutes 0 is out of range. Give a number above 0 and at most"),
        (("--minutes", -1), "--minutes -1 is out of range"),
        (("--minutes", "nan"), "--minutes nan is out of range"),
        (("--minutes", "inf"), "--minutes inf is out of range"),
        (("--images", 0), "--images 0 is out of range"),
        (("--steps", 0), "--steps 0 is out of range"),
        (("--steps", -5), "--steps -5 is out of range"),
        (("--batch-size", 0), "--batch-size 0 is out of range"),
        (("--lr", "nan"), "--lr nan is out of range"),
        (("--lr", "-1e-3"), "--lr -0.001 is out of range"),
        (("--guidance", -2), "--guidance -2 is out of range. Give 0 or more."),
        (("--guidance", "classifier_fre"), "There is no guidance called 'classifier_fre'. Did you mean"),
        (("--guidance", "classifier_free(low=2,high=1)"), "Guidance from 2 to 1 is never on."),
        (("--cond-dropout", 1), "--cond-dropout 1 is out of range. Give 0 or more and below 1."),
        (("--cooldown", 3), "--cooldown 3 is out of range. Give 0 or more and at most 1."),
        (("--ema-length", 0.5), "--ema-length 0.5 is out of range. Give a number above 0 and at most 0.25."),
        (("--seed", -1), "--seed -1 is out of range. Give 0 or more and at most 9223372036854775807."),
        (("--seed", 2**63), "is out of range. Give 0 or more"),
        (
            ("--size", "big"),
            "--size big is not a size to train on. Give one side of 4 or more pixels, as 32, or height",
        ),
        (("--size", "8x8x8"), "--size 8x8x8 is not a size to train on."),
        (("--size", "8x"), "--size 8x is not a size to train on."),
        (("--size", "0"), "--size 0 is not a size to train on."),
        (("--size", "-8"), "--size -8 is not a size to train on."),
        (("--cond", "clas"), "There is no conditioner called 'clas'. Did you mean 'class'? Known values of --cond: "),
        (("--cond", "text"), "--cond text needs captions in which a word occurs twice or more (in a metadata.csv,"),
        (("--model", "huge"), "--model huge is not a size of unet. Known sizes: auto, "),
        (("--prediction", "esp"), "--prediction esp is not a choice. Did you mean 'eps'?"),
        (("--optimizer", "adamm"), "There is no optimizer called 'adamm'. Did you mean 'adam"),
        (("--backbone", "unet(width=3)"), "unet has no setting called 'width'. Did you mean 'widths'?"),
        (("--backbone", "unet(widths=(33,),blocks=(1,))"), "multiple of 32"),
        (("--backbone", "unet(channels=3)"), "unet has no setting called 'channels'."),
        (("--backbone", "vit"), "There is no backbone called 'vit'."),
        (
            ("--backbone", "unet(("),
            "cannot be read as a setting. Write name, name(setting=value, ...) or FILE.py:Class.",
        ),
        (("--backbone", "mine.py:Net"), "names a component in the file 'mine.py', which does not exist."),
        (("--sampler", "hein"), "There is no sampler called 'hein'. Did you mean 'heun'?"),
        (("--sampler", "ddim(eta=2)"), "ddim(eta=2.0): a share of fresh noise lies between 0 and 1."),
        (("--schedule", "karas"), "There is no schedule called 'karas'. Did you mean 'karras'?"),
        (("--draw", "normal"), "There is no draw called 'normal'. Did you mean"),
        (("--loss-weight", "minsnr"), "There is no loss weight called 'minsnr'. Did you mean 'min_snr'?"),
        (("--noise-label", "angel"), "There is no noise label called 'angel'. Did you mean 'angle'?"),
        (("--device", "gpu"), "The device 'gpu' is not available; available: "),
        (("--device", "tpu", "--dry-run"), "The device 'tpu' is not available;"),
    ],
)
def test_bad_settings(cli: Command, pets: Path, tmp_path: Path, words: tuple[object, ...], message: str):
    out = tmp_path / "run"
    refused(cli("train", pets, "--out", out, *QUICK, *words), 2, message)
    assert not out.exists()


@pytest.mark.skipif("torch.cuda.is_available()")
def test_no_cuda(cli: Command, pets: Path, tmp_path: Path):
    result = cli("train", pets, "--out", tmp_path / "run", "--device", "cuda")
    refused(result, 2, "The device 'cuda' is not available; available: cpu")


def test_no_classes(cli: Command, plain: Path, tmp_path: Path):
    result = cli("train", plain, "--out", tmp_path / "run", *QUICK, "--cond", "class")
    refused(result, 2, "--cond class needs classes (a sub-folder for each, or labels in a metadata.csv), and plain has")


def test_no_data(cli: Command, pets: Path, tmp_path: Path):
    out = ("--out", tmp_path / "run")
    refused(cli("train", pets.parent / "pet", *out), 3, "there is no such file or folder. Did you mean")
    refused(cli("train", "portrait", *out), 3, "portraits")
    refused(cli("train", tmp_path / "a" / "b", *out), 3, "there is no folder")
    (tmp_path / "empty").mkdir()
    refused(
        cli("train", tmp_path / "empty", *out), 3, "the folder is empty. Put images into it, or give another folder."
    )
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    refused(cli("train", tmp_path / "notes", *out), 3, "no image in it can be used (a.txt: not an image file")
    (tmp_path / "notes" / "b.png").write_bytes(b"\x89PNG broken")
    refused(cli("train", tmp_path / "notes", *out), 3, "no image in it can be used")
    refused(cli("train", tmp_path / "notes" / "a.txt", *out), 3, "this kind of file is not a known data set")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_odd_files_are_skipped_with_a_note(cli: Command, tmp_path: Path):
    pets = make_images(tmp_path / "pets")
    (pets / "notes.txt").write_text("x")
    whole = (pets / "3.png").read_bytes()
    (pets / "3.png").write_bytes(whole[: len(whole) // 2])
    save_image(pets / "large.png", np.zeros((20, 30, 3), np.uint8))
    out = tmp_path / "run"
    result = cli("train", pets, "--out", out, *QUICK)
    assert result.code == 0, result
    assert result.err == ""
    assert "2 files were skipped (" in result.out
    assert [result.out.count(name) for name in ("notes.txt: ", "3.png: ")] == [1, 1]  # one line
    assert "2 different sizes, 8x8 to 20x30: scaled and centre-cropped to 32x32 (--size changes it)." in result.out
    described = json.loads((out / "dataset.json").read_text())
    assert [one["file"] for one in described["skipped"]] == ["notes.txt", "3.png"]
    assert any("2 files were skipped" in note for note in described["notes"])


@pytest.mark.usefixtures("measure_briefly")
def test_many_skipped_files_are_not_all_listed(cli: Command, tmp_path: Path):
    pets = make_images(tmp_path / "pets")
    for i in range(103):
        (pets / f"{i}.doc").write_text("x")
    result = cli("train", pets, "--out", tmp_path / "run", "--backbone", TINY, "--dry-run")
    assert result.out.count("  skipped ") == 100
    assert "103 files were skipped (103, the first 0.doc: " in result.out
    assert "... and 3 more, which a run lists in its dataset.json" in result.out


@pytest.mark.parametrize("out", ["thesis", "thesis/book.tex", "thesis/book.tex/run"])
def test_out_that_is_something_else(cli: Command, pets: Path, tmp_path: Path, out: str):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "book.tex").write_text("mine")
    refused(cli("train", pets, "--out", tmp_path / out, *QUICK), 2, str(tmp_path / out))
    assert contents(tmp_path) == {"thesis/book.tex": b"mine"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "banana"), "The device 'banana' is not available; available: cpu"),
        (("--ema-length", 5), "--ema-length 5 is out of range. Give a number above 0 and at most 0.25."),
        (("--prediction", "esp"), "--prediction esp is not a choice. Did you mean 'eps'?"),
        (("--guidance", "classifier_fre"), "There is no guidance called 'classifier_fre'. Did you mean"),
        (("--from", "nowhere"), "--from nowhere: There is no folder 'nowhere'. Give the folder of a run"),
        (("--from", "nowhere", "--size", 8), "--from nowhere: There is no folder 'nowhere'"),
        (("--objective", f"{TOYS / 'distilling_objective.py'}:Distilling", "--teacher", "nowhere"),
         "--teacher nowhere: There is no folder 'nowhere'"),
        (("--out", "file"), "file is a file, but a run needs a folder. Give a new folder as --out."),
        (("--out", "other"), "other holds files, but no run"),
    ],
)  # fmt: skip
def test_what_needs_no_images_is_refused_before_they_are_read(
    cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("other").mkdir()
    Path("other/book.tex").touch()
    monkeypatch.setattr("noisekiln.runs.train.read_images", None)
    refused(cli("train", pets, *words), 2, message)


def test_other_data_of_fewer_images_are_the_reason_and_not_the_batch(pets: Path, tmp_path: Path):
    words = {"images": 32, "batch_size": 16, "backbone": TINY, "curves": "none", "cond": "none"}
    noisekiln.train(pets, out=tmp_path, **words)
    with pytest.raises(ValueError, match=r"was trained on the images of .*, and those of array are others"):
        noisekiln.train(np.zeros((1, 8, 8, 3), np.uint8), out=tmp_path, **words)
    with pytest.raises(ValueError, match=r"`batch_size=16` \(now 8\)"):
        noisekiln.train(pets, out=tmp_path, **{**words, "batch_size": 8})


def test_changed_settings_and_data(cli: Command, pets: Path, plain: Path, tmp_path: Path):
    assert cli("train", pets, "--out", tmp_path, *QUICK).code == 0
    before = contents(tmp_path)
    result = cli("train", pets, "--out", tmp_path, *QUICK, "--prediction", "eps", "--lr", 0.1)
    refused(result, 2, "holds a run with other settings: --prediction v (now eps), --lr 0.002 (now 0.1). A run cannot")
    refused(cli("train", pets, "--out", tmp_path, *QUICK, "--size", 6), 2, "--size 8x8 (now 6x6)")
    other = cli("train", plain, "--out", tmp_path, *QUICK, "--cond", "none")
    refused(other, 2, "--cond class_label (now none)")
    assert contents(tmp_path) == before


# Every expected error is one message


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.DataError("x", "it is empty", "Fill it"), 3, "x: it is empty. Fill it."),
        (errors.Diverged("the loss is nan", remedy="Use a lower `lr`"), 4, "Use a lower --lr."),
        (errors.SaveFailed.of("a could not be written", OSError(28, "No space left")), 5, "No space left. What was"),
        (errors.LostRank("Lost process 1."), 6, "Lost process 1."),
        (errors.WouldOverwrite(Path("a"), "files"), 2, "Give another --out."),
        (json.JSONDecodeError("bad", "x", 0), 2, "bad: line 1"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), 2, "can't decode"),
        (PermissionError(13, "Permission denied", "a.png"), 2, "a.png: Permission denied. It cannot be read or "),
        (OSError(12, "Cannot allocate memory"), 2, "Memory ran out: [Errno 12] Cannot allocate memory. This network"),
        (MemoryError(), 2, "Memory ran out: none is left."),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "Use a smaller --model, --size or --batch-size, or a"),
    ],
)  # fmt: skip
def test_expected_errors_are_one_message(
    cli: Command, pets: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("noisekiln.api.train", fail)
    refused(cli("train", pets), code, message)


def test_other_errors_stay_tracebacks(cli: Command, pets: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake in the code")

    monkeypatch.setattr("noisekiln.api.train", fail)
    with pytest.raises(RuntimeError, match="a mistake in the code"):
        cli("train", pets)


def test_settings_are_shown_as_options_of_the_running_command(monkeypatch: pytest.MonkeyPatch):
    text = "`batch_size=8`, `start`, `shard=False`, `dry_run`, `data`, `task=upscale(factor=4)`, `strength`, `a b`"
    monkeypatch.setattr(sys, "argv", ["noisekiln", "train", "x"])
    shown = "--batch-size 8, --from, no --shard, --dry-run, DATA, --task 'upscale(factor=4)', `strength`, `a b`"
    assert with_flags(text, app) == shown
    monkeypatch.setattr(sys, "argv", ["noisekiln", "apply", "x"])
    assert with_flags("train one with a `task`, not `nothing`", app) == "train one with a --task, not `nothing`"
    monkeypatch.setattr(sys, "argv", ["noisekiln", "--help"])
    assert with_flags(text, app) == text


# What train does


def test_train_prints_data_plan_and_progress(cli: Command, pets: Path, tmp_path: Path):
    result = cli("train", pets, "--out", tmp_path / "run", *QUICK)
    assert result.code == 0
    assert result.err == ""
    assert "pets: 22 images of 8x8 pixels, RGB, 2 more held out" in result.out
    assert "  2 classes from sub-folders: Cat, dog." in result.out
    assert "plan: unet of 0.03M parameters, 2 classes, batch 8, 32 images on cpu" in result.out
    assert re.search(r"done: 32 images in 0.0 minutes, at \d+% of the fastest matrix product here", result.out)
    again = cli("train", pets, "--out", tmp_path / "run", *QUICK)
    assert again.code == 0
    assert (
        "The budget of this run is used up. Give a larger budget to resume it, or another --out for a new run."
        in again.out
    )
    longer = cli("train", pets, "--out", tmp_path / "run", *QUICK, "--images", 64)
    assert longer.code == 0
    assert "resuming after 32 images, 50% of the budget" in longer.out
    assert "next grid of samples" in longer.out
    assert "first grid" not in longer.out
    assert "done: 64 images" in longer.out


@pytest.mark.usefixtures("measure_briefly")
def test_dry_run_writes_nothing(cli: Command, pets: Path, captioned: Path, tmp_path: Path):
    result = cli("train", pets, "--out", tmp_path / "run", "--backbone", TINY, "--dry-run")
    assert result.code == 0
    assert "2 classes, batch 22, 10 minutes on" in result.out
    assert (
        "captions, batch 22, 1,234,567 images on"
        in cli("train", captioned, "--images", 1234567, "--backbone", TINY, "--dry-run").out
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("measure_briefly")
def test_a_dry_run_beside_a_run_of_other_settings_measures_a_new_one(cli: Command, pets: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = cli("train", pets, "--images", 64, "--batch-size", 8, "--backbone", TINY, "--curves", "none")
    assert trained.code == 0
    measured = cli("train", pets, "--images", 128, "--batch-size", 16, "--backbone", TINY, "--dry-run")
    assert measured.code == 0
    assert "note: runs/pets holds a run with other settings: --batch-size 8 (now 16)" in measured.flat
    assert "What follows is measured of a new one" in measured.flat
    assert [path.name for path in Path("runs").iterdir()] == ["pets"]
    refused(cli("train", pets, "--batch-size", 16, "--out", "runs/pets", "--dry-run"), 2, "with other settings")


def test_the_same_command_resumes_a_run_of_another_default_size(cli: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        save_image(tmp_path / "photos" / f"{number}.png", np.full((96, 128, 3), 20 * number, np.uint8))
    quick = ("--batch-size", 8, "--backbone", TINY, "--curves", "none", "--road", "pixels")
    assert cli("train", "photos", "--images", 16, "--size", 16, *quick).code == 0
    resumed = cli("train", "photos", "--images", 32, *quick)
    assert resumed.code == 0
    assert "resuming after 16 images" in resumed.out
    refused(cli("train", "photos", "--size", 24, *quick), 2, "other settings: --size 16x16 (now 24x24)")


def test_default_folder(cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert cli("train", pets, *QUICK).code == 0
    assert (tmp_path / "runs" / "pets" / "model" / "model.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--optimizer", "adamw", "--loss-weight", "min_snr", "--draw", "uniform", "--noise-label", "time"),
        ("--prediction", "flow", "--draw", "logit_normal", "--schedule", "rectified", "--sampler", "heun"),
        ("--prediction", "eps", "--sampler", "ddim(eta=1)", "--steps", 5, "--cond", "none", "--size", "6x10"),
        ("--backbone", "simple_unet(width=16)"), ("--backbone", "strided_unet(width=16,time_width=32)"),
        ("--model", "xs", "--cooldown", 0, "--cond-dropout", 0),
    ],
)  # fmt: skip
def test_other_choices_train_and_sample(cli: Command, pets: Path, tmp_path: Path, words: tuple[object, ...]):
    network = () if {"--backbone", "--model"} & set(words) else ("--backbone", TINY)
    result = cli("train", pets, "--out", tmp_path, "--images", 32, "--batch-size", 16, *network, *words)
    assert result.code == 0, result
    assert cli("sample", tmp_path, "-n", 2, "--steps", 2).code == 0


@pytest.mark.parametrize(("text", "kept"), [("2", 2.0), ("classifier_free(scale=2,low=0.3)",) * 2])
def test_guidance_of_a_trained_model_is_a_scale_or_a_method(
    cli: Command, pets: Path, tmp_path: Path, text: str, kept: float | str
):
    assert cli("train", pets, "--out", tmp_path, *QUICK, "--guidance", text).code == 0
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["guidance"] == kept
    assert Diffusion.load(tmp_path).sampling.guidance == kept
    assert cli("sample", tmp_path, "-n", 2, "--steps", 2).code == 0


def spoil(monkeypatch: pytest.MonkeyPatch, at: Sequence[int]) -> None:
    """Fill the batches that begin at these numbers of images with NaN."""
    batches = TrainingBatches.__call__

    def spoilt(self: TrainingBatches, start: int, count: int, generator: torch.Generator) -> Batch:
        x, *others = batches(self, start, count, generator)
        assert x is not None
        return (x * float("nan") if start in at else x), *others

    monkeypatch.setattr(TrainingBatches, "__call__", spoilt)


def test_a_nan_ends_with_4(cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch, range(24, 10_000))
    result = cli("train", pets, "--out", tmp_path, *QUICK, "--images", 120)
    refused(result, 4, "After 104 images the loss is nan and the gradient's norm nan, and 10 other recent steps were")
    assert f"{tmp_path} keeps the last checkpoint" in result.err
    monkeypatch.undo()
    assert Diffusion.load(tmp_path).sample(1, steps=1).shape == (1, 8, 8, 3)
    newest = checkpoints.load_newest(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.state["images_seen"] == 24
    assert all(tensor.isfinite().all() for tensor in newest.tensors.values())
    assert cli("train", pets, "--out", tmp_path, *QUICK, "--images", 120).code == 0


def test_one_bad_batch_is_skipped_and_named(cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch, [16])
    result = cli("train", pets, "--out", tmp_path, *QUICK)
    assert result.code == 0
    assert "note: after 16 images a step was skipped (loss nan, gradient norm nan): the largest" in result.out
    assert "1 step was skipped (non-finite loss or gradient; see metrics.jsonl); a lower --lr may help" in result.out
    place = batch_order(22, seed=0, start=16, count=8)[0]
    assert f"in {load(pets).train.files[place]}" in result.out  # type: ignore[index]
    tensors = Diffusion.load(tmp_path).state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_too_high_a_rate_ends_with_4(cli: Command, pets: Path, tmp_path: Path):
    result = cli("train", pets, "--out", tmp_path, *QUICK, "--images", 100_000, "--lr", 1e30)
    refused(result, 4, "holds no checkpoint yet. Use a lower --lr and another --out, and check the data.")


# Signals, in a process of its own


def started(words: list[object], folder: Path) -> Forked:
    """A training process that has saved its first model."""
    process = Forked(folder.with_name("process"), *words)
    until = time.monotonic() + 90
    while not (folder / "model" / "model.safetensors").exists():
        assert process.poll() is None, process.printed()
        assert time.monotonic() < until
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(cli: Command, pets: Path, tmp_path: Path, number: signal.Signals, code: int):
    run = tmp_path / "a run"
    words = ["train", pets, "--out", run, "--images", 20_000, "--batch-size", 16, "--backbone", TINY]
    process = started(words, run)
    process.send_signal(number)
    ended, out, err = process.end()
    assert (ended, err) == (code, ""), (out, err)
    line = re.search(r"stopped after ([\d,]+) images; all is saved in .*\. To resume:\n  (.*)", out)
    assert line is not None
    seen = int(line[1].replace(",", ""))
    assert line[2] == f"noisekiln train {pets} --out '{run}' --images 20000 --batch-size 16 --backbone '{TINY}'"
    newest = checkpoints.load_newest(run / "checkpoints")
    assert newest is not None
    assert newest.state["images_seen"] == seen
    words[words.index(20_000)] = seen + 32
    result = cli(*words)
    assert result.code == 0
    assert f"resuming after {seen:,} images" in result.out
    assert f"done: {-(-(seen + 32) // 16) * 16:,} images" in result.out


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, ("image",), "1 image"), (0, ("image",), "0 images"), (2000, ("image",), "2,000 images"),
        (1.0, ("minute",), "1 minute"), (2.5, ("minute",), "2.5 minutes"), (2, ("class", "classes"), "2 classes"),
        (1, ("step was", "steps were"), "1 step was"),
    ],
)  # fmt: skip
def test_counts_agree_with_their_nouns(count: float, noun: tuple[str, ...], text: str):
    assert errors.counted(count, *noun) == text


def test_the_plan_of_a_minute_on_one_image(cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_image(Path("one/one.png"), np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr("noisekiln.runs.train.measure_run", lambda *_, **__: sys.exit(0))
    out = cli("train", "one", "--minutes", 1, "--images", 1, "--backbone", TINY, "--dry-run").out
    assert "one: 1 image of 8x8 pixels" in out
    assert "batch 1, 1 minute or 1 image on" in out


def test_an_unknown_conditioner_lists_the_values_of_the_option(cli: Command, pets: Path):
    known = "Known values of --cond: auto, none, class, pretrained, text. For other columns of the data write one"
    refused(cli("train", pets, "--cond", "angle"), 2, f"There is no conditioner called 'angle'. {known}")


@pytest.mark.slow
def test_ctrl_c_before_anything_is_saved_says_so(
    cli: Command, pets: Path, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("noisekiln.runs.train.read_images", press)
    monkeypatch.setattr("noisekiln.session.session.load", press)
    for words in (("train", pets, "--out", tmp_path / "run"), ("sample", plain_run, "--out", tmp_path / "run")):
        assert cli(*words) == (130, "stopped before anything was saved\n", "")
    assert not (tmp_path / "run").exists()


def test_a_second_ctrl_c_says_that_what_was_saved_is_intact(capsys: pytest.CaptureFixture[str]):
    for saved in (True, False):
        watcher = Watcher()
        if saved:
            watcher(Saving(16))
        with pytest.raises(typer.Exit if saved else KeyboardInterrupt), watcher:
            raise KeyboardInterrupt
        assert ("what was saved before is intact" in capsys.readouterr().out) == saved


def test_one_bar_at_a_time_shows_what_is_done_with_images():
    watcher = Watcher()
    for event, said in ((Reading(3, 3), "reading images"), (Encoding(1, 3), "encoding images")):
        watcher(event)
        [task] = watcher._reading.tasks
        assert (task.description, task.completed, task.total) == (said, event.done, 3)
    watcher(Encoding(3, 3))


@pytest.mark.slow  # processes
def test_exit_codes_of_the_process(tmp_path: Path):
    for words, code in [
        (["train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")], 3),
        (["list", "samplrs"], 2),
    ]:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("noisekiln: ")
        assert "Traceback" not in done.stderr


def test_installed_command():
    found = shutil.which("noisekiln", path=Path(sys.executable).parent)
    assert found is not None
    assert "demo" in subprocess.run([found, "--help"], capture_output=True, text=True, check=True).stdout


# The demo


@pytest.mark.slow
def test_demo(cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a tenth of the portraits, and two prompts."""
    with np.load(find.BUNDLED / "portraits.npz") as arrays:
        captions = b"\n".join(arrays["captions"].tobytes().split(b"\n")[: len(arrays["images"])][::10])
        (tmp_path / "bundled").mkdir()
        few = {"images": arrays["images"][::10], "captions": np.frombuffer(captions, np.uint8)}
        np.savez(tmp_path / "bundled" / "portraits.npz", **few)
    monkeypatch.setattr(find, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(demo, "PROMPTS", demo.PROMPTS[:2])
    monkeypatch.chdir(tmp_path)  # and not where a folder called portraits might lie
    out = tmp_path / "demo"
    result = cli("demo", "--minutes", 0.01, "--out", out)
    assert result.code == 0, result
    assert "Now generate your own:" in result.out
    rows = re.findall(r"^  row (\d+): (.*)$", result.out, re.MULTILINE)
    samples = json.loads((out / "pictures" / "samples.json").read_text())
    assert [prompt for _, prompt in rows] == list(dict.fromkeys(sample["prompt"] for sample in samples))
    assert (out / "pictures" / "grid.png").exists()
    first = contents(out / "pictures")
    # Again: sampled again, not trained again.
    state = contents(out / "checkpoints") | contents(out / "model")
    again = cli("demo", "--minutes", 0.01, "--out", out)
    assert again.code == 0
    assert "The budget of this run is used up" in again.out
    assert contents(out / "checkpoints") | contents(out / "model") == state
    assert contents(out / "pictures") == first
    # The run is a run like any other.
    command = re.search(r'noisekiln sample (.*) --prompt "(.*)"', result.out)
    assert command is not None
    assert cli("sample", command[1], "--prompt", command[2], "-n", 1, "--steps", 2).code == 0
    seen = max(int(place.name) for place in (out / "checkpoints").iterdir())
    longer = cli("train", "portraits", "--out", out, "--images", seen + 16)
    assert longer.code == 0, longer
    assert f"resuming after {seen:,} images" in longer.out
    refused(cli("demo", "--minutes", 1, "--out", out, "--seed", 7), 2, "--seed 0 (now 7)")
