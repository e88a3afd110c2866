"""The routes of the description."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from task_runner.api.access import HOLDER, OPEN, Door, route
from task_runner.api.contract import node as contract
from task_runner.api.description.document import describe
from task_runner.api.description.page import POLICY, render, style
from task_runner.api.output import json_response
from task_runner.service.tokens import STRANGER
from task_runner.service.validate import schema


async def get_schema(_request: Request) -> Response:
    """JSON schema of a task's spec. The key "/" is what Tessia's clients look for."""
    return json_response(await asyncio.to_thread(_schema))


@functools.cache
def _schema() -> dict[str, Any]:
    """Made when it is first asked for, beside the other requests: it takes as long as a hundred of them."""
    return {"/": "api root", **schema()}


async def get_openapi(request: Request) -> Response:
    """The description of this API (OpenAPI 3.1)."""
    return json_response(await asyncio.to_thread(_described, request))


def _described(request: Request) -> dict[str, Any]:
    """Made when it is first asked for: the routes do not change."""
    state = request.app.state
    if not hasattr(state, "described"):
        state.described = describe(each for each in request.app.routes if isinstance(each, Door))
    found: dict[str, Any] = state.described
    return found


async def get_docs(request: Request) -> Response:
    """GET /docs: the description as a page; a browser that nobody has logged in with is sent to the login."""
    if request.state.token is STRANGER:
        return RedirectResponse("/ui/login?next=/docs", 303)
    return Response(await asyncio.to_thread(_page, request), 200, POLICY, "text/html; charset=utf-8")


def _page(request: Request) -> str:
    state = request.app.state
    if not hasattr(state, "page_of_docs"):
        state.page_of_docs = render(_described(request))
    return str(state.page_of_docs)


async def get_style(_request: Request) -> Response:
    """GET /docs/style.css"""
    return Response(style(), 200, {"Cache-Control": "no-cache", **POLICY}, "text/css; charset=utf-8")


routes = [
    route("/v1/schema", get_schema, scope=HOLDER, doc=contract.SCHEMA),
    route("/v1/openapi.json", get_openapi, scope=HOLDER, doc=contract.OPENAPI),
    route("/docs", get_docs, scope=OPEN, doc=contract.DOCS),
    route("/docs/style.css", get_style, scope=OPEN),
]
