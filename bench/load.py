"""The load generator: one thread, raw sockets, as many keep-alive connections as asked for.

It formats every request before the clock starts and looks at no more of an answer than its status, its length
and the task's id, so that what is measured is the daemon. Its own processor time is in the table.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TASK_ID = re.compile(rb'"taskId": ?"([^"]+)"')

#: gunicorn closes a connection that was idle for 2 s; one that might be is opened anew
_IDLE = 1.0


class LoadError(Exception):
    """The server answered something else than was expected."""


class Connection:
    """One keep-alive HTTP/1.1 connection."""

    def __init__(self, port: int, token: str | None, patience: float = 60.0) -> None:
        self._address = ("127.0.0.1", port)
        self._token = token
        self._patience = patience
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(self._address, timeout=self._patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._used = time.monotonic()

    def format(self, method: str, path: str, body: Any = None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"Host: {self._address[0]}:{self._address[1]}"]
        if self._token is not None:
            head.append(f"Authorization: Bearer {self._token}")
        if body is not None:
            head.append("Content-Type: application/json")
        head.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*head, "", ""]).encode() + content

    def receive(self) -> tuple[int, bytes] | None:
        """Read once; the status and the body of an answer that is complete now."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise LoadError("the server closed the connection")
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is None or len(rest) < int(length[1]):
            return None
        self._buffer = b""
        return int(head[9:12]), rest

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of its answer. Raises LoadError."""
        status, content = self.exchange(self.format(method, path, body))
        if status >= 300:
            raise LoadError(f"{method} {path}: {status} {content[:300]!r}")
        return json.loads(content)

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its answer."""
        if time.monotonic() - self._used > _IDLE:
            self.close()
            self.open()
        self.socket.sendall(request)
        while (answer := self.receive()) is None:
            pass
        self._used = time.monotonic()
        return answer

    def close(self) -> None:
        self.socket.close()


def post_all(connections: list[Connection], request: bytes, count: int) -> list[str]:
    """Send the same request ``count`` times, one at a time over each connection; returns the ids of the tasks."""
    left, ids = count, list[str]()
    by_fd = {connection.socket.fileno(): connection for connection in connections}
    with select.epoll() as poll:
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            if left:
                connection.socket.sendall(request)
                left -= 1
        while len(ids) < count:
            for fd in _ready(poll):
                answer = by_fd[fd].receive()
                if answer is None:
                    continue
                status, content = answer
                match = _TASK_ID.search(content)
                if status != 201 or match is None:
                    raise LoadError(f"POST: {status} {content[:300]!r}")
                ids.append(match[1].decode())
                if left:
                    by_fd[fd].socket.sendall(request)
                    left -= 1
    return ids


def _ready(poll: select.epoll) -> Iterator[int]:
    events = poll.poll(60.0)
    if not events:
        raise LoadError("no answer within 60 s")
    for fd, _event in events:
        yield fd
