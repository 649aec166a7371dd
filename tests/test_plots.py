"""Pictures that a run draws by itself, and the plot of schedules."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln
from conftest import TINY, Command, make_images
from noisekiln.components.registry import names
from noisekiln.components.spec import build
from noisekiln.data import DataSet, Split, load
from noisekiln.files.png_text import read_png_text
from noisekiln.logs.json_lines import read_metrics
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.plots.contact_sheet import draw_data
from noisekiln.plots.curve import MOST_POINTS, Curve, curve_of, smoothed, thinned
from noisekiln.plots.forward_process import draw_forward, noisy_images
from noisekiln.plots.lettering import fit_text, font_for, wrap_text
from noisekiln.plots.run_curves import draw_run, in_words
from noisekiln.plots.sample_animation import OPTIONS, denoising_frames, save_animation
from noisekiln.plots.schedule_curves import draw_schedules
from noisekiln.plots.sheet import MARGIN, TITLE, fit_into
from noisekiln.runs import run_pictures
from noisekiln.runs.events import Note
from noisekiln.runs.run import Run
from noisekiln.schedules.base import Schedule

SETTINGS = Settings(backbone=TINY, batch_size=8, images=64, curves="none", device="cpu")


def data_of(pixels: np.ndarray, **columns: Any) -> DataSet:
    class_names = columns.pop("class_names", ())
    return DataSet("things", Split(pixels, **columns), None, class_names, (), (), "0" * 16)


def images(count: int, height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


# Curves


def test_curves_are_the_finite_values_of_a_log():
    values = [2.0, float("nan"), None, 1, "x", True, 10**400, 1e300]
    lines = [{"images_seen": 8 * (i + 1), "loss": value} for i, value in enumerate(values)]
    curve = curve_of(lines, "loss")
    assert (curve.x.tolist(), curve.values.tolist()) == ([8, 32], [2, 1])


def test_the_running_mean_keeps_a_straight_line_and_has_no_lag():
    line = np.linspace(3, 1, 400)
    mean = smoothed(line)
    assert np.allclose(mean[10:-10], line[10:-10])
    assert np.array_equal(smoothed(np.array([5.0, 1.0])), [5, 1])
    noise = np.random.default_rng(0).standard_normal(400)
    assert np.abs(smoothed(noise)).std() < 0.5


def test_a_figure_of_a_run_has_its_numbers():
    lines: list[dict[str, Any]] = [{"images_seen": i, "loss": 1 / i, "lr": 0.01} for i in range(1, 200)]
    assert len(plain(draw_run(lines, "a")).axes) == 2
    lines += [{"images_seen": 150, "held_out": 0.3, "train_frozen": 0.2}, {"images_seen": 160, "skipped_step": "nan"}]
    figure = plain(draw_run(lines, "cats $1"))
    loss, held_out, rate = figure.axes
    assert loss.get_yscale() == "log"
    assert [line.get_label() for line in loss.lines] == ["loss of a batch", "running mean", "step skipped"]
    assert held_out.lines[0].get_xydata().tolist() == [[150, 0.3]]
    assert rate.get_xlabel() == "images seen"
    assert "held-out loss 0.3" in " ".join(text.get_text() for text in figure.texts)
    ended = draw_run([*lines, {"images_seen": 205, "held_out": 0.2, "train_frozen": 0.2}], "a")
    assert "after 205 images" in " ".join(text.get_text() for text in plain(ended).texts)
    assert draw_run([], "a") is None
    assert draw_run([{"loss": 1.0}, {"images_seen": 3, "held_out": 1.0}], "a") is None
    negative = draw_run([{"images_seen": 1, "loss": -1.0}, {"images_seen": 9, "loss": 5.0}], "a")
    assert plain(negative).axes[0].get_yscale() == "linear"


def test_a_complete_figure_of_a_run_has_all_that_its_log_has():
    lines: list[dict[str, Any]] = [
        {
            "images_seen": i,
            "seconds": i / 2,
            "loss": 1 / i,
            "lr": 0.01,
            "grad_norm": 2.0,
            "loss/nsr_0-0.05": 1.0,
            "loss/nsr_5-inf": 0.5 / i,
            "loss/other": 3.0,
        }
        for i in range(1, 300)
    ]
    lines += [{"images_seen": 150, "held_out": 0.3, "train_frozen": 0.2}]
    lines += [
        {"images_seen": i, "kid": 0.2, "kid_error": error, "mind": 3.0 - i / 100, "score_images": 500.0}
        for i, error in ((100, 0.01), (200, None), (250, float("nan")))
    ]
    figure = plain(draw_run(lines, "a", complete=True))
    names = ["training loss", "loss by noise level", "error at fixed noise", "KID", "MIND"]
    assert [panel.get_ylabel() for panel in figure.axes] == [*names, "gradient norm", "learning rate"]
    _, levels, _, kid, mind, gradient, _ = figure.axes
    assert [line.get_label() for line in levels.lines] == ["0 to 0.05", "over 5"]
    assert levels.get_legend().get_title().get_text() == "noise-to-signal ratio"
    assert [bar.get_label() for bar in kid.containers] == ["KID of 500 images"]
    (bars,) = kid.containers[0].lines[2]
    assert [np.ptp(segment[:, 1]) for segment in bars.get_segments()] == pytest.approx([0.02, 0, 0])
    assert mind.lines[1].get_xydata().tolist() == [[250, 0.5]]
    assert gradient.lines[1].get_ydata().tolist() == pytest.approx([2.0] * 299)
    assert "after 299 images in 2.49 min: loss 0.00" in figure.texts[1].get_text()
    assert "MIND 0.5" in figure.texts[1].get_text()
    assert draw_run([{"images_seen": 3, "skipped_step": "nan"}], "a", complete=True) is None
    lonely = plain(draw_run([{"images_seen": 3, "mind": 1.0}, {"images_seen": 4}], "a", complete=True))
    assert [panel.get_ylabel() for panel in lonely.axes] == ["MIND"]


def test_legends_stand_beside_the_panels_and_hide_no_curve():
    lines = [
        {"images_seen": i, "loss": 1 / i, "lr": 0.1, "grad_norm": 1.0}
        | {f"loss/nsr_{low}-{low + 1}": 1.0 for low in range(12)}
        for i in range(1, 50)
    ]
    figure = plain(draw_run(lines, "a", complete=True))
    figure.canvas.draw()
    for panel in figure.axes:
        legend, box = panel.get_legend().get_window_extent(), panel.get_window_extent()
        assert legend.x0 > box.x1
        assert legend.x1 < figure.bbox.x1
        assert legend.y0 > box.y0 - 25


def test_a_long_log_is_drawn_by_few_points_of_its_whole_length():
    count = 100_000
    curve = Curve(np.arange(count, dtype=np.float64), np.ones(count))
    drawn = thinned(curve)
    assert len(drawn.x) <= MOST_POINTS
    assert (drawn.x[0], drawn.x[-1]) == (0, count - 1)
    assert thinned(drawn) is drawn
    lines = [{"images_seen": i, "loss": float(i % 2)} for i in range(count)]
    panel = plain(draw_run(lines, "a")).axes[0]
    assert max(len(line.get_xdata()) for line in panel.lines) <= MOST_POINTS
    assert np.ptp(panel.lines[1].get_ydata()) < 0.01  # of all values, not of those that are drawn


def test_durations_are_short():
    assert [in_words(seconds) for seconds in (0.4, 48, 720, 40_000)] == ["0 s", "48 s", "12 min", "11.1 h"]


def plain(figure: Any) -> Any:
    assert figure is not None
    return figure


def test_damaged_lines_of_a_log_are_left_out(tmp_path: Path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_bytes(b'{"images_seen": 1}\n\xff\n[1]\n{"a"\n' + b"[" * 10_000 + b"\n{}\n{")
    assert read_metrics(tmp_path) == [{"images_seen": 1}, {}]


def test_schedules_are_drawn_as_they_are():
    schedules = {name: build(Schedule, name) for name in names("schedules")}
    figure = draw_schedules(schedules)
    alpha, sigma, snr = figure.axes
    for number, (name, schedule) in enumerate(schedules.items()):
        lines = [panel.lines[number] for panel in (alpha, sigma, snr)]
        assert {line.get_label() for line in lines} == {name}
        time = torch.from_numpy(lines[0].get_xdata())
        level = schedule(time)
        assert np.allclose(lines[0].get_ydata(), level.alpha)
        assert np.allclose(lines[1].get_ydata(), level.sigma, atol=1e-11)
        inside = slice(50, 450)
        assert np.allclose(lines[2].get_ydata()[inside], ((level.alpha / level.sigma) ** 2).log()[inside])


def test_plot_schedules(cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert cli("plot", "schedules").out == "wrote schedules.png\n"
    assert cli("plot", "schedules").out == "replaced schedules.png\n"
    text = read_png_text(Path("schedules.png"))
    assert text is not None
    assert text["schedules"] == list(names("schedules"))
    assert cli("plot", "schedules", "--out", "new/a.SVG").code == 0
    svg = Path("new/a.SVG").read_text()
    assert svg.startswith("<?xml")
    assert cli("plot", "schedules", "--out", "new/b.svg").code == 0
    assert Path("new/b.svg").read_text() == svg
    for words, message in [
        (("schedules", "--out", "a.pdf"), "--out a.pdf has the ending '.pdf', and plots are written as PNG or SVG."),
        (("schedules", "--out", "a"), "has the ending 'none'"),
        (("schedules", "--out", "."), "Give a file such as schedules.png"),
        (("schedule",), "Did you mean 'schedules'?"),
    ]:
        result = cli("plot", *words)
        assert (result.code, message in result.err) == (2, True), result


def test_plot_of_a_run(cli: Command, tmp_path: Path):
    run = tmp_path / "cats $x$ 猫"
    run.mkdir()
    log = run / "metrics.jsonl"
    log.write_text('{"images_seen": 8, "loss": 2.0}\n', encoding="utf-8")
    assert cli("plot", run).out == f"wrote {run / 'curves.png'}\nwrote {run / 'curves.svg'}\n"
    text = read_png_text(run / "curves.png")
    assert text is not None
    assert (text["command"], text["model"]) == ("plot", "cats $x$ 猫")
    svg = (run / "curves.svg").read_text(encoding="utf-8")
    assert svg.startswith("<?xml")
    assert cli("plot", run).out.startswith("replaced")
    assert (run / "curves.svg").read_text(encoding="utf-8") == svg
    log.write_text('{"images_seen": 8, "loss": 2.0}\n{"images_\n', encoding="utf-8")
    result = cli("plot", run, "--out", tmp_path / "new" / "a.svg")
    assert result.out.splitlines() == [
        "note: metrics.jsonl: line 2 is damaged and left out; the others stay",
        f"wrote {tmp_path / 'new' / 'a.svg'}",
    ]


def test_what_has_no_curves_is_refused_in_words(cli: Command, tmp_path: Path, class_run: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("", encoding="utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metrics.jsonl").write_text("x\n", encoding="utf-8")
    for place, message in [
        (tmp_path / "none", "no folder of a run"),
        (tmp_path, "is not a run: it holds neither run.yaml nor metrics.jsonl"),
        (tmp_path / "run" / "run.yaml", "is not a run"),
        (tmp_path / "run", "has nothing to plot: it holds no metrics.jsonl yet"),
        (tmp_path / "broken", "has nothing to plot: metrics.jsonl: line 1 is damaged"),
        (class_run / "model", f"Give the folder of the run that trained it, such as {class_run}."),
    ]:
        result = cli("plot", place)
        assert (result.code, message in result.err) == (2, True), result
        assert result.err.count("\n") == 1


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never():
    """Its import takes as long as all of torch's; pyplot keeps every figure, and may open windows."""
    for file in Path(noisekiln.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        at_once = [ast.unparse(node) for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [line for line in at_once if "matplotlib" in line], file
        assert "pyplot" not in text, file


# Sheets


@pytest.mark.parametrize(
    ("side", "size"), [((3, 3), (96, 96)), ((28, 20), (60, 84)), ((256, 128), (48, 96)), ((96, 5), (5, 96))]
)
def test_images_are_enlarged_by_whole_factors_or_reduced(side: tuple[int, int], size: tuple[int, int]):
    assert fit_into(images(1, *side, 3)[0], 96).size == size


def test_noise_that_is_reduced_stays_as_strong():
    noise = images(1, 256, 256, 1)[0]
    assert np.asarray(fit_into(noise, 64, smooth=False)).std() == pytest.approx(noise.std(), rel=0.05)
    assert np.asarray(fit_into(noise, 64)).std() < noise.std() / 2


def test_transparent_images_are_shown_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (np.asarray(fit_into(clear, 4)) == 255).all()


@pytest.mark.parametrize(
    "text", ["a few words of a caption that goes on and on", "一只猫坐在红色的垫子上旁边有一只狗", "x" * 200, "a"]
)
def test_text_fits_into_its_width(text: str):
    font = font_for(text, 12)
    lines = wrap_text(text, font, 100, 3)
    assert len(lines) <= 3
    assert all(font.getlength(line) <= 100 for line in lines)
    whole = "".join(lines).replace(" ", "")
    assert whole == text.replace(" ", "") or (whole[-1] == "…" and text.replace(" ", "").startswith(whole[:-1]))
    assert fit_text("ab", font, 100) == "ab"
    assert wrap_text(" \n ", font, 100, 3) == []


def test_a_contact_sheet_shows_the_pixels_that_are_trained_on():
    pixels = images(3, 8, 8, 3)
    sheet = np.asarray(draw_data(data_of(pixels)))
    for column in range(3):
        left, top = MARGIN + column * 104, MARGIN + TITLE
        assert np.array_equal(sheet[top : top + 96, left : left + 96], pixels[column].repeat(12, 0).repeat(12, 1))


def test_a_contact_sheet_shows_the_conditions_that_are_trained():
    """Of images with classes and few captions, classes are trained; the sheet does not say "(no caption)" then."""
    pixels, classes = images(12, 8, 8, 3), {"labels": np.arange(12) % 2, "class_names": ("left", "right")}
    captions = ("a red fish", *[""] * 11)
    both = data_of(pixels, captions=captions, **classes)
    for kind, alone in {"class": data_of(pixels, **classes), "text": data_of(pixels, captions=captions)}.items():
        drawn, expected = (np.asarray(draw_data(*args))[MARGIN + TITLE :] for args in ((both, kind), (alone,)))
        assert np.array_equal(drawn, expected)
    assert np.array_equal(
        np.asarray(draw_data(both, ""))[MARGIN + TITLE :], np.asarray(draw_data(data_of(pixels)))[MARGIN + TITLE :]
    )


@pytest.mark.parametrize(
    "data",
    [
        data_of(images(1, 3, 3, 1)),
        data_of(images(200, 5, 9, 3)),
        data_of(images(70, 8, 8, 1), labels=np.arange(70) % 17, class_names=tuple(f"class {i}" for i in range(18))),
        data_of(images(7, 256, 256, 3), captions=("a", "", "many words " * 50, "猫", "b", "c", "d")),
        data_of(images(7, 12, 8, 3), partners=images(7, 12, 8, 1)),
        data_of(images(4, 12, 8, 3), partners=images(4, 12, 8, 3), captions=("a", "b", "c", "d")),
        data_of(images(4, 8, 8, 3), partners=images(4, 8, 8, 3), labels=np.zeros(4, np.int64), class_names=("a",)),
    ],
    ids=["one", "many", "classes", "captions", "pairs", "pairs with captions", "pairs with classes"],
)
def test_contact_sheets_of_all_kinds(data: DataSet):
    sheet = draw_data(data)
    assert sheet.width < 1100
    assert sheet.height < 1700
    drawn = np.asarray(sheet)
    assert (drawn[:MARGIN] == 255).all()
    assert (drawn[:, :MARGIN] == 255).all()
    assert drawn.std() > 0


def test_images_on_their_way_to_noise(class_run: Path):
    model = Diffusion.load(class_run)
    pixels = torch.from_numpy(images(2, 8, 8, 3))
    shown, ratios = noisy_images(model, pixels, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert shown.shape == (3, 2, 8, 8, 3)
    assert np.abs(shown[0].astype(int) - pixels.numpy()).max() <= 2  # Karras' curve begins at 0.004
    assert np.isin(shown[2], (0, 255)).mean() < 0.6  # not as bright as noise of 160 times the image
    schedule = build(Schedule, model.sampling.schedule)
    assert ratios == [float(schedule(torch.tensor(time, dtype=torch.float64)).nsr) for time in (0.0, 0.5, 1.0)]
    sheet = draw_forward(model, pixels)
    first = np.asarray(sheet)[MARGIN + TITLE + 40 :][:112, MARGIN : MARGIN + 112]
    assert np.abs(first.astype(int) - pixels[0].numpy().repeat(14, 0).repeat(14, 1)).max() <= 2


def test_an_animation_ends_with_the_samples(class_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = Diffusion.load(class_run)
    monkeypatch.setitem(OPTIONS, "steps", 4)
    frames = denoising_frames(model, ["dog", "Cat", None], source=None, batch_size=2)
    assert frames.shape == (4, 3, 8, 8, 3)
    assert np.array_equal(
        frames[-1], torch.as_tensor(model.sample(["dog", "Cat", None], seeds=range(3), **OPTIONS)).numpy()
    )
    save_animation(frames, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert (animation.n_frames, animation.info["loop"]) == (4, 0)
        assert max(animation.size) <= 310
        animation.seek(3)
        assert animation.info["duration"] > 1000


# In a run


def pictures_of(folder: Path) -> set[str]:
    return {file.name for file in (folder.iterdir() if folder.exists() else ()) if file.suffix in (".png", ".gif")}


ALL = {"loss.png", "data.png", "forward.png", "denoising.gif"}


@pytest.mark.usefixtures("draws_pictures")
@pytest.mark.parametrize("kind", ["class", "text", "grey", "task", "single"])
def test_every_run_draws_them(tmp_path: Path, kind: str):
    settings = SETTINGS
    if kind == "grey":
        data = load(images(20, 8, 12, 1))
    elif kind == "single":
        data = load(images(1, 4, 4, 3))
        settings = settings.replace(batch_size=1, images=4)
    else:
        folder = make_images(
            tmp_path / "data", classes=("Cat", "dog") if kind == "class" else (), captions=kind == "text"
        )
        data = load(folder)
        settings = settings.replace(task="upscale" if kind == "task" else "generate")
    run = Run(settings, data, tmp_path / "run")
    drawn = []
    for event in run.events():
        assert not isinstance(event, Note), event
        drawn.append(pictures_of(tmp_path / "run"))
    assert {"data.png", "forward.png"} <= next(shown for shown in drawn if shown)  # before the first step
    assert pictures_of(tmp_path / "run") == ALL
    text = read_png_text(tmp_path / "run" / "loss.png")
    assert text is not None
    assert (text["command"], text["model"], text["images_seen"]) == ("train", "run", run.trainer.images_seen)


@pytest.mark.usefixtures("draws_pictures")
@pytest.mark.parametrize(("cond", "kind"), [("auto", "class"), ("text", "text"), ("none", "")])
def test_a_run_shows_the_conditions_that_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cond: str, kind: str
):
    data = load(make_images(tmp_path / "data", classes=("Cat", "dog")))
    data = replace(data, train=replace(data.train, captions=("a cat",) * 4 + ("",) * (len(data.train) - 4)))
    drawn: list[str | None] = []
    monkeypatch.setattr("noisekiln.runs.run_pictures.draw_data", lambda data, kind=None: drawn.append(kind))
    Run(SETTINGS.replace(cond=cond), data, tmp_path / "run").pictures.start()
    assert drawn == [kind]


@pytest.mark.usefixtures("draws_pictures")
def test_a_resumed_run_continues_its_curves(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    curves = []
    monkeypatch.setattr(
        run_pictures, "draw_run", lambda lines, name: curves.append([each["images_seen"] for each in lines])
    )
    data = load(pets)
    always = Intervals(log_seconds=0.0, grids_at=(0.5,))
    for count in (64, 128):
        list(Run(SETTINGS.replace(images=count), data, tmp_path, intervals=always).events())
    assert curves[-1][0] == 8
    assert curves[-1][-1] == 128
    assert sorted(set(curves[-1])) == curves[-1]


@pytest.mark.usefixtures("draws_pictures")
def test_an_error_in_drawing_ends_no_run(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ink.\nsecond line")

    for name in ("draw_data", "draw_forward", "draw_run", "denoising_frames"):
        monkeypatch.setattr(run_pictures, name, fail)
    notes = [event.text for event in Run(SETTINGS, load(pets), tmp_path).events() if isinstance(event, Note)]
    assert notes == [
        f"{name} could not be drawn (no ink); training does not need it"
        for name in ("data.png", "forward.png", "loss.png", "denoising.gif")
    ]
    assert pictures_of(tmp_path) == set()
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("draws_pictures")
def test_pictures_change_no_weight(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = load(pets)
    list(Run(SETTINGS, data, tmp_path / "with").events())
    for method in ("start", "after_grid", "finish"):
        monkeypatch.setattr(run_pictures.RunPictures, method, lambda self: [])
    list(Run(SETTINGS, data, tmp_path / "without").events())
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]
    assert pictures_of(tmp_path / "without") == set()


def test_the_loss_is_not_drawn_again_and_again(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Drawing it takes at most a hundredth of the time."""
    run = Run(SETTINGS, load(pets), tmp_path)
    drawn = []
    monkeypatch.setattr(run_pictures, "draw_run", lambda lines, name: drawn.append(run.trainer.seconds))
    for seconds in range(0, 100, 2):
        run.trainer.seconds = float(seconds)
        run.pictures._cost = 0.2
        assert run.pictures.after_grid() == []
    assert drawn == [20, 40, 60, 80]
