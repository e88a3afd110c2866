"""Tasks: those that are active, one of them, forgetting one, and finding one for a browser."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import concerns, service_of
from task_runner.api.body import raw_body
from task_runner.api.dialects.drove.envelope import failure, invalid, success
from task_runner.api.dialects.drove.node import executor_id, hostname
from task_runner.api.dialects.drove.record import KEY, alias_of
from task_runner.api.dialects.drove.states import LISTED, state_of
from task_runner.api.dialects.drove.taskinfo import Place, names, view
from task_runner.errors import Conflict, NotFound, StorageFull
from task_runner.model.scopes import Scope
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

_NAME = re.compile(r"[a-zA-Z\d_-]+", re.ASCII)
_FORM = ("taskSearchAppName", "taskSearchTaskID")


def place_of(service: TaskService) -> Place:
    """This node."""
    return Place(executor_id(service.settings.state_dir), hostname())


def find(request: Request) -> Task | None:
    """The task that the path names."""
    app, name = request.path_params["app"], request.path_params["task"]
    return service_of(request).aliases.find(alias_of(app, name))


def unfinished(service: TaskService) -> list[Task]:
    """Those of Drove's clients that are not over, in the order of acceptance."""
    return [each for each in service.book.unfinished(KEY) if names(each) is not None]


def active(service: TaskService) -> list[dict[str, Any]]:
    """TaskInfo of each that is active, as Drove counts it: not those that fail just now, nor those not yet examined."""
    place = place_of(service)
    return [view(each, place) for each in unfinished(service) if state_of(each.record) in LISTED]


async def list_tasks(request: Request) -> Response:
    """GET /apis/v1/tasks"""
    return success(active(service_of(request)))


async def get_task(request: Request) -> Response:
    """GET …/instances/{task}: one that is not there is told with a status of 200."""
    task = find(request)
    if task is None:
        return failure(f"No such task instance {_asked(request)}")
    return success(view(task, place_of(service_of(request))))


async def delete_task(request: Request) -> Response:
    """DELETE …/instances/{task}: its name is free at once. One that is active is stopped: it does not run on unseen."""
    task, why = find(request), ""
    if task is not None:
        try:
            await service_of(request).delete(task.id)
        except (Conflict, NotFound, StorageFull) as error:  # others wait for it; it is just being removed
            why = f": {error}"
        else:
            left = find(request)
            if left is None or left.id != task.id:
                concerns(request, tasks=[task.id])
                return success({"deleted": True})
            why = ": the disk is full, and it goes as soon as there is room"
    return failure(f"Could not delete {_asked(request)}{why}", {"deleted": False})


async def search(request: Request) -> Response:
    """POST /apis/v1/tasks/search: leads to the page of a task, or to the first one where there is no such task."""
    form = parse_qs((await raw_body(request)).decode("utf-8", "replace"), keep_blank_values=True)
    app, name = (form.get(field, [""])[0] for field in _FORM)
    if faults := [_fault(*each) for each in zip(_FORM, (app, name), strict=True) if not _NAME.fullmatch(each[1])]:
        return invalid(*faults)
    found = service_of(request).aliases.find(alias_of(app, name))
    return Response(status_code=303, headers={"Location": f"/tasks/{app}/{name}" if found else "/"})


def _fault(field: str, value: str) -> str:
    return f"{field} - must match [a-zA-Z\\d\\-_]*" if value else f"{field} - must not be empty"


def _asked(request: Request) -> str:
    return f"{request.path_params['app']}/{request.path_params['task']}"


_ONE = "/apis/v1/tasks/{app}/instances/{task}"

routes = [
    route("/apis/v1/tasks", list_tasks, scope=Scope.READ),
    route("/apis/v1/tasks/search", search, scope=Scope.READ, methods=["POST"], changes=False),
    route(_ONE, get_task, scope=Scope.READ),
    route(_ONE, delete_task, scope=Scope.CONTROL, methods=["DELETE"]),
]
