"""What is known of a task is put into order and words: facts only, null where they are not known."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, verb, wait_for

from task_runner.environment.base import Sighting
from task_runner.lib import portrait, process
from task_runner.lib.clock import stamp
from task_runner.lib.portrait import Portrait
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, Heartbeat, Identity, Receipt, Status
from task_runner.model.terms import StallPolicy, StallThen
from task_runner.service.explain import explain
from task_runner.service.explanation import Explanation, Facts, LastOutput, Predecessor
from task_runner.service.facts import EXCERPT, _command
from task_runner.service.task import Past, Record, Stall, StopIntent
from task_runner.service.wording import channel_words, ending_words, process_words, span, state_words

NOW = 2_000_000_000.0
RUNNER = Identity(pid=100, start_time=1, boot_id="boot")


def ago(seconds: float) -> str:
    return stamp(NOW - seconds)


def spec(count: int = 1, **more: Any) -> Spec:
    actions = [Action(machine="process", parameters={"command": ["x"]}, name=f"step{n}") for n in range(count)]
    return Spec(actions=actions, **more)


def status(at: int = 0, of: int = 1, **more: Any) -> Status:
    actions = [ActionStatus(index=n, machine="process", name=f"step{n}") for n in range(of)]
    if at >= 0:
        state = "exited" if more.get("outcome") else "running"
        actions[:at] = [replace(each, state="exited", outcome=Outcome.SUCCEEDED, tries=1) for each in actions[:at]]
        actions[at] = replace(actions[at], state=state, started_at=ago(720), tries=1)
    defaults: dict[str, Any] = {"state": State.RUNNING, "started_at": ago(800)}
    return Status(
        task_id="a" * 16,
        runner=RUNNER,
        heartbeat=Heartbeat(at=ago(3), monotonic=1.0),
        current_action_idx=at,
        actions=actions,
        **{**defaults, **more},
    )


def facts(state: State, status: Status | None = None, **more: Any) -> Facts:
    of_record = {name: more.pop(name) for name in ("outcome", "finished_at", "error", "receipt", "previous", "execute_at", "retry_at") if name in more}
    record = Record(state=state, created_at=ago(900), status=status, **of_record)
    more.setdefault("spec", spec(len(status.actions) if status else 1))
    return Facts(task_id="a" * 16, record=record, now=NOW, **more)


def sighting(**more: Any) -> Sighting:
    return Sighting(claimed=True, runner=RUNNER, **{"alive": True, "process_state": "S", **more})


def seen(pid: int, name: str, state: str, channel: str | None = None, ppid: int = 100) -> Portrait:
    return Portrait(pid=pid, ppid=ppid, name=name, command=name, state=state, wait_channel=channel)


def told(found: Explanation) -> str:
    assert 1 <= len(found.summary) <= 5
    for sentence in found.summary:
        assert sentence.endswith(".")
        assert "None" not in sentence
    return " ".join(found.summary)


# -- tasks that wait


def test_a_scheduled_task_says_when():
    found = explain(facts(State.SCHEDULED, execute_at="2040-01-01T00:00:00.000000Z"))
    assert "2040-01-01" in told(found)
    assert found.waits_for is not None
    assert found.runner is found.ending is found.action is None


def test_a_pending_task_says_for_what_and_for_how_long():
    found = explain(facts(State.PENDING, pending_reason="needs 4 CPUs, 2 free"))
    assert told(found) == "It has been waiting for 15 min: needs 4 CPUs, 2 free."
    assert (found.since, found.since_seconds) == (ago(900), 900)


def test_the_place_in_the_line_of_an_entity_is_told():
    given = facts(State.PENDING, spec=spec(entity="gs-17"), ahead=["b" * 16, "c" * 16])
    found = explain(given)
    assert "2 tasks of entity 'gs-17' come before it: the next is " + "b" * 16 in told(found)
    assert found.waits_for is not None
    assert (found.waits_for.ahead_count, found.waits_for.entity) == (2, "gs-17")
    given = facts(State.PENDING, spec=spec(entity="gs-17"), ahead=["b" * 16])
    assert "1 task of entity 'gs-17' comes before it: the next is" in told(explain(given))


def test_the_first_predecessor_that_is_not_over_is_named():
    over = Predecessor(task_id="b" * 16, on="end", state="exited", outcome="failed")
    running = Predecessor(task_id="c" * 16, on="success", state="running")
    assert "Task " + "c" * 16 in told(explain(facts(State.PENDING, after=[over, running])))


def test_a_next_attempt_says_how_the_last_one_ended():
    past = Past(attempt=1, outcome=Outcome.FAILED, exit_code=3, finished_at=ago(10))
    found = explain(facts(State.PENDING, previous=[past], retry_at=ago(-5)))
    assert "the one before ended with exit code 3" in told(found)
    assert found.since_seconds == 10


# -- tasks that run


def test_a_running_task_in_the_words_of_a_person():
    given = facts(
        State.RUNNING,
        status(1, 3),
        sighting=sighting(),
        pulse_age=3.0,
        output=[LastOutput(stream="output", bytes=9, written_at=ago(300), age_seconds=300.0, text="building\n")],
        processes=[seen(100, "python", "S"), seen(101, "make", "S", "do_wait"), seen(102, "ld", "D", "io_schedule", 101)],
        process_count=3,
    )
    found = explain(given)
    assert told(found) == (
        "It runs action 2 of 3 (step1) for 12 min. Its last output was 5 min ago. "
        "Process 102 (ld) waits in the kernel for a disk (state D, io_schedule)."
    )
    assert found.runner is not None
    assert (found.runner.pid, found.runner.alive, found.runner.heartbeat_age_seconds) == (100, True, 3.0)
    assert [each.runner for each in found.processes] == [True, False, False]
    assert found.action is not None
    assert (found.action.index, found.action.of, found.action.elapsed_seconds) == (1, 3, 720)
    assert found.ending is found.stop is found.waits_for is None


def test_what_is_left_of_time_limits_leaves_out_pauses():
    limited = replace(spec(1), timeout_seconds=1000.0)
    found = explain(facts(State.RUNNING, status(paused_seconds=50.0), spec=limited, sighting=sighting()))
    assert found.limits.timeout_left_seconds == 1000 - 800 + 50
    assert "4 min of its time limit of 16 min are left." in told(found)
    action = replace(limited.actions[0], timeout_seconds=900.0)
    found = explain(facts(State.RUNNING, status(), spec=replace(limited, actions=[action]), sighting=sighting()))
    assert found.action is not None
    assert found.action.timeout_left_seconds == 900 - 720


def test_a_clock_that_was_set_back_makes_times_unknown_not_negative():
    given = replace(facts(State.RUNNING, status(), sighting=sighting()), now=NOW - 10_000)
    found = explain(given)
    assert found.since_seconds is None
    assert found.action is not None
    assert (found.action.elapsed_seconds, found.limits.timeout_left_seconds) == (None, None)
    assert told(found).startswith("It runs action 1 of 1 (step0).")


def test_a_stop_says_who_wants_it_and_what_is_left_of_the_grace():
    intent = StopIntent(requested_at=ago(4), signal="SIGINT", grace_seconds=10.0)
    found = explain(facts(State.STOPPING, status(), intent=intent, sighting=sighting()))
    assert "because somebody asked for it; 6.0 s of the grace are left" in told(found)
    assert found.stop is not None
    assert (found.stop.signal, found.stop.grace_left_seconds) == ("SIGINT", 6)
    found = explain(facts(State.STOPPING, status(), sighting=sighting()))
    assert "nobody asked for it" in told(found)
    assert found.since is None


def test_stalled_paused_and_dead_runners_are_named():
    stalled = Stall(reason="no output, no processor time and no progress for 300 s", since=ago(300))
    policy = StallPolicy(after_seconds=300.0, then=StallThen.STOP)
    found = explain(facts(State.RUNNING, status(), spec=spec(stall=policy), stalled=stalled, sighting=sighting()))
    assert "It counts as stalled since" in told(found)
    assert (found.limits.stall_after_seconds, found.limits.stall_then) == (300, "stop")
    found = explain(facts(State.PAUSED, status(paused_at=ago(60)), sighting=sighting()))
    assert told(found).startswith("It is paused for 60 s, at action 1 of 1 (step0).")
    found = explain(facts(State.RUNNING, status(), sighting=sighting(alive=False, process_state=None)))
    assert "Its runner (pid 100) is not alive." in told(found)


@pytest.mark.parametrize("state", [State.STARTING, State.PROVISIONING, State.UNKNOWN, State.RUNNING, State.STOPPING, State.PAUSED])
def test_a_task_of_which_nothing_is_known_has_an_explanation_too(state: State):
    found = explain(facts(state))
    assert told(found)
    assert found.runner is found.action is None
    found = explain(facts(state, sighting=Sighting()))
    assert found.runner is None


def test_the_process_that_tells_most_is_chosen():
    runner = seen(100, "python", "S", "do_poll")

    def choice(*processes: Portrait) -> str:
        return told(explain(facts(State.RUNNING, status(), sighting=sighting(), processes=[runner, *processes])))

    assert "Process 102 (cc1) runs, or waits for a processor (state R)." in choice(
        seen(101, "make", "S", "do_wait"), seen(102, "cc1", "R"), seen(103, "sh", "S")
    )
    assert "Process 103 (sleep) waits for a time to pass" in choice(
        seen(101, "sh", "S", "do_wait"), seen(103, "sleep", "S", "hrtimer_nanosleep")
    )
    assert "Process" not in choice()


# -- tasks that are over


def ended(outcome: Outcome, **more: Any) -> Facts:
    known = {name: more.pop(name) for name in ("exit_code", "signal") if name in more}
    last = status(1, 3, outcome=outcome, **known)
    return facts(State.EXITED, last, outcome=outcome, finished_at=ago(60), **more)


def test_a_failure_names_the_action_and_what_its_exit_code_means():
    found = explain(ended(Outcome.FAILED, exit_code=127))
    assert told(found) == (
        "It ended 60 s ago after 12 min: failed. Action 2 of 3 (step1) ended with exit code 127 "
        "(what a shell says of a command that it cannot find)."
    )
    assert found.ending is not None
    assert found.ending.ran_seconds == 740


def test_the_action_that_failed_is_named_and_not_the_cleanup_after_it(shared: Daemon):
    failing = [{"machine": "process", "parameters": {"shell": f"exit {code}"}} for code in (0, 3, 0)]
    tidy = [{"machine": "process", "parameters": {"command": ["true"]}}]
    task_id = shared.post("/v1/tasks", {"actions": failing, "cleanup": tidy}).json()["taskId"]
    shared.wait(task_id)
    found = shared.http.get(f"/v1/tasks/{task_id}/explain").json()
    assert "Action 2 of 4 (process) ended with exit code 3." in found["summary"]
    assert (found["action"]["index"], found["action"]["cleanup"]) == (1, False)


def test_a_kill_that_nobody_here_asked_for_is_called_that():
    text = told(explain(ended(Outcome.FAILED, signal="SIGKILL")))
    assert "ended by SIGKILL" in text
    assert "No stop was asked for" in text
    asked = StopIntent(requested_at=ago(70))
    text = told(explain(ended(Outcome.CANCELLED, signal="SIGKILL", intent=asked, receipt=Receipt(reason="stop"))))
    assert "No stop was asked for" not in text
    assert "Somebody asked for the stop." in text


@pytest.mark.parametrize(
    ("reason", "words"), [("timeout", "Its time limit"), ("stalled", "stall policy"), ("action timeout", "action's time")]
)
def test_what_stopped_it_is_said(reason: str, words: str):
    text = told(explain(ended(Outcome.TIMED_OUT, signal="SIGTERM", receipt=Receipt(reason=reason))))
    assert words in text
    assert "No stop was asked for" not in text


def test_a_success_needs_one_sentence():
    assert told(explain(ended(Outcome.SUCCEEDED, exit_code=0))) == "It ended 60 s ago after 12 min: succeeded."


def test_a_lost_task_shows_the_evidence():
    evidence = "its runner (pid 7) ended without saying how the task ended"
    found = explain(facts(State.LOST, outcome=Outcome.LOST, finished_at=ago(5), error=evidence))
    assert told(found) == f"It ended 5.0 s ago: lost. I{evidence[1:]}."


def test_a_task_cancelled_while_it_waited():
    found = explain(facts(State.EXITED, outcome=Outcome.CANCELLED, finished_at=ago(5), error="task b failed"))
    assert told(found) == "It ended 5.0 s ago: cancelled. Task b failed."
    assert found.ending is not None
    assert (found.ending.exit_code, found.ending.ran_seconds) == (None, None)


# -- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (119, "119 s"), (120, "2 min"), (3600, "1 h 0 min"), (90_000, "1 day 1 h")],
)
def test_spans_of_time(seconds: float, words: str):
    assert span(seconds) == words


def test_letters_and_channels_that_nobody_has_met_are_shown_as_they_are():
    assert state_words("Q") == "is in state Q"
    assert channel_words("some_new_function") is channel_words(None) is None
    assert process_words(seen(1, "x", "S", "some_new_function")) == "Process 1 (x) waits (state S, some_new_function)."
    assert (ending_words(0, None), ending_words(1, None), ending_words(None, "SIGUSR1")) == (None, None, None)
    assert "SIGKILL" in (ending_words(137, None) or "")


def test_a_command_line_is_masked_before_it_is_cut():
    secret = b"s" * 290 + b"ecret"
    shown = _command("curl " + secret.decode() + " end", [secret])
    assert "s" * 20 not in shown
    long = _command("x" * 290 + secret.decode() + "y" * 20_000, [secret])
    assert len(long) == 300
    assert "sss" not in long


# -- portraits


def test_a_portrait_of_a_process_that_is_known():
    code = "import time\nwhile time.process_time() < 0.05: pass\ntime.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code, "an argument"])
    try:
        found = wait_for(lambda: (p := _portrait(child.pid)) and p.cpu_seconds >= 0.03 and p.state == "S" and p)
        assert (found.pid, found.ppid) == (child.pid, os.getpid())
        assert found.command.endswith("an argument")
        assert 1_000_000 < found.rss_bytes < 1_000_000_000
        assert found.open_files_limit
        assert 0 <= found.age_seconds < PATIENCE * 10
        assert found.wait_channel != "0"
    finally:
        child.kill()
    wait_for(lambda: (p := _portrait(child.pid)) and p.state == "Z")
    zombie = _portrait(child.pid)
    assert zombie is not None
    assert (zombie.command.startswith("["), zombie.rss_bytes) == (True, None)
    child.wait()
    assert _portrait(child.pid) is None


def _portrait(pid: int) -> Portrait | None:
    known = process.look(pid)
    return next(iter(portrait.portray([known])), None) if known else None


def test_a_pid_that_is_somebody_elses_by_now_has_no_portrait():
    known = process.look(os.getpid())
    assert known is not None
    assert portrait.portray([known._replace(start_time=known.start_time - 1)]) == []


# -- a daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all: no test here minds the tasks of the others."""
    found = Daemon(tmp_path_factory.mktemp("explain") / "state")
    try:
        yield found.start()
    finally:
        found.close()


