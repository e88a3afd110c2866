"""Finished tasks are removed after a time, and beyond a number or a size; so are events and idempotency keys.

Rule 1: the age at which a task may go is what its spec says, else what is set for its outcome, else for all.
Rule 2: number and size are limits, and stand above that: beyond them the tasks that finished first go.
Rule 3: a task that another waits for stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from task_runner.errors import TaskRunnerError
from task_runner.lib.clock import stamp
from task_runner.model.state import Outcome
from task_runner.service import batch, kept, statements
from task_runner.service.book import Book
from task_runner.service.disk import Disk
from task_runner.service.settings import Settings

log = logging.getLogger(__name__)

#: tasks removed in one go
SLICE = 500


class Retention:
    """Removes what has been kept long enough."""

    def __init__(
        self, book: Book, settings: Settings, disk: Disk, remove: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        self._book = book
        self._settings = settings
        self._disk = disk
        self._remove = remove

    async def run(self) -> None:
        """Tidy up now and then, for ever."""
        while True:
            try:
                if self._settings.keep_finished_bytes is not None:
                    await self._disk.measure()
                removed = await self.tidy()
            except TaskRunnerError:
                removed = 0  # the store is full; it says so itself
            except Exception:
                log.exception("tidying up failed")
                removed = 0
            await asyncio.sleep(0 if removed == SLICE else min(self._settings.tidy_seconds, self._shortest()))

    def _shortest(self) -> float:
        return min([self._settings.keep_finished_seconds, *self._settings.keep_outcome_seconds.values()])

    async def tidy(self) -> int:
        """Remove one slice of what is too old or too much; returns how many tasks."""
        settings, book = self._settings, self._book
        now = book.clock.time()
        # those that stay all the same must not hide what comes after them
        limit = SLICE + len(book.dependants)
        found = await asyncio.to_thread(lambda: list(dict.fromkeys(self._candidates(now, limit))))
        ids = list(islice(filter(self._may_go, found), SLICE))
        if ids:
            await self._remove(ids)
            book.hub.publish_gone(ids)
        excess = book.store.last_event() - settings.keep_events_count
        await book.write(
            [
                statements.drop_keys(stamp(now - settings.idempotency_seconds)),
                batch.drop_empty(stamp(max(0.0, now - settings.keep_finished_seconds))),
                ("DELETE FROM events WHERE seq <= ?", (excess,)),
            ]
        )
        return len(ids)

    def _may_go(self, task_id: str) -> bool:
        return task_id not in self._book.active and not self._book.dependants.waiting_for(task_id)

    def _candidates(self, now: float, limit: int) -> Iterator[str]:
        settings, read = self._settings, self._book.store.read
        for outcome in Outcome:
            age = settings.keep_outcome_seconds.get(outcome.value, settings.keep_finished_seconds)
            yield from (row[0] for row in read(kept.aged(outcome.value, stamp(max(0.0, now - age)), limit)))
        yield from (row[0] for row in read(kept.run_out(stamp(now), limit)))
        yield from (row[0] for row in read(kept.hidden(limit)))
        # counting takes a look at every one
        if read(kept.span())[0][0] > settings.keep_finished_count:
            excess = read(kept.count())[0][0] - settings.keep_finished_count
            if excess > 0:
                yield from (row[0] for row in read(kept.oldest(min(excess, limit))))
        if settings.keep_finished_bytes is not None:
            excess = read(kept.bytes_sum())[0][0] - settings.keep_finished_bytes
            for task_id, size in read(kept.bytes_oldest(limit)) if excess > 0 else ():
                if excess > 0:
                    yield task_id
                    excess -= size
