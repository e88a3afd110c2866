"""GET /v1/events and /v1/tasks/{id}/events: changes of state as server-sent events, resumable by id.

Tasks that are removed are told of, too, and to who asks for it every so often what tasks use (api/liveuse.py): neither
has an id, and neither is resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.contract import output as contract
from task_runner.api.liveuse import UseEvents
from task_runner.api.streams import Streams, wait_unless
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
    known, asked = contract.LAST_EVENT.read(request.headers), contract.AFTER.read(request.query_params)
    asked = asked if known is None else known
    after = asked if asked is not None else 0 if task_id else service.store.last_event()
    seconds = contract.USE.read(request.query_params)
    use = UseEvents(service.use, seconds, task_id) if seconds is not None else None
    # a client whose connection breaks before the first event knows by this where it stood
    headers = {"X-Last-Event-Id": str(after)}
    return streams.response(request, _stream(service, streams, after, task_id, use), "text/event-stream", headers)


async def _stream(
    service: TaskService, streams: Streams, after: int, task_id: str | None, use: UseEvents | None
) -> AsyncIterator[bytes]:
    yield b": task-runner events\n\n"
    clock = asyncio.get_running_loop().time
    heard = clock()
    while not streams.closing.is_set():
        wake = asyncio.Event()
        with service.hub.subscribe(task_id, wake) as news:
            # what is stored first; what is told meanwhile waits in the subscription, and is skipped if stored
            while stored := await asyncio.to_thread(service.store.events, after, task_id, PAGE):
                for event in stored:
                    after, heard = event.seq, clock()
                    yield _encode(event)
            while not news.overrun and not streams.closing.is_set():
                wake.clear()
                for event in news.drain():
                    if event.seq > after:
                        after, heard = event.seq, clock()
                        yield _encode(event)
                if gone := news.drain_gone():
                    yield Streams.event("gone", None, {"at": service.book.now(), "tasks": gone})
                if use is not None and clock() >= use.due and (told := await use.next()) is not None:
                    yield told
                if clock() - heard >= KEEP_ALIVE:  # whatever is said of use: a client counts on it
                    heard = clock()
                    yield b": alive\n\n"
                due = heard + KEEP_ALIVE
                left = (due if use is None else min(due, use.due)) - clock()
                await wait_unless(streams.closing, wake.wait(), max(0.0, left))


def _encode(event: StoredEvent) -> bytes:
    return Streams.event("state", str(event.seq), {"at": event.at, **event.data})