def explained(daemon: Daemon, task_id: str) -> dict[str, Any]:
    response = daemon.http.get(f"/v1/tasks/{task_id}/explain")
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_running_task_is_explained_with_its_processes_and_its_last_words(daemon: Daemon):
    task_id = daemon.submit(
        "sh", "-c", "echo hello; sh -c 'sleep 1000; :'; :", timeoutSeconds=3000, tags={"x": "y"}
    )

    def whole() -> Any:
        found = explained(daemon, task_id)
        names = [each["command"].split()[0] for each in found["processes"]]
        # each view is a moment's
        others = [each for each in found["processes"] if not each["runner"]]
        asleep = all(each["state"] == "S" for each in others)
        return found["state"] == "running" and found["action"] and names.count("sleep") and len(names) == 4 and asleep and found

    found = wait_for(whole)
    by_command = {each["command"]: each for each in found["processes"] if not each["runner"]}
    sleep = by_command["sleep 1000"]
    assert sleep["ppid"] == by_command["sh -c sleep 1000; :"]["pid"]
    assert found["processCount"] == 4
    assert found["runner"]["pid"] == daemon.runner_pid(task_id) == found["processes"][0]["pid"]
    assert found["runner"]["alive"] is True
    assert 0 <= found["runner"]["heartbeatAgeSeconds"] < PATIENCE
    assert (found["action"]["index"], found["action"]["of"]) == (0, 1)
    assert 2000 < found["limits"]["timeoutLeftSeconds"] <= 3000
    assert found["limits"]["openFiles"] > 0
    assert found["lastOutput"][0]["text"] == "hello\n"
    assert found["ending"] is None
    assert "It runs action 1 of 1 (process)" in found["summary"][0]
    assert f"Process {sleep['pid']} (sleep)" in found["summary"][-1]


