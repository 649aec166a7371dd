"""Models, runs and names of strangers: their code runs only by consent, and nothing else of theirs does harm."""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Command
from noisekiln.backbones.unet import Unet
from noisekiln.cli._show import Terminal
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.consent import ANY_CODE, NO_CODE, Consent
from noisekiln.components.registry import did_you_mean
from noisekiln.components.spec import build, check_specs, consent_to
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.denoisers import Denoiser
from noisekiln.errors import CodeNotAllowed, listed, printable, shorten
from noisekiln.files.json_file import write_json
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import resolve_seeds
from noisekiln.model.saving import load_codec
from noisekiln.paths import expand_home
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import size_to_load
from noisekiln.samplers.base import Sampler, check_steps
from noisekiln.session.prompts import repeat_conditions
from noisekiln.uses.request import SampleOptions

# Code


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = Unet(channels=3, vector=8, widths=(32,), blocks=(1,), patch=1, condition=32)
    whole = Diffusion(Denoiser(network), Pixels((0.5,) * 3, (0.3,) * 3), (8, 8), ClassLabel(("a", "b"), 8))
    whole.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    return file


def change(folder: Path, name: str, value: object) -> None:
    """Change an entry of a `model.json`, or one of its settings of sampling."""
    description = json.loads((folder / "model.json").read_text())
    outer, _, inner = name.partition(".")
    description[outer] = {**description[outer], inner: value} if inner else value
    write_json(folder / "model.json", description)


