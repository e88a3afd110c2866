"""Tasks: handed in, looked at, controlled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.base import Base
from task_runner.client.calls import Call
from task_runner.client.records import Attempt, Notification, Task, is_over

#: seconds between two looks at a task that the daemon did not wait for
BREATH = 0.05

_TASK_FIELDS = frozenset(Task.__annotations__)
_ATTEMPT_FIELDS = frozenset(Attempt.__annotations__)
_NOTIFICATION_FIELDS = frozenset(Notification.__annotations__)


class Tasks(Base):
    """What a client may ask about tasks. An id may be shortened where that still names one task."""

    def submit(self, body: Mapping[str, object], idempotency_key: str | None = None) -> Task:
        """Hand in a task. With a key it is safe to call this again: the same key gives the same task."""
        return self._task(calls.submit(body, idempotency_key))

    def get(self, task_id: str, wait: float | None = None) -> Task:
        """The task now, or as soon as it is over if that is within ``wait`` seconds."""
        return self._task(calls.get(task_id, wait))

    def attempt(self, task_id: str, number: int) -> Attempt:
        """The whole status of one attempt, as its runner wrote it."""
        return cast("Attempt", self._object(calls.attempt(task_id, number), _ATTEMPT_FIELDS))

    def explain(self, task_id: str) -> dict[str, Any]:
        """What is known beyond its status: why it waits, what it does now, how it ended; "summary" in words."""
        return self._object(calls.explain(task_id), frozenset({"taskId", "state", "summary"}))

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task when it is over, or after ``timeout`` seconds as it is then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
            asked = time.monotonic()
            task = self.get(task_id, min(left, calls.LONGEST_WAIT))
            if is_over(task) or (end is not None and time.monotonic() >= end):
                return task
            if time.monotonic() - asked < BREATH:
                time.sleep(BREATH)  # a daemon about to go does not wait with us

    def list(self, **filters: str | float | bool | Iterable[str] | None) -> Iterator[Task]:
        """Tasks that match: state, outcome, batch, entity, tag, stalled, q, order. All pages; ``limit`` is of one."""
        for task in self._pages(calls.listing(filters), _TASK_FIELDS):
            yield cast("Task", task)

    def stop(
        self, task_id: str, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Task:
        """Stop a task; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return self._task(calls.stop(task_id, signal, grace, wait))

    def pause(self, task_id: str) -> Task:
        return self._task(calls.pause(task_id))

    def resume(self, task_id: str) -> Task:
        return self._task(calls.resume(task_id))

    def signal(self, task_id: str, name: str) -> Task:
        """Send a signal to the first process of the task's current action."""
        return self._task(calls.send_signal(task_id, name))

    def retry(self, task_id: str) -> Task:
        """Run a task that is over once more."""
        return self._task(calls.retry(task_id))

    def reschedule(self, task_id: str, at: float | str | None) -> Task:
        """Let a task that has not started run at another time: seconds since 1970, or ISO 8601; None: now."""
        return self._task(calls.reschedule(task_id, at))

    def delete(self, task_id: str) -> None:
        """Forget a task; one that is active is stopped first."""
        self._connection.send(calls.delete(task_id))

    def notifications(self, task_id: str) -> Sequence[Notification]:
        """What its webhooks were to be told, oldest first, and what came of it."""
        return cast("Sequence[Notification]", self._list(calls.notifications(task_id), _NOTIFICATION_FIELDS))

    def redeliver(self, task_id: str, n: int) -> Notification:
        """Send a notification once more."""
        return cast("Notification", self._object(calls.redeliver(task_id, n), _NOTIFICATION_FIELDS))

    def _task(self, call: Call) -> Task:
        return cast("Task", self._object(call, _TASK_FIELDS))
