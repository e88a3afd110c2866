"""How a machine says how far it is: a line into the runner's FIFO.

A line is `PERCENT[%] [MESSAGE]`, with PERCENT from 0 to 100, or `- MESSAGE`, which leaves the percent as it was.
Commands whose task asks for progress write the same lines to the path in TASK_RUNNER_PROGRESS.
"""

from __future__ import annotations

import os

from task_runner.machines.base import Context

#: bytes of a line, its end included, that the runner reads; short enough that two writers never mix (PIPE_BUF)
LONGEST = 500


def report(context: Context, percent: float | None, message: str | None = None) -> None:
    """Tell the task's progress. Never raises, and never waits: a line nobody can take now is dropped."""
    if context.progress is None:
        return
    head = "-" if percent is None else f"{min(100.0, max(0.0, percent)):.1f}"
    text = " ".join((head, *(message or "").split()))
    line = text.encode("utf-8", "replace")[: LONGEST - 1] + b"\n"
    try:
        fd = os.open(context.progress, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, line)
    except OSError:
        pass
    finally:
        os.close(fd)
