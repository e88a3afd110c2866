"""The life of a task, as a table.

Rule 1: everything about which state follows which is in this file, and only here.
Rule 2: this file knows nothing of files, processes, signals or clocks.

A state says where a task is; an outcome says how it ended. Two state machines meet in the table: the
service moves a task from `scheduled` to `starting`, and its runner moves it on from there. The service
sees the runner's states only now and then (it reads a file), so it may see `starting` and next `exited`:
what it may believe is what is *reachable*, which is worked out from the same table.

`unknown` is what an active task is called after the daemon's start until its runner has been examined.
It is left for whatever state is found, and nothing enters it but a restart.

WARNING: doc/states.md is generated from this table: `python -m task_runner.model.state > doc/states.md`.
A test compares them.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping


class State(enum.Enum):
    """Where a task is."""

    SCHEDULED = "scheduled"  #: accepted, its time has not come
    PENDING = "pending"  #: may start as soon as there is room; says what it waits for
    STARTING = "starting"  #: handed to a runner; its first command does not run yet
    PROVISIONING = "provisioning"  #: its runner fetches what the command needs
    RUNNING = "running"  #: a command of it runs
    PAUSED = "paused"  #: every process of it is stopped, and so are its clocks
    STOPPING = "stopping"  #: told to end; its grace is running
    EXITED = "exited"  #: ended, and a runner saw how, or no runner had it
    LOST = "lost"  #: ended, and nobody saw how
    UNKNOWN = "unknown"  #: active when the daemon last knew, not examined since


class Outcome(enum.Enum):
    """How a task ended."""

    SUCCEEDED = "succeeded"  #: every action did what was asked
    FAILED = "failed"  #: an action did not succeed, or could not be started
    CANCELLED = "cancelled"  #: somebody stopped it
    TIMED_OUT = "timed_out"  #: its time limit stopped it, or it did not start in time
    LOST = "lost"  #: nobody knows


class Event(enum.Enum):
    """What moves a task on."""

    DUE = "due"  #: its time has come
    LAUNCH = "launch"  #: the scheduler lets it start
    RECALL = "recall"  #: the launch is proven not to have happened and never to happen
    PROVISION = "provision"  #: the runner begins to fetch what the command needs
    SPAWN = "spawn"  #: a command was started
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"  #: asked by somebody, or by the time limit
    END = "end"  #: it is over and it is known how
    VANISH = "vanish"  #: its runner is gone without having said how
    AGAIN = "again"  #: the attempt has ended, and its spec asks for another
    RETRY = "retry"  #: it is over, and somebody asks for one more attempt
    POSTPONE = "postpone"  #: its time was changed
    EXPIRE = "expire"  #: the time within which it was to start is over


class IllegalTransition(AssertionError):
    """The table has no such step: a fault in the program, never in the request."""


_S, _E = State, Event

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    _S.SCHEDULED: {_E.DUE: _S.PENDING, _E.POSTPONE: _S.SCHEDULED, _E.STOP: _S.EXITED},
    _S.PENDING: {_E.LAUNCH: _S.STARTING, _E.POSTPONE: _S.SCHEDULED, _E.STOP: _S.EXITED, _E.EXPIRE: _S.EXITED},
    _S.STARTING: {
        _E.RECALL: _S.PENDING,
        _E.PROVISION: _S.PROVISIONING,
        _E.SPAWN: _S.RUNNING,
        _E.STOP: _S.STOPPING,
        _E.END: _S.EXITED,
        _E.VANISH: _S.LOST,
        _E.AGAIN: _S.PENDING,
    },
    _S.PROVISIONING: {
        _E.SPAWN: _S.RUNNING,
        _E.STOP: _S.STOPPING,
        _E.END: _S.EXITED,
        _E.VANISH: _S.LOST,
        _E.AGAIN: _S.PENDING,
    },
    _S.RUNNING: {
        _E.PROVISION: _S.PROVISIONING,
        _E.PAUSE: _S.PAUSED,
        _E.STOP: _S.STOPPING,
        _E.END: _S.EXITED,
        _E.VANISH: _S.LOST,
        _E.AGAIN: _S.PENDING,
    },
    _S.PAUSED: {
        _E.RESUME: _S.RUNNING,
        _E.STOP: _S.STOPPING,
        _E.END: _S.EXITED,
        _E.VANISH: _S.LOST,
        _E.AGAIN: _S.PENDING,
    },
    _S.STOPPING: {_E.END: _S.EXITED, _E.VANISH: _S.LOST, _E.AGAIN: _S.PENDING},
    _S.EXITED: {_E.RETRY: _S.PENDING},
    _S.LOST: {_E.RETRY: _S.PENDING},
}

#: states in which it is over
FINAL = frozenset({State.EXITED, State.LOST})
#: states in which a task has not been handed to a runner
WAITING = frozenset({State.SCHEDULED, State.PENDING})
#: states in which a task has a runner, or should have
ACTIVE = frozenset(State) - FINAL - WAITING


def step(state: State, event: Event) -> State:
    """The state that follows. Raises IllegalTransition where the table has none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{state.value} --{event.value}--> ?") from None


