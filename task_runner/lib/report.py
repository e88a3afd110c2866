"""What a runner tells: its status, written into status.json, and a ring at the daemon's door.

Rule 1: every change is told, but a command that has just begun: that is told when it has lived for a moment.
Rule 2: what would not fit into the reserved space of the last status (lib/statusfile.py) is shortened.
Rule 3: records are made when they are written and not before: each is memory that the runner has for itself.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from dataclasses import fields

from task_runner.lib import doorbell, signals
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.group import Group
from task_runner.lib.lock import HeldLock
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.statusfile import StatusWriter
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.machines import SILENT
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import (
    Accounting,
    ActionStatus,
    ContainerNote,
    Heartbeat,
    Identity,
    LimitNote,
    Output,
    Progress,
    Receipt,
    Silence,
    Status,
    Usage,
)

#: bytes of the reserved space that the index of a graphics processor may take
_ROOM_A_GPU = 8
#: and a container's note
_ROOM_A_CONTAINER = 4096
#: and a limit's
_ROOM_A_LIMIT = 400
#: characters of an error that are kept, of as many actions as there is room for; and of all others
LONG_ERROR, LONG_ERRORS, SHORT_ERROR = 300, 2, 100


class ActionNote:
    """What is known of the action at hand; it becomes an ActionStatus when it is written."""

    __slots__ = (
        "state", "outcome", "tries", "exit_code", "signal", "error", "started_at", "finished_at", "process", "usage",
        "oom_killed", "container", "output_start", "output_end", "stderr_start", "stderr_end", "_index", "_action",
        "_cleanup", "_before", "_group", "_kills_before",
    )  # fmt: skip

    def __init__(self, index: int, action: Action, *, cleanup: bool, group: Group | None) -> None:
        self._group = group
        self._kills_before: int | None = None
        self._index = index
        self._action = action
        self._cleanup = cleanup
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.state = "pending"
        self.outcome: Outcome | None = None
        self.tries = 0
        self.started_at: str | None = None
        self.output_start: int | None = None
        self.stderr_start: int | None = None
        self.output_end: int | None = None
        self.stderr_end: int | None = None
        self.usage: Usage | None = None
        self.process: Identity | None = None
        self.oom_killed: bool | None = None
        self.container: ContainerNote | None = None
        self._clear()

    def _clear(self) -> None:
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.error: str | None = None
        self.finished_at: str | None = None

    def begin_try(self, at: str, sizes: tuple[int, int | None]) -> None:
        if self.tries == 0:
            self.started_at = at
            self.output_start, self.stderr_start = sizes
        self.tries += 1
        self.state, self.outcome, self.process = "running", None, None
        self._kills_before = self._group.oom_kills() if self._group is not None else None
        self._clear()

    def inherit(self, before: ActionStatus) -> None:
        """Go on where a dead runner was with this very try."""
        self.state, self.tries, self.process, self.container = "running", before.tries, before.process, before.container
        self.started_at, self.usage = before.started_at, before.usage
        self.output_start, self.stderr_start = before.output_start, before.stderr_start
        self.exit_code, self.signal, self.oom_killed = before.exit_code, before.signal, before.oom_killed

    def end_try(self, at: str, outcome: Outcome, result: int | None, sizes: tuple[int, int | None]) -> None:
        """``result`` is the exit code, or a signal with a minus, or unknown."""
        self.state, self.outcome, self.finished_at = "exited", outcome, at
        if result is not None and result < 0:
            self.signal = signals.name_of(-result)
        else:
            self.exit_code = result
        self.output_end, self.stderr_end = sizes
        if self.process is not None:
            self.usage = usage_since(self._before)  # of all tries together
        if self._group is not None and self._kills_before is not None:
            self._note_oom(self._group, (self._group.oom_kills() or 0) - self._kills_before)

    def _note_oom(self, group: Group, kills: int) -> None:
        """``kills``: in this try. What runs in a container is not counted here: its engine tells."""
        if kills > 0:
            self.oom_killed = True
            if self.outcome is Outcome.FAILED and self.error is None:
                self.error = group.oom_words(kills)
        elif self.oom_killed is None and self.container is None:
            self.oom_killed = False

    def status(self) -> ActionStatus:
        return ActionStatus(
            index=self._index,
            machine=self._action.machine,
            name=self._action.name,
            cleanup=self._cleanup,
            state=self.state,
            outcome=self.outcome,
            tries=self.tries,
            exit_code=self.exit_code,
            signal=self.signal,
            error=self.error,
            started_at=self.started_at,
            finished_at=self.finished_at,
            process=self.process,
            usage=self.usage,
            oom_killed=self.oom_killed,
            container=self.container,
            output_start=self.output_start,
            output_end=self.output_end,
            stderr_start=self.stderr_start,
            stderr_end=self.stderr_end,
        )


class Report:
    """What is known of the task. Its fields are set by the runner; `tell` writes them."""

    def __init__(
        self,
        task_id: str,
        spec: Spec,
        directory: AttemptDirectory,
        clock: Clock,
        *,
        bell: str | None,
        gpus: list[int],
    ) -> None:
        self._id = task_id
        self._attempt = directory.attempt
        self._clock = clock
        self._bell = bell
        self._spec = spec
        self.actions = [
            ActionStatus(index=index, machine=action.machine, name=action.name, cleanup=index >= len(spec.actions))
            for index, action in enumerate((*spec.actions, *spec.cleanup))
        ]
        containers = sum(each.machine not in SILENT for each in self.actions)
        room = _ROOM_A_GPU * len(gpus) + _ROOM_A_CONTAINER * containers
        if spec.limits is not None:
            room += _ROOM_A_LIMIT * len(fields(spec.limits))
        self.writer = StatusWriter(directory, self.actions, room)
        self.gpus = gpus
        self.state = State.STARTING
        self.index = -1
        self.note: ActionNote | None = None
        self.paused_at: str | None = None
        self.paused_seconds = 0.0
        self.receipt: Receipt | None = None
        self.progress: Callable[[], Progress | None] | None = None
        self.silence: Callable[[], Silence | None] | None = None
        self.input_bytes: Callable[[], int] | None = None
        #: the task's cgroup; none: it has none
        self.group: Group | None = None
        self.limits: list[LimitNote] = []
        #: whom its processes run as, where that is not the daemon's user
        self.user_id: int | None = None
        self.accounting: Accounting | None = None
        #: what actions of an earlier runner of this attempt have used
        self._inherited: Usage | None = None
        #: the last change could not be written
        self.behind = False

    def open(self, me: Identity, lock: HeldLock, output: OutputLog) -> None:
        """After the claim: who tells, and of what."""
        self._me, self._lock, self._output = me, lock, output
        self._started_at = self.now()
        self._usage_before = resource.getrusage(resource.RUSAGE_CHILDREN)

    def inherit(self, before: Status) -> ActionNote:
        """After `open`: go on where a dead runner was; returns the action at hand."""
        from task_runner.lib import succession  # as few runners do that

        self._started_at = before.started_at or self._started_at
        self.actions[:] = before.actions
        # what was being stopped is stopped again
        going_on = before.state is not State.STOPPING or before.actions[before.current_action_idx].cleanup
        self.state = before.state if going_on else State.RUNNING
        self.paused_at, self.paused_seconds = before.paused_at, before.paused_seconds
        self.receipt = before.receipt if before.receipt is None or before.receipt.finished_at else None
        self._inherited = succession.usage_of(before.actions[: before.current_action_idx])
        note = self.begin_action(before.current_action_idx)
        note.inherit(before.actions[before.current_action_idx])
        return note

    def now(self) -> str:
        return stamp(self._clock.time())

    def begin_action(self, index: int) -> ActionNote:
        """Another action is at hand."""
        self._settle()
        self.index = index
        own = len(self._spec.actions)
        action = self._spec.actions[index] if index < own else self._spec.cleanup[index - own]
        self.note = ActionNote(index, action, cleanup=index >= own, group=self.group)
        return self.note

    def _settle(self) -> None:
        if self.note is not None:
            self.actions[self.index] = self.note.status()

    def shortened(self, error: str) -> str:
        """The beginning and the end of an error: there is not room for any length in the last status."""
        others = (each.error for each in self.actions if each.error is not None and each.index != self.index)
        if sum(not _is_short(each) for each in others) < LONG_ERRORS:
            return error if len(error) <= LONG_ERROR else f"{error[:150]} ... {error[-140:]}"
        plain = "".join(each if each.isascii() and each.isprintable() else "?" for each in error)
        return plain if len(plain) <= SHORT_ERROR else f"{plain[:60]} ... {plain[-30:]}"

    # -- telling

    def tell(self) -> None:
        """Write how things stand, and ring."""
        self._settle()
        output, stderr = self._output.report()
        self.behind = not self.writer.write(self._status(output, stderr))
        if self._bell is not None:
            doorbell.ring(self._bell, self._id)

    def tell_last(self, outcome: Outcome, decisive: ActionStatus | None, error: str | None) -> Status:
        """Write how it ended: the one thing for which there is space on a full disk."""
        output, stderr = self._output.seal()
        last = self._status(
            output,
            stderr,
            outcome=outcome,
            exit_code=decisive.exit_code if decisive else None,
            signal=decisive.signal if decisive else None,
            error=error or (decisive.error if decisive else None),
            finished_at=self.now(),
            usage=self._usage(),
        )
        self.writer.write_last(last)
        if self._bell is not None and not doorbell.ring(self._bell, self._id):
            self.writer.sync()
        return last

    def _usage(self) -> Usage:
        own = usage_since(self._usage_before)
        if self._inherited is None:
            return own
        from task_runner.lib import succession

        return succession.add(self._inherited, own)

    def skip(self, until: int) -> None:
        """What has not been started of the first so many actions never will be."""
        self._settle()
        for each in self.actions[self.index + 1 : until]:
            self.actions[each.index] = ActionStatus(
                index=each.index, machine=each.machine, name=each.name, cleanup=each.cleanup, state="skipped"
            )

    def beat(self) -> Heartbeat:
        """Show a sign of life."""
        return self._lock.beat(self._clock.time(), self._clock.monotonic())

    def _status(
        self,
        output: Output,
        stderr: Output | None,
        *,
        outcome: Outcome | None = None,
        exit_code: int | None = None,
        signal: str | None = None,
        error: str | None = None,
        finished_at: str | None = None,
        usage: Usage | None = None,
    ) -> Status:
        return Status(
            task_id=self._id,
            attempt=self._attempt,
            runner=self._me,
            state=self.state,
            outcome=outcome,
            exit_code=exit_code,
            signal=signal,
            error=error,
            current_action_idx=self.index,
            actions=self.actions,
            started_at=self._started_at,
            finished_at=finished_at,
            heartbeat=self.beat(),
            paused_at=self.paused_at,
            paused_seconds=self.paused_seconds,
            usage=usage,
            output=output,
            stderr=stderr,
            progress=self.progress() if self.progress else None,
            silence=self.silence() if self.silence else None,
            user_id=self.user_id,
            limits=self.limits,
            accounting=self.accounting,
            oom_killed=_any_of(each.oom_killed for each in self.actions),
            gpus=self.gpus,
            input_bytes=self.input_bytes() if self.input_bytes else None,
            receipt=self.receipt,
        )


def _any_of(known: Iterable[bool | None]) -> bool | None:
    """Whether one is true; None where nothing is known."""
    seen = [each for each in known if each is not None]
    return any(seen) if seen else None


def _is_short(error: str) -> bool:
    return len(error) <= SHORT_ERROR and error.isascii() and error.isprintable()


def usage_since(before: resource.struct_rusage) -> Usage:
    """What the kernel counted since ``before``.

    For the peak it knows no "since", and a command's peak begins with the memory of the runner that became it:
    one that is not above the runner's own says nothing of the command, so it is unknown.
    """
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = now.ru_utime - before.ru_utime, now.ru_stime - before.ru_stime
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(
        cpu_seconds=round(user + system, 6),
        user_seconds=round(user, 6),
        system_seconds=round(system, 6),
        max_rss_bytes=now.ru_maxrss * 1024 if now.ru_maxrss > own_peak else None,
        read_bytes=(now.ru_inblock - before.ru_inblock) * 512,
        written_bytes=(now.ru_oublock - before.ru_oublock) * 512,
    )
