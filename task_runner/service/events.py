"""The hub: whoever wants to hear of changes gets each, in order, once it is on stable storage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from task_runner.service.statements import StoredEvent

#: a subscriber that lags behind by this many events is cut off; it resumes from the store
MAX_LAG = 10_000


class Subscription:
    """One listener's queue. `overrun`: it was cut off, and has to resume from the store."""

    def __init__(self, task_id: str | None, wake: asyncio.Event | None) -> None:
        self.task_id = task_id
        self._wake = wake
        self._queue: asyncio.Queue[StoredEvent] = asyncio.Queue(MAX_LAG)
        self._gone: list[str] = []
        self.overrun = False

    def push(self, event: StoredEvent) -> None:
        if self.task_id in (None, event.task_id) and not self.overrun:
            try:
                self._queue.put_nowait(event)
            except asyncio.QueueFull:
                self.overrun = True
            self._tell()

    def push_gone(self, ids: Iterable[str]) -> None:
        mine = [each for each in ids if self.task_id in (None, each)]
        if mine and not self.overrun:
            self._gone += mine
            self.overrun = len(self._gone) > MAX_LAG
            self._tell()

    def _tell(self) -> None:
        if self._wake is not None:
            self._wake.set()

    async def next(self) -> StoredEvent:
        return await self._queue.get()

    def drain(self) -> list[StoredEvent]:
        """What has come since the last call."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    def drain_gone(self) -> list[str]:
        """The tasks that have been removed since the last call."""
        gone, self._gone = self._gone, []
        return gone


class Hub:
    """Passes events to all subscriptions."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, event: StoredEvent) -> None:
        for subscription in self._subscriptions:
            subscription.push(event)

    def publish_gone(self, ids: Sequence[str]) -> None:
        """Tell that there are no such tasks any more. That is no event of theirs: theirs went with them."""
        for subscription in self._subscriptions:
            subscription.push_gone(ids)

    @contextmanager
    def subscribe(
        self, task_id: str | None = None, wake: asyncio.Event | None = None
    ) -> Iterator[Subscription]:
        """Listen to all tasks or to one. ``wake`` is set with every event, for who waits for other things too."""
        subscription = Subscription(task_id, wake)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
