"""Login to the web page: a token is shown once, and from then on a cookie that script cannot read."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api import problem
from task_runner.api.access import OPEN, route
from task_runner.api.app import service_of
from task_runner.api.contract import web as contract
from task_runner.api.contract.tasks import NOTHING
from task_runner.api.output import json_response
from task_runner.api.surface import Refusal
from task_runner.api.web import cookies
from task_runner.errors import InvalidRequest, NotFound, StorageFull
from task_runner.lib.clock import stamp
from task_runner.service.sessions import Session
from task_runner.service.tokens import ANYBODY, STRANGER, Token

#: seconds that a failed login waits for its answer, and how many may wait
PAUSE, MOST_WAITING = 1.0, 16
_NO_STORE = {"Cache-Control": "no-store"}


def require_page(request: Request) -> None:
    """Raises NotFound where the page is turned off."""
    if not service_of(request).settings.web_ui:
        raise NotFound(f"there is nothing at {request.url.path[:200]}")


class Patience:
    """Slows down who tries tokens. Not who has one: others' failures must not keep him out."""

    def __init__(self) -> None:
        self._waiting = 0

    async def refuse(self, reason: str) -> Response:
        if self._waiting >= MOST_WAITING:
            return problem.answer(
                Refusal(429, "too many logins have failed just now", headers={"Retry-After": "1", **_NO_STORE})
            )
        self._waiting += 1
        try:
            await asyncio.sleep(PAUSE)
        finally:
            self._waiting -= 1
        return _unknown(reason)


_patience = Patience()


async def log_in(request: Request) -> Response:
    """POST /ui/login: {"token"}: 200 with a cookie; 401 where no such token is good here."""
    require_page(request)
    service, body = service_of(request), await contract.LOGIN.of(request)
    given = body.get("token")
    if not isinstance(given, str):
        raise InvalidRequest.at("token", "expected a string")
    if _holder(request) is ANYBODY:
        return json_response(_shown(ANYBODY, None), headers=_NO_STORE)
    token = service.tokens.find(given.strip())
    if token is None or token.is_over(service.clock.time()):
        # as the refusal of a stranger it stands in the audit log, also where he was somebody before
        request.scope["state"]["token"] = STRANGER
        return await _patience.refuse(
            "there is no such token here" if token is None else f"the token {token.name!r} has expired"
        )
    session, secret = await service.sessions.open(token, in_place_of=_session(request))
    request.scope["state"]["token"] = token  # for the audit log
    headers = {**_NO_STORE, "Set-Cookie": cookies.written(request, secret)}
    return json_response(_shown(token, session), headers=headers)


async def log_out(request: Request) -> Response:
    """POST /ui/logout: 204, also for who was not logged in; 507: nobody is any more, but a crash may undo that."""
    require_page(request)
    await NOTHING.of(request)
    headers = {**_NO_STORE, "Set-Cookie": cookies.removed(request)}
    secret = cookies.read(request.headers)
    if secret and "authorization" not in request.headers:  # as the gate has it: who says whose he is shows no cookie
        try:
            await service_of(request).sessions.close(secret)
        except StorageFull as error:
            return problem.answer(Refusal(507, str(error), headers=headers))
    return Response(None, 204, headers)


async def get_session(request: Request) -> Response:
    """GET /ui/session: who is logged in; 401: nobody. Open to all, since to ask is no attempt to get in."""
    require_page(request)
    holder = _holder(request)
    if holder is STRANGER:
        return _unknown("nobody is logged in")
    return json_response(_shown(holder, _session(request)), headers=_NO_STORE)


def _shown(token: Token, session: Session | None) -> dict[str, Any]:
    return {
        "name": token.name,
        "scopes": [str(scope) for scope in token.scopes],
        "free": token is ANYBODY,
        "expiresAt": None if session is None else stamp(session.expires_at),
    }


def _unknown(reason: str) -> Response:
    return problem.answer(Refusal(401, reason, headers=_NO_STORE))


def _holder(request: Request) -> Token:
    holder: Token = request.state.token
    return holder


def _session(request: Request) -> Session | None:
    session: Session | None = request.state.session
    return session


routes = [
    route("/ui/login", log_in, scope=OPEN, methods=["POST"], doc=contract.LOG_IN),
    route("/ui/logout", log_out, scope=OPEN, methods=["POST"], doc=contract.LOG_OUT),
    route("/ui/session", get_session, scope=OPEN, doc=contract.GET_SESSION),
]
