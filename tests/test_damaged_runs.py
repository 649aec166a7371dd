"""Runs whose files are damaged, half written or not writable: they go on, or the message says the way out."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

import noisekiln as nk
from conftest import TINY, Command
from noisekiln.data import DataSet, load
from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import atomic_folder, is_draft
from noisekiln.files.sample_folder import SampleFolder
from noisekiln.logs.json_lines import JsonLines, damage_of_log
from noisekiln.machine.lock import Lock, locked_in_place
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import size_to_load
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.environment import append_environment, damage_of_environment
from noisekiln.runs.grids import delete_grids_after
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder

SETTINGS = Settings(images=64, batch_size=16, backbone=TINY, curves="none", ema_snapshots=2)
WORDS = ("--images", 64, "--batch-size", 16, "--backbone", TINY, "--curves", "none")
LINES = [json.dumps({"images_seen": seen, "loss": 0.5}).encode() + b"\n" for seen in (16, 32, 48)]


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))


@pytest.fixture
def run(data: DataSet, tmp_path: Path) -> Path:
    list(Run(SETTINGS, data, tmp_path / "run").steps())
    return tmp_path / "run"


class Killed(BaseException):
    """A process that ends here; nothing cleans up."""


# The log and other records


def test_names_of_classes_with_half_a_character_are_kept(tmp_path: Path):
    """Text of Python may hold what no file in UTF-8 can."""
    names = ["caf\udce9", "tea"]
    data = load(np.zeros((12, 8, 8), np.uint8), labels=names * 6)
    folder = RunFolder(tmp_path / "run")
    folder.write_metadata(SETTINGS, data)
    assert folder.read_data_description() == (data.fingerprint, tuple(names))


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\n", b"[" * 10**5 + b"\n", b"{}\n", b"7\n", b'{"images_seen": "x"}\n', b"\n", b"a\rb\x00c\n"]
)
def test_a_damaged_line_of_the_log_is_left_out_and_the_others_stay(tmp_path: Path, damage: bytes):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(LINES[0] + damage + LINES[1] + LINES[2] + b'{"images_seen": 4')  # the rest of a killed process
    named = "metrics.jsonl: line 2 is damaged and left out; the others stay" if damage else ""
    assert damage_of_log(tmp_path) == named
    log = JsonLines()
    log.open(tmp_path, 32, {})
    log.close()
    assert file.read_bytes() == LINES[0] + LINES[1]
    assert damage_of_log(tmp_path) == ""


def test_any_damaged_byte_of_the_log_lets_the_others_lines_stay(tmp_path: Path):
    file, whole = tmp_path / "metrics.jsonl", b"".join(LINES)
    for at in range(len(LINES[0]), len(LINES[0] + LINES[1])):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        assert damage_of_log(tmp_path).startswith("metrics.jsonl: line 2 is"), at
        log = JsonLines()
        log.open(tmp_path, 100, {})
        log.close()
        assert file.read_bytes().startswith(LINES[0])


def test_damage_is_said_in_one_line_by_the_command_and_in_python(cli: Command, pets: Path, tmp_path: Path):
    run, words = tmp_path / "run", {"batch_size": 16, "backbone": TINY, "curves": "none", "images": 64}
    nk.train(pets, out=run, **words)
    for name, damage in (("metrics.jsonl", b"\xff"), ("environment.json", b"\xff")):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:5] + damage + content[6:])
    environment = "environment.json is damaged ("
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: line 1 is damaged"):  # noqa: SIM117 (a second warning)
        with pytest.warns(UserWarning, match=environment.replace("(", r"\(")):
            nk.train(pets, out=run, **words)
    result = cli("train", pets, "--out", run, *WORDS)
    assert (result.code, result.out.count("note: metrics.jsonl: line 1 is damaged and left out")) == (0, 1)
    assert result.out.count(f"note: {environment}") == 1


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff", b"["])
def test_an_environment_that_cannot_be_read_is_replaced(tmp_path: Path, damage: bytes | None):
    if damage is not None:
        (tmp_path / "environment.json").write_bytes(damage)
    assert bool(damage_of_environment(tmp_path)) == (damage is not None)
    for _ in range(2):
        append_environment(tmp_path, 0, "cpu")
    assert len(json.loads((tmp_path / "environment.json").read_text())) == 2


# Killed between two writes


def test_killed_while_the_model_to_start_from_is_copied(run: Path, tmp_path: Path):
    """Its folder is there, its description is not: the run starts from the original again."""
    (tmp_path / "new" / "start").mkdir(parents=True)
    assert size_to_load(None, run, tmp_path / "new") == (8, 8)


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path: Path):
    place = tmp_path / "model"
    for text in ("one", "two"):
        with pytest.raises(Killed), atomic_folder(place) as draft:
            raise Killed
        with atomic_folder(place) as draft:
            (draft / "whole").write_text(text)
        assert [(file.name, file.read_text()) for file in place.iterdir()] == [("whole", text)]
        assert [*tmp_path.iterdir()] == [place]


@pytest.mark.parametrize("name", ["save_file", "write_json"])
def test_killed_while_another_average_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """The same command goes on, from whatever was left."""
    out = tmp_path / "out"
    averages = PostHocEma(run)

    def killed(*_: object, **__: object) -> None:
        os.rename(next(out.glob(".model.partial")), tmp_path / "left")  # what removes drafts does not run either
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(f"noisekiln.files.model_folder.{name}", killed)
        with pytest.raises(Killed):
            averages.write(0.1, out)
    os.rename(tmp_path / "left", out / ".model.partial")
    assert all(map(is_draft, out.iterdir()))
    for length in (0.1, 0.05):
        assert averages.write(length, out) == out / "model"
    assert [file.name for file in out.iterdir()] == ["model"]
    assert Diffusion.load(out).sample(1, steps=1).shape == (1, 8, 8, 3)


def test_an_average_is_not_written_into_a_run_that_is_being_trained(run: Path, tmp_path: Path):
    averages = PostHocEma(run)
    before = (run / "model" / "model.safetensors").read_bytes()
    with Lock(run), pytest.raises(ValueError, match=r"run is in use by process \d+ .* Wait for the other or stop it"):
        averages.write(0.05)
    assert (run / "model" / "model.safetensors").read_bytes() == before
    averages.write(0.05, tmp_path / "out")


def test_grids_after_the_checkpoint_and_a_half_written_one_are_removed(tmp_path: Path):
    for name in ("000000016.png", "000000048.png", "mine.png"):
        (tmp_path / name).touch()
    (tmp_path / ".000000032.png.partial").mkdir()
    delete_grids_after(tmp_path, 32)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["000000016.png", "mine.png"]


# Places where nothing can be written


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_run_that_cannot_be_written_names_another_folder(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(SaveFailed, match=rf"{os.strerror(number)}\. What was saved before .* Give a folder as `out`"):
        list(Run(SETTINGS, data, tmp_path / "run").steps())
    with pytest.raises(SaveFailed, match="Give a folder as `out`"), RunFolder(tmp_path).writing():
        refused()


def test_samples_that_cannot_be_written_name_another_folder(
    cli: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: not mode & os.W_OK and access(place, mode))  # as for a guest
    result = cli("sample", run, "-n", 1, "--steps", 1)
    assert result.code == 2
    refusal = (
        f"{run / 'pictures'}, the folder for the images, cannot be written: Permission denied. Give another --out."
    )
    assert refusal in result.flat
    monkeypatch.undo()
    assert cli("sample", run, "-n", 1, "--steps", 1, "--out", tmp_path / "images").code == 0


def test_two_commands_do_not_write_images_into_one_folder(cli: Command, run: Path, tmp_path: Path):
    out = tmp_path / "images"
    words = ("sample", run, "-n", 2, "--steps", 1, "--out", out)
    assert cli(*words).code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with locked_in_place(out):
        result = cli(*words, "--seed", 7)
    assert result.code == 2
    assert f"{out} is in use by another process, which writes its images there. Wait for it, or give" in result.flat
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert cli(*words).code == 0


def test_images_that_another_command_wrote_meanwhile_are_replaced_too(tmp_path: Path):
    late, images = SampleFolder(tmp_path / "images"), np.zeros((3, 8, 8, 3), dtype=np.uint8)
    first = SampleFolder(tmp_path / "images")
    first.add(images, [{}] * 3)
    late.look()
    late.add(images[:1], [{}])
    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == ["00000.png", "samples.json"]
