"""What surrounds every answer: status, data and message. Fields that are null are left out of all of it."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from task_runner.api.surface import Refusal


def success(data: Any = None) -> Response:
    """What was asked for."""
    return _enveloped(200, "SUCCESS", data, "success")


def failure(message: str, data: Any = None, status: int = 200) -> Response:
    """What could not be done. Some of it Drove tells with a status of 200."""
    return _enveloped(status, "FAILED", data, message)


def invalid(*faults: str) -> Response:
    """What is wrong with a command."""
    return failure("Command validation failure", {"validationErrors": list(faults)}, 400)


def answer(refusal: Refusal) -> Response:
    """A refusal as Drove has it. Drove leaves the body of 401, 404 and the like empty; its command line tool says
    nothing then, and shows the message if there is a `data` beside it."""
    if refusal.status == 400:
        faults = [f"{fault.field} - {fault.message}" if fault.field else fault.message for fault in refusal.fields]
        return invalid(*(faults or [refusal.detail]))
    message = "Unexpected Server error" if refusal.status == 500 else refusal.detail
    response = failure(message, {"failure": refusal.detail}, refusal.status)
    response.headers.update(refusal.headers or {})
    return response


def _enveloped(status: int, word: str, data: Any, message: str) -> Response:
    body = _known({"status": word, "data": data, "message": message})
    return Response(to_json(body), status, media_type="application/json")


def _known(value: Any) -> Any:
    """Without the fields that are null."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return value
