"""The terminal: lines of text, printed by the main process only, without characters that would control it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from noisekiln.distributed import torchrun
from noisekiln.errors import printable

is_main = torchrun.rank() == 0  # only the main process prints


class Terminal(Console):
    """Console on which names from files cannot act: only rich itself writes control characters."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed: lines and bars."""
        for text, style, control in super().render(renderable, options):
            lines = text.split("\n")  # where rich has wrapped it
            yield Segment(text if control else "\n".join(map(printable, lines)), style, control)


console = Terminal(highlight=False, soft_wrap=True, quiet=not is_main)


def say(text: str) -> None:
    """Print one line; settings in it are shown as options of the running command."""
    if "`" in text:
        from noisekiln.cli import app
        from noisekiln.cli._flags import with_flags

        text = with_flags(text, app)
    console.print(printable(text), markup=False)


def command_line() -> str:
    """The command as the user entered it, for resuming."""
    words = [*(("torchrun", "...", "-m") if torchrun.is_launched() else ()), "noisekiln", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
