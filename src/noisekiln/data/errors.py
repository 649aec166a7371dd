"""The one error of the data room."""

from __future__ import annotations


class DataError(ValueError):
    """The data cannot be used: what was given, why that cannot work, what to do (the command line exits with 3)."""

    def __init__(self, given: str, why: str, do: str) -> None:
        """Three parts, each without its full stop: they print as "given: why. Do."."""
        super().__init__(given, why, do)  # all three as args: the error survives pickling, so it can leave a worker

    def __str__(self) -> str:
        """The whole message in one line."""
        given, why, do = self.args
        return f"{given}: {why}. {do}."
