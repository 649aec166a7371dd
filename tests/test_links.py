"""Links, pipes and hard links in a folder: no command writes through them, and none waits for them."""

import os
import threading
from pathlib import Path

import pytest

from noisekiln.files.atomic import atomic_write, open_to_append
from noisekiln.files.json_file import parse_json, read_json, write_json
from noisekiln.files.links import check_no_link_leaves
from noisekiln.files.model_folder import read_weights
from noisekiln.files.plain_file import read_plain_text
from noisekiln.files.yaml_file import read_yaml
from noisekiln.machine.lock import FILE, Lock
from noisekiln.runs.run_folder import RunFolder

PRECIOUS = "precious"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    file = tmp_path / "precious.txt"
    file.write_text(PRECIOUS)
    return file


def test_a_lock_that_is_a_link_is_not_followed(precious: Path, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / FILE).symlink_to(precious)
    with pytest.raises(ValueError, match="is a link, a pipe or a device"), Lock(folder):
        pass
    with pytest.raises(ValueError, match="Remove it"):
        Lock(folder).check()
    assert precious.read_text() == PRECIOUS


def test_a_lock_with_another_name_elsewhere_is_replaced(precious: Path, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    os.link(precious, folder / FILE)
    with Lock(folder), pytest.raises(ValueError, match="in use"):
        Lock(folder).check()
    assert precious.read_text() == PRECIOUS
    assert "process" in (folder / FILE).read_text()


def test_a_lock_that_is_a_pipe_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ValueError, match="a pipe"), Lock(tmp_path):
        pass


def test_an_atomic_write_replaces_a_link_and_what_stands_in_place_of_its_draft(precious: Path, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("file", ".file.partial"):
        (folder / name).symlink_to(precious)
    with atomic_write(folder / "file") as draft:
        draft.write_text("new")
    assert precious.read_text() == PRECIOUS
    assert (folder / "file").read_text() == "new"
    assert not (folder / "file").is_symlink()
    (folder / ".file.partial").write_text("a file instead of a folder")
    with atomic_write(folder / "file") as draft:
        draft.write_text("newer")
    assert sorted(os.listdir(folder)) == ["file"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_appending_never_reaches_a_file_elsewhere(precious: Path, tmp_path: Path, link):
    file = tmp_path / "metrics.jsonl"
    link(precious, file)
    with open_to_append(file) as opened:
        opened.write(" and more")
    assert precious.read_text() == PRECIOUS
    assert file.read_text() == f"{PRECIOUS} and more"


def test_links_that_leave_a_folder_are_found_before_anything_is_written(precious: Path, tmp_path: Path):
    folder = tmp_path / "run"
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("model")
    check_no_link_leaves(folder)
    (tmp_path / "other").symlink_to(folder)
    check_no_link_leaves(tmp_path / "other")  # the folder itself may be one
    check_no_link_leaves(tmp_path / "new")
    (folder / "model" / "deep" / "x").symlink_to(precious)
    with pytest.raises(ValueError, match=r"x is a link to .*precious\.txt, outside of .* Remove the link"):
        check_no_link_leaves(folder)


def test_a_link_to_itself_leads_nowhere(tmp_path: Path):
    for link in (tmp_path / "loop", tmp_path / "run" / "loop"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(link.name)
        check_no_link_leaves(link.parent)
    check_no_link_leaves(tmp_path / "loop")


def test_a_run_whose_model_is_a_link_that_leads_out_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("images: 64")
    (tmp_path / "run" / "model").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="model is a link to"):
        RunFolder(tmp_path / "run").check_is_run_or_empty()


@pytest.mark.parametrize("read", [read_plain_text, read_json, read_yaml, read_weights])
def test_reading_a_pipe_ends_at_once(tmp_path: Path, read):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[BaseException] = []

    def attempt() -> None:
        try:
            read(pipe)
        except ValueError as error:
            found.append(error)

    reader = threading.Thread(target=attempt, daemon=True)
    reader.start()
    reader.join(5)
    assert not reader.is_alive()
    assert "no plain file" in str(found[0])


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"a":' * 100_000, "NaN", '{"a": Infinity}', "-Infinity", "", "{", "9" * 5000, '"\\ud800', "[1,]"],
)
def test_json_from_other_people_is_a_value_or_one_error(text: str):
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 200


def test_names_that_are_not_utf_8_survive_in_json(tmp_path: Path):
    name = b"caf\xe9 \xc3\xa9.png".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "a.json", {"file": name})
    assert read_json(tmp_path / "a.json") == {"file": name}
    assert "é.png" in (tmp_path / "a.json").read_text(encoding="utf-8")


BOMB = ["a0: &a0 [x, x, x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 30))]


@pytest.mark.parametrize(
    "text",
    ["\n".join(BOMB), "a: !!python/name:os.system", "a: !!timestamp x", "[" * 400, "{a: " * 400, "[1", "a: 2001-99-99"],
    ids=["aliases", "python", "tag", "lists", "mappings", "open", "date"],
)  # fmt: skip
def test_yaml_from_other_people_is_a_value_or_one_error(text: str, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 200


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    with (tmp_path / "large").open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(ValueError, match="MiB, more than any"):
        read_json(tmp_path / "large")
