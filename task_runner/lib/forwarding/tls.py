"""TLS around a connection to a syslog server (RFC 5425): its certificate must be valid, and be for its name.

Not on the socket, but between buffers: so it is known which bytes on the wire are which line.
"""

from __future__ import annotations

import ssl


class Tls:
    """One connection."""

    def __init__(self, host: str, authorities: str | None) -> None:
        """``authorities``: a PEM file; none: those that this machine trusts. Raises OSError."""
        context = ssl.create_default_context(cafile=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._shaken = False

    def shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._shaken = True
        return True

    def wrap(self, data: bytes) -> bytes:
        if data:
            self._object.write(data)
        return self._out.read()

    def take(self, data: bytes) -> None:
        """A server can renew keys, or say why it closes; nothing else of what it says counts."""
        self._in.write(data)
        if not self._shaken:
            return
        try:
            while self._object.read(4096):
                pass
        except ssl.SSLWantReadError:
            return
        raise ConnectionResetError("closed by the server")

    def farewell(self) -> bytes:
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the answer, and we do not
        return self._out.read()
