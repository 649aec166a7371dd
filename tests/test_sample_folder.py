"""A folder of samples survives kills and file managers, and the files of other people survive it."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisekiln.errors import WouldOverwrite
from noisekiln.files import atomic
from noisekiln.files.png_text import png_text, read_png_text
from noisekiln.files.sample_folder import DAMAGED, INDEX, SampleFolder
from noisekiln.files.system_files import is_system_file
from noisekiln.runs.run_folder import RunFolder


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


def write(folder: Path, count: int, *, batch: int = 2, value: int = 0) -> SampleFolder:
    samples = SampleFolder(folder)
    for start in range(0, count, batch):
        images = np.full((min(batch, count - start), 4, 5, 3), value, np.uint8)
        samples.write_preview(images)
        samples.add(images, [{"seed": start + i, "command": "sample"} for i in range(len(images))])
    samples.remove_preview()
    samples.write_grid()
    return samples


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[None]:
    """Kill the process at the n-th call that changes a file or a folder."""
    done = [0]

    def counting(change: Any) -> Any:
        def run(*words: Any, **options: Any) -> Any:
            done[0] += 1
            if done[0] >= call:
                raise Killed  # what would tidy up does nothing any more, either
            return change(*words, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", lambda handle: None)
        for owner, name in [
            (Path, "unlink"), (Path, "mkdir"), (Path, "write_text"), (Image.Image, "save"), (atomic.os, "replace"),
        ]:  # fmt: skip
            patch.setattr(owner, name, counting(getattr(owner, name)))
        rmtree = shutil.rmtree
        patch.setattr(shutil, "rmtree", lambda *words, **options: done[0] < call and rmtree(*words, **options))
        try:
            yield
        except Killed:
            return
        raise AssertionError("not killed")


CALLS = 80  # more than a folder of samples needs


@pytest.mark.parametrize("damaged", [False, True])
def test_a_kill_at_any_moment_leaves_a_folder_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
):
    for call in range(1, CALLS):
        folder = tmp_path / str(call)
        write(folder, 2, value=1)
        (folder / "strip.png").write_bytes(b"")
        if damaged:
            (folder / INDEX).write_text("[{")
        try:
            with killed_at(monkeypatch, call):
                write(folder, 2, batch=1, value=2)
        except AssertionError:
            break
        write(folder, 1, value=3)
        assert names(folder) - {DAMAGED} == {"00000.png", "grid.png", INDEX}, call
    else:
        raise AssertionError("more calls than expected")
    assert call > 15


def test_a_full_disk_leaves_a_folder_that_can_be_used_and_says_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    samples = SampleFolder(tmp_path / "new")
    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        samples.add(np.zeros((2, 4, 5, 3), np.uint8), [{"seed": 0}, {"seed": 1}])
    monkeypatch.undo()
    assert Path(caught.value.filename).name == INDEX
    samples.write_grid()  # as at the end of every request
    samples.remove_if_empty()
    assert not (tmp_path / "new").exists()
    write(tmp_path / "new", 1)


def test_images_are_not_synced_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Syncing 10,000 of them would take longer than sampling them."""
    synced: list[int] = []
    monkeypatch.setattr(atomic.os, "fsync", synced.append)
    write(tmp_path, 20, batch=20)
    assert len(synced) == 2  # the index, and its name
    assert len((tmp_path / INDEX).read_text(encoding="utf-8").splitlines()) == 20 + 2


def test_a_damaged_index_is_set_aside_and_said(tmp_path: Path):
    write(tmp_path, 3)
    (tmp_path / INDEX).write_bytes(b"")
    samples = write(tmp_path, 1)
    assert samples.notes == [
        f"the 3 earlier images in {tmp_path} will be replaced (give another `out` to keep them).",
        f"{tmp_path / INDEX} is damaged; it is kept as {DAMAGED}.",
    ]
    assert names(tmp_path) == {"00000.png", "grid.png", INDEX, DAMAGED}
    assert (tmp_path / DAMAGED).read_bytes() == b""
    assert write(tmp_path, 1).notes == [
        f"the 1 earlier image in {tmp_path} will be replaced (give another `out` to keep it)."
    ]


@pytest.mark.parametrize("text", ["", "[{", "{}", '{"a": 1}', "[3]", "[[", "[" * 100_000, '[{"file": 3}, 4]', "\x00"])
def test_images_of_other_people_are_not_touched_whatever_the_index_says(tmp_path: Path, text: str):
    Image.new("RGB", (3, 3)).save(tmp_path / "00000.png")  # without a word of noisekiln in it
    (tmp_path / INDEX).write_text(text)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(WouldOverwrite, match=r"files that are not samples \(00000.png\)"):
        SampleFolder(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_with_the_name_of_a_sample_is_none(tmp_path: Path):
    write(tmp_path, 1)
    (tmp_path / "00000.png").unlink()
    (tmp_path / "00000.png").mkdir()
    with pytest.raises(WouldOverwrite):
        SampleFolder(tmp_path)


LEFT = [
    *(".DS_Store", "Thumbs.db", "desktop.ini", "._00000.png", ".directory", "Icon\r", "@eaDir", ".localized"),
    *("System Volume Information", "$RECYCLE.BIN", "lost+found", "@tmp"),
]


@pytest.mark.parametrize("name", LEFT)
def test_files_of_file_managers_belong_to_nobody(tmp_path: Path, name: str):
    write(tmp_path, 2)
    (tmp_path / name).write_text("x")
    write(tmp_path, 1)
    assert names(tmp_path) == {"00000.png", "grid.png", INDEX, name}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_text("x")
    assert write(tmp_path / "new", 1).notes == []


def test_other_hidden_files_are_somebodys():
    assert not any(map(is_system_file, [".git", ".env", "DS_Store", "a.DS_Store", "_00000.png", "thumbs.db.png"]))


def test_a_file_manager_does_not_keep_a_run_from_a_folder(tmp_path: Path):
    folder = RunFolder(tmp_path)
    (tmp_path / ".DS_Store").write_text("x")
    folder.check_is_run_or_empty()
    (tmp_path / ".git").write_text("x")
    with pytest.raises(ValueError, match="holds files, but no run"):
        folder.check_is_run_or_empty()


def test_text_of_a_png_is_what_was_written(tmp_path: Path):
    entries = {"prompt": "красная 红色", "seed": 2**62, "condition": 3, "guidance": 1.5, "batch": [0, 2]}
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png", pnginfo=png_text(entries))
    read = read_png_text(tmp_path / "a.png")
    assert read is not None
    assert read.pop("version")
    assert read == entries
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["prompt"] == "красная 红色"
        assert image.text["Software"].startswith("noisekiln ")
        assert image.text["seed"] == str(2**62)


@pytest.mark.parametrize("text", ["", "[", "3", "[]", "null", "[" * 100_000, '{"seed": NaN}'])
def test_text_of_a_png_that_is_no_record_is_none(tmp_path: Path, text: str):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("noisekiln", text)
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png", pnginfo=info)
    assert read_png_text(tmp_path / "a.png") is None
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    assert read_png_text(tmp_path / "b.png") is None
    assert read_png_text(tmp_path / "no.png") is None


def test_entries_of_the_index_are_the_text_of_the_files(tmp_path: Path):
    write(tmp_path, 2)
    listed = json.loads((tmp_path / INDEX).read_text())
    for entry in listed:
        text = read_png_text(tmp_path / entry.pop("file"))
        assert text is not None
        assert {name: text[name] for name in entry} == entry
    assert read_png_text(tmp_path / "grid.png") == {"command": "sample", "images": 2, "version": text["version"]}
