"""Refused requests, so many of them as an audit log can hold: a stranger who asks without end must neither fill the
disk nor push out of the log what others have done.

Of requests that are refused alike the first is told at once. Those that follow are counted, and the count is told when
the time is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]

#: seconds in which those that are alike are counted together
WINDOW = 300.0
#: kinds that are told apart in that time; what is of none of them is counted as one more
MOST_KINDS = 50
_OTHERS = object()


@dataclass(slots=True)
class _Kind:
    entry: Entry
    until: float
    repeated: int = 0


@dataclass(slots=True)
class Refusals:
    """Which of them are told. For any thread; times are of a clock that is never set."""

    _kinds: dict[Hashable, _Kind] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: Hashable, now: float, make: Callable[[], Entry]) -> Entry | None:
        """One more of a kind: its entry (``make``) if it is to be told now."""
        with self._lock:
            known = self._kinds.get(kind)
            if known is None and len(self._kinds) >= MOST_KINDS:
                kind, make = _OTHERS, _nameless(make)
                known = self._kinds.get(kind)
            if known is not None:
                known.repeated += 1
                return None
            entry = make()
            self._kinds[kind] = _Kind(entry, now + WINDOW)
            return entry

    def due(self, now: float, stamp: str) -> list[Entry]:
        """What has to be told of those whose time is over: how many more there were."""
        with self._lock:
            over = [kind for kind, known in self._kinds.items() if now >= known.until]
            told = [self._kinds.pop(kind) for kind in over]
        return [
            {**each.entry, "at": stamp, "since": each.entry["at"], "repeated": each.repeated}
            for each in told
            if each.repeated
        ]

    def next_due(self) -> float | None:
        """When there will be something to tell."""
        with self._lock:
            return min((each.until for each in self._kinds.values()), default=None)


def _nameless(make: Callable[[], Entry]) -> Callable[[], Entry]:
    """For those that are not told apart any more."""
    return lambda: {name: value if name == "at" else None for name, value in make().items()}
