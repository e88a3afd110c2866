"""Forwarding of output: which targets a task may name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

from task_runner.errors import FieldError
from task_runner.lib.forwarding.order import JOURNAL
from task_runner.model.spec import Spec
from task_runner.model.walls import Syslog, Transport
from task_runner.service.notify import host_matches


class Forwarding:
    """``allow``: patterns of host names (None: any). ``authorities``: a PEM file with whom to trust for TLS."""

    def __init__(self, allow: Sequence[str] | None, authorities: str | None) -> None:
        self._allow = allow
        self._authorities = authorities

    def check(self, spec: Spec, _token: str = "") -> Iterator[FieldError]:
        """What is wrong with a spec's forwarding of output."""
        logging = spec.logging
        if logging is None:
            return
        if logging.syslog is None and not logging.journald:
            yield FieldError("logging", "names no target: give `syslog`, or `journald: true`, or both")
        if logging.journald and (reason := _unreachable(JOURNAL)) is not None:
            yield FieldError(
                "logging.journald",
                f"no journal listens at {JOURNAL} ({reason}): start systemd-journald, or mount its socket where this "
                "server is in a container; or leave `journald` out",
            )
        if logging.syslog is not None:
            yield from self._check_server(logging.syslog)

    def _check_server(self, syslog: Syslog) -> Iterator[FieldError]:
        host = syslog.host.lower().rstrip(".")
        if self._allow is not None and not any(host_matches(pattern, host) for pattern in self._allow):
            yield FieldError(
                "logging.syslog.host", f"the host {host!r} is not one that this server may forward to (forward_allow)"
            )
        authorities = self._authorities
        if syslog.transport is Transport.TLS and authorities is not None and not os.access(authorities, os.R_OK):
            fault = f"the server's file of trusted authorities cannot be read: {authorities} (forward_ca)"
            yield FieldError("logging.syslog.transport", fault)


def _unreachable(path: str) -> str | None:
    """Why nobody could be sent datagrams at this path; None: somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return error.strerror
    return None
