"""Targets that take one datagram a line: a syslog server by UDP (RFC 5426), and the journal of this machine.

Nobody confirms a datagram. One that the kernel took counts as delivered, unless a message comes back that nobody
listens there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from collections.abc import Sequence

from task_runner.lib.forwarding.form import Form
from task_runner.lib.forwarding.lines import Line, Log
from task_runner.lib.forwarding.order import JOURNAL
from task_runner.lib.forwarding.target import LINES_AT_ONCE, Lookup, Target

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Datagrams(Target):
    """What both kinds have in common."""

    def __init__(self, name: str, logs: Sequence[Log], form: Form) -> None:
        super().__init__(name, logs, form)
        self._socket: socket.socket | None = None
        self._blocked = False

    def turn(self, now: float) -> None:
        self.busy = self._blocked = False
        if self.look_ahead() is None and self._socket is None:
            return
        if self._socket is None and not self.may_try(now):
            return
        try:
            if self._socket is None:
                self._socket = self._connect()
            elif number := _error_of(self._socket):
                self._take_back()
                raise OSError(number, os.strerror(number))
            if self._socket is not None:
                self._send_all(self._socket)
        except BlockingIOError:
            self._blocked = True
        except OSError as error:
            self._disconnect()
            self.failed(error, now)
            self.look_ahead()

    def _send_all(self, to: socket.socket) -> None:
        for _ in range(LINES_AT_ONCE):
            if (line := self.look_ahead()) is None:
                return
            self._send(to, line)
            self.pending = None
            self.delivered += line.last
            self.worked()
        self.busy = self.look_ahead() is not None

    def _connect(self) -> socket.socket | None:
        """None: not yet. Raises OSError."""
        raise NotImplementedError

    def _send(self, to: socket.socket, line: Line) -> None:
        """Raises OSError."""
        raise NotImplementedError

    def _take_back(self) -> None:
        """What was sent last was not taken. Of those before, nobody knows."""
        raise NotImplementedError

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def waits_for(self) -> tuple[int, int] | None:
        if self._socket is None:
            return None
        return self._socket.fileno(), select.POLLOUT if self._blocked else 0

    def due(self) -> float | None:
        return self._retry_at if self._socket is None and self.pending is not None else None

    @property
    def done(self) -> bool:
        return self.pending is None

    def close(self) -> None:
        self._disconnect()
        super().close()


class Udp(Datagrams):
    """A syslog server by UDP."""

    def __init__(self, host: str, port: int, logs: Sequence[Log], form: Form) -> None:
        super().__init__(f"syslog udp {host} port {port}", logs, form)
        self._host, self._port = host, port
        self._lookup: Lookup | None = None
        self._sent: Line | None = None

    def _take_back(self) -> None:
        if self._sent is not None:
            self.delivered -= self._sent.last
            self.go_back([self._sent])
            self._sent = None

    def _connect(self) -> socket.socket | None:
        if self._lookup is None:
            self._lookup = Lookup(self._host, self._port, socket.SOCK_DGRAM)
        try:
            addresses = self._lookup.addresses()
        except OSError:
            self._forget_lookup()
            raise
        if addresses is None:
            return None
        self._forget_lookup()
        self._sent = None  # a new socket hears nothing of what the old one sent
        return _connected(*addresses[self._failures % len(addresses)])

    def _forget_lookup(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def _send(self, to: socket.socket, line: Line) -> None:
        data = self.encode(line)
        try:
            to.send(data)
        except ConnectionRefusedError:
            self._take_back()  # that is about the one before
            raise
        # on this machine the answer is there at once
        if number := _error_of(to):
            raise OSError(number, os.strerror(number))
        self._sent = line

    def waits_for(self) -> tuple[int, int] | None:
        return (self._lookup.fd, select.POLLIN) if self._lookup is not None else super().waits_for()

    def due(self) -> float | None:
        return None if self._lookup is not None else super().due()


class Journal(Datagrams):
    """The journal of this machine."""

    def __init__(self, logs: Sequence[Log], form: Form) -> None:
        super().__init__("journald", logs, form)

    def _connect(self) -> socket.socket:
        return _connected(socket.AF_UNIX, JOURNAL)

    def _take_back(self) -> None:
        """What is in the journal's queue stays there."""

    def _send(self, to: socket.socket, line: Line) -> None:
        data = self.encode(line)
        try:
            to.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            _send_file(to, data)


def _send_file(to: socket.socket, data: bytes) -> None:
    """What is too long for a datagram: as a sealed file in memory. Raises OSError."""
    fd = os.memfd_create("task-runner-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(to, [], [fd])
    finally:
        os.close(fd)


def _connected(family: int, address: object) -> socket.socket:
    found = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        found.connect(address)  # type: ignore[arg-type]
    except OSError:
        found.close()
        raise
    return found


def _error_of(found: socket.socket) -> int:
    return found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
