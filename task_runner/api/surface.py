"""Surfaces: `/v1` and the dialects. A surface is what one kind of client sees: routes, how it shows its token, and the
form in which it is told of errors.

Rule 1: whatever goes wrong becomes a Refusal, and the surface puts that into words of its system.
Rule 2: surfaces know nothing of each other; which of them a request is for is found out by its listener, else by its
        path (Switchboard).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from task_runner import errors
from task_runner.api.access import Door
from task_runner.api.listener import Listener

log = logging.getLogger(__name__)

#: the HTTP status of an error, the most special class first
STATUS: list[tuple[type[errors.TaskRunnerError], int]] = [
    (errors.TooLarge, 413),
    (errors.InvalidRequest, 400),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.StorageFull, 507),
    (errors.Unavailable, 503),
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not done."""

    #: of HTTP
    status: int
    detail: str
    fields: Sequence[errors.FieldError] = ()
    headers: Mapping[str, str] | None = None


def bearer(headers: Headers) -> str | None:
    """The token in "Authorization: Bearer …"."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """What one kind of client sees."""

    #: also the origin of the tasks that are made through it
    name: str
    #: each says what it needs (`access.route`)
    routes: Sequence[Door]
    #: the paths that are its own where it shares a listener: these, and those below them
    prefixes: tuple[str, ...] = ()
    #: puts a refusal into the form of its system
    answer: Callable[[Refusal], Response]
    #: the token of a request, where its clients put it
    credential: Callable[[Headers], str | None] = bearer
    #: what a client without one is told, and the value of WWW-Authenticate
    need: str = "a token is needed: Authorization: Bearer …; it stands in <state>/token"
    challenge: str = 'Bearer realm="task-runner"'
    #: paths where a body is bytes, and those where it is a form; everywhere else it is JSON
    takes_bytes: re.Pattern[str] | None = None
    takes_forms: re.Pattern[str] | None = None
    #: the pages, which may be reached by a link on the page of another site: they show nothing by themselves
    pages: re.Pattern[str] | None = None
    #: routes that anybody may ask for
    _open: Sequence[Door] = field(init=False)

    def __post_init__(self) -> None:
        """Raises TypeError for a route that does not say what it needs."""
        for each in self.routes:
            if not isinstance(each, Door):
                raise TypeError(f"{self.name}: {each!r} does not say which scope it needs: make it by access.route")
        object.__setattr__(self, "_open", [each for each in self.routes if each.need.open])

    def is_open(self, path: str, connection: Scope | None = None) -> bool:
        """Whether who shows no token is let in there; ``connection``: with this request, else with some request."""
        asked = connection or {"type": "none"}
        return any(each.path_regex.fullmatch(path) and each.is_for(asked) for each in self._open)

    def owns(self, path: str) -> bool:
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)

    def handlers(self) -> Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]]:
        """For Starlette: errors of the core, of routing, and of the program."""
        return {errors.TaskRunnerError: self._on_known, HTTPException: self._on_http, Exception: self._on_unknown}

    async def _on_known(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.TaskRunnerError)
        return self.answer(refusal_of(error))

    async def _on_http(self, request: Request, error: Exception) -> Response:
        """No such route, or not with this method."""
        assert isinstance(error, HTTPException)
        detail = error.detail
        if error.status_code == 404:
            detail = f"there is nothing at {request.url.path[:200]}"
        elif error.status_code == 405:
            detail = f"{request.method} is not possible here"
        response = self.answer(Refusal(error.status_code, detail))
        response.headers.update(error.headers or {})
        return response

    async def _on_unknown(self, _request: Request, _error: Exception) -> Response:
        """A fault of the program: logged by the server, not told to the client."""
        return self.answer(Refusal(500, "the daemon has made a mistake; its log has the details"))


def refusal_of(error: errors.TaskRunnerError) -> Refusal:
    """What a client is told of an error."""
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        log.error("request failed", exc_info=error)
    return Refusal(status, str(error), getattr(error, "fields", None) or ())


class Switchboard:
    """The outermost application: passes each request to the surface that it is for. What is nobody's is for the main
    one, which has the lifespan, too."""

    def __init__(
        self,
        main: ASGIApp,
        shared: Sequence[tuple[Surface, ASGIApp]],
        own: Sequence[tuple[Listener, ASGIApp]],
    ) -> None:
        self._main = main
        self._shared = shared
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._for(scope)(scope, receive, send)

    def _for(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "lifespan":
            for listener, app in self._own:
                if listener.hears(scope.get("server")):
                    return app
            for surface, app in self._shared:
                if surface.owns(scope["path"]):
                    return app
        return self._main
