"""What a sighting means: every kind of it, without a process or a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from task_runner.environment.base import Sighting
from task_runner.model.state import Outcome, State
from task_runner.model.status import Heartbeat, Identity, Status
from task_runner.service.classify import Active, Ended, NotStarted, Vanished, Verdict, classify, stall_reason

TASK = "0123456789abcdef"
ME = Identity(pid=7, start_time=8, boot_id="this boot")
PULSE = Heartbeat(at="2026-01-01T00:00:00.000000Z", monotonic=100.0)
RUNNING = Status(task_id=TASK, runner=ME, state=State.RUNNING, heartbeat=PULSE)
STARTING = replace(RUNNING, state=State.STARTING)
PAUSED = replace(RUNNING, state=State.PAUSED)
STOPPING = replace(RUNNING, state=State.STOPPING)
ENDED = replace(RUNNING, state=State.EXITED, outcome=Outcome.SUCCEEDED, exit_code=0)
UNDECIDED = replace(RUNNING, state=State.EXITED)
#: sightings
NOTHING = Sighting()
VOID = Sighting(claimed=True, void=True)
LIVES = Sighting(claimed=True, alive=True, runner=ME, heartbeat=PULSE)
DEAD = replace(LIVES, alive=False)


@pytest.mark.parametrize(
    ("known", "sighting", "verdict"),
    [
        # nobody has claimed it, or nobody can
        (State.STARTING, NOTHING, NotStarted(void=False)),
        (State.UNKNOWN, NOTHING, NotStarted(void=False)),
        (State.STARTING, VOID, NotStarted(void=True)),
        # a runner lives: what it says is so
        (State.STARTING, LIVES, Active(State.STARTING, None)),
        (State.UNKNOWN, LIVES, Active(State.STARTING, None)),
        (State.UNKNOWN, replace(LIVES, status=PAUSED), Active(State.PAUSED, PAUSED)),
        (State.STARTING, replace(LIVES, status=RUNNING), Active(State.RUNNING, RUNNING)),
        (State.PAUSED, replace(LIVES, status=RUNNING), Active(State.RUNNING, RUNNING)),
        (State.RUNNING, replace(LIVES, status=STOPPING), Active(State.STOPPING, STOPPING)),
        # but nobody goes back in his life
        (State.STOPPING, replace(LIVES, status=RUNNING), Active(State.STOPPING, RUNNING)),
        (State.RUNNING, replace(LIVES, status=STARTING), Active(State.RUNNING, STARTING)),
        # an ending is an ending, whether its runner is still on its way out or not
        (State.RUNNING, replace(LIVES, status=ENDED), Ended(ENDED)),
        (State.UNKNOWN, replace(DEAD, status=ENDED), Ended(ENDED)),
        (State.STARTING, Sighting(claimed=True, status=ENDED), Ended(ENDED)),
        # an ending of another task, of another attempt, or without an outcome is none
        (State.RUNNING, replace(LIVES, status=replace(ENDED, task_id="f" * 16)), Active(State.RUNNING, None)),
        (State.RUNNING, replace(LIVES, status=replace(ENDED, attempt=2)), Active(State.RUNNING, None)),
        (State.RUNNING, replace(LIVES, status=UNDECIDED), Active(State.EXITED, UNDECIDED)),
        # a damaged file is no proof of anything
        (State.RUNNING, replace(LIVES, damage="torn"), Active(State.RUNNING, None)),
    ],
)
def test_what_is_believed(known: State, sighting: Sighting, verdict: Verdict):
    assert classify(TASK, 1, known, sighting) == verdict


@pytest.mark.parametrize(
    ("sighting", "words"),
    [
        (DEAD, "its runner (pid 7) ended without saying how; no status was reported; last sign of life: 2026-01-01"),
        (replace(DEAD, status=RUNNING), "last reported state: running"),
        (replace(DEAD, status=UNDECIDED), "last reported state: exited"),
        (replace(DEAD, earlier_boot=True), "the machine was restarted while its runner (pid 7) had it in hand"),
        (replace(DEAD, damage="status.json is torn; kept as x"), "damaged: status.json is torn; kept as x"),
        (Sighting(claimed=True, damage="lock: what?"), "its runner ended without saying how"),
        (replace(DEAD, status=replace(ENDED, task_id="f" * 16)), "no status was reported"),
    ],
)
def test_what_is_lost_says_why(sighting: Sighting, words: str):
    for known in (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING, State.UNKNOWN):
        verdict = classify(TASK, 1, known, sighting)
        assert isinstance(verdict, Vanished)
        flat = verdict.evidence.replace("ended without saying how the task ended", "ended without saying how")
        assert words in flat
        assert verdict.earlier_boot == sighting.earlier_boot


def test_what_was_reported_once_is_not_forgotten():
    # its files are gone: it is lost, and never started again
    verdict = classify(TASK, 1, State.UNKNOWN, NOTHING, RUNNING)
    assert isinstance(verdict, Vanished)
    assert "last reported state: running" in verdict.evidence and "its files are gone" in verdict.evidence
    # its status is damaged, and it lives
    assert classify(TASK, 1, State.UNKNOWN, replace(LIVES, damage="torn"), PAUSED) == Active(State.PAUSED, PAUSED)
    assert classify(TASK, 1, State.RUNNING, replace(LIVES, status=PAUSED), RUNNING) == Active(State.PAUSED, PAUSED)


STALE = replace(LIVES, process_state="S")


@pytest.mark.parametrize(
    ("sighting", "now", "words"),
    [
        (STALE, 100.0, None),
        (STALE, 135.0, None),
        (STALE, 135.1, "no sign of life for 35 s"),
        (STALE, 10.0, None),  # a pulse from the future is not old
        (replace(STALE, process_state="R"), 10_000.0, None),  # it waits for a processor
        (replace(STALE, process_state="T"), 200.0, "it is stopped (SIGSTOP, or a debugger)"),
        (replace(STALE, process_state="t"), 200.0, "it is stopped (SIGSTOP, or a debugger)"),
        (replace(STALE, process_state="D"), 200.0, "it waits in the kernel"),
        (replace(STALE, process_state=None), 200.0, "no sign of life for 100 s"),
        (replace(STALE, alive=False), 10_000.0, None),  # the dead are not stalled
        (replace(STALE, heartbeat=None), 10_000.0, None),
        (replace(STALE, heartbeat=replace(PULSE, at="1970-01-01T00:00:00.000000Z")), 110.0, None),
    ],
)
def test_who_is_stalled(sighting: Sighting, now: float, words: str | None):
    reason = stall_reason(sighting, now, 35.0)
    if words is None:
        assert reason is None
    else:
        assert reason is not None and words in reason
