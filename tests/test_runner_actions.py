"""What becomes of a task's actions: time limits, further tries, failures that do not matter, and the cleanup."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from attempts import Attempt, attempt, outcomes, shell, states
from conftest import wait_for

from task_runner.lib import backoff, process
from task_runner.lib.verdict import Verdict, judge
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus
from task_runner.model.terms import Retry, RetryOn

Start = Callable[..., Attempt]
__all__ = ["attempt"]

#: waits for a file of that name in the working directory
AWAIT = "for i in $(seq 5000); do [ -e {} ] && break; sleep 0.1; done"


def go(task: Attempt, name: str = "go") -> None:
    Path(task.directory.work, name).touch()


# -- one action after the other


def test_before_the_first_action_none_is_current(attempt: Start):
    task = attempt({"actions": [shell("exit 0")], "secrets": [{"name": "nobody-knows", "env": "X"}]})
    status = task.wait()
    assert (status.outcome, status.current_action_idx, states(status)) == (Outcome.FAILED, -1, ["skipped"])


def test_actions_that_never_start_are_skipped(attempt: Start):
    status = attempt({"actions": [shell("exit 0"), shell("exit 3"), shell("exit 0"), shell("exit 0")]}).wait()
    assert states(status) == ["exited", "exited", "skipped", "skipped"]
    assert outcomes(status) == ["succeeded", "failed", None, None]
    assert [each.tries for each in status.actions] == [1, 1, 0, 0]
    assert (status.outcome, status.exit_code, status.current_action_idx) == (Outcome.FAILED, 3, 1)


def test_output_of_each_action_has_its_place_in_both_files(attempt: Start):
    actions = [shell("echo one; echo err >&2"), shell("echo second; echo second >&2")]
    status = attempt({"actions": actions, "outputMode": "separate"}).wait()
    first, second = status.actions
    assert (first.output_start, first.output_end, second.output_start, second.output_end) == (0, 4, 4, 11)
    assert (first.stderr_start, first.stderr_end, second.stderr_start, second.stderr_end) == (0, 4, 4, 11)
    assert status.stderr is not None
    assert (status.output.bytes, status.stderr.bytes) == (11, 11)


def test_an_action_that_may_fail_does_not_end_the_task(attempt: Start):
    actions = [shell("exit 4", continueOnFailure=True), {"machine": "process", "continueOnFailure": True,
               "parameters": {"command": ["/nonexistent"]}}, shell("echo on; exit 0"), shell("exit 5", continueOnFailure=True)]
    task = attempt({"actions": actions})
    status = task.wait()
    assert task.output == b"on\n"
    assert outcomes(status) == ["failed", "failed", "succeeded", "failed"]
    assert (status.outcome, status.exit_code, status.signal, status.error) == (Outcome.SUCCEEDED, 0, None, None)
    assert status.actions[1].error is not None


def test_where_all_may_fail_and_do_there_is_no_exit_code_to_tell(attempt: Start):
    status = attempt({"actions": [shell("exit 4", continueOnFailure=True)]}).wait()
    assert (status.outcome, status.exit_code) == (Outcome.SUCCEEDED, None)


# -- time limits


def test_an_action_that_takes_too_long_is_stopped_and_the_task_ends_timed_out(attempt: Start):
    for limit in (0.5, 4, 30):  # a machine that stands still for a while may let it pass before the trap is set
        command = shell("trap 'exit 0' TERM; echo set; sleep 600 & wait", timeoutSeconds=limit)
        task = attempt({"actions": [command, shell("echo never")]})
        status = task.wait()
        if task.output:
            break
    assert (status.outcome, status.exit_code) == (Outcome.TIMED_OUT, 0)
    assert outcomes(status) == ["timed_out", None]
    assert status.receipt is not None and status.receipt.reason == "action timeout"
    assert task.output == b"set\n"


def test_an_action_that_may_fail_may_also_take_too_long(attempt: Start):
    status = attempt({"actions": [shell("sleep 600", timeoutSeconds=0.2, continueOnFailure=True), shell("exit 0")]}).wait()
    assert (status.outcome, status.exit_code, outcomes(status)) == (Outcome.SUCCEEDED, 0, ["timed_out", "succeeded"])


def test_a_pause_holds_the_time_limit_of_an_action(attempt: Start):
    task = attempt({"actions": [shell(f"{AWAIT.format('go')}; exit 3", timeoutSeconds=3)]})
    task.until(lambda status: status.state is State.RUNNING)
    task.pause()
    paused = task.until(lambda status: status.state is State.PAUSED)
    # the runner's pulse shows that more than the limit has passed
    wait_for(lambda: pulse(task) > paused.heartbeat.monotonic + 3.5)
    go(task)
    task.resume()
    status = task.wait()
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, 3)
    assert status.paused_seconds >= 3


def pulse(task: Attempt) -> float:
    from task_runner.lib import lock

    heartbeat = lock.probe(task.directory).heartbeat
    assert heartbeat is not None
    return heartbeat.monotonic


def test_the_tasks_own_limit_counts_all_actions_and_all_tries(attempt: Start):
    again = {"count": 1000, "delaySeconds": 0.05, "factor": 1}
    actions = [shell("exit 0"), shell("exit 3", retry=again)]
    for limit in (1, 5, 25):  # a machine that stands still for a while may let it pass before the second try
        status = attempt({"actions": actions, "timeoutSeconds": limit}).wait()
        assert status.outcome is Outcome.TIMED_OUT
        if status.actions[1].tries > 1:
            break
    assert status.exit_code == 3 or status.signal == "SIGTERM"  # between two tries, or in the middle of one
    assert status.actions[1].tries > 1


# -- further tries


def test_an_action_is_tried_again_until_it_succeeds(attempt: Start):
    script = "echo x >> tries; echo said; [ $(wc -l < tries) -ge 3 ]"
    task = attempt({"actions": [shell(script, retry={"count": 5, "delaySeconds": 0.02}), shell("exit 0")]})
    status = task.wait()
    first, second = status.actions
    assert (status.outcome, first.tries, first.outcome, first.exit_code) == (Outcome.SUCCEEDED, 3, Outcome.SUCCEEDED, 0)
    assert (first.output_start, first.output_end, second.output_start) == (0, 15, 15)
    assert task.output == b"said\n" * 3


def test_an_action_that_keeps_failing_is_given_up(attempt: Start):
    status = attempt({"actions": [shell("exit 9", retry={"count": 2, "delaySeconds": 0})]}).wait()
    assert (status.outcome, status.exit_code, status.actions[0].tries) == (Outcome.FAILED, 9, 3)


def test_what_cannot_be_started_is_tried_again_too_and_can_be_paused_meanwhile(attempt: Start):
    missing = {"machine": "process", "parameters": {"command": ["./late"]}, "retry": {"count": 1, "delaySeconds": 3}}
    task = attempt({"actions": [missing]})
    task.until(lambda status: status.actions[0].state == "waiting")
    task.pause()
    paused = task.until(lambda status: status.state is State.PAUSED)
    assert paused.actions[0].state == "waiting" and paused.actions[0].outcome is Outcome.FAILED
    late = Path(task.directory.work, "late")
    late.write_text("#!/bin/sh\nexit 6\n")
    late.chmod(0o700)
    wait_for(lambda: pulse(task) > paused.heartbeat.monotonic + 3.5, "longer than the wait has passed")
    assert task.action().tries == 1
    task.resume()
    status = task.wait()
    assert (status.exit_code, status.actions[0].tries, status.actions[0].error) == (6, 2, None)


def test_a_timeout_is_tried_again_only_where_that_is_asked_for(attempt: Start):
    def run(on: list[str]) -> int:
        again = {"count": 1, "delaySeconds": 0, "on": on}
        status = attempt({"actions": [shell("sleep 600", timeoutSeconds=0.1, retry=again)]}).wait()
        assert status.outcome is Outcome.TIMED_OUT
        return status.actions[0].tries

    assert (run(["timed_out"]), run(["failed"])) == (2, 1)


def test_a_stop_ends_the_wait_for_another_try(attempt: Start):
    task = attempt({"actions": [shell("exit 3", retry={"count": 9, "delaySeconds": 600})]})
    task.until(lambda status: status.actions[0].state == "waiting")
    task.stop()
    status = task.wait()
    assert (status.outcome, states(status), outcomes(status)) == (Outcome.CANCELLED, ["exited"], ["failed"])


def test_a_command_killed_while_paused_waits_for_its_next_try_until_the_resume(attempt: Start):
    script = "[ -e second ] && exit 6; touch second; echo on its way; sleep 600"
    task = attempt({"actions": [shell(script, retry={"count": 1, "delaySeconds": 0})]})
    running = task.until(lambda status: status.state is State.RUNNING)
    pid = running.actions[0].process.pid
    wait_for(lambda: task.output == b"on its way\n", "the first try has left its sign")
    task.pause()
    task.until(lambda status: status.state is State.PAUSED)
    for each in (*process.descendants(pid), process.look(pid)):
        process.send(each, signal.SIGKILL)
    waiting = task.until(lambda status: status.actions[0].state == "waiting")
    assert (waiting.state, waiting.actions[0].signal) == (State.PAUSED, "SIGKILL")
    task.resume()
    status = task.wait()
    assert (status.exit_code, status.actions[0].tries) == (6, 2)


def test_a_stop_of_a_paused_wait_ends_it_with_its_cleanup(attempt: Start):
    task = attempt({"actions": [shell("exit 3", retry={"count": 9, "delaySeconds": 600})], "cleanup": [shell("echo bye")]})
    task.until(lambda status: status.actions[0].state == "waiting")
    task.pause()
    task.until(lambda status: status.state is State.PAUSED)
    task.stop()
    assert (task.wait().outcome, task.output) == (Outcome.CANCELLED, b"bye\n")


def test_a_stopped_action_is_not_tried_again(attempt: Start):
    task = attempt({"actions": [shell("sleep 600", retry={"count": 9, "delaySeconds": 0})]})
    task.until(lambda status: status.state is State.RUNNING)
    task.stop()
    status = task.wait()
    assert (status.outcome, status.actions[0].tries, outcomes(status)) == (Outcome.CANCELLED, 1, ["cancelled"])


def test_waits_grow_by_the_factor_up_to_the_longest_with_a_share_of_chance():
    plain = Retry(count=4, delay_seconds=2, factor=3, max_delay_seconds=20, jitter=0)
    waits = [backoff.delay(plain, tries, Outcome.FAILED, 0.9) for tries in range(1, 6)]
    assert waits == [2, 6, 18, 20, None]
    shaky = Retry(count=1, delay_seconds=10, jitter=0.5)
    assert [backoff.delay(shaky, 1, Outcome.FAILED, chance) for chance in (0, 0.5, 1)] == [5, 10, 15]
    endless = Retry(count=1000, delay_seconds=86_400, factor=100, max_delay_seconds=86_400, jitter=0)
    assert backoff.delay(endless, 1000, Outcome.FAILED, 0) == 86_400
    assert backoff.delay(Retry(on=[RetryOn.LOST]), 1, Outcome.FAILED, 0) is None
    assert backoff.delay(plain, 1, Outcome.SUCCEEDED, 0) is None
    assert all(0 <= backoff.chance() <= 1 for _ in range(100))


# -- cleanup


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (shell("exit 0"), Outcome.SUCCEEDED),
        (shell("exit 3"), Outcome.FAILED),
        (shell("sleep 600", timeoutSeconds=0.1), Outcome.TIMED_OUT),
        ({"machine": "process", "parameters": {"command": ["/nonexistent"]}}, Outcome.FAILED),
    ],
)
def test_the_cleanup_runs_whatever_happened(attempt: Start, action, outcome):
    task = attempt({"actions": [action, shell("exit 0")], "cleanup": [shell("echo a; exit 0"), shell("echo b")]})
    status = task.wait()
    assert (status.outcome, task.output) == (outcome, b"a\nb\n")
    assert [(each.index, each.cleanup) for each in status.actions[2:]] == [(2, True), (3, True)]
    assert states(status)[2:] == ["exited", "exited"]
    assert status.current_action_idx == 3


def test_the_cleanup_runs_after_the_tasks_time_is_over(attempt: Start):
    task = attempt({"actions": [shell("sleep 600")], "timeoutSeconds": 0.2, "cleanup": [shell("sleep 0.4; echo bye")]})
    status = task.wait()
    assert (status.outcome, status.signal, task.output) == (Outcome.TIMED_OUT, "SIGTERM", b"bye\n")
    assert status.receipt is not None and status.receipt.reason == "timeout"


def test_a_stop_is_followed_by_the_cleanup_and_does_not_touch_it(attempt: Start):
    cleanup = shell(f"echo cleaning; {AWAIT.format('go')}; echo cleaned")
    task = attempt({"actions": [shell("sleep 600"), shell("exit 0")], "cleanup": [cleanup]})
    task.until(lambda status: status.state is State.RUNNING)
    task.stop()
    task.said(b"cleaning")
    assert task.until(lambda status: status.current_action_idx == 2).state is State.STOPPING
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        task.send(number)
    last = pulse(task)
    wait_for(lambda: pulse(task) > last, "the runner has had its signals")
    go(task)
    status = task.wait()
    assert task.output == b"cleaning\ncleaned\n"
    assert (status.outcome, outcomes(status)) == (Outcome.CANCELLED, ["cancelled", None, "succeeded"])
    assert (status.signal, status.actions[1].state) == ("SIGTERM", "skipped")
    assert status.receipt is not None and status.receipt.reason == "stop"


def test_a_stop_that_comes_before_anything_has_started_is_followed_by_the_cleanup(attempt: Start, tmp_path: Path):
    import sys

    # the request is there when the runner begins: it was noted between the claim and the first turn
    program = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.kill(os.getpid(), signal.SIGTERM); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    task = attempt({"actions": [shell("echo never")], "cleanup": [shell("echo bye")]}, prefix=[sys.executable, "-c", program])
    status = task.wait()
    assert (task.output, status.outcome, states(status)) == (b"bye\n", Outcome.CANCELLED, ["skipped", "exited"])
    assert (status.exit_code, status.signal) == (None, None)


def test_each_action_of_the_cleanup_runs_whatever_became_of_the_one_before(attempt: Start):
    cleanup = [shell("echo a; exit 1"), {"machine": "process", "parameters": {"command": ["/nonexistent"]}},
               shell("sleep 600", timeoutSeconds=0.1), shell("echo d")]
    task = attempt({"actions": [shell("exit 3")], "cleanup": cleanup})
    status = task.wait()
    assert task.output == b"a\nd\n"
    assert outcomes(status) == ["failed", "failed", "failed", "timed_out", "succeeded"]
    assert (status.outcome, status.exit_code, status.error) == (Outcome.FAILED, 3, None)


@pytest.mark.parametrize(("may_fail", "outcome", "code"), [(False, Outcome.FAILED, 7), (True, Outcome.SUCCEEDED, 0)])
def test_a_cleanup_that_fails_after_success_fails_the_task_unless_it_may(attempt: Start, may_fail, outcome, code):
    cleanup = [shell("exit 7", continueOnFailure=may_fail), shell("exit 0")]
    status = attempt({"actions": [shell("exit 0")], "cleanup": cleanup}).wait()
    assert (status.outcome, status.exit_code) == (outcome, code)


def test_the_cleanup_has_a_time_for_all_of_it_and_what_is_left_of_it_is_skipped(attempt: Start):
    cleanup = [shell("trap '' TERM; sleep 600 & echo deaf; wait"), shell("echo never")]
    for limit in (0.5, 4, 30):  # a machine that stands still for a while may let it pass before both are deaf
        task = attempt({"actions": [shell("exit 0")], "cleanup": cleanup, "cleanupSeconds": limit, "graceSeconds": 0.1})
        status = task.wait()
        if task.output:
            break
    assert (status.outcome, task.output) == (Outcome.FAILED, b"deaf\n")
    assert (outcomes(status), states(status)) == (["succeeded", "timed_out", None], ["exited", "exited", "skipped"])
    assert status.receipt is not None
    assert (status.receipt.reason, status.receipt.killed_count) == ("cleanup timeout", 2)


def test_tries_of_a_cleanup_end_with_its_time(attempt: Start):
    cleanup = [shell("exit 1", retry={"count": 1000, "delaySeconds": 600})]
    status = attempt({"actions": [shell("exit 0")], "cleanup": cleanup, "cleanupSeconds": 0.3}).wait()
    assert (status.outcome, status.actions[1].tries, states(status)) == (Outcome.FAILED, 1, ["exited", "exited"])


def test_a_cleanup_can_be_paused_and_a_stop_lets_it_go_on(attempt: Start):
    task = attempt({"actions": [shell("exit 0")], "cleanup": [shell(f"echo on; {AWAIT.format('go')}; echo done")]})
    task.said(b"on")
    task.until(lambda status: status.state is State.RUNNING and status.current_action_idx == 1)
    task.pause()
    task.until(lambda status: status.state is State.PAUSED)
    go(task)
    task.stop()
    status = task.wait()
    assert (status.outcome, task.output) == (Outcome.SUCCEEDED, b"on\ndone\n")


def test_what_an_action_leaves_behind_is_cleared_before_the_cleanup(attempt: Start):
    leave = "(trap '' TERM; setsid sleep 600) & exit 0"
    cleanup = shell("ps -o pid= --ppid $PPID | wc -l")
    task = attempt({"actions": [shell(leave)], "cleanup": [cleanup, shell(leave)], "graceSeconds": 0.1})
    status = task.wait()
    assert task.output.split() == [b"1"]  # itself
    assert status.outcome is Outcome.SUCCEEDED
    assert status.receipt is not None and status.receipt.reason == "leftovers"


def test_what_the_cleanup_leaves_behind_does_not_hide_what_the_stop_did(attempt: Start):
    leave = shell("(trap '' TERM; setsid sleep 600) & exit 0")
    task = attempt({"actions": [shell("sleep 600")], "cleanup": [leave], "graceSeconds": 0.1})
    task.until(lambda status: status.state is State.RUNNING)
    task.stop()
    status = task.wait()
    assert status.receipt is not None
    assert (status.receipt.reason, status.outcome) == ("stop", Outcome.CANCELLED)


def test_a_runner_that_dies_in_its_cleanup_leaves_what_can_be_cleared(attempt: Start):
    task = attempt({"actions": [shell("exit 0")], "cleanup": [shell("echo on; sleep 600")]})
    task.said(b"on")
    task.runner.kill()
    task.runner.wait()
    # what was said before it comes is no sign that it is there
    wait_for(lambda: {each.command for each in process.marked(task.id)} >= {"sleep"}, "the command lives on")


def test_indexes_and_marks_reach_the_commands(attempt: Start):
    echo = "echo $TASK_RUNNER_ACTION $TASK_RUNNER_ATTEMPT"
    task = attempt({"actions": [shell(echo), shell(echo)], "cleanup": [shell(echo)]})
    task.wait()
    assert task.output == b"0 1\n1 1\n2 1\n"


# -- the verdict


def ended(index: int, outcome: Outcome | None, *, cleanup: bool = False) -> ActionStatus:
    return ActionStatus(index=index, machine="process", outcome=outcome, cleanup=cleanup, tries=int(outcome is not None))


S, F, T, C = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED


@pytest.mark.parametrize(
    ("own", "cleanup", "tolerated", "why", "prepared", "verdict"),
    [
        ([S, S], [], (), None, True, (S, 1)),
        ([F, None], [], (), None, True, (F, 0)),
        ([T, None], [F], (), None, True, (T, 0)),
        ([F, S], [], (0,), None, True, (S, 1)),
        ([F], [], (0,), None, True, (S, None)),
        ([S], [F], (), None, True, (F, 1)),
        ([S], [T], (), None, True, (F, 1)),
        ([S], [S, None], (), None, True, (F, 2)),
        ([S], [F], (1,), None, True, (S, 0)),
        ([C, None], [F], (), "stop", True, (C, 0)),
        ([S, None], [S], (), "stop", True, (C, 0)),
        ([None], [S], (), "stop", True, (C, None)),
        ([T], [], (), "timeout", True, (T, 0)),
        ([T], [], (), "stalled", True, (T, 0)),
        ([None], [S], (), None, False, (F, None)),
    ],
)
def test_how_a_task_ended_follows_from_its_actions(own, cleanup, tolerated, why, prepared, verdict):
    actions = [ended(index, outcome) for index, outcome in enumerate(own)]
    actions += [ended(len(own) + index, outcome, cleanup=True) for index, outcome in enumerate(cleanup)]
    may_fail = [index in tolerated for index in range(len(actions))]
    outcome, index = verdict
    expected = Verdict(outcome, None if index is None else actions[index])
    assert judge(actions, may_fail, interrupted_by=why, prepared=prepared) == expected
