"""Durations and sizes as Drove's clients write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: io.dropwizard.util.Duration: nanoseconds of each unit, and what it is called when it is echoed
_UNITS = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), ("nanosecond", 1)),
    **dict.fromkeys(("us", "microsecond", "microseconds"), ("microsecond", 10**3)),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), ("millisecond", 10**6)),
    **dict.fromkeys(("s", "second", "seconds"), ("second", 10**9)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("minute", 60 * 10**9)),
    **dict.fromkeys(("h", "hour", "hours"), ("hour", 3600 * 10**9)),
    **dict.fromkeys(("d", "day", "days"), ("day", 86_400 * 10**9)),
}
_DURATION = re.compile(r"(\d{1,18})\s*([a-zA-Z]+)", re.ASCII)
#: Docker's sizes: a kilobyte has 1000 bytes
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Duration:
    """A count of one unit."""

    count: int
    #: "second", "minute" …
    unit: str

    def __str__(self) -> str:
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"

    @property
    def seconds(self) -> float:
        return self.count * _UNITS[self.unit][1] / 10**9


def duration(text: str) -> Duration:
    """What "5m" or "100 seconds" says. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"Invalid duration: {text[:100]}: a number and one of ns, us, ms, s, m, h, d is expected")
    return Duration(int(found[1]), _UNITS[found[2]][0])


def size(text: str) -> int:
    """The bytes that "10m" says. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"invalid size: {text[:100]!r}: a number and one of k, m, g, t is expected")
    return int(float(found[1]) * 1000 ** " kmgtp".index(found[2].lower() or " "))
