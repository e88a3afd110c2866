"""What Go's net/http answers where it has no handler: plain text, and the methods that there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

Handler = Callable[[Request], Awaitable[Response]]

_PLAIN = {"X-Content-Type-Options": "nosniff"}


def not_found() -> Response:
    """No such path."""
    return PlainTextResponse("404 page not found\n", 404, _PLAIN)


def at(path: str, handlers: Mapping[str, Handler]) -> list[BaseRoute]:
    """The routes of a path: a handler for each of these methods, and 405 for every other."""
    allowed = sorted({*handlers, *(["HEAD"] if "GET" in handlers else [])})
    refusal = PlainTextResponse("Method Not Allowed\n", 405, {**_PLAIN, "Allow": ", ".join(allowed)})
    routes: list[BaseRoute] = [Route(path, handler, methods=[method]) for method, handler in handlers.items()]
    return [*routes, Route(path, refusal)]


def elsewhere() -> list[BaseRoute]:
    """The last route: whatever no other one has."""
    return [Route("/{path:path}", not_found())]
