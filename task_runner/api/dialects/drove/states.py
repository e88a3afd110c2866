"""Drove's state machine, and where in it a task of ours is. Pure.

Rule 1: what a state says is so: the container's stage, as its machine tells it, decides while the task has a runner.
Rule 2: what is not known is not said: a result is there as soon as it is certain, and not before.

PROVISIONING_FAILED and RUN_FAILED are passed on the way to STOPPED, as with Drove: what is left of them then is the
message, and that there is no result, or that it is FAILED with -1.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from task_runner.lib.verdict import OUTCOMES
from task_runner.model.machines import CONTAINER
from task_runner.model.state import FINAL, WAITING, Outcome, State
from task_runner.model.status import ActionStatus, ContainerNote
from task_runner.service.task import Record


class TaskState(enum.Enum):
    """A state of Drove's."""

    PENDING = "PENDING"  #: accepted, no runner has it
    PROVISIONING = "PROVISIONING"  #: a runner places its configs, or fetches its image
    PROVISIONING_FAILED = "PROVISIONING_FAILED"  #: its image cannot be had
    STARTING = "STARTING"  #: its container is being made
    RUNNING = "RUNNING"  #: its container runs, or is paused
    RUN_COMPLETED = "RUN_COMPLETED"  #: its container has ended, and what it wrote is being kept
    RUN_FAILED = "RUN_FAILED"  #: its container could not be made or started
    DEPROVISIONING = "DEPROVISIONING"  #: its container is being removed
    STOPPED = "STOPPED"  #: over
    LOST = "LOST"  #: over, and nobody knows how
    UNKNOWN = "UNKNOWN"  #: the daemon has been started anew, and has not examined it yet


_T = TaskState

#: what may follow what, by itself. Beside that, a task that is stopped goes to STOPPED from wherever it is
TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    _T.PENDING: frozenset({_T.PROVISIONING, _T.STOPPED}),
    _T.PROVISIONING: frozenset({_T.STARTING, _T.PROVISIONING_FAILED, _T.LOST}),
    _T.PROVISIONING_FAILED: frozenset({_T.DEPROVISIONING, _T.LOST}),
    _T.STARTING: frozenset({_T.RUNNING, _T.RUN_FAILED, _T.LOST}),
    _T.RUNNING: frozenset({_T.RUN_COMPLETED, _T.LOST}),
    _T.RUN_COMPLETED: frozenset({_T.DEPROVISIONING, _T.LOST}),
    _T.RUN_FAILED: frozenset({_T.DEPROVISIONING, _T.LOST}),
    _T.DEPROVISIONING: frozenset({_T.STOPPED, _T.LOST}),
    _T.UNKNOWN: frozenset({_T.RUNNING, _T.STOPPED, _T.LOST}),
    _T.STOPPED: frozenset(),
    _T.LOST: frozenset(),
}

#: states of tasks that are listed
LISTED = frozenset(
    {_T.PENDING, _T.PROVISIONING, _T.STARTING, _T.RUNNING, _T.RUN_COMPLETED, _T.DEPROVISIONING}
)

