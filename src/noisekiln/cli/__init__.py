"""The command line: one file a command, found by being there; nothing heavy is imported before a command runs."""

import atexit
import errno
import importlib
import os
import pkgutil
import signal
import sys

import typer

app = typer.Typer(
    name="noisekiln",
    help="Train diffusion models on your own images, from scratch, and use them.",
    epilog="Begin with: noisekiln demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for found in pkgutil.iter_modules(__path__):
    if not found.name.startswith("_"):
        module = importlib.import_module(f"{__name__}.{found.name}")
        app.command(found.name, epilog=f"Example: {module.EXAMPLE}")(module.command)

EXIT_CODES = {"DataError": 3, "Diverged": 4, "SaveFailed": 5, "LostRank": 6}  # by name: nothing heavy for `--help`


TOGETHER = ("train", "sample")  # commands that several processes share


def main() -> None:
    """Run a command, and hear no signal while Python ends: what is done must not look otherwise."""
    try:
        run()
    finally:
        _hear_nothing()
        if _processes() > 1:
            _leave(sys.exc_info()[1])


def run() -> None:
    """Run a command; every foreseen error is one message and an exit code, never a traceback."""
    try:
        _check_alone()
        app(prog_name="noisekiln")
    except (ValueError, RuntimeError, MemoryError) as error:
        code = EXIT_CODES.get(type(error).__name__, 2 if type(error) is ValueError else None)
        if code is None:
            code, error = 2, ValueError(_out_of_memory(error))  # anything else is raised
        rank = os.environ.get("RANK", "0")
        who = "noisekiln" if rank == "0" else f"noisekiln (process {rank})"
        print(f"{who}: {error}", file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            print(f"noisekiln: {_out_of_memory(error)}", file=sys.stderr)
            sys.exit(2)
        where = f"{error.filename}: " if error.filename else ""
        told = f"{where}{error.strerror or error}. Nothing can be read or written there"
        print(f"noisekiln: {told}; check the path, its rights and the room left.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_alone() -> None:
    """Raise ValueError if torchrun has started a command several times that has one process's work to do."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    count = _processes()
    if count > 1 and command and command not in TOGETHER:
        raise ValueError(
            f"{command} was started {count} times, and it is the work of one process: they would write the same files. "
            f"Start it without torchrun; {' and '.join(TOGETHER)} are shared out."
        )


def _out_of_memory(error: Exception) -> str:
    """What to do about it; raises an error that says something else."""
    from noisekiln.machine.memory import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return (
        f"Memory ran out: {[*str(error).splitlines(), 'there is no more'][0]}. "
        "This network or these images do not fit beside what else there is. "
        "Take a smaller --model, --size or --batch, or a device with more memory."
    )


def _processes() -> int:
    """How many torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def _leave(error: BaseException | None) -> None:
    """End the process without taking Python apart, which aborts now and then while threads of torch's still speak."""
    if not isinstance(error, SystemExit | None):
        return  # nobody foresaw it: Python says so
    code = error.code if error else 0
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _hear_nothing() -> None:
    from noisekiln.machine.interrupt import NAMES

    for number in signal.Signals:
        if number.name in NAMES:
            signal.signal(number, signal.SIG_IGN)
