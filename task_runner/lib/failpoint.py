"""Named places where the program can be made to die, so that a test can ask what comes after, or to wait, so that it
can ask what is so meanwhile.

`TASK_RUNNER_FAILPOINT=accept.before-commit` makes the process kill itself with SIGKILL on reaching that place;
`name:3` on reaching it for the third time; `name@/path` not before there is such a file, which it takes with it: of all
processes that have that failpoint one dies; `name~/path` makes whoever comes by wait as long as there is such a file.
Without the variable a failpoint is one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

#: seconds between two looks whether to wait on
_AGAIN = 0.01


@dataclass(slots=True)
class _Armed:
    left: int
    trigger: str | None = None
    #: nobody dies: who comes by waits while there is this file
    hold: str | None = None


def _read(text: str) -> dict[str, _Armed]:
    armed = {}
    for part in filter(None, text.split(",")):
        held, _, hold = part.partition("~")
        place, _, trigger = held.partition("@")
        name, _, count = place.partition(":")
        armed[name] = _Armed(int(count or 1), trigger or None, hold or None)
    return armed


_ARMED = _read(os.environ.get("TASK_RUNNER_FAILPOINT", ""))


def reach(name: str) -> None:
    """Die here, or wait, if this failpoint is armed."""
    if name in _ARMED:
        armed = _ARMED[name]
        if armed.hold is not None:
            while os.path.exists(armed.hold):
                time.sleep(_AGAIN)
            return
        if armed.trigger is not None and not os.path.exists(armed.trigger):
            return
        armed.left -= 1
        if armed.left == 0 and _take(armed.trigger):
            os.kill(os.getpid(), signal.SIGKILL)


def _take(trigger: str | None) -> bool:
    if trigger is None:
        return True
    try:
        os.unlink(trigger)
    except FileNotFoundError:
        return False  # another process was faster
    return True
