"""Request bodies, read and checked."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request

from task_runner.errors import InvalidRequest
from task_runner.lib import signals
from task_runner.service.validate import parse_json


async def raw_body(request: Request) -> bytes:
    """The bytes of a body. Raises InvalidRequest."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise InvalidRequest("the request ended before its body did") from None


async def body_object(request: Request) -> dict[str, Any]:
    """The JSON object of a request that may have no body. Raises InvalidRequest."""
    raw = await raw_body(request)
    value = parse_json(raw) if raw.strip() else {}
    if not isinstance(value, dict):
        raise InvalidRequest.at("", "the body must be a JSON object")
    return value


def only(body: dict[str, Any], *allowed: str) -> None:
    """Raises InvalidRequest for a field that is not among those allowed."""
    for name in body:
        if name not in allowed:
            raise InvalidRequest.at(str(name)[:100], f"no such field; allowed: {', '.join(allowed) or 'none'}")


def idempotency_key(request: Request) -> str | None:
    """The header, if there is one. Raises InvalidRequest."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 200:
        raise InvalidRequest.at("Idempotency-Key", "1 to 200 characters are expected")
    return key


def signal_of(body: dict[str, Any]) -> int:
    """The number of the signal in "signal". Raises InvalidRequest."""
    name = body.get("signal")
    try:
        return signals.parse(str(name) if isinstance(name, (str, int)) else "")
    except ValueError as error:
        raise InvalidRequest.at("signal", str(error)) from None


def signal_name_of(body: dict[str, Any]) -> str | None:
    """Its name; None where it is not given."""
    return None if body.get("signal") is None else signals.name_of(signal_of(body))


def grace_of(body: dict[str, Any]) -> float | None:
    """The seconds in "graceSeconds"; None where they are not given. Raises InvalidRequest."""
    grace = body.get("graceSeconds")
    if grace is not None and (type(grace) not in (int, float) or not 0 <= grace <= 86_400):
        raise InvalidRequest.at("graceSeconds", "expected a number from 0 to 86400")
    return None if grace is None else float(grace)
