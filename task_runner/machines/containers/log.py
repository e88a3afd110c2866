"""A container's output on its way into the task's log, each byte once.

Rule 1: whichever process writes, the next one knows what is in the log: its size says how much came, and the kept
        entry of which stream the newest part is. So the entry changes only where the stream does.
Rule 2: where the log is behind a filter its size says nothing; then the entry is written after every piece, and
        a process that is killed just between the two writes that piece, and no other, twice.
Rule 3: a full disk stops the copying and not the container. What finds no place some seconds after the end is counted.
"""

from __future__ import annotations

import errno
import os
import stat
import threading

from task_runner.machines.containers.keep import Entry, Keep

#: file descriptors of the two streams
_FDS = (1, 2)
#: seconds between two tries to write where there is no space
_AGAIN = 0.2
#: a pipe takes so many bytes whole or not at all
_PIPE_BUF = 4096


class Log:
    """Where both streams go: one file, two files, or pipes."""

    def __init__(self, keep: Keep, *, took_up: bool) -> None:
        """``took_up``: an earlier process has been writing."""
        self._keep = keep
        self._piped = not all(stat.S_ISREG(os.fstat(fd).st_mode) for fd in _FDS)
        self._apart = not os.path.samestat(os.fstat(1), os.fstat(2))
        if took_up:
            self._counts = self._counted(keep.entry)
        else:
            self._counts = [0, 0]
            keep.write(stdout_start=_size(1), stderr_start=_size(2))
        self._size = _size(1)
        if not self._piped and not self._apart:
            self._turn_to(keep.entry.stream)
        #: set: what cannot be written now is given up
        self.give_up = threading.Event()
        #: bytes for which there was no space
        self.unkept = 0

    def _counted(self, entry: Entry) -> list[int]:
        if self._piped:
            return [entry.stdout, entry.stderr]
        if self._apart:
            return [_size(1) - entry.stdout_start, _size(2) - entry.stderr_start]
        counts = [entry.stdout, entry.stderr]
        counts[entry.stream - 1] += _size(1) - entry.at
        return counts

    @property
    def counts(self) -> tuple[int, int]:
        """Bytes of either stream that need not come again."""
        return self._counts[0], self._counts[1]

    def write(self, stream: int, data: bytes) -> None:
        """Write what came of a stream. Never raises; waits for space until it is to give up."""
        if self._piped:
            for start in range(0, len(data), _PIPE_BUF):
                self._write(stream, data[start : start + _PIPE_BUF])
                self._keep.write(stdout=self._counts[0], stderr=self._counts[1])
            return
        if not self._apart and stream != self._keep.entry.stream:
            self._turn_to(stream)
        self._write(stream, data)

    def _turn_to(self, stream: int) -> None:
        self._keep.write(stream=stream, at=self._size, stdout=self._counts[0], stderr=self._counts[1])

    def _write(self, stream: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                written = os.write(_FDS[stream - 1], left)
            except OSError as error:
                if error.errno == errno.EPIPE or self.give_up.wait(_AGAIN):
                    self.unkept += len(left)
                    self._counts[stream - 1] += len(left)
                    return
                continue
            left = left[written:]
            self._size += written
            self._counts[stream - 1] += written


def _size(fd: int) -> int:
    return os.fstat(fd).st_size
