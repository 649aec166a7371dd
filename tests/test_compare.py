"""Comparing runs: the table, the curves, samples with equal seeds and conditions, and what cannot be compared."""

import gc
import json
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, Command, make_images
from noisekiln.errors import WouldOverwrite
from noisekiln.files.png_text import read_png_text
from noisekiln.machine.lock import Lock
from noisekiln.plots.comparison_curves import IN_LEGEND, draw_comparison
from noisekiln.plots.comparison_sheet import WIDE, LabelledGrid, draw_grids
from noisekiln.plots.sheet import MARGIN, TITLE
from noisekiln.runs import comparison_samples
from noisekiln.runs.comparison import Comparison
from noisekiln.runs.comparison_conditions import spread
from noisekiln.runs.comparison_samples import ComparedSamples
from noisekiln.runs.comparison_table import count_in_words
from noisekiln.runs.run_summary import read_summary, unique_names
from noisekiln.session.prompts import RequestedConditions

STEPS = {"steps": 2, "sampler": "ddim"}
TRAINING = ("--images", 32, "--batch-size", 8, "--backbone", TINY, "--curves", "none")


def fake_run(folder: Path, **values: Any) -> Path:
    """A run without a model, by its files alone."""
    folder.mkdir(parents=True)
    settings = {"data": "pets", "task": "generate", "prediction": "v", "lr": 0.1, "images": 800} | values.pop(
        "settings", {}
    )
    (folder / "run.yaml").write_text(json.dumps(settings), encoding="utf-8")
    data = {"name": "pets", "images": 20, "size": [8, 8], "channels": 3, "fingerprint": "a"} | values.pop("data", {})
    (folder / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
    lines = values.pop(
        "lines", [{"images_seen": i, "seconds": i / 10, "share": i / 800, "loss": 1.0} for i in (1, 400)]
    )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    for name, content in values.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def held_out_lines(*losses: float) -> list[dict[str, Any]]:
    return [{"images_seen": 100 * i, "seconds": 10.0 * i, "held_out": loss} for i, loss in enumerate(losses, 1)]


def table_of(comparison: Comparison) -> dict[str, list[str]]:
    return dict(comparison.rows())


# The table


def test_the_table_says_what_was_trained_and_how_far(tmp_path: Path):
    first = fake_run(tmp_path / "a", lines=[*held_out_lines(0.5, 0.3, 0.4), {"images_seen": 400, "share": 1.0}])
    second = fake_run(tmp_path / "b", settings={"lr": 0.2, "images": None, "minutes": 2.5, "cooldown": 0.5})
    table = table_of(Comparison.open([first, second]))
    assert table["data"] == ["pets (20 images)"] * 2
    assert table["images"] == ["8x8 RGB"] * 2
    assert table["lr"] == ["0.1", "0.2"]
    assert table["cooldown"] == ["-", "0.5"]
    assert table["budget"] == ["800 images", "2.5 minutes"]
    assert table["progress"] == ["done", "50% of the budget"]
    assert table["images seen"] == ["400", "400"]
    assert table["images/s"] == ["13", "10"]
    assert table["best held-out loss"] == ["0.3000 (after 200 images)", "-"]
    assert "parameters" not in table
    assert "prediction" not in table  # the same in both


def test_the_table_has_the_facts_of_models(class_run: Path, plain_run: Path):
    comparison = Comparison.open([class_run, plain_run])
    table, model = table_of(comparison), nk.load(class_run)
    assert table["condition"] == ["2 classes", "none"]
    assert table["parameters"][0] == count_in_words(sum(weight.numel() for weight in model.parameters()))
    assert table["network"][0].startswith("unet(widths=(32,)")
    assert [count_in_words(count) for count in (7, 1234, 776_540, 12_345_678)] == ["7", "1.23k", "0.777M", "12.3M"]


def test_scores_are_those_of_the_evaluation_and_of_training(tmp_path: Path):
    scores = {"mind": {"value": 0.25, "spread": 0.01, "real": 0.2}, "odd": 3, "worse": {"value": "x"}}
    scores["frechet"] = {"value": 12.0, "title": "Fréchet distance"}
    report = {"scores": scores, "conclusions": [{"question": "quality", "grade": "good"}, 7], "images_seen": 100}
    first = fake_run(tmp_path / "a", evaluation=report)
    second = fake_run(tmp_path / "b", lines=[{"images_seen": 3, "kid": 0.5}])
    comparison = Comparison.open([first, second])
    table = table_of(comparison)
    assert table["MIND"] == ["0.250 ± 0.010 (real 0.200)", "-"]
    assert table["Fréchet distance"] == ["12.0", "-"]
    assert table["last KID in training"] == ["-", "0.5"]
    assert table["quality"] == ["good", "-"]
    assert not {"odd", "worse"} & set(table)
    assert "a: its scores are those after 100 of 400 images" in comparison.notes


@pytest.mark.parametrize("content", ["[]", "{", '{"scores": []}', '{"scores": {"kid": {"value": null}}}', "[" * 9000])
def test_a_damaged_evaluation_is_left_out(tmp_path: Path, content: str):
    run = fake_run(tmp_path / "a")
    (run / "evaluation.json").write_text(content, encoding="utf-8")
    assert read_summary(run, "a").scores == {}


@pytest.mark.parametrize("file", ["run.yaml", "dataset.json", "held_out.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[1]", b'{"a": [[[\n', b"", b'{"size": 3, "images": "x", "data": 7}\n']
)
def test_damaged_files_of_a_run_are_left_out_with_a_note(tmp_path: Path, file: str, content: bytes):
    runs = [fake_run(tmp_path / name) for name in "ab"]
    (runs[0] / file).write_bytes(content)
    comparison = Comparison.open(runs)
    comparison.write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))["runs"][1]["name"] == "b"
    if content == b"\xff\xfe" and file != "metrics.jsonl":
        assert any(note.startswith(f"a: {file} cannot be read") for note in comparison.notes)


