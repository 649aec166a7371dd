"""Images sampled at once: as many as memory holds, for the same images; the choice costs next to nothing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from noisekiln.distributed.ranks import Ranks
from noisekiln.files.sample_folder import SampleFolder
from noisekiln.machine.memory import free_bytes, peak_bytes_of
from noisekiln.model import sampling_batch
from noisekiln.model.cascade import Cascade
from noisekiln.model.model import Model
from noisekiln.model.sampling_batch import SHARE, largest_sampling_batch
from noisekiln.session.session import Session
from noisekiln.session.write_samples import generate_on_ranks
from noisekiln.tasks.upscale import Upscale
from noisekiln.uses.interpolation import interpolate
from test_tasks import tiny

CPU = torch.device("cpu")
Free = Callable[[float], None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Function that sets the bytes which a batch may take."""
    return lambda room: monkeypatch.setattr(sampling_batch, "free_bytes", lambda device: room / SHARE)


def batches(model: Model, count: int, **options: Any) -> list[int]:
    """The size of each batch of a request."""
    return [len(each.x) for each in model.generate(count, steps=1, **options)]


@pytest.mark.parametrize(
    ("count", "room", "batch", "tried"),
    [
        (100, 1e12, 50, []),  # two equal batches, and not 64 and 36
        (64, 1e12, 64, []),
        (1, 0, 1, []),
        (50, 1000 + 50 * 400, 50, [1, 2]),
        (50, 1000 + 49 * 400, 25, [1, 2]),
        (50, 1000 + 10 * 400, 10, [1, 2]),
        (2, 2 * 1400, 2, [1]),  # two times one fit, whatever they share
        (50, 2 * 1400 - 1, 1, [1]),  # two may not fit, so they are not tried
        (50, 0, 1, [1]),
        (0, 0, 1, []),
    ],
)
def test_as_many_images_as_memory_holds_in_equal_batches(
    free: Free, count: int, room: float, batch: int, tried: list[int]
):
    """1,000 bytes for any number of images, and 400 for each."""
    seen = []

    def trial(number: int) -> None:
        seen.append(number)
        kept = torch.zeros(250), torch.zeros(50 * number)
        for _ in range(10):  # these are freed, one by one
            torch.zeros(50 * number)
        assert kept

    free(room)
    assert largest_sampling_batch(trial, count, 10**12 if room < 1e12 else 1, CPU) == batch
    assert seen == tried


def test_the_most_bytes_at_one_moment_are_counted_and_no_weights():
    weights = torch.zeros(1000, 1000)
    x = torch.zeros(10, 1000)

    def chain() -> torch.Tensor:
        y = x
        for _ in range(5):
            y = (y @ weights.t()).view(1000, 10).reshape(10, 1000)
        return y.add_(1)

    assert peak_bytes_of(chain) == 2 * x.nbytes
    assert peak_bytes_of(lambda: [x + 1, x + 1, x[:3]]) == 2 * x.nbytes


def test_where_free_memory_is_unknown_nothing_is_measured():
    assert free_bytes(torch.device("meta")) is None
    assert largest_sampling_batch(pytest.fail, 100, 10**12, torch.device("meta")) == 50


def test_small_images_are_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling_batch, "free_bytes", lambda device: 4 << 30)
    monkeypatch.setattr(sampling_batch, "peak_bytes_of", pytest.fail)
    assert batches(tiny(None, size=(16, 16)), 65) == [33, 32]


@pytest.mark.parametrize("options", [{}, {"guidance": 3.0}, {"size": (20, 20)}, {"sampler": "heun"}])
def test_memory_decides_on_batches_and_never_on_images(free: Free, options: dict[str, Any]):
    model = tiny(None, classes=("cat", "dog"))
    conditions = ["cat", "dog", None, "cat", "dog"]
    whole = model.sample(conditions, seed=4, batch_size=5, steps=3, **options)
    one = peak_bytes_of(lambda: model.trial_step(["cat"], seeds=[0], steps=3, **options))
    free(2.5 * one)
    parts = list(model.generate(conditions, seed=4, steps=3, **options))
    assert [len(each.x) for each in parts if each.finished] == [2, 2, 1]
    assert {each.steps for each in parts} == {9}
    images = torch.cat([each.images() for each in parts if each.finished])
    assert int((images.int() - whole.int()).abs().max()) <= 1
    assert batches(model, 5, batch_size=5) == [5]  # a given one is kept


def test_guidance_takes_the_memory_of_two_evaluations():
    model = tiny(None, size=(16, 16), classes=("cat", "dog"))
    plain, guided = (
        peak_bytes_of(lambda scale=scale: model.trial_step(["cat"], guidance=scale)) for scale in (1.0, 3.0)
    )
    assert guided > 1.5 * plain