PARTS = ["backbone", "noise_label", "codec", "conditioner", "task"]
SAMPLING = ["sampling.sampler", "sampling.schedule", "sampling.guidance"]
SPELLINGS = [
    "{file}:Net",
    "  {file}:Net(x=1) ",
    "\n{file}:Net",
    "{link}:Net",
    "{folder}/./evil.py:Net",
    "time(schedule={file}:Net)",
    "time(schedule={folder}/evil . py : Net)",
    "time(schedule=lambda x=evil . py : Net)",
    "{file}:Ｎet",
    "{file}#:Net",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("part", [*PARTS, *SAMPLING])
def test_no_spelling_in_a_model_runs_code(model: Path, evil: Path, tmp_path: Path, part: str, spelling: str):
    link = tmp_path / "link.py"
    link.symlink_to(evil)
    change(model, part, spelling.format(file=evil, link=link, folder=tmp_path))
    for opened in (Diffusion.load, load):
        with pytest.raises(ValueError):
            opened(model)
    assert not (tmp_path / "ran").exists()


def test_the_stages_of_a_cascade_and_a_codec_run_no_code_either(model: Path, evil: Path, tmp_path: Path):
    change(model, "codec", f"{evil}:Net")
    model.rename(tmp_path / "stage0")
    write_json(tmp_path / "model.json", {"format": 1, "cascade": ["stage0", "stage0"]})
    write_json(tmp_path / "codec.json", {"codec": f"{evil}:Net"})
    for opened in (load, load_codec):
        with pytest.raises(CodeNotAllowed, match=r"runs the Python code of \S*evil\.py"):
            opened(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_settings_that_a_run_keeps_are_checked_whichever_they_are(evil: Path):
    kept = Settings().resuming(Settings(sampler=f"{evil}:A", schedule=f"{evil}:A", backbone=f"{evil}:A"))
    for name in ("sampler", "schedule", "backbone"):
        spec = {name: getattr(kept, name)}
        assert spec[name] == f"{evil}:A"
        with pytest.raises(CodeNotAllowed, match=r"run\.yaml runs the Python code"):
            check_specs(spec, NO_CODE, Path("run.yaml"))
        check_specs(spec, consent_to(spec), Path("run.yaml"))
        check_specs(spec, ANY_CODE, Path("run.yaml"))


def test_consent_is_for_a_file_and_its_copies(evil: Path, tmp_path: Path):
    copy, other = tmp_path / "copy.py", tmp_path / "other.py"
    copy.write_text(evil.read_text())
    other.write_text(evil.read_text() + "#")
    consent = consent_to({"backbone": f"{evil}:Net", "lr": 1, "cond": "none"})
    consent.check(evil)
    consent.check(copy)
    for file in (other, tmp_path / "none.py"):
        with pytest.raises(CodeNotAllowed):
            consent.check(file)
    assert consent_to({}, allow_code=True) == ANY_CODE


@pytest.mark.parametrize("allowed", ["no", 0, 1, None])
def test_consent_is_true_or_false_and_no_text_that_counts_as_true(model: Path, allowed: Any):
    with pytest.raises(ValueError, match=r"`allow_code`: a .* was given, and it must be True or False"):
        Diffusion.load(model, allow_code=allowed)
    assert Consent.of(False) == NO_CODE


def test_sampling_specs_of_a_file_need_consent_and_those_of_a_user_do_not(evil: Path, tmp_path: Path):
    for make in (lambda: build(Sampler, f"{evil}:A", NO_CODE), lambda: guidance_of(f"{evil}:A", NO_CODE)):
        with pytest.raises(CodeNotAllowed):
            make()
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="has no Sampler"):
        build(Sampler, f"{evil}:A")
    assert (tmp_path / "ran").exists()


# Values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("size", value) for value in (["8", 8], [], [-8, 8], [8.5, 8], [10**30, 8], [True, 8], 8, None, "8x8")],
        *[(part, value) for part in PARTS for value in (5, [], {}, "", True, "[" * 9999, "-" * 9999 + "1")],
        *[("backbone", f"unet(channels=3, vector=8, {more})") for more in (
            "widths=(32,), blocks=(1000000000,)", "widths=(3200000000,), blocks=(1,)", "widths=(), blocks=()",
            "widths=(3200,), blocks=(1,)", "widths=(0,), blocks=(1,)", "condition=-5", f"condition={'9' * 400}",
            f"condition={'9' * 5000}", f"condition={'+'.join('1' * 9999)}", "condition=1e999",
        )],
        ("conditioner", "class_label(names=('a', 'b'), width=1000000000000)"),
        ("noise_label", "time(schedule=linear_betas(steps=1000000000000))"),
        ("noise_label", "time(scale=1e400)"),
        *[("prediction", value) for value in (5, [], {}, None, "x")],
        *[("sampling", value) for value in ([], 5, None, {"x": 1}, {"steps": 10**12}, {"steps": "x"})],
        *[("sampling.sampler", value) for value in (5, [], None)],
        *[("sampling.schedule", value) for value in (5, [], "linear_betas(steps=1000000000000)")],
        *[("sampling.guidance", value) for value in (None, [1], "x", {})],
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_changed_model_json_is_refused_at_once_in_a_short_sentence(model: Path, name: str, value: object):
    change(model, name, value)
    begin = time.process_time()
    with pytest.raises(ValueError, match="missing or damaged") as caught:
        Diffusion.load(model)
    assert time.process_time() - begin < 2
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("network", "says"),
    [("widths=(32,), blocks=(900,)", "more layers than its weights"), ("widths=(64,), blocks=(1,)", "another shape")],
)
def test_a_network_is_compared_with_its_weights_before_it_takes_memory(
    model: Path, network: str, says: str, monkeypatch: pytest.MonkeyPatch
):
    """It is built without values; another one has no weights to read."""
    built: list[torch.device] = []
    monkeypatch.setattr(Unet, "__init__", _noting(Unet.__init__, built))
    monkeypatch.setattr("noisekiln.model.saving.read_weights", None)
    change(model, "backbone", f"unet(channels=3, vector=8, {network}, patch=1, condition=32)")
    with pytest.raises(ValueError, match=says):
        Diffusion.load(model)
    assert built == [torch.device("meta")]


def _noting(init: Callable[..., None], devices: list[torch.device]) -> Callable[..., None]:
    @functools.wraps(init)
    def noted(network: Unet, *args: Any, **options: Any) -> None:
        devices.append(torch.empty(1).device)
        init(network, *args, **options)

    return noted


def test_a_model_that_is_not_changed_has_the_weights_of_its_file(model: Path):
    loaded = Diffusion.load(model)
    assert all(parameter.device.type == "cpu" and parameter.isfinite().all() for parameter in loaded.parameters())
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"  # nothing is left of the check


@pytest.mark.parametrize("size", [5, None, [8], ["8", 8], [10**9, 8]])
def test_the_size_of_a_changed_model_to_start_from_is_checked(model: Path, size: object):
    assert size_to_load(None, model, None) == (8, 8)
    change(model, "size", size)
    with pytest.raises(ValueError, match=r"The model of .* is damaged"):
        size_to_load(None, model, None)


