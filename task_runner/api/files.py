"""GET …/files: what a task has made in its working directory, listed, sent, or packed into an archive."""

from __future__ import annotations

import base64
import functools
import io
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, TypeVar
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.contract import output as contract
from task_runner.api.output import json_response
from task_runner.api.params import known_only
from task_runner.api.problem import answer
from task_runner.api.streams import BrokenOff, Streams
from task_runner.api.surface import Refusal
from task_runner.errors import Conflict, InvalidRequest, TaskRunnerError
from task_runner.lib.beneath import Kind
from task_runner.lib.clock import stamp
from task_runner.model.scopes import Scope
from task_runner.service import archive, files
from task_runner.service.files import Entry, Parts
from task_runner.service.tasks import TaskService

T = TypeVar("T")

_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
#: a browser shows nothing of it and runs nothing in it, whatever a task has written
_AS_BYTES = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "no-cache",
}


async def get_files(request: Request) -> Response:
    """List the files of a task, or send one. Query: recursive, limit, cursor; list=true; archive=tar|tar.gz|zip."""
    service: TaskService = request.app.state.service
    task = service.get(request.path_params["task_id"])
    query = request.query_params
    known_only(query, contract.FILE_QUERY)
    asked = _Asked(request, task.id, service.environment.work_path(task.id), files.parse_path(_raw_path(request)))
    packed, page = contract.ARCHIVE.read(query), _page(request)
    recursive, as_list = bool(contract.RECURSIVE.read(query)), contract.AS_LIST.read(query)
    if packed is not None:
        return await asked.archive(packed)
    if not asked.parts:
        return await asked.listing(recursive, *page)
    entry = await asked.look()
    if entry.kind is Kind.DIRECTORY:
        return await asked.listing(recursive, *page)
    if as_list:
        return json_response([_shown(task.id, entry)])
    return await asked.file(entry)


def _raw_path(request: Request) -> bytes:
    """What stands behind `files/`, byte for byte: the server has decoded it as UTF-8, which not every name is."""
    text = request.path_params.get("path")
    if text is None:
        return b""
    raw: bytes | None = request.scope.get("raw_path")
    if raw is None:
        return str(text).encode()
    return b"/".join(unquote_to_bytes(raw).split(b"/")[-1 - text.count("/") :])


