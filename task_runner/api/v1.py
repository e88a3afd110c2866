"""The routes of `/v1`: from a request to a use case and back."""

from __future__ import annotations

import asyncio
import functools
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from task_runner import __version__
from task_runner.api import (
    audit,
    batches,
    explain,
    files,
    node,
    notifications,
    problem,
    templates,
    timeline,
    tokens,
)
from task_runner.api.access import HOLDER, OPEN, route
from task_runner.api.app import concerns, expander, service_of, token_of
from task_runner.api.body import grace_of, idempotency_key, raw_body, signal_name_of, signal_of
from task_runner.api.contract import node as service_contract
from task_runner.api.contract import output as output_contract
from task_runner.api.contract import tasks as contract
from task_runner.api.contract.path import ATTEMPT
from task_runner.api.description import routes as description
from task_runner.api.events import get_events
from task_runner.api.metrics import get_metrics
from task_runner.api.output import get_output, json_response
from task_runner.api.params import known_only
from task_runner.api.surface import Surface
from task_runner.api.view import task_json
from task_runner.api.web import routes as web
from task_runner.errors import InvalidRequest, NotFound
from task_runner.model.codec import to_json
from task_runner.model.scopes import Scope
from task_runner.model.spec import Spec
from task_runner.model.state import State
from task_runner.service import when
from task_runner.service.batchform import Expand
from task_runner.service.store import Query
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_json, parse_spec

LARGE_BODY = 65_536


def _shown(service: TaskService, task: Task) -> dict[str, Any]:
    path_of = functools.partial(service.environment.output_path, task.id, task.record.attempt)
    unforwarded = functools.partial(service.environment.unforwarded, task.id, task.record.attempt)
    return task_json(task, service.queue.reason(task), path_of, unforwarded)


def _spec(raw: bytes, expand: Expand) -> tuple[Spec, str | None]:
    """What a body asks for, and the name of the template that it was made from."""
    body = parse_json(raw)
    body, template = expand(body) if isinstance(body, dict) else (body, None)
    return parse_spec(body), template


async def create_task(request: Request) -> Response:
    """POST /v1/tasks: 201 once the task is on stable storage; 200 if the idempotency key was used before."""
    raw, key, service = await raw_body(request), idempotency_key(request), service_of(request)
    expand = expander(request)
    # a large body takes long to check, and the daemon has others to answer
    spec, template = (
        _spec(raw, expand) if len(raw) < LARGE_BODY else await asyncio.to_thread(_spec, raw, expand)
    )
    accepted = await service.submit(spec, key=key, template=template, token=token_of(request))
    concerns(request, tasks=[accepted.task.id])
    body = _shown(service, accepted.task)
    return json_response(
        body, 200 if accepted.repeated else 201, {"Location": f"/v1/tasks/{accepted.task.id}"}
    )


async def list_tasks(request: Request) -> Response:
    """GET /v1/tasks: an array, newest last; the next page in the Link header."""
    service, params = service_of(request), request.query_params
    query = _query(params)
    tasks = await service.page(query)
    headers = {}
    if len(tasks) == query.limit:
        rest = [(name, value) for name, value in params.multi_items() if name != "cursor"]
        following = urlencode([*rest, ("cursor", str(tasks[-1].seq))])
        headers["Link"] = f'</v1/tasks?{following}>; rel="next"'
    return json_response([_shown(service, task) for task in tasks], headers=headers)


def _query(params: QueryParams) -> Query:
    known_only(params, contract.LISTED)
    tags = tuple(params.getlist("tag"))
    for tag in tags:
        if "=" not in tag:
            raise InvalidRequest.at("tag", f"expected key=value, found {tag[:40]!r}")
    return Query(
        states=contract.STATE.read(params),
        outcomes=contract.OUTCOME.read(params),
        tags=tags,
        batch=params.get("batch"),
        entity=params.get("entity"),
        origin=params.get("origin"),
        alias=params.get("alias"),
        text=params.get("q"),
        stalled=contract.STALLED.read(params),
        after=contract.CURSOR.read(params),
        newest_first=contract.ORDER.read(params) == "desc",
        limit=contract.LIMIT.number(params),
    )


