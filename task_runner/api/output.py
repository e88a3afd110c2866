"""GET …/output: a task's output as bytes or as server-sent events, from any offset.

An offset always counts the bytes that were written, those in a gap included, and never those of a mark.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from task_runner.api.contract import output as contract
from task_runner.api.follow import Follower, Piece, Source, first_kept, tail_offset
from task_runner.api.problem import problem
from task_runner.api.streams import Streams
from task_runner.errors import InvalidRequest, NotFound, TaskRunnerError
from task_runner.model.spec import OutputMode
from task_runner.model.status import Gap
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

#: a range is answered with so many bytes at most
MOST = 16 * 1024 * 1024

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")


Found = AsyncIterator[Piece | Gap | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    source: Source
    offset: int
    #: the offset behind the last byte of a range
    end: int | None = None
    follow: bool
    gaps: str
    #: answer 206
    partial: bool = False


async def get_output(request: Request) -> Response:
    """Query: stream, offset, tail (lines), follow, attempt, gaps; or a Range header. Accept: text/event-stream."""
    service: TaskService = request.app.state.service
    streams: Streams = request.app.state.streams
    task: Task = service.get(request.path_params["task_id"])
    wanted = await _wanted(request, task)
    await asyncio.to_thread(require_kept, service, task, wanted.source)
    found = Follower(service, request.app.state.growth, streams.closing).read(
        task, wanted.source, wanted.offset, follow=wanted.follow
    )
    if "text/event-stream" in request.headers.get("accept", ""):
        return streams.response(request, _events(service, task.id, found), "text/event-stream")
    headers = {"Accept-Ranges": "bytes", "X-Output-Offset": str(wanted.offset)}
    if wanted.partial:
        return await _partial(found, wanted, headers)
    if not wanted.follow:
        return StreamingResponse(plain(found, wanted.gaps), 200, headers, "application/octet-stream")
    return streams.response(request, plain(found, wanted.gaps), "application/octet-stream", headers)


async def _wanted(request: Request, task: Task) -> _Wanted:
    query = request.query_params
    offset, lines = contract.OFFSET.number(query), contract.TAIL.read(query)
    follow, shown = bool(contract.FOLLOW.read(query)), contract.GAP.read(query) or "mark"
    source = source_of(request.app.state.service, task, query)
    if lines is not None:
        offset = await asyncio.to_thread(tail_offset, source, lines)  # a long line is read from end to end
    if "last-event-id" in request.headers:
        offset = contract.LAST_OUTPUT.number(request.headers)
    if (match := _RANGE.fullmatch(request.headers.get("range", ""))) and not follow:
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else None
        return _Wanted(source=source, offset=start, end=end, follow=False, gaps="stop", partial=True)
    if shown != "mark":
        offset = first_kept(source, offset)
    return _Wanted(source=source, offset=offset, follow=follow, gaps=shown)


def source_of(service: TaskService, task: Task, query: Mapping[str, str]) -> Source:
    """The stream that is asked for. Raises InvalidRequest."""
    latest = task.record.attempt
    attempt = replace(contract.ATTEMPT, default=latest, high=latest).number(query)
    apart = task.spec.output_mode is OutputMode.SEPARATE
    there_are = ("stdout", "stderr") if apart else ("output",)
    stream = query.get("stream", there_are[0])
    if stream not in there_are:
        kept = "apart" if apart else "together"
        allowed = " and ".join(there_are)
        raise InvalidRequest.at("stream", f"no stream {stream[:40]!r}: this task keeps them {kept}, as {allowed}")
    status = task.record.status if attempt == latest else None
    told = (status.stderr if stream == "stderr" else status.output) if status else None
    return Source(
        attempt=attempt,
        path=service.environment.output_path(task.id, attempt, stream),
        limit=task.spec.max_output_bytes,
        told=tuple((gap.offset, gap.offset + gap.bytes) for gap in told.gaps) if told else (),
    )


def require_kept(service: TaskService, task: Task, source: Source) -> None:
    """Raises NotFound where an output was there and has been freed since."""
    if not task.final or os.path.lexists(source.path):
        return
    latest = source.attempt == task.record.attempt
    status = task.record.status if latest else service.environment.report(task.id, source.attempt)
    told = (status.stderr if source.path.endswith("stderr.log") else status.output) if status else None
    if told is not None and told.bytes:
        quota = "the output of all tasks is more than output_quota_bytes, and that of the oldest is freed first"
        raise NotFound(f"the output of this task, {told.bytes} bytes, is not kept any more: {quota}")


def mark(gap: Gap) -> bytes:
    """What stands in place of bytes that are not kept."""
    return b"\n[... %d bytes not kept ...]\n" % gap.bytes


async def plain(found: Found, shown: str) -> AsyncIterator[bytes]:
    """The bytes, and of a gap what is asked for (`contract.GAPS`)."""
    async for each in found:
        if isinstance(each, Piece):
            yield each.data
        elif each is not None and shown == "mark":
            yield mark(each)
        elif each is not None and shown == "stop":
            return


async def _partial(found: Found, wanted: _Wanted, headers: dict[str, str]) -> Response:
    """A range is answered whole, as its length stands in front: so much of it as comes before a gap."""
    length = MOST if wanted.end is None else min(MOST, wanted.end - wanted.offset)
    data = bytearray()
    async for each in found:
        if isinstance(each, Gap) and not data:
            return _in_gap(each)
        if not isinstance(each, Piece):
            break
        data += each.data
        if len(data) >= length:
            break
    del data[max(length, 0) :]
    if not data:
        return _nothing_there("there is nothing at this place (yet)")
    headers["Content-Range"] = f"bytes {wanted.offset}-{wanted.offset + len(data) - 1}/*"
    return Response(bytes(data), 206, headers, "application/octet-stream")


def _in_gap(gap: Gap) -> Response:
    behind = gap.offset + gap.bytes
    refusal = _nothing_there(f"the bytes from {gap.offset} to {behind - 1} are not kept: ask from {behind} on")
    refusal.headers["X-Output-Offset"] = str(behind)
    return refusal


def _nothing_there(detail: str) -> Response:
    refusal = problem(416, detail)
    refusal.headers["Content-Range"] = "bytes */*"
    return refusal


async def _events(service: TaskService, task_id: str, found: Found) -> AsyncIterator[bytes]:
    """Events `output` and `gap`: the id is the offset behind it, to resume with Last-Event-ID. At the end, `end`."""
    async for each in found:
        if isinstance(each, Piece):
            yield Streams.event("output", str(each.end), {"offset": each.offset, **_encoded(each.data)})
        elif each is not None:
            yield Streams.event("gap", str(each.offset + each.bytes), {"offset": each.offset, "bytes": each.bytes})
        else:
            yield b": alive\n\n"
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
