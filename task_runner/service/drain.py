"""Draining: what runs is finished and nothing new is started, until told otherwise, by this daemon and the next."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from task_runner.service.book import Book
from task_runner.service.queue import Queue

_KEY = "drained_at"


class Drain:
    """Whether new tasks are started."""

    def __init__(self, book: Book, queue: Queue) -> None:
        self._book = book
        self._queue = queue
        #: since when none are; None: they are
        self.since: str | None = None

    def load(self) -> None:
        """What was said to an earlier daemon. To be called before anything is started."""
        rows = self._book.store.read(("SELECT value FROM settled WHERE name = ?", (_KEY,)))
        self.since = rows[0][0] if rows else None
        self._tell()

    async def begin(self) -> None:
        """Start nothing new from now on. It is remembered as soon as the store takes it."""
        if self.since is None:
            self.since = self._book.now()
            self._tell()
        await self._book.write_now_or_later([("INSERT OR REPLACE INTO settled VALUES (?, ?)", (_KEY, self.since))])

    async def end(self) -> None:
        """Start tasks again."""
        self.since = None
        self._tell()
        await self._book.write_now_or_later([("DELETE FROM settled WHERE name = ?", (_KEY,))])

    def _tell(self) -> None:
        self._queue.limits = replace(self._queue.limits, draining=self.since is not None)
        self._queue.fill()

    @property
    def empty(self) -> bool:
        """Whether no task runs, nor is about to, nor is it unknown whether it does."""
        return not self._queue.running

    async def wait_empty(self, seconds: float) -> None:
        """Return when it is empty, or after so many seconds."""
        wake = asyncio.Event()
        with self._book.hub.subscribe(None, wake) as changes:
            try:
                async with asyncio.timeout(seconds):
                    while not self.empty:
                        wake.clear()
                        changes.drain()
                        await wake.wait()
            except TimeoutError:
                pass
