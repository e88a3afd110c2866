"""What is known of how far a task is, how it is kept and how it ended."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Identity(TypedDict):
    """A process that cannot be mistaken for another: pids are used again, these three together are not."""

    pid: int
    #: clock ticks since boot
    startTime: int
    bootId: str


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
    container: NotRequired[str | None]


class LimitNote(TypedDict):
    """What became of one limit."""

    limit: str
    asked: float
    #: how it is enforced; none: it is not
    by: str | None
    note: str | None


class ContainerNote(TypedDict):
    """The container of an action."""

    engine: str
    name: str
    id: str | None
    image: str
    imageId: str | None
    limits: list[LimitNote]
    accounting: dict[str, Any] | None
    outputNote: str | None
    left: bool
    #: these not of an older daemon
    stage: NotRequired[str | None]
    error: NotRequired[str | None]
    exitCode: NotRequired[int | None]
    signal: NotRequired[str | None]
    removing: NotRequired[bool]


class Gap(TypedDict):
    """Bytes that were written and are not kept."""

    offset: int
    bytes: int


class Output(TypedDict):
    """What has been written, gaps included."""

    bytes: int
    writtenAt: str | None
    sha256: str | None
    gaps: list[Gap]
    #: why it is kept otherwise than the spec asks
    note: str | None


class Progress(TypedDict):
    """What a command last said of how far it is."""

    at: str
    percent: float | None
    message: str | None


class Stalled(TypedDict):
    """Why a live task is called stalled, and since when."""

    reason: str
    since: str
