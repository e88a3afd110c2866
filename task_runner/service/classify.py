"""What a sighting means. Pure: facts in, verdict out.

Rule 1: an ending is believed only from the runner's own last status.
Rule 2: `lost` needs a dead runner (its lock is free) and no last status. Nothing else is lost.
        An action that lives on without its runner (a container) is not lost with it: another runner takes it up.
Rule 3: `stalled` needs a live runner whose pulse is old by the monotonic clock *and* who is not merely waiting
        for a processor. The wall clock takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass

from task_runner.environment.base import Sighting
from task_runner.lib.succession import under_way
from task_runner.model.state import FINAL, State, reachable
from task_runner.model.status import Heartbeat, Status


@dataclass(frozen=True, slots=True)
class NotStarted:
    """No runner has claimed the attempt."""

    #: and none can any more
    void: bool


@dataclass(frozen=True, slots=True)
class Active:
    """A runner has it in hand; ``status`` is what it last said, if anything."""

    state: State
    status: Status | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The runner said how it ended."""

    status: Status


@dataclass(frozen=True, slots=True)
class Vanished:
    """The runner is gone and has not said how it ended."""

    evidence: str
    status: Status | None
    #: nothing of the task can be alive, since the machine was started anew
    earlier_boot: bool


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The runner is gone, and what it had in hand may live on."""

    #: for when nobody is to take it up
    vanished: Vanished


Verdict = NotStarted | Active | Ended | Vanished | Orphaned


def classify(
    task_id: str, attempt: int, known: State, sighting: Sighting, reported: Status | None = None
) -> Verdict:
    """What is to be believed of an attempt that was last known to be in state ``known``.

    ``reported`` is what its runner was last heard to say: an attempt that has spoken was started, and never is again,
    even if all its files are gone.
    """
    status = sighting.status
    if status is not None and (status.task_id != task_id or status.attempt != attempt):
        status = None  # somebody put a file of another task here
    if status is not None and status.state in FINAL and status.outcome is not None:
        return Ended(status)
    if reported is None and not sighting.alive and (sighting.void or not sighting.claimed):
        return NotStarted(sighting.void)
    told, status = status, status or reported
    if sighting.alive:
        return Active(_believable(known, status), status)
    vanished = Vanished(_evidence(sighting, status), status, sighting.earlier_boot)
    return vanished if sighting.barred or under_way(told) is None else Orphaned(vanished)


def _believable(known: State, status: Status | None) -> State:
    """The runner's state; but a status that says a task went back in its life is an old one, put back."""
    if status is None:
        return State.STARTING if known is State.UNKNOWN else known
    if status.state is known or status.state in reachable(known):
        return status.state
    return known


def _evidence(sighting: Sighting, status: Status | None) -> str:
    who = f"its runner (pid {sighting.runner.pid})" if sighting.runner else "its runner"
    what = f"{who} ended without saying how the task ended"
    if sighting.earlier_boot:
        what = f"the machine was restarted while {who} had it in hand"
    parts = [what]
    if status is not None:
        parts.append(f"last reported state: {status.state.value}")
    else:
        parts.append("no status was reported")
    if sighting.heartbeat is not None:
        parts.append(f"last sign of life: {sighting.heartbeat.at}")
    if not sighting.claimed:
        parts.append("its files are gone")
    if sighting.damage:
        parts.append(f"damaged: {sighting.damage}")
    return "; ".join(parts)


def stall_reason(sighting: Sighting, now: float, patience: float) -> str | None:
    """Why a live runner is to be called stalled; None if it is not. ``now`` is on the monotonic clock."""
    pulse = sighting.heartbeat
    if not sighting.alive or pulse is None or _age(pulse, now) <= patience:
        return None
    silence = f"its runner has given no sign of life for {_age(pulse, now):.0f} s"
    match sighting.process_state:
        case "R":
            return None  # it would run if it got a processor: the machine is busy, the runner is well
        case "T" | "t":
            return f"{silence}: it is stopped (SIGSTOP, or a debugger)"
        case "D":
            return f"{silence}: it waits in the kernel, for a disk or a network file system"
        case _:
            return silence


def _age(pulse: Heartbeat, now: float) -> float:
    return now - pulse.monotonic
