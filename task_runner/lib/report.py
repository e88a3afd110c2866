"""What a runner tells: its status, written into status.json, and a ring at the daemon's door.

Rule 1: every change is told, but a command that has just begun: that is told when it has lived for a moment.
Rule 2: what would not fit into the reserved space of the last status (lib/statusfile.py) is shortened.
Rule 3: records are made when they are written and not before: each is memory that the runner has for itself.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from dataclasses import fields

from task_runner.lib import doorbell
from task_runner.lib.actionnote import ActionNote, usage_since
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.group import Group
from task_runner.lib.lock import HeldLock
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.statusfile import StatusWriter
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.machines import SILENT
from task_runner.model.spec import Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import (
    Accounting,
    ActionStatus,
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
            for index, action in enumerate(spec.all_actions)
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
        cleanup = index >= len(self._spec.actions)
        self.note = ActionNote(index, self._spec.all_actions[index], cleanup=cleanup, group=self.group)
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