def _page(request: Request) -> tuple[Parts | None, int]:
    query = request.query_params
    cursor = query.get("cursor")
    after = None if cursor is None else files.parse_path(unquote_to_bytes(cursor))
    return after, contract.FILE_LIMIT.number(query)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request about one path."""

    request: Request
    task_id: str
    work: str
    parts: Parts

    async def look(self) -> Entry:
        return await self._in_thread(files.look, self.work, self.parts)

    async def listing(self, recursive: bool, after: Parts | None, limit: int) -> Response:
        find = functools.partial(files.page, recursive=recursive, after=after, limit=limit)
        entries, more = await self._in_thread(find, self.work, self.parts)
        headers = {}
        if more:
            cursor = quote(quote_from_bytes(b"/".join(entries[-1].parts)), safe="")
            rest = f"&limit={limit}" + ("&recursive=true" if recursive else "")
            headers["Link"] = f'<{_href(self.task_id, self.parts)}?cursor={cursor}{rest}>; rel="next"'
        return json_response([_shown(self.task_id, entry) for entry in entries], headers=headers)

    async def file(self, entry: Entry) -> Response:
        """The content of a regular file; a Range of it, where that is asked for."""
        if entry.error is not None:
            raise Conflict(f"{files.shown(self.parts)} cannot be read: {entry.error}")
        if entry.target is not None:
            leads = files.shown([entry.target])
            raise Conflict(f"{files.shown(self.parts)} is a link to {leads}: links are not followed")
        file: io.FileIO = await self._in_thread(files.open_file, self.work, self.parts)
        found = os.fstat(file.fileno())
        etag = _etag(found)
        headers = {
            **_AS_BYTES,
            "ETag": etag,
            "Last-Modified": formatdate(found.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Disposition": _disposition(self.parts[-1]),
        }
        given = self.request.headers
        if _is_among(given.get("if-none-match"), etag):
            file.close()
            return Response(status_code=304, headers=headers)
        wanted, status = range(found.st_size), 200
        if "range" in given and _is_still(given.get("if-range"), etag):
            part = parse_range(given["range"], found.st_size)
            if part is not None and not part:
                file.close()
                size = found.st_size
                headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
                return answer(Refusal(416, f"the file has {size} bytes: nothing is there", headers=headers))
            if part is not None:
                wanted, status = part, 206
                headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{found.st_size}"
        headers["Content-Length"] = str(len(wanted))
        return self._stream(lambda: _content(file, wanted), "application/octet-stream", headers, status, file.close)

    async def archive(self, kind: str) -> Response:
        entry = await self.look()
        if entry.kind is not Kind.DIRECTORY:
            raise InvalidRequest.at("archive", f"{files.shown(self.parts)} is no directory: it can be sent as it is")
        most = archive.MAX_ZIP_ENTRIES
        if kind == "zip" and await self._in_thread(archive.count, self.work, self.parts, most + 1) > most:
            raise InvalidRequest.at("archive", f"there are more than {most} files, too many for a zip: ask for tar.gz")
        name = (self.parts[-1] if self.parts else self.task_id.encode()) + f".{kind}".encode()
        headers = {**_AS_BYTES, "Content-Disposition": _disposition(name)}
        content = functools.partial(archive.pack, self.work, self.parts, kind)
        return self._stream(lambda: _unbroken(content()), archive.MEDIA_TYPES[kind], headers)

    def _stream(
        self,
        content: Callable[[], Generator[bytes]],
        media_type: str,
        headers: dict[str, str],
        status: int = 200,
        close: Callable[[], None] = lambda: None,
    ) -> Response:
        streams: Streams = self.request.app.state.streams
        if self.request.method == "HEAD":
            close()
        try:
            return streams.response(self.request, streams.read(content()), media_type, headers, status)
        except TaskRunnerError:
            close()
            raise

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        streams: Streams = self.request.app.state.streams
        return await streams.in_thread(call, *arguments)


def _content(file: io.FileIO, wanted: range) -> Generator[bytes]:
    """A part of a file. Its length has been announced: a file that has become shorter cannot be sent whole."""
    with file:
        file.seek(wanted.start)
        left = len(wanted)
        while left > 0:
            try:
                chunk = file.read(min(_CHUNK, left))
            except OSError as error:
                raise BrokenOff(f"it cannot be read: {error.strerror}") from None
            if not chunk:
                raise BrokenOff("the file has become shorter while it was sent")
            left -= len(chunk)
            yield chunk


def _unbroken(parts: Iterator[bytes]) -> Generator[bytes]:
    try:
        yield from parts
    except (TaskRunnerError, OSError) as error:
        raise BrokenOff(str(error)) from None


def parse_range(text: str, size: int) -> range | None:
    """The bytes that a Range header asks for; empty if none of them is there; None for what is not one range."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return range(max(0, size - int(match[2])), size)
    first, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < first:
        return None
    return range(first, max(first, end))


def _etag(found: os.stat_result) -> str:
    """Weak while the file may change again within the same tick of its clock: then it proves nothing."""
    settled = time.time() - found.st_mtime > 2
    return f'{"" if settled else "W/"}"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'


def _is_among(tags: str | None, etag: str) -> bool:
    """If-None-Match: the receiver has it."""
    return tags is not None and (tags.strip() == "*" or etag.removeprefix("W/") in tags)


def _is_still(tag: str | None, etag: str) -> bool:
    """If-Range: the parts that the receiver has are of the same file."""
    return tag is None or (tag == etag and not etag.startswith("W/"))


def _disposition(name: bytes) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.decode(errors="replace"))
    try:
        exact = f"; filename*=UTF-8''{quote(name.decode(), safe='')}"
    except UnicodeDecodeError:
        exact = ""
    return f'attachment; filename="{plain}"{exact}'


def _href(task_id: str, parts: Parts) -> str:
    return "/".join([f"/v1/tasks/{task_id}/files", *(quote_from_bytes(part, safe="") for part in parts)])


def _shown(task_id: str, entry: Entry) -> dict[str, Any]:
    return {
        **_named("path", b"/".join(entry.parts)),
        "href": _href(task_id, entry.parts),
        "kind": entry.kind and entry.kind.value,
        "bytes": entry.size,
        "modifiedAt": None if entry.modified_at is None else stamp(entry.modified_at),
        "mode": None if entry.mode is None else f"{entry.mode:04o}",
        **_named("target", entry.target),
        "error": entry.error,
    }


def _named(field: str, value: bytes | None) -> dict[str, str | None]:
    """As text where it is UTF-8, else in base64: no byte is replaced."""
    if value is None:
        return {field: None, f"{field}Base64": None}
    try:
        return {field: value.decode(), f"{field}Base64": None}
    except UnicodeDecodeError:
        return {field: None, f"{field}Base64": base64.b64encode(value).decode()}


routes = [
    route("/v1/tasks/{task_id}/files", get_files, scope=Scope.LOGS, doc=contract.LIST_FILES),
    route("/v1/tasks/{task_id}/files/{path:path}", get_files, scope=Scope.LOGS, doc=contract.GET_FILE),
]
