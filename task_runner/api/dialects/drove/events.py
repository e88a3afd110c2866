"""Events: every change of a task's state, as it was stored when it happened.

They are kept as long as their task, not for an hour in memory as with Drove, and outlive the daemon. Other changes of a
cluster (of leadership, executors, maintenance) are not told as events.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.dialects.drove import taskinfo
from task_runner.api.dialects.drove.envelope import success
from task_runner.api.dialects.drove.node import millis
from task_runner.api.dialects.drove.record import KEY
from task_runner.api.dialects.drove.states import TaskState, state_in
from task_runner.api.dialects.drove.taskinfo import Place
from task_runner.api.dialects.drove.tasks import place_of
from task_runner.api.params import Integer
from task_runner.lib.clock import stamp
from task_runner.model.scopes import Scope
from task_runner.service.statements import StoredChange
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

TYPE = "TASK_STATE_CHANGE"
_SINCE = Integer(name="lastSyncTime", default=0, high=2**63 - 1, meaning="Those later than this, in milliseconds.")
_SIZE = Integer(name="size", default=1024, high=2**31 - 1, meaning="How many at most; the default is Drove's.")
#: at most so many in one answer, whatever was asked for
MAX_SIZE = 4096
#: seconds for a task to come to the end that is stored of it
PATIENCE = 60.0
#: from these on it is known how it ends
_DECIDED = frozenset({
    TaskState.PROVISIONING_FAILED, TaskState.RUN_FAILED, TaskState.RUN_COMPLETED, TaskState.DEPROVISIONING,
    TaskState.STOPPED, TaskState.LOST,
})  # fmt: skip
#: the last millisecond that a stamp can say
_LAST = 253_402_300_799_999


def view(change: StoredChange, task: Task, place: Place) -> dict[str, Any] | None:
    """A DroveEvent; None where Drove sees no change: to it a task that is paused is running."""
    event, state = change.event, state_in(change.event.data)
    if change.before is not None and state_in(change.before) is state:
        return None
    info = taskinfo.view(task, place)
    metadata = {
        "APP_NAME": info["sourceAppName"],
        "TASK_ID": info["taskId"],
        "INSTANCE_ID": info["instanceId"],
        "EXECUTABLE": info["executable"]["url"],
        "CREATED": info["created"],
        "CURRENT_STATE": state.value,
    }
    if state is not TaskState.PENDING:
        metadata |= {"EXECUTOR_ID": place.executor_id, "EXECUTOR_HOST": place.hostname}
    # of attempts before the last it is not known any more why they ended so
    if state in _DECIDED and event.data["attempt"] == task.record.attempt:
        result = info["taskResult"] or {}
        metadata |= {
            "ERROR": info["errorMessage"] or None,
            "RESULT_STATUS": result.get("status"),
            "RESULT_EXIT_CODE": result.get("exitCode"),
        }
    return {
        "type": TYPE,
        "id": str(uuid.uuid3(uuid.UUID(place.executor_id), f"{event.seq} {event.at}")),
        "time": millis(event.at),
        "metadata": metadata,
    }


async def _changes(request: Request, size: int) -> list[dict[str, Any]]:
    """Those that came after the time that is asked for, the newest first."""
    since = _since(request)
    if since >= _LAST:
        return []
    service, after = service_of(request), stamp((since + 1) / 1000)
    changes = await asyncio.to_thread(service.store.changes, KEY, after, min(size, MAX_SIZE))
    for change in changes:
        if _is_early(change, service.book.active.get(change.event.task_id)):
            await service.book.wait(change.event.task_id, PATIENCE)
    active, ids = dict(service.book.active), {change.event.task_id for change in changes}
    tasks = await asyncio.to_thread(_tasks, service, active, ids)
    there = [(change, tasks[change.event.task_id]) for change in changes if change.event.task_id in tasks]
    place = place_of(service)
    return [shown for change, task in there if (shown := view(change, task, place)) is not None]


def _is_early(change: StoredChange, task: Task | None) -> bool:
    """Whether the store has the end of a task that has not come to it (service/book.py), which it will at once."""
    data = change.event.data
    if task is None or task.final or not task.ending:
        return False
    return data["outcome"] is not None and data["attempt"] == task.record.attempt


def _since(request: Request) -> int:
    return _SINCE.number(request.query_params)


def _size(request: Request) -> int:
    return _SIZE.number(request.query_params)


def _synced(request: Request, changes: Sequence[Mapping[str, Any]]) -> int:
    """The time to ask for next."""
    return max((int(each["time"]) for each in changes), default=_since(request))


def _tasks(service: TaskService, active: Mapping[str, Task], ids: set[str]) -> dict[str, Task]:
    """Those that are still there. Reads the store."""
    found = {task_id: active.get(task_id) or service.store.get(task_id) for task_id in ids}
    return {task_id: task for task_id, task in found.items() if task is not None and not task.deleted}


async def list_events(request: Request) -> Response:
    """GET /apis/v1/cluster/events?lastSyncTime=0&size=1024"""
    return success(await _changes(request, _size(request)))


async def latest_events(request: Request) -> Response:
    """GET /apis/v1/cluster/events/latest: the same, with the time to ask for next."""
    changes = await _changes(request, _size(request))
    return success({"events": changes, "lastSyncTime": _synced(request, changes)})


async def count_events(request: Request) -> Response:
    """GET /apis/v1/cluster/events/summary: how many of each type."""
    changes = await _changes(request, MAX_SIZE)
    return success({"eventsCount": {TYPE: len(changes)} if changes else {}, "lastSyncTime": _synced(request, changes)})


routes = [
    route("/apis/v1/cluster/events", list_events, scope=Scope.READ),
    route("/apis/v1/cluster/events/latest", latest_events, scope=Scope.READ),
    route("/apis/v1/cluster/events/summary", count_events, scope=Scope.READ),
]
