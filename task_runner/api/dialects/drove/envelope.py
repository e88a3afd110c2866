"""What surrounds every answer: status, data and message."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from task_runner.api.surface import Refusal


def success(data: Any = None) -> Response:
    """What was asked for, without fields that are null."""
    return _enveloped(200, "SUCCESS", data, "success")


def failure(message: str, data: Any = None, status: int = 200) -> Response:
    """What could not be done. Some of it Drove tells with a status of 200."""
    return _enveloped(status, "FAILED", data, message)


def answer(refusal: Refusal) -> Response:
    """A refusal as Drove has it: what is wrong with a command stands in validationErrors."""
    if refusal.status == 400:
        faults = [f"{fault.field} - {fault.message}" if fault.field else fault.message for fault in refusal.fields]
        return failure("Command validation failure", {"validationErrors": faults or [refusal.detail]}, 400)
    response = failure(refusal.detail, status=refusal.status)
    response.headers.update(refusal.headers or {})
    return response


def _enveloped(status: int, word: str, data: Any, message: str) -> Response:
    body = {"status": word, "data": data, "message": message}
    content = to_json({name: value for name, value in body.items() if value is not None})
    return Response(content, status, media_type="application/json")
