"""All processes of the machine from one walk through /proc, and what those below one of them use together.

proc(5), /proc/PID/stat: fields 4 (ppid), 14 to 17 (times), 22 (start), 24 (resident pages).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from task_runner.lib.outputfilter import NAME as FILTER

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_LONGEST = 2048


class Row(NamedTuple):
    """One process. A tuple, for there may be tens of thousands."""

    pid: int
    ppid: int
    #: clock ticks since boot
    start_time: int
    #: user and system time, clock ticks
    ticks: int
    #: the same of the children that it has waited for, and theirs
    child_ticks: int
    #: pages in memory; 0 of a zombie
    pages: int
    #: not a zombie
    alive: bool
    name: bytes


class Sums(NamedTuple):
    """Of several processes together."""

    ticks: int
    #: a page that several share counts for each
    pages: int
    #: zombies are none
    processes: int


def parse(pid: int, stat: bytes) -> Row | None:
    """A line of /proc/PID/stat; None where it is none."""
    begin, end = stat.find(b"("), stat.rfind(b")")  # the name may hold blanks and brackets
    fields = stat[end + 1 :].split(None, 22)
    if begin < 0 or len(fields) < 22:
        return None
    return Row(
        pid,
        int(fields[1]),
        int(fields[19]),
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[21]),
        fields[0] not in (b"Z", b"X"),
        stat[begin + 1 : end],
    )


def read() -> Table:
    """The machine as it is now. Takes some 20 µs for each process.

    Lower pids first, which are mostly the parents: one that ends meanwhile is then missed, and not counted twice (in
    itself and in the parent that has waited for it).
    """
    rows = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has ended
        try:
            row = parse(pid, os.read(fd, _LONGEST))
        except OSError:
            continue
        finally:
            os.close(fd)
        if row is not None:
            rows.append(row)
    return Table(rows)


class Table:
    """Processes, and who is below whom."""

    __slots__ = ("rows", "_below")

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {each.pid: each for each in rows}
        self._below: dict[int, list[Row]] = {}
        for each in self.rows.values():
            self._below.setdefault(each.ppid, []).append(each)

    def find(self, pid: int, start_time: int) -> Row | None:
        """Exactly this process; None where it does not live, whoever has its pid now."""
        row = self.rows.get(pid)
        return row if row is not None and row.start_time == start_time and row.alive else None

    def below(self, root: Row) -> list[Row]:
        """Everything below a runner, but for the filter of its output, which is none of the task's.

        Nobody is older than its parent: who seems so was the child of another, who had the same pid a moment before.
        """
        own = [each for each in self._children(root) if each.name != FILTER]
        for each in own:  # grows while it is walked
            own += self._children(each)
        return own

    def _children(self, parent: Row) -> list[Row]:
        return [each for each in self._below.get(parent.pid, ()) if each.start_time >= parent.start_time]


def add_up(rows: Iterable[Row]) -> Sums:
    """What processes use together, and what those have used that they have waited for."""
    ticks = pages = processes = 0
    for each in rows:
        ticks += each.ticks + each.child_ticks
        pages += each.pages
        processes += each.alive
    return Sums(ticks, pages, processes)
