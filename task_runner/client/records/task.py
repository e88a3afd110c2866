"""Tasks, their attempts and their actions."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from task_runner.client.records.endings import (
    ContainerNote,
    Identity,
    LimitNote,
    Output,
    Progress,
    Receipt,
    Stalled,
)
from task_runner.model.state import FINAL

FINAL_STATES = frozenset(state.value for state in FINAL)


class ActionStatus(TypedDict):
    """What happened to one action."""

    index: int
    machine: str
    name: str | None
    #: one of those that run at the end, whatever happened
    cleanup: bool
    state: str
    outcome: str | None
    #: how often it has been started
    tries: int
    exitCode: int | None
    signal: str | None
    error: str | None
    startedAt: str | None
    finishedAt: str | None
    #: its first process
    process: NotRequired[Identity | None]
    usage: dict[str, Any] | None
    #: not of an older daemon
    oomKilled: NotRequired[bool | None]
    container: NotRequired[ContainerNote | None]
    #: where in the task's output its own begins and ends
    outputStart: int | None
    outputEnd: int | None
    stderrStart: int | None
    stderrEnd: int | None


class PastAttempt(TypedDict):
    """How an earlier attempt ended."""

    attempt: int
    state: str
    outcome: str | None
    exitCode: int | None
    signal: str | None
    error: str | None
    startedAt: str | None
    finishedAt: str | None


class Heartbeat(TypedDict):
    """A sign of life."""

    at: str
    #: seconds of a clock that nobody sets, since the machine's start
    monotonic: float


class Silence(TypedDict):
    """The task has given no sign of getting on for as long as its stall policy bears."""

    #: the last sign
    since: str
    #: what was looked for
    reason: str


class Attempt(TypedDict):
    """The status of one attempt, as its runner wrote it."""

    #: the version of the file status.json
    format: int
    taskId: str
    attempt: int
    state: str
    outcome: str | None
    exitCode: int | None
    signal: str | None
    error: str | None
    currentActionIdx: int
    actions: list[ActionStatus]
    startedAt: str | None
    finishedAt: str | None
    usage: dict[str, Any] | None
    output: Output | None
    stderr: Output | None
    progress: Progress | None
    receipt: Receipt | None
    runner: Identity
    heartbeat: Heartbeat
    pausedAt: str | None
    #: before that
    pausedSeconds: float
    silence: Silence | None
    #: the user it runs as, by number; null: the daemon's own
    userId: int | None
    limits: list[LimitNote]
    #: of the attempt's cgroup
    accounting: dict[str, Any] | None
    oomKilled: bool | None
    gpus: list[int]
    #: bytes of its standard input that have been passed on; null: that is not open
    inputBytes: int | None


class Task(TypedDict):
    """A task. What is not known is None."""

    taskId: str
    state: str
    outcome: str | None
    exitCode: int | None
    signal: str | None
    stalled: Stalled | None
    pendingReason: str | None
    currentActionIdx: int
    actions: list[ActionStatus]
    attempt: int
    attempts: list[PastAttempt]
    progress: Progress | None
    createdAt: str
    executeAt: str | None
    startedAt: str | None
    finishedAt: str | None
    retryAt: str | None
    lastActivityAt: str | None
    pausedAt: str | None
    pausedSeconds: float | None
    usage: dict[str, Any] | None
    output: Output | None
    stderr: Output | None
    #: the next five are not of an older daemon
    userId: NotRequired[int | None]
    limits: NotRequired[list[LimitNote]]
    #: of the task's cgroup
    accounting: NotRequired[dict[str, Any] | None]
    oomKilled: NotRequired[bool | None]
    unforwardedLines: NotRequired[int | None]
    gpus: list[int]
    inputBytes: int | None
    receipt: Receipt | None
    error: str | None
    damage: str | None
    stopRequested: dict[str, Any] | None
    origin: str | None
    name: str | None
    alias: str | None
    template: str | None
    batch: str | None
    entity: str | None
    priority: int
    tags: dict[str, str]
    metadata: dict[str, Any] | None
    spec: dict[str, Any]


def is_over(task: Task) -> bool:
    """Whether nothing more will happen to this attempt."""
    return task["state"] in FINAL_STATES
