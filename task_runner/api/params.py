"""Parameters of requests: each is described once, and what checks a value and what tells of it in the description of
the API are of that one record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from task_runner.errors import InvalidRequest
from task_runner.service import when

#: as far as any number goes that is not bounded otherwise
_HIGHEST = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One of them; this is any text. What reads one raises InvalidRequest."""

    name: str
    #: for people
    meaning: str
    #: "query", "path" or "header"
    place: str = "query"
    #: a regular expression
    pattern: str | None = None
    example: str | None = None

    def schema(self) -> dict[str, Any]:
        """What it takes, as JSON schema."""
        return {"type": "string", **({"pattern": self.pattern} if self.pattern else {})}

    def style(self) -> dict[str, Any]:
        """How OpenAPI calls the way in which it is written."""
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Several(Parameter):
    """Texts: it may be given more than once."""

    def schema(self) -> dict[str, Any]:
        # not the zero-argument super(): the class is made anew for its slots, and that would look in the old one
        return {"type": "array", "items": Parameter.schema(self)}

    def style(self) -> dict[str, Any]:
        return {"style": "form", "explode": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Integer(Parameter):
    """A whole number within bounds."""

    default: int | None = None
    low: int = 0
    high: int = _HIGHEST

    def read(self, values: Mapping[str, str]) -> int | None:
        """The number; the default where none is given."""
        text = values.get(self.name)
        if text is None:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and self.low <= int(text) <= self.high):
            bounds = f"from {self.low} to {self.high}" if self.high < _HIGHEST else f"of at least {self.low}"
            raise InvalidRequest.at(self.name, f"expected a whole number {bounds}, found {text[:40]!r}")
        return int(text)

    def number(self, values: Mapping[str, str]) -> int:
        """The same, of one that has a default or must be there."""
        found = self.read(values)
        return 0 if found is None else found

    def schema(self) -> dict[str, Any]:
        found = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return found if self.default is None else {**found, "default": self.default}


@dataclass(frozen=True, kw_only=True, slots=True)
class Seconds(Parameter):
    """A number of seconds."""

    default: float
    high: float

    def read(self, values: Mapping[str, str]) -> float:
        text = values.get(self.name)
        if text is None:
            return self.default
        try:
            value = float(text) if text.isascii() else -1.0
        except ValueError:
            value = -1.0
        if not 0 <= value <= self.high:
            raise InvalidRequest.at(self.name, f"expected seconds from 0 to {self.high:g}, found {text[:40]!r}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": self.high, "default": self.default}


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment(Parameter):
    """A point in time: seconds since 1970, or ISO 8601 with a zone."""

    def read(self, values: Mapping[str, str]) -> float | None:
        """Seconds since 1970; None where none is given."""
        text = values.get(self.name)
        if text is None:
            return None
        try:
            value: float | str = float(text)
        except ValueError:
            value = text
        return when.read(value, self.name) or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag(Parameter):
    """true or false (1 and 0 are taken, too). ``default``: where it is absent."""

    default: bool | None = False

    def read(self, values: Mapping[str, str]) -> bool | None:
        found = _one_of(values.get(self.name), self.name, ("true", "false", "1", "0"))
        return self.default if found is None else found in ("true", "1")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"} if self.default is None else {"type": "boolean", "default": self.default}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Parameter):
    """One of several words."""

    allowed: tuple[str, ...]
    default: str | None = None

    def read(self, values: Mapping[str, str]) -> str | None:
        found = _one_of(values.get(self.name), self.name, self.allowed)
        return self.default if found is None else found

    def schema(self) -> dict[str, Any]:
        found = {"type": "string", "enum": list(self.allowed)}
        return found if self.default is None else {**found, "default": self.default}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices(Parameter):
    """Some of several words, separated by commas."""

    allowed: tuple[str, ...]

    def read(self, values: Mapping[str, str]) -> frozenset[str]:
        words = [word for word in values.get(self.name, "").split(",") if word]
        for word in words:
            _one_of(word, self.name, self.allowed)
        return frozenset(words)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "enum": list(self.allowed)}}

    def style(self) -> dict[str, Any]:
        return {"style": "form", "explode": False}


def known_only(given: Iterable[str], parameters: Collection[Parameter]) -> None:
    """Raises InvalidRequest for a name in the query that is of none of these."""
    names = [each.name for each in parameters if each.place == "query"]
    for name in given:
        if name not in names:
            raise InvalidRequest.at(name[:100], f"no such parameter; there are: {', '.join(names)}")


def _one_of(text: str | None, name: str, allowed: Collection[str]) -> str | None:
    if text is not None and text not in allowed:
        raise InvalidRequest.at(name, f"{text[:40]!r} is not one of {', '.join(allowed)}")
    return text
