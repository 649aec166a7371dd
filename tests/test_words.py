"""Names that options, commands, settings and components have elsewhere."""

import re
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import noisekiln
from conftest import TINY, Command
from noisekiln.backbones.unet import Unet
from noisekiln.cli import app
from noisekiln.cli._flags import SETTING
from noisekiln.cli._words import SYNONYMS
from noisekiln.components.registry import did_you_mean, find, names, rooms
from noisekiln.components.spec import build
from noisekiln.components.words import FILE, answer, as_name, tables
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.predictions import PREDICTIONS
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {parameter.name for command in COMMANDS.values() for parameter in command.params}
KNOWN = {  # what answers of a table may name in quotes
    **{room.replace("_", " "): {*names(room), *(name.partition("_")[0] for name in names(room))} for room in rooms()},
    "prediction types": set(PREDICTIONS),
    "values of `cond`": {"class", "text", "none", "auto"},
    "values of `precision`": {"fp32", "fp16", "bf16"},
    "sizes": set(Unet.sizes),
    "tasks": {GENERATE, *names("tasks")},
}


@pytest.mark.parametrize("kind", tables())
def test_answers_name_what_exists_and_words_that_do_not(kind: str):
    answers = tables()[kind]
    for word, text in answers.items():
        assert word == as_name(word), word
        for setting, value in SETTING.findall(text):
            assert setting in OPTIONS | {"condition", "missing", "channels"}, text
            assert not value or Settings.of(**{setting: _number_or_text(value)}), text
        for name in re.findall(r"'([^']*)'", text.replace("Euler's", "").replace("DDPM's", "")):
            assert name in KNOWN.get(kind, ()) or name in {"rectified", "flow"}, text
        for command in re.findall(r"`noisekiln (\w+)", text):
            assert command in COMMANDS, text
    assert not set(answers) & KNOWN.get(kind, set())
    assert kind != "settings" or not set(answers) & set(vars(Settings()))


def _number_or_text(value: str) -> str | int:
    return int(value) if value.isdecimal() else value


def test_a_word_stands_once_in_its_table():
    for kind, part in re.findall(r"^([a-z][^:\n]*):\n((?:  .*\n)+)", FILE.read_text(encoding="utf-8"), re.MULTILINE):
        words = re.findall(r"\w+", re.sub(r'^  "(?:[^"])*":', "", part, flags=re.MULTILINE))
        assert sorted(words) == sorted(tables()[kind]), kind