@functools.cache
def reachable(state: State) -> frozenset[State]:
    """Every state that a task seen in ``state`` can be seen in later, without another attempt."""
    if state is State.UNKNOWN:
        return frozenset(State) - {State.UNKNOWN}
    found: set[State] = set()
    todo: list[State] = [state]
    while todo:
        for event, target in TRANSITIONS.get(todo.pop(), {}).items():
            if event not in (Event.RETRY, Event.AGAIN) and target not in found:
                found.add(target)
                todo.append(target)
    return frozenset(found)


def diagram() -> str:
    """doc/states.md: the table as a picture (Mermaid) and as sentences."""
    picture = [f"    [*] --> {State.SCHEDULED.value}", f"    [*] --> {State.PENDING.value}"]
    for state, steps in TRANSITIONS.items():
        picture += [f"    {state.value} --> {target.value}: {event.value}" for event, target in steps.items()]
    picture += [f"    {state.value} --> [*]" for state in State if state in FINAL]
    return "\n".join(
        [
            "# States and outcomes",
            "",
            "Generated from the table in `task_runner/model/state.py`",
            "by `python -m task_runner.model.state > doc/states.md`; do not edit.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *picture,
            "```",
            "",
            "| state | meaning |",
            "| --- | --- |",
            *(f"| `{state.value}` | {_MEANING[state.name]} |" for state in State),
            "",
            "An ended task has an outcome:",
            "",
            "| outcome | meaning |",
            "| --- | --- |",
            *(f"| `{outcome.value}` | {_MEANING['OUTCOME_' + outcome.name]} |" for outcome in Outcome),
            "",
            "A `lost` task has the outcome `lost`. `unknown` is left for whatever state the examination finds.",
        ]
    )


_MEANING = {
    "SCHEDULED": "accepted, its time has not come",
    "PENDING": "starts as soon as there is room; `pendingReason` says what it waits for",
    "STARTING": "handed to a runner; its first command does not run yet",
    "PROVISIONING": "its runner fetches what the command needs",
    "RUNNING": "a command of it runs",
    "PAUSED": "every process of it is stopped, and so are its clocks",
    "STOPPING": "told to end; its grace is running",
    "EXITED": "ended, and its runner saw how, or it never had one: `outcome` tells",
    "LOST": "ended, and nobody saw how; `error` holds the evidence",
    "UNKNOWN": "the daemon has just started and has not examined its runner yet",
    "OUTCOME_SUCCEEDED": "every action did what was asked",
    "OUTCOME_FAILED": "an action did not succeed, or could not be started",
    "OUTCOME_CANCELLED": "somebody stopped it",
    "OUTCOME_TIMED_OUT": "its time limit stopped it, or it did not start in time",
    "OUTCOME_LOST": "nobody knows",
}


if __name__ == "__main__":
    print(diagram())
