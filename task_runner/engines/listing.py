"""Which containers an engine of the Docker API has: asked without its client library, which takes 0.2 s to load.

At most starts of a daemon there is nothing to sweep, and this is all that is asked.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import urlencode

from task_runner.engines.base import Found
from task_runner.errors import EngineFailed

T = TypeVar("T")
#: seconds for each answer
_PATIENCE = 120.0
#: in the words of Podman, of a file in /proc that it was about to read
_VANISHED = "no such process"
#: seconds for which it is asked again then, and between two times
_ENDING, _PAUSE = 20.0, 0.1


class Connection(http.client.HTTPConnection):
    """To the socket of an engine, which has so many seconds for each answer."""

    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find(name: str, path: str, labels: Mapping[str, str]) -> list[Found]:
    """All that have these labels, in whatever state. ``path``: of the socket of the engine of that name. Raises
    EngineFailed."""
    wanted = {"label": [f"{label}={value}" for label, value in labels.items()]}
    query = urlencode({"all": "1", "filters": json.dumps(wanted)})
    connection = Connection(path, _PATIENCE)
    try:
        version = _ask(connection, "/_ping")[0].get("Api-Version")
        listed = f"{f'/v{version}' if version else ''}/containers/json?{query}"
        found = json.loads(past_endings(lambda: _ask(connection, listed)[1], EngineFailed))
        if not isinstance(found, list):
            raise ValueError("what it says is no list")
        return [_found(each) for each in found]
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineFailed(f"{name} does not answer at {path}: {error}") from error
    finally:
        connection.close()


def past_endings(ask: Callable[[], T], failure: type[Exception]) -> T:
    """What an engine answers. Podman fails where a container that it looks at ends meanwhile, and is asked again then.
    Raises ``failure``, as ``ask`` does."""
    deadline = time.monotonic() + _ENDING
    while True:
        try:
            return ask()
        except failure as error:
            if _VANISHED not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE)


def _ask(connection: http.client.HTTPConnection, path: str) -> tuple[Message, bytes]:
    """Headers and body of the answer. Raises EngineFailed where it is none, in the engine's words."""
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != http.client.OK:
        raise EngineFailed(_words(body) or answer.reason)
    return answer.headers, body


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace").strip()


def _found(container: dict[str, Any]) -> Found:
    names = container.get("Names") or [""]
    return Found(id=container["Id"], name=names[0].lstrip("/"), labels=dict(container.get("Labels") or {}))
