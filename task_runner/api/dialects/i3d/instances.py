"""The routes of application instances and hosts: their tasks, and what is done to them by templates of that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.app import concerns, service_of, token_of
from task_runner.api.body import body_object, idempotency_key
from task_runner.api.dialects.i3d import shown
from task_runner.api.dialects.i3d.envelope import BadId, Handler, Impossible, number_in, route
from task_runner.api.dialects.i3d.orders import instance_fault, read_pairs
from task_runner.api.dialects.i3d.params import for_instance, renamed, typed
from task_runner.api.dialects.i3d.shown import ORIGIN
from task_runner.api.dialects.i3d.templates import form_of
from task_runner.errors import FieldError, InvalidRequest, NotFound
from task_runner.model.scopes import Scope
from task_runner.model.template import Template
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_spec

#: tasks of a list
MOST = 50
OPERATIONS = ("start", "stop", "restart", "deploy")
COMMAND = "customCommand"


async def list_tasks(request: Request) -> Response:
    """GET …/{applicationInstanceId}/task: the last 50. Which instances there are is not known: any may be asked for."""
    return await shown.newest(service_of(request), MOST, str(number_in(request, "instance")))


async def list_host_tasks(request: Request) -> Response:
    """GET /v3/host/{hostId}/task: the last 50 of this machine."""
    service, number = service_of(request), number_in(request, "host")
    known = service.settings.i3d_host_id
    if number != known:
        what = "does not know its number (set i3d_host_id)" if known is None else f"is host {known}"
        raise NotFound(f"there is no host {number} here: this machine {what}")
    return await shown.newest(service, MOST)


def _operation(name: str) -> Handler:
    async def operate(request: Request) -> Response:
        """POST …/{applicationInstanceId}/NAME: the fields of the body are parameters of the template."""
        values = {field: value for field, value in (await body_object(request)).items() if value is not None}
        return await _run(request, name, values, "")

    return operate


async def command(request: Request) -> Response:
    """POST /v3/customCommand/applicationInstance/{applicationInstanceId}: its keys are parameters of the template."""
    body = await body_object(request)
    unknown = [field for field in body if field != COMMAND]
    faults = [FieldError(field[:100], f"there is no such field; there is: {COMMAND}") for field in unknown]
    values = read_pairs(body.get(COMMAND), COMMAND, ("key", "value"), faults)
    if faults:
        raise InvalidRequest(fields=faults)
    return await _run(request, COMMAND, values, f"{COMMAND}.")


async def command_host(request: Request) -> Response:
    """POST /v3/customCommand/host/{hostId}"""
    number_in(request, "host")
    raise Impossible(
        "a command for a host is one for all of its instances, and this daemon does not know which there are: "
        "send it to each of them, POST /v3/customCommand/applicationInstance/{applicationInstanceId}"
    )


async def _run(request: Request, name: str, values: Mapping[str, Any], prefix: str) -> Response:
    """Make a task of the template of this name, for the instance in the path."""
    service, instance = service_of(request), str(number_in(request, "instance"))
    if wrong := instance_fault(instance, form_of(service.settings)):
        raise BadId(wrong)
    template = _template(service, name)
    try:
        given = for_instance(template, typed(template, values), instance)
        body, _ = service.expand({"template": name, "parameters": given, "entity": instance})
        made = await service.submit(
            parse_spec(body), origin=ORIGIN, key=idempotency_key(request), template=name, token=token_of(request)
        )
    except InvalidRequest as error:
        raise renamed(error, prefix) from None
    concerns(request, tasks=[made.task.id])
    return await shown.tasks(service, [made.task])


def _template(service: TaskService, name: str) -> Template:
    try:
        known = service.templates.get(name)
    except NotFound:
        remedy = f"put one there: task-runner template put {name} FILE, or {name}.toml in templates_dir"
        raise Impossible(f"this is done by the template {name!r}, and there is none; {remedy}") from None
    if known.template is None:
        raise Impossible(f"this is done by the template {name!r}, which cannot be used: {known.error}")
    return known.template


routes = [
    route("/applicationInstance/{instance}/task", list_tasks, scope=Scope.READ),
    route("/host/{host}/task", list_host_tasks, scope=Scope.READ),
    *(
        route(f"/applicationInstance/{{instance}}/{name}", _operation(name), "POST", scope=Scope.SUBMIT_TEMPLATE)
        for name in OPERATIONS
    ),
    route("/customCommand/applicationInstance/{instance}", command, "POST", scope=Scope.SUBMIT_TEMPLATE),
    route("/customCommand/host/{host}", command_host, "POST", scope=Scope.SUBMIT_TEMPLATE),
]
