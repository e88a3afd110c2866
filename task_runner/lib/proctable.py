"""All processes of the machine from one walk through /proc, and what those below one of them use together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from task_runner.lib.outputfilter import NAME as FILTER
from task_runner.lib.process import Process, everyone

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sums(NamedTuple):
    """Of several processes together."""

    ticks: int
    #: a page that several share counts for each
    pages: int
    #: zombies are none
    processes: int


def read() -> Table:
    """The machine as it is now. Takes some 20 µs for each process.

    Lower pids first, which are mostly the parents: one that ends meanwhile is then missed, and not counted twice (in
    itself and in the parent that has waited for it).
    """
    return Table(everyone(newest_first=False))


class Table:
    """Processes, and who is below whom."""

    __slots__ = ("rows", "_below")

    def __init__(self, rows: Iterable[Process]) -> None:
        self.rows = {each.pid: each for each in rows}
        self._below: dict[int, list[Process]] = {}
        for each in self.rows.values():
            self._below.setdefault(each.ppid, []).append(each)

    def find(self, pid: int, start_time: int) -> Process | None:
        """Exactly this process; None where it does not live, whoever has its pid now."""
        row = self.rows.get(pid)
        return row if row is not None and row.start_time == start_time and row.alive else None

    def below(self, root: Process) -> list[Process]:
        """Everything below a runner, but for the filter of its output, which is none of the task's.

        Nobody is older than its parent: who seems so was the child of another, who had the same pid a moment before.
        """
        own = [each for each in self._children(root) if each.command != FILTER]
        for each in own:  # grows while it is walked
            own += self._children(each)
        return own

    def _children(self, parent: Process) -> list[Process]:
        return [each for each in self._below.get(parent.pid, ()) if each.start_time >= parent.start_time]


def add_up(rows: Iterable[Process]) -> Sums:
    """What processes use together, and what those have used that they have waited for."""
    ticks = pages = processes = 0
    for each in rows:
        ticks += each.ticks + each.child_ticks
        pages += each.pages
        processes += each.alive
    return Sums(ticks, pages, processes)