async def get_task(request: Request) -> Response:
    """GET /v1/tasks/{id}: with ?wait=SECONDS, as soon as it is over."""
    service = service_of(request)
    patience = contract.WAIT.read(request.query_params)
    task = service.get(request.path_params["task_id"])
    if patience and not task.final:
        await request.app.state.streams.wait_unless_closing(service.wait(task.id, patience))
        task = service.get(task.id)
    return json_response(_shown(service, task))


async def stop_task(request: Request) -> Response:
    """POST …/stop: {"signal", "graceSeconds"}; answers after at most ?wait= seconds (0.5) with what is so then."""
    service, body = service_of(request), await contract.STOPPING.of(request)
    patience = contract.WAIT_STOP.read(request.query_params)
    task = await service.control.stop(
        request.path_params["task_id"], signal=signal_name_of(body), grace=grace_of(body), wait=patience
    )
    return json_response(_shown(service, task))


async def pause_task(request: Request) -> Response:
    """POST …/pause"""
    service, control = service_of(request), service_of(request).control
    await contract.NOTHING.of(request)
    task = await control.settle(control.pause(request.path_params["task_id"]), {State.PAUSED})
    return json_response(_shown(service, task))


async def resume_task(request: Request) -> Response:
    """POST …/resume"""
    service, control = service_of(request), service_of(request).control
    await contract.NOTHING.of(request)
    task = await control.settle(control.resume(request.path_params["task_id"]), {State.RUNNING})
    return json_response(_shown(service, task))


async def signal_task(request: Request) -> Response:
    """POST …/signal: {"signal": "SIGHUP"}"""
    service, body = service_of(request), await contract.SIGNALLING.of(request)
    task = service.control.signal(request.path_params["task_id"], signal_of(body))
    return json_response(_shown(service, task))


async def retry_task(request: Request) -> Response:
    """POST …/retry: one more attempt of a task that is over."""
    service = service_of(request)
    await contract.NOTHING.of(request)
    return json_response(_shown(service, await service.control.retry(request.path_params["task_id"])))


async def change_task(request: Request) -> Response:
    """PATCH /v1/tasks/{id}: {"executeAt"}: another time for a task that has not started; null or 0: now."""
    service, body = service_of(request), await contract.CHANGING.of(request)
    task = service.get(request.path_params["task_id"])
    if "executeAt" not in body:
        raise InvalidRequest.at("executeAt", "this field is required: a time, or null for now")
    at = when.read(body["executeAt"], "executeAt")
    return json_response(_shown(service, await service.control.reschedule(task.id, at)))


async def give_input(request: Request) -> Response:
    """POST …/input: the body is bytes for the command's standard input. ?end=true: there will be no more.

    With ?offset=N the bytes are taken only if N came before, so a request can be repeated safely.
    """
    service, query = service_of(request), request.query_params
    data = await raw_body(request)
    offset, end = contract.OFFSET.read(query), bool(contract.END.read(query))
    total = await service.control.feed(request.path_params["task_id"], data, offset=offset, end=end)
    return json_response({"bytes": total})


async def get_attempt(request: Request) -> Response:
    """GET …/attempts/{n}: the whole status of one attempt, as its runner wrote it."""
    service = service_of(request)
    task = service.get(request.path_params["task_id"])
    number = replace(ATTEMPT, high=task.record.attempt).number(request.path_params)
    status = task.record.status
    if status is None or status.attempt != number:
        status = await asyncio.to_thread(service.environment.report, task.id, number)
    if status is None:
        raise NotFound(f"nothing is known of attempt {number} of task {task.id}")
    return json_response(to_json(status))


async def delete_task(request: Request) -> Response:
    """DELETE /v1/tasks/{id}"""
    await service_of(request).delete(request.path_params["task_id"])
    return json_response({"success": True})


# -- what there is


async def get_index(_request: Request) -> Response:
    """GET /: what there is, as Tessia's nodes say it."""
    api = {"root": "/v1", "version": __version__, "min_version": "0.0.0"}
    return json_response({"name": "task_runner", "version": __version__, "apis": [api]})


