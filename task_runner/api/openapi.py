"""GET /v1/openapi.json and /v1/schema: described from the routes and the model themselves."""

from __future__ import annotations

import inspect
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner import __version__
from task_runner.api.access import Door
from task_runner.api.output import json_response
from task_runner.service.validate import schema

_COMPONENTS = "#/components/schemas"
_IN_SPEC = f"{_COMPONENTS}/Spec/"
_PROBLEM = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "required": ["title", "status", "detail"],
}


async def get_schema(_request: Request) -> Response:
    """JSON schema of a task's spec. The key "/" is what Tessia's clients look for."""
    return json_response({"/": "api root", **schema()})


async def get_openapi(request: Request) -> Response:
    """The description of this API (OpenAPI 3.1)."""
    return json_response(describe([route for route in request.app.routes if isinstance(route, Door)]))


def describe(routes: list[Door]) -> dict[str, Any]:
    """OpenAPI of these routes; the first sentence of each handler is its summary."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            summary = (inspect.getdoc(route.endpoint) or "").split("\n")[0]
            paths.setdefault(route.path_format, {})[method.lower()] = _operation(route, summary)
    spec = _moved(schema())
    components = spec.pop("$defs", {})
    components |= {"Spec": spec, "Problem": _PROBLEM}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Task Runner", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _moved(schema: Any) -> Any:
    """A schema that stands among the components: what its references lead to stands elsewhere than in /v1/schema."""
    if isinstance(schema, list):
        return [_moved(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(each) for name, each in schema.items()}
    if isinstance(target := moved.get("$ref"), str):
        shared = target.startswith("#/$defs/")
        moved["$ref"] = target.replace("#/$defs/" if shared else "#/", f"{_COMPONENTS}/" if shared else _IN_SPEC, 1)
    return moved


def _operation(route: Door, summary: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "default": {
                "description": "What went wrong.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
            "2XX": {"description": "Done."},
        },
    }
    if route.need.open:
        operation["security"] = []
    elif route.need.scopes:
        operation["security"] = [{"token": list(route.need.scopes)}]
    names = [part[1:-1] for part in route.path_format.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return operation
