"""The terminal: lines for a person, from one of several processes."""

import os
import sys

from rich.console import Console

is_main = os.environ.get("RANK", "0") == "0"  # of several processes the first one prints


class Terminal(Console):
    """A terminal, or a program that may stop reading: then nothing more is printed, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and end nothing (rich would end the program)."""
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
