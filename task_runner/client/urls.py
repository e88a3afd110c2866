"""Addresses of daemons, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from task_runner.errors import InvalidRequest


def is_local(url: str) -> bool:
    """Whether this address cannot leave the machine. Raises InvalidRequest for what is no address."""
    parts = split(url)
    if parts.scheme == "unix" or parts.hostname in ("localhost", "127.0.0.1"):
        return True
    import ipaddress  # here: `--help` does without it

    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Parts:
    """An address taken apart."""

    scheme: str
    hostname: str | None
    #: of the socket, for unix
    path: str


def split(url: str) -> Parts:
    """Take an address apart. Raises InvalidRequest."""
    try:
        parts = urlsplit(url)
        hostname, _port, user = parts.hostname, parts.port, parts.username
    except ValueError as error:
        raise InvalidRequest.at("url", f"{url!r}: {error}") from None
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Parts("unix", None, parts.path)
    if user is not None:  # it would go in the place of the token, and be shown with the address
        raise InvalidRequest.at("url", "a daemon has no users: an address has neither a user nor a password in it")
    if parts.scheme in ("http", "https") and hostname and url.isprintable():
        return Parts(parts.scheme, hostname, parts.path)
    raise InvalidRequest.at("url", f"{url!r} is none of http://HOST:PORT, https://HOST:PORT, unix:///PATH")
