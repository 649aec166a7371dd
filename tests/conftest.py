"""Small images, small runs, and the command line called in-process."""

import gc
import io
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

TINY = "unet(widths=(32,),blocks=(1,),patch=1,condition=32)"
TRAINING = ("--images", "1600", "--batch-size", "16", "--lr", "0.01", "--backbone", TINY, "--curves", "none")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from the tests and from the processes they start, unless `-m gpu` asks for the tests that need one.

    Everything else is about a CPU, whose results are equal to the bit everywhere; `device=auto` would use the GPU.
    """
    if not re.search(r"(?<!not )\bgpu\b", config.option.markexpr):
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}  # before CUDA is initialized
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")  # no AMX: equality to the bit is tested in fp32


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first, so that at the end no process works on one of them alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


class CommandResult(NamedTuple):
    """Exit code and output of a command; `flat` is all output without line breaks and boxes."""

    code: int
    out: str
    err: str

    @property
    def flat(self) -> str:
        return " ".join((self.out + self.err).replace("│", " ").split())


Command = Callable[..., CommandResult]


def noisekiln(*words: object) -> CommandResult:
    """Run a command as the shell would, but in this process; an unexpected error is raised unchanged."""
    from noisekiln.cli import run  # here, as most tests need no command

    out, err = io.StringIO(), io.StringIO()
    code = 0
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    argv = ["noisekiln", *map(str, words)]
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            run()
        except SystemExit as done:
            assert done.code is None or isinstance(done.code, int)
            code = done.code or 0
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    return CommandResult(code, out.getvalue(), err.getvalue())


def save_image(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def make_images(folder: Path, *, classes: tuple[str, ...] = (), captions: bool = False, seed: int = 0) -> Path:
    """24 images of 8x8 pixels, in sub-folders for classes, or with a metadata.csv."""
    generator = np.random.default_rng(seed)
    rows = ["file_name,text"]
    for i in range(24):
        kind = i % 2
        pixels = generator.integers(0, 100, (8, 8, 3)).astype(np.uint8)
        pixels[..., 2 * kind] += 120
        name = f"{classes[kind]}/{i}.png" if classes else f"{i}.png"
        save_image(folder / name, pixels)
        rows.append(f"{name},a {('red', 'blue')[kind]} picture")
    if captions:
        (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def python_receives_ctrl_c() -> Iterator[None]:
    """A shell's background job inherits an ignored SIGINT; the tests are about a person at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no pictures beside their grids, which takes half a second, unless a test has `draws_pictures`."""
    if "draws_pictures" not in request.fixturenames:
        for moment in ("start", "finish"):
            monkeypatch.setattr(f"noisekiln.runs.run_pictures.RunPictures.{moment}", lambda self: [])


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """Garbage is looked for among the objects of a file's tests, and not among those of all imported modules."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def networks_counted_once() -> Iterator[None]:
    """The size of a network for some minutes depends on the operations of several, which takes seconds for each run."""
    from noisekiln.plan import network_size

    count = network_size._training_flops
    counted = cache(count)

    def once(backbone: str, *others: Any) -> float | None:
        return (count if ".py" in backbone else counted)(backbone, *others)  # what is in a file may change

    with patch.object(network_size, "_training_flops", once):
        yield


def _short_previews() -> Any:
    from noisekiln.monitor.preview import PREVIEW

    return patch.dict(PREVIEW, steps=2)


@pytest.fixture(scope="module")
def short_previews() -> Iterator[None]:
    """Grids of runs are sampled in two steps instead of twelve, which is most of the time of a run of a few steps."""
    with _short_previews():
        yield


@pytest.fixture
def draws_pictures() -> None:
    """Runs of this test draw their pictures, as they do for users."""


@pytest.fixture
def measure_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time three steps, and not two seconds of them."""
    from noisekiln.monitor.measure import measure, measure_codec

    monkeypatch.setattr("noisekiln.runs.train.measure_run", partial(measure, seconds=0.0))
    monkeypatch.setattr("noisekiln.runs.train.measure_codec", partial(measure_codec, seconds=0.0))


@pytest.fixture(scope="session")
def cli() -> Command:
    return noisekiln


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes."""
    return make_images(tmp_path_factory.mktemp("data") / "pets", classes=("Cat", "dog"))


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "captioned", captions=True)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "plain")


def _run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / data.name
    with _short_previews():
        result = noisekiln("train", data, "--out", out, *TRAINING)
    assert result.code == 0, result
    return out


@pytest.fixture(scope="session")
def class_run(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, to be read only."""
    return _run(pets, tmp_path_factory)


@pytest.fixture(scope="session")
def text_run(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(captioned, tmp_path_factory)


@pytest.fixture(scope="session")
def plain_run(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(plain, tmp_path_factory)


def content_of(file: Path) -> bytes:
    """The bytes of a file; of an image only its pixels, as the text beside them has the name of the run's folder."""
    if file.suffix != ".png":
        return file.read_bytes()
    with Image.open(file) as image:
        return image.tobytes()
