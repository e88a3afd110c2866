"""Errors as responses: application/problem+json (RFC 9457), with the `detail` that Tessia's clients read."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from task_runner import errors

log = logging.getLogger(__name__)

#: the HTTP status of an error, the most special class first
STATUS: list[tuple[type[errors.TaskRunnerError], int]] = [
    (errors.TooLarge, 413),
    (errors.InvalidRequest, 400),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.StorageFull, 507),
    (errors.Unavailable, 503),
]


def problem(status: int, detail: str, fields: list[errors.FieldError] | None = None) -> Response:
    """One error as a response."""
    body: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if fields:
        body["errors"] = [{"field": fault.field, "message": fault.message} for fault in fields]
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(to_json(body), status, headers, media_type="application/problem+json")


async def on_known(_request: Request, error: Exception) -> Response:
    """A TaskRunnerError."""
    assert isinstance(error, errors.TaskRunnerError)
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        log.error("request failed", exc_info=error)
    return problem(status, str(error), getattr(error, "fields", None))


async def on_http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:200]}"
    elif error.status_code == 405:
        detail = f"{request.method} is not possible here"
    response = problem(error.status_code, detail)
    response.headers.update(error.headers or {})
    return response


async def on_unknown(_request: Request, _error: Exception) -> Response:
    """A fault of the program: logged by the server, not told to the client."""
    return problem(500, "the daemon has made a mistake; its log has the details")
