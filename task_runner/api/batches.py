"""The routes of batches."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import concerns, expander, service_of, token_of
from task_runner.api.body import grace_of, idempotency_key, raw_body, signal_name_of
from task_runner.api.contract import batches as contract
from task_runner.api.contract.tasks import CURSOR, NOTHING, STOPPING, WAIT_STOP
from task_runner.api.output import json_response
from task_runner.model.scopes import Scope
from task_runner.service.accept import BatchOrder
from task_runner.service.batchform import Expand, parse_batch
from task_runner.service.validate import parse_json


async def create_batch(request: Request) -> Response:
    """POST /v1/batches: 201 once all of its tasks are on stable storage; 200 if the idempotency key was used before."""
    raw, key, service = await raw_body(request), idempotency_key(request), service_of(request)
    order = await asyncio.to_thread(_order, raw, expander(request))
    batch_id, repeated = await service.submit_batch(order, key=key, token=token_of(request))
    concerns(request, batch=batch_id)
    shown = service.batches.show(service.batches.get(batch_id))
    shown["tasks"] = await asyncio.to_thread(service.store.batch_task_ids, batch_id)
    return json_response(shown, 200 if repeated else 201, {"Location": f"/v1/batches/{batch_id}"})


def _order(raw: bytes, expand: Expand) -> BatchOrder:
    return parse_batch(parse_json(raw), expand)


async def list_batches(request: Request) -> Response:
    """GET /v1/batches: the newest first; the next page in the Link header."""
    params = request.query_params
    limit = contract.LIMIT.number(params)
    found, before = service_of(request).batches.newest(limit, CURSOR.read(params))
    following = {"Link": f'</v1/batches?limit={limit}&cursor={before}>; rel="next"'} if before is not None else {}
    return json_response(found, headers=following)


async def get_batch(request: Request) -> Response:
    """GET /v1/batches/{id}: with ?wait=SECONDS, as soon as all of it is over."""
    service = service_of(request)
    batch = service.batches.get(request.path_params["batch_id"])
    patience = contract.WAIT.read(request.query_params)
    if patience:
        await request.app.state.streams.wait_unless_closing(service.batches.wait(batch.id, patience))
    return json_response(service.batches.show(batch))


async def get_results(request: Request) -> Response:
    """GET /v1/batches/{id}/results: of each task its id, name, entity, state, outcome, exit code and times."""
    service = service_of(request)
    batch = service.batches.get(request.path_params["batch_id"])
    return json_response(await service.batches.results(batch.id))


async def stop_batch(request: Request) -> Response:
    """POST …/stop: {"signal", "graceSeconds"}; answers after at most about ?wait= seconds (0.5)."""
    service, body = service_of(request), await STOPPING.of(request)
    patience = WAIT_STOP.read(request.query_params)
    batch = await service.batches.stop(
        request.path_params["batch_id"], signal=signal_name_of(body), grace=grace_of(body), wait=patience
    )
    return json_response(service.batches.show(batch))


async def pause_batch(request: Request) -> Response:
    """POST …/pause: what runs is frozen, what waits does not start."""
    return await _hold(request, True)


async def resume_batch(request: Request) -> Response:
    """POST …/resume"""
    return await _hold(request, False)


async def _hold(request: Request, paused: bool) -> Response:
    batches = service_of(request).batches
    await NOTHING.of(request)
    change: Any = batches.pause if paused else batches.resume
    return json_response(batches.show(await change(request.path_params["batch_id"])))


routes = [
    route("/v1/batches", create_batch, scope=Scope.SUBMIT_TEMPLATE, methods=["POST"], doc=contract.CREATE),
    route("/v1/batches", list_batches, scope=Scope.READ, doc=contract.LIST),
    route("/v1/batches/{batch_id}", get_batch, scope=Scope.READ, doc=contract.GET),
    route("/v1/batches/{batch_id}/results", get_results, scope=Scope.READ, doc=contract.RESULTS),
    route("/v1/batches/{batch_id}/stop", stop_batch, scope=Scope.CONTROL, methods=["POST"], doc=contract.STOP),
    route("/v1/batches/{batch_id}/pause", pause_batch, scope=Scope.CONTROL, methods=["POST"], doc=contract.PAUSE),
    route("/v1/batches/{batch_id}/resume", resume_batch, scope=Scope.CONTROL, methods=["POST"], doc=contract.RESUME),
]
