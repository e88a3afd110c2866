"""A syslog server by TCP or TLS, one message after the other with its length in front (RFC 6587, RFC 5425).

Nobody confirms a message here either, but the other machine's kernel confirms bytes, and ours knows how many it has
not: so a line counts as delivered when that machine has it, and after a broken connection the next one begins with the
first line that it has not. What its program had not read by then is lost, and nobody can tell.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from task_runner.lib.forwarding.form import Form
from task_runner.lib.forwarding.lines import Line, Log
from task_runner.lib.forwarding.target import LINES_AT_ONCE, Lookup, Target

#: seconds for a connection to come about, its handshake included; and for what was sent to be confirmed
CONNECT_SECONDS, CONFIRM_SECONDS = 10.0, 60.0
#: bytes that wait here, and those that the kernel keeps (it takes twice as many)
_WAITING, _KEPT = 64 * 1024, 128 * 1024
#: seconds between two looks at what has been confirmed, when nothing else is left to do
_QUICK, _SLOW = 0.001, 0.1


class Wrapping(Protocol):
    """What is around the bytes of a connection."""

    def shake_hands(self) -> bool:
        """Go on with the beginning; returns whether that is done. Raises OSError."""

    def wrap(self, data: bytes) -> bytes:
        """What is to be sent for these bytes and before them. Raises OSError."""

    def take(self, data: bytes) -> None:
        """Bytes that have come. Raises OSError."""

    def farewell(self) -> bytes:
        """What is to be sent last."""


class Bare:
    """Nothing."""

    def shake_hands(self) -> bool:
        return True

    def wrap(self, data: bytes) -> bytes:
        return data

    def take(self, data: bytes) -> None:
        """A syslog server has nothing to say."""

    def farewell(self) -> bytes:
        return b""


class Stream(Target):
    """One connection at a time."""

    def __init__(
        self, kind: str, host: str, port: int, logs: Sequence[Log], form: Form, wrapping: Callable[[], Wrapping]
    ) -> None:
        super().__init__(f"syslog {kind} {host} port {port}", logs, form)
        self._host, self._port = host, port
        self._make_wrapping = wrapping
        self._lookup: Lookup | None = None
        self._addresses: list[tuple[int, tuple[str, int]]] = []
        self._socket: socket.socket | None = None
        self._flight: deque[tuple[int, Line]] = deque()
        self._look = _QUICK
        self._clear()

    def _clear(self) -> None:
        self._connected = self._ready = False
        self._give_up_at = 0.0
        self._wire = bytearray()
        self._made = self._sent = 0  # bytes of this connection: encoded, and handed to the kernel

    def turn(self, now: float) -> None:
        self.busy = False
        self.look_ahead()
        try:
            if self._open(now):
                self._hear()
                self._fill()
                self._flush()
                self._settle()
                self.busy = not self._wire and self.look_ahead() is not None
        except OSError as error:
            self._lose(error, now)
            self.look_ahead()

    # -- the connection

    def _open(self, now: float) -> bool:
        """Go on with connecting; returns whether lines can be sent. Raises OSError."""
        if self._ready:
            return True
        if self._socket is None and not self._begin(now):
            return False
        if now >= self._give_up_at:
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} s")
        assert self._socket is not None
        if not self._connected:
            if not _is_writable(self._socket):
                return False
            if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))
            self._connected = True
            self._wrapping = self._make_wrapping()
        self._hear()
        self._ready = self._wrapping.shake_hands()
        self._send(b"")
        self._flush()
        if self._ready:
            self._addresses = []  # the next time they are asked for anew
        return self._ready

    def _begin(self, now: float) -> bool:
        """Begin to connect; False where there is no address to connect to by now. Raises OSError."""
        if not self._addresses:
            if self._lookup is None:
                if not self.may_try(now):
                    return False
                self._lookup = Lookup(self._host, self._port, socket.SOCK_STREAM)
            found = self._lookup.addresses()
            if found is None:
                return False
            self._forget_lookup()
            self._addresses = found
        family, address = self._addresses.pop(0)
        self._clear()
        self._give_up_at = now + CONNECT_SECONDS
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        _configure(self._socket)
        try:
            self._socket.connect(address)
        except BlockingIOError:
            pass
        return True

    def _forget_lookup(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def _lose(self, error: OSError, now: float) -> None:
        """The connection is gone, or has not come about."""
        self._settle()
        self.go_back([line for _made, line in self._flight])
        self._flight.clear()
        self._forget_lookup()
        if self._socket is not None:
            _reset(self._socket)
            self._socket = None
        self._clear()
        if not self._addresses:  # else the next one is tried at once
            self.failed(error, now)

    # -- bytes

    def _hear(self) -> None:
        """Take what has come. Raises OSError, also where the other side has closed."""
        assert self._socket is not None
        try:
            while data := self._socket.recv(4096):
                self._wrapping.take(data)
        except BlockingIOError:
            return
        raise ConnectionResetError("closed by the server")

    def _fill(self) -> None:
        """Take lines, as many as there is room for. Raises OSError."""
        for _ in range(LINES_AT_ONCE):
            if len(self._wire) >= _WAITING:
                return
            if (line := self.look_ahead()) is None:
                return
            self._send(self.encode(line))
            self._flight.append((self._made, line))
            self._look = _QUICK
            self.pending = None

    def _send(self, data: bytes) -> None:
        wrapped = self._wrapping.wrap(data)
        self._wire += wrapped
        self._made += len(wrapped)

    def _flush(self) -> None:
        """Hand over what the kernel takes. Raises OSError."""
        assert self._socket is not None
        try:
            while self._wire:
                count = self._socket.send(self._wire)
                del self._wire[:count]
                self._sent += count
        except BlockingIOError:
            pass

    def _settle(self) -> None:
        """Count what has been confirmed. The kernel knows it also of a connection that is broken."""
        if self._socket is None or not self._flight:
            return
        confirmed = self._sent - _unconfirmed(self._socket)
        while self._flight and self._flight[0][0] <= confirmed:
            self.delivered += self._flight.popleft()[1].last
            self.worked()

    # -- what the loop asks

    def waits_for(self) -> tuple[int, int] | None:
        if self._lookup is not None:
            return self._lookup.fd, select.POLLIN
        if self._socket is None:
            return None
        wants_out = not self._connected or self._wire
        return self._socket.fileno(), select.POLLIN | (select.POLLOUT if wants_out else 0)

    def due(self) -> float | None:
        if self._lookup is not None:
            return None
        if self._socket is None:
            return self._retry_at
        return None if self._ready else self._give_up_at

    def patience(self) -> float | None:
        if self.pending is not None or self._wire or not self._flight:
            return None
        self._look = min(_SLOW, 2 * self._look)
        return self._look

    @property
    def done(self) -> bool:
        return self.pending is None and not self._flight

    def close(self) -> None:
        """What the other machine has not got by now is taken back: it was counted as not delivered."""
        self._settle()
        if self._socket is not None and self._ready and self.done:
            try:
                self._socket.send(self._wrapping.farewell())
            except OSError:
                pass
            self._socket.close()
        elif self._socket is not None:
            _reset(self._socket)
        self.go_back([line for _made, line in self._flight])


def _configure(found: socket.socket) -> None:
    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KEPT)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(CONFIRM_SECONDS * 1000))


def _is_writable(found: socket.socket) -> bool:
    poll = select.poll()
    poll.register(found, select.POLLOUT)
    return bool(poll.poll(0))


def _unconfirmed(found: socket.socket) -> int:
    """Bytes that the kernel has taken and the other side has not confirmed."""
    return int.from_bytes(fcntl.ioctl(found, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _reset(found: socket.socket) -> None:
    """Close, and let the kernel send nothing of what it still has."""
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        found.close()
