"""A client of one dialect; where asked for, the daemon is killed and started anew before each of its calls."""

from __future__ import annotations

from typing import Any

import httpx
from conftest import Daemon


class DialectClient:
    """``headers``: how its requests show the token, given the token."""

    def __init__(self, daemon: Daemon, headers: dict[str, str], *, restarting: bool = False) -> None:
        self.daemon = daemon
        self._headers = {name: value.format(token=daemon.token) for name, value in headers.items()}
        self._restarting = restarting
        self._called = False

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """``body`` is sent as JSON."""
        if self._restarting and self._called:
            self.daemon.restart()
        self._called = True
        more = {} if body is None else {"json": body}
        headers = {"Authorization": "", **self._headers, **options.pop("headers", {})}
        return self.daemon.http.request(method, path, headers=headers, **more, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.call("POST", path, body, **options)
