"""Objects of Kubernetes as clients send them, read field by field: nothing that was asked for is passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from task_runner.errors import FieldError

_KINDS: dict[type, str] = {
    str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]{1,50}(?:[eE][+-]?[0-9]{1,3})?)([numkMGTPE]?|[KMGTPE]i)")
_REFERENCE = re.compile(r"\$(\$)|\$\(([^()]+)\)")


class Part:
    """An object, whose fields are taken one after the other; null, and what is empty, is as if it were not there.

    What is wrong with it is added to ``faults``; what nobody has taken at `close` is refused.
    """

    def __init__(self, value: Any, where: str, faults: list[FieldError]) -> None:
        self.where = where
        self.faults = faults
        self._left: dict[str, tuple[str, Any]] = {}
        #: of all fields but those that are null
        self.said: list[str] = []
        if isinstance(value, dict):
            self.said = [name for name, item in value.items() if item is not None]
            self._left = {name.lower(): (name, item) for name, item in value.items() if item not in (None, "", [], {})}
        elif value is not None:
            faults.append(FieldError(where, "expected an object"))

    def take(self, name: str, kind: type) -> Any:
        """The value of a field; None: there is none."""
        _name, value = self._left.pop(name.lower(), (name, None))
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        self.fault(name, f"expected {_KINDS[kind]}")
        return None

    def need(self, name: str) -> str | None:
        """A text that must be there; None: it is not, which has been noted."""
        if name.lower() not in self._left:
            self.fault(name, "is needed")
        found: str | None = self.take(name, str)
        return found

    def texts(self, name: str) -> list[str]:
        found = self.take(name, list) or []
        if all(isinstance(each, str) for each in found):
            return list(found)
        self.fault(name, "expected a list of texts")
        return []

    def part(self, name: str) -> Part:
        """An object below this one; an empty one, if there is none."""
        return Part(self.take(name, dict), self.at(name), self.faults)

    def parts(self, name: str) -> list[Part]:
        """A list of objects."""
        found = self.take(name, list) or []
        return [Part(each, f"{self.at(name)}.{index}", self.faults) for index, each in enumerate(found)]

    def names(self) -> list[str]:
        """Of what has not been taken."""
        return [name for name, _value in self._left.values()]

    def number(self, name: str) -> Decimal | None:
        """A quantity."""
        _name, value = self._left.pop(name.lower(), (name, None))
        try:
            return None if value is None else quantity(value)
        except ValueError as error:
            self.fault(name, str(error))
            return None

    def idle(self, *names: str) -> None:
        """Fields that change nothing here."""
        for name in names:
            self._left.pop(name.lower(), None)

    def only(self, name: str, *values: Any) -> None:
        """A field that may say what is so anyway."""
        if name.lower() in self._left and self._left[name.lower()][1] in values:
            del self._left[name.lower()]

    def close(self, reasons: Mapping[str, str]) -> None:
        """Refuse the rest. False is what most fields are without being said."""
        for name, value in self._left.values():
            if value is not False:
                self.fault(name, reasons.get(name, "is not supported here"))

    def fault(self, name: str, why: str) -> None:
        self.faults.append(FieldError(self.at(name), why))

    def at(self, name: str) -> str:
        return f"{self.where}.{name}"


def quantity(value: Any) -> Decimal:
    """`500m`, `1.5`, `64Mi`, `1e3`: as a number. Raises ValueError."""
    found = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value))
    try:
        if found is not None:
            return Decimal(found[1]) * _SUFFIXES[found[2]]
    except InvalidOperation:
        pass
    raise ValueError(f"{str(value)[:50]!r} is no quantity, as 500m, 1.5 or 64Mi are")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """With variables in place of `$(NAME)`, where there are any of that name; `$$` is a dollar sign."""
    return _REFERENCE.sub(lambda found: "$" if found[1] else variables.get(found[2], found[0]), text)
