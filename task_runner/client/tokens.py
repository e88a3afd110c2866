"""Tokens, and the log of what is done with them. For the scope `admin`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.core import Core, required
from task_runner.client.records import Token
from task_runner.client.steps import Plan, plan

_FIELDS = required(Token)


class Tokens(Core):
    """What a client may ask about tokens."""

    @plan
    def tokens(self) -> Plan[Sequence[Token]]:
        """All of them, in the order of their making, without their secrets."""
        return cast("Sequence[Token]", (yield from self._list(calls.tokens(), _FIELDS)))

    @plan
    def create_token(self, name: str, scopes: Iterable[str], expires_in: float | None = None) -> Plan[Token]:
        """A new one, which ends after so many seconds; its secret is in "token", this once."""
        call = calls.create_token(name, list(scopes), expires_in)
        return cast("Token", (yield from self._object(call, _FIELDS | {"token"})))

    @plan
    def revoke_token(self, name: str) -> Plan[None]:
        """Let a token open nothing from now on."""
        yield from self._ask(calls.revoke_token(name))

    @plan
    def audit(self, limit: int | None = None) -> Plan[Sequence[dict[str, Any]]]:
        """The last lines of the audit log, oldest first."""
        return (yield from self._list(calls.audit(limit), frozenset({"at"})))
