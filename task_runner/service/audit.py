"""The audit log: who did what, from where, and with what result, as lines of JSON in <state>/audit.log.

Promise: no request waits for it. A line is handed over when the answer begins, and a thread of its own gives it to the
kernel as soon as it can, usually within some 10 milliseconds: what the thread has not come to is lost if the daemon is
killed. Once a second it brings to stable storage what has come: that much a power cut takes. A line is never changed.
What cannot be written (a full disk) waits, and is written later; what waits beyond a limit is counted, and the count is
written.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from task_runner.errors import Refused
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.taskdir import write_all
from task_runner.service.refusals import Entry, Refusals

log = logging.getLogger(__name__)

#: lines that may wait
MOST_WAITING = 10_000
#: seconds between two times that lines are brought to stable storage, or tried to be written again
PAUSE = 1.0
#: seconds for more to come before the thread takes up what has: a turn for each request would slow those down
GATHER = 0.01
_BLOCK = 64 * 1024
#: json.dumps would make an encoder for each line, which takes longer than the line
_encode = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """One file and those that it was called before. ``keep``: how many of those; the oldest is removed."""

    def __init__(self, path: str, *, max_bytes: int, keep: int, clock: Clock) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._queue: queue.SimpleQueue[Entry | threading.Event | None] = queue.SimpleQueue()
        self._refusals = Refusals()
        self._thread: threading.Thread | None = None
        #: of the files' names
        self._naming = threading.Lock()
        self._file: int | None = None
        self._size = 0
        self._waiting: list[bytes] = []
        self._dropped = 0
        self._counting = threading.Lock()
        #: something was written that was not brought to stable storage
        self._dirty = False
        self._synced = 0.0
        self._trouble = False

    # -- from the daemon

    def open(self) -> None:
        """Begin. Raises Refused where something else than a file is in its place."""
        try:
            self._open()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # on a full disk the daemon serves all the same
                raise Refused(f"{self.path} cannot be written: {error.strerror}") from None
            self._complain(error)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def note(self, entry: Entry) -> None:
        """Have a line written."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(entry)
        else:
            self._drop()

    def refused(self, kind: Hashable, make: Callable[[], Entry]) -> None:
        """Have a refused request noted, or counted where others like it were there (`Refusals`)."""
        if (entry := self._refusals.count(kind, self._clock.monotonic(), make)) is not None:
            self.note(entry)

    def tail(self, limit: int) -> list[Entry]:
        """The last lines, oldest first, with all that was noted before. Blocks for the disk."""
        written = threading.Event()
        if self._thread is not None and self._thread.is_alive():
            self._queue.put(written)
            written.wait(5 * PAUSE)
        lines: list[bytes] = []
        for fd in self._opened():
            try:
                if len(lines) < limit:
                    lines = [*last_lines(fd, limit - len(lines)), *lines]
            finally:
                os.close(fd)
        return [_parsed(line) for line in lines]

    def _opened(self) -> list[int]:
        """The files that there are, the newest first."""
        found = []
        with self._naming:
            for path in self._paths():
                try:
                    found.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
                except OSError:
                    continue
        return found

    def _paths(self) -> list[str]:
        return [self.path, *(f"{self.path}.{number}" for number in range(1, self._keep + 1))]

    # -- in the thread

    def _run(self) -> None:
        ended = False
        while not ended:
            ended, asked = self._take()
            self._waiting += [_line(entry) for entry in self._refusals.due(*self._now(last=ended))]
            self._write()
            self._sync(last=ended)
            for each in asked:
                each.set()

    def _take(self) -> tuple[bool, list[threading.Event]]:
        """Put what has come among what waits; returns whether it was the last, and who wants to be told of it."""
        asked: list[threading.Event] = []
        try:
            item = self._queue.get(timeout=self._patience())
            time.sleep(GATHER)
            while item is not None:
                if isinstance(item, threading.Event):
                    asked.append(item)
                elif len(self._waiting) < MOST_WAITING:
                    self._waiting.append(_line(item))
                else:
                    self._drop()
                item = self._queue.get_nowait()
        except queue.Empty:
            return False, asked
        return True, asked

    def _patience(self) -> float | None:
        """How long there is nothing to do, if nothing comes."""
        if self._dirty or self._waiting:
            return PAUSE
        due = self._refusals.next_due()
        return None if due is None else max(0.0, due - self._clock.monotonic()) + 0.01

    def _now(self, *, last: bool) -> tuple[float, str]:
        """The time for what is counted: at the end all of it is told."""
        return float("inf") if last else self._clock.monotonic(), stamp(self._clock.time())

    def _write(self) -> None:
        if not self._waiting and not self._dropped:
            return
        try:
            if self._file is None:
                self._open()
            with self._counting:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._waiting.append(_line({"at": stamp(self._clock.time()), "dropped": dropped}))
            while self._waiting:
                self._write_some()
            self._trouble = False
        except (OSError, Refused) as error:
            self._complain(error)

    def _write_some(self) -> None:
        """As many lines as the file takes, at least one."""
        if self._size and self._size + len(self._waiting[0]) > self._max_bytes:
            self._rotate()
        assert self._file is not None
        count, size = 0, 0
        for line in self._waiting:
            if count and self._size + size + len(line) > self._max_bytes:
                break
            count, size = count + 1, size + len(line)
        try:
            write_all(self._file, b"".join(self._waiting[:count]))
        except OSError:
            os.ftruncate(self._file, self._size)  # a part of a line is none
            raise
        self._size += size
        self._dirty = True
        del self._waiting[:count]

    def _rotate(self) -> None:
        assert self._file is not None
        os.fdatasync(self._file)
        os.close(self._file)
        self._file = None
        with self._naming:
            paths = self._paths()
            if not self._keep:
                os.unlink(self.path)
            for older, newer in zip(paths[:0:-1], paths[-2::-1], strict=True):
                if os.path.lexists(newer):
                    os.rename(newer, older)
        self._open()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Refused(f"{self.path} is a link: move it away") from None
            raise
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise Refused(f"{self.path} is not a regular file: move it away")
            os.fchmod(fd, 0o600)
            self._size = found.st_size
            if self._size and os.pread(fd, 1, self._size - 1) != b"\n":
                write_all(fd, b"\n")  # a daemon was killed in the middle of a line
                self._size += 1
        except BaseException:
            os.close(fd)
            raise
        self._file = fd

    def _sync(self, *, last: bool) -> None:
        now = self._clock.monotonic()
        if not self._dirty or self._file is None or (now - self._synced < PAUSE and not last):
            return
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._complain(error)
        self._dirty, self._synced = False, now

    def _drop(self) -> None:
        with self._counting:
            self._dropped += 1

    def _complain(self, error: Exception) -> None:
        if not self._trouble:
            log.warning("%s cannot be written, and is tried again: %s", self.path, error)
        self._trouble = True


def _line(entry: Entry) -> bytes:
    """ASCII alone: whatever a client has sent, it begins no line and steers no terminal."""
    return _encode(entry).encode() + b"\n"


def _parsed(line: bytes) -> Entry:
    try:
        entry: Any = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"at": None, "damaged": True}


def last_lines(fd: int, count: int) -> list[bytes]:
    """The last lines of a file, oldest first."""
    if not count:
        return []
    parts: list[bytes] = []
    breaks = 0
    for block in _backwards(fd):
        parts.append(block)
        breaks += block.count(b"\n")
        if breaks > count:
            break
    # what stands behind the last line feed is about to be written
    return [line for line in b"".join(reversed(parts)).split(b"\n")[:-1] if line][-count:]


def _backwards(fd: int) -> Iterator[bytes]:
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        yield os.pread(fd, end - start, start)
        end = start
