"""Takes the trace context of each request, for the tasks that it makes."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from task_runner.service import tracecontext


class TraceMiddleware:
    """ASGI middleware; there only where there is tracing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found: dict[bytes, list[str]] = {b"traceparent": [], b"tracestate": []}
            for name, value in scope["headers"]:
                if name in found:
                    found[name].append(value.decode("latin-1"))
            tracecontext.INCOMING.set(tracecontext.read(found[b"traceparent"], found[b"tracestate"]))
        await self._app(scope, receive, send)
