"""Logging: how much of a task's output is kept, and where its lines go beside that."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from task_runner.api.dialects.drove.reader import EMPTY, Reader
from task_runner.api.dialects.drove.units import size

#: the least that a spec can say
_LEAST = 65_536
#: the addresses of Docker's syslog driver, and our names for them
_TRANSPORTS = {"udp": "udp", "tcp": "tcp", "tcp+tls": "tls"}
#: the facility that Drove has its containers log with
_DAEMON = 3


def read(reader: Reader | None) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The logging as Drove has it (none: nothing was said), and the fields of a spec that it means."""
    kind = None if reader is None else reader.word("type", ("LOCAL", "RSYSLOG"))
    if reader is None or kind is None:
        return None, {}
    return _local(reader) if kind == "LOCAL" else _rsyslog(reader)


def _local(reader: Reader) -> tuple[dict[str, Any], dict[str, Any]]:
    """Drove keeps the newest files; here the beginning and the end are kept, together as many bytes."""
    most, files = reader.text("maxSize") or "10m", reader.whole("maxFiles", 1, 100, default=3)
    told = {"type": "LOCAL", "maxSize": most, "maxFiles": files, "compress": reader.flag("compress", default=True)}
    try:
        return told, {"maxOutputBytes": max(_LEAST, size(most) * (files or 1))}
    except ValueError as error:
        reader.fault("maxSize", f"- {error}")
        return told, {}


def _rsyslog(reader: Reader) -> tuple[dict[str, Any], dict[str, Any]]:
    server = reader.text("server", missing=EMPTY)
    prefix, suffix = reader.text("tagPrefix"), reader.text("tagSuffix")
    told = {"type": "RSYSLOG", "server": server, "tagPrefix": prefix, "tagSuffix": suffix}
    syslog = None if server is None else _target(server)
    if server is not None and syslog is None:
        reader.fault("server", "- udp://HOST:PORT, tcp://HOST:PORT or tcp+tls://HOST:PORT is expected")
    logging = {"syslog": syslog, "tagPrefix": prefix or "", "tagSuffix": suffix or ""}
    return {name: value for name, value in told.items() if value is not None}, {"logging": logging}


def _target(server: str) -> dict[str, Any] | None:
    """An address as Docker's driver takes it; without a scheme it is UDP."""
    scheme, separator, rest = server.partition("://")
    if not separator:
        scheme, rest = "udp", server
    try:
        found = urlsplit(f"//{rest}")
        host, port = found.hostname, found.port or 514
    except ValueError:
        return None
    if scheme not in _TRANSPORTS or not host or found.path not in ("", "/"):
        return None
    return {"host": host, "port": port, "transport": _TRANSPORTS[scheme], "facility": _DAEMON}