def test_names_tell_runs_apart():
    folders = [Path(text) for text in ("/x/a/run", "/x/b/run", "/x/c", "/y/c/model", "/y/d/model-best")]
    assert unique_names(folders) == ["a/run", "b/run", "c", "c/model", "d/model-best"]


def test_a_run_that_trains_says_so(tmp_path: Path):
    runs = [fake_run(tmp_path / name) for name in "ab"]
    with Lock(runs[0]):
        assert table_of(Comparison.open(runs))["progress"][0] == "trains at this moment, 50% of the budget"
    assert table_of(Comparison.open(runs))["progress"][0] == "50% of the budget"


# What can be compared


def test_held_out_losses_are_compared_where_they_mean_the_same(tmp_path: Path):
    first = fake_run(tmp_path / "a", lines=held_out_lines(0.5, 0.3))
    better = fake_run(tmp_path / "b", lines=held_out_lines(0.6, 0.2, 0.4))
    other = fake_run(
        tmp_path / "c", lines=held_out_lines(0.1), data={"fingerprint": "b"}, settings={"prediction": "eps"}
    )
    comparison = Comparison.open([first, better])
    assert comparison.lowest_held_out is not None
    assert comparison.lowest_held_out.name == "b"
    assert not [note for note in comparison.notes if "held-out" in note]
    comparison = Comparison.open([first, better, other])
    assert comparison.lowest_held_out is None
    expected = "held-out losses are not comparable between all of these runs: they differ in images, prediction"
    assert expected in comparison.notes


def test_scores_of_other_features_or_numbers_are_not_compared(tmp_path: Path):
    def notes_on(*evaluations: dict[str, Any]) -> list[str]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        score = {"scores": {"kid": {"value": 1.0}}}
        runs = [fake_run(place / name, evaluation=score | each) for name, each in zip("ab", evaluations, strict=True)]
        return [note for note in Comparison.open(runs).notes if "scores are not comparable" in note]

    report = {"count": 500, "features": {"name": "a"}, "real": "pets"}
    assert notes_on(report, report) == []
    assert "differ in number of images" in notes_on(report, report | {"count": 1000})[0]
    assert "differ in features" in notes_on(report, report | {"features": {"name": "b"}})[0]
    assert "differ in real images" in notes_on(report, report | {"real": "other"})[0]


