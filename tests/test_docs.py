"""The documents are executed: what they show works, what they print is printed, what they name exists.

A page's blocks run in order, in one empty folder and one namespace. `python` runs, or is written to the file that its
first line names (`# my_file.py`); `bash` runs; `text` after `python` is what it printed. Budgets, networks and the
sampling of grids are cut so that training takes a second. A block without a kind is an illustration; code that cannot
run is marked <!-- not run: the reason -->.
"""

import ast
import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln

ROOT = Path(__file__).parents[1]
SOURCE = Path(noisekiln.__file__).parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
QUICK = (
    "architecture",
    "CONTRIBUTING",
    "data",
    "design-changes",
    "many-machines",
    "noise",
    "pretrained",
    "python",
)  # to run
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
BLOCK = re.compile(
    r"^(?P<marker><!-- not run: .+? -->\n+)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NAMED_FILE = re.compile(r"# ((?:\w+/)?\w+\.py)\n")
SHORT = {
    "images": 64,
    "batch_size": 32,
    "steps": 2,
    "model": "xs",
}  # a run of a second; None of them where a page says so
LARGEST_BUDGET = 192  # images: some batches of any page


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    line: int
    runs: bool


def blocks(page):
    content = page.read_text(encoding="utf-8")
    return [
        Block(found["kind"], found["text"], content.count("\n", 0, found.start("text")) + 1, not found["marker"])
        for found in BLOCK.finditer(content)
    ]


def short_train(words):
    """A `noisekiln train` command that takes a second; a batch and a size of its own are kept, a small budget too."""
    kept = set(words)
    if "--images" in kept:
        place = words.index("--images") + 1
        words[place] = str(min(int(words[place]), LARGEST_BUDGET))
    words += ["--steps", str(SHORT["steps"])]  # of the grids
    words += [] if "--images" in kept else ["--images", str(SHORT["images"])]
    words += [] if {"--batch", "--batch-size"} & kept else ["--batch", str(SHORT["batch_size"])]
    words += [] if "--model" in kept else ["--model", SHORT["model"]]
    return words


def run_shell(cli, command):
    """One `noisekiln` command, with a budget of seconds."""
    words = shlex.split(command, comments=True)
    assert words[0] == "noisekiln", f"only noisekiln's commands are shown without a marker, not {words[0]!r}"
    if words[1:2] == ["train"]:
        words = short_train(words)
    if words[1:3] == ["codec", "train"]:
        words += ["--images", str(SHORT["images"]), "--batch", str(SHORT["batch_size"])]
    if words[1:2] == ["evaluate"]:
        words += ["-n", "24"]
    result = cli(*words[1:])
    assert result.code == 0, (command, result)


@pytest.fixture(scope="module")
def few_portraits(tmp_path_factory):
    """A folder of bundled sets in which the portraits are a tenth, so that they are encoded in a tenth of the time."""
    from noisekiln.data.find import BUNDLED

    folder = tmp_path_factory.mktemp("bundled")
    with np.load(BUNDLED / "portraits.npz") as arrays:
        captions = b"\n".join(arrays["captions"].tobytes().split(b"\n")[: len(arrays["images"])][::10])
        np.savez(folder / "portraits.npz", images=arrays["images"][::10], captions=np.frombuffer(captions, np.uint8))
    return folder


@pytest.fixture
def a_page_changes_nothing(monkeypatch, tmp_path, few_portraits):
    """`nk.train` is short as the command is; readers of data that a page adds are gone after it."""
    from noisekiln import public
    from noisekiln.data import find, readers
    from noisekiln.monitor import measure, preview

    train = public.train
    monkeypatch.setattr(public, "train", lambda data, **settings: train(data, **SHORT | settings))
    for measured in (measure.measure, measure.measure_codec):
        monkeypatch.setitem(measured.__kwdefaults__, "seconds", 0.0)
    monkeypatch.setitem(preview.PREVIEW, "steps", SHORT["steps"])
    train_codec = public.train_codec
    monkeypatch.setattr(public, "train_codec", lambda data, **settings: train_codec(data, **settings | {"images": 64}))
    monkeypatch.setattr(readers, "__path__", list(readers.__path__))
    monkeypatch.setattr(find, "BUNDLED", few_portraits)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page.stem in QUICK else pytest.mark.slow, id=page.stem) for page in PAGES],
)
def test_the_blocks_of_a_page_run(page, tmp_path, a_page_changes_nothing, measure_briefly, cli):
    namespace, printed = {"__name__": f"docs_{page.stem}"}, None
    for block in blocks(page):
        named = NAMED_FILE.match(block.text)
        if not block.runs or not block.kind:
            printed = None
        elif block.kind == "python" and named:
            (tmp_path / named[1]).parent.mkdir(exist_ok=True)
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            code = compile(ast.increment_lineno(ast.parse(block.text), block.line - 1), page, "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, namespace)
            printed = out.getvalue()
        elif block.kind == "bash":
            for command in block.text.replace("\\\n", " ").strip().splitlines():
                run_shell(cli, command)
        elif block.kind == "text":
            assert block.text == printed, f"{page.name}:{block.line}: this is printed instead:\n{printed}"
        else:
            raise AssertionError(
                f"{page.name}:{block.line}: say what a block of {block.kind!r} is, or why it is not run"
            )


@pytest.mark.slow  # twenty commands
def test_every_line_of_the_notes_is_served(tmp_path, a_page_changes_nothing, cli):
    """The last table of the page on the notes: its commands and calls run in order."""
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, side in [*((str(number), 16) for number in range(12)), ("small", 8)]:
        pixels = generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    page = (ROOT / "docs" / "from-the-notes.md").read_text(encoding="utf-8").partition("## What the notes describe")[2]
    namespace = {"nk": noisekiln, "torch": torch}
    cells = re.findall(r"^\| .* \| (`.*`) \|$", page, re.M)
    assert len(cells) > 25
    for cell in cells:
        for span in re.findall(r"`([^`]+)`", cell):
            if span.startswith("noisekiln "):
                run_shell(cli, span)
            else:
                exec(span, namespace)


@every_page
def test_what_a_page_links_to_is_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_every_page_is_on_the_map():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in DOCS if page.stem != "index" and f"({page.name})" not in index]
    assert not missing


