"""Responses that stay open: counted, and told when the daemon goes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from task_runner.errors import Unavailable


class Streams:
    """The open streams of one daemon."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        #: set when the daemon is about to go: streams end, clients come back to the next daemon
        self.closing = asyncio.Event()

    def response(
        self,
        request: Request,
        content: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Answer with a stream. Raises Unavailable where there are too many."""
        if self._open >= self._most:
            raise Unavailable(f"{self._most} streams are open already (max_streams)")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        if request.method == "HEAD":
            # the server would send nothing of the stream, and hold the connection until it ends
            return Response(None, 200, headers, media_type)
        return StreamingResponse(self._counted(content), 200, headers, media_type)

    async def _counted(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            async for part in content:
                yield part
        finally:
            self._open -= 1

    def close_on_signals(self) -> None:
        """End all streams when the server is told to go.

        The server waits for open responses before it tells the application anything, so the application must
        hear of the signal itself. Its handler runs first and then the server's own.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            previous = signal.getsignal(number)

            def close(number: int, frame: FrameType | None, previous: Any = previous) -> None:
                loop.call_soon_threadsafe(self.closing.set)
                if callable(previous):
                    previous(number, frame)

            if callable(previous):
                signal.signal(number, close)

    @staticmethod
    def event(kind: str, event_id: str | None, data: Any) -> bytes:
        """One server-sent event."""
        head = f"id: {event_id}\n" if event_id is not None else ""
        return f"event: {kind}\n{head}data: ".encode() + to_json(data) + b"\n\n"
