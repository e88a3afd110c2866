"""What is found out about a task, and the form in which it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from task_runner.environment.base import Sighting
from task_runner.lib.portrait import Portrait
from task_runner.model.spec import Spec
from task_runner.model.state import WAITING
from task_runner.model.status import Identity, Progress, Receipt
from task_runner.service.task import Past, Record, Stall, StopIntent


@dataclass(frozen=True, kw_only=True, slots=True)
class Predecessor:
    """A task that must be over first."""

    task_id: str
    #: how it has to end: "success" or "end"
    on: str
    #: none: there is no such task any more
    state: str | None = None
    outcome: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LastOutput:
    """The end of what it has written to one stream."""

    #: "output", "stdout" or "stderr"
    stream: str
    bytes: int
    written_at: str | None = None
    age_seconds: float | None = None
    #: the last lines, at most 2 KiB; in base64 where they are not UTF-8
    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was found out."""

    task_id: str
    record: Record
    spec: Spec
    #: seconds since 1970
    now: float
    pending_reason: str | None = None
    stalled: Stall | None = None
    intent: StopIntent | None = None
    #: none: nobody had to look, the task waits or is over
    sighting: Sighting | None = None
    #: seconds since the runner's last sign of life, by the clock that nobody sets
    pulse_age: float | None = None
    processes: Sequence[Portrait] = ()
    process_count: int = 0
    output: Sequence[LastOutput] = ()
    #: tasks of the same entity that are not over and were accepted before
    ahead: Sequence[str] = ()
    after: Sequence[Predecessor] = ()

    @property
    def runner(self) -> Identity | None:
        """Its runner, alive or not."""
        status = self.record.status
        if self.sighting is not None and self.sighting.runner is not None:
            return self.sighting.runner
        return status.runner if status and self.record.state not in WAITING else None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitsFor:
    """What keeps a task from starting."""

    reason: str | None
    execute_at: str | None
    retry_at: str | None
    entity: str | None
    #: tasks before it in the line of its entity, first the one whose turn it is
    ahead: Sequence[str]
    ahead_count: int
    after: Sequence[Predecessor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """The process that carries out the task."""

    pid: int
    alive: bool
    earlier_boot: bool
    state: str | None
    state_words: str | None
    wait_channel: str | None
    heartbeat_at: str | None
    heartbeat_age_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One live process of the task."""

    pid: int
    ppid: int
    runner: bool
    command: str
    state: str
    state_words: str
    wait_channel: str | None
    cpu_seconds: float
    rss_bytes: int | None
    age_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentAction:
    """The action it is at; of a task that is over, the one that decided how."""

    index: int
    of: int
    cleanup: bool
    name: str | None
    machine: str
    state: str
    tries: int
    started_at: str | None
    elapsed_seconds: float | None
    timeout_seconds: float | None
    #: pauses not counted; none where there is no limit, or it is paused
    timeout_left_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What it may use."""

    timeout_seconds: float | None
    timeout_left_seconds: float | None
    max_output_bytes: int | None
    stall_after_seconds: float | None
    stall_then: str | None
    #: of its first process that lives
    open_files: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopWanted:
    """The stop that somebody asked for."""

    requested_at: str
    age_seconds: float | None
    signal: str
    grace_seconds: float
    grace_left_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How it ended."""

    outcome: str | None
    exit_code: int | None
    signal: str | None
    #: what the exit code or the signal means
    meaning: str | None
    error: str | None
    stop_requested: bool
    receipt: Receipt | None
    ran_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """All of it, as `/v1` shows it."""

    task_id: str
    state: str
    outcome: str | None
    attempt: int
    #: for people: one to five sentences, the most important first
    summary: list[str]
    #: since when it is in this state; none: not known
    since: str | None
    since_seconds: float | None
    stalled: Stall | None
    waits_for: WaitsFor | None
    runner: Runner | None
    processes: list[Process]
    #: how many there are: at most 200 are shown
    process_count: int
    action: CurrentAction | None
    progress: Progress | None
    last_output: list[LastOutput]
    limits: Limits
    stop: StopWanted | None
    ending: Ending | None
    previous: list[Past] = field(default_factory=list)
