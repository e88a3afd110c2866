"""The form of `/v1`'s errors: application/problem+json (RFC 9457), with the `detail` that Tessia's clients read."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from task_runner.api.surface import Refusal


def answer(refusal: Refusal) -> Response:
    """A refusal as a response."""
    status = refusal.status
    body: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": refusal.detail}
    if refusal.fields:
        body["errors"] = [{"field": fault.field, "message": fault.message} for fault in refusal.fields]
    headers = {**({"Retry-After": "1"} if status == 503 else {}), **(refusal.headers or {})}
    return Response(to_json(body), status, headers, media_type="application/problem+json")


def problem(status: int, detail: str) -> Response:
    """The same for an error that is no exception."""
    return answer(Refusal(status, detail))
