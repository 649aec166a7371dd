"""Averages chosen after training: their mathematics, the snapshots of a run, and `noisekiln ema`."""

import json
import os
import shutil
import signal
from itertools import islice, pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.integrate import quad
from torch import nn

import noisekiln as nk
from conftest import TINY, Command, make_images
from noisekiln.data import DataSet, load
from noisekiln.ema import snapshots
from noisekiln.ema.post_hoc import fit_combination, profile_inner_product, reconstruct
from noisekiln.ema.power import Ema, gamma_from_length
from noisekiln.files import atomic
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.runs import ema_length as averages_module
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.ema_sheet import EmaSheet
from noisekiln.runs.run import Run
from noisekiln.training import checkpoints
from noisekiln.training.due import AtShares

SHARES = [(share, length) for share in range(1, 17) for length in (0.1, 0.05)]
SETTINGS = Settings(images=256, batch_size=16, backbone=TINY, curves="none")
pytestmark = pytest.mark.usefixtures("short_previews")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# The mathematics


def profile(length, end):
    """p(tau) of an average that ends there; nothing after."""
    gamma = gamma_from_length(length)
    return lambda tau: np.where(tau <= end, (gamma + 1) * tau**gamma / end ** (gamma + 1), 0.0)


@pytest.mark.parametrize("one", [(0.05, 1.0), (0.1, 3.0)])
@pytest.mark.parametrize("other", [(0.1, 1.0), (0.25, 2.5), (0.03, 3.0)])
def test_inner_products_are_integrals(one, other):
    exact, _ = quad(lambda tau: profile(*one)(tau) * profile(*other)(tau), 0, min(one[1], other[1]), epsabs=1e-12)
    product = profile_inner_product(
        np.array(gamma_from_length(one[0])), np.array(one[1]), np.array(gamma_from_length(other[0])), np.array(other[1])
    )
    assert float(product) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("place", [0, 7, 20, 30, 31])
def test_a_tracked_average_is_made_of_itself_alone(place):
    share, length = SHARES[place]
    made = fit_combination([copy for copy in SHARES if copy[0] <= share], length, share)
    assert made.weights[place] == pytest.approx(1, abs=1e-9)
    assert np.delete(made.weights, place) == pytest.approx(0, abs=1e-9)
    assert made.residual < 1e-6


@pytest.mark.parametrize("length", [0.02, 0.03, 0.07, 0.15, 0.2, 0.25])
def test_the_residual_is_what_is_left_of_the_profile(length):
    made = fit_combination(SHARES, length, 16)
    tau = (np.arange(16_000) + 0.5) / 1000
    copies = np.array([profile(each, end)(tau) for end, each in SHARES])
    target = profile(length, 16)(tau)
    left = target - np.array(made.weights) @ copies
    assert made.residual == pytest.approx(sqrt((left @ left) / (target @ target)), rel=0.02, abs=1e-4)
    assert sum(made.weights) == pytest.approx(1, abs=1e-9)


def test_no_other_weights_are_nearer():
    made = fit_combination(SHARES, 0.15, 16)
    gammas, ends = (np.array(each) for each in zip(*[(gamma_from_length(b), float(a)) for a, b in SHARES], strict=True))
    target_gamma, now = np.array(gamma_from_length(0.15)), np.array(16.0)
    among, towards = (
        profile_inner_product(gammas[:, None], ends[:, None], gammas, ends),
        profile_inner_product(gammas, ends, target_gamma, now),
    )
    generator = np.random.default_rng(0)

    def left(weights):
        return weights @ among @ weights - 2 * weights @ towards

    for _ in range(50):
        off = generator.normal(size=len(SHARES)) * 1e-3
        assert left(np.array(made.weights) + off - off.mean()) > left(np.array(made.weights))


