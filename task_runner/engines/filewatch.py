"""Waiting for a file that another program writes."""

from __future__ import annotations

import ctypes
import enum
import fcntl
import os
import select
import signal
import struct
import time
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY, _IN_CLOSE_WRITE, _IN_CREATE = 0x2, 0x8, 0x100
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_HEADER = struct.Struct("iIII")
#: seconds between two looks where the kernel has no more watches (128 per user, unless it was told otherwise)
_POLL = 0.25


class Event(enum.Enum):
    """What happened to a file."""

    CHANGED = "changed"
    #: somebody who wrote it has closed it
    CLOSED = "closed"


class FileWatch:
    """Wakes when a file is made, written or closed. Its directory has to exist."""

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._name = name.encode()
        self._path = path
        self._size = -1
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_CREATE
            if _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
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

    def wait(self, seconds: float) -> Event | None:
        """What has happened since the last call: closed, if that was among it. None after so many seconds or less."""
        if self._fd < 0:
            return self._poll(seconds)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        happened = self._happened()
        if happened & _IN_CLOSE_WRITE:
            return Event.CLOSED
        return Event.CHANGED if happened else None

    def _happened(self) -> int:
        happened = 0
        data = os.read(self._fd, 1 << 16)
        while data:
            _, mask, _, length = _HEADER.unpack_from(data)
            end = _HEADER.size + length
            if data[_HEADER.size : end].rstrip(b"\0") == self._name:
                happened |= mask
            data = data[end:]
        return happened

    def _poll(self, seconds: float) -> Event | None:
        time.sleep(min(seconds, _POLL))
        try:
            size = os.stat(self._path).st_size
        except FileNotFoundError:
            size = -1
        changed = size != self._size
        self._size = size
        return Event.CHANGED if changed else None


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
