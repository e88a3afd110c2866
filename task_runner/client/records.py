"""What the daemon answers, as it stands in the JSON. A field of a newer daemon is there too, unnamed."""

from __future__ import annotations

from typing import Any, TypedDict

from task_runner.model.state import FINAL

FINAL_STATES = frozenset(state.value for state in FINAL)


class ProcessNote(TypedDict):
    """One process that a stop had to do with."""

    pid: int
    command: str


class Receipt(TypedDict):
    """What a stop did."""

    reason: str
    signal: str | None
    graceSeconds: float | None
    requestedAt: str | None
    finishedAt: str | None
    signalled: list[ProcessNote]
    signalledCount: int
    killed: list[ProcessNote]
    killedCount: int
    survivors: list[ProcessNote]


class ActionStatus(TypedDict):
    """What happened to one action."""

    index: int
    machine: str
    name: str | None
    state: str
    exitCode: int | None
    signal: str | None
    error: str | None
    startedAt: str | None
    finishedAt: str | None


class Task(TypedDict):
    """A task. What is not known is None."""

    taskId: str
    state: str
    outcome: str | None
    exitCode: int | None
    signal: str | None
    stalled: dict[str, Any] | None
    pendingReason: str | None
    currentActionIdx: int
    actions: list[ActionStatus]
    attempt: int
    createdAt: str
    startedAt: str | None
    finishedAt: str | None
    usage: dict[str, Any] | None
    output: dict[str, Any] | None
    receipt: Receipt | None
    error: str | None
    origin: str | None
    name: str | None
    tags: dict[str, str]
    metadata: dict[str, Any] | None
    spec: dict[str, Any]


class Storage(TypedDict):
    """Whether the store takes changes."""

    ok: bool
    error: str | None


class Node(TypedDict):
    """The daemon in numbers."""

    version: str
    states: dict[str, int]
    stalled: int
    maxRunning: int | None
    draining: bool
    ready: bool
    storage: Storage
    storeSetAside: str | None


def is_over(task: Task) -> bool:
    """Whether nothing more will happen to this attempt."""
    return task["state"] in FINAL_STATES
