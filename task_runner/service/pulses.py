"""Signs of life of runners: who has given none for too long is stalled, and does not keep a stop from happening."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from task_runner.environment.base import Environment, Sighting
from task_runner.service.book import Book
from task_runner.service.classify import stall_reason
from task_runner.service.task import Stall, Task

log = logging.getLogger(__name__)

#: seconds beyond the grace after which a stalled runner is killed to get its task stopped
STOP_PATIENCE = 30.0


class Pulses:
    """Of active tasks."""

    def __init__(self, book: Book, environment: Environment, *, stalled_after: float) -> None:
        self._book = book
        self._environment = environment
        self._stalled_after = stalled_after
        self._suspects: dict[str, float] = {}  # task id: the pulse that was found too old at the last scan
        self._tellings: set[asyncio.Task[None]] = set()

    def forget(self, task: Task) -> None:
        """It is over, or its pulse is as it should be."""
        self._suspects.pop(task.id, None)

    def check(self, task: Task, sighting: Sighting) -> None:
        """Called stalled only if two scans in a row found the very same old pulse."""
        reason = stall_reason(sighting, self._book.clock.monotonic(), self._stalled_after)
        pulse = sighting.heartbeat
        if reason is None or pulse is None:
            self.forget(task)
            if task.stall is not None:
                task.stall = None
                self._tell_mark(task)
            return
        if self._suspects.get(task.id) != pulse.monotonic:
            self._suspects[task.id] = pulse.monotonic
            return
        if task.stall is None:
            log.warning("task %s is stalled: %s", task.id, reason, extra={"action": "stalled", "task": task.id})
            task.stall = Stall(reason=reason, since=pulse.at)
            self._tell_mark(task)
        else:
            task.stall = replace(task.stall, reason=reason)
        self._press_stop(task, pulse.monotonic)

    def _tell_mark(self, task: Task) -> None:
        telling = asyncio.ensure_future(self._book.mark(task))
        self._tellings.add(telling)
        telling.add_done_callback(self._tellings.discard)

    def _press_stop(self, task: Task, pulse: float) -> None:
        """A stop was asked for and the runner does nothing: end the runner, then what it leaves."""
        if task.intent is None:
            return
        grace = task.intent.grace_seconds
        silence = self._book.clock.monotonic() - pulse
        if silence > STOP_PATIENCE + (10.0 if grace is None else grace):
            log.warning("task %s: its stalled runner does not stop it; killing the runner", task.id)
            self._environment.abandon(task.id, task.record.attempt)
