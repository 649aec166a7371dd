"""The size of a network and of its batches follows from what a budget holds."""

from math import inf

import numpy as np
import pytest
import torch

from noisekiln.backbones.unet import Unet
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.data import DataSet, Split
from noisekiln.machine.flops import count_flops
from noisekiln.machine.speed import EXPECTED_SHARE
from noisekiln.plan import network_size
from noisekiln.plan.defaults import resolve
from noisekiln.plan.network_size import (
    ENOUGH_IMAGES,
    ENOUGH_STEPS,
    SMALL_SHARE,
    fitting_batch,
    fitting_size,
    images_in_minutes,
)
from noisekiln.plan.settings import Settings

PEAK = 1e11  # FLOP/s
PIXELS = Pixels().fit(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
CPU = Settings(device="cpu", precision="fp32", codec="pixels")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_size, "peak_flops_per_second", lambda device, dtype: PEAK)


def data_of(side: int, count: int = 200) -> DataSet:
    pixels = np.zeros((count, side, side, 3), np.uint8)
    return DataSet("grey", Split(pixels), None, (), (), (), "")


def test_a_budget_holds_as_many_images_as_the_machine_can_compute():
    spec, settings = "unet(widths=(32,), blocks=(1,), patch=1)", CPU.replace(size=(24, 24), minutes=2.0)
    network = build(Unet, spec, channels=3, vector=0, tokens=0, image=0)
    rows = torch.zeros(1, 3, 24, 24), torch.zeros(1)
    flops = count_flops(lambda: network(*rows, NOTHING).mean())
    assert images_in_minutes(settings, spec, PIXELS) == pytest.approx(120 * EXPECTED_SHARE * PEAK / flops)
    twice = images_in_minutes(settings.replace(minutes=4.0), spec, PIXELS)
    assert twice == 2 * images_in_minutes(settings, spec, PIXELS)
    small = images_in_minutes(settings.replace(size=(16, 16)), spec, PIXELS)
    assert small == pytest.approx(twice / 2 * (24 / 16) ** 2 * SMALL_SHARE / EXPECTED_SHARE, rel=0.01)


@pytest.mark.parametrize("changes", [{"minutes": None, "images": 10}, {"device": "cuda", "minutes": 1.0}])
def test_nothing_is_measured_where_it_decides_nothing(changes, monkeypatch):
    monkeypatch.setattr(network_size, "peak_flops_per_second", None)
    assert images_in_minutes(CPU.replace(size=(8, 8), **changes), "unet", PIXELS) == inf


def test_the_largest_network_is_taken_that_sees_enough_images():
    held = dict(zip(Unet.sizes, (8.0, 4.0, 2.0, 1.0, 0.5), strict=True))  # per budget, in ENOUGH_IMAGES
    for factor, size in ((0.01, "xs"), (0.13, "xs"), (0.26, "s"), (0.9, "m"), (1.0, "l"), (2.0, "xl"), (99, "xl")):
        settings = CPU.replace(minutes=1.0)
        assert fitting_size(Unet, settings, lambda name: factor * ENOUGH_IMAGES * held[name]) == size  # noqa: B023
    assert fitting_size(Unet, CPU.replace(minutes=None, images=5), lambda name: inf) == "s"
    assert fitting_size(Unet, CPU.replace(minutes=9.0), lambda name: inf) == "s", "not known"
    assert fitting_size(Unet, CPU.replace(device="cuda", minutes=1.0), lambda name: 0.0) == "l"


def test_batches_are_small_where_the_budget_holds_few_steps():
    batches = [fitting_batch(CPU, images / 64 * ENOUGH_STEPS * 64) for images in (1, 16, 31, 32, 63, 64, inf)]
    assert batches == [16, 16, 16, 32, 32, 64, 64]
    assert fitting_batch(CPU.replace(device="cuda"), 1.0) == 256


def test_a_run_takes_what_fits_unless_asked_otherwise():
    short = resolve(CPU.replace(minutes=2.0), data_of(64))
    longer = resolve(CPU.replace(minutes=600.0), data_of(64))
    assert (short.model, short.batch_size) == ("xs", 16)
    assert longer.model == "l"
    assert longer.batch_size == 64
    assert resolve(CPU.replace(minutes=10.0), data_of(16)).model != "xs", "small images cost less"
    tiny = resolve(CPU.replace(images=12), data_of(16))
    assert tiny.batch_size == 12, "no more than the budget"
    asked = resolve(CPU.replace(minutes=2.0, model="m", batch_size=8), data_of(64))
    assert (asked.model, asked.batch_size) == ("m", 8)
    assert resolve(CPU.replace(minutes=2.0, backbone="simple_unet"), data_of(64)).model == "m", (
        "it has a size of its own"
    )


def test_all_processes_choose_by_their_speed_together(monkeypatch):
    class Two:
        world_size = 2

        def all_reduce_sum(self, values: list[float]) -> list[float]:
            return [2 * value for value in values]

    alone = images_in_minutes(CPU.replace(size=(8, 8), minutes=1.0), "unet", PIXELS)
    monkeypatch.setattr(network_size.Ranks, "join", lambda *_: Two())
    assert images_in_minutes(CPU.replace(size=(8, 8), minutes=1.0), "unet", PIXELS) == 2 * alone


def test_a_network_that_needs_values_is_not_measured(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from noisekiln.backbones.unet import Unet\n\n\n"
        "class Looking(Unet):\n"
        "    def forward(self, x, noise, cond):\n"
        "        return super().forward(x * float(x.mean()), noise, cond)\n"
    )
    assert images_in_minutes(CPU.replace(size=(8, 8), minutes=1.0), f"{file}:Looking", PIXELS) == inf
