"""What a task asks for. Accepted once, never changed.

These classes are read by two programs: the daemon validates requests against them with pydantic, the
runner reads the result with `model.codec` and the standard library. So constraints are annotations.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit
from task_runner.model.terms import (
    After,
    Alias,
    FileIn,
    Grace,
    Name,
    Resources,
    Retry,
    Seconds,
    SecretUse,
    SignalName,
    StallPolicy,
    TagKey,
    TagValue,
    Webhook,
    Word,
)
from task_runner.model.walls import Account, Logging, TaskLimits, Umask


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One step of a task."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: "process", "container", "echo", "download", "extract", or a name from the entry point group task_runner.machines
    machine: Name
    #: what the machine is to do; its shape is the machine's own
    parameters: Any = None
    #: for people
    name: Name | None = None
    #: the action is stopped when it has run for this long, pauses not counted, and has then `timed_out`
    timeout_seconds: Seconds | None = None
    #: try the action again, within the same attempt of the task; it cannot be `lost`
    retry: Retry | None = None
    #: go on with the next action, and let the task succeed, whatever becomes of this one
    continue_on_failure: bool = False

    @property
    def wrapped(self) -> bool:
        """Its command runs inside other namespaces, as the child of a wrapper."""
        return self.beside or self._asks("sandbox")

    @property
    def beside(self) -> bool:
        """Its command runs inside another container."""
        return self._asks("sidecar")

    def _asks(self, name: str) -> bool:
        return self.machine == "process" and isinstance(self.parameters, dict) and self.parameters.get(name) is not None


class OutputMode(enum.Enum):
    """Where a command's two streams go."""

    COMBINED = "combined"  #: both into output.log, in the order in which they were written
    SEPARATE = "separate"  #: into stdout.log and stderr.log


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """One unit of work."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: run in order; the first that does not succeed ends the task
    actions: Annotated[list[Action], Limit(min_length=1, max_length=100)]
    #: run in order after them, each of them, whatever happened: also after a stop, a time limit or a failure
    cleanup: Annotated[list[Action], Limit(max_length=100)] = field(default_factory=list)
    #: seconds for all of the cleanup together
    cleanup_seconds: Annotated[float, Limit(gt=0, le=86_400)] = 60.0
    #: for people
    name: Name | None = None
    #: another name, which no other task that is kept has
    alias: Alias | None = None
    #: the task is stopped when its actions have run for this long, pauses not counted; none: no limit
    timeout_seconds: Seconds | None = None
    #: the task ends `timed_out`, never having run, if it has not been handed to a runner so long after it was due;
    #: whatever it waits for counts. Another attempt has the whole time again, from the end of the wait before it
    start_within_seconds: Seconds | None = None
    #: the polite signal of a stop
    stop_signal: SignalName = "SIGTERM"
    #: seconds between the polite signal and SIGKILL
    grace_seconds: Grace = 10.0
    #: when to run: seconds since 1970, or ISO 8601 with a time zone; 0 or none: now
    execute_at: Annotated[float, Limit(ge=0, le=253_402_300_799)] | Annotated[str, Limit(max_length=100)] | None = None
    #: what the task is about: tasks of one entity run one at a time, in the order of acceptance
    entity: Name | None = None
    #: who has more of it starts first; a point is worth a fixed time of waiting, so that nobody waits for ever
    priority: Annotated[int, Limit(ge=-1000, le=1000)] = 0
    #: one place in each of these pools is taken while the task runs
    pools: Annotated[list[Word], Limit(max_length=20)] = field(default_factory=list)
    #: tasks that must be over first
    after: Annotated[list[After], Limit(max_length=1000)] = field(default_factory=list)
    #: what of the machine is set aside while it runs
    resources: Resources | None = None
    #: what it may use at most
    limits: TaskLimits | None = None
    #: run as this user of the machine, by name or number, of those that the server allows; none: as the server says
    user: Account | None = None
    #: with this group in place of the user's own
    group: Account | None = None
    #: permission bits that new files do not get
    umask: Umask = "022"
    #: run the whole task again, as another attempt with a status and an output of its own
    retry: Retry | None = None
    #: files to put into the working directory before the first action
    files: Annotated[list[FileIn], Limit(max_length=1000)] = field(default_factory=list)
    #: secrets of the server that the actions need
    secrets: Annotated[list[SecretUse], Limit(max_length=100)] = field(default_factory=list)
    #: keep what the commands write to stdout and stderr together or apart
    output_mode: OutputMode = OutputMode.COMBINED
    #: put the time in front of every line of output
    output_timestamps: bool = False
    #: write stars in place of the secrets' values
    mask_secrets: bool = False
    #: of a longer output the beginning and the end are kept, together so many bytes (each stream, where apart)
    max_output_bytes: Annotated[int, Limit(ge=65_536, le=2**60)] | None = None
    #: where lines of output go beside the task's log
    logging: Logging | None = None
    #: let commands report progress, by lines written to the path in TASK_RUNNER_PROGRESS
    progress: bool = False
    #: what to do when the task gives no sign of getting on
    stall: StallPolicy | None = None
    #: whom to tell of what
    notify: Annotated[list[Webhook], Limit(max_length=20)] = field(default_factory=list)
    #: keep the task for so long after its end, whatever the server's rule for age is
    keep_seconds: Annotated[float, Limit(ge=0, le=10 * 365 * 86_400)] | None = None
    #: for filters: short keys and values
    tags: Annotated[dict[TagKey, TagValue], Limit(max_length=50)] = field(default_factory=dict)
    #: for the client, kept and given back as it is
    metadata: dict[str, Any] | None = None

    @property
    def all_actions(self) -> list[Action]:
        """In the order in which statuses count them: those of the cleanup follow the others."""
        return [*self.actions, *self.cleanup]

    def every_action(self) -> Iterator[tuple[str, Action]]:
        """The same, each with its field."""
        for field_name, actions in (("actions", self.actions), ("cleanup", self.cleanup)):
            for index, action in enumerate(actions):
                yield f"{field_name}.{index}", action
