"""What running tasks use now."""

from __future__ import annotations

from typing import TypedDict


class TaskUse(TypedDict):
    """One that a runner has in hand. None: not known."""

    taskId: str
    #: since the start of the attempt, of what has ended, too
    cpuSeconds: float | None
    #: resident memory of its processes in sum: what several share counts for each
    rssBytes: int | None
    #: that live, its runner not counted
    processes: int | None
    #: written so far, gaps included
    outputBytes: int | None


class TasksUse(TypedDict):
    """One look; rates are the difference of two."""

    at: str
    #: the time of the look on a clock that nobody sets
    monotonicSeconds: float
    tasks: list[TaskUse]
