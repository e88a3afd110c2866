"""Points in time as clients write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from task_runner.errors import InvalidRequest

#: seconds since 1970 at the end of the year 9999
LATEST = 253_402_300_799


def parse(value: float | str | None) -> float | None:
    """Seconds since 1970, of a number or of ISO 8601 with a zone; None for now (None, 0). Raises ValueError."""
    seconds = _iso(value) if isinstance(value, str) else value
    if seconds is not None and not 0 <= seconds <= LATEST:
        raise ValueError("the time must lie between the years 1970 and 9999")
    return seconds or None


def read(value: Any, field: str) -> float | None:
    """The same, of what a request has in a field. Raises InvalidRequest."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str, type(None))):
            raise ValueError("expected seconds since 1970, or ISO 8601 with a time zone, or null")
        return parse(value)
    except ValueError as error:
        raise InvalidRequest.at(field, str(error)) from None


def _iso(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "seconds since 1970, or ISO 8601 like 2030-01-31T03:00:00Z"
        raise ValueError(f"{text[:40]!r} is no time: {expected}") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text[:40]!r} has no time zone: end it with Z, or with an offset like +01:00")
    return moment.timestamp()
