"""The routes of `/v1`: from a request to a use case and back."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from task_runner import __version__
from task_runner.api.events import get_events
from task_runner.api.metrics import get_metrics
from task_runner.api.openapi import get_openapi, get_schema
from task_runner.api.output import get_output, json_response
from task_runner.api.params import choice, choices, flag, integer, seconds
from task_runner.api.problem import problem
from task_runner.api.view import seen_output, task_json
from task_runner.errors import InvalidRequest
from task_runner.lib import signals
from task_runner.model.spec import Spec
from task_runner.model.state import Outcome, State
from task_runner.service.store import Query
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_json, parse_spec

MAX_WAIT = 300.0
PAGE, MAX_PAGE = 1000, 10_000
LARGE_BODY = 65_536


def _service(request: Request) -> TaskService:
    service: TaskService = request.app.state.service
    return service


def _shown(service: TaskService, task: Task) -> dict[str, Any]:
    path = service.environment.output_path(task.id, task.record.attempt)
    return task_json(task, service.queue.reason(task), seen_output(task, path))


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request that may have no body."""
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise InvalidRequest("the request ended before its body did") from None
    value = parse_json(raw) if raw.strip() else {}
    if not isinstance(value, dict):
        raise InvalidRequest.at("", "the body must be a JSON object")
    return value


def _spec(raw: bytes) -> Spec:
    return parse_spec(parse_json(raw))


async def create_task(request: Request) -> Response:
    """POST /v1/tasks: 201 once the task is on stable storage; 200 if the idempotency key was used before."""
    try:
        raw = await request.body()
    except ClientDisconnect:
        return problem(400, "the request ended before its body did")
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 200:
        raise InvalidRequest.at("Idempotency-Key", "1 to 200 characters are expected")
    service = _service(request)
    # a large body takes long to check, and the daemon has others to answer
    spec = _spec(raw) if len(raw) < LARGE_BODY else await asyncio.to_thread(_spec, raw)
    accepted = await service.submit(spec, key=key)
    body = _shown(service, accepted.task)
    return json_response(
        body, 200 if accepted.repeated else 201, {"Location": f"/v1/tasks/{accepted.task.id}"}
    )


async def list_tasks(request: Request) -> Response:
    """GET /v1/tasks: an array, newest last; the next page in the Link header."""
    service, params = _service(request), request.query_params
    query = _query(params)
    tasks = await service.page(query)
    headers = {}
    if len(tasks) == query.limit:
        rest = [(name, value) for name, value in params.multi_items() if name != "cursor"]
        following = urlencode([*rest, ("cursor", str(tasks[-1].seq))])
        headers["Link"] = f'</v1/tasks?{following}>; rel="next"'
    return json_response([_shown(service, task) for task in tasks], headers=headers)


_LIST_PARAMETERS = ("state", "outcome", "tag", "stalled", "q", "limit", "cursor", "order")


def _query(params: QueryParams) -> Query:
    for name in params:
        if name not in _LIST_PARAMETERS:
            allowed = ", ".join(_LIST_PARAMETERS)
            raise InvalidRequest.at(name[:100], f"no such parameter; there are: {allowed}")
    tags = tuple(params.getlist("tag"))
    for tag in tags:
        if "=" not in tag:
            raise InvalidRequest.at("tag", f"expected key=value, found {tag[:40]!r}")
    return Query(
        states=choices(params, "state", [state.value for state in State]),
        outcomes=choices(params, "outcome", [outcome.value for outcome in Outcome]),
        tags=tags,
        text=params.get("q"),
        stalled=flag(params, "stalled") if "stalled" in params else None,
        after=integer(params, "cursor", 0) if "cursor" in params else None,
        newest_first=choice(params, "order", ("asc", "desc")) == "desc",
        limit=integer(params, "limit", PAGE, low=1, high=MAX_PAGE),
    )


