"""The files of a task, from a client's side. A path is text; or bytes, where a name on it is not UTF-8."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.connection import Connection
from task_runner.client.errors import ConnectionFailed
from task_runner.client.records import FileEntry
from task_runner.errors import Conflict

if TYPE_CHECKING:
    import httpx

_FIELDS = frozenset(FileEntry.__annotations__)


class Files:
    """What tasks of one daemon have in their working directories."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, task_id: str, path: str | bytes = "", *, recursive: bool = False) -> Iterator[FileEntry]:
        """What is in a directory, in the order of names; of something else, itself. All pages."""
        call: Call | None = calls.files(task_id, os.fsencode(path), recursive=recursive)
        while call is not None:
            response = self._connection.send(call)
            yield from self._entries(response)
            link = response.links.get("next", {}).get("url")
            call = calls.following(link) if link else None

    def _entries(self, response: httpx.Response) -> Iterator[FileEntry]:
        try:
            found: Any = response.json()
        except ValueError:
            raise self._connection.alien() from None
        for each in found if isinstance(found, list) else [None]:
            if not isinstance(each, dict) or not each.keys() >= _FIELDS:
                raise self._connection.alien()
            yield cast("FileEntry", each)

    def read(self, task_id: str, path: str | bytes) -> Generator[bytes]:
        """The content of a file. Where the connection breaks it goes on there, as long as the file is the same.

        Raises Conflict where the file has changed before it was read to its end.
        """
        position, began_at, tag = 0, -1, None
        while True:
            call = calls.file(task_id, os.fsencode(path), position, tag)
            try:
                with self._connection.stream(call) as response:
                    if tag is not None and response.status_code != 206:
                        raise Conflict(f"{path!r} has changed while it was read; {position} bytes had come")
                    tag, began_at = response.headers.get("etag"), position
                    for chunk in response.iter_raw():
                        position += len(chunk)
                        yield chunk
                return
            except ConnectionFailed as error:
                begun = tag is not None
                # a weak tag does not prove that the file is still the same; and what breaks at once breaks again
                if begun and (position == began_at or not tag or tag.startswith("W/")):
                    raise
                self._connection.wait_out(error)

    def archive(self, task_id: str, path: str | bytes = "", kind: str = "tar.gz") -> Generator[bytes]:
        """All that is in a directory, as one archive: "tar", "tar.gz" or "zip"."""
        with self._connection.stream(calls.archive(task_id, os.fsencode(path), kind)) as response:
            yield from response.iter_raw()
