"""The way of a task's output through a filter (lib/outputfilter.py), from the runner's side.

Commands write into a pipe, the filter reads it and writes the file. The runner keeps both ends as well while an action
runs, so a filter that is killed breaks no command: the next one goes on reading the same pipe.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence

from task_runner.lib import outputfilter

#: a filter that gets nowhere for so many seconds, though the commands have ended, is given up
STUCK = 5.0
#: how often it is looked at meanwhile: where the whole machine stood still, one look alone comes too early
LOOKS = 10
#: how often a filter that was killed is followed by another, within one action
REVIVALS = 10


class OutputPipe:
    """One pipe for each file, and the filter between them, for the time of an action."""

    def __init__(self, targets: Sequence[int], patterns: Sequence[bytes], *, stamped: bool) -> None:
        """``targets``: the files, open to append."""
        self._targets = targets
        self._patterns = patterns
        self._stamped = stamped
        #: pids of live filters: children of the runner that are no part of the task
        self.filters: set[int] = set()
        self._sources: list[int] = []
        self._sinks: list[int] = []
        self._revivals = 0

    @property
    def sinks(self) -> Sequence[int]:
        """What to write to instead of each file; empty outside of an action."""
        return self._sinks

    def begin(self) -> None:
        """Get ready for an action. Raises OSError where there is no process or descriptor left."""
        self._revivals = 0
        try:
            for _ in self._targets:
                source, sink = os.pipe2(os.O_CLOEXEC)
                self._sources.append(source)
                self._sinks.append(sink)
            self._start()
        except OSError:
            self._close()
            raise

    def end(self) -> None:
        """When all processes of the action have ended: wait until what they wrote is in the files.

        That is at most what a pipe holds. A process that could not be killed may keep the pipe open: what it would
        still write is not waited for.
        """
        # so that the kernel does not count what a filter used as used by the commands: it counts who is waited for.
        # Before the sinks are closed: a filter may be at its end at once
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            while self._sinks:
                os.close(self._sinks.pop())
            while self.filters:
                self._await(next(iter(self.filters)))
        finally:
            signal.signal(signal.SIGCHLD, before)
        self._close()

    def reaped(self, pid: int) -> bool:
        """Take note that a child has been waited for: whether it was a filter. One that was killed is replaced.

        What the dead one had read and not yet written is lost: 64 KiB at most.
        """
        if pid not in self.filters:
            return False
        self.filters.discard(pid)
        if self._sinks:
            self._replace()
        return True

    def _start(self) -> None:
        channels = [
            outputfilter.Channel(source=source, target=target)
            for source, target in zip(self._sources, self._targets, strict=True)
        ]
        self.filters.add(outputfilter.start(channels, self._patterns, stamped=self._stamped))

    def _replace(self) -> None:
        self._revivals += 1
        try:
            if self._revivals <= REVIVALS:
                self._start()
                return
        except OSError:
            pass
        # nobody will read: a command that writes must be told so, and not wait for ever
        while self._sources:
            os.close(self._sources.pop())

    def _await(self, pid: int) -> None:
        """Wait for a filter to come to the end of its pipes."""
        try:
            self._see_out(pid)
        except ProcessLookupError:
            pass  # it was there before us; the kernel waits for it in our place
        self.filters.discard(pid)
        if any(map(_waiting, self._sources)):
            self._replace()

    def _see_out(self, pid: int) -> None:
        watch = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watch, signal.SIGCONT)  # it may have been stopped with the task
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            before, idle = self._progress(), 0
            while not poll.poll(STUCK * 1000 / LOOKS):
                now = self._progress()
                idle = idle + 1 if now == before else 0
                if idle >= LOOKS:
                    signal.pidfd_send_signal(watch, signal.SIGKILL)
                    self._revivals = REVIVALS
                before = now
        finally:
            os.close(watch)
        try:
            os.waitpid(pid, 0)  # one that was killed before `end`
        except ChildProcessError:
            pass

    def _progress(self) -> list[int]:
        """What changes as long as a filter gets on: bytes that wait in the pipes, bytes in the files."""
        waiting = [_waiting(source) for source in self._sources]
        return waiting + [os.fstat(target).st_size for target in self._targets]

    def _close(self) -> None:
        for fd in (*self._sources, *self._sinks):
            os.close(fd)
        self._sources, self._sinks = [], []


def _waiting(source: int) -> int:
    import fcntl  # here: the launcher would load them for every runner, and few ask
    import sys
    import termios

    return int.from_bytes(fcntl.ioctl(source, termios.FIONREAD, bytes(4)), sys.byteorder)
