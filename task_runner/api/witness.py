"""The witness: tells the audit log of every request that changes something, and of every one that is refused.

Of a request it tells whose it was, the route and the ids in its path, never a body, a header or a query. What strangers
write into a path is not told at all.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from task_runner.api.access import SAFE_METHODS, Door
from task_runner.api.surface import Surface
from task_runner.lib.clock import stamp
from task_runner.service.audit import AuditLog
from task_runner.service.refusals import Entry
from task_runner.service.tokens import STRANGER, Token, Tokens

#: statuses that say: not you
REFUSED = frozenset({401, 403, 421})
#: characters of what a client has written, and tasks that a request has changed
_LONGEST, _MOST_TASKS = 100, 100


class Witness:
    """Of one surface. ``log``: none is kept without one."""

    def __init__(self, log: AuditLog | None, surface: Surface, tokens: Tokens) -> None:
        self._log = log
        self._surface = surface
        self._tokens = tokens

    def refused(self, scope: Scope, status: int) -> None:
        """A request that the gate has not let in."""
        if self._log is None:
            return
        if scope["method"] not in SAFE_METHODS or status in REFUSED:
            self._tell(scope, status)

    async def attend(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the request answered."""
        if self._log is None:
            await app(scope, receive, send)
        elif scope["method"] in SAFE_METHODS:
            await app(scope, receive, send)
            if "forbidden" in scope["state"]:
                self._tell(scope, 403)
        else:
            await self._watch(app, scope, receive, send)

    async def _watch(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def heard(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._judge(scope, message["status"])
            await send(message)

        try:
            await app(scope, receive, heard)
        except BaseException as error:
            if not answered:  # a fault of the program is answered further out
                self._judge(scope, 500 if isinstance(error, Exception) else None)
            raise

    def _judge(self, scope: Scope, status: int | None) -> None:
        door = scope.get("route")
        if status in REFUSED or (isinstance(door, Door) and door.changes):
            self._tell(scope, status)

    def _tell(self, scope: Scope, status: int | None) -> None:
        assert self._log is not None
        token: Token | None = scope["state"]["token"]
        if token is STRANGER:
            token = None
        address = _address(scope)
        # what strangers may ask for (to log in) is counted, too: they must not push out of it what others have done
        if token is not None and status not in REFUSED:
            self._log.note(self._entry(scope, token, address, status))
            return
        kind: tuple[Any, ...] = (address, self._surface.name, status, getattr(scope.get("route"), "path", None))
        if token is not None:
            kind = (*kind, token.name, scope["method"])
        self._log.refused(kind, lambda: self._entry(scope, token, address, status))

    def _entry(self, scope: Scope, token: Token | None, address: str, status: int | None) -> Entry:
        door, parameters = self._route(scope)
        concerns = scope["state"].get("concerns") or {}
        tasks = concerns.get("tasks", ())
        entry: Entry = {
            "at": stamp(time.time()),
            "token": token and token.name,
            "from": address,
            "surface": self._surface.name,
            "method": scope["method"][:20],
            "route": door and door.path,
            "parameters": {} if token is None else {name: self._shown(value) for name, value in parameters.items()},
            "tasks": list(tasks[:_MOST_TASKS]),
            "batch": concerns.get("batch"),
            "status": status,
        }
        return entry if len(tasks) <= _MOST_TASKS else {**entry, "moreTasks": len(tasks) - _MOST_TASKS}

    def _route(self, scope: Scope) -> tuple[Door | None, dict[str, Any]]:
        """Where the request went to, or would have gone."""
        if isinstance(scope.get("route"), Door):
            return scope["route"], scope["path_params"]
        for door in self._surface.routes:
            found, more = door.matches(scope)
            if found is Match.FULL:
                return door, more["path_params"]
        return None, {}

    def _shown(self, value: Any) -> str:
        text = str(value)
        return "(a token)" if self._tokens.has(text) else text[:_LONGEST]


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0])[:_LONGEST] if client and client[0] else "unix"
