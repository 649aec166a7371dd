"""Averages of the weights during training."""

import copy
from math import sqrt

import pytest
import torch
from torch import nn

from noisekiln.ema.power import UPDATES, Ema, gamma_from_length

# --- the average


def module_of(value):
    module = nn.Linear(1, 1).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_ema_exponents_are_edm2s():
    """Karras et al. 2024, section 3.2: widths of 0.05 and 0.10 are gammas of 16.97 and 6.94."""
    assert gamma_from_length(0.10) == pytest.approx(6.94, abs=0.005)
    assert gamma_from_length(0.05) == pytest.approx(16.97, abs=0.005)
    for length in (0.02, 0.1, 0.25):
        gamma = gamma_from_length(length)  # its relative deviation, eq. 124
        assert sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(length)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.3])
def test_an_impossible_length_is_refused(length):
    with pytest.raises(ValueError, match=r"0\.01 to 0\.25"):
        gamma_from_length(length)


def test_the_average_of_what_never_changes_is_itself():
    ema = Ema(module_of(-5.0), (0.1, 0.2))  # the start is forgotten at once
    for seen in range(10, 60, 10):
        ema.update(module_of(2.5), seen)
    assert [float(track["weight"]) for track in ema.tracks] == pytest.approx([2.5, 2.5], rel=1e-14)


def test_the_average_of_a_straight_line_has_its_closed_form():
    """Of w(tau) = tau with weights tau^gamma: t (gamma + 1)/(gamma + 2), up to half the way between two updates."""
    lengths = (0.05, 0.1, 0.2)
    ema, steps = Ema(module_of(0.0), lengths), 4000
    for seen in range(1, steps + 1):
        ema.update(module_of(seen), seen)
    for length, track in zip(lengths, ema.tracks, strict=True):
        gamma = gamma_from_length(length)
        exact = ema.images_seen * (gamma + 1) / (gamma + 2)
        assert float(track["weight"]) == pytest.approx(exact, rel=0.6 / UPDATES)


def test_the_update_rule_depends_only_on_images_seen():
    """Updated at each of the first steps; later rarely, and never more than 1/256 behind."""
    ema, updates = Ema(module_of(0.0)), 0
    for seen in range(64, 64 * 5000, 64):
        before = ema.images_seen
        ema.update(module_of(seen), seen)
        updates += ema.images_seen == seen
        assert ema.images_seen in (before, seen)
        assert (seen - ema.images_seen) * UPDATES < seen
        assert ema.images_seen == seen or seen > 64 * UPDATES
    assert updates < 1100  # 256 (1 + ln(5000/256)), and of 4999 steps


def test_averages_of_halves_are_kept_in_float32():
    """In bfloat16, a small update of the average would be lost by rounding."""
    module = nn.Linear(2, 1).to(torch.bfloat16)
    ema = Ema(module)
    with torch.no_grad():
        module.weight.fill_(1.0)
        for seen in range(1, 101):
            ema.update(module, seen)
        module.weight.fill_(1.0078125)  # the next one in bfloat16
        ema.update(module, 101)
    assert ema.tracks[0]["weight"].dtype == torch.float32
    assert 1.0 < float(ema.tracks[0]["weight"][0, 0]) < 1.001
    copied = copy.deepcopy(module)
    ema.copy_into(copied, module)
    assert copied.weight.dtype == torch.bfloat16


def test_only_what_is_trained_is_averaged():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    ema = Ema(module, (0.1, 0.05))
    assert [list(track) for track in ema.tracks] == [["1.weight", "1.bias"]] * 2
    copied = copy.deepcopy(module)
    with torch.no_grad():
        module[1].weight.fill_(3.0)
    ema.update(module, 8)
    ema.copy_into(copied, module, track=1)
    assert torch.equal(copied[1].weight, module[1].weight)
    assert torch.equal(copied[0].weight, module[0].weight)


def test_the_average_resumes_from_its_state():
    def weights():
        generator = torch.Generator().manual_seed(0)
        return [module_of(float(torch.randn((), generator=generator))) for _ in range(900)]

    whole, first, second = (Ema(module_of(0.0), (0.1, 0.05)) for _ in range(3))
    for step, module in enumerate(weights(), 1):
        whole.update(module, 4 * step)
        (first if step <= 612 else second).update(module, 4 * step)
        if step == 612:
            assert first.images_seen < 4 * step  # no update has just been made
            second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    state = second.state_dict()
    assert set(state) == {"images_seen", "0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())


def test_a_state_of_other_tracks_is_refused():
    one, two = Ema(module_of(0.0)), Ema(module_of(0.0), (0.1, 0.05))
    for mine, theirs in ((one, two), (two, one)):
        with pytest.raises(ValueError, match=r"other averages than this run;.*give another `out`"):
            mine.load_state_dict(theirs.state_dict())


def test_the_average_does_not_depend_on_the_batch_size():
    small, large = Ema(module_of(0.0)), Ema(module_of(0.0))
    for seen in range(8, 8001, 8):
        small.update(module_of(seen), seen)
    for seen in range(80, 8001, 80):
        large.update(module_of(seen), seen)
    assert float(large.tracks[0]["weight"]) == pytest.approx(float(small.tracks[0]["weight"]), rel=0.01)


def test_buffers_are_copied_as_they_are():
    module = nn.BatchNorm1d(2)
    ema, copied = Ema(module), copy.deepcopy(module)
    module(torch.randn(8, 2))
    ema.copy_into(copied, module)
    assert torch.equal(copied.running_mean, module.running_mean)
    assert int(copied.num_batches_tracked) == 1
    module(torch.randn(8, 2))
    assert int(copied.num_batches_tracked) == 1