@pytest.mark.parametrize("value", [[[1, 2], 3], {"a": 1}, [8], ["8", 8], True, 8.5])
def test_settings_of_several_types_are_checked(value: Any):
    with pytest.raises(ValueError, match=r"`size`: a .* was given, and it must be a whole number or a pair of whole"):
        Settings(size=value)
    with pytest.raises(ValueError, match=r"`guidance`: a .* was given, and it must be"):
        Settings(guidance=[value])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        lambda: repeat_conditions([None], 10**12),
        lambda: resolve_seeds(10**12, 0, None),
        lambda: SampleOptions(count=10**12),
        lambda: SampleOptions(steps=10**400),
        lambda: check_steps(10**12),
        lambda: Unet(3, widths=(32,), blocks=(10**9,)),
        lambda: Settings(minutes=1e300),
        lambda: Settings(ema_snapshots=10**400),
        lambda: Settings(timeout=1e30),
    ],
)
def test_numbers_that_would_fill_the_memory_are_refused_at_once(call: Callable[[], object]):
    begin = time.process_time()
    with pytest.raises(ValueError, match="at most"):
        call()
    assert time.process_time() - begin < 0.5


# Text


HOSTILE = "a\x1b]52;c;ZXZpbA==\x07\x9b8m\r\n\u202eb\u2066\u2028c\udce9\U000e0041"


def test_characters_that_control_a_terminal_are_shown_by_number():
    shown = printable(HOSTILE)
    assert shown == r"a\x1b]52;c;ZXZpbA==\x07\x9b8m\r\n\u202eb\u2066\u2028c\udce9\U000e0041"
    assert printable("Ä 日本 🎨 e\u0301 \u200d") == "Ä 日本 🎨 e\u0301 \u200d"


@pytest.mark.parametrize("terminal", [True, False])
def test_names_on_the_terminal_are_shown_by_one_filter(terminal: bool, capsys: pytest.CaptureFixture[str]):
    from rich.progress import Progress, TextColumn

    console = Terminal(soft_wrap=True, force_terminal=terminal, highlight=False)
    console.print(HOSTILE, markup=False)
    with Progress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task(HOSTILE)
    out = capsys.readouterr().out
    assert r"\x1b]52;c;" in out
    assert not {"\x1b]", "\x07", "\x9b", "\u202e"} & {out[i : i + n] for i in range(len(out)) for n in (1, 2)}


def test_errors_and_warnings_of_commands_pass_the_filter(cli: Command, capsys: pytest.CaptureFixture[str]):
    import noisekiln.cli as commands

    result = cli("train", f"no{HOSTILE}such")
    assert r"\x1b]52" in result.err
    assert "\x1b" not in result.err + result.out
    result = cli("train", "a", *[f"{HOSTILE}{i}.png" for i in range(2000)])
    assert "\x1b" not in result.err
    assert len(result.err) < 1000
    assert "Give the folder itself" in result.err
    commands._show_warning(f"x{HOSTILE}")
    assert capsys.readouterr().err.startswith(r"note: xa\x1b]52")


def test_lists_in_messages_are_cut():
    names = tuple(f"id{i:04d}" for i in range(1500))
    assert listed(names).endswith("id0028, id0029 and 1,470 more")
    assert listed(("a", "b")) == "a, b"
    assert len(did_you_mean("x" * 10**6, names, "classes")) < 400
    for wanted in ("nope", "1500"):
        with pytest.raises(ValueError) as caught:
            ClassLabel(names).encode([wanted])
        assert len(str(caught.value)) < 600
    assert shorten("x" * 5000).startswith("xxx")
    assert len(shorten("x" * 10**7)) < 2100
    assert shorten("short") == "short"


# Home


def test_the_home_folder_is_meant_wherever_a_path_is_taken(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert Diffusion.load("~/model").size == (8, 8)
    load("~/model").save("~/copy")
    assert (model.parent / "copy" / "model.json").is_file()
    (model.parent / "own.py").write_text("raise SystemExit('home')")
    with pytest.raises(ValueError, match="SystemExit: home"):
        build(Sampler, "~/own.py:Mine")
    assert Settings(start="~/model").with_absolute_paths().start == str(model)


def test_an_unknown_user_has_no_home_folder(cli: Command, tmp_path: Path):
    for words in (("train", "~nosuch/x"), ("sample", "~nosuch/x"), ("train", "portraits", "--out", "~nosuch/x")):
        result = cli(*words)
        assert result.code in (2, 3)
        assert "~nosuch, the home folder of a user who does not exist here" in result.err
    assert expand_home(tmp_path / "~nosuch") == tmp_path / "~nosuch"
