"""The processes of one action: the first, which it is, and all that came of it.

They are the runner's descendants, for it is a child subreaper. So "nobody is left" is seen by waiting, not by
looking: waitpid says that there is no child. Where a filter stands in the output's way (lib/outputpipe.py), that one
is a child and not of the action; then the kernel's list of children is read, in which a process that lost its parent
appears at once.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from task_runner.lib import tree
from task_runner.lib.clock import Clock
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.stop import Stop, StopOrder


class Family:
    """Who has to end before the action is over."""

    __slots__ = ("main", "ended", "childless", "stop", "_root", "_clock", "_output")

    def __init__(self, root: int, clock: Clock, output: OutputLog) -> None:
        self._root = root
        self._clock = clock
        self._output = output
        #: pid of the first process; 0 where there has been none
        self.main = 0
        #: how that one ended, as waitpid says it
        self.ended: int | None = None
        self.childless = True
        self.stop: Stop | None = None

    def expect(self) -> None:
        """Another action is about to start."""
        self.main, self.ended, self.childless, self.stop = 0, None, False, None

    @property
    def running(self) -> bool:
        """The first process has not ended."""
        return self.main != 0 and self.ended is None

    @property
    def spared(self) -> AbstractSet[int]:
        """Children that are not of the action."""
        return self._output.filters

    def reap(self) -> None:
        """Wait for whoever has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            if pid == 0:
                if self.spared:
                    self.childless = self._only_filters()
                return
            if not self._output.reaped(pid) and pid == self.main and self.ended is None:
                self.ended = status

    def _only_filters(self) -> bool:
        """Twice, for where the kernel does not list children one look can miss who is just losing its parent."""
        filters = self.spared
        return not tree.below(self._root, spared=filters) and not tree.below(self._root, spared=filters)

    def end(self, order: StopOrder) -> None:
        """Begin to stop them."""
        self.stop = Stop(self._root, self._clock, order, self.spared)
        self.stop.begin()

    def freeze(self) -> None:
        tree.freeze(self._root, spared=self.spared)

    def thaw(self) -> None:
        tree.thaw(self._root, spared=self.spared)
