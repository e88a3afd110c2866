"""A client for a question or two to a daemon on this machine, which does not take the time that httpx takes to load."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode, urlsplit

from task_runner.client import Client
from task_runner.client.blocking import Driver, Opened
from task_runner.client.errors import ConnectionFailed
from task_runner.client.link import Link
from task_runner.client.steps import Answer, Send, Step
from task_runner.client.urls import split


class QuickClient(Client):
    """Only what needs neither a body nor a stream; by http, or at a Unix socket."""

    def _connect(self) -> None:
        self._driver = _QuickDriver(self._link)


def can_reach(url: str) -> bool:
    """Whether the daemon is one that this client can ask."""
    return split(url).scheme in ("http", "unix")


class _QuickDriver(Driver):
    def _do(self, step: Step, opened: Opened) -> Answer | bytes | None:
        if not isinstance(step, Send) or step.call.method != "GET":
            return super()._do(step, opened)
        call, headers = step.call, {"Connection": "close"}
        if self._link.token is not None:
            headers["Authorization"] = f"Bearer {self._link.token}"
        connection = _connection(self._link)
        try:
            connection.request("GET", f"{call.path}?{urlencode(call.query)}", headers=headers)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise ConnectionFailed(f"cannot ask {self._link.url}: {error}") from None
        finally:
            connection.close()


def _connection(link: Link) -> HTTPConnection:
    parts = split(link.url)
    if parts.scheme != "unix":
        return HTTPConnection(urlsplit(link.url).netloc, timeout=link.timeout)
    connection = HTTPConnection("localhost", timeout=link.timeout)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(link.timeout)
    connection.sock.connect(parts.path)
    return connection