async def get_root(_request: Request) -> Response:
    """GET /v1/"""
    return json_response({"success": True})


async def get_health(_request: Request) -> Response:
    """GET /health: the process answers. The only route without a token."""
    return json_response({"status": "ok"})


async def get_ready(request: Request) -> Response:
    """GET /ready: every earlier task has been examined and the store takes changes."""
    service = service_of(request)
    service.require_ready()
    if service.book.storage_error is not None:
        return problem.problem(503, f"the store takes no changes: {service.book.storage_error}")
    return json_response({"status": "ready"})


routes = [
    web.home,
    route("/", get_index, scope=HOLDER, doc=service_contract.INDEX),
    route("/health", get_health, scope=OPEN, doc=service_contract.HEALTH),
    route("/ready", get_ready, scope=HOLDER, doc=service_contract.READY),
    route("/metrics", get_metrics, scope=Scope.READ, doc=service_contract.METRICS),
    route("/v1", get_root, scope=HOLDER, doc=service_contract.ROOT),
    route("/v1/", get_root, scope=HOLDER, doc=service_contract.ROOT),
    *description.routes,
    route("/v1/tasks", create_task, scope=Scope.SUBMIT_TEMPLATE, methods=["POST"], doc=contract.CREATE),
    route("/v1/tasks/", create_task, scope=Scope.SUBMIT_TEMPLATE, methods=["POST"], doc=contract.CREATE),
    route("/v1/tasks", list_tasks, scope=Scope.READ, doc=contract.LIST),
    route("/v1/tasks/", list_tasks, scope=Scope.READ, doc=contract.LIST),
    route("/v1/tasks/{task_id}", get_task, scope=Scope.READ, doc=contract.GET),
    route("/v1/tasks/{task_id}", change_task, scope=Scope.CONTROL, methods=["PATCH"], doc=contract.CHANGE),
    route("/v1/tasks/{task_id}", delete_task, scope=Scope.CONTROL, methods=["DELETE"], doc=contract.DELETE),
    route("/v1/tasks/{task_id}/stop", stop_task, scope=Scope.CONTROL, methods=["POST"], doc=contract.STOP),
    route("/v1/tasks/{task_id}/pause", pause_task, scope=Scope.CONTROL, methods=["POST"], doc=contract.PAUSE),
    route("/v1/tasks/{task_id}/resume", resume_task, scope=Scope.CONTROL, methods=["POST"], doc=contract.RESUME),
    route("/v1/tasks/{task_id}/retry", retry_task, scope=Scope.CONTROL, methods=["POST"], doc=contract.RETRY),
    route("/v1/tasks/{task_id}/signal", signal_task, scope=Scope.CONTROL, methods=["POST"], doc=contract.SEND_SIGNAL),
    route("/v1/tasks/{task_id}/input", give_input, scope=Scope.CONTROL, methods=["POST"], doc=contract.INPUT),
    route("/v1/tasks/{task_id}/attempts/{attempt}", get_attempt, scope=Scope.READ, doc=contract.ATTEMPT),
    route("/v1/tasks/{task_id}/output", get_output, scope=Scope.LOGS, doc=output_contract.GET_OUTPUT),
    *files.routes,
    *explain.routes,
    route("/v1/tasks/{task_id}/events", get_events, scope=Scope.READ, doc=output_contract.TASK_EVENTS),
    route("/v1/events", get_events, scope=Scope.READ, doc=output_contract.ALL_EVENTS),
    *notifications.routes,
    *batches.routes,
    *templates.routes,
    *node.routes,
    *timeline.routes,
    *tokens.routes,
    *audit.routes,
    *web.routes,
]

SURFACE = Surface(
    name="v1",
    routes=routes,
    answer=problem.answer,
    takes_bytes=re.compile(r"/v1/tasks/.+/input", re.DOTALL),
    pages=re.compile(r"/|/docs/?|/ui|/ui/(?!static/|session).*", re.DOTALL),
)
