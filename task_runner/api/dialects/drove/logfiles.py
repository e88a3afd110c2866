"""Log files: a task's output, by attempts. Offsets count the bytes that were written, for ever.

Answers are not enveloped, and errors are {"error": …}, as with Drove. The text of a read ends where a character ends,
so that who counts the bytes of what he got goes on in the right place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from task_runner.api import follow, output
from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.dialects.drove.tasks import find
from task_runner.api.follow import Follower, Piece, Source
from task_runner.api.streams import Streams
from task_runner.errors import NotFound
from task_runner.model.scopes import Scope
from task_runner.model.status import Gap
from task_runner.service.task import Task

LATEST = "output.log"
#: bytes of a read that does not say how many, and of any at most
CHUNK, MOST = 32_768, 1 << 20
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class _Unreadable(Exception):
    """Why a file cannot be read, with a status of HTTP."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a task that is there."""

    task: Task
    name: str
    source: Source
    #: nothing is written to it any more
    over: bool


def files(attempt: int) -> dict[str, int]:
    """The attempts of a task that is at this one, by the names of their files. Pure."""
    return {LATEST: attempt, **{f"output.{earlier}.log": earlier for earlier in range(1, attempt)}}


def text_of(data: bytes, most: int, *, last: bool) -> str:
    """The text of the first ``most`` bytes, or a few less: a character is not cut; but the first is given whole.

    ``last``: nothing will follow, so what is no whole character at the end never will be one. Pure.
    """
    if len(data) > most:
        end = _whole(data[:most])
        if end == 0 and most > 0:
            end = next((size for size in range(most, 5) if _whole(data[:size]) == size), most)
    else:
        end = len(data) if last else _whole(data)
    return data[:end].decode("utf-8", "replace")


def _whole(data: bytes) -> int:
    """The length of this without the beginning of a character at its end."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            size = 2 if 0xC2 <= byte <= 0xDF else 3 if 0xE0 <= byte <= 0xEF else 4 if 0xF0 <= byte <= 0xF4 else 1
            return len(data) - back if size > back else len(data)
    return len(data)


async def list_files(request: Request) -> Response:
    """GET …/list"""
    task = find(request)
    if task is None:
        return Response(status_code=204)
    found = []
    for name, attempt in files(task.record.attempt).items():
        source = _file(request, task, name, attempt).source
        if await _streams(request).in_thread(follow.exists, source):
            found.append(name)
    return _raw({"files": found})


async def read(request: Request) -> Response:
    """GET …/read/{file}?offset=-1&length=-1: without an offset, where the file ends."""
    task = find(request)
    if task is None:
        return Response(status_code=204)
    try:
        offset, length = _number(request, "offset"), _number(request, "length")
        file = _named(request, task)
        if (length != -1 and offset == -1) or min(offset, length) < -1:
            raise _Unreadable(400, "Negative seek offset")
        await _streams(request).in_thread(_check, request, file)
        return _raw(await _read(request, file, offset, CHUNK if length == -1 else min(length, MOST)))
    except _Unreadable as error:
        return _error(request, error)


async def _read(request: Request, file: _File, offset: int, most: int) -> dict[str, object]:
    size, found = await _streams(request).in_thread(follow.look, file.source, max(offset, 0), most + 4)
    if offset == -1:
        return {"data": "", "offset": size}
    if isinstance(found, Gap):
        # the mark takes the place of its last bytes: who goes on behind it has missed nothing that is there
        mark = output.mark(found).decode()
        return {"data": mark, "offset": found.offset + found.bytes - len(mark)}
    if isinstance(found, Piece):
        return {"data": text_of(found.data, most, last=file.over or found.end < size), "offset": offset}
    return {"data": "", "offset": offset}


async def download(request: Request) -> Response:
    """GET …/download/{file}?rename=false: all of it; a mark stands where bytes are not kept."""
    task = find(request)
    if task is None:
        return Response(status_code=204)
    try:
        file = _named(request, task)
        await _streams(request).in_thread(_check, request, file)
    except _Unreadable as error:
        return _error(request, error)
    follower = Follower(service_of(request), request.app.state.growth, _streams(request).closing)
    content = output.plain(follower.read(task, file.source, 0, follow=False), "mark")
    path = request.path_params
    renamed = request.query_params.get("rename", "").lower() == "true"
    name = f"{path['app']}-{path['task']}-{file.name}" if renamed else file.name
    headers = {"Content-Disposition": f"attachment; filename={name}"}
    return StreamingResponse(content, 200, headers, "text/plain")


def _named(request: Request, task: Task) -> _File:
    """The file that the path names: of the task's own, and nothing beside them. Raises _Unreadable."""
    name = request.path_params["file"]
    attempt = files(task.record.attempt).get(name)
    if attempt is None:
        raise _Unreadable(404, "No such file")
    return _file(request, task, name, attempt)


def _file(request: Request, task: Task, name: str, attempt: int) -> _File:
    source = output.source_of(service_of(request), task, {"attempt": str(attempt)})
    return _File(task, name, source, over=task.final or attempt < task.record.attempt)


def _check(request: Request, file: _File) -> None:
    """Raises _Unreadable where it was there, and is not kept any more. One never written to is empty."""
    try:
        output.require_kept(service_of(request), file.task, file.source)
    except NotFound as error:
        raise _Unreadable(404, str(error)) from None


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "-1")
    if not _INTEGER.fullmatch(text):
        raise _Unreadable(400, f"{name}: a whole number is expected, this is {text[:40]!r}")
    return int(text)


def _streams(request: Request) -> Streams:
    streams: Streams = request.app.state.streams
    return streams


def _raw(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


def _error(request: Request, error: _Unreadable) -> Response:
    return _raw({"error": f"Error reading file {request.path_params['file'][:200]}: {error}"}, error.status)


_TASK = "/apis/v1/logfiles/tasks/{app}/{task}"

routes = [
    route(f"{_TASK}/list", list_files, scope=Scope.LOGS),
    route(f"{_TASK}/read/{{file:path}}", read, scope=Scope.LOGS),
    route(f"{_TASK}/download/{{file:path}}", download, scope=Scope.LOGS),
]
