"""The wheel works outside of the repository: it holds its data, its types and its licences, and trains and samples."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import noisekiln
from noisekiln.version import VERSION

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("api_reference", ROOT / "tools" / "api_reference.py")
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the sources, so that nothing that an earlier build left can enter it."""
    if int(metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("building needs setuptools 77")
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=left_out)
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out))
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(copy), *options], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Python in an empty folder, with the unpacked wheel as the only noisekiln."""

    def run(*words):
        environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    return run


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = Path(noisekiln.__file__).parent
    there = {str(file.relative_to(package.parent)) for file in package.rglob("*") if file.is_file()}
    there = {name for name in there if "__pycache__" not in name and not name.endswith(".pyc")}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert there - names == set()
    assert {name for name in names if name.startswith("noisekiln/")} - there == set()
    assert "noisekiln/py.typed" in names
    licences = [name for name in names if "dist-info/licenses/" in name]
    assert sorted(Path(name).name for name in licences) == ["LICENSE", "LICENSE-portraits.txt"]
    assert wheel.name == f"noisekiln-{VERSION}-py3-none-any.whl"


@pytest.mark.slow
def test_the_wheel_answers_trains_samples_and_exports_in_another_folder(run, installed, tmp_path):
    place = run("-c", "import noisekiln; print(noisekiln.__file__)").strip()
    assert Path(place).is_relative_to(installed)
    assert run("-m", "noisekiln", "--version") == f"noisekiln {VERSION}\n"
    assert "train" in run("-m", "noisekiln", "--help")
    small = ("--images", 64, "--batch-size", 32, "--model", "xs", "--steps", 2, "--curves", "none")
    run("-m", "noisekiln", "train", "portraits", "--out", "runs/first", *small)
    run("-m", "noisekiln", "sample", "runs/first", "-n", 2, "--steps", 2, "--out", "pictures")
    assert (tmp_path / "pictures" / "grid.png").is_file()
    run("-m", "noisekiln", "export", "runs/first", "--to", "torch", "exported")
    assert (tmp_path / "exported" / "model.py").is_file()


def test_the_version_is_semantic_and_stands_first_in_the_changelog():
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", VERSION)
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[\w.-]*)\] - \d{4}-\d\d-\d\d$", page, re.M)
    assert released[0] == VERSION
    assert page.index("## [Unreleased]") < page.index(f"## [{VERSION}]")
    kinds = set(re.findall(r"^### (.+)$", page, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_reference_of_the_api_is_up_to_date_and_whole():
    page = TOOL.PAGE.read_text(encoding="utf-8")
    assert page == TOOL.api_reference(), "run python tools/api_reference.py"
    public = [
        name for name in dir(noisekiln) if getattr(noisekiln, name, None) is not None and not name.startswith("_")
    ]
    assert [name for name in public if name in noisekiln.__all__ and f"### nk.{name}\n" not in page] == []
    assert " at 0x" not in page


GOOGLE = """What ``x`` is.

Args:
    one: First
        of all.
    **more: Others.

Raises:
    ValueError: If not."""
MARKDOWN = """What `x` is.

**Args**

* `one`: First
  of all.
* `**more`: Others.

**Raises**

* `ValueError`: If not."""


def test_a_docstring_becomes_markdown():
    assert TOOL.markdown(GOOGLE) == MARKDOWN


def test_an_entry_has_its_signature():
    entry = TOOL.entry("DDIM", noisekiln.DDIM)
    assert "`DDIM(eta=0.0)`" in entry
    assert TOOL.signature(noisekiln.Denoiser) == "(backbone, prediction=..., label=None)"
