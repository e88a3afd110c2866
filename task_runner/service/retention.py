"""Finished tasks are removed after a time, and beyond a number; so are events and idempotency keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from task_runner.errors import TaskRunnerError
from task_runner.lib.clock import stamp
from task_runner.service import statements
from task_runner.service.book import Book
from task_runner.service.settings import Settings

log = logging.getLogger(__name__)

#: tasks removed in one go
SLICE = 500


class Retention:
    """Removes what has been kept long enough."""

    def __init__(self, book: Book, settings: Settings, remove: Callable[[list[str]], Awaitable[None]]) -> None:
        self._book = book
        self._settings = settings
        self._remove = remove

    async def run(self) -> None:
        """Tidy up now and then, for ever."""
        while True:
            try:
                removed = await self.tidy()
            except TaskRunnerError:
                removed = 0  # the store is full; it says so itself
            except Exception:
                log.exception("tidying up failed")
                removed = 0
            await asyncio.sleep(0 if removed == SLICE else min(60.0, self._settings.keep_finished_seconds))

    async def tidy(self) -> int:
        """Remove one slice of what is too old or too much; returns how many tasks."""
        settings, book = self._settings, self._book
        now = book.clock.time()
        before = stamp(max(0.0, now - settings.keep_finished_seconds))
        ids = await asyncio.to_thread(book.store.expired, before, settings.keep_finished_count, SLICE)
        ids = [task_id for task_id in ids if task_id not in book.active]
        if ids:
            await self._remove(ids)
        excess = book.store.last_event() - settings.keep_events_count
        await book.write(
            [
                statements.drop_keys(stamp(now - settings.idempotency_seconds)),
                ("DELETE FROM events WHERE seq <= ?", (excess,)),
            ]
        )
        return len(ids)
