"""Name of the processor."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The processor by the name that its maker gave it, such as "AMD EPYC 7B13"; its architecture if that is unknown.

    Python knows it on Windows and macOS; Linux has it in a file.
    """
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
