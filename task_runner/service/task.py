"""A task as the service knows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from task_runner.model.codec import from_json
from task_runner.model.spec import Spec
from task_runner.model.state import FINAL, WAITING, Outcome, State
from task_runner.model.status import Receipt, Status
from task_runner.model.trace import TraceContext


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """How an earlier attempt ended. Its whole status is in its directory."""

    attempt: int = 1
    outcome: Outcome | None = None
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    started_at: str | None = None
    finished_at: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of a task beside its spec; kept in the store as JSON."""

    state: State
    outcome: Outcome | None = None
    attempt: int = 1
    #: which surface it came in by: "v1", "cli", a dialect
    origin: str = "v1"
    created_at: str
    #: when it is to run, by the wall clock; none: at once
    execute_at: str | None = None
    #: an earlier attempt has ended, and this one waits until then
    retry_at: str | None = None
    #: somebody asked for another time or another attempt then: it is due anew
    renewed_at: str | None = None
    #: its place in the order of acceptance in seconds, which points of priority are worth some of; never falls
    rank: float = 0.0
    finished_at: str | None = None
    #: what its runner last said
    status: Status | None = None
    #: why it failed, was cancelled, or the evidence that it is lost
    error: str | None = None
    #: what the daemon did when the runner was dead
    receipt: Receipt | None = None
    #: files that were damaged, and where they were set aside
    damage: str | None = None
    #: the earlier attempts
    previous: list[Past] = field(default_factory=list)
    #: the attempt from which the tries that the spec asks for are counted
    first_attempt: int = 1
    #: the template it was made from
    template: str | None = None
    #: the name of the token that it was submitted with, which says whom it may run as
    token: str = "admin"  # noqa: S105
    #: the trace that the request stood in that submitted it
    trace: TraceContext | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopIntent:
    """That somebody wants a task to end; kept, so that the next daemon wants it too."""

    requested_at: str
    signal: str | None = None
    grace_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stall:
    """Why a live task is called stalled, and since when."""

    reason: str
    since: str


@dataclass(slots=True, eq=False)
class Task:
    """One task. Changed by the service alone, in its event loop's thread."""

    id: str
    #: place in the order of acceptance
    seq: int
    spec_json: str
    name: str | None
    tags: dict[str, str]
    record: Record
    entity: str | None = None
    batch: str | None = None
    #: its other name, which no other task has
    alias: str | None = None
    intent: StopIntent | None = None
    #: to be removed as soon as it is over, and hidden until then
    deleted: bool = False

    # Known to this daemon alone, found out anew by the next:
    stall: Stall | None = None
    #: when it was handed to the environment, on the monotonic clock
    launched_at: float | None = None
    #: the runner has been sent the intent
    delivered: bool = False
    #: "paused": asked of its runner, and not yet seen to be so; "running": asked last, and to stay so
    wish: State | None = None
    #: what it waits for, if that is not the queue
    pending_reason: str | None = None
    #: an earlier try to launch it failed; not before this time (monotonic)
    not_before: float = 0.0
    #: how often launching it has been refused
    refusals: int = 0
    #: when it has to be launched by (monotonic), where its spec says so
    start_by: float | None = None
    #: its ending is known and being stored
    ending: bool = False
    #: the graphics processors it holds, by index
    gpus: tuple[int, ...] = ()
    _spec: Spec | None = None

    @property
    def spec(self) -> Spec:
        """What it asks for; read once."""
        if self._spec is None:
            self._spec = from_json(Spec, json.loads(self.spec_json))
        return self._spec

    def mentions(self, word: str) -> bool:
        """Whether a word stands in its spec, as a field or as a value. Asked before the spec itself: to look into the
        text costs next to nothing, to read it a hundred times as much, and most tasks have none of what is asked for.
        """
        return f'"{word}"' in self.spec_json

    def start_over(self) -> None:
        """Forget what belonged to an attempt that has ended."""
        self.intent, self.wish, self.stall, self.launched_at = None, None, None, None
        self.delivered, self.pending_reason, self.not_before, self.refusals = False, None, 0.0, 0
        self.gpus, self.start_by = (), None

    @property
    def stalled(self) -> Stall | None:
        """Why it counts as stalled, if it does."""
        return stall_of(self, self.record)

    @property
    def final(self) -> bool:
        return self.record.state in FINAL

    @property
    def waiting(self) -> bool:
        return self.record.state in WAITING


def stall_of(task: Task, record: Record) -> Stall | None:
    """Why a task with this record counts as stalled: its runner is silent, or the task itself is for longer than its
    policy bears."""
    if record.state in FINAL:
        return None
    silence = record.status.silence if record.status else None
    return task.stall or (Stall(reason=silence.reason, since=silence.since) if silence else None)
