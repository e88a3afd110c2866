"""What the machines that move files have in common: how they end, and how they tell how far they are."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from task_runner.errors import ActionFailed
from task_runner.machines import progress
from task_runner.machines.base import Context
from task_runner.machines.echo import POLITE

#: seconds between two lines of progress
TELL_EVERY = 0.5


class _Stopped(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


def conduct(name: str, work: Callable[[], None]) -> int:
    """Do the work; returns the exit code. A failure is told in one line on standard error.

    A polite signal is raised in the middle of the work, so that it can put away what is half done; then the process
    ends by that signal.
    """
    for number in POLITE:
        signal.signal(number, _stop)
    try:
        work()
        return 0
    except ActionFailed as error:
        print(f"{name}: {_line(str(error))}", file=sys.stderr)
    except OSError as error:
        print(f"{name}: {_line(_in_words(error))}", file=sys.stderr)
    except _Stopped as stop:
        signal.signal(stop.number, signal.SIG_DFL)
        os.kill(os.getpid(), stop.number)
    return 1


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in POLITE:
        signal.signal(each, signal.SIG_IGN)  # a second one finds the work being put away
    raise _Stopped(number)


def _in_words(error: OSError) -> str:
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    return f"{path}: {error.strerror}" if path and error.strerror else error.strerror or str(error)


def _line(text: str) -> str:
    """One line, whatever a server or an archive has put into it."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:2000])


class Meter:
    """Tells of progress, and not more often than anybody reads it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = 0.0

    def at(self, share: float | None, message: str) -> None:
        """So far: ``share`` of the work, from 0 to 1."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TELL_EVERY
            self.end(share, message)

    def end(self, share: float | None, message: str) -> None:
        """The same, told in any case."""
        percent = None if share is None else round(100 * min(max(share, 0.0), 1.0), 1)
        progress.report(self._context, percent, message)


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1024:
        return f"{count} bytes"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"
