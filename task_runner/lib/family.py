"""The processes of one action: the first, which it is, and all that came of it.

They are the runner's descendants, for it is a child subreaper. So "nobody is left" is seen by waiting, not by
looking: waitpid says that there is no child. Where a filter stands in the output's way (lib/outputpipe.py), that one
is a child and not of the action; then the kernel's list of children is read, in which a process that lost its parent
appears at once.

Where the host allows it they are in a cgroup as well (lib/group.py). It is frozen and killed as a whole, and nobody
is left only when it is empty, too. Who has left it is still a descendant.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol

from task_runner.lib import signals, tree
from task_runner.lib.clock import Clock
from task_runner.lib.group import Group
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.stop import Stop, StopOrder
from task_runner.model.status import Receipt

if TYPE_CHECKING:
    from task_runner.lib.strays import Strays


class Stopping(Protocol):
    """A stop under way (lib/stop.py)."""

    #: when there is something to be done without anything being heard, on the monotonic clock
    kill_at: float

    def begin(self) -> None:
        """Send the polite signal."""

    def hasten(self, order: StopOrder) -> None:
        """A second request can only shorten the grace."""

    def press(self) -> bool:
        """Kill, if the grace is over; False once it is plain that killing does not help."""

    def receipt(self) -> Receipt:
        """What was done, and who is left."""


class Elsewhere(Protocol):
    """What the first process stands for, and what is none of our descendants (lib/remote.py)."""

    def stop(self, order: StopOrder) -> Stopping:
        """A stop of it."""

    def send(self, number: int) -> None:
        """Have the first process, which runs, pass on a signal."""


class Family:
    """Who has to end before the action is over."""

    __slots__ = (
        "main", "ended", "childless", "stop", "group", "remote", "wrapped", "over", "_root", "_clock", "_output",
    )  # fmt: skip

    def __init__(self, root: int, clock: Clock, output: OutputLog) -> None:
        self._root = root
        self._clock = clock
        self._output = output
        #: pid of the first process; 0 where there has been none
        self.main = 0
        #: how that one ended, as waitpid says it
        self.ended: int | None = None
        self.childless = True
        self.stop: Stopping | None = None
        #: what the first process is for runs elsewhere, and is controlled through that one
        self.remote: Elsewhere | None = None
        #: the first process is a wrapper, and the command its child (machines/wrapper.py)
        self.wrapped = False
        #: and has ended
        self.over = False
        #: none: there are no cgroups here
        self.group: Group | Strays | None = None

    def expect(self) -> None:
        """Another action is about to start."""
        self.main, self.ended, self.childless, self.stop = 0, None, False, None
        self.remote, self.over, self.wrapped = None, False, False

    def follow(self, pid: int) -> None:
        """Another first process has taken the place of one that has ended."""
        self.main, self.ended, self.childless = pid, None, False

    @property
    def running(self) -> bool:
        """The first process has not ended."""
        return self.main != 0 and self.ended is None and not self.over

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
                self.childless = not self._group_lives()
                return
            if pid == 0:
                if self.spared:
                    self.childless = self._only_filters() and not self._group_lives()
                return
            if not self._output.reaped(pid) and pid == self.main and self.ended is None:
                self.ended = status

    def _group_lives(self) -> bool:
        """Looked at one by one: the kernel may count who has been waited for a moment longer."""
        group = self._own_group
        return group is not None and group.populated() and bool(group.members())

    @property
    def _own_group(self) -> Group | Strays | None:
        """What runs elsewhere may carry the task's mark, and is not to be taken for something left behind here."""
        return self.group if self.remote is None else None

    def _only_filters(self) -> bool:
        """Twice, for where the kernel does not list children one look can miss who is just losing its parent."""
        filters = self.spared
        return not tree.below(self._root, spared=filters) and not tree.below(self._root, spared=filters)

    def end(self, order: StopOrder) -> None:
        """Begin to stop them."""
        if self.remote is not None and self.ended is None:
            self.stop = self.remote.stop(order)
        else:
            wrapper = self.main if self.wrapped else 0
            self.stop = Stop(self._root, self._clock, order, self.spared, self._own_group, wrapper)
        self.stop.begin()

    def send(self, number: int) -> None:
        """Pass a signal on to the first process, which runs: our own child, so the pid is its own."""
        if self.remote is not None:
            self.remote.send(number)
        else:
            os.kill(self.main, signals.forwarding(number) if self.wrapped else number)

    def freeze(self) -> None:
        """Let none of them run: by the group, and by SIGSTOP who is not in it. What runs elsewhere follows later."""
        if self.remote is not None:
            if self.running:
                self.remote.send(signal.SIGTSTP)
            return
        frozen = self.group.pids() if self.group is not None and self.group.freeze() else ()
        tree.freeze(self._root, spared=self.spared | frozenset(frozen))

    def thaw(self) -> None:
        """Let them go on. Who had stopped by itself before a freeze of the group stays so."""
        if self.remote is not None:
            if self.running:
                self.remote.send(signal.SIGCONT)
            return
        frozen = self.group.pids() if self.group is not None and self.group.thaw() else ()
        tree.thaw(self._root, spared=self.spared | frozenset(frozen))