def test_words_are_read_in_any_writing():
    assert as_name(" DPM++ 2M Karras ") == "dpmpp_2m_karras"
    assert as_name("--Learning-Rate") == "learning_rate"
    assert answer("samplers", "Euler a") == "It is 'ancestral' here."
    assert answer("samplers", "heun") is None
    assert answer("nothing", "heun") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "x", "--learning-rate", "1e-4"), "There is no option --learning-rate. It is --lr here."),
        (("train", "x", "--num-train-epochs=3"), "There is no option --num-train-epochs. It is --epochs here."),
        (("train", "x", "--max-train-steps", 9), "--images (steps times --batch-size)"),
        (("train", "x", "--num-steps", 9), "--images (steps times --batch-size)"),
        (("train", "x", "--num-inference-steps", 9), "It is --steps here."),
        (("train", "x", "--pretrained-model-name-or-path", "y"), "It is --from here"),
        (("train", "x", "--mixed-precision", "fp16"), "It is --precision here"),
        (("train", "x", "--fp16"), "It is --precision fp16 here"),
        (("train", "x", "--ema-decay", 0.99), "It is --ema-length here, a share of training instead of a rate."),
        (("train", "x", "--resume"), "the same command resumes"),
        (("sample", "x", "--guidance-scale", 2), "It is --guidance here."),
        (("sample", "x", "--num-images", 2), "It is -n here."),
        (("sample", "x", "--class-label", 2), "It is --class here."),
        (("inpaint", "x", "y", "--mask-image", "z"), "It is --mask here."),
        (("generate", "x"), "There is no command generate. It is `noisekiln sample` here."),
        (("train", "x", "--precision", "no"), "--precision no is not a choice. It is 'fp32' here."),
        (("train", "x", "--prediction", "v_prediction"), "It is 'v' here"),
        (("train", "x", "--sampler", "ddpm"), "There is no sampler called 'ddpm'. It is 'ancestral' here."),
        (("train", "x", "--optimizer", "AdamW8bit"), "use 'adamw'"),
    ],
)
def test_a_name_of_elsewhere_gets_an_exact_answer(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    result = cli(*words)
    assert result.code == 2
    assert message in result.err, result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.slow
def test_names_that_are_taken_do_the_same(cli: Command, pets: Path, class_run: Path, tmp_path: Path):
    assert set(SYNONYMS.values()) == {"--size", "--steps"}
    words = ("--images", 16, "--batch-size", 8, "--backbone", TINY, "--curves", "none", "--dry-run")
    result = cli("train", pets, "--image-size", "12", *words, "--out", tmp_path / "r")
    assert "12x12 pixels" in result.out
    for number, option in enumerate(("--steps=2", "--num-steps=2", "--num-inference-steps=2")):
        assert cli("sample", class_run, option, "-n", 1, "--out", tmp_path / str(number)).code == 0
    images = {(tmp_path / str(number) / "00000.png").read_bytes() for number in range(3)}
    assert len(images) == 1
    after = cli("edit", class_run, "--", "--resume", "no")  # words after -- are no options
    assert "There is no option" not in after.err


def test_unknown_options_and_commands_without_an_answer_are_still_refused(cli: Command):
    assert "No such option: --nonsense" in cli("train", "x", "--nonsense").err
    assert "nonsense" in cli("nonsense").err


def test_names_of_elsewhere_in_python(pets: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"'learning_rate'. It is `lr` here"):
        Settings.of(learning_rate=1e-4)
    with pytest.raises(ValueError, match=r"no sampler called 'dpm\+\+ 2m'. Did you mean 'dpmpp_2m'"):
        build(Sampler, "dpm++ 2m")
    with pytest.raises(ValueError, match=r"'squaredcos_cap_v2'. It is 'cosine' here"):
        find(Schedule, "squaredcos_cap_v2")
    with pytest.raises(ValueError, match=r"'lion'. It has no equal here"):
        build(OptimizerFactory, "lion(beta1=0.9)")
    with pytest.raises(ValueError, match=r"`model=small` is not a size of unet. It is 's' here"):
        resolve(Settings(model="small"), noisekiln.data.load(pets))
    assert did_you_mean("hein", ["heun"], "samplers") == "Did you mean 'heun'? Known samplers: heun."


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("num_inference_steps", "It is `steps` here"),
        ("guidance_scale", "It is `guidance` here"),
        ("prompt", "It is the first argument here"),
        ("num_images", "It is the first argument here"),
        ("generator", "It is `seed` here"),
        ("stepps", "Did you mean 'steps'"),
    ],
)
def test_names_of_elsewhere_in_sample(class_run: Path, name: str, says: str):
    with pytest.raises(ValueError, match=f"There is no option called '{name}'. {says}"):
        noisekiln.load(class_run).sample(1, **{name: 1})


def test_steps_of_training_are_not_silently_those_of_sampling(pets: Path):
    with pytest.raises(ValueError, match=r"`steps=10000` is the number of sampling steps .* `images=160000`"):
        Settings(steps=10000, batch_size=16)
    assert Settings(steps=1000).notes == [
        "`steps=1000` is the number of sampling steps of the model's images; how long to train is set by `epochs`, "
        "`minutes` or `images`"
    ]
    assert Settings(steps=99).notes == []
    assert Settings().notes == []


def test_many_steps_are_noted_when_training(cli: Command, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("noisekiln.runs.grids.Grids.sheet", lambda self, **options: torch.zeros(4, 4, 3).byte().numpy())
    result = cli("train", pets, "--images", 8, "--batch-size", 8, "--backbone", TINY, "--curves", "none",
                 "--steps", 500, "--out", tmp_path / "r")  # fmt: skip
    assert "note: --steps 500 is the number of sampling steps" in result.out


def test_version(cli: Command):
    assert cli("--version").out == f"noisekiln {noisekiln.__version__}\n"
    assert "--version" in cli("--help").out


def test_the_page_of_names_is_true():
    page = (Path(__file__).parents[1] / "docs" / "choose.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*--.*|\w+: .*) \| (.*) \|$", page.partition("## Names from elsewhere")[2], re.MULTILINE)
    assert len(rows) > 7
    for elsewhere, _ in rows[1:]:
        for option in re.findall(r"`(--[\w-]+)`", elsewhere):
            assert answer("settings", option) or answer("options", option), option
        kind, _, words = elsewhere.partition(": ")
        for word in words.split(", ") if words else []:
            kind_of_answer = "prediction types" if kind == "predictions" else kind
            known = {as_name(name) for name in KNOWN.get(kind, ())}
            assert as_name(word) in known or answer(kind_of_answer, word), word
