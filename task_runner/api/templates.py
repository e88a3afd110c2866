"""The routes of templates."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.body import raw_body
from task_runner.api.contract import batches as contract
from task_runner.api.output import json_response
from task_runner.model.scopes import Scope
from task_runner.service.templates import template_json
from task_runner.service.validate import parse_json


async def list_templates(request: Request) -> Response:
    """GET /v1/templates: all of them, in the order of their names, without their tasks."""
    found = await asyncio.to_thread(service_of(request).templates.all)
    shown = [template_json(each) for each in found]
    return json_response([{name: value for name, value in each.items() if name != "task"} for each in shown])


async def get_template(request: Request) -> Response:
    """GET /v1/templates/{name}"""
    found = await asyncio.to_thread(service_of(request).templates.get, request.path_params["name"])
    return json_response(template_json(found))


async def put_template(request: Request) -> Response:
    """PUT /v1/templates/{name}: 201 if it is new, 200 if it takes the place of another."""
    body = parse_json(await raw_body(request))
    known, new = await service_of(request).templates.put(request.path_params["name"], body)
    return json_response(template_json(known), 201 if new else 200)


async def delete_template(request: Request) -> Response:
    """DELETE /v1/templates/{name}: tasks made of it stay as they are."""
    await service_of(request).templates.delete(request.path_params["name"])
    return json_response({"success": True})


routes = [
    route("/v1/templates", list_templates, scope=Scope.READ, doc=contract.LIST_TEMPLATES),
    route("/v1/templates/{name}", get_template, scope=Scope.READ, doc=contract.GET_TEMPLATE),
    route("/v1/templates/{name}", put_template, scope=Scope.ADMIN, methods=["PUT"], doc=contract.PUT_TEMPLATE),
    route("/v1/templates/{name}", delete_template, scope=Scope.ADMIN, methods=["DELETE"], doc=contract.DELETE_TEMPLATE),
]
