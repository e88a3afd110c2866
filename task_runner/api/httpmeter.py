"""Counts the requests of a surface, and how long their answers took to begin. It costs a few microseconds each."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from task_runner.api.meters import Meters

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED, REFUSED, UNANSWERED = "unmatched", "refused", "none"


class HttpMeter:
    """ASGI middleware, around the gate of one surface."""

    def __init__(self, app: ASGIApp, *, surface: str, meters: Meters) -> None:
        self._app = app
        self._surface = surface
        self._meters = meters
        #: by route, method and status, of which there are not many: looking them up costs more than counting
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def heard(message: Message) -> None:
            nonlocal status
            if not status and message["type"] == "http.response.start":
                status = message["status"]
                self._count(scope, status, time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, heard)
        except Exception:
            if not status:
                status = 500  # that is what the server is about to answer
                self._count(scope, status, time.perf_counter() - began)
            raise
        finally:
            if not status:
                self._count(scope, 0, time.perf_counter() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        kind = (_route(scope, status), method, status)
        if kind not in self._known:
            self._known[kind] = self._made(*kind)
        requests, answer_time = self._known[kind]
        requests.inc()
        answer_time.observe(seconds)

    def _made(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        word = str(status) if status else UNANSWERED
        return (
            self._meters.requests.labels(self._surface, route, method, word),
            self._meters.answer_time.labels(self._surface, route),
        )


def _route(scope: Scope, status: int) -> str:
    """The template of the route that was taken. Never the path: those have no end."""
    if "router" not in scope:
        return REFUSED
    route = scope.get("route")  # as api/access.py says
    return UNMATCHED if route is None or status == 405 else str(route.path)
