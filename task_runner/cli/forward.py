"""Where lines of output go beside the task's log, as it is said on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import click

from task_runner.cli.values import reading

#: the usual port of each transport
_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}


def target(text: str) -> dict[str, Any]:
    """A field of the spec's logging. Raises ValueError."""
    if text == "journald":
        return {"journald": True}
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{text!r} is neither journald nor like udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT")
    return {"syslog": {"host": parts.hostname, "port": parts.port or _PORTS[parts.scheme], "transport": parts.scheme}}


OPTION = click.option(
    "--forward",
    multiple=True,
    callback=reading(target),
    metavar="TARGET",
    help="Send its lines of output also to udp://HOST:PORT, tcp://…, tls://…, or journald; again for more.",
)


def logging(targets: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The spec's logging, of what the option says. Raises UsageError."""
    found: dict[str, Any] = {}
    for each in targets:
        if "syslog" in each and "syslog" in found:
            raise click.UsageError("--forward names two syslog servers, and a task can have one")
        found |= each
    return found or None
