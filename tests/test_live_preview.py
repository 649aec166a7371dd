"""`preview.png`: what it shows, when it is written, how much time it may take, and that it goes away."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rich.console import Console

from conftest import Command
from noisekiln.cli import _sampling_bar
from noisekiln.cli._sampling_bar import show
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import WouldOverwrite
from noisekiln.files.png_text import png_text
from noisekiln.files.sample_folder import PREVIEW, SampleFolder
from noisekiln.model.sampling import Progress
from noisekiln.session import live_preview
from noisekiln.session.live_preview import MOST_IMAGES, SECONDS, SHARE, LivePreview
from noisekiln.session.session import Session
from noisekiln.session.write_samples import write_batches
from test_tasks import tiny


class Clock:
    """A clock that is set by hand."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def progress_of(step: int, steps: int = 1000, *, seconds: float = 0.0, clock: Clock, count: int = 20) -> Progress:
    """Progress whose decoding takes so many seconds."""

    def decode(x: torch.Tensor) -> torch.Tensor:
        clock.seconds += seconds
        return torch.zeros(len(x), 4, 4, 3, dtype=torch.uint8)

    return Progress(step, steps, torch.zeros(count, 3, 4, 4), decode, 0, count, step == steps)


def written_at(
    tmp_path: Path, *, cost: float, step: float = 0.5, until: float = 100.0, steps: int = 1000
) -> list[float]:
    """Seconds after the start at which a preview was written, with steps of so many seconds."""
    clock, times = Clock(), []
    preview = LivePreview(SampleFolder(tmp_path), clock)
    for number in range(1, steps + 1):
        clock.seconds += step
        before = clock.seconds - 100
        if before > until:
            break
        if preview.update(progress_of(number, steps, seconds=cost, clock=clock)):
            times.append(before)
    return times


def test_a_preview_every_few_seconds(tmp_path: Path):
    assert written_at(tmp_path, cost=0.0, until=20) == [3.0, 6.0, 9.0, 12.0, 15.0, 18.0]


def test_a_costly_preview_is_rare(tmp_path: Path):
    times = written_at(tmp_path, cost=1.0)
    assert len(times) <= 1 + SHARE * 100
    assert min(b - a for a, b in pairwise(times)) >= 1.0 / SHARE


def test_nobody_needs_a_preview_of_what_is_finished_in_a_moment(tmp_path: Path):
    assert written_at(tmp_path, cost=0.0, steps=10) == []  # 5 seconds in all
    assert written_at(tmp_path, cost=0.0, steps=16) == [3.0]
    assert written_at(tmp_path, cost=0.0, step=30, steps=3) == [30.0, 60.0]  # and not at the last step


def test_it_shows_some_images_of_the_batch_as_the_grid_does(tmp_path: Path):
    clock = Clock()
    preview = LivePreview(SampleFolder(tmp_path), clock)
    clock.seconds += SECONDS
    assert preview.update(progress_of(1, clock=clock))
    with Image.open(preview.file) as picture:
        assert picture.size[0] == picture.size[1] >= 512
        assert picture.size[0] % (MOST_IMAGES**0.5 * 5 + 1) == 0  # 4 rows of 4 images of 4 pixels and a gap


@pytest.mark.parametrize("error", [OSError("full"), torch.OutOfMemoryError("none is left")])
def test_sampling_goes_on_where_no_preview_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*words: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(SampleFolder, "write_preview", fail)
    assert written_at(tmp_path, cost=0.0) == []


def test_it_shows_what_the_model_expects_long_before_the_noise_has_gone():
    model = tiny(None)
    first, *_, last = model.generate(2, steps=4, sampler="ddim")
    assert first.denoised is not None
    assert torch.equal(first.preview(), model.codec.decode(first.denoised))
    assert not torch.equal(first.preview(), first.images())
    assert torch.equal(first.preview(1), first.preview()[:1])
    assert torch.equal(last.preview(), last.images())
    noisy = Progress(1, 2, first.x, first.decode, 0, 2, finished=False)  # of an inversion
    assert torch.equal(noisy.preview(), noisy.images())


