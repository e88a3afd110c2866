"""GET …/output: a task's output as bytes or as server-sent events, from any offset."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from task_runner.api.follow import Follower, tail_offset
from task_runner.api.params import flag, integer
from task_runner.api.streams import Streams
from task_runner.errors import InvalidRequest, TaskRunnerError
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class _Wanted:
    offset: int
    end: int | None
    follow: bool
    attempt: int
    #: answer 206
    partial: bool


async def get_output(request: Request) -> Response:
    """Query: offset, tail (lines), follow, attempt; or a Range header. Accept: text/event-stream for events."""
    service: TaskService = request.app.state.service
    streams: Streams = request.app.state.streams
    task: Task = service.get(request.path_params["task_id"])
    wanted = await _wanted(request, task)
    follower = Follower(service, request.app.state.growth, streams.closing)
    chunks = follower.read(task, wanted.attempt, wanted.offset, follow=wanted.follow)
    if "text/event-stream" in request.headers.get("accept", ""):
        return streams.response(request, _events(service, task.id, chunks), "text/event-stream")
    headers = {"Accept-Ranges": "bytes", "X-Output-Offset": str(wanted.offset)}
    if wanted.partial:
        return await _partial(chunks, wanted, headers)
    if not wanted.follow:
        return StreamingResponse(_bytes(chunks), 200, headers, "application/octet-stream")
    return streams.response(request, _bytes(chunks), "application/octet-stream", headers)


async def _wanted(request: Request, task: Task) -> _Wanted:
    query = request.query_params
    offset = integer(query, "offset", 0, low=0)
    attempt = integer(query, "attempt", task.record.attempt, low=1, high=task.record.attempt)
    follow = flag(query, "follow")
    if stream := query.get("stream"):
        raise InvalidRequest.at("stream", f"there is no stream {stream[:40]!r}: stdout and stderr are one")
    if "tail" in query:
        lines = integer(query, "tail", 0, low=0)
        path = request.app.state.service.environment.output_path(task.id, attempt)
        offset = await asyncio.to_thread(tail_offset, path, lines)  # a long line is read from end to end
    if "last-event-id" in request.headers:
        offset = integer({"Last-Event-ID": request.headers["last-event-id"]}, "Last-Event-ID", 0)
    if (match := _RANGE.fullmatch(request.headers.get("range", ""))) and not follow:
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else None
        return _Wanted(start, end, False, attempt, True)
    return _Wanted(offset, None, follow, attempt, False)


async def _bytes(chunks: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[bytes]:
    async for _offset, chunk in chunks:
        yield chunk


async def _partial(
    chunks: AsyncIterator[tuple[int, bytes]], wanted: _Wanted, headers: dict[str, str]
) -> Response:
    """A range is answered whole: its length stands in front. At most 16 MiB; ask again for the rest."""
    limit = 16 * 1024 * 1024
    length = limit if wanted.end is None else min(limit, wanted.end - wanted.offset)
    data = bytearray()
    async for _offset, chunk in chunks:
        data += chunk
        if len(data) >= length:
            break
    del data[max(length, 0) :]
    if not data:
        return Response(status_code=416, headers={"Content-Range": "bytes */*"})
    headers["Content-Range"] = f"bytes {wanted.offset}-{wanted.offset + len(data) - 1}/*"
    return Response(bytes(data), 206, headers, "application/octet-stream")


async def _events(service: TaskService, task_id: str, chunks: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[bytes]:
    """Events `output`: id is the offset behind the chunk, to resume with Last-Event-ID. At the end, `end`."""
    async for offset, chunk in chunks:
        yield Streams.event("output", str(offset + len(chunk)), {"offset": offset, **_encoded(chunk)})
    try:
        state = service.get(task_id).record.state.value
    except TaskRunnerError:
        state = None  # removed meanwhile
    yield Streams.event("end", None, {"state": state})


def _encoded(chunk: bytes) -> dict[str, str]:
    """As text if it is UTF-8 from end to end, else in base64: no byte is replaced."""
    try:
        return {"text": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(chunk).decode()}


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, media_type="application/json")
