"""The cookie of a session. Browsers share cookies among the ports of a machine, so its name has the port in it: two
daemons on one machine do not log each other out."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import Request

_PORT = re.compile(r":(\d{1,5})$")


def read(headers: Headers) -> str | None:
    """The secret that a request shows, the last where there are several: a browser names those of a longer path first,
    and ours has the shortest.

    Anybody may send this, and it is read before he is known, so nothing in it is unquoted: for that the standard
    library takes the square of its length, of 60 KB half a minute. What we have set has no quotes.
    """
    wanted, found = name(headers), None
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            key, equals, value = part.partition("=")
            if equals and key.strip() == wanted:
                found = value.strip()
    return found


def name(headers: Headers) -> str:
    """What it is called at the address that a request was sent to, as the browser sees that."""
    port = _PORT.search(headers.get("host", ""))
    return f"task-runner-{port[1]}" if port else "task-runner"


def written(request: Request, secret: str) -> str:
    """The value of Set-Cookie. Without a date: it ends with the browser, if not before by the daemon."""
    return f"{name(request.headers)}={secret}; {_attributes(request)}"


def removed(request: Request) -> str:
    return f"{name(request.headers)}=; Max-Age=0; {_attributes(request)}"


def _attributes(request: Request) -> str:
    # a proxy in front that does TLS may not say so, but the browser names the address that it sees
    origin = request.headers.get("origin", "")
    secure = request.url.scheme == "https" or origin.lower().startswith("https://")
    return "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
