"""Listeners: the addresses that belong to one surface each, as `--bind` has them."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

_UNIX = "unix:"
#: longest path of a Unix socket, in bytes
LONGEST_PATH = 107
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """`HOST:PORT`, or `unix:/PATH`."""

    #: a name, or an address of the machine; none: a Unix socket
    host: str | None = None
    port: int | None = None
    #: of the Unix socket; none: it is not one
    path: str | None = None

    @classmethod
    def parse(cls, address: str) -> Listener:
        """Raises ValueError, which says what would be right."""
        if address.startswith(_UNIX):
            path = address.removeprefix(_UNIX)
            if not path.startswith("/") or path.endswith("/"):
                raise ValueError(f"{address!r} must have the whole path of the socket: unix:/run/task-runner/socket")
            return cls(path=_checked("/" + os.path.normpath(path).lstrip("/")))
        host, colon, port = address.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
            raise ValueError(f"{address!r} must be HOST:PORT, with a port from 1 to 65535, or unix:/PATH")
        return cls(host=_host(host, address), port=int(port))

    def __str__(self) -> str:
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"

    def hears(self, server: tuple[str, int | None] | None) -> bool:
        """Whether a connection that came in at ``server`` (an ASGI scope's) came in here."""
        if server is None:
            return False
        host, port = server
        if self.path is not None:
            return port is None and os.path.abspath(host) == self.path
        return port is not None and port == self.port and self._has_address(host)

    def _has_address(self, host: str) -> bool:
        mine = _ip(self.host or "")
        if mine is None:
            return True  # a name: its address is not known here, and the port has to do
        return mine.is_unspecified or mine == _ip(host)

    def meets(self, other: Listener) -> bool:
        """Whether some connection could come in at either."""
        if self.path is not None or other.path is not None:
            return self.path == other.path
        mine, theirs = _ip(self.host or ""), _ip(other.host or "")
        if self.port != other.port:
            return False
        return mine is None or theirs is None or mine.is_unspecified or theirs.is_unspecified or mine == theirs


def _checked(path: str) -> str:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ValueError(f"the path {path} is longer than the {LONGEST_PATH} bytes that a Unix socket can have")
    return path


def _host(host: str, address: str) -> str:
    if not host:
        return "0.0.0.0"  # noqa: S104  as for gunicorn
    if host.startswith("[") and host.endswith("]"):
        if (found := _ip(host[1:-1])) is not None and found.version == 6:
            return str(found)
    elif (found := _ip(host)) is not None and found.version == 4:
        return str(found)
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address stands in brackets, [::1]:8000")
    elif _NAME.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
        return host
    raise ValueError(f"{address!r}: {host} is neither an address nor a name of a machine")


def _ip(host: str) -> _IpAddress | None:
    """What a host is as a number; None: it is a name."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
