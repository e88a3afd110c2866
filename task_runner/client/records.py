"""What the daemon answers, as it stands in the JSON. A field of a newer daemon is there too, unnamed."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

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
    usage: dict[str, Any] | None
    #: not of an older daemon
    oomKilled: NotRequired[bool | None]
    container: NotRequired[ContainerNote | None]
    #: where in the task's output its own begins and ends
    outputStart: int | None
    outputEnd: int | None
    stderrStart: int | None
    stderrEnd: int | None


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


class Attempt(TypedDict):
    """The status of one attempt, as its runner wrote it."""

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


class FileEntry(TypedDict):
    """A file, a directory or a link in a task's working directory."""

    #: from the working directory; the same in base64 where it is not UTF-8
    path: str | None
    pathBase64: str | None
    #: where it is fetched
    href: str
    kind: str | None
    bytes: int | None
    modifiedAt: str | None
    mode: str | None
    #: of a link
    target: str | None
    targetBase64: str | None
    #: why nothing more is known
    error: str | None


class Notification(TypedDict):
    """Something that a webhook was to be told."""

    n: int
    id: str
    type: str
    at: str
    hook: int
    url: str
    state: str
    tries: int
    nextAt: str | None
    deliveredAt: str | None
    lastStatus: int | None
    lastError: str | None


class Template(TypedDict):
    """A template. ``error`` says why it cannot be used."""

    name: str
    origin: str
    updatedAt: str
    description: str | None
    parameters: dict[str, dict[str, Any]]
    task: dict[str, Any] | None
    error: str | None


class Storage(TypedDict):
    """Whether the store takes changes."""

    ok: bool
    error: str | None


class Means(TypedDict):
    """How a limit is enforced on this machine."""

    limit: str
    #: none: it is not
    by: str | None
    note: str | None


class Engine(TypedDict):
    """A container engine of the server."""

    name: str
    #: none: it does not say
    version: str | None
    #: why it cannot be used; none: it can
    problem: str | None


class Possible(TypedDict):
    """Whether something can be had."""

    #: why not; none: it can
    problem: str | None


class Dialect(TypedDict):
    """An interface of another system that is served."""

    name: str
    #: its own; none: those of /v1
    address: str | None


class Node(TypedDict):
    """The daemon in numbers."""

    version: str
    states: dict[str, int]
    stalled: int
    maxRunning: int | None
    #: what tasks may ask for together, and what of it is not set aside: tasks, cpus, memoryMb, gpus, pools
    capacity: dict[str, Any]
    free: dict[str, Any]
    #: of every limit that a task may ask for; this and the next three are not of an older daemon
    limits: NotRequired[list[Means]]
    engines: NotRequired[list[Engine]]
    sandbox: NotRequired[Possible]
    sidecars: NotRequired[Possible]
    #: not of an older daemon
    dialects: NotRequired[list[Dialect]]
    draining: bool
    drainedAt: str | None
    empty: bool
    ready: bool
    storage: Storage
    storeSetAside: str | None


def is_over(task: Task) -> bool:
    """Whether nothing more will happen to this attempt."""
    return task["state"] in FINAL_STATES
