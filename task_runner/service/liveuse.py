"""What running tasks use now. On demand: while nobody asks nothing is read, and one look serves all who ask."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from task_runner.environment.base import UNKNOWN, Environment
from task_runner.lib.clock import stamp
from task_runner.model.state import ACTIVE
from task_runner.model.status import Status
from task_runner.service.book import Book

#: seconds for which a look is believed
FRESH = 1.0


class Figures(NamedTuple):
    """Of one task's attempt at hand. None: not known."""

    cpu_seconds: float | None
    #: sum of the resident memory of its processes: what several share counts for each
    rss_bytes: int | None
    processes: int | None
    #: written so far, gaps included
    output_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at everything."""

    at: str
    #: CLOCK_MONOTONIC: rates are between two of these
    monotonic: float
    tasks: Mapping[str, Figures]


class _Live(NamedTuple):
    """A task as the loop knows it, for a thread."""

    id: str
    attempt: int
    status: Status | None


class LiveUse:
    """Of all tasks of a daemon. For its event loop's thread; it reads in another."""

    def __init__(self, book: Book, environment: Environment) -> None:
        self._book = book
        self._environment = environment
        self._latest: Look | None = None
        self._under_way: asyncio.Future[Look] | None = None

    async def look(self) -> Look:
        """What was so a second ago at most. Of tasks that have ended since it still tells: see `is_live`."""
        latest = self._latest
        if latest is not None and self._book.clock.monotonic() - latest.monotonic < FRESH:
            return latest
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(self._take())
            self._under_way.add_done_callback(self._taken)
        return await asyncio.shield(self._under_way)  # who hangs up takes nothing away from the others

    def is_live(self, task_id: str) -> bool:
        """Whether a task is to be told of: a runner has it in hand, and nobody has removed it."""
        task = self._book.active.get(task_id)
        return task is not None and task.record.state in ACTIVE and not task.deleted

    def _taken(self, _done: asyncio.Future[Look]) -> None:
        self._under_way = None

    async def _take(self) -> Look:
        clock = self._book.clock
        live = [
            _Live(task.id, task.record.attempt, task.record.status)
            for task in self._book.active.values()
            if task.record.state in ACTIVE and not task.deleted
        ]
        at, monotonic = stamp(clock.time()), clock.monotonic()
        figures = await asyncio.to_thread(self._figures, live)
        self._latest = Look(at=at, monotonic=monotonic, tasks=figures)
        return self._latest

    def _figures(self, live: list[_Live]) -> dict[str, Figures]:
        statuses = [each.status for each in live if each.status is not None and each.status.attempt == each.attempt]
        used = self._environment.measure(statuses) if live else {}
        return {
            each.id: Figures(use.cpu_seconds, use.rss_bytes, use.processes, self._written(each))
            for each in live
            for use in (used.get(each.id, UNKNOWN),)
        }

    def _written(self, live: _Live) -> int | None:
        apart = live.status is not None and live.status.stderr is not None
        sizes = [self._size(live, stream) for stream in (("stdout", "stderr") if apart else ("output",))]
        known = [each for each in sizes if each is not None]
        return sum(known) if known else None

    def _size(self, live: _Live, stream: str) -> int | None:
        try:
            seen = os.stat(self._environment.output_path(live.id, live.attempt, stream), follow_symlinks=False)
        except OSError:
            return None
        return seen.st_size if stat.S_ISREG(seen.st_mode) else None
