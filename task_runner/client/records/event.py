"""Changes, as they are told one by one."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from task_runner.client.records.endings import Progress, Stalled


class Event(TypedDict):
    """A change of a task: of its state, its action, its progress, or the mark "stalled"."""

    #: its number on this server; what is asked for ``after`` it begins behind it
    id: int
    at: str
    taskId: str
    name: str | None
    state: str
    outcome: str | None
    attempt: int
    exitCode: int | None
    signal: str | None
    currentActionIdx: int
    progress: Progress | None
    stalled: Stalled | None
    batch: str | None
    entity: str | None
    #: only of a task with containers
    containerStage: NotRequired[str | None]
