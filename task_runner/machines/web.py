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


class _Https(urllib.request.AbstractHTTPHandler):
    """The library's own reads all certificates of the system at once, which takes longer than most transfers."""

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(http.client.HTTPSConnection, request, context=ssl.create_default_context())

    https_request = urllib.request.AbstractHTTPHandler.do_request_


def opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxies that the environment names; no other schemes, no redirections."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    director.addheaders = []
    return director
