"""Waiting for files that another program writes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import struct
import time
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY, _IN_CLOSE_WRITE = 0x2, 0x8
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_HEADER = struct.Struct("iIII")
#: seconds between two looks where the kernel has no more watches (128 per user, unless it was told otherwise)
_POLL = 0.25


class FileWatch:
    """Wakes when files of one directory are written or closed."""

    def __init__(self, directory: str) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if (
            self._fd >= 0
            and _libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MODIFY | _IN_CLOSE_WRITE) < 0
        ):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def wait(self, seconds: float) -> list[tuple[str, bool]]:
        """What has happened since the last call, in order: the names of files, and whether a writer has closed them.
        Nothing after so many seconds, or sooner."""
        if self._fd < 0:
            time.sleep(min(seconds, _POLL))
            return []
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return []
        data = os.read(self._fd, 1 << 16)
        events = []
        while data:
            _, mask, _, length = _HEADER.unpack_from(data)
            end = _HEADER.size + length
            events.append((os.fsdecode(data[_HEADER.size : end].rstrip(b"\0")), bool(mask & _IN_CLOSE_WRITE)))
            data = data[end:]
        return events


def is_written(fd: int) -> bool:
    """Whether anybody has a regular file, open here for reading, open for writing."""
    try:
        # what the kernel would send if a writer came in between: by itself it would kill this process
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not for this user, or not on this file system: nobody can tell
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def punch(path: str, size: int) -> None:
    """Give the first bytes of a file back to the disk; nothing happens where its file system cannot."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, 0, size)
    finally:
        os.close(fd)
