"""Batches."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Batch(TypedDict):
    """Tasks that were accepted together."""

    batchId: str
    name: str | None
    createdAt: str
    finishedAt: str | None
    paused: bool
    numTasks: int
    numTasksOk: int
    numTasksFailed: int
    numTasksCancelled: int
    #: how many of those that are not over are in which state
    states: dict[str, int]
    tags: dict[str, str]
    metadata: dict[str, Any] | None
    #: their ids; only in the answer to the request that made it
    tasks: NotRequired[list[str]]


class BatchResult(TypedDict):
    """What became of one task of a batch."""

    taskId: str
    name: str | None
    entity: str | None
    state: str
    outcome: str | None
    exitCode: int | None
    signal: str | None
    error: str | None
    attempt: int
    startedAt: str | None
    finishedAt: str | None
