"""The command line: every file without a leading underscore is a command; torch is imported only when one runs."""

import atexit
import errno
import importlib
import os
import pkgutil
import signal
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from noisekiln.cli._stop import stoppable, stopped_before_saving
from noisekiln.cli._streams import prepare_streams
from noisekiln.cli._usage import UsageError, explain_usage
from noisekiln.cli._words import Command, Group
from noisekiln.components.own_code import explain_own_code
from noisekiln.distributed import torchrun
from noisekiln.errors import NoisekilnError, listed, printable, shorten
from noisekiln.version import VERSION

app = typer.Typer(
    name="noisekiln",
    cls=Group,
    help="Train diffusion models on your own images, from scratch, and use them.",
    epilog="Start with: noisekiln demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    """Print the version and stop."""
    if requested:
        typer.echo(f"noisekiln {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train diffusion models on your own images, from scratch, and use them."""


for found in pkgutil.iter_modules(__path__):
    if not found.name.startswith("_"):
        module = importlib.import_module(f"{__name__}.{found.name}")
        app.command(found.name, cls=Command, epilog=f"Example: {module.EXAMPLE}")(stoppable(module.command))

DISTRIBUTED = ("train", "codec", "sample", "evaluate")  # commands that may run in several processes


def main() -> None:
    """Run a command. Signals are ignored during shutdown, so that a finished command keeps its exit code."""
    prepare_streams()
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # which needs the first argument only
    try:
        run()
    finally:
        _ignore_signals()
        if torchrun.world_size() > 1:
            _exit_at_once(sys.exc_info()[1])


def run() -> None:
    """Run a command; every expected error becomes one message and an exit code, never a traceback."""
    try:
        _check_distributed()
        code = app(prog_name="noisekiln", standalone_mode=len(sys.argv) < 2)  # alone it prints its help
    except UsageError as error:
        *usage, message = explain_usage(error)
        for line in usage:
            print(printable(line), file=sys.stderr)
        _exit_with(message, error.exit_code)
    except Exception as error:  # of any class: what `_explain` does not know is raised again, with its traceback
        _exit_with(*_explain(error))
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(stopped_before_saving())
    if code:
        sys.exit(code)


def _exit_with(message: str, code: int) -> NoReturn:
    """Print a message on standard error, with settings as flags, and exit."""
    from noisekiln.cli._flags import with_flags

    rank = torchrun.rank()
    prefix = "noisekiln" if rank == 0 else f"noisekiln (process {rank})"
    print(f"{prefix}: {printable(shorten(with_flags(message, app)))}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, *_: object) -> None:
    """Show a warning of Python, in the main process, as the notes of noisekiln."""
    if torchrun.rank() == 0:
        print(f"note: {printable(shorten(str(message)))}", file=sys.stderr)


def _explain(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an expected error; any other is raised."""
    if isinstance(error, NoisekilnError):
        return str(error), error.exit_code
    message = _explain_out_of_memory(error) or explain_own_code(error)
    if message is not None:
        return message, 2
    if isinstance(error, ValueError):
        return str(error) if type(error) is ValueError else f"{error}.", 2  # subclasses come from libraries
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        reason = str(error.strerror or error).rstrip(".")
        return f"{where}{reason}. It cannot be read or written. Check the path, its permissions and the free space.", 2
    raise error


def _explain_out_of_memory(error: Exception) -> str | None:
    """The message for a lack of memory; None for any other error."""
    if not isinstance(error, RuntimeError | MemoryError) and getattr(error, "errno", None) != errno.ENOMEM:
        return None
    from noisekiln.machine.memory import is_out_of_memory

    if not is_out_of_memory(error):
        return None
    reason = next(iter(str(error).splitlines()), "").rstrip(".") or "none is left"
    return (
        f"Memory ran out: {reason}. This network or these images do not fit into the free memory. "
        "Use a smaller `model`, `size` or `batch_size`, or a device with more memory."
    )


def _check_distributed() -> None:
    """Raise ValueError if torchrun has started several processes of a command that runs in one."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    count = torchrun.world_size()
    if count > 1 and command and command not in DISTRIBUTED:
        raise ValueError(
            f"{command} was started in {count} processes, but it runs in one: all would write the same files. "
            f"Start it without torchrun, which is for {listed(DISTRIBUTED)}."
        )


def _exit_at_once(error: BaseException | None) -> None:
    """Exit with os._exit, skipping interpreter teardown, which may abort while threads of torch still communicate."""
    if not isinstance(error, SystemExit | None):
        return  # an unexpected error: Python prints it
    code = error.code if error else 0
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _ignore_signals() -> None:
    from noisekiln.machine.interrupt import stop_signals

    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
