"""The queue: tasks that wait, in the order of acceptance, and their way into the environment."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from dataclasses import replace

from task_runner.environment.base import Environment, Launch, Refusal
from task_runner.lib import failpoint
from task_runner.model.state import Event, State, step
from task_runner.service.book import Book
from task_runner.service.schedule import Limits, Room, room
from task_runner.service.task import Task

log = logging.getLogger(__name__)

#: seconds before a launch that the environment refused is tried again: doubled each time, up to the last
RETRY_FIRST, RETRY_LAST = 0.1, 30.0


class Queue:
    """Pending tasks, and those launched."""

    def __init__(self, book: Book, environment: Environment, limits: Limits) -> None:
        self._book = book
        self._environment = environment
        self.limits = limits
        self._pending: list[tuple[int, str]] = []
        #: launched and not over
        self.running: set[str] = set()
        #: launched and not yet seen to run
        self.starting: set[str] = set()
        #: ends a task that is not to be started any more; set by the service
        self.cancel: Callable[[Task], None] = lambda _task: None
        book.on_final.append(self._over)

    def __len__(self) -> int:
        return sum(1 for task in self._book.active.values() if task.waiting)

    def add(self, task: Task) -> None:
        """Let a task wait its turn."""
        heapq.heappush(self._pending, (task.seq, task.id))

    def adopt(self, task: Task) -> None:
        """Count a task that was launched by an earlier daemon."""
        self.running.add(task.id)

    def fill(self) -> None:
        """Launch as many as may start."""
        now = self._book.clock.monotonic()
        free = self._room().count
        while free > 0 and self._pending:
            _seq, task_id = heapq.heappop(self._pending)
            task = self._book.active.get(task_id)
            # stopped, deleted or started meanwhile; or waiting for its next try, which adds it again
            if task is None or not task.waiting or task.ending or task.not_before > now:
                continue
            if task.intent is not None:
                self.cancel(task)  # stopped while its launch was on the way, and then the launch was recalled
                continue
            self._launch(task)
            free -= 1

    def _room(self) -> Room:
        return room(len(self.running), len(self.starting), self.limits)

    def _launch(self, task: Task) -> None:
        task.record = replace(task.record, state=step(task.record.state, Event.LAUNCH))
        task.launched_at = self._book.clock.monotonic()
        task.pending_reason = None
        self.running.add(task.id)
        self.starting.add(task.id)
        failpoint.reach("start.before-launch")
        self._environment.launch(
            Launch(task_id=task.id, attempt=task.record.attempt, spec=task.spec_json)
        )
        failpoint.reach("start.after-launch")

    def started(self, task: Task) -> None:
        """A launched task was seen to run."""
        if task.id in self.starting:
            self.starting.discard(task.id)
            self.fill()

    def back(self, task: Task) -> None:
        """A launch that is proven not to have happened: the task waits again, at its old place."""
        self.running.discard(task.id)
        self.starting.discard(task.id)
        task.launched_at = None
        if task.record.state in (State.STARTING, State.UNKNOWN):
            task.record = replace(task.record, state=State.PENDING)
        self.add(task)

    def refused(self, refusal: Refusal) -> None:
        """The environment could not launch; try again later, and say why meanwhile."""
        task = self._book.active.get(refusal.task_id)
        if task is None or task.record.attempt != refusal.attempt or task.id not in self.starting:
            return
        delay = min(RETRY_LAST, RETRY_FIRST * 2**task.refusals)
        task.refusals += 1
        task.not_before = self._book.clock.monotonic() + delay
        task.pending_reason = f"it could not be started, and will be tried again: {refusal.reason}"
        log.warning("task %s: %s", task.id, task.pending_reason)
        self.back(task)
        asyncio.get_running_loop().call_later(delay, self._again, task)

    def _again(self, task: Task) -> None:
        if task.waiting and task.id in self._book.active:
            task.not_before = 0.0
            self.add(task)
            self.fill()

    def _over(self, task: Task) -> None:
        self.running.discard(task.id)
        self.starting.discard(task.id)

    def reason(self, task: Task) -> str | None:
        """What a pending task waits for, in words."""
        if not task.waiting:
            return None
        return task.pending_reason or self._room().reason