def test_decoding_counts(free: Free):
    model = tiny(None)
    decode = model.codec.decode
    model.codec.decode = lambda x, size: (torch.zeros(len(x), 1 << 20), decode(x, size))[1]
    free(3.5 * (4 << 20))
    assert batches(model, 6) == [3, 3]


def test_the_stage_of_a_cascade_that_takes_most_decides(free: Free):
    model = Cascade([tiny(None), tiny(Upscale(2), size=(16, 16)), tiny(Upscale(2), size=(32, 32))]).eval()
    whole = model.sample(4, seed=2, batch_size=4)
    last = peak_bytes_of(lambda: model.trial_step([None], seeds=[0]))
    assert last > 3 * peak_bytes_of(lambda: next(iter(model.stages[0].generate(1))))
    free(2.5 * last)
    progress = list(model.generate(4, seed=2))
    assert [each.step for each in progress] == list(range(1, 2 * 9 + 1))
    images = [each.images() for each in progress if each.finished]
    assert [len(part) for part in images] == [2, 2]
    assert int((torch.cat(images).int() - whole.int()).abs().max()) <= 2


class Smaller(Ranks):
    """Two processes, of which the other one has memory for a single image, and samples the same images."""

    def all_gather(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        return torch.cat([rows, torch.ones_like(rows) if rows.ndim == 1 else rows])

    def all_reduce_sum(self, values: Any) -> list[float]:
        return [2.0 * value for value in values]


def test_processes_sample_as_many_images_as_each_of_them_holds():
    model = tiny(None)
    progress = generate_on_ranks(model, [None] * 4, range(4), Smaller(0, 2), batch_size=None, steps=2)
    assert [len(each.x) for each in progress if each.finished] == [2, 2]


def test_a_process_without_memory_for_the_trial_keeps_no_other_waiting(free: Free, monkeypatch: pytest.MonkeyPatch):
    model = tiny(None)
    errors: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("another one")]

    def fail(*arguments: Any, **options: Any) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(model, "trial_step", fail)
    free(0)
    progress = generate_on_ranks(model, [None] * 4, range(4), Smaller(0, 2), batch_size=None, steps=2)
    assert [len(each.x) for each in progress if each.finished] == [2, 2]
    with pytest.raises(RuntimeError, match="another one"):
        next(generate_on_ranks(model, [None] * 4, range(4), Smaller(0, 2), batch_size=None, steps=2))


@pytest.fixture
def trials(free: Free, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each trial of a step, of which every one is said to fill the memory."""
    free(0)
    done: list[int] = []
    monkeypatch.setattr(sampling_batch, "peak_bytes_of", lambda trial: done.append(1) or 1)
    return done


@pytest.mark.parametrize("kind", ["model", "cascade", "processes"])
def test_memory_is_tried_by_the_first_step_and_not_by_the_call(trials: list[int], kind: str):
    model = tiny(None)
    cascade = Cascade([tiny(None), tiny(Upscale(2), size=(16, 16))]).eval()
    requests: dict[str, Callable[..., Any]] = {
        "model": partial(model.generate, 4),
        "cascade": partial(cascade.generate, 4),
        "processes": partial(generate_on_ranks, model, [None] * 4, range(4), Smaller(0, 2), batch_size=None),
    }
    progress = requests[kind](steps=2)
    assert not trials
    assert len(next(progress).x) == 1
    assert trials
    trials.clear()
    for wrong in ({"steps": 0}, {"sampler": "nothing"}, {"guidance": "nothing"}, {"precision": "nothing"}):
        with pytest.raises(ValueError, match=r"nothing|steps"):
            requests[kind](**wrong)
    assert not trials


def test_a_folder_that_cannot_be_written_is_an_error_before_memory_is_tried(
    trials: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(folder: SampleFolder) -> None:
        raise ValueError(f"{folder.path} cannot be written")

    monkeypatch.setattr(SampleFolder, "create", refuse)
    progress = Session(tiny(None), tmp_path / "o").sample([None] * 4, range(4))
    with pytest.raises(ValueError, match="cannot be written"):
        next(progress)
    assert not trials


def test_options_of_an_interpolation_are_checked_without_a_trial(trials: list[int]):
    model = tiny(None)
    progress = interpolate(model, [1, 2], frames=2, steps=2)
    with pytest.raises(ValueError, match="nothing"):
        interpolate(model, [1, 2], frames=2, sampler="nothing")
    assert not trials
    assert [len(each.x) for each in progress if each.finished] == [1, 1, 1]
    assert len(trials) == 1


def test_memory_that_a_gpu_has_cached_is_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free_bytes(torch.device("cuda")) == 1400
