"""The stall policy: notices that a task gives no sign of getting on.

Signs are bytes of output, lines of progress, bytes of input taken, and processor time; and a process that is ready to
run and only waits for a processor. A process that wakes up now and then to find nothing to do uses a little time for
ever: less than a thousandth counts as none.

What is counted is the silence that the runner has seen. If it could not look for a while (it was stopped, or the
machine was busy), that while counts for no more than two looks.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from task_runner.lib import tree
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.family import Family
from task_runner.lib.process import UNSEEN, Process
from task_runner.lib.tasktime import TaskTime
from task_runner.model.status import Silence
from task_runner.model.terms import StallPolicy

#: looks in the time that a task may be silent, and the shortest time between two
LOOKS, SHORTEST = 4, 0.25
#: the share of the time between two looks below which processor time is none
IDLE_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Signs:
    """What was counted at one look."""

    #: bytes of output, lines of progress, bytes of input
    counts: tuple[int | None, ...]
    #: processor time of all that is or was of the task, seconds
    cpu: float
    #: a process could run if it got a processor
    ready: bool


def moved(before: Signs, now: Signs, elapsed: float, tick: float) -> bool:
    """Whether there was a sign of getting on between two looks that are so many seconds apart.

    Less processor time than before means that a process ended whose parent does not count it: something happened.
    """
    used = now.cpu - before.cpu
    return now.ready or now.counts != before.counts or used < 0 or used > max(tick / 2, elapsed * IDLE_SHARE)


class StallWatch:
    """Looks now and then while an action runs. `turn` calls ``act`` when `silence` has changed."""

    def __init__(
        self,
        policy: StallPolicy,
        root: int,
        family: Family,
        time: TaskTime,
        clock: Clock,
        count: Callable[[], tuple[int | None, ...]],
        act: Callable[[], None],
        elsewhere: Callable[[], Iterable[Process]] = lambda: (),
    ) -> None:
        """``elsewhere``: processes of the task beside the runner's descendants."""
        self._after = policy.after_seconds
        self._interval = max(SHORTEST, policy.after_seconds / LOOKS)
        self._root = root
        self._family = family
        self._time = time
        self._clock = clock
        self._count = count
        self._act = act
        self._elsewhere = elsewhere
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._before: Signs | None = None
        self._looked_at = 0.0  # by the task's time
        self._silent_for = 0.0
        self._since = ""
        #: set while it is too long
        self.silence: Silence | None = None

    def begin(self) -> None:
        """An action starts: that is a sign."""
        self._before, self.silence = None, None
        self._silent_for = 0.0

    def due(self) -> float | None:
        """When it wants a turn, on the monotonic clock."""
        if self._idle():
            return None
        if self._before is None:
            return self._clock.monotonic()
        return self._clock.monotonic() + self._looked_at + self._interval - self._time.now()

    def _idle(self) -> bool:
        """Nothing is to be expected now: nobody runs, or who runs is being ended."""
        return self._time.paused or not self._family.running or self._family.stop is not None

    def turn(self, now: float) -> None:
        """Look, if it is time."""
        del now
        at = self._time.now()
        if self._idle() or (self._before is not None and at < self._looked_at + self._interval):
            return
        signs, before, elapsed = self._look(), self._before, at - self._looked_at
        self._before, self._looked_at = signs, at
        if before is None or moved(before, signs, elapsed, self._tick):
            self._silent_for = 0.0
            self._since = stamp(self._clock.time())
            self._mark(None)
            return
        self._silent_for += min(elapsed, 2 * self._interval)
        if self._silent_for >= self._after:
            self._mark(Silence(since=self._since, reason=self.reason))

    @property
    def reason(self) -> str:
        return f"no output, processor time or progress for {self._after:g} s"

    def _mark(self, silence: Silence | None) -> None:
        if (self.silence is None) != (silence is None):
            self.silence = silence
            self._act()

    def _look(self) -> Signs:
        ticks, ready = 0, False
        for each in (*tree.below(self._root, spared=self._family.spared), *self._elsewhere()):
            ticks += each.ticks + each.child_ticks
            ready = ready or each.state in ("R", UNSEEN)  # of the latter it is not known that it is idle
        waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Signs(self._count(), ticks * self._tick + waited_for.ru_utime + waited_for.ru_stime, ready)
