"""Constraints on fields, written as annotations that cost the runner nothing.

The runner reads the same classes as the daemon but must not import pydantic. pydantic asks an annotation
for ``__get_pydantic_core_schema__``, so a constraint can be plain data here and be enforced over there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds of a number, or of the length of a string or list; ``pattern`` is a regular expression."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        target = schema
        while target["type"] in ("nullable", "default"):
            target = target["schema"]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                target[field.name] = value
        return schema


def camel(name: str) -> str:
    """``grace_seconds`` is ``graceSeconds`` in JSON."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


#: what every record that comes from outside wants of pydantic; a plain dict, so nothing is imported
STRICT: dict[str, Any] = {
    "alias_generator": camel,
    "extra": "forbid",
    "allow_inf_nan": False,
}
