"""Responses that stay open: counted, and told when the daemon goes."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from task_runner.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)


async def wait_unless(
    closing: asyncio.Event, waiting: Coroutine[Any, Any, object], seconds: float | None = None
) -> None:
    """Return when what is waited for has come, when ``closing`` is set, or after so many seconds."""
    waits = [asyncio.ensure_future(waiting), asyncio.ensure_future(closing.wait())]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


class BrokenOff(Exception):
    """The rest of a stream cannot be sent: its connection is closed in the middle, which tells the receiver."""


class _Stream(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except BrokenOff as error:
            # a response that is left without its end makes the server close the connection
            log.warning("%s: broken off: %s", scope["path"][:200], error)


class Streams:
    """The open streams of one daemon."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: how many there are
        self.open = 0
        #: where files of tasks are read: a file system that hangs keeps these threads busy, and no others
        self.readers = ThreadPoolExecutor(8, "files")
        #: set when the daemon is about to go: streams end, clients come back to the next daemon
        self.closing = asyncio.Event()

    def response(
        self,
        request: Request,
        content: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        """Answer with a stream. Raises Unavailable where there are too many."""
        if self.open >= self._most:
            raise Unavailable(f"{self._most} streams are open already (max_streams)")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        if request.method == "HEAD":
            # the server would send nothing of the stream, and hold the connection until it ends
            return Response(None, status, headers, media_type)
        return _Stream(self._counted(content), status, headers, media_type)

    async def _counted(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            async for part in content:
                yield part
        finally:
            self.open -= 1

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """What a call returns that blocks for files."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, call, *arguments)

    async def read(self, parts: Generator[bytes]) -> AsyncIterator[bytes]:
        """What an iterator yields that blocks for files, each step in a thread; broken off when the daemon goes."""
        loop = asyncio.get_running_loop()
        step: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                step = loop.run_in_executor(self.readers, next, parts, None)
                part = await asyncio.shield(step)
                if part is None:
                    return
                if self.closing.is_set():
                    raise BrokenOff("the daemon is stopping")
                if part:
                    yield part
        finally:
            # a reader that hung up: the step under way ends in its thread, and only then can the iterator be closed
            if step is not None and not step.done():
                step.add_done_callback(lambda _done: self.readers.submit(parts.close))
            else:
                self.readers.submit(parts.close)

    async def wait_unless_closing(self, waiting: Coroutine[Any, Any, object]) -> None:
        """Return when what is waited for has come, or when the server is told to go."""
        await wait_unless(self.closing, waiting)

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
