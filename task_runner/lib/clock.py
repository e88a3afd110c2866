"""The clocks, as a value that is passed in.

`time` is the wall clock: for stamps that people read, never for an age. `monotonic` is CLOCK_MONOTONIC: the
same for every process of one boot, not set by anybody, and standing still while the machine is suspended, so
a laptop that slept for a night has no stalled tasks in the morning (CLOCK_BOOTTIME would say it has).
"""

from __future__ import annotations

import functools
import time as _time
from typing import Protocol


class Clock(Protocol):
    """What the program asks for the time."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC."""


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return _time.time()

    def monotonic(self) -> float:
        return _time.clock_gettime(_time.CLOCK_MONOTONIC)


def stamp(seconds: float) -> str:
    """ISO 8601 in UTC, to the microsecond: 2026-01-31T12:00:00.000000Z."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_time.strftime('%Y-%m-%dT%H:%M:%S', _time.gmtime(whole))}.{micros:06d}Z"


@functools.cache
def boot_id() -> str:
    """This boot's id. Everything that names a process is void in another boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
