"""Templates."""

from __future__ import annotations

from typing import Any, TypedDict


class TemplateHead(TypedDict):
    """A template as lists show it. ``error`` says why it cannot be used."""

    name: str
    origin: str
    updatedAt: str
    description: str | None
    parameters: dict[str, dict[str, Any]]
    error: str | None


class Template(TemplateHead):
    """A template."""

    #: with its placeholders
    task: dict[str, Any] | None