def test_what_is_no_run_is_left_out_and_one_alone_is_refused(cli: Command, tmp_path: Path, class_run: Path):
    one = fake_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    comparison = Comparison.open([one, class_run, tmp_path / "empty", tmp_path / "none", one / ".." / "a"])
    assert [run.name for run in comparison.runs] == ["a", class_run.name]
    assert [note.partition(":")[0] for note in comparison.notes[:3]] == [
        "the same folder was given more than once; it is compared once",
        "left out",
        "left out",
    ]
    with pytest.raises(ValueError, match="Of 2 folders, 1 can be compared"):
        Comparison.open([one, tmp_path / "empty"])
    with pytest.raises(ValueError, match="a single folder was given"):
        nk.compare(str(one))
    result = cli("compare", one, "--out", tmp_path / "out")
    assert (result.code, "a comparison needs two or more" in result.err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("holds", ["notes.txt", "run.yaml", "curves.png"])
def test_a_folder_with_other_files_is_not_written_to(cli: Command, tmp_path: Path, holds: str):
    runs, out = [fake_run(tmp_path / name) for name in "ab"], tmp_path / "out"
    out.mkdir()
    (out / holds).write_text("mine", encoding="utf-8")
    with pytest.raises(WouldOverwrite):
        nk.compare(runs, out=out)
    result = cli("compare", *runs, "--out", out)
    assert (result.code, holds in result.err) == (2, True)
    assert [file.name for file in out.iterdir()] == [holds]


# Curves


def test_curves_of_all_runs_are_drawn_over_images_and_time():
    lines = [{"images_seen": i, "seconds": i / 2, "loss": 2.0} for i in range(1, 100)]
    scored = [*lines, {"images_seen": 50, "seconds": 25.0, "held_out": 0.5, "mind": 3.0}]
    figure = draw_comparison([("a", lines), ("b $x$", scored)])
    assert figure is not None
    assert [panel.get_ylabel() for panel in figure.axes[:3]] == [
        "training loss (running mean)",
        "held-out loss",
        "MIND",
    ]
    assert [figure.axes[number].get_xlabel() for number in (2, 5)] == ["images seen", "seconds of training"]
    loss, held_out = figure.axes[:2]
    assert [line.get_color() for line in held_out.lines] == [loss.lines[1].get_color()]
    assert figure.axes[4].lines[0].get_xydata().tolist() == [[25, 0.5]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", r"b \$x\$"]
    assert loss.get_xscale() == "linear"
    assert draw_comparison([("a", [{"images_seen": 1}])]) is None


def test_runs_of_very_different_lengths_are_all_seen():
    short, long = (
        [{"images_seen": i * step, "seconds": i * step, "loss": 1.0} for i in range(100)] for step in (1, 1000)
    )
    figure = draw_comparison([("short", short), ("long", long)])
    assert figure is not None
    assert [panel.get_xscale() for panel in figure.axes] == ["log", "log"]


def test_the_legend_of_many_runs_stays_in_the_figure():
    lines = [{"images_seen": i, "seconds": i, "loss": 1.0} for i in range(1, 5)]
    figure = draw_comparison([(f"{'long name ' * 9}{number}", lines) for number in range(50)])
    assert figure is not None
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 > figure.axes[1].get_window_extent().x1
    assert box.x1 < figure.bbox.x1
    assert box.y0 > 0
    assert figure.legends[0].get_texts()[-1].get_text() == f"and {50 - IN_LEGEND} more"
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:32]}
    assert len(styles) == 32


# The sheet of grids


def test_grids_show_the_pixels_in_their_place():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    sheet = np.asarray(draw_grids([LabelledGrid("a", ["one", "two"], pixels)], "title", ""))
    drawn = sheet[MARGIN + TITLE + 66 :, MARGIN:]
    large = pixels.repeat(16, 1).repeat(16, 2)
    assert np.array_equal(drawn[:128, :128], large[0])
    assert np.array_equal(drawn[132:260, 132:260], large[3])


def test_few_grids_of_large_images_show_all_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 200, 150, 3)).astype(np.uint8)
    sheet = np.asarray(draw_grids([LabelledGrid(name, [], pixels) for name in "ab"], "title", ""))
    assert np.array_equal(sheet[MARGIN + TITLE + 66 :, MARGIN:][:200, :150], pixels[0])


@pytest.mark.parametrize("count", [1, 16, 256])
def test_many_grids_of_any_size_fit_on_a_sheet(count: int):
    sizes = [(8, 8, 3), (28, 20, 1), (300, 200, 3), (5, 96, 4)]
    grids = [
        LabelledGrid(f"run {i}", ["x" * 90], np.zeros((count, *sizes[i % 4]), np.uint8), ["many words"] * count)
        for i in range(8 if count < 100 else 2)
    ]
    sheet = draw_grids(grids, "t", "s")
    assert sheet.width <= WIDE + 2 * MARGIN
    drawn = np.asarray(sheet)
    assert (drawn[:, : MARGIN - 1] == 255).all()
    assert (drawn[-MARGIN + 2 :] == 255).all()


# Samples


def sampled(folders: list[Path], **options: Any) -> tuple[ComparedSamples, list[str]]:
    notes: list[str] = []
    samples = ComparedSamples(Comparison.open(folders), note=notes.append, **{"count": 4, **STEPS, **options})
    progress = list(samples.sample())
    assert progress[-1].step == progress[-1].steps
    return samples, notes


