"""Server-sent events out of bytes, as they come: https://html.spec.whatwg.org/multipage/server-sent-events.html

The libraries for this take an open response of httpx and do the reading; here the reading is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Message(NamedTuple):
    """One event, or a comment."""

    kind: str
    id: str | None
    data: str


COMMENT = ":"


class Parser:
    """One stream. An event that is cut off by its end does not count."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[Message]:
        """The events and the comments that have become whole."""
        # the daemon ends lines with "\n" alone, and so does every proxy that leaves a body as it is
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[Message]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if self._data:
                yield Message(self._fields.get("event", "message"), self._fields.get("id"), "\n".join(self._data))
            self._fields, self._data = {}, []
        elif not name:
            yield Message(COMMENT, None, value)
        elif name == "data":
            self._data.append(value)
        else:
            self._fields[name] = value
