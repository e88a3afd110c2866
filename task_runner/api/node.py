"""The routes of the node: this daemon in numbers, and whether it starts new tasks."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from task_runner import __version__
from task_runner.api import binds
from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.contract import node as contract
from task_runner.api.contract.tasks import NOTHING
from task_runner.api.liveuse import get_tasks_use
from task_runner.api.output import json_response
from task_runner.model.scopes import Scope
from task_runner.service.node import node_json, walls_json
from task_runner.service.settings import Settings
from task_runner.service.tasks import TaskService


async def _shown(service: TaskService) -> Response:
    walls = await asyncio.to_thread(walls_json, service)
    numbers = node_json(service)
    return json_response({"version": __version__, **numbers, **walls, "dialects": _dialects(service.settings)})


def _dialects(settings: Settings) -> list[dict[str, str | None]]:
    """Those that are served, each with the address that is its own."""
    own = binds.own(settings)
    return [{"name": name, "address": str(own[name]) if name in own else None} for name in settings.dialects]


async def get_node(request: Request) -> Response:
    """GET /v1/node: with ?wait=SECONDS, as soon as no task runs."""
    service = service_of(request)
    patience = contract.WAIT.read(request.query_params)
    if patience and not service.drain.empty:
        await request.app.state.streams.wait_unless_closing(service.drain.wait_empty(patience))
    return await _shown(service)


async def drain_node(request: Request) -> Response:
    """POST /v1/node/drain: start nothing new until told otherwise, also after a restart of the daemon."""
    await NOTHING.of(request)
    await service_of(request).drain.begin()
    return await _shown(service_of(request))


async def undrain_node(request: Request) -> Response:
    """POST /v1/node/undrain: start tasks again."""
    await NOTHING.of(request)
    await service_of(request).drain.end()
    return await _shown(service_of(request))


routes = [
    route("/v1/node", get_node, scope=Scope.READ, doc=contract.GET_NODE),
    route("/v1/node/tasks", get_tasks_use, scope=Scope.READ, doc=contract.TASKS_USE),
    route("/v1/node/drain", drain_node, scope=Scope.ADMIN, methods=["POST"], doc=contract.DRAIN),
    route("/v1/node/undrain", undrain_node, scope=Scope.ADMIN, methods=["POST"], doc=contract.UNDRAIN),
]
