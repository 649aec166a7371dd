"""Callbacks of training, and the one that turns notes into Python warnings."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from noisekiln.components.registry import PACKAGE
from noisekiln.distributed import torchrun
from noisekiln.errors import counted, printable
from noisekiln.runs.codec_events import CodecEnd
from noisekiln.runs.events import DataRead, End, Event, Note, Plan

Watch = Callable[[Event], None]
"""Callback of training: called with every event, in the main thread, between two steps."""


def warn(event: Event) -> None:
    """The default `watch`: notes, an early stop, and what was left out or converted become Python warnings."""
    if isinstance(event, DataRead):
        for note in event.data.altered:
            warn_caller(f"{event.data.name}: {note}")
    if isinstance(event, Plan):
        for line in event.notes:
            warn_caller(line)
    if isinstance(event, Note):
        warn_caller(event.text)
    if isinstance(event, End) and event.why == "done" and event.undertrained:
        warn_caller(event.undertrained)
    if isinstance(event, End | CodecEnd) and event.why == "stopped":
        images = counted(event.images_seen, "image")
        warn_caller(f"Stopped and saved after {images}; the same call resumes.")


def warn_caller(text: str) -> None:
    """A Python warning at the line, outside of noisekiln, from which it was called."""
    frame, level = sys._getframe(1), 2
    inside = (PACKAGE, Path(torch.__file__).parent)  # torch's, as `learning` wraps the call
    while frame.f_back is not None and any(map(Path(frame.f_code.co_filename).is_relative_to, inside)):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(text), stacklevel=level)


def watch_of_this_process(watch: Watch | None) -> Watch:
    """The callback of this process: only the first one shows events."""
    check_watch(watch)
    return (watch or warn) if torchrun.rank() == 0 else lambda event: None


def check_watch(watch: object) -> None:
    """Raise ValueError if a callback for events cannot be called; None is no callback."""
    if watch is not None and not callable(watch):
        raise ValueError(
            f"`watch`: a value of the type {type(watch).__name__} was given, which cannot be called with events. "
            "Give a function of one event, or omit it."
        )