def test_a_runner_that_does_not_beat_is_seen(daemon: Daemon):
    task_id = daemon.submit("sleep", "1000")
    daemon.wait_state(task_id, "running")
    os.kill(daemon.runner_pid(task_id), signal.SIGSTOP)

    def silent() -> Any:
        found = explained(daemon, task_id)
        # it may have been late, and called stalled, before the signal reached it
        return found["stalled"] and found["runner"]["state"] == "T" and found["runner"]["heartbeatAgeSeconds"] > 1 and found

    found = wait_for(silent, "it stands still, and is called stalled")
    assert found["runner"]["stateWords"] == "is stopped by a signal"
    assert any("stalled" in sentence for sentence in found["summary"])


def test_tasks_that_wait_and_tasks_that_are_over_are_explained(daemon: Daemon):
    first = daemon.submit("sleep", "1000", entity="gs-17")
    second = daemon.submit("true", entity="gs-17")
    third = daemon.submit("true", entity="gs-17", after=[{"task": second}])
    found = explained(daemon, third)
    assert found["state"] == "pending"
    assert found["waitsFor"]["ahead"] == [first, second]
    assert found["waitsFor"]["after"] == [{"taskId": second, "on": "success", "state": "pending", "outcome": None}]
    assert (found["runner"], found["processes"], found["lastOutput"]) == (None, [], [])
    assert found["waitsFor"]["reason"] == daemon.task(third)["pendingReason"]
    daemon.post(f"/v1/tasks/{first}/stop", {"graceSeconds": 0})
    daemon.wait(third)
    found = explained(daemon, first)
    assert found["ending"]["outcome"] == "cancelled"
    assert found["ending"]["stopRequested"] is True
    assert "cancelled" in found["summary"][0]