def test_samples_have_the_seeds_and_the_classes_that_all_models_know(tmp_path: Path, cli: Command, class_run: Path):
    other = tmp_path / "other"
    assert cli("train", make_images(tmp_path / "data", classes=("bird", "CAT")), "--out", other, *TRAINING).code == 0
    samples, notes = sampled([class_run, other], seed=5, batch_size=3)
    assert notes == []
    assert [grid.labels for grid in samples.grids] == [["Cat"] * 4, ["CAT"] * 4]
    for grid, run in zip(samples.grids, (class_run, other), strict=True):
        expected = nk.load(run).sample(["Cat"] * 4, seed=5, batch_size=3, **STEPS)
        assert np.array_equal(grid.images, torch.as_tensor(expected).numpy())


def test_models_without_a_common_class_show_their_own(tmp_path: Path, cli: Command, class_run: Path):
    other = tmp_path / "other"
    assert cli("train", make_images(tmp_path / "data", classes=("x", "y")), "--out", other, *TRAINING).code == 0
    samples, notes = sampled([class_run, other])
    assert notes == ["the models have no class in common, so each shows its own classes"]
    assert [grid.labels for grid in samples.grids] == [["Cat", "Cat", "dog", "dog"], ["x", "x", "y", "y"]]


def test_prompts_are_those_of_held_out_images(text_run: Path, class_run: Path, plain_run: Path):
    samples, notes = sampled([text_run, class_run, plain_run])
    assert notes == []
    text, classes, plain = [grid.labels for grid in samples.grids]
    assert set(text) <= {"a red picture", "a blue picture"}
    assert (classes, plain) == (["Cat", "Cat", "dog", "dog"], [])


def test_without_the_images_prompts_are_asked_for(tmp_path: Path, cli: Command, class_run: Path):
    data, run = make_images(tmp_path / "data", captions=True), tmp_path / "run"
    assert cli("train", data, "--out", run, *TRAINING).code == 0
    data.rename(tmp_path / "moved")
    samples, notes = sampled([run, class_run])
    assert samples.grids[0].labels == []
    assert len(notes) == 1
    assert "give them as `prompts`" in notes[0]
    make_images(data, captions=True, seed=1)
    _, notes = sampled([run, class_run])
    assert "are not those that it was trained on" in notes[0]
    samples, notes = sampled([run, class_run], requested=RequestedConditions(prompts=["a red picture"]))
    assert [grid.labels for grid in samples.grids] == [["a red picture"] * 4, []]
    assert [note.partition(" (")[0] for note in notes] == [f"{class_run.name}: its samples have no condition"]


@pytest.mark.slow
def test_models_with_a_task_start_from_the_same_sources(tmp_path: Path, cli: Command, class_run: Path):
    data, runs = make_images(tmp_path / "data"), [tmp_path / "one", tmp_path / "two"]
    for seed, run in enumerate(runs):
        assert cli("train", data, "--task", "upscale(factor=2)", "--seed", seed, "--out", run, *TRAINING).code == 0
    cascade = tmp_path / "cascade"
    small = tmp_path / "small"
    assert cli("train", data, "--size", 4, "--out", small, *TRAINING).code == 0
    nk.cascade([small, runs[0]]).save(cascade)
    samples, notes = sampled([*runs, cascade, class_run])
    assert notes == []
    assert [grid.title for grid in samples.grids] == ["sources", "one", "two", "cascade", class_run.name]
    assert samples.finished == ["one", "two", "cascade", class_run.name]
    assert samples.grids[0].images.shape == (4, 8, 8, 3)
    assert samples.grids[3].lines[1].startswith("cascade")
    data.rename(tmp_path / "moved")
    _, notes = sampled([*runs, class_run])
    assert [note.partition(":")[0] for note in notes] == ["one", "two"]


def test_a_damaged_model_is_left_out_of_the_samples(tmp_path: Path, class_run: Path, plain_run: Path):
    broken = tmp_path / "broken"
    nk.load(plain_run).save(broken)
    (broken / "model.safetensors").write_bytes(b"x")
    comparison = Comparison.open([broken, class_run, plain_run])
    assert any(note.startswith("broken: ") for note in comparison.notes)
    samples = ComparedSamples(comparison, count=1, **STEPS)
    assert [each.name for each in samples.sample()] == [class_run.name] * 2 + [plain_run.name] * 2


