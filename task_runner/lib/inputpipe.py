"""The way of a task's open standard input: from the spool (lib/inputspool.py) through a pipe to the command.

Rule 1: nobody waits. The runner writes what the pipe takes, and watches for room only while there is something to pass.
Rule 2: what has been passed is gone: of several actions that ask for an open input each goes on where the one before
        it was when it ended, and what that one left unread in its pipe is lost.
Rule 3: a command that closes its standard input is not told of any more of it; the rest waits for the next that asks.
"""

from __future__ import annotations

import os
import select

from task_runner.lib.inputspool import InputSpool
from task_runner.lib.taskdir import AttemptDirectory

_CHUNK, _CHUNKS = 1 << 16, 16


class InputPipe:
    """One for a task; a pipe for each of its actions that asks."""

    __slots__ = ("passed", "_spool", "_poll", "_writer", "_watched")

    def __init__(self, directory: AttemptDirectory, poll: select.poll) -> None:
        """``poll``: what the runner waits with."""
        self._poll = poll
        self._spool = InputSpool(directory)
        self._writer = -1
        self._watched = False
        #: bytes that have been written to commands so far
        self.passed = 0

    def begin(self) -> int:
        """Make the pipe for an action; returns the end to read, which is the caller's to close. Raises OSError."""
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)
        return reader

    def end(self) -> None:
        """The action is over, or has been told that nothing more comes."""
        if self._writer >= 0:
            self._watch_room(False)
            os.close(self._writer)
            self._writer = -1

    def close(self) -> None:
        self.end()
        self._spool.close()

    def due(self) -> float | None:
        """Never by time: the daemon tells, or the pipe has room again."""
        return None

    def turn(self, now: float) -> None:
        """Pass on what there is, as far as the pipe takes it."""
        del now
        if self._writer < 0 or (extent := self._spool.extent()) is None:
            return
        size, ended = extent
        try:
            self._pass(size)
        except BlockingIOError:
            pass
        except OSError:
            self.end()  # EPIPE: the command wants no more
            return
        if self.passed >= size and ended:
            self.end()
        else:
            self._watch_room(self.passed < size)

    def _pass(self, size: int) -> None:
        """A few chunks: however fast the command reads, the runner has other things to do as well."""
        for _ in range(_CHUNKS):
            data = self._spool.read(self.passed, min(_CHUNK, size - self.passed)) if self.passed < size else b""
            if not data:
                break
            self.passed += os.write(self._writer, data)

    def _watch_room(self, wanted: bool) -> None:
        if wanted and not self._watched:
            self._poll.register(self._writer, select.POLLOUT)
        elif self._watched and not wanted:
            self._poll.unregister(self._writer)
        self._watched = wanted