# The command line


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The folder of an untrained model."""
    tiny(None).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews after every step, and lines on progress from the first one on."""
    monkeypatch.setattr(live_preview, "SECONDS", 0.0)
    monkeypatch.setattr(live_preview, "SHARE", 1e9)
    monkeypatch.setattr(_sampling_bar, "FIRST_LINE", 0.0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the preview is there, after each of its updates."""
    found: list[bool] = []
    update = LivePreview.update

    def watched(preview: LivePreview, progress: Progress) -> bool:
        written = update(preview, progress)
        found.append(preview.file.is_file())
        return written

    monkeypatch.setattr(LivePreview, "update", watched)
    return found


@pytest.mark.usefixtures("at_once")
def test_it_is_there_while_images_are_sampled_and_not_afterwards(
    cli: Command, model_folder: Path, tmp_path: Path, seen: list[bool]
):
    result = cli("sample", model_folder, "-n", 2, "--steps", 3, "--out", tmp_path / "o")
    assert result.code == 0, result
    assert seen == [True, True, True]
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == [
        "00000.png", "00001.png", "grid.png", "samples.json",
    ]  # fmt: skip
    assert "sampling: 1 of 3 steps, preview: " + str(tmp_path / "o" / PREVIEW) in result.err
    assert "sampling:" not in result.out
    assert result.out.startswith("2 images in")


def test_a_short_request_says_nothing_of_it(cli: Command, model_folder: Path, tmp_path: Path, seen: list[bool]):
    result = cli("sample", model_folder, "-n", 2, "--steps", 3, "--out", tmp_path / "o")
    assert (result.code, result.err, seen) == (0, "", [False] * 3)


@pytest.mark.usefixtures("at_once")
def test_on_a_terminal_one_line_says_where_it_is(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    said: list[str] = []
    monkeypatch.setattr(_sampling_bar, "console", Console(force_terminal=True, quiet=True))
    monkeypatch.setattr(_sampling_bar, "say", said.append)
    session = Session.open(model_folder, tmp_path / "o", device="cpu")
    show(session.sample([None] * 2, range(2), steps=3), session)
    assert said[0] == f"preview: {tmp_path / 'o' / PREVIEW}"
    assert len(said) == 2
    assert capsys.readouterr().err == ""


class Stopped(Ranks):
    """Two processes, of which the other one receives SIGTERM in its second step."""

    steps = 0

    def all_gather(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        self.steps += 1
        return torch.cat([rows, torch.tensor([15 if self.steps == 2 else 0])])


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_writes_it_and_an_interruption_removes_it(
    model_folder: Path, tmp_path: Path, seen: list[bool], rank: int
):
    session = Session.open(model_folder, tmp_path / "o", device="cpu")
    progress = session.sample([None] * 2, range(2), steps=5)
    with pytest.raises(typer.Exit):
        show(progress, session, Stopped(rank, 2))
    assert seen == ([True, True] if rank == 0 else [])
    assert not (tmp_path / "o").exists()


def test_a_preview_that_another_program_keeps_open_costs_no_image_and_no_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unlink = Path.unlink

    def refuse(file: Path, missing_ok: bool = False) -> None:
        if file.name == PREVIEW:
            raise PermissionError(13, "The process cannot access the file")
        unlink(file, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(2):  # the second time, the preview of the first is there
        samples = SampleFolder(tmp_path)
        for each in write_batches(tiny(None).generate(2, steps=2), samples, lambda batch: [{"seed": 0}] * 2):
            samples.write_preview(each.images().numpy())
        assert {file.name for file in tmp_path.iterdir()} == {
            "00000.png", "00001.png", "grid.png", "samples.json", PREVIEW,
        }  # fmt: skip
        (tmp_path / "grid.png").unlink()


def test_a_folder_that_a_killed_process_left_can_be_used(tmp_path: Path):
    SampleFolder(tmp_path).write_preview(np.zeros((1, 4, 4, 3), np.uint8))
    samples = SampleFolder(tmp_path)
    samples.add(np.zeros((1, 4, 4, 3), np.uint8), [{"seed": 0}])
    assert not (tmp_path / PREVIEW).exists()
    Image.new("RGB", (3, 3)).save(tmp_path / PREVIEW)  # of another program
    with pytest.raises(WouldOverwrite, match=PREVIEW):
        SampleFolder(tmp_path)
    Image.new("RGB", (3, 3)).save(tmp_path / PREVIEW, pnginfo=png_text({"preview": True}))
    SampleFolder(tmp_path)
