"""GET /v1/events and /v1/tasks/{id}/events: changes of state as server-sent events, resumable by id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.streams import Streams
from task_runner.errors import InvalidRequest
from task_runner.service.statements import StoredEvent
from task_runner.service.tasks import TaskService

PAGE = 1000
#: seconds of silence after which a comment is sent, so that both ends notice a dead connection
KEEP_ALIVE = 15.0


async def get_events(request: Request) -> Response:
    """All events after the one named by Last-Event-ID or ?after=; without it, of a task all, of all tasks the new."""
    service: TaskService = request.app.state.service
    streams: Streams = request.app.state.streams
    task_id = request.path_params.get("task_id")
    if task_id is not None:
        task_id = service.get(task_id).id
    asked = request.headers.get("last-event-id") or request.query_params.get("after")
    if asked is not None and not (asked.isascii() and asked.isdigit() and len(asked) < 19):
        raise InvalidRequest.at("after", "the id of an event is expected: a whole number")
    after = int(asked) if asked is not None else 0 if task_id else service.store.last_event()
    # a client whose connection breaks before the first event knows by this where it stood
    headers = {"X-Last-Event-Id": str(after)}
    return streams.response(request, _stream(service, streams, after, task_id), "text/event-stream", headers)


async def _stream(service: TaskService, streams: Streams, after: int, task_id: str | None) -> AsyncIterator[bytes]:
    yield b": task-runner events\n\n"
    while not streams.closing.is_set():
        wake = asyncio.Event()
        with service.hub.subscribe(task_id, wake) as news:
            # what is stored first; what is told meanwhile waits in the subscription, and is skipped if stored
            while stored := await asyncio.to_thread(service.store.events, after, task_id, PAGE):
                for event in stored:
                    after = event.seq
                    yield _encode(event)
            while not news.overrun and not streams.closing.is_set():
                wake.clear()
                for event in news.drain():
                    if event.seq > after:
                        after = event.seq
                        yield _encode(event)
                if not await _woken(wake, streams.closing):
                    yield b": alive\n\n"


async def _woken(wake: asyncio.Event, closing: asyncio.Event) -> bool:
    waits = [asyncio.ensure_future(wake.wait()), asyncio.ensure_future(closing.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()


def _encode(event: StoredEvent) -> bytes:
    return Streams.event("state", str(event.seq), {"at": event.at, **event.data})
