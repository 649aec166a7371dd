"""The terminal: lines of text, printed by the main process only."""

import os
import sys

from rich.console import Console

from noisekiln.distributed import torchrun

is_main = torchrun.rank() == 0  # only the main process prints


class Terminal(Console):
    """Console whose output may be a pipe; if its reader ends, printing stops and the command continues."""

    def on_broken_pipe(self) -> None:
        """Stop printing, but do not end the program, as rich would."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = Terminal(highlight=False, soft_wrap=True, quiet=not is_main)


def say(text: str) -> None:
    """Print a line; settings in it are shown as options of the running command."""
    if "`" in text:
        from noisekiln.cli import app
        from noisekiln.cli._flags import with_flags

        text = with_flags(text, app)
    console.print(text, markup=False)
