"""The routes of tasks: made from a template, looked at, paused and resumed, cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.app import concerns, service_of, token_of
from task_runner.api.body import body_object, idempotency_key
from task_runner.api.dialects.i3d import batches, shown
from task_runner.api.dialects.i3d.envelope import number_in, route
from task_runner.api.dialects.i3d.orders import Order, read_order
from task_runner.api.dialects.i3d.params import for_instance, renamed, typed
from task_runner.api.dialects.i3d.shown import ORIGIN
from task_runner.api.dialects.i3d.templates import chosen, form_of
from task_runner.api.dialects.i3d.view import KEY
from task_runner.errors import Conflict, InvalidRequest
from task_runner.model.scopes import Scope
from task_runner.model.state import State
from task_runner.service.accept import BatchOrder
from task_runner.service.batchform import parse_batch
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

#: tasks of a list
MOST = 100
#: seconds after which an answer says what is so by then
PATIENCE = 5.0
#: it will run, or has just begun to
_SOON = {State.STARTING, State.PROVISIONING, State.UNKNOWN}
_GOING = {State.RUNNING, State.PAUSED}


async def create(request: Request) -> Response:
    """POST …/task: a batch with a task for each instance."""
    service = service_of(request)
    order = read_order(await body_object(request), form_of(service.settings))
    try:
        # many instances take long, and the daemon has others to answer
        batch_order = await asyncio.to_thread(_batch_order, service, order)
        key = idempotency_key(request)
        made, _ = await service.submit_batch(batch_order, origin=ORIGIN, key=key, token=token_of(request))
    except InvalidRequest as error:
        raise renamed(error, "taskActionParam.") from None
    concerns(request, batch=made)
    return await batches.shown(service, [service.batches.get(made)])


def _batch_order(service: TaskService, order: Order) -> BatchOrder:
    known = chosen(service.templates.all(), order.template)
    assert known.template is not None
    values = typed(known.template, order.values)
    body: dict[str, Any] = {
        "name": known.name,
        "metadata": {KEY: {"executeAt": order.execute_at}},
        "tasks": [
            {
                "template": known.name,
                "parameters": for_instance(known.template, values, instance),
                "entity": instance,
                "executeAt": order.execute_at,
            }
            for instance in order.instances
        ],
    }
    return parse_batch(body, service.expand)


async def list_tasks(request: Request) -> Response:
    """GET …/task: the last 100."""
    return await shown.newest(service_of(request), MOST)


async def get_task(request: Request) -> Response:
    """GET …/task/{taskId}"""
    service = service_of(request)
    return await shown.tasks(service, [_task(service, request)])


async def pause_or_resume(request: Request) -> Response:
    """PUT …/task/{taskId}: pause it; or let it go on, where it is paused. Answers when it is so."""
    service = service_of(request)
    control, task = service.control, _task(service, request)
    concerns(request, tasks=[task.id])
    if task.record.state in _SOON:
        await control.settle(task, _GOING, PATIENCE)
    try:
        if (task.wish or task.record.state) is State.PAUSED:
            await control.settle(control.resume(task.id), {State.RUNNING}, PATIENCE)
        else:
            await control.settle(control.pause(task.id), {State.PAUSED}, PATIENCE)
    except Conflict as error:
        raise Conflict(f"Task cannot be pause: {error}") from None
    return await shown.tasks(service, [service.get(task.id)])


async def cancel(request: Request) -> Response:
    """DELETE …/task/{taskId}: cancel it. Answers when it has ended, or after a moment with how it is by then."""
    service = service_of(request)
    task = _task(service, request)
    concerns(request, tasks=[task.id])
    if task.final:
        assert task.record.outcome is not None
        raise Conflict(f"Task cannot be cancelled: it is over ({task.record.outcome.value})")
    return await shown.tasks(service, [await service.control.stop(task.id, wait=PATIENCE)])


def _task(service: TaskService, request: Request) -> Task:
    return service.by_seq(number_in(request, "task_id"), ORIGIN)


routes = [
    route("/applicationInstance/task", list_tasks, scope=Scope.READ),
    route("/applicationInstance/task", create, "POST", scope=Scope.SUBMIT_TEMPLATE),
    route("/applicationInstance/task/{task_id}", get_task, scope=Scope.READ),
    route("/applicationInstance/task/{task_id}", pause_or_resume, "PUT", scope=Scope.CONTROL),
    route("/applicationInstance/task/{task_id}", cancel, "DELETE", scope=Scope.CONTROL),
]
