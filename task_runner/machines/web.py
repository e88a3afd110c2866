"""How a machine asks over HTTP: what it says of itself and to whom, and through what."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from task_runner import __version__
from task_runner.errors import ActionFailed

#: what another host is told as well; the rest may be secret
_FOR_ANYBODY = {"accept", "accept-encoding", "accept-language", "user-agent", "range", "if-range"}
#: Latin-1 without line ends
_HEADER = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def basic(username: str, password: str) -> str:
    """The value of Authorization for a user with a password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def prepared(url: str, more: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The URL as it is asked for, and all headers, ``more`` among them. Raises ActionFailed."""
    url, authorization = split_user(url)
    headers = {"User-Agent": f"task-runner/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    given = {name.lower() for name in more}
    headers = {name: value for name, value in headers.items() if name.lower() not in given} | dict(more)
    if authorization is not None and "authorization" not in given:
        headers["Authorization"] = authorization
    for name, value in headers.items():
        if not _HEADER.fullmatch(value):
            raise ActionFailed(f"the value of the header {name} has characters in it that no header can hold")
    return url, headers


def split_user(url: str) -> tuple[str, str | None]:
    """The URL without user and password, and these as a header."""
    found = urlsplit(url)
    user, at, host = found.netloc.rpartition("@")
    if not at:
        return url, None
    name, _, password = user.partition(":")
    return urlunsplit(found._replace(netloc=host)), basic(unquote(name), unquote(password))


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Who answers: what is said to one of them is not for another."""
    found = urlsplit(url)
    return found.scheme, found.hostname, found.port or {"http": 80, "https": 443}.get(found.scheme)


def for_anybody(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of the headers that any host may know."""
    return {name: value for name, value in headers.items() if name.lower() in _FOR_ANYBODY}


def _connection(kind: type[http.client.HTTPConnection], connect: float | None) -> type[http.client.HTTPConnection]:
    """A class of connections that are made within so many seconds, whatever patience there is afterwards."""
    if connect is None:
        return kind

    class Connection(kind):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            after = self.timeout  # type: ignore[has-type]
            self.timeout = connect
            super().connect()
            self.timeout = after
            self.sock.settimeout(after)

    return Connection


class _Http(urllib.request.AbstractHTTPHandler):
    def __init__(self, connect: float | None) -> None:
        super().__init__()
        self._kind = _connection(http.client.HTTPConnection, connect)

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._kind, request)

    http_request = urllib.request.AbstractHTTPHandler.do_request_


class _Https(urllib.request.AbstractHTTPHandler):
    """The library's own reads all certificates of the system at once, which takes longer than most transfers."""

    def __init__(self, connect: float | None, *, insecure: bool) -> None:
        super().__init__()
        self._kind = _connection(http.client.HTTPSConnection, connect)
        self._insecure = insecure

    def https_open(self, request: urllib.request.Request) -> Any:
        context = ssl.create_default_context()
        if self._insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return self.do_open(self._kind, request, context=context)

    https_request = urllib.request.AbstractHTTPHandler.do_request_


def opener(*, insecure: bool = False, connect: float | None = None) -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxies that the environment names; no other schemes, no redirections.

    ``insecure``: any certificate will do. ``connect``: seconds for making a connection.
    """
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(connect),
        _Https(connect, insecure=insecure),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    director.addheaders = []
    return director
