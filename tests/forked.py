"""Processes of their own that start at once: forked from one that has imported torch, which takes two seconds."""

import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, get_all_start_methods, get_context
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
CONTEXT = get_context(METHOD)
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
IMPORTED = ["noisekiln.cli", "noisekiln.api", "noisekiln.runs.train", "noisekiln.distributed.wrapping"]
IMPORTED += ["torch._dynamo", "torch.utils.tensorboard", "matplotlib.pyplot"]  # which only some processes import


def noisekiln(*words: str) -> None:
    """The command line, as `python -m noisekiln` runs it, but without the pictures beside the grids of a run."""
    from noisekiln.cli import main
    from noisekiln.runs.run_pictures import RunPictures

    RunPictures.start = RunPictures.finish = lambda self: []
    sys.argv = ["noisekiln", *words]
    main()


def script(file: str, *words: str) -> None:
    """A script, as Python runs it."""
    sys.argv = [file, *words]
    sys.path.insert(0, str(Path(file).parent))
    runpy.run_path(file, run_name="__main__")


def _run(function: Callable[..., None], words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a function with streams, Ctrl+C and environment of its own."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - it stays open until the process ends
    function(*words)


class Forked:
    """A running process, as `subprocess.Popen`; it writes to the files `stdout` and `stderr` of a folder."""

    def __init__(
        self,
        folder: Path,
        *words: object,
        function: Callable[..., None] = noisekiln,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if METHOD == "forkserver":
            forkserver.set_forkserver_preload(IMPORTED)
            with patch.dict(os.environ, ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}):
                forkserver.ensure_running()
        arguments = (function, tuple(map(str, words)), folder, ENVIRONMENT | environment)
        self.process = CONTEXT.Process(target=_run, args=arguments)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Its exit code; the negative number of a signal that killed it; None as long as it runs."""
        return self.process.exitcode

    def wait(self, seconds: float = 60) -> int:
        self.process.join(seconds)
        code = self.poll()
        assert code is not None, f"it still runs after {seconds} seconds"
        return code

    def end(self, seconds: float = 60) -> tuple[int, str, str]:
        """Exit code, output and errors, once it has ended."""
        try:
            return self.wait(seconds), *self.printed()
        finally:
            self.process.kill()

    def printed(self) -> tuple[str, str]:
        """All that it has written to its output and its errors."""
        return (self.folder / "stdout").read_text("utf-8"), (self.folder / "stderr").read_text("utf-8")

    def kill(self) -> None:
        self.process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def forked_ranks(folder: Path, *words: object, function: Callable[..., None] = noisekiln) -> list[Forked]:
    """Two processes that know of each other as if torchrun had started them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
    return [Forked(folder / f"process{of['RANK']}", *words, environment=of, function=function) for of in ranks]