def test_one_model_is_in_memory_at_a_time(class_run: Path, plain_run: Path, monkeypatch: pytest.MonkeyPatch):
    loaded: list[weakref.ref[nk.Model]] = []

    def load(*words: Any, **options: Any) -> nk.Model:
        gc.collect()
        assert not any(model() for model in loaded)
        model = load_model(*words, **options)
        loaded.append(weakref.ref(model))
        return model

    load_model = comparison_samples.load
    comparison = Comparison.open([class_run, plain_run])
    monkeypatch.setattr(comparison_samples, "load", load)
    samples = ComparedSamples(comparison, count=1, **STEPS)
    assert len(list(samples.sample())) == 4
    assert len(loaded) == 2


def test_values_are_spread_over_images():
    assert spread("ab", 5) == ["a", "a", "a", "b", "b"]
    assert spread("abcdef", 3) == ["a", "c", "e"]


# The command


def test_compare(cli: Command, tmp_path: Path, class_run: Path, plain_run: Path):
    out = tmp_path / "out"
    words = ("compare", class_run, plain_run, "-n", 4, "--steps", 2, "--out", out)
    result = cli(*words)
    assert result.code == 0, result
    assert class_run.name in result.out.splitlines()[0]
    assert f"look at {out / 'grids.png'}" in result.out
    assert {file.name for file in out.iterdir()} == {"compare.json", "curves.png", "curves.svg", "grids.png"}
    text = read_png_text(out / "grids.png")
    assert text is not None
    assert (text["command"], text["models"], text["seed"]) == ("compare", [class_run.name, plain_run.name], 0)
    record = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert [run["images_seen"] for run in record["runs"]] == [1600, 1600]
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert cli(*words).code == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert cli("compare", class_run, plain_run, "-n", 0, "--out", out).code == 0
    assert not (out / "grids.png").exists()


def test_nk_compare(tmp_path: Path, class_run: Path, plain_run: Path):
    comparison = nk.compare([str(class_run), plain_run], out=tmp_path / "out", count=2, seed=3, **STEPS)
    assert (tmp_path / "out" / "grids.png").exists()
    assert table_of(comparison)["images seen"] == ["1,600", "1,600"]
    assert "<td>images seen</td><td>1,600</td>" in comparison._repr_html_()
    assert nk.compare([class_run, plain_run], out=None).notes == []
    assert nk.compare([class_run, class_run / "model"], out=tmp_path / "out", conditions=[1], **STEPS).notes == [
        f"{class_run.name}/model: without the log of a training, so without curves"
    ]
    for condition in ("fish", {"a": 1}):
        comparison = nk.compare([class_run, plain_run], out=tmp_path / "out", count=2, condition=condition, **STEPS)
        assert len([note for note in comparison.notes if "its samples have no condition" in note]) == 2
    with pytest.raises(ValueError, match="`count=-1`"):
        nk.compare([class_run, plain_run], out=tmp_path / "new", count=-1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-n", 257), "at most 256 are possible"),
        (("-n", -1), "Give 1 or more, or 0 for no grids"),
        (("--sampler", "huen"), "Did you mean 'heun'?"),
        (("--device", "gpu"), "gpu"),
        (("--seed", -1), "--seed"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    cli: Command, tmp_path: Path, words: tuple[object, ...], message: str
):
    result = cli("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out", *words)
    assert (result.code, message in result.flat) == (2, True), result
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_the_finished_grids(
    cli: Command, tmp_path: Path, class_run: Path, plain_run: Path, monkeypatch: pytest.MonkeyPatch
):
    conditions = ComparedSamples._sample_one

    def interrupted(self: ComparedSamples, run: Any, model: Any, number: int) -> Any:
        for each in conditions(self, run, model, number):
            if number == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield each

    monkeypatch.setattr(ComparedSamples, "_sample_one", interrupted)
    out = tmp_path / "out"
    result = cli("compare", class_run, plain_run, "-n", 1, "--steps", 2, "--out", out)
    assert result.code == 130
    assert result.out.splitlines()[-1] == (
        f"stopped: 1 of 2 models are sampled, the table and the curves are written; look at {out / 'grids.png'}"
    )
    assert (out / "grids.png").exists()


def test_a_wide_comparison_is_printed_in_parts(cli: Command, tmp_path: Path):
    runs = [fake_run(tmp_path / f"run{number}") for number in range(7)]
    result = cli("compare", *runs, "-n", 0, "--out", tmp_path / "out")
    assert result.code == 0
    assert max(map(len, result.out.partition("note:")[0].splitlines())) <= 80
    assert [sum(f"run{number}" in line for line in result.out.splitlines()[:60]) >= 1 for number in range(7)] == [
        True
    ] * 7