def test_lengths_near_the_tracked_ones_are_reconstructed_more_exactly():
    residuals = {
        length: fit_combination(SHARES, length, 16).residual
        for length in (0.01, 0.02, 0.03, 0.04, 0.07, 0.15, 0.2, 0.25)
    }
    assert max(residuals[length] for length in (0.03, 0.04, 0.07, 0.15, 0.2)) < 0.04
    assert residuals[0.01] > residuals[0.02] > residuals[0.03] > residuals[0.04]
    assert residuals[0.25] > residuals[0.2] > residuals[0.15]


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_any_number_of_snapshots_works(count):
    made = fit_combination([(64 * k, length) for k in range(1, count + 1) for length in (0.1, 0.05)], 0.08, 64 * count)
    assert np.isfinite(made.weights).all()
    assert sum(made.weights) == pytest.approx(1)
    assert made.residual < 0.05


@pytest.mark.parametrize("length", [0.0, -0.1, 0.3, float("nan")])
def test_impossible_lengths_are_refused(length):
    with pytest.raises(ValueError, match=r"is not possible.*give 0\.01 to 0\.25"):
        fit_combination(SHARES, length, 16)


def test_reconstruction_without_snapshots_is_refused():
    with pytest.raises(ValueError, match="Give 1 or more"):
        reconstruct([], 0.1)


# Paths that are known


def keep_if_due(folder, times, ema, share):
    if times.due(share):
        snapshots.make_write_task(folder, ema)()


def written(folder, ema):
    return snapshots.write(folder, snapshots.half_precision_copies(ema), ema.images_seen, ema.lengths)


def line(steps):
    start, way = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    for step in range(1, steps + 1):
        yield start + way * step / steps


def random_walk(steps):
    generator = torch.Generator().manual_seed(0)
    place = torch.randn(64, generator=generator)
    for _ in range(steps):
        place = place + 0.03 * torch.randn(64, generator=generator)
        yield place


@pytest.mark.parametrize("path", [line, random_walk])
def test_reconstructed_averages_are_those_tracked_directly(tmp_path: Path, path):
    """To 2e-3 of the weights from 0.03 to 0.2, to 5e-4 near the tracks: mostly what half precision costs."""
    lengths, steps = (0.03, 0.05, 0.07, 0.1, 0.12, 0.15, 0.2), 2000
    module = nn.Linear(1, 64, bias=False)
    two, direct = Ema(module, (0.1, 0.05)), Ema(module, lengths)
    times = AtShares.equal(16)
    for step, weights in enumerate(path(steps), 1):
        with torch.no_grad():
            module.weight.copy_(weights[:, None])
        two.update(module, 64 * step)
        direct.update(module, 64 * step)
        keep_if_due(tmp_path, times, two, step / steps)
    kept = snapshots.list_snapshots(tmp_path)
    assert len(kept) == 16
    for length, track in zip(lengths, direct.tracks, strict=True):
        made, _ = reconstruct(kept, length)
        assert made["weight"].dtype == torch.float32
        error = float((made["weight"] - track["weight"]).norm() / track["weight"].norm())
        assert error < (5e-4 if 0.05 <= length <= 0.15 else 2e-3), length


# The files


def half_trained(seed=0, count=1):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    ema = Ema(module, (0.1, 0.05))
    for seen in range(8, 8 * count + 1, 8):
        with torch.no_grad():
            module[0].weight.mul_(1.1)
        ema.update(module, seen)
    return ema


def test_a_snapshot_is_the_averages_in_half_precision(tmp_path: Path):
    ema = half_trained(count=3)
    file = written(tmp_path, ema)
    assert [f.name for f in tmp_path.iterdir()] == ["000000000024.safetensors"]
    tensors = load_file(file)
    assert tensors.keys() == {f"{i}.{name}" for i in (0, 1) for name in ema.tracks[0]}
    for i, track in enumerate(ema.tracks):
        for name, average in track.items():
            assert torch.equal(tensors[f"{i}.{name}"], average.half())
    assert snapshots.list_snapshots(tmp_path) == [(file, 24, (0.1, 0.05))]


def test_weights_too_large_for_halves_are_kept_as_they_are(tmp_path: Path):
    ema = half_trained()
    ema.tracks[1]["0.weight"][0, 0] = 1e6
    tensors = load_file(written(tmp_path, ema))
    assert float(tensors["1.0.weight"][0, 0]) == 1e6
    assert tensors["0.0.weight"].dtype == torch.float16


