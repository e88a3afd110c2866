"""What every answer is wrapped in: an array where it worked, an object with an error code where it did not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from task_runner.api import access
from task_runner.api.access import Door
from task_runner.api.surface import Refusal, bearer
from task_runner.errors import InvalidRequest, NotFound, TaskRunnerError
from task_runner.model.scopes import Scope

NOT_FOUND, BAD_ID, FORBIDDEN, NO_TOKEN, INTERNAL, BAD_PARAMETER = 10001, 10002, 10003, 10004, 10007, 10008
FORM_ERRORS, TASK_ERROR = 11001, 23000

#: errorCode for a status of HTTP; for others BAD_PARAMETER, or INTERNAL from 500 on
_CODES = {401: NO_TOKEN, 403: FORBIDDEN, 404: NOT_FOUND, 409: TASK_ERROR, 421: FORBIDDEN, 422: FORM_ERRORS}

#: said of what `number_of` does not take
NO_ID = "no valid ID: a whole number from 1 to 2^63-1 is expected"

Handler = Callable[[Request], Awaitable[Response]]


class BadId(NotFound):
    """Something else stands in a path where an id belongs."""


class Impossible(TaskRunnerError):
    """A task that cannot be made here, for a reason that is not in the request."""


def credential(headers: Headers) -> str | None:
    """The token: the header of i3D.net's clients; some send Authorization: Bearer."""
    return headers.get("private-token") or bearer(headers)


def answer(refusal: Refusal) -> Response:
    """A refusal as i3D.net has it."""
    faults = [{"property": fault.field, "message": fault.message} for fault in refusal.fields if fault.field]
    status = 422 if refusal.status == 400 and faults else refusal.status
    code = _CODES.get(status, INTERNAL if status >= 500 else BAD_PARAMETER)
    return error(status, code, refusal.detail, faults, refusal.headers)


def error(
    status: int,
    code: int,
    message: str,
    faults: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The object of an error; `errors` is there, if empty, in each."""
    body = {"errorCode": code, "errorMessage": message, "errors": list(faults)}
    return Response(to_json(body), status, headers, media_type="application/json")


def array(*items: Mapping[str, Any]) -> Response:
    """What worked: an array, also of one."""
    return Response(to_json(items), media_type="application/json")


def route(path: str, handler: Handler, method: str = "GET", *, scope: Scope) -> Door:
    """A route below /v3, whose errors have the codes that a status alone does not tell."""

    async def told(request: Request) -> Response:
        try:
            if request.method in ("GET", "HEAD") and request.query_params:
                name = next(iter(request.query_params))
                raise InvalidRequest(f"there is no parameter {name[:80]!r} here")
            return await handler(request)
        except BadId as fault:
            return error(404, BAD_ID, str(fault))
        except Impossible as fault:
            return error(422, TASK_ERROR, str(fault))

    return access.route(f"/v3{path}", told, scope=scope, methods=[method])


def number_in(request: Request, name: str) -> int:
    """The id of that name in the path. Raises BadId."""
    text = str(request.path_params[name])
    if (value := number_of(text)) is None:
        raise BadId(f"{text[:80]!r} is {NO_ID}")
    return value


def number_of(text: str) -> int | None:
    """A whole number from 1 to 2^63-1, written in the only way there is."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or text[0] == "0":
        return None
    return value if (value := int(text)) < 2**63 else None
