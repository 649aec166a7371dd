"""Checkpoints, their lock and their thread: whatever happens, what was saved before is intact and found."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import atomic_write
from noisekiln.machine.lock import Lock
from noisekiln.training import checkpoints, shards
from noisekiln.training.background import BackgroundWriter

FILES = ["SHA256SUMS", "part-00000-of-00001.safetensors", "state.json"]
NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


def forked(work):
    """Run a function in a forked process; returns its id, for `ended`."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work() or 0)
        finally:
            os._exit(99)  # it must not go on with the tests
    return child


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save(folder, seen, value=None, **settings):
    checkpoints.save(folder, seen, {"x": torch.tensor(seen if value is None else value)}, {"seen": seen}, **settings)


def names(folder):
    return sorted(place.name for place in folder.iterdir())


# What is written is what is read


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tensors = {"a.b": torch.randn(3, 4).mT, "step": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    numbers = {"seconds": 0.1 + 0.2, "words": ["ä", None], "images_seen": 3}
    checkpoints.save(tmp_path / "checkpoints", 3, tensors, numbers)
    back = checkpoints.load_newest(tmp_path / "checkpoints")
    assert back.state == numbers
    assert back.skipped == []
    assert back.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back.tensors[name], tensor)
        assert back.tensors[name].dtype == tensor.dtype


def test_only_safetensors_and_json_with_sums_that_sha256sum_reads(tmp_path):
    save(tmp_path, 12)
    assert names(tmp_path / "000000000012") == FILES
    if shutil.which("sha256sum"):
        check = ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"]
        assert subprocess.run(check, cwd=tmp_path / "000000000012", check=False).returncode == 0


def test_without_checkpoints_there_is_none(tmp_path):
    assert checkpoints.load_newest(tmp_path) is None
    assert checkpoints.load_newest(tmp_path / "nowhere") is None


# What is kept


def test_the_newest_are_kept_and_order_is_by_images(tmp_path):
    for seen in (900, 1000, 20_000):
        save(tmp_path, seen, keep=2)
    assert names(tmp_path) == ["000000001000", "000000020000"]
    assert checkpoints.load_newest(tmp_path).state["seen"] == 20_000
    save(tmp_path, 30_000, keep=1)
    assert names(tmp_path) == ["000000030000"]


def test_keepers_are_the_first_after_each_multiple(tmp_path):
    for seen in range(30, 431, 40):
        save(tmp_path, seen, keep=1, keep_every=100)
    assert checkpoints.list_images_seen(tmp_path) == [110, 230, 310, 430]
    save(tmp_path, 470, keep=2, keep_every=100)
    assert checkpoints.list_images_seen(tmp_path) == [110, 230, 310, 430, 470]


def test_checkpoints_after_the_resumed_one_are_deleted(tmp_path):
    for seen in (10, 20, 30):
        save(tmp_path, seen, keep=3)
    save(tmp_path, 15, keep=1)
    assert checkpoints.list_images_seen(tmp_path) == [15]


def test_only_the_rest_of_a_killed_save_is_removed(tmp_path):
    save(tmp_path, 10)
    save(tmp_path, 20)
    for left in (".000000000030.partial", ".000000000005.removed"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "state.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    checkpoints.delete_checkpoints_after(tmp_path, 10)
    assert names(tmp_path) == ["000000000010", "notes.txt"]


def test_a_second_checkpoint_of_the_same_images_replaces_the_first(tmp_path):
    save(tmp_path, 20, 21)
    save(tmp_path, 20, 22, keep=1)
    assert int(checkpoints.load_newest(tmp_path).tensors["x"]) == 22
    assert names(tmp_path) == ["000000000020"]


def test_a_partial_checkpoint_is_never_read(tmp_path, monkeypatch):
    """A checkpoint is renamed before it is removed: a kill during removal leaves no half checkpoint under its name."""
    removed, rmtree = [], shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda place, **settings: (removed.append(place), rmtree(place, **settings)))
    for seen in (10, 20, 20, 30, 5):
        save(tmp_path, seen, keep=1)
    assert names(tmp_path) == ["000000000005"]
    assert len({place.name for place in removed if place.suffix == ".removed"}) == 4
    assert all(place.name.startswith(".") for place in removed)


