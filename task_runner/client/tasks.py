"""Tasks: handed in, looked at, controlled.

A task is named by its id, which may be shortened where that still names one, or by a record that has a "taskId".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.core import Core, new_key, required, task_of, until
from task_runner.client.records import Attempt, Notification, Task, is_over
from task_runner.client.steps import Flow, Plan, flow, plan
from task_runner.client.work import Work, body_of

TaskRef = str | Mapping[str, object]

_TASK_FIELDS = required(Task)
_ATTEMPT_FIELDS = required(Attempt)
_NOTIFICATION_FIELDS = required(Notification)


class Tasks(Core):
    """What a client may ask about tasks."""

    @plan
    def submit(self, /, work: Work | None = None, idempotency_key: str | None = None, **spec: Any) -> Plan[Task]:
        """Hand in a task; by the time this returns it is on stable storage.

        ``work`` is a command as a list of words, or a whole spec; ``spec`` adds fields to it (`timeout_seconds=600`) or
        stands alone (`template="build", parameters={"branch": "main"}`). A request whose answer is lost is sent again
        with the same key and makes one task. Without ``idempotency_key`` each call has a key of its own; with it, calls
        of a day with the same key make one task, too.
        """
        key = new_key() if idempotency_key is None else idempotency_key
        return (yield from self._task(calls.submit(body_of(work, spec), key)))

    @plan
    def get(self, task: TaskRef, wait: float | None = None) -> Plan[Task]:
        """The task now, or as soon as it is over if that is within ``wait`` seconds."""
        return (yield from self._task(calls.get(task_of(task), wait)))

    @plan
    def attempt(self, task: TaskRef, number: int) -> Plan[Attempt]:
        """The whole status of one attempt, as its runner wrote it."""
        return cast("Attempt", (yield from self._object(calls.attempt(task_of(task), number), _ATTEMPT_FIELDS)))

    @plan
    def explain(self, task: TaskRef) -> Plan[dict[str, Any]]:
        """What is known beyond its status: why it waits, what it does now, how it ended; "summary" in words."""
        return (yield from self._object(calls.explain(task_of(task)), frozenset({"taskId", "state", "summary"})))

    @plan
    def wait(self, task: TaskRef, timeout: float | None = None) -> Plan[Task]:
        """The task when it is over, or after ``timeout`` seconds as it is then."""
        task_id = task_of(task)
        return (yield from until(lambda wait: self._task(calls.get(task_id, wait)), is_over, timeout))

    @plan
    def wait_all(self, tasks: Iterable[TaskRef], timeout: float | None = None) -> Plan[Sequence[Task]]:
        """The tasks in this order when all are over, or after ``timeout`` seconds as they are then."""
        end = None if timeout is None else time.monotonic() + timeout
        found = []
        for task in tasks:
            left = None if end is None else max(0.0, end - time.monotonic())
            found.append((yield from Tasks.wait.of(self, task, left)))
        return found

    @flow
    def list(self, /, **filters: str | float | bool | Iterable[str] | None) -> Flow[Task]:
        """Tasks that match: state, outcome, batch, entity, tag, stalled, q, order. All pages; ``limit`` is of one."""
        yield from self._pages(calls.listing(filters), _TASK_FIELDS)

    @plan
    def stop(
        self, task: TaskRef, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Plan[Task]:
        """Stop a task; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return (yield from self._task(calls.stop(task_of(task), signal, grace, wait)))

    @plan
    def pause(self, task: TaskRef) -> Plan[Task]:
        """Freeze every process of a task."""
        return (yield from self._task(calls.pause(task_of(task))))

    @plan
    def resume(self, task: TaskRef) -> Plan[Task]:
        """Let it go on."""
        return (yield from self._task(calls.resume(task_of(task))))

    @plan
    def signal(self, task: TaskRef, name: str) -> Plan[Task]:
        """Send a signal to the first process of the task's current action. Sent once: it would count twice."""
        return (yield from self._task(calls.send_signal(task_of(task), name)))

    @plan
    def retry(self, task: TaskRef) -> Plan[Task]:
        """Run a task that is over once more. Sent once: where the answer is lost, look at its "attempt"."""
        return (yield from self._task(calls.retry(task_of(task))))

    @plan
    def reschedule(self, task: TaskRef, at: float | str | None) -> Plan[Task]:
        """Let a task that has not started run at another time: seconds since 1970, or ISO 8601; None: now."""
        return (yield from self._task(calls.reschedule(task_of(task), at)))

    @plan
    def delete(self, task: TaskRef) -> Plan[None]:
        """Forget a task; one that is active is stopped first. Sent once: a shortened id may by then be another's."""
        yield from self._ask(calls.delete(task_of(task)))

    @plan
    def notifications(self, task: TaskRef) -> Plan[Sequence[Notification]]:
        """What its webhooks were to be told, oldest first, and what came of it."""
        found = yield from self._list(calls.notifications(task_of(task)), _NOTIFICATION_FIELDS)
        return cast("Sequence[Notification]", found)

    @plan
    def redeliver(self, task: TaskRef, n: int) -> Plan[Notification]:
        """Send a notification once more."""
        found = yield from self._object(calls.redeliver(task_of(task), n), _NOTIFICATION_FIELDS)
        return cast("Notification", found)

    def _task(self, call: Call) -> Plan[Task]:
        return cast("Task", (yield from self._object(call, _TASK_FIELDS)))
