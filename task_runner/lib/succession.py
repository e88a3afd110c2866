"""What a runner has to know that follows a dead one: pure, from the dead one's last status.

A command ends with its runner, or nobody knows how it ends; so no runner is followed that ran one. A container lives
on: then its action goes on, and after it the task.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from task_runner.model.machines import CONTAINER
from task_runner.model.state import FINAL, State
from task_runner.model.status import ActionStatus, Status, Usage


def under_way(status: Status | None) -> ActionStatus | None:
    """The action that may live on though the runner that last said this is dead."""
    if status is None or status.state in FINAL or not 0 <= status.current_action_idx < len(status.actions):
        return None
    action = status.actions[status.current_action_idx]
    return action if action.machine == CONTAINER and action.state == "running" else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Now:
    """The clocks when the successor begins."""

    time: float
    monotonic: float
    #: seconds since boot, suspensions included, which the start of a process is counted in
    since_boot: float
    boot_id: str
    ticks_a_second: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Legacy:
    """Where the dead runner was."""

    status: Status
    #: the action that goes on
    action: ActionStatus
    #: seconds that the task's actions have had together, pauses not counted; of the cleanup, where that goes on
    spent: float
    #: the same of the try that goes on
    try_spent: float
    #: seconds of the present pause; none: it is not paused
    paused: float | None
    #: why the task was being ended; none: it was not
    stopping: str | None
    #: what its container was for had ended by itself, before that
    over: bool


def inherit(status: Status, action: ActionStatus, now: Now) -> Legacy:
    """What becomes of limits: as if the dead runner had lived on."""
    paused = None if status.paused_at is None else _since(status, status.paused_at, now)
    pauses = status.paused_seconds + (paused or 0.0)
    began = _cleanup_began(status) if action.cleanup else status.started_at
    return Legacy(
        status=status,
        action=action,
        spent=max(0.0, _since(status, began, now) - (0.0 if action.cleanup else pauses)),
        try_spent=max(0.0, _try_time(status, action, now) - pauses),
        paused=paused,
        stopping=_reason(status) if status.state is State.STOPPING else None,
        over=_is_over(status, action),
    )


def _since(status: Status, at: str | None, now: Now) -> float:
    """Seconds since a stamp of the dead runner. Its last sign of life has both clocks: from there on the one counts
    that nobody sets."""
    if at is None:
        return 0.0
    pulse = status.heartbeat
    if status.runner.boot_id != now.boot_id:
        return max(0.0, now.time - _seconds(at))
    return max(0.0, _seconds(pulse.at) - _seconds(at) + now.monotonic - pulse.monotonic)


def _cleanup_began(status: Status) -> str | None:
    return next((each.started_at for each in status.actions if each.cleanup and each.started_at), None)


def _try_time(status: Status, action: ActionStatus, now: Now) -> float:
    if action.tries == 1:
        return _since(status, action.started_at, now)
    if action.process is None or action.process.boot_id != now.boot_id:
        return 0.0
    return now.since_boot - action.process.start_time / now.ticks_a_second


def _is_over(status: Status, action: ActionStatus) -> bool:
    """A stop that has cut it short stands in an open receipt; of a cleanup that is not told."""
    cut = status.receipt is not None and status.receipt.finished_at is None
    return action.container is not None and action.container.has_ended and not cut and not action.cleanup


def _reason(status: Status) -> str:
    told = status.receipt.reason if status.receipt is not None else None
    return told if told in ("timeout", "stalled") else "stop"


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def usage_of(actions: Sequence[ActionStatus]) -> Usage | None:
    """What the actions that a dead runner has waited for have used, all together; None where there are none."""
    used = [each.usage for each in actions if each.usage is not None]
    return functools.reduce(add, used) if used else None


def add(one: Usage, other: Usage) -> Usage:
    """Both together."""
    peaks = [each for each in (one.max_rss_bytes, other.max_rss_bytes) if each is not None]
    sums = {
        field.name: getattr(one, field.name) + getattr(other, field.name)
        for field in fields(Usage)
        if field.name != "max_rss_bytes"
    }
    return Usage(max_rss_bytes=max(peaks, default=None), **sums)
