"""Access: every route says which scopes the token of a request must have, and none can be made that does not.

The gate finds out whose token it is; here is the one place where it is compared with what the route needs, before the
endpoint. An endpoint that knows more (what is in the body) may ask for more, by `require`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from task_runner.api.contract.base import Operation
from task_runner.errors import Forbidden
from task_runner.model.scopes import Scope
from task_runner.service.tokens import STRANGER, Token

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Need:
    """What a token must allow: all of these scopes, or one of them (then the endpoint asks further)."""

    scopes: tuple[Scope, ...]
    every: bool = True
    #: also who shows no token
    open: bool = False

    def missing(self, allowed: Collection[Scope]) -> Sequence[Scope]:
        """The scopes that are not there; of those of which one is enough: all, where none is."""
        absent = [scope for scope in self.scopes if scope not in allowed]
        return absent if self.every or len(absent) == len(self.scopes) else ()

    def __str__(self) -> str:
        """As a client is told of it."""
        if self.open:
            return "nothing"
        return (" and " if self.every else " or ").join(self.scopes) or "any token"


#: anybody may ask, also without a token
OPEN: Final = Need((), open=True)
#: any token is enough: who holds one learns nothing by it
HOLDER: Final = Need(())


def both(*scopes: Scope) -> Need:
    return Need(scopes)


def either(*scopes: Scope) -> Need:
    """The endpoint must ask for the one that its request really needs (`require`)."""
    return Need(scopes, every=False)


class Door(Route):
    """A route with what it needs."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        need: Need,
        methods: Collection[str] | None,
        changes: bool | None,
        doc: Operation | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.need = need
        #: what the description of the API says of it; none: it is a page, or of another system's API
        self.doc = doc
        #: its requests stand in the audit log
        self.changes = not SAFE_METHODS.issuperset(self.methods or SAFE_METHODS) if changes is None else changes

    def is_for(self, _connection: Connection) -> bool:
        """Whether a request for its path is for it; else a later route of the same path answers."""
        return True

    def matches(self, scope: Connection) -> tuple[Match, Connection]:
        return super().matches(scope) if self.is_for(scope) else (Match.NONE, {})

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        scope["route"] = self
        if not self.methods or scope["method"] in self.methods:
            _demand(scope, self.need)
        await super().handle(scope, receive, send)


def route(
    path: str,
    endpoint: Callable[..., Any],
    *,
    scope: Scope | Need,
    methods: Collection[str] | None = None,
    changes: bool | None = None,
    doc: Operation | None = None,
) -> Door:
    """A route. ``changes``: whether what it does belongs in the audit log; by itself, if it is not for reading."""
    need = scope if isinstance(scope, Need) else Need((scope,))
    return Door(path, endpoint, need=need, changes=changes, methods=methods, doc=doc)


def holder_of(request: Request) -> Token:
    """The token that let a request in."""
    token: Token = request.state.token
    return token


def require(request: Request, scope: Scope) -> None:
    """Raises Forbidden where the token does not have this scope."""
    _demand(request.scope, Need((scope,)))


def _demand(connection: Connection, need: Need) -> None:
    if need.open:
        return
    state = connection.setdefault("state", {})
    token: Token | None = state.get("token")
    if token is None or token is STRANGER:  # let in for another route of the same path
        state["forbidden"] = True
        raise Forbidden("a token is needed")
    if missing := need.missing(token.allowed):
        state["forbidden"] = True
        word = (" and " if need.every else " or ").join(missing)
        raise Forbidden(f"the token {token.name!r} may not do this: it lacks the scope {word}")
