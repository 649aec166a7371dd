"""A format is a file in the folder `readers`, and nothing else is edited to add one."""

import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from noisekiln.data import load, readers
from noisekiln.data.find import discovered

ALLOWED = ("noisekiln.errors", "noisekiln.paths", "noisekiln.files.system_files", "noisekiln.files.sample_folder")

# a reader as someone would add it: files named inside an archive mean what they would mean in a folder
ZIPPED = """
import io, zipfile
from functools import partial
from pathlib import Path
from noisekiln.data.source import Item, Source
from noisekiln.data.tree import source_from_tree

FORMATS = "a zip of images"

def recognises(path: Path) -> int:
    return 2 * (path.suffix == ".zipped")

def read(path: Path) -> Source:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/")]
    return source_from_tree(path.stem, [Item(name, partial(_open, archive, name)) for name in names])

def _open(archive, name):
    return io.BytesIO(archive.read(name))
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zipped.py").write_text(ZIPPED)
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])


def test_every_reader_says_what_it_holds_and_never_raises(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert len(discovered()) >= 4
    for reader in discovered():
        assert reader.FORMATS
        assert reader.recognises(tmp_path / "not there") == 0
        assert reader.recognises(tmp_path / "empty") == 0


@pytest.mark.usefixtures("added")
def test_a_new_reader_is_found_by_existing(tmp_path: Path):

    with zipfile.ZipFile(tmp_path / "pets.zipped", "w") as archive:
        for name in ("cats/1.png", "dogs/1.png", "__MACOSX/cats/._1.png"):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (200, 0, 0)).save(picture, "PNG")
            archive.writestr(name, picture.getvalue())
    data = load(tmp_path / "pets.zipped")
    assert data.class_names == ("cats", "dogs")
    assert data.train.files == ("cats/1.png", "dogs/1.png")


def test_the_room_stands_alone():
    for file in Path(readers.__file__).parents[1].rglob("*.py"):
        imports = re.findall(r"^(?:from|import) (\S+)", file.read_text("utf-8"), re.MULTILINE)
        ours = [name for name in imports if name.startswith("noisekiln")]
        assert all(name.startswith("noisekiln.data") or name in ALLOWED for name in ours), (
            f"{file} must import nothing else from the package"
        )
        assert "torch" not in imports