@every_page
def test_what_a_page_names_exists(page):
    """`room/file.py`, `tests/test_x.py::test_y` (a test by itself as `test_y`) and `examples/x.py`."""
    tests = {
        file.name: set(re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.M))
        for file in ROOT.glob("tests/*.py")
    }
    content = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`([\w/]+\.py)(?:::\w+)?`", content):
        places = [ROOT / name, SOURCE / name, *(ROOT / "tests").glob(Path(name).name)]
        written_here = f"# {name}\n" in page.read_text(encoding="utf-8")
        assert written_here or any(place.exists() for place in places), (
            f"{page.name} names {name}, which does not exist"
        )
    for file, name in re.findall(r"`(?:tests/)?(test_\w+\.py)::(\w+)`", content):
        assert name in tests[file], f"{page.name} names {file}::{name}, which does not exist"
    for name in re.findall(r"`(test_\w+)`", content):
        assert any(name in known for known in tests.values()), f"{page.name} names {name}, which does not exist"


@every_page
def test_every_setting_that_a_page_names_exists(page):
    """`--option`s are those of a command of the same page's blocks, of the command line at all, or answered by it."""
    from typer.main import get_command

    from noisekiln.cli import app
    from noisekiln.components.words import tables

    elsewhere = {f"--{word.replace('_', '-')}" for words in tables().values() for word in words}

    whole = get_command(app)
    known = {opt for command in (whole, *whole.commands.values()) for p in command.params for opt in p.opts}
    ours = re.findall(r"`noisekiln [^`]*`|`(--[\w-]+)[^`]*`", page.read_text(encoding="utf-8"))
    assert set(filter(None, ours)) <= known | elsewhere | {"--help", "--version"}


def test_a_benchmark_and_its_record_name_the_same_command():
    def one_line(text: str) -> str:
        return " ".join(text.replace("\\\n", " ").split())

    page, different = one_line((ROOT / "records" / "README.md").read_text(encoding="utf-8")), []
    for file in (ROOT / "benchmarks").glob("*.py"):
        commands = one_line(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")
        for command, record in re.findall(r"(python benchmarks/[^`]*?--record (records/\w+\.json))", commands):
            if record in page and f"{command} " not in page:
                different.append(command)
    assert not different


def test_every_kind_of_component_is_shown():
    """Each room of the registry, and each reader of data, has its own section with a file of the reader's own."""
    from noisekiln.components.registry import rooms

    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    shown = [ast.parse(block.text) for block in blocks(ROOT / "docs" / "extend.md") if NAMED_FILE.match(block.text)]
    imported = {node.module for tree in shown for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [room for room in rooms() if f"`{room}/`" not in page]
    assert not [room for room in rooms() if f"noisekiln.{room}.base" not in imported]
    assert "`data/readers/`" in page
    assert "noisekiln.data.source" in imported


def test_the_architecture_page_names_every_file_once():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Every file")[2]
    named = re.findall(r"`([\w/]+\.py)`", page)
    there = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if not file.name.startswith("__")}
    assert sorted(there - set(named)) == []
    assert sorted(set(named) - there) == []
    assert sorted({name for name in named if named.count(name) > 1}) == []