_STAGES = {
    "fetching": _T.PROVISIONING,
    "unfetched": _T.PROVISIONING_FAILED,
    "making": _T.STARTING,
    "unstarted": _T.RUN_FAILED,
    "running": _T.RUNNING,
    "ended": _T.RUN_COMPLETED,
    "removing": _T.DEPROVISIONING,
}
_RESULTS = {
    Outcome.SUCCEEDED: "SUCCESSFUL",
    Outcome.FAILED: "FAILED",
    Outcome.CANCELLED: "CANCELLED",
    Outcome.TIMED_OUT: "TIMED_OUT",
    Outcome.LOST: "LOST",
}


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How it ended."""

    #: SUCCESSFUL, FAILED, CANCELLED, TIMED_OUT or LOST
    status: str
    #: -1 where there is none that counts: Drove's own word for it
    exit_code: int


def state_of(record: Record) -> TaskState:
    """Where a task is."""
    note = _container(record)
    if note is None:
        return _place(record.state, None)
    return _place(record.state, "removing" if note.removing else note.stage)


def state_in(event: Mapping[str, Any]) -> TaskState:
    """Where a task was at a stored change of its state (`service.statements.StoredEvent.data`)."""
    return _place(State(event["state"]), event.get("containerStage"))


def _place(state: State, stage: str | None) -> TaskState:
    if state in WAITING:
        return _T.PENDING
    if state in FINAL:
        return _T.LOST if state is State.LOST else _T.STOPPED
    if state is State.UNKNOWN:
        return _T.UNKNOWN
    if stage in _STAGES:
        return _STAGES[stage]
    return _T.RUNNING if state in (State.RUNNING, State.PAUSED) else _T.PROVISIONING


def result_of(record: Record) -> TaskResult | None:
    """How it ended; None: it is not known, or its image could not be had."""
    if record.state in WAITING or record.state is State.UNKNOWN:
        return None
    action, note = _action(record), _container(record)
    outcome = record.outcome or _foreseen(record, note)
    if outcome is None or (outcome is Outcome.FAILED and note is not None and note.stage == "unfetched"):
        return None
    return TaskResult(_RESULTS[outcome], _exit_code(outcome, action, note))


def error_of(record: Record) -> str:
    """What went wrong; "" where nothing did, or nothing is known of it."""
    if record.state in WAITING or record.state is State.UNKNOWN:
        return ""
    note = _container(record)
    outcome = record.outcome or _foreseen(record, note)
    if outcome is Outcome.FAILED:
        return _why_failed(record, note)
    if outcome is Outcome.LOST:
        return record.error or "Instance lost"
    return record.error or ""


def _why_failed(record: Record, note: ContainerNote | None) -> str:
    if note is not None and note.stage == "unfetched":
        why = (note.error or record.error or "").removeprefix(f"pull {note.image}: ")
        return f"Error while pulling image {note.image}: {why}"
    code = _exit_code(Outcome.FAILED, _action(record), note)
    if code == -1:
        return (note and note.error) or (record.error or "").removeprefix("provisioning failed: ")
    message = f"Task instance exited with status: {code}"
    return f"{message}: {record.error}" if record.error else message


def _foreseen(record: Record, note: ContainerNote | None) -> Outcome | None:
    """The outcome of a task that is not over, where it is certain."""
    if note is None:
        return None
    if note.stage in ("unfetched", "unstarted"):
        return Outcome.FAILED
    if not note.has_ended:
        return None
    receipt = record.status.receipt if record.status is not None else None
    if receipt is not None and receipt.reason in OUTCOMES:
        return OUTCOMES[receipt.reason]
    return Outcome.SUCCEEDED if note.exit_code == 0 and note.signal is None else Outcome.FAILED


def _exit_code(outcome: Outcome, action: ActionStatus | None, note: ContainerNote | None) -> int:
    if outcome is Outcome.SUCCEEDED:
        return 0
    ended = next((each for each in (action, note) if each is not None and _has_ended(each)), None)
    if outcome is not Outcome.FAILED or ended is None:
        return -1
    if ended.exit_code is not None:
        return ended.exit_code
    return 128 + signal.Signals[ended.signal or ""].value  # as a shell has it


def _has_ended(each: ActionStatus | ContainerNote) -> bool:
    return each.exit_code is not None or each.signal in signal.Signals.__members__


def has_started(record: Record) -> bool:
    """Its container runs, or has run."""
    note = _container(record)
    return note is not None and note.stage in ("running", "ended")


def _action(record: Record) -> ActionStatus | None:
    """The action that is the task, to Drove."""
    actions = record.status.actions if record.status is not None else []
    return next((each for each in actions if each.machine == CONTAINER), None)


def _container(record: Record) -> ContainerNote | None:
    action = _action(record)
    return None if action is None else action.container
