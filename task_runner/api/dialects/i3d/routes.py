"""The routes of the dialect."""

from __future__ import annotations

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.responses import Response

from task_runner.api.surface import Refusal, Surface, bearer
from task_runner.service.settings import Settings

#: errorCode for a status of HTTP
_CODES = {401: 10004, 403: 10003, 404: 10001, 409: 23000, 400: 10008, 413: 10008, 415: 10008, 422: 11001}


def credential(headers: Headers) -> str | None:
    """The header of i3D.net's clients; some send Authorization: Bearer."""
    return headers.get("private-token") or bearer(headers)


def answer(refusal: Refusal) -> Response:
    """A refusal as i3D.net has it."""
    body = {
        "errorCode": _CODES.get(refusal.status, 10007),
        "errorMessage": refusal.detail,
        "errors": [{"property": fault.field, "message": fault.message} for fault in refusal.fields],
    }
    return Response(to_json(body), refusal.status, refusal.headers, media_type="application/json")


def surface(_settings: Settings) -> Surface:
    """What i3D.net's clients see."""
    return Surface(
        name="i3d",
        prefixes=("/v3",),
        routes=[],
        answer=answer,
        credential=credential,
        need="a token is needed: PRIVATE-TOKEN; it stands in <state>/token",
    )
