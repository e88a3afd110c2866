"""What was sent for a task's standard input, kept in a file until its runner passes it on.

Rule 1: the daemon appends, under the file's lock; bytes once there keep their place. Only an append that found no
        space is taken back, before the lock is let go.
Rule 2: the runner reads up to where the file ends while nobody holds the lock, so it never sees what is taken back.
Rule 3: the end of the input is the marker beside it. Nothing is appended after that.
"""

from __future__ import annotations

import errno
import fcntl
import os

from task_runner.errors import Conflict, StorageFull
from task_runner.lib.taskdir import AttemptDirectory, write_all

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def append(directory: AttemptDirectory, data: bytes, offset: int | None, end: bool) -> int:
    """Keep bytes; returns how many there are by now. Raises Conflict, StorageFull (then none were kept), OSError.

    With ``offset`` the same may be sent again, by who does not know whether it arrived: it is kept once.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(directory.input, flags, 0o600)
    except OSError as error:
        raise _refusal(error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = os.fstat(fd).st_size
        ended = os.path.lexists(directory.input_end)
        kept = offset is not None and _came_last(fd, before, data, offset)
        if kept and (ended or not end):
            return before
        if ended:
            raise Conflict(f"the input ended after {before} bytes")
        if kept:
            data = b""  # a daemon that died had kept the bytes, and not that they are the last
        elif offset is not None and offset != before:
            raise Conflict(f"{before} bytes of input have come so far, not {offset}")
        try:
            write_all(fd, data)
            if end:
                os.close(os.open(directory.input_end, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            os.ftruncate(fd, before)
            raise _refusal(error) from error
        return before + len(data)
    finally:
        os.close(fd)


def _came_last(fd: int, size: int, data: bytes, offset: int) -> bool:
    """Whether these bytes are the last there are, and begin at ``offset``."""
    return offset + len(data) == size and os.pread(fd, len(data), offset) == data


def _refusal(error: OSError) -> OSError | StorageFull:
    if error.errno in _NO_SPACE:
        return StorageFull("there is no space to keep the input: none of it was taken")
    return error


class InputSpool:
    """The runner's end."""

    __slots__ = ("_path", "_end", "_fd")

    def __init__(self, directory: AttemptDirectory) -> None:
        self._path = directory.input
        self._end = directory.input_end
        self._fd = -1

    def extent(self) -> tuple[int, bool] | None:
        """How many bytes there are, and whether they are all; None while that is about to change."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return 0, False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return None  # the daemon is at it; it tells when it is done
        try:
            return os.fstat(self._fd).st_size, os.path.lexists(self._end)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
