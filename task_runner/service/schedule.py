"""Which tasks may start. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is allowed at once."""

    #: tasks that run; None: no limit
    max_running: int | None = None
    #: launches on their way: more at once only take the processors from each other
    max_starting: int = 16
    #: nothing new is to start
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """How many more may start now, and what those wait for that may not."""

    count: int
    reason: str


def room(running: int, starting: int, limits: Limits) -> Room:
    """``running`` counts every launched task that is not over, ``starting`` those of them not yet seen to run."""
    if limits.draining:
        return Room(0, "the daemon is draining: it finishes what runs and starts nothing new")
    count, reason = limits.max_starting - starting, "other tasks are being started"
    if limits.max_running is not None and limits.max_running - running <= count:
        count = limits.max_running - running
        reason = f"{running} of {limits.max_running} tasks are running (max_running)"
    return Room(max(0, count), reason)
