"""The files of a task, from a client's side. A path is text; or bytes, where a name on it is not UTF-8."""

from __future__ import annotations

import os

from task_runner.client import calls
from task_runner.client.core import Core, required, task_of
from task_runner.client.errors import ApiError, Conflict, ConnectionFailed
from task_runner.client.link import Outage
from task_runner.client.records import FileEntry
from task_runner.client.steps import Emit, Flow, Open, Read, flow
from task_runner.client.tasks import TaskRef

_FIELDS = required(FileEntry)


class Files(Core):
    """What tasks of one daemon have in their working directories."""

    @flow
    def list(self, task: TaskRef, path: str | bytes = "", *, recursive: bool = False) -> Flow[FileEntry]:
        """What is in a directory, in the order of names; of something else, itself. All pages."""
        yield from self._pages(calls.files(task_of(task), os.fsencode(path), recursive=recursive), _FIELDS)

    @flow
    def read(self, task: TaskRef, path: str | bytes) -> Flow[bytes]:
        """The content of a file. Where the connection breaks it goes on there, as long as the file is the same.

        Raises Conflict where the file has changed before it was read to its end.
        """
        position, began_at, tag, outage = 0, -1, None, Outage(self._link)
        while True:
            call = calls.file(task_of(task), os.fsencode(path), position, tag)
            try:
                answer = yield from self._once(Open(call))
                if tag is not None and answer.status != 206:
                    raise Conflict(409, f"{path!r} has changed while it was read; {position} bytes had come")
                outage.over()
                tag, began_at = answer.headers.get("etag"), position
                while (chunk := (yield Read())) is not None:
                    position += len(chunk)
                    yield Emit(chunk)
                return
            except (ApiError, ConnectionFailed) as error:
                # a weak tag does not prove that the file is still the same; and what breaks at once breaks again
                begun = began_at >= 0 and isinstance(error, ConnectionFailed)
                if begun and (position == began_at or not tag or tag.startswith("W/")):
                    raise
                yield outage.pause(error)

    @flow
    def archive(self, task: TaskRef, path: str | bytes = "", kind: str = "tar.gz") -> Flow[bytes]:
        """All that is in a directory, as one archive: "tar", "tar.gz" or "zip". One that breaks off is not resumed."""
        yield from self._once(Open(calls.archive(task_of(task), os.fsencode(path), kind)))
        while (chunk := (yield Read())) is not None:
            yield Emit(chunk)
