"""The JSON of a request, read as Drove reads it: fields that are not known are passed over, words of a fixed list may
be written in any case, and a number may stand where text is expected, and the other way round.

Every fault is noted, under the path of its field. There are two kinds, as Drove tells them with two messages: what is
not of the right shape, and what is of the right shape and not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from task_runner.api.dialects.drove.units import Duration, duration
from task_runner.service.validate_record import MOST_FAULTS

EMPTY = "must not be empty"
NULL = "must not be null"
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a request."""

    #: of the wrong shape
    shapes: list[str] = field(default_factory=list)
    #: not allowed
    values: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.shapes or self.values)

    @property
    def all(self) -> list[str]:
        """Each once, and the first of very many."""
        found = list(dict.fromkeys([*self.shapes, *self.values]))
        more = len(found) - MOST_FAULTS
        return [*found[:MOST_FAULTS], f"and {more} more"] if more > 0 else found


class Reader:
    """One object of a request, and where it stands in it."""

    __slots__ = ("_value", "at", "faults")

    def __init__(self, value: Mapping[str, Any], at: str, faults: Faults) -> None:
        self._value = value
        #: its path; "" is the whole
        self.at = at
        self.faults = faults

    def path(self, name: str) -> str:
        return f"{self.at}.{name}" if self.at else name

    def fault(self, name: str, message: str) -> None:
        """Note what is wrong with a field. Drove's own messages have a dash in front, those of its library none."""
        self.faults.values.append(f"{self.path(name)} {message}")

    def misfit(self, name: str, expected: str) -> None:
        """Note that a field is of another kind."""
        self.faults.shapes.append(f"{self.path(name)} - {expected} is expected")

    def get(self, name: str) -> Any:
        return self._value.get(name)

    # -- plain values

    def text(self, name: str, missing: str | None = None) -> str | None:
        """Text; None where there is none. ``missing``: what is said where it is missing or empty."""
        value = self.get(name)
        if isinstance(value, (Mapping, list)):
            self.misfit(name, "text")
            return None
        if missing is not None and value in (None, ""):
            self.fault(name, missing)
            return None
        return None if value is None else _text(value)

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """A whole number; one that is missing and has no default is a fault."""
        value = self.get(name)
        if value is None:
            if default is None:
                self.fault(name, NULL)
            return default
        try:
            if isinstance(value, bool) or (isinstance(value, str) and not _WHOLE.fullmatch(value)):
                raise ValueError
            number = int(value)
        except (ValueError, TypeError, OverflowError):
            self.misfit(name, "a whole number")
            return None
        if not low <= number <= high:
            self.fault(name, f"must be between {low} and {high}")
            return None
        return number

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        self.misfit(name, "true or false")
        return default

    def word(self, name: str, known: Iterable[str], default: str | None = None) -> str | None:
        """One of these words, in capitals; one that is missing and has no default is a fault."""
        value = self.get(name)
        if value is None:
            if default is None:
                self.fault(name, NULL)
            return default
        found = str(value).upper()
        if found not in known:
            self.misfit(name, f"one of {', '.join(known)}")
            return None
        return found

    def duration(self, name: str, default: Duration | None = None, missing: str = NULL) -> Duration | None:
        value = self.get(name)
        if value is None:
            if default is None:
                self.fault(name, missing)
            return default
        try:
            return duration(_text(value))
        except ValueError as error:
            self.faults.shapes.append(f"{self.path(name)} - {error}")
            return None

    # -- what holds others

    def object(self, name: str, missing: str | None = None) -> Reader | None:
        """``missing``: what is said where there is none."""
        value = self.get(name)
        if value is None:
            if missing is not None:
                self.fault(name, missing)
            return None
        if not isinstance(value, Mapping):
            self.misfit(name, "an object")
            return None
        return Reader(value, self.path(name), self.faults)

    def objects(self, name: str, missing: str | None = None) -> list[Reader]:
        """``missing``: what is said where there are none."""
        found = self._list(name)
        if missing is not None and not found:
            self.fault(name, missing)
        readers = []
        for index, value in enumerate(found):
            if isinstance(value, Mapping):
                readers.append(Reader(value, f"{self.path(name)}[{index}]", self.faults))
            else:
                self.misfit(f"{name}[{index}]", "an object")
        return readers

    def texts(self, name: str) -> list[str]:
        found = self._list(name)
        for index, value in enumerate(found):
            if value is None or isinstance(value, (Mapping, list)):
                self.misfit(f"{name}[{index}]", "text")
        return [_text(value) for value in found]

    def table(self, name: str) -> dict[str, str]:
        """Names and texts; what is null is empty."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.misfit(name, "an object")
            return {}
        for key, each in value.items():
            if isinstance(each, (Mapping, list)):
                self.misfit(f"{name}.{key}", "text")
        return {str(key): "" if each is None else _text(each) for key, each in value.items()}

    def _list(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.misfit(name, "a list")
            return []
        return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
