"""Tokens."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Token(TypedDict):
    """One of those that open something; never its secret, but where it was just made."""

    name: str
    #: of read, logs, submit-template, submit, control, admin
    scopes: list[str]
    #: null: it is the file of the state directory
    createdAt: str | None
    #: the name of the token that made it
    createdBy: str | None
    #: null: never
    expiresAt: str | None
    expired: bool
    #: as far as the daemon knows
    lastUsedAt: str | None
    #: the secret, in the answer that tells of its making
    token: NotRequired[str]
