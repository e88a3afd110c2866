"""What webhooks are told."""

from __future__ import annotations

from typing import TypedDict


class Notification(TypedDict):
    """Something that a webhook was to be told."""

    n: int
    id: str
    type: str
    at: str
    hook: int
    url: str
    state: str
    tries: int
    nextAt: str | None
    deliveredAt: str | None
    lastStatus: int | None
    lastError: str | None
