"""`noisekiln sample`: what is requested is generated, and nothing else is lost."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import Command
from noisekiln.components.limits import MOST_IMAGES
from noisekiln.components.registry import names
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import NotFinite
from noisekiln.files.sample_folder import MAX_INDEX_BYTES, SampleFolder
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.session.prompts import repeat_conditions
from noisekiln.session.session import Session
from noisekiln.session.write_samples import generate_on_ranks


def index(folder: Path) -> list[dict[str, Any]]:
    listed = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    assert isinstance(listed, list)
    return listed


SHOWN = ("file", "seed", "label", "class", "prompt")


def shown(folder: Path) -> list[dict[str, Any]]:
    """What the images of an index show, without how they were made."""
    return [{name: entry[name] for name in SHOWN if name in entry} for entry in index(folder)]


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture).copy()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# What is written


@pytest.mark.slow
def test_folder_of_samples(cli: Command, class_run: Path, tmp_path: Path):
    result = cli(
        "sample", class_run, "--class", "dog", "-n", 3, "--seed", 5, "--steps", 3, "--out", tmp_path / "new" / "out"
    )
    assert result.code == 0, result
    assert "3 images in" in result.out
    assert "grid.png" in result.out
    assert result.err == ""
    out = tmp_path / "new" / "out"
    assert sorted(f.name for f in out.iterdir()) == ["00000.png", "00001.png", "00002.png", "grid.png", "samples.json"]
    assert shown(out) == [{"file": f"{i:05d}.png", "seed": 5 + i, "label": 1, "class": "dog"} for i in range(3)]
    images = [pixels(out / f"{i:05d}.png") for i in range(3)]
    assert [image.shape for image in images] == [(8, 8, 3)] * 3
    assert not np.array_equal(images[0], images[1])
    with Image.open(out / "grid.png") as grid:
        assert max(grid.size) >= 512


def test_default_place_and_number(cli: Command, class_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(class_run / "model", run / "model")
    assert cli("sample", run, "--steps", 1).code == 0
    assert len(index(run / "pictures")) == 16
    assert {tuple(entry) for entry in shown(run / "pictures")} == {("file", "seed")}
    assert cli("sample", run / "model", "--steps", 1, "-n", 1).code == 0
    assert len(index(run / "model" / "pictures")) == 1


@pytest.mark.parametrize(
    ("classes", "count", "labels"),
    [
        (["cat"], 2, [0, 0]),
        (["1"], 2, [1, 1]),
        (["all"], None, [0] * 8 + [1] * 8),
        (["all"], 3, [0, 0, 1]),
        (["DOG", "0"], 4, [1, 1, 0, 0]),
    ],
)
def test_classes(
    cli: Command, class_run: Path, tmp_path: Path, classes: list[str], count: int | None, labels: list[int]
):
    words = [word for name in classes for word in ("--class", name)] + (["-n", str(count)] if count else [])
    result = cli("sample", class_run, *words, "--steps", 1, "--out", tmp_path / "out")
    assert result.code == 0, result
    entries = index(tmp_path / "out")
    assert [entry["label"] for entry in entries] == labels
    assert [entry["class"] for entry in entries] == [("Cat", "dog")[label] for label in labels]


@pytest.mark.slow
def test_prompts(cli: Command, text_run: Path, tmp_path: Path):
    words = ("--prompt", "a red picture", "--prompt", "A blue, blu picture", "-n", 4, "--steps", 2)
    result = cli("sample", text_run, *words, "--out", tmp_path / "out")
    assert result.code == 0, result
    assert "that mean the same or are spelled alike: 'blu' as 'blue'" in result.flat
    assert [entry["prompt"] for entry in index(tmp_path / "out")] == ["a red picture"] * 2 + ["A blue, blu picture"] * 2
    assert {tuple(entry) for entry in shown(tmp_path / "out")} == {("file", "seed", "prompt")}


def test_an_empty_prompt_is_noted_as_no_condition(cli: Command, text_run: Path, tmp_path: Path):
    for number, prompt in enumerate(("", " ", "red")):
        out = tmp_path / str(number)
        result = cli("sample", text_run, "--prompt", prompt, "-n", 1, "--steps", 2, "--out", out)
        assert result.code == 0, result
        empty = "note: an empty prompt stands for no condition: its images are unconditional." in result.out
        assert empty == (prompt != "red")
    assert cli("sample", text_run, "-n", 1, "--steps", 2, "--out", tmp_path / "none").code == 0
    assert (pixels(tmp_path / "0" / "00000.png") == pixels(tmp_path / "none" / "00000.png")).all()


@pytest.mark.slow
def test_without_a_condition(cli: Command, plain_run: Path, tmp_path: Path):
    result = cli("sample", plain_run, "-n", 2, "--steps", 2, "--out", tmp_path / "out")
    assert result.code == 0, result
    assert shown(tmp_path / "out")[1] == {"file": "00001.png", "seed": 1}


def test_seeds_one_by_one(cli: Command, plain_run: Path, tmp_path: Path):
    assert cli("sample", plain_run, "--seed", "3, 7,21", "--steps", 3, "--out", tmp_path / "three").code == 0
    assert [entry["seed"] for entry in index(tmp_path / "three")] == [3, 7, 21]
    assert cli("sample", plain_run, "--seed", "7", "-n", 1, "--steps", 3, "--out", tmp_path / "one").code == 0
    apart = np.abs(
        pixels(tmp_path / "three" / "00001.png").astype(int) - pixels(tmp_path / "one" / "00000.png").astype(int)
    )
    assert apart.max() <= 1


@pytest.mark.parametrize("sampler", names("samplers"))
def test_every_sampler(cli: Command, class_run: Path, tmp_path: Path, sampler: str):
    result = cli(
        "sample", class_run, "--class", "all", "--sampler", sampler, "-n", 4, "--steps", 4, "--out", tmp_path / "o"
    )
    assert result.code == 0, result
    assert pixels(tmp_path / "o" / "00000.png").std() > 0


@pytest.mark.parametrize("schedule", names("schedules"))
def test_every_schedule(cli: Command, plain_run: Path, tmp_path: Path, schedule: str):
    result = cli("sample", plain_run, "--schedule", schedule, "-n", 1, "--steps", 4, "--out", tmp_path / "o")
    assert result.code == 0, result


def test_settings_change_the_picture(cli: Command, class_run: Path, tmp_path: Path):
    """Class, guidance, a sampler with noise, number of steps, and seed each have an effect."""
    settings: list[tuple[object, ...]] = [
        (), ("--class", "cat"), ("--class", "cat", "--guidance", 0), ("--class", "cat", "--guidance", 4),
        ("--sampler", "ddim(eta=1)"), ("--steps", 3), ("--seed", 1), ("--schedule", "cosine"),
    ]  # fmt: skip
    images = []
    for i, words in enumerate(settings):
        steps = () if "--steps" in words else ("--steps", 5)
        assert cli("sample", class_run, *words, *steps, "-n", 1, "--out", tmp_path / str(i)).code == 0
        images.append(pixels(tmp_path / str(i) / "00000.png"))
    for i, one in enumerate(images):
        for j, other in enumerate(images[:i]):
            # Guidance 0 ignores the class: the image is that of no condition.
            alike = np.abs(one.astype(int) - other).max() <= 1
            assert alike == (i == 2 and j == 0), (settings[i], settings[j])


@pytest.mark.parametrize("sampler", names("samplers"))
def test_the_batch_changes_nothing(class_run: Path, sampler: str):
    model = Diffusion.load(class_run)
    conditions = [0, 1, None, "cat", "dog", 0, 1, None]
    whole, *split = (
        model.sample(conditions, seed=4, batch_size=batch, sampler=sampler, steps=6, guidance=2.0).int()
        for batch in (8, 3, 1)
    )
    for part in split:
        assert (whole - part).abs().max() <= 1
        assert (whole != part).float().mean() < 0.01


def test_batch_option(cli: Command, class_run: Path, tmp_path: Path):
    for batch in (1, 3, 8):
        words = ("--class", "all", "-n", 8, "--steps", 4, "--batch-size", batch, "--out", tmp_path / str(batch))
        assert cli("sample", class_run, *words).code == 0
    assert shown(tmp_path / "1") == shown(tmp_path / "3") == shown(tmp_path / "8")
    for i in range(8):
        one, *others = (pixels(tmp_path / str(batch) / f"{i:05d}.png").astype(int) for batch in (1, 3, 8))
        assert all(np.abs(one - other).max() <= 1 for other in others)


def test_conditions_are_repeated():
    assert repeat_conditions([None], None) == ([None] * 16, 4)
    assert repeat_conditions(["a", "b"], None) == (["a"] * 8 + ["b"] * 8, 8)
    assert repeat_conditions(["a", "b"], 5) == (["a", "a", "a", "b", "b"], 2)
    assert repeat_conditions(["a", "b", "c"], 2)[0] == ["a", "b"]
    assert repeat_conditions(["a", "b", "c"], 3) == (["a", "b", "c"], 1)
    assert repeat_conditions([3], 1) == ([3], 1)


def test_conditions_that_get_no_image_are_noted(cli, class_run, tmp_path):
    result = cli("sample", class_run, "--class", "all", "-n", 1, "--steps", 2, "--out", tmp_path / "few")
    assert "note: -n 1 is too small for 2 conditions: 1 of them gets no image." in result.out
    result = cli("sample", class_run, "--class", "all", "-n", 2, "--steps", 2, "--out", tmp_path / "all")
    assert "too small" not in result.out


# What is there already


STARTS_SLOWLY = ("torch._dynamo", "torch.distributed.tensor", "sympy")  # each takes a second or more
IMPORTED = f"""
import sys, torch
before = set(sys.modules)
from noisekiln.cli import main
main()
print(*({set(STARTS_SLOWLY)} & set(sys.modules) - before))
"""


@pytest.mark.slow
def test_sampling_starts_without_what_only_training_needs(text_run: Path, tmp_path: Path):
    words = ["sample", str(text_run), "-n", "1", "--steps", "1", "--out", str(tmp_path / "o")]
    done = subprocess.run([sys.executable, "-c", IMPORTED, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_earlier_samples_are_replaced(cli: Command, plain_run: Path, tmp_path: Path):
    assert cli("sample", plain_run, "-n", 5, "--steps", 1, "--out", tmp_path).code == 0
    assert cli("sample", plain_run, "-n", 2, "--steps", 1, "--out", tmp_path).code == 0
    assert sorted(f.name for f in tmp_path.iterdir()) == ["00000.png", "00001.png", "grid.png", "samples.json"]


@pytest.mark.parametrize(
    "words",
    [
        ("--steps", 0), ("--sampler", "hein"), ("--schedule", "karas"), ("--guidance", -1), ("--class", "bird"),
        ("--class", "cat", "--class", "bird", "--batch-size", 1), ("--seed", "x"), ("-n", 0), ("--batch-size", 0),
    ],
)  # fmt: skip
def test_earlier_samples_survive_a_wrong_command(
    cli: Command, class_run: Path, tmp_path: Path, words: tuple[object, ...]
):
    assert cli("sample", class_run, "-n", 2, "--steps", 1, "--out", tmp_path).code == 0
    before = contents(tmp_path)
    assert cli("sample", class_run, *words, "--out", tmp_path).code == 2
    assert contents(tmp_path) == before


def test_other_files_are_never_touched(cli: Command, plain_run: Path, tmp_path: Path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    result = cli("sample", plain_run, "-n", 1, "--steps", 1, "--out", tmp_path)
    assert result.code == 2
    assert "holds files that are not samples (holiday.jpg)" in result.err
    assert "Give another --out." in result.err
    assert contents(tmp_path) == {"holiday.jpg": b"mine"}


@pytest.mark.parametrize(
    "text", ['[{"file": "holiday.jpg"}]', '[{"file": "../holiday.jpg"}]', "not json", '{"a": 1}', "[3]"]
)
def test_a_foreign_index_deletes_nothing(cli: Command, plain_run: Path, tmp_path: Path, text: str):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    (out / "holiday.jpg").write_bytes(b"mine")
    (out / "samples.json").write_text(text)
    before = contents(tmp_path)
    assert cli("sample", plain_run, "-n", 1, "--steps", 1, "--out", out).code == 2
    assert contents(tmp_path) == before


def test_what_is_finished_is_kept(plain_run: Path, tmp_path: Path):
    session = Session.open(plain_run, tmp_path, device="cpu")
    progress = session.sample([None] * 6, range(6), batch_size=2, steps=2)
    for step, each in enumerate(progress, 1):
        assert (each.step, each.steps) == (step, 6)
        assert len(list(tmp_path.glob("0*.png"))) == 2 * (step // 2)  # written before the event is yielded
        if step == 5:
            break
    progress.close()
    assert [entry["file"] for entry in index(tmp_path)] == [f"{i:05d}.png" for i in range(4)]
    assert (tmp_path / "grid.png").exists()
    list(Session.open(plain_run, tmp_path, device="cpu").sample([None], [0], steps=1))  # and may be replaced
    assert len(index(tmp_path)) == 1


def test_a_session_never_prints(plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    notes: list[str] = []
    for _ in range(2):
        list(Session.open(plain_run, tmp_path, device="cpu", note=notes.append).sample([None], [0], steps=1))
    assert capsys.readouterr() == ("", "")
    assert notes == [f"the 1 earlier image in {tmp_path} will be replaced (give another `out` to keep it)."]


def test_earlier_images_are_noted_only_when_they_will_be_replaced(cli: Command, plain_run: Path, tmp_path: Path):
    assert cli("sample", plain_run, "-n", 2, "--steps", 1, "--out", tmp_path).code == 0
    notes: list[str] = []
    session = Session.open(plain_run, tmp_path, device="cpu", note=notes.append)

    def refuse() -> Iterator[Progress]:
        raise ValueError("in the first step")
        yield

    with pytest.raises(ValueError, match="in the first step"):
        list(session.write_results(refuse()))
    assert notes == []
    list(session.sample([None], [0], steps=1))
    assert notes == [f"the 2 earlier images in {tmp_path} will be replaced (give another `out` to keep them)."]


class Twins(Ranks):
    """Two processes, of which the other one samples the same images."""

    def all_gather(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        return torch.cat([rows, rows])

    def all_reduce_sum(self, values: Any) -> list[float]:
        return [2.0 * value for value in values]


def test_progress_of_several_processes_holds_x_and_images_of_all(plain_run: Path):
    model = Diffusion.load(plain_run)
    alone = model.generate([None] * 2, seeds=[0, 1], steps=2)
    shared = generate_on_ranks(model, [None] * 4, range(4), Twins(0, 2), batch_size=2, steps=2)
    *_, one = alone
    *_, both = shared
    assert torch.equal(both.x, torch.cat([one.x, one.x]))
    assert torch.equal(both.images(), torch.cat([one.images(), one.images()]))


# What is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sampler", "hein"), "There is no sampler called 'hein'. Did you mean 'heun'? Known samplers: "),
        (("--sampler", "ddim(eta=2)"), "ddim(eta=2.0): a share of fresh noise lies between 0 and 1."),
        (("--sampler", "ddim(etta=1)"), "has no setting called 'etta'. Did you mean 'eta'?"),
        (("--sampler", "ddim(eta=x)"), "eta=x is not of the type float. Give a value of that type."),
        (("--sampler", "ddim("), "cannot be read as a setting. Write name, name(setting=value, ...) or FILE.py:Class."),
        (("--schedule", "kosine"), "There is no schedule called 'kosine'. Did you mean 'cosine'?"),
        (("--guidance", -1), "A guidance scale of -1 would lead away from the condition. Use 0"),
        (("--class", "catt"), "There is no class called 'catt'. Did you mean 'Cat'? Known classes: "),
        (("--class", "2"), "There is no class number 2; the model has 2 classes: 0 Cat, 1 dog. Use one of these."),
        (("--class", "all", "--class", "cat"), "There is no class called 'all'."),
        (
            ("--prompt", "a cat"),
            "--prompt 'a cat' was given, but this model's conditions are of the kind 'class': Cat, dog. Use --class.",
        ),
        (("--prompt", "a", "--class", "cat"), "--class and --prompt were given together"),
        (("--steps", 0), "sampling takes at least one step. Give 1 or more; 20 is a good number."),
        (("--steps", -3), "sampling takes at least one step."),
        (("-n", 0), "-n 0: there is nothing to generate. Give 1 or more."),
        (("-n", -2), "-n -2: there is nothing to generate."),
        (("--batch-size", 0), "--batch-size 0: at least one image is sampled at once. Give 1 or more; 64 is common."),
        (("--seed", "x"), "--seed x is not a seed. Give a whole number from 0 to 2^63 - 1, or several as 3,7,21."),
        (("--seed", "-1"), "--seed -1 is not a seed."),
        (("--seed", "1,,2"), "--seed 1,,2 is not a seed."),
        (("--seed", str(2**63)), "is not a seed."),
        (("--seed", "1,2", "-n", 3), "-n 3 was given with 2 seeds. Omit -n, or give 3 seeds."),
        (("--device", "gpu"), "The device 'gpu' is not available; available: "),
    ],
)
def test_refused_with_a_class_model(
    cli: Command, class_run: Path, tmp_path: Path, words: tuple[object, ...], message: str
):
    result = cli("sample", class_run, *words, "--out", tmp_path)
    assert result.code == 2, result
    assert result.err.startswith("noisekiln: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""
    assert not list(tmp_path.iterdir())


def test_refused_with_other_models(cli: Command, plain_run: Path, text_run: Path, tmp_path: Path):
    for words in (("--class", "cat"), ("--class", "all"), ("--class", "0"), ("--prompt", "a cat")):
        result = cli("sample", plain_run, *words, "--out", tmp_path)
        assert result.code == 2
        assert "was requested, but this model was trained without conditions." in result.err
    result = cli("sample", text_run, "--class", "red", "--out", tmp_path)
    assert (
        result.code,
        "--class red was given, but this model's conditions are of the kind 'text'. Use --prompt." in result.err,
    ) == (2, True)


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_no_such_device(cli: Command, plain_run: Path, tmp_path: Path):
    result = cli("sample", plain_run, "--device", "cuda", "--out", tmp_path)
    assert result.code == 2
    assert "The device 'cuda' is not available; available: cpu" in result.err


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_out_that_cannot_be_a_folder(cli: Command, plain_run: Path, tmp_path: Path, out: str):
    (tmp_path / "file").write_bytes(b"mine")
    result = cli("sample", plain_run, "-n", 1, "--steps", 1, "--out", tmp_path / out)
    assert result.code == 2, result
    assert result.err.startswith(f"noisekiln: {tmp_path / out}: ")
    assert "Check the path, its permissions and the free space" in result.err
    assert contents(tmp_path) == {"file": b"mine"}


def test_what_is_no_run(cli: Command, pets: Path, tmp_path: Path):
    result = cli("sample", tmp_path / "nowhere")
    assert result.code == 2
    assert "There is no folder" in result.err
    assert "Give the folder of a run" in result.err
    text = {
        pets: "is not a run: it holds no model/model.json.",
        pets / "Cat" / "0.png": "is a file, and a model is a folder",
    }
    for other, why in text.items():
        result = cli("sample", other)
        assert result.code == 2
        assert why in result.err


def cut(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])


def drop_tensor(file: Path) -> None:
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, file)


def change_json(file: Path, **changes: object) -> None:
    text = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in text.items() if value != "gone"}))


DAMAGE = {
    "json cut off": lambda model: cut(model / "model.json", 0.5),
    "json empty": lambda model: (model / "model.json").write_text(""),
    "json of another kind": lambda model: (model / "model.json").write_text("[1]"),
    "json not text": lambda model: (model / "model.json").write_bytes(b"\xff\xfe\x00"),
    "later format": lambda model: change_json(model / "model.json", format=99),
    "unknown component": lambda model: change_json(model / "model.json", backbone="unot()"),
    "weights gone": lambda model: (model / "model.safetensors").unlink(),
    "weights cut off": lambda model: cut(model / "model.safetensors", 0.7),
    "weights empty": lambda model: (model / "model.safetensors").write_bytes(b""),
    "a tensor gone": lambda model: drop_tensor(model / "model.safetensors"),
    "a setting gone": lambda model: change_json(model / "model.json", noise_label="gone"),
    "unknown prediction": lambda model: change_json(model / "model.json", prediction="w"),
    "unknown sampling": lambda model: change_json(model / "model.json", sampling={"stepps": 3}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_models(cli: Command, class_run: Path, tmp_path: Path, damage: str):
    shutil.copytree(class_run / "model", tmp_path / "run" / "model")
    DAMAGE[damage](tmp_path / "run" / "model")
    result = cli("sample", tmp_path / "run", "-n", 1)
    assert result.code == 2, result
    assert result.err.startswith("noisekiln: ")
    assert not (tmp_path / "run" / "pictures").exists()


def test_models_with_code_of_their_own_are_not_run(cli: Command, class_run: Path, tmp_path: Path):
    shutil.copytree(class_run / "model", tmp_path / "model")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    change_json(tmp_path / "model" / "model.json", backbone=f"{tmp_path / 'evil.py'}:Net()")
    result = cli("sample", tmp_path, "-n", 1)
    assert result.code == 2
    assert "runs the Python code of" in result.err
    assert not (tmp_path / "ran").exists()


def test_the_index_of_the_most_images_that_are_sampled_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An entry has about 400 bytes; what is read otherwise is bounded far below a million of them."""
    assert MAX_INDEX_BYTES > 400 * MOST_IMAGES
    sizes = []
    monkeypatch.setattr("noisekiln.files.json_file.read_plain_text", lambda file, most: sizes.append(most) or "[]")
    (tmp_path / "samples.json").write_text("[]")
    SampleFolder(tmp_path)
    assert set(sizes) == {MAX_INDEX_BYTES}


