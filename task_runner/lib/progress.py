"""The FIFO that takes a task's progress, from the runner's side. The lines are described in machines/progress.py.

Whatever is written is read at once and only the newest is kept, so a writer does not wait, whatever it writes. It is
told twice a second at most; the last is always told.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Sequence

from task_runner.lib.clock import Clock, stamp
from task_runner.machines.progress import LONGEST
from task_runner.model.grant import GrantedAccount
from task_runner.model.status import Progress

#: characters of a message that are kept
LONGEST_MESSAGE = 200
#: seconds between two tellings
INTERVAL = 0.5
_CHUNK = 1 << 16
_DIGITS = frozenset("0123456789.")
#: what a line that makes sense begins with
_BEGINNINGS = frozenset(b"%c" % each for each in b"-.0123456789")


def parse(line: bytes) -> tuple[float | None, str | None] | None:
    """Percent and message of a line, None for what it does not say; None for a line that makes no sense."""
    head, _, rest = line[:LONGEST].decode("utf-8", "replace").rstrip().partition(" ")
    message = "".join(each if each.isprintable() else " " for each in rest.strip())[:LONGEST_MESSAGE] or None
    if head == "-":
        return (None, message) if message else None
    percent = _percent(head.removesuffix("%"))
    return None if percent is None else (percent, message)


def _percent(text: str) -> float | None:
    try:
        value = float(text) if _DIGITS.issuperset(text) else -1.0
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None


class ProgressPipe:
    """The runner's end. `turn` never waits."""

    def __init__(
        self, path: str, clock: Clock, tell: Callable[[], None], account: GrantedAccount | None = None
    ) -> None:
        """Make the FIFO. ``tell`` is called when there is something new to tell; ``account``: who is to write to it.
        Raises OSError."""
        self._path = path
        self._clock = clock
        self._tell = tell
        self._rest = b""
        self._percent: float | None = None
        self._message: str | None = None
        self._said_at = 0.0
        self._told_at = float("-inf")
        self._news = False
        #: grows whenever lines come that make sense
        self.lines = 0
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass  # of a start that found no space for the rest
        # to write as well: so a writer never finds nobody who reads, and there is no end of file between two of them
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise OSError(f"{path} is not a FIFO")
        if account is not None:
            os.fchown(self._fd, account.uid, account.gid)

    @property
    def newest(self) -> Progress | None:
        """What was said last."""
        if not self.lines:
            return None
        return Progress(at=stamp(self._said_at), percent=self._percent, message=self._message)

    def watch(self, poll: select.poll) -> None:
        poll.register(self._fd, select.POLLIN)

    def due(self) -> float | None:
        """When it wants a turn without anything to read, on the monotonic clock."""
        return self._told_at + INTERVAL if self._news else None

    def turn(self, now: float) -> None:
        """Take what has been written; tell it, if it is time."""
        *lines, self._rest = (self._rest + self._read()).split(b"\n")
        self._rest = self._rest[:LONGEST]  # of a line without end the beginning counts
        self._take(lines)
        if self._news and now >= self._told_at + INTERVAL:
            self._told_at, self._news = now, False
            self._tell()

    def close(self) -> None:
        """Take the rest, and let go of the FIFO and of its name: whoever opened it later would wait."""
        while data := self._read():
            self._rest += data
        self._take(self._rest.split(b"\n"))
        os.close(self._fd)
        try:
            os.unlink(self._path)
        except OSError:
            pass

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, _CHUNK)
        except OSError:
            return b""  # nothing there

    def _take(self, lines: Sequence[bytes]) -> None:
        """From the last to the first: most of a flood need not be read."""
        found = False
        for line in reversed(lines):
            first = line[:1]
            if first not in _BEGINNINGS or (found and first == b"-") or (said := parse(line)) is None:
                continue
            percent, message = said
            if not found:
                found, self._message = True, message
            if percent is not None:
                self._percent = percent
                break
        if found:
            self.lines += 1
            self._said_at, self._news = self._clock.time(), True
