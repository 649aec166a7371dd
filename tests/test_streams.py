"""Standard output and error: any text in any encoding, a full disk, a reader that has ended, a closed stream."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisekiln.cli import _streams
from noisekiln.cli._streams import REPLACING, prepare_streams

ENCODINGS = ("ascii", "cp932", "euc_jp", "iso8859-2", "cp1252", "latin-1", "utf-8")
TEXT = " 3% · 64 images · cäts 猫 \udcff — …"
PREPARED = "import sys; from noisekiln.cli._streams import prepare_streams; prepare_streams(); "


def python(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_sign_can_be_written_in_every_encoding(encoding: str):
    done = python(
        PREPARED + f"print({TEXT!r}); print({TEXT!r}, file=sys.stderr)", PYTHONIOENCODING=f"{encoding}:strict"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr
    line = done.stdout.decode(encoding).rstrip()
    assert "64 images" in line
    assert ("猫" in line) == (encoding in ("cp932", "euc_jp", "utf-8")) == ("\\u732b" not in line)
    assert "\\udcff" in line  # of a file name that is not UTF-8


def test_signs_become_similar_ones_and_letters_their_number(monkeypatch: pytest.MonkeyPatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)  # as if closed; nothing of this process is changed
    prepare_streams()
    assert TEXT.encode("ascii", REPLACING) == b" 3% - 64 images - c\\xe4ts \\u732b \\udcff - ..."
    assert all(each.isascii() for each in _streams.SIGNS.values())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_printing_and_nothing_else(tmp_path: Path):
    code = PREPARED + "import pathlib; print('x' * 10**6); print('y'); pathlib.Path(sys.argv[1]).write_text('saved')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "file")], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "noisekiln: standard output cannot be written: No space left on device. Nothing more is printed; "
        "files are still written.\n"
    )
    assert (tmp_path / "file").read_text() == "saved"


def test_a_reader_that_has_ended_is_not_worth_a_word():
    code = PREPARED + "[print('x' * 1000, flush=True) for _ in range(500)]; print('end', file=sys.stderr)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"end\n"
    assert process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
def test_closed_streams_are_no_error():
    code = PREPARED + "print('a'); print('b', file=sys.stderr)"
    done = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "$0" >&- 2>&-', code], check=False)
    assert done.returncode == 0


def test_the_program_prepares_its_streams():
    done = python("import sys; sys.argv = ['noisekiln', 'list', 'tâsks']; import noisekiln.cli; noisekiln.cli.main()",
                  PYTHONIOENCODING="ascii:strict")  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"noisekiln: There is no list of 't\\xe2sks'.")
