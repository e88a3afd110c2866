"""Whom the kernel kills first when the whole machine runs out of memory: commands, before those that watch over them.

The kernel goes by a process's size and by a number that it inherits. Launcher and runners get a lower one than
commands where that may be lowered; elsewhere commands get a higher one. A daemon that has been given one below zero, to
be spared, keeps it, and commands get zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: of 1000: as much as if a command held a tenth of the memory more
GAP = 100
_PATH = "/proc/self/oom_score_adj"

_runner: int | None = None
_command: int | None = None


def shield() -> None:
    """In the launcher: from now on this process, and those forked from it, are spared rather than commands."""
    global _runner, _command
    try:
        with open(_PATH, encoding="ascii") as file:
            own = int(file.read())
    except (OSError, ValueError):
        return
    _runner, _command = own, 0
    if own >= 0:
        lower = own - GAP
        if _set(lower):
            _runner, _command = lower, own
        else:
            _command = min(own + GAP, 1000)


def expose() -> None:
    """In a child that is to be a command."""
    if _command is not None:
        _set(_command)


@contextmanager
def exposed() -> Iterator[None]:
    """What is started meanwhile is a command."""
    if _command is None or _runner is None:
        yield
        return
    _set(_command)
    try:
        yield
    finally:
        _set(_runner)


def _set(score: int) -> bool:
    try:
        with open(_PATH, "wb", buffering=0) as file:
            file.write(b"%d" % score)
    except OSError:
        return False
    return True
