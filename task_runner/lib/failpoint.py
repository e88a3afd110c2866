"""Named places where the program can be made to die, so that a test can ask what comes after.

`TASK_RUNNER_FAILPOINT=accept.before-commit` makes the process kill itself with SIGKILL on reaching that
place; `name:3` on reaching it for the third time. Without the variable a failpoint is one dictionary look-up.
"""

from __future__ import annotations

import os
import signal


def _read(text: str) -> dict[str, int]:
    counts = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition(":")
        counts[name] = int(count or 1)
    return counts


_ARMED = _read(os.environ.get("TASK_RUNNER_FAILPOINT", ""))


def reach(name: str) -> None:
    """Die here if this failpoint is armed."""
    if name in _ARMED:
        _ARMED[name] -= 1
        if _ARMED[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
