"""What Go's net/http answers where it has no handler: plain text, and the methods that there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from task_runner.api.access import HOLDER, OPEN, Door, Need, route
from task_runner.model.scopes import Scope

Handler = Callable[[Request], Awaitable[Response]]

_PLAIN = {"X-Content-Type-Options": "nosniff"}


def not_found() -> Response:
    """No such path."""
    return PlainTextResponse("404 page not found\n", 404, _PLAIN)


def at(path: str, handlers: Mapping[str, tuple[Handler, Scope | Need]]) -> list[Door]:
    """The routes of a path: for each of these methods a handler and what it needs, and 405 for every other."""
    allowed = sorted({*handlers, *(["HEAD"] if "GET" in handlers else [])})
    refusal = PlainTextResponse("Method Not Allowed\n", 405, {**_PLAIN, "Allow": ", ".join(allowed)})
    routes = [route(path, handler, scope=need, methods=[method]) for method, (handler, need) in handlers.items()]
    # told to all that the first of them is for
    open_to_all = any(each.need.open for each in routes)
    return [*routes, route(path, refusal, scope=OPEN if open_to_all else HOLDER)]


def elsewhere() -> list[Door]:
    """The last route: whatever no other one has."""
    return [route("/{path:path}", not_found(), scope=HOLDER)]