async def get_task(request: Request) -> Response:
    """GET /v1/tasks/{id}: with ?wait=SECONDS, as soon as it is over."""
    service = _service(request)
    patience = seconds(request.query_params, "wait", 0.0, high=MAX_WAIT)
    task = service.get(request.path_params["task_id"])
    if patience and not task.final:
        closing = asyncio.ensure_future(request.app.state.streams.closing.wait())
        waiting = asyncio.ensure_future(service.wait(task.id, patience))
        await asyncio.wait([closing, waiting], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        waiting.cancel()
        task = service.get(task.id)
    return json_response(_shown(service, task))


async def stop_task(request: Request) -> Response:
    """POST …/stop: {"signal", "graceSeconds"}; answers after at most ?wait= seconds (0.5) with what is so then."""
    service, body = _service(request), await _body(request)
    patience = seconds(request.query_params, "wait", 0.5, high=MAX_WAIT)
    _only(body, "signal", "graceSeconds")
    grace = body.get("graceSeconds")
    if grace is not None and (type(grace) not in (int, float) or not 0 <= grace <= 86_400):
        raise InvalidRequest.at("graceSeconds", "expected a number from 0 to 86400")
    number = _signal_of(body) if body.get("signal") is not None else None
    task = await service.stop(
        request.path_params["task_id"],
        signal=None if number is None else signals.name_of(number),
        grace=None if grace is None else float(grace),
        wait=patience,
    )
    return json_response(_shown(service, task))


async def pause_task(request: Request) -> Response:
    """POST …/pause"""
    service = _service(request)
    _only(await _body(request))
    task = await service.settle(service.pause(request.path_params["task_id"]), {State.PAUSED})
    return json_response(_shown(service, task))


async def resume_task(request: Request) -> Response:
    """POST …/resume"""
    service = _service(request)
    _only(await _body(request))
    task = await service.settle(service.resume(request.path_params["task_id"]), {State.RUNNING})
    return json_response(_shown(service, task))


async def signal_task(request: Request) -> Response:
    """POST …/signal: {"signal": "SIGHUP"}"""
    service, body = _service(request), await _body(request)
    _only(body, "signal")
    task = service.signal(request.path_params["task_id"], _signal_of(body))
    return json_response(_shown(service, task))


async def retry_task(request: Request) -> Response:
    """POST …/retry: one more attempt of a task that is over."""
    service = _service(request)
    _only(await _body(request))
    return json_response(_shown(service, await service.retry(request.path_params["task_id"])))


async def delete_task(request: Request) -> Response:
    """DELETE /v1/tasks/{id}"""
    await _service(request).delete(request.path_params["task_id"])
    return json_response({"success": True})


def _only(body: dict[str, Any], *allowed: str) -> None:
    for name in body:
        if name not in allowed:
            raise InvalidRequest.at(str(name)[:100], f"no such field; allowed: {', '.join(allowed) or 'none'}")


def _signal_of(body: dict[str, Any]) -> int:
    name = body.get("signal")
    try:
        return signals.parse(str(name) if isinstance(name, (str, int)) else "")
    except ValueError as error:
        raise InvalidRequest.at("signal", str(error)) from None


# -- the node


async def get_node(request: Request) -> Response:
    """GET /v1/node"""
    return json_response({"version": __version__, **_service(request).node()})


async def drain_node(request: Request) -> Response:
    """POST /v1/node/drain"""
    _service(request).drain(True)
    return await get_node(request)


async def undrain_node(request: Request) -> Response:
    """POST /v1/node/undrain"""
    _service(request).drain(False)
    return await get_node(request)


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
    service = _service(request)
    service.require_ready()
    if service.book.storage_error is not None:
        return problem(503, f"the store takes no changes: {service.book.storage_error}")
    return json_response({"status": "ready"})


routes = [
    Route("/", get_index),
    Route("/health", get_health),
    Route("/ready", get_ready),
    Route("/metrics", get_metrics),
    Route("/v1", get_root),
    Route("/v1/", get_root),
    Route("/v1/schema", get_schema),
    Route("/v1/openapi.json", get_openapi),
    Route("/v1/tasks", create_task, methods=["POST"]),
    Route("/v1/tasks/", create_task, methods=["POST"]),
    Route("/v1/tasks", list_tasks),
    Route("/v1/tasks/", list_tasks),
    Route("/v1/tasks/{task_id}", get_task),
    Route("/v1/tasks/{task_id}", delete_task, methods=["DELETE"]),
    Route("/v1/tasks/{task_id}/stop", stop_task, methods=["POST"]),
    Route("/v1/tasks/{task_id}/pause", pause_task, methods=["POST"]),
    Route("/v1/tasks/{task_id}/resume", resume_task, methods=["POST"]),
    Route("/v1/tasks/{task_id}/retry", retry_task, methods=["POST"]),
    Route("/v1/tasks/{task_id}/signal", signal_task, methods=["POST"]),
    Route("/v1/tasks/{task_id}/output", get_output),
    Route("/v1/tasks/{task_id}/events", get_events),
    Route("/v1/events", get_events),
    Route("/v1/node", get_node),
    Route("/v1/node/drain", drain_node, methods=["POST"]),
    Route("/v1/node/undrain", undrain_node, methods=["POST"]),
]