@pytest.mark.parametrize("ours", [True, False])
def test_images_that_are_not_finite_in_one_process_end_all(plain_run: Path, ours: bool):
    """Otherwise the others wait for its images until the timeout."""

    class Two(Ranks):
        def all_reduce_sum(self, values: Any) -> list[float]:
            return [sum(values) + (not ours)]  # the other process fails if this one does not

        def all_gather(self, rows: torch.Tensor, count: int) -> torch.Tensor:
            raise AssertionError("it waits for images that do not come")

    model = Diffusion.load(plain_run)
    if ours:
        with torch.no_grad():
            next(iter(model.denoiser.parameters())).fill_(torch.nan)
    with pytest.raises(NotFinite, match="NaN or infinite values" if ours else "in another process"):
        list(generate_on_ranks(model, [None] * 4, range(4), Two(0, 2), batch_size=2, steps=1))


def test_a_negative_prompt_without_guidance_is_said_to_change_nothing(text_run, tmp_path, cli):
    words = ("sample", text_run, "--prompt", "a red picture", "--negative", "blue", "-n", 1, "--steps", 2)
    unguided = cli(*words, "--guidance", 1, "--out", tmp_path / "one")
    assert "--negative changes nothing without guidance" in unguided.flat
    assert "changes nothing" not in cli(*words, "--guidance", 2, "--out", tmp_path / "two").flat
