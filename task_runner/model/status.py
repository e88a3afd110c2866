"""What happened to a task, as its runner writes it into status.json (format 1).

Stamps are strings, ISO 8601 in UTC with a Z. Durations and ages are seconds. What is not known is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from task_runner.model.state import Outcome, State

#: the version of status.json and of the lock file that this code writes
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """A process that cannot be mistaken for another: pids are used again, these three together are not."""

    pid: int
    #: field 22 of /proc/PID/stat: clock ticks since boot
    start_time: int
    #: /proc/sys/kernel/random/boot_id
    boot_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the kernel counted for processes that have been waited for (getrusage)."""

    cpu_seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    #: the largest single process; none if it was no larger than the runner that started it
    max_rss_bytes: int | None = None
    #: what really went to or came from a disk
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessNote:
    """One process that a stop had to do with."""

    pid: int
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What a stop did. The lists hold at most 20 processes each, the counts hold all."""

    #: "stop" (asked for), "timeout", "action timeout", "cleanup timeout", "stalled", "leftovers" (the command had ended
    #: and left these behind), or "runner died" (cleared by the daemon)
    reason: str
    #: the polite signal and the seconds until SIGKILL; none where there was no polite signal
    signal: str | None = None
    grace_seconds: float | None = None
    requested_at: str | None = None
    finished_at: str | None = None
    signalled: list[ProcessNote] = field(default_factory=list)
    signalled_count: int = 0
    killed: list[ProcessNote] = field(default_factory=list)
    killed_count: int = 0
    #: still there when the runner gave up (a process the kernel does not let die)
    survivors: list[ProcessNote] = field(default_factory=list)
    #: what was done with the container, in words; none: it had to do with none
    container: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitNote:
    """What became of one limit that was asked for."""

    #: as it is called in JSON: "memoryMb", "cpus" …
    limit: str
    asked: float
    #: how it is enforced ("cgroup v2", "rlimit", "podman" …); none: it is not
    by: str | None
    #: why not, or in what it differs from what was asked
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounting:
    """What the kernel counted in a cgroup: everything of the task, whoever has waited for it. What it did not: none."""

    #: "cgroup v2" or "cgroup v1"
    by: str
    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    #: periods in which it was held back for having used its processors, and for how long in sum
    throttled_count: int | None = None
    throttled_seconds: float | None = None
    #: the most processes and threads at once
    pids_peak: int | None = None
    #: how often it could not have another process
    pids_refused: int | None = None
    #: processes that the kernel killed because there was no memory for the task
    oom_kills: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerNote:
    """The container of an action."""

    engine: str
    #: as the engine calls it
    name: str
    #: none: it has not been created
    id: str | None = None
    image: str
    #: of what was really run
    image_id: str | None = None
    limits: list[LimitNote] = field(default_factory=list)
    accounting: Accounting | None = None
    #: why some of its output is not in the log; none: all of it is
    output_note: str | None = None
    #: how far it is: "fetching" (its image), "unfetched" (it could not be had), "making", "unstarted" (it could not be
    #: made or started), "running", "ended"; none: nobody has said
    stage: str | None = None
    #: why it is unfetched or unstarted
    error: str | None = None
    #: how it ended, in its engine's words, before all of its output is in the log
    exit_code: int | None = None
    signal: str | None = None
    #: what is left of it is being put away, or has been
    removing: bool = False
    #: it could not be removed when it was over, and is when its engine lets it be
    left: bool = False

    @property
    def has_ended(self) -> bool:
        """It has, and it is known how."""
        return self.stage == "ended" and (self.exit_code is not None or self.signal is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionStatus:
    """What happened to one action."""

    index: int
    machine: str
    name: str | None = None
    #: it is one of the list that runs after the others, whatever happened
    cleanup: bool = False
    #: pending, running, waiting (for its next try), exited, or skipped (never started)
    state: str = "pending"
    outcome: Outcome | None = None
    #: how often it has been started
    tries: int = 0
    exit_code: int | None = None
    #: the signal that ended it, by name
    signal: str | None = None
    #: why it could not be started
    error: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    #: its first process
    process: Identity | None = None
    usage: Usage | None = None
    #: the kernel killed processes of it because there was no memory for them; none: it is not known
    oom_killed: bool | None = None
    container: ContainerNote | None = None
    #: where in output.log (stdout.log, where the streams are apart) its output begins and ends
    output_start: int | None = None
    output_end: int | None = None
    #: the same in stderr.log
    stderr_start: int | None = None
    stderr_end: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """A sign of life. The monotonic clock decides; the stamp is for people."""

    at: str
    #: CLOCK_MONOTONIC of this boot: neither a changed wall clock nor a suspended machine ages it
    monotonic: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Bytes that were written and are not kept: the middle of an output longer than allowed."""

    offset: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What has been written so far, gaps included: a byte keeps its offset for ever."""

    bytes: int = 0
    #: when the last of them was
    written_at: str | None = None
    #: of all bytes that are kept, in order; known when the task is over
    sha256: str | None = None
    gaps: list[Gap] = field(default_factory=list)
    #: why it is kept otherwise than the spec asks, where it is
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a command or a machine last said of how far it is."""

    at: str
    #: 0 to 100
    percent: float | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """The task has given no sign of getting on for as long as its stall policy bears."""

    #: the last sign
    since: str
    #: in words: what was looked for
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """status.json."""

    format: int = FORMAT
    task_id: str
    attempt: int = 1
    runner: Identity
    state: State
    outcome: Outcome | None = None
    #: of the action that decided the outcome
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    #: -1 before the first
    current_action_idx: int = -1
    actions: list[ActionStatus] = field(default_factory=list)
    started_at: str | None = None
    finished_at: str | None = None
    heartbeat: Heartbeat
    paused_at: str | None = None
    paused_seconds: float = 0.0
    usage: Usage | None = None
    #: of output.log, or of stdout.log
    output: Output = field(default_factory=Output)
    #: of stderr.log; none where both streams go into one file
    stderr: Output | None = None
    progress: Progress | None = None
    #: its stall policy marks it
    silence: Silence | None = None
    #: the user it runs as, by number; none: the daemon's own
    user_id: int | None = None
    #: of what was asked for
    limits: list[LimitNote] = field(default_factory=list)
    #: of everything beside containers; none: it has no cgroup
    accounting: Accounting | None = None
    #: of any action
    oom_killed: bool | None = None
    #: the graphics processors it was given, by index
    gpus: list[int] = field(default_factory=list)
    #: bytes of its standard input that have been passed on, where that is open; none: it is not
    input_bytes: int | None = None
    receipt: Receipt | None = None

    @property
    def container(self) -> ContainerNote | None:
        """Of the action at hand."""
        index = self.current_action_idx
        return self.actions[index].container if 0 <= index < len(self.actions) else None
