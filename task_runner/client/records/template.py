"""Templates."""

from __future__ import annotations

from typing import Any, TypedDict


class Template(TypedDict):
    """A template. ``error`` says why it cannot be used."""

    name: str
    origin: str
    updatedAt: str
    description: str | None
    parameters: dict[str, dict[str, Any]]
    task: dict[str, Any] | None
    error: str | None