def test_a_kill_from_elsewhere_is_told_from_a_stop(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "echo last words; kill -KILL $$")
    daemon.wait(task_id)
    found = explained(daemon, task_id)
    assert (found["ending"]["signal"], found["ending"]["stopRequested"]) == ("SIGKILL", False)
    assert any("No stop was asked for" in sentence for sentence in found["summary"])
    assert found["lastOutput"][0]["text"] == "last words\n"


def test_only_the_end_of_a_long_output_is_shown_and_whole_lines_of_it(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "seq 1 100000")
    daemon.wait(task_id)
    (last,) = explained(daemon, task_id)["lastOutput"]
    lines = last["text"].splitlines()
    assert (len(last["text"]) <= EXCERPT, lines[-1]) == (True, "100000")
    assert lines[0] == str(100_001 - len(lines))
    binary = daemon.submit("sh", "-c", r"printf '\377\376'")
    daemon.wait(binary)
    (last,) = explained(daemon, binary)["lastOutput"]
    assert (last["text"], base64.b64decode(last["base64"])) == (None, b"\xff\xfe")


def test_an_explanation_never_shows_a_secret(make_daemon: Any, tmp_path: Path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("the-very-secret-value")
    daemon = make_daemon(secrets_dir=tmp_path / "secrets").start()
    command = 'echo "$KEY"; sh -c "sleep 1000 || :" "$KEY"; :'
    task_id = daemon.submit("sh", "-c", command, secrets=[{"name": "key", "env": "KEY"}])
    found = wait_for(lambda: (e := explained(daemon, task_id))["processCount"] == 4 and e)
    assert "the-very-secret-value" not in json.dumps(found)
    assert any("*********************" in each["command"] for each in found["processes"])


def test_an_unknown_task_cannot_be_explained(daemon: Daemon):
    assert daemon.http.get("/v1/tasks/" + "0" * 16 + "/explain").status_code == 404


def test_the_command_line_explains(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", r"printf 'a\033[2Jb\n'; sleep 1000; :")

    def whole() -> bool:
        found = explained(daemon, task_id)  # its start may not have been told, nor the shell's child be the sleep yet
        return found["state"] == "running" and any(each["command"] == "sleep 1000" for each in found["processes"])

    wait_for(whole, "its command sleeps")
    shown = verb(daemon, "explain", task_id).stdout
    assert shown.startswith("It runs action 1 of 1 (process)")
    assert "    sleep 1000" in shown
    assert "(the runner)" in shown
    assert "\x1b" not in shown
    assert json.loads(verb(daemon, "explain", task_id, "--json").stdout)["taskId"] == task_id