def test_a_snapshot_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path, half_trained(count=1))
    before = contents(tmp_path)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            written(tmp_path, half_trained(count=2))
    assert [shot.images_seen for shot in snapshots.list_snapshots(tmp_path)] == [8]
    snapshots.delete_snapshots_after(tmp_path, 8)
    assert contents(tmp_path) == before


def test_only_snapshots_after_the_resumed_checkpoint_are_deleted(tmp_path: Path):
    for count in (1, 2, 3):
        written(tmp_path, half_trained(count=count))
    (tmp_path / "lengths.png").write_bytes(b"mine")
    (tmp_path / ".000000000032.safetensors.partial").mkdir()  # and what was in it when it was killed
    snapshots.delete_snapshots_after(tmp_path, 16)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "000000000008.safetensors", "000000000016.safetensors", "lengths.png",
    ]  # fmt: skip
    snapshots.delete_snapshots_after(tmp_path / "nowhere", 16)


def test_snapshots_come_at_equal_shares(tmp_path: Path):
    times, ema, shares = AtShares.equal(4, start=0.3), half_trained(), []
    for percent in (31, 49, 50, 51, 80, 99, 103, 104):
        ema.images_seen = percent
        keep_if_due(tmp_path, times, ema, percent / 100)
        shares = [shot.images_seen for shot in snapshots.list_snapshots(tmp_path)]
    assert shares == [50, 80, 103]
    keep_if_due(tmp_path / "none", AtShares.equal(0), ema, 1.0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", [b"", b"cut off", None])
def test_a_damaged_snapshot_is_named(tmp_path: Path, damage):
    file = written(tmp_path, half_trained())
    file.write_bytes(damage if damage is not None else file.read_bytes().replace(b"snapshot", b"snapshut"))
    with pytest.raises(
        ValueError, match=r"000000000008\.safetensors is not a snapshot of noisekiln, or damaged .*Remove"
    ):
        snapshots.list_snapshots(tmp_path)


def test_any_flipped_bit_of_a_snapshot_is_noticed(tmp_path: Path):
    file = written(tmp_path, half_trained())
    whole = file.read_bytes()
    for at in range(0, len(whole), 5):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            changed = [*reconstruct(snapshots.list_snapshots(tmp_path), 0.1)[0].values()]
        except ValueError as error:
            assert "Remove it: the others work without it." in str(error), at
        else:  # only a space that pads the header
            file.write_bytes(whole)
            same = [*reconstruct(snapshots.list_snapshots(tmp_path), 0.1)[0].values()]
            assert all(map(torch.equal, changed, same)), at


def test_a_snapshot_of_an_earlier_version_has_no_checksum(tmp_path: Path):
    ema = half_trained()
    shot = snapshots.list_snapshots(written(tmp_path / "new", ema).parent)
    about = {"snapshot": json.dumps({"images_seen": ema.images_seen, "lengths": list(ema.lengths)})}
    (tmp_path / "old").mkdir()
    save_file(snapshots.half_precision_copies(ema), tmp_path / "old" / shot[0].file.name, metadata=about)
    old = snapshots.list_snapshots(tmp_path / "old")
    assert all(map(torch.equal, reconstruct(old, 0.1)[0].values(), reconstruct(shot, 0.1)[0].values()))


# A run's


@pytest.fixture(scope="module")
def data(pets: Path) -> DataSet:
    return load(pets)


def train(settings: Settings, data: DataSet, folder: Path, *, stop_after: int | None = None) -> Run:
    run = Run(settings, data, folder)
    for _ in islice(run.steps(), stop_after):
        pass
    if stop_after is not None:
        run.save()
    return run


@pytest.fixture
def trained(class_run: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(class_run, tmp_path / "run"))


def test_a_run_keeps_snapshots_at_shares_of_its_budget(class_run: Path):
    kept = snapshots.list_snapshots(class_run / "ema")
    assert [shot.images_seen for shot in kept] == [-(-1600 * k // 16 // 16) * 16 for k in range(1, 17)]
    assert {shot.lengths for shot in kept} == {(0.1, 0.05)}
    newest = checkpoints.load_newest(class_run / "checkpoints")
    assert newest is not None
    names = {name.removeprefix("ema.") for name in newest.tensors if name.startswith("ema.")} - {"images_seen"}
    assert load_file(kept[-1].file).keys() == names


def test_a_budget_of_minutes_ends_with_a_snapshot(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Run, "draw_grid", lambda self: None)  # it takes longer than the run
    run = train(Settings(minutes=0.01, batch_size=16, backbone=TINY), data, tmp_path)
    kept = snapshots.list_snapshots(tmp_path / "ema")
    assert kept[-1].images_seen == run.trainer.ema.images_seen
    assert 1 <= len(kept) <= 16


def test_without_snapshots(data: DataSet, tmp_path: Path):
    train(SETTINGS.replace(ema_snapshots=0), data, tmp_path)
    assert not (tmp_path / "ema").exists()
    with pytest.raises(ValueError, match=r"trained with `ema_snapshots=0`\. .* Train with `ema_snapshots=16`"):
        PostHocEma(tmp_path)


@pytest.mark.slow
def test_a_longer_budget_keeps_the_existing_snapshots(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path)
    before = contents(tmp_path / "ema")
    train(SETTINGS.replace(images=320, ema_snapshots=8), data, tmp_path)
    after = contents(tmp_path / "ema")
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == ["000000000288.safetensors", "000000000320.safetensors"]


@pytest.mark.slow
def test_snapshots_after_the_checkpoint_are_made_again(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path / "one")
    train(SETTINGS, data, tmp_path / "other", stop_after=7)
    killed = Run(SETTINGS, data, tmp_path / "other")
    steps = killed.steps()
    for _ in islice(steps, 2):  # beyond another snapshot, and killed before another checkpoint
        pass
    del steps
    late = tmp_path / "other" / "ema" / f"{9 * 16:012d}.safetensors"
    assert late.exists()
    late.rename(late.with_name(f"{9 * 16 + 1:012d}.safetensors"))  # as another clock would have had it
    train(SETTINGS, data, tmp_path / "other")
    assert contents(tmp_path / "one" / "ema") == contents(tmp_path / "other" / "ema")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def far_apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    apart = sqrt(sum(float((one[name].double() - other[name].double()).square().sum()) for name in one))
    return apart / sqrt(sum(float(tensor.double().square().sum()) for tensor in one.values()))


@pytest.mark.parametrize("weight", ["unit", "uncertainty"])
def test_the_run_s_own_length_gives_the_run_s_model(data: DataSet, tmp_path: Path, weight: str):
    train(SETTINGS.replace(loss_weight=weight, lr=0.01), data, tmp_path)
    before = contents(tmp_path)
    same, other = nk.post_hoc_ema(tmp_path, 0.1), nk.post_hoc_ema(tmp_path, 0.2)
    assert contents(tmp_path) == before
    own = Diffusion.load(tmp_path).state_dict()
    assert far_apart(own, same.state_dict()) < 5e-4
    assert far_apart(own, other.state_dict()) > 5e-3
    assert not same.training
    assert same.sample(["cat"], steps=2).shape == (1, 8, 8, 3)


@pytest.mark.slow
def test_a_reconstructed_model_is_the_tracked_one(data: DataSet, tmp_path: Path):
    """For a run whose weights move a lot; the tracked averages are updated during training."""
    lengths = (0.04, 0.07, 0.15)
    run = Run(SETTINGS.replace(images=3200, lr=0.01), data, tmp_path)
    direct = Ema(run.learner, lengths)
    for report in run.steps():
        direct.update(run.learner, report.images_seen)
    for track, length in enumerate(lengths):
        exact = Diffusion.load(tmp_path)
        exact.load_state_dict(
            {name.removeprefix("diffusion."): w for name, w in direct.tracks[track].items()}, strict=False
        )
        own = far_apart(exact.state_dict(), Diffusion.load(tmp_path).state_dict())
        assert far_apart(exact.state_dict(), nk.post_hoc_ema(tmp_path, length).state_dict()) < min(1e-3, own / 5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [("Cat", "dog"), ("bird", "dog")])
def test_adapters_too(class_run: Path, tmp_path: Path, labels: tuple[str, str]):
    """Snapshots hold only trained parameters; frozen ones come from the run's start."""
    images = load(make_images(tmp_path / "more", classes=labels, seed=5))
    settings = Settings(start=str(class_run), lora=2, images=640, batch_size=16, lr=0.02, steps=7)
    run = train(settings, images, tmp_path / "run")
    first = snapshots.list_snapshots(tmp_path / "run" / "ema")[0].file
    assert all(".parametrizations." in name for name in load_file(first))
    size = sum(p.numel() for p in run.learner.parameters() if p.requires_grad)
    assert first.stat().st_size < 4 * size + 50_000
    own, start = nk.load(tmp_path / "run"), nk.load(class_run)
    same, other = nk.post_hoc_ema(tmp_path / "run", 0.1), nk.post_hoc_ema(tmp_path / "run", 0.25)
    assert far_apart(own.state_dict(), same.state_dict()) < 5e-4
    assert far_apart(own.state_dict(), other.state_dict()) > 1e-3
    assert same.sampling == own.sampling
    assert same.sampling.steps == 7
    assert torch.equal(
        same.denoiser.backbone.state_dict()["conv_in.bias"], start.denoiser.backbone.state_dict()["conv_in.bias"]
    )

    averages = PostHocEma(tmp_path / "run")
    averages.write(0.25, tmp_path / "out")
    kept = nk.load(tmp_path / "out")
    assert far_apart(other.state_dict(), kept.state_dict()) == 0
    merged = nk.merge(nk.load(class_run), tmp_path / "out")
    assert far_apart(kept.state_dict(), merged.state_dict()) == 0


def test_a_run_that_is_not_finished(data: DataSet, tmp_path: Path):
    longer = SETTINGS.replace(images=640)
    train(longer, data, tmp_path, stop_after=2)
    with pytest.raises(ValueError, match="the first of them is not due yet"):
        PostHocEma(tmp_path)
    train(longer, data, tmp_path, stop_after=18)
    averages = PostHocEma(tmp_path)
    assert averages.images_seen == 320
    assert averages.model(0.12).sample(["dog"], steps=1).shape == (1, 8, 8, 3)


# Writing


def test_the_chosen_average_replaces_the_model_of_the_run(trained: Path):
    before, chosen = weights_of(trained), nk.post_hoc_ema(trained, 0.2).state_dict()
    others = {name: text for name, text in contents(trained).items() if not name.startswith(("model/", ".lock"))}
    place = PostHocEma(trained).write(0.2)
    assert place == trained / "model"
    assert far_apart(chosen, weights_of(trained)) == 0
    assert far_apart(before, weights_of(trained)) > 1e-3
    product = json.loads((place / "model.json").read_text())
    assert product["ema"] == {"length": 0.2, "images_seen": 1600}
    after = contents(trained)
    assert {name: text for name, text in after.items() if not name.startswith(("model/", ".lock"))} == others
    PostHocEma(trained).write(0.1)
    assert far_apart(before, weights_of(trained)) < 5e-4


@pytest.mark.slow
def test_writing_a_length_does_not_change_further_training(data: DataSet, tmp_path: Path):
    train(SETTINGS, data, tmp_path / "one")
    train(SETTINGS, data, tmp_path / "other", stop_after=8)
    PostHocEma(tmp_path / "other").write(0.2)
    assert "ema" in json.loads((tmp_path / "other" / "model" / "model.json").read_text())
    train(SETTINGS, data, tmp_path / "other")
    for folder in ("model", "ema"):
        assert contents(tmp_path / "one" / folder) == contents(tmp_path / "other" / folder)
    assert contents(tmp_path / "one" / "samples").keys() == contents(tmp_path / "other" / "samples").keys()


def test_an_interrupted_write_leaves_the_model(trained: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(trained)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(averages_module, "reconstruct", dies)
        with pytest.raises(KeyboardInterrupt):
            PostHocEma(trained).write(0.2)
    assert contents(trained) == before


def test_another_folder(class_run: Path, tmp_path: Path):
    before = contents(class_run)
    out = tmp_path / "new" / "folder"
    for length in (0.2, 0.07):  # its own earlier model may be replaced
        assert PostHocEma(class_run).write(length, out) == out / "model"
        assert far_apart(nk.load(out).state_dict(), nk.post_hoc_ema(class_run, length).state_dict()) == 0
    assert contents(class_run) == before
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    other = Path(shutil.copytree(class_run, tmp_path / "other"))
    for place in (mine, mine / "thesis.tex", other):
        with pytest.raises(ValueError, match="holds other files than a model written by this command"):
            PostHocEma(class_run).write(0.2, place)
    assert contents(other) == before


# The command


def columns_of(picture: Path) -> int:
    """Number of sheets in a strip; white columns separate them."""
    with Image.open(picture) as opened:
        assert opened.mode == "RGB"
        pixels = np.asarray(opened)[:256]
    white = (pixels == 255).all((0, 2))
    gaps = [(i, j) for i, j in pairwise(np.flatnonzero(~white)) if j - i > 8]
    return len(gaps) + 1


def test_the_command_shows_a_strip(cli: Command, trained: Path):
    before = weights_of(trained)
    result = cli("ema", trained, "--length", "0.05..0.25")
    assert result.code == 0, result
    assert result.err == ""
    assert "16 snapshots of the averages 0.1 and 0.05, up to 1,600 images" in result.out
    lines = [line.split() for line in result.out.splitlines() if line.startswith("  0.")]
    assert [line[0] for line in lines] == ["0.05", "0.1", "0.15", "0.2", "0.25"]
    assert [line[1] for line in lines] == ["exactly", "exactly", "error", "error", "error"]
    assert "approximate, far from the tracked lengths" in result.out.splitlines()[5]
    assert str(trained / "ema" / "lengths.png") in result.out
    assert columns_of(trained / "ema" / "lengths.png") == 5
    assert far_apart(before, weights_of(trained)) == 0
    assert not list((trained / "ema").glob(".*"))


@pytest.mark.parametrize("text", ["{}", "", "[]"])
def test_a_damaged_description_of_the_images_is_named(class_run: Path, tmp_path: Path, text: str):
    shutil.copytree(class_run, tmp_path / "run")
    (tmp_path / "run" / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.json is missing or damaged.* Restore it"):
        EmaSheet(PostHocEma(tmp_path / "run"))


def test_the_strip_shows_the_run_s_preview(cli: Command, trained: Path):
    """The column of the run's own length equals the averaged half of its last grid, up to half precision."""
    assert cli("ema", trained, "--length", "0.1").code == 0
    with (
        Image.open(trained / "ema" / "lengths.png") as strip,
        Image.open(trained / "samples" / "000001600.png") as grid,
    ):
        factor = grid.width // (2 * 37 + 4)
        small = np.asarray(grid)[::factor, ::factor][:, 37 + 4 :].astype(int)
        again = np.asarray(strip)[: 37 * 7 : 7, : 37 * 7 : 7].astype(int)
    assert small.shape == again.shape == (37, 37, 3)
    assert float(np.abs(small - again).mean()) < 2


@pytest.mark.parametrize("run", ["text_run", "plain_run"])
def test_with_captions_and_with_nothing(cli: Command, run: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = Path(shutil.copytree(request.getfixturevalue(run), tmp_path / "run"))
    result = cli("ema", folder, "--length", "0.07,0.12,0.2")
    assert result.code == 0, result
    assert columns_of(folder / "ema" / "lengths.png") == 3


def test_data_that_have_moved(cli: Command, text_run: Path, captioned: Path, plain: Path, tmp_path: Path):
    folder = Path(shutil.copytree(text_run, tmp_path / "run"))
    chosen = Settings.read(folder / "run.yaml")
    chosen.replace(data=str(tmp_path / "gone")).write(folder / "run.yaml")
    result = cli("ema", folder)
    assert result.code == 2
    assert "are not found" in result.err
    assert "Give their place as --data." in result.err
    result = cli("ema", folder, "--data", plain)
    assert result.code == 2
    assert f"The images in {plain} are not those that {folder} was trained on." in result.err
    assert cli("ema", folder, "--data", captioned, "--length", "0.1").code == 0
    assert cli("ema", folder, "--write", "0.07").code == 0  # which needs no images


def test_with_a_task(cli: Command, pets: Path, tmp_path: Path):
    words = ("--images", 160, "--batch-size", 16, "--backbone", "simple_unet(width=8)", "--out", tmp_path / "run")
    assert cli("train", pets, "--task", "upscale(factor=2)", *words).code == 0
    result = cli("ema", tmp_path / "run", "--length", "0.05,0.15")
    assert result.code == 0, result
    assert columns_of(tmp_path / "run" / "ema" / "lengths.png") == 4  # plus the source images and the originals


def test_the_command_writes(cli: Command, trained: Path, tmp_path: Path):
    before = weights_of(trained)
    result = cli("ema", trained, "--write", "0.07")
    assert result.code == 0, result
    assert f"{trained / 'model'} has the average 0.07 now (error 0." in result.out
    assert "--write 0.1" in result.out
    assert far_apart(before, weights_of(trained)) > 1e-4
    assert not (trained / "ema" / "lengths.png").exists()
    assert cli("sample", trained, "-n", 1, "--steps", 1, "--out", tmp_path / "pictures").code == 0
    result = cli("ema", trained, "--write", "0.15", "--out", tmp_path / "elsewhere")
    assert result.code == 0, result
    assert json.loads((tmp_path / "elsewhere" / "model" / "model.json").read_text())["ema"]["length"] == 0.15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--length", "long"), "--length long is no list of lengths. Give shares of training, such as 0.03,0.07,0.15,"),
        (("--length", "0.1,"), "--length 0.1, is no list of lengths."),
        (("--length", "0.1.."), "--length 0.1.. is no list of lengths."),
        (("--length", "0.5"), "An EMA length of 0.5 is not possible. It is a share of training: give 0.01 to 0.25."),
        (("--length", "0.1,0"), "An EMA length of 0 is not possible."),
        (("--length", "0.003"), "An average of length 0.003 cannot be combined from 16 snapshots of 0.1 and 0.05: "),
        (("--write", "0.4"), "An EMA length of 0.4 is not possible."),
        (
            ("--write", "0.003"),
            "of it would be missing. Use a length nearer to those, or train with more",
        ),
        (("--out", "x"), "--out x was given without --write, so no model would be written there. Give --write"),
    ],
)
def test_what_the_command_refuses(cli: Command, trained: Path, words: tuple[str, ...], message: str):
    before = contents(trained)
    result = cli("ema", trained, *words)
    assert result.code == 2, result
    assert message in result.err
    assert result.err.count("\n") == 1
    assert contents(trained) == before


def test_runs_that_have_none(cli: Command, class_run: Path, trained: Path, tmp_path: Path):
    shutil.rmtree(trained / "ema")
    result = cli("ema", trained)
    assert (result.code, "has no snapshots of its averages" in result.err) == (2, True)
    result = cli("ema", class_run / "model")
    assert (result.code, "is a model without its run" in result.err) == (2, True)
    result = cli("ema", tmp_path / "nowhere")
    assert (result.code, "There is no folder" in result.err) == (2, True)
    result = cli("ema", tmp_path)
    assert (result.code, "is not a run" in result.err) == (2, True)


def test_a_number_of_snapshots_below_none_is_refused(cli: Command, pets: Path, tmp_path: Path):
    result = cli("train", pets, "--ema-snapshots", -1, "--out", tmp_path / "run")
    assert result.code == 2
    assert "--ema-snapshots -1 is out of range. Give 0 or more and at most 10000." in result.err


def test_a_comparison_that_is_stopped_keeps_the_lengths_so_far(
    cli: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    """A signal arrives while the second of three is sampled: that one is finished, and nothing is written to model/."""
    before, sampled = weights_of(trained), []

    def model(self: PostHocEma, length: float) -> Diffusion:
        sampled.append(length)
        if len(sampled) == 3:  # the first is made for the conditions
            os.kill(os.getpid(), signal.SIGINT)
        return self._make(length)[0]

    monkeypatch.setattr(PostHocEma, "model", model)
    result = cli("ema", trained, "--length", "0.07,0.1,0.15", "--write", "0.07")
    assert (result.code, "stopped: 2 of 3 lengths are compared" in result.out) == (130, True), result
    assert columns_of(trained / "ema" / "lengths.png") == 2
    assert far_apart(before, weights_of(trained)) == 0
