"""Who is to be considered when: by the wall clock, and by the monotonic one."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from task_runner.lib.clock import Clock, stamp
from task_runner.service.waiting import Waiting, seconds_of

#: the longest sleep while anything waits for a time: a wall clock may be set meanwhile
LONGEST_SLEEP = 1.0
#: the shortest
SHORTEST_SLEEP = 0.001
#: so many alarms are not worth looking through for void ones
FEW = 1000


class Alarms:
    """Times at which tasks are to be considered. One that has moved since is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = itertools.count()
        self._by_stamp: list[tuple[str, int, int, Waiting]] = []  # stamps have the order of their times
        self._by_age: list[tuple[float, int, int, Waiting]] = []
        self._most = FEW

    def at_time(self, at: str, waiting: Waiting) -> None:
        """``at`` is a stamp of the wall clock."""
        heapq.heappush(self._by_stamp, (at, next(self._count), waiting.moves, waiting))
        self._tidy()

    def at_age(self, at: float, waiting: Waiting) -> None:
        """``at`` is a time of the monotonic clock."""
        heapq.heappush(self._by_age, (at, next(self._count), waiting.moves, waiting))
        self._tidy()

    def _tidy(self) -> None:
        """Drop the void ones when there are twice as many as were good the last time: a task that has started must
        not be kept in memory until the time comes by which it had to."""
        if len(self._by_stamp) + len(self._by_age) <= self._most:
            return
        _sweep(self._by_stamp)
        _sweep(self._by_age)
        self._most = max(FEW, 2 * (len(self._by_stamp) + len(self._by_age)))

    def due_times(self) -> list[Waiting]:
        """Those whose time by the wall clock has come; each is named once."""
        heap, due = self._by_stamp, []
        now = stamp(self._clock.time()) if heap else ""
        while heap and heap[0][0] <= now:
            _at, _count, moves, waiting = heapq.heappop(heap)
            if waiting.moves == moves:
                due.append(waiting)
        return due

    def due_ages(self) -> list[Waiting]:
        """Those whose time by the monotonic clock has come; each is named once."""
        heap, due = self._by_age, []
        while heap and heap[0][0] <= self._clock.monotonic():
            _at, _count, moves, waiting = heapq.heappop(heap)
            if waiting.moves == moves:
                due.append(waiting)
        return due

    def sleep(self) -> float | None:
        """How many seconds one may sleep now; None: for ever."""
        _drop_moved(self._by_stamp)
        _drop_moved(self._by_age)
        rests = []
        if self._by_stamp:
            rests.append(seconds_of(self._by_stamp[0][0]) - self._clock.time())
        if self._by_age:
            rests.append(self._by_age[0][0] - self._clock.monotonic())
        return min(LONGEST_SLEEP, max(SHORTEST_SLEEP, min(rests))) if rests else None


def _drop_moved(heap: list[tuple[Any, int, int, Waiting]]) -> None:
    while heap and heap[0][3].moves != heap[0][2]:
        heapq.heappop(heap)


def _sweep(heap: list[tuple[Any, int, int, Waiting]]) -> None:
    heap[:] = [alarm for alarm in heap if alarm[3].moves == alarm[2]]
    heapq.heapify(heap)