# Damage


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_bit_is_detected_and_the_checkpoint_before_is_used(tmp_path, file):
    save(tmp_path, 10)
    save(tmp_path, 20)
    place = tmp_path / "000000000020" / file
    whole = place.read_bytes()
    for at in range(len(whole)):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        back = checkpoints.load_newest(tmp_path)
        assert int(back.tensors["x"]) == 10, at
        (message,) = back.skipped
        assert message.startswith("checkpoint 000000000020 is damaged: ")
    place.write_bytes(whole)
    assert checkpoints.load_newest(tmp_path).skipped == []


@pytest.mark.parametrize("file", FILES)
def test_a_missing_or_cut_file_is_noticed(tmp_path, file):
    save(tmp_path, 10)
    save(tmp_path, 20)
    place = tmp_path / "000000000020" / file
    place.write_bytes(place.read_bytes()[:-1])
    assert file in " ".join(checkpoints.load_newest(tmp_path).skipped)
    place.unlink()
    (message,) = checkpoints.load_newest(tmp_path).skipped
    assert file in message


def test_when_all_are_damaged_each_is_named(tmp_path):
    for seen in (10, 20):
        save(tmp_path, seen)
        (tmp_path / f"{seen:012d}" / "state.json").write_text("{}")
    message = (
        r"No checkpoint in .* \(checkpoint 000000000020 .*'state.json'.*; checkpoint 000000000010 .*\)\. .*Restore"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.load_newest(tmp_path)


# Dying and running out of room, at every call to the system


@pytest.fixture
def quick_disk(monkeypatch):
    """Only a crash of the computer needs a synced disk; after a crash of the process, the files are there."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


CALLS = [
    (shards, "save_file"), (os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "write_text"),
    (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree"),
]  # fmt: skip


def before_call(patch, number, happens):
    """Replace the system calls of a save, from the call of this number on."""
    made = iter(range(10**6))

    def join_with_zeros(real):
        def call(*args, **settings):
            if next(made) >= number:
                happens()
            return real(*args, **settings)

        return call

    for owner, name in CALLS:
        patch.setattr(owner, name, join_with_zeros(getattr(owner, name)))


@pytest.mark.slow
@pytest.mark.parametrize(("seen", "keep"), [(30, 2), (30, 1), (20, 2), (20, 1)])
def test_a_process_that_dies_at_any_call_leaves_the_last_or_the_new_one(tmp_path, monkeypatch, quick_disk, seen, keep):
    """`os._exit` runs no handler and closes nothing, like a kill; also where checkpoint 20 replaces another 20."""
    found = []
    for number in range(100):
        folder = tmp_path / str(number)
        save(folder, 10)
        save(folder, 20)

        def saves(folder=folder, number=number):
            before_call(monkeypatch, number, lambda: os._exit(9))
            save(folder, seen, 77, keep=keep)

        died = ended(forked(saves)) != 0
        back = checkpoints.load_newest(folder)
        assert back.skipped == []
        assert all((folder / name / "state.json").exists() for name in names(folder) if name[0] != ".")
        found.append(int(back.tensors["x"]))
        save(folder, 40)  # and it continues
        checkpoints.delete_checkpoints_after(folder, 40)
        assert int(checkpoints.load_newest(folder).tensors["x"]) == 40
        assert not list(folder.glob(".*"))
        if not died:
            break
    assert number > 10
    assert found == sorted(found)  # the last one, up to one moment; from then on the new one
    assert {found[0], found[-1]} == {20, 77}


def test_a_disk_that_is_full_from_any_call_on_leaves_the_last_and_no_rest(tmp_path, monkeypatch, quick_disk):
    def happens():
        raise NO_ROOM

    found = []
    save(tmp_path, 10)
    for number in range(100):
        with monkeypatch.context() as patch:
            remove = shutil.rmtree
            before_call(patch, number, happens)
            patch.setattr(shutil, "rmtree", remove)  # room can be made
            try:
                save(tmp_path, 20, keep=5)
                break
            except SaveFailed as error:
                message = str(error)
        assert message.startswith(f"The checkpoint after 20 images could not be written to {tmp_path}: No space left")
        assert "The one after 10 is intact. Free some space" in message
        assert not list(tmp_path.glob(".*"))
        assert checkpoints.load_newest(tmp_path).skipped == []
        found.append(len(names(tmp_path)))
    assert number > 7
    assert found[:6] == [1] * 6  # at last the new one has its name, and only that name is not synced
    assert checkpoints.list_images_seen(tmp_path) == [10, 20]


def test_half_a_tensor_file_is_removed_too(tmp_path, monkeypatch):
    def save_half(tensors, file):
        file.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(shards, "save_file", save_half)
    with pytest.raises(SaveFailed, match=r"No space left on device .*No earlier checkpoint exists"):
        save(tmp_path, 20)
    assert names(tmp_path) == []


def test_too_little_space_is_detected_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: type("Usage", (), {"free": 7}))
    monkeypatch.setattr(shards, "save_file", None)  # would be an error of another kind
    with pytest.raises(SaveFailed, match=r"MB are needed, and 0\.0 MB free"):
        save(tmp_path, 20)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system for the names of open files")
def test_files_and_folders_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    done, rename = [], Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name))
    monkeypatch.setattr(Path, "rename", lambda old, new: (done.append("named"), rename(old, new)))
    save(tmp_path / "checkpoints", 20)
    before, after = done[: done.index("named")], done[done.index("named") + 1 :]
    assert {*FILES, ".000000000020.partial"} <= set(before)
    assert before[-1] == ".000000000020.partial"
    assert after == ["checkpoints", tmp_path.name]


# Several processes, which communicate through the folder alone


def part(folder, number, parts, seen=64, **settings):
    tensors = {f"shard{number}": torch.full((3,), number)}
    checkpoints.save(folder, seen, tensors, {"seen": seen}, shard=number, num_shards=parts, **settings)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_each_process_writes_its_part(tmp_path, order):
    def saves(number):
        for seen in (64, 128, 128):  # the last step's may come twice
            part(tmp_path, number, 3, seen, timeout=30.0)
        return checkpoints.list_images_seen(tmp_path) != [64, 128]

    children = []
    for number in order:
        children.append(forked(lambda number=number: saves(number)))
        time.sleep(0.05)
    assert [ended(child) for child in children] == [0, 0, 0]
    back = checkpoints.load_newest(tmp_path)
    assert [list(tensors) for tensors in back.shards] == [["shard0"], ["shard1"], ["shard2"]]
    assert back.tensors["shard2"].tolist() == [2, 2, 2]
    assert names(tmp_path / "000000000128") == [
        "SHA256SUMS", *(f"part-{number:05d}-of-00003.safetensors" for number in range(3)), "state.json",
    ]  # fmt: skip
    (tmp_path / "000000000128" / "part-00001-of-00003.safetensors").unlink()
    assert checkpoints.load_newest(tmp_path).state["seen"] == 64


def test_a_missing_part_is_named_and_nothing_is_left(tmp_path):
    save(tmp_path, 10)
    message = r"process 1 has not written its part, part-00001-of-00002.safetensors, in 0.1 s\..* The one after 10 is"
    with pytest.raises(SaveFailed, match=message):
        part(tmp_path, 0, 2, timeout=0.1)
    with pytest.raises(SaveFailed, match=r"process 0 has not completed it in 0.1 s"):
        part(tmp_path, 1, 2, timeout=0.1)
    assert names(tmp_path) == ["000000000010"]


def test_if_one_process_has_no_space_all_know_soon(tmp_path, monkeypatch):
    failed = []

    def other():
        with pytest.raises(SaveFailed):
            part(tmp_path, 1, 2, timeout=60.0)
        failed.append(time.monotonic())

    thread = threading.Thread(target=other)
    start_time = time.monotonic()
    thread.start()
    while not list(tmp_path.glob(".*/*.sum")):
        time.sleep(0.01)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_check_space", lambda *_: (_ for _ in ()).throw(NO_ROOM))
        with pytest.raises(SaveFailed, match="No space left"):
            part(tmp_path, 0, 2)
    thread.join(10)
    assert failed
    assert failed[0] - start_time < 10
    assert names(tmp_path) == []


# One file


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "run.yaml"
    with atomic_write(file) as draft:
        draft.write_text("one")
    for error in (NO_ROOM, KeyboardInterrupt(), SafetensorError("!")):
        raised = OSError if isinstance(error, SafetensorError) else type(error)
        with pytest.raises(raised), atomic_write(file) as draft:  # noqa: PT012
            draft.write_text("tw")
            raise error
        assert names(tmp_path) == ["run.yaml"]
        assert file.read_text() == "one"
    (tmp_path / ".run.yaml.partial").mkdir()  # of a kill, with what safetensors had there
    (tmp_path / ".run.yaml.partial" / ".tmpX").write_text("half")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(file.read_text()))
    with atomic_write(file) as draft:
        draft.write_text("two")
    assert synced == ["one", "two"]  # the file before it has its name, then the name
    assert names(tmp_path) == ["run.yaml"]


# The lock


HOLD = "import sys, time, pathlib; from noisekiln.machine.lock import Lock\n"
HOLD += "with Lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        message = rf"is in use by process {other.pid} on \S+ since \d{{4}}-.*Wait for the other or stop it, or give"
        with pytest.raises(ValueError, match=message), Lock(tmp_path):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    with Lock(tmp_path):  # the file is still there, and means nothing
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"), Lock(tmp_path):
            pass
    with Lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_accepted(tmp_path, monkeypatch):
    import fcntl

    def flock(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Lock(tmp_path):
        pass


# The thread


def test_background_work_is_done_in_order():
    done, go = [], threading.Event()
    with BackgroundWriter() as background:
        background.submit(lambda: (go.wait(10), done.append(1)))
        assert done == []
        background.check()
        go.set()
        background.submit(lambda: (time.sleep(0.05), done.append(2)))
        assert done == [1]  # the second has waited for the first
    assert done == [1, 2]


def test_an_error_in_the_thread_is_raised_once_in_the_caller():
    def fail():
        raise SaveFailed("no room")

    background = BackgroundWriter()
    for later in (background.wait, lambda: background.submit(print)):
        with background:
            background.submit(fail)
            with pytest.raises(SaveFailed, match="no room"):
                later()
            background.check()
    with pytest.raises(SaveFailed, match="no room"), background:
        background.submit(fail)
    with pytest.raises(ZeroDivisionError) as error, background:  # noqa: PT012
        background.submit(fail)
        _ = 1 / 0
    assert error.value.__notes__ == ["Also in the background: no room"]
    with background:
        background.submit(fail)
        time.sleep(0.2)
        with pytest.raises(SaveFailed):
            background.check()


SLOW = """
import signal, time
from noisekiln.training.background import BackgroundWriter
from noisekiln.machine.interrupt import Interrupt
with Interrupt() as interrupt, BackgroundWriter() as background:
    background.submit(lambda: time.sleep(60))
    signal.raise_signal(signal.SIGINT)  # asks to stop: what is being written is written
    print("waiting", flush=True)
"""


def test_a_second_ctrl_c_does_not_wait_for_the_writing():
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline() == "waiting\n"
    time.sleep(1.2)  # what comes within a second is the same one
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in message


# A limit of the system's own on what is written


def test_a_real_file_size_limit_is_reported_and_leaves_no_partial_checkpoint(tmp_path):
    """The process may write no file above 4 KB: writing the tensors fails halfway."""
    save(tmp_path, 10)

    def saves():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(SaveFailed, match="The one after 10 is intact"):
            checkpoints.save(tmp_path, 20, {"x": torch.zeros(10_000)}, {})
        return 7

    assert ended(forked(saves)) == 7
    assert names(tmp_path) == ["000000000010"]
