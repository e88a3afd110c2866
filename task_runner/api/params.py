"""Query parameters, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from task_runner.errors import InvalidRequest


def integer(query: Mapping[str, str], name: str, default: int, *, low: int = 0, high: int = 2**62) -> int:
    """A whole number within bounds. Raises InvalidRequest."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        bounds = f"from {low} to {high}" if high < 2**62 else f"of at least {low}"
        raise InvalidRequest.at(name, f"expected a whole number {bounds}, found {text[:40]!r}")
    return int(text)


def seconds(query: Mapping[str, str], name: str, default: float, *, high: float) -> float:
    """A number of seconds. Raises InvalidRequest."""
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text) if text.isascii() else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= high:
        raise InvalidRequest.at(name, f"expected seconds from 0 to {high:g}, found {text[:40]!r}")
    return value


def flag(query: Mapping[str, str], name: str) -> bool:
    """true or false; false where it is absent. Raises InvalidRequest."""
    found = choice(query, name, ("true", "false", "1", "0"))
    return found in ("true", "1")


def choice(query: Mapping[str, str], name: str, allowed: Collection[str]) -> str | None:
    """One of the allowed words. Raises InvalidRequest."""
    text = query.get(name)
    if text is not None and text not in allowed:
        raise InvalidRequest.at(name, f"{text[:40]!r} is not one of {', '.join(allowed)}")
    return text


def choices(query: Mapping[str, str], name: str, allowed: Collection[str]) -> frozenset[str]:
    """Allowed words, separated by commas. Raises InvalidRequest."""
    words = [word for word in query.get(name, "").split(",") if word]
    for word in words:
        choice({name: word}, name, allowed)
    return frozenset(words)
