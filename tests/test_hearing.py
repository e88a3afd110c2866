"""What machines say to their runner, and how one that stands for something elsewhere is followed, stopped and paused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attempts import Attempt, attempt, shell, states  # noqa: F401  a fixture
from conftest import PATIENCE, wait_for

from task_runner.lib import process, signals
from task_runner.lib.clock import stamp
from task_runner.lib.hearing import ROOM, Ending, Said, parse
from task_runner.lib.speech import kill_marked
from task_runner.model.codec import to_json
from task_runner.model.state import Event, Outcome, State
from task_runner.model.status import ContainerNote, LimitNote


def said(**note: object) -> bytes:
    return json.dumps(note).encode()


NOTE = {"engine": "podman", "name": "c", "image": "i"}


@pytest.mark.parametrize(
    ("line", "means"),
    [
        (said(state="provisioning"), Said(event=Event.PROVISION)),
        (said(state="running"), Said(event=Event.SPAWN)),
        (said(paused=True), Said(paused=True)),
        (said(paused=False), Said(paused=False)),
        (said(process=4711), Said(process=4711)),
        (said(container=NOTE), Said(container=ContainerNote(engine="podman", name="c", image="i"))),
        (said(ended={"exitCode": 0}), Said(ending=Ending(outcome=Outcome.SUCCEEDED, exit_code=0))),
        (
            said(ended={"exitCode": 3, "signal": None, "oomKilled": False}),
            Said(ending=Ending(outcome=Outcome.FAILED, exit_code=3, oom_killed=False)),
        ),
        (
            said(ended={"exitCode": None, "signal": "SIGKILL", "oomKilled": True}),
            Said(ending=Ending(outcome=Outcome.FAILED, signal="SIGKILL", oom_killed=True)),
        ),
        (said(failed="no such image"), Said(ending=Ending(outcome=Outcome.FAILED, reason="no such image"))),
        (said(lost="it is gone"), Said(ending=Ending(outcome=Outcome.LOST, reason="it is gone"))),
    ],
)
def test_what_a_line_means(line, means):
    assert parse(line) == means


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        said(state="exited"),
        said(state=1),
        said(paused="yes"),
        said(process=True),
        said(process=-1),
        said(process=10**30),
        said(container={"engine": 1}),
        said(container=[]),
        said(ended={}),
        said(ended={"exitCode": True}),
        said(ended={"exitCode": 0.0}),
        said(ended={"signal": "SIGNOTHING"}),
        said(failed=None),
        said(lost={}),
        said(whatever=1),
    ],
)
def test_what_makes_no_sense_is_ignored(line):
    assert parse(line) is None


@pytest.mark.parametrize(
    "more",
    [
        {"limits": [to_json(LimitNote(limit="pids", asked=1.0, by=None, note="\N{SNOWMAN}" * 1000))] * 50},
        {"name": "n" * 10_000, "image": "\U0001f4a9" * 10_000, "id": "\x00" * 10_000},
        {"outputNote": "\x01" * 100_000},
        {"stage": "\x01" * 10_000, "error": "\N{SNOWMAN}" * 10_000, "signal": "S" * 10_000},
        {"exitCode": 10**4000},
        {"accounting": {"by": "cgroup v2" * 1000}},
        {"accounting": {"by": "cgroup v2", "memoryPeakBytes": 10**4000}},
    ],
)
def test_whatever_is_said_of_a_container_fits_into_the_last_status(more):
    found = parse(said(container={**NOTE, **more}))
    assert found is not None
    assert found.container is not None
    assert len(json.dumps(to_json(found.container))) <= ROOM




# -- a runner and a machine that says what the test wants


RUNS = "say(state='running'); "
OVER = "say(ended={'exitCode': 0}); "


def remote(first: str, **more: Any) -> dict[str, Any]:
    """An action whose process does this; ``parameters`` may say what one does that takes it up."""
    return {"machine": "container", "parameters": {"first": first, **more.pop("parameters", {})}, **more}


@pytest.fixture
def sayer(attempt: Callable[..., Attempt]) -> Callable[..., Attempt]:  # noqa: F811
    """Starts a runner of such actions."""

    def start(*actions: dict[str, Any], follows: Attempt | None = None, **spec: Any) -> Attempt:
        more = {} if follows is None else {"path": Path(follows.directory.task), "follows": follows}
        return attempt({"actions": list(actions), **spec}, kind="sayer", **more)

    return start


def word(it: Attempt, name: str) -> list[str]:
    path = Path(it.directory.work) / name
    return path.read_text().splitlines() if path.exists() else []


def touch(it: Attempt, name: str) -> None:
    (Path(it.directory.work) / name).touch()


def test_a_machine_says_how_it_gets_on_and_how_it_ended(sayer):
    it = sayer(remote("stage.note(id='c1'); stage.wait('a'); say(state='running'); stage.wait('b'); say(ended={'exitCode': 3})"))
    told = it.until(lambda status: status.actions[0].container, "its container is told")
    assert told.state is State.PROVISIONING
    assert told.actions[0].container == ContainerNote(engine="podman", name="it", image="i", id="c1")
    touch(it, "a")
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    touch(it, "b")
    status = it.wait()
    assert (status.state, status.outcome, status.exit_code, status.error) == (State.EXITED, Outcome.FAILED, 3, None)
    assert word(it, "starts") == ["first 1"]


def test_the_ending_it_said_counts_however_its_process_ends(sayer):
    it = sayer(remote(RUNS + OVER + "stage.die()"))
    assert (status := it.wait()).outcome is Outcome.SUCCEEDED
    assert (status.exit_code, status.signal, word(it, "starts")) == (0, None, ["first 1"])


def test_what_could_not_be_provided_fails_with_the_reason(sayer):
    status = sayer(remote("say(state='provisioning'); say(failed='no such image')")).wait()
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, None)
    assert status.error == "provisioning failed: no such image"


def test_a_failed_try_is_followed_by_another_as_the_action_says(sayer):
    first = "say(failed='later') if stage.context.tries < 3 else say(state='running') or say(ended={'exitCode': 0})"
    it = sayer(remote(first, retry={"count": 5, "delaySeconds": 0.01}))
    assert it.wait().outcome is Outcome.SUCCEEDED
    assert word(it, "starts") == ["first 1", "first 2", "first 3"]


def test_lost_ends_the_task_whatever_may_fail_and_the_cleanup_runs(sayer):
    it = sayer(
        remote(RUNS + "say(lost='it is gone')", continueOnFailure=True, retry={"count": 5, "delaySeconds": 0.01}),
        shell("echo never"),
        cleanup=[shell("echo tidied")],
    )
    status = it.wait()
    assert (status.state, status.outcome, status.exit_code) == (State.LOST, Outcome.LOST, None)
    assert status.error == "how it ended is not known: it is gone"
    assert states(status) == ["exited", "skipped", "exited"]
    assert it.output == b"tidied\n"


def test_a_container_killed_for_lack_of_memory_fails_for_that_reason(sayer):
    status = sayer(remote(RUNS + "say(ended={'exitCode': 137, 'oomKilled': True})")).wait()
    assert (status.outcome, status.exit_code, status.oom_killed) == (Outcome.FAILED, 137, True)
    assert "out of memory" in (status.error or "")


def test_nonsense_and_floods_are_ignored(sayer):
    flood = "stage.raw(b'x' * 300_000 + b'\\n{\"state\": 1}\\n[]\\n' + b'\\xff' * 70_000 + b'\\n' + b'{}\\n' * 10_000); "
    status = sayer(remote(flood + RUNS + OVER)).wait()
    assert (status.outcome, status.exit_code) == (Outcome.SUCCEEDED, 0)


def test_only_the_first_ending_counts(sayer):
    status = sayer(remote(RUNS + "say(ended={'exitCode': 4}); say(ended={'exitCode': 0}); say(lost='x')")).wait()
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, 4)


def test_a_polite_stop_is_passed_on_and_the_ending_is_its_own(sayer):
    it = sayer(remote(RUNS + "stage.take(); stage.take(); say(ended={'exitCode': 5})"), stopSignal="SIGINT")
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.stop()
    status = it.wait()
    assert (status.outcome, status.exit_code) == (Outcome.CANCELLED, 5)
    assert sorted(word(it, "signals")) == ["SIGCONT", "SIGINT"]
    assert status.receipt is not None
    assert (status.receipt.reason, status.receipt.container) == ("stop", "SIGINT passed on")


def test_after_the_grace_it_is_told_to_kill(sayer):
    first = RUNS + "\nwhile stage.take() != 'KILL': pass\nsay(ended={'exitCode': 137})"
    it = sayer(remote(first), graceSeconds=0.2)
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.stop()
    status = it.wait()
    assert (status.outcome, status.exit_code) == (Outcome.CANCELLED, 137)
    assert status.receipt is not None
    assert status.receipt.container == "SIGTERM passed on; killed when the grace was over"


def test_sigkill_is_asked_for_and_not_sent_to_the_machine_itself(sayer):
    first = RUNS + "\nwhile stage.take() != 'KILL': pass\nsay(ended={'signal': 'SIGKILL'})"
    it = sayer(remote(first), stopSignal="SIGKILL")
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.stop()
    status = it.wait()
    assert (status.outcome, status.signal, word(it, "starts")) == (Outcome.CANCELLED, "SIGKILL", ["first 1"])


def test_what_does_not_obey_is_ended_and_what_it_ran_is_killed(sayer, monkeypatch):
    monkeypatch.setenv("SAYER_OBEYS_WITHIN", "0.5")
    it = sayer(remote("stage.note(); " + RUNS + "stage.hang()"), graceSeconds=0.1)
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    # stands for a process of the container: none of the runner's descendants
    elsewhere = subprocess.Popen(["sleep", "600"], env={**os.environ, process.MARK: it.id})
    try:
        it.stop()
        assert elsewhere.wait(PATIENCE) == -signal.SIGKILL
    finally:
        elsewhere.kill()
        elsewhere.wait()
    status = it.wait()
    assert (status.outcome, status.exit_code) == (Outcome.CANCELLED, None)
    assert status.receipt is not None
    assert "it could not be removed (" in (status.receipt.container or "")
    assert status.receipt.survivors == []
    assert status.actions[0].container is not None
    assert status.actions[0].container.left


def test_who_has_been_killed_has_time_to_die(monkeypatch):
    """As one that gets no processor for a while: it is no survivor."""
    reached, send = [], process.send

    def late(each: process.Process, number: int) -> bool:
        if number != signal.SIGKILL:
            return send(each, number)
        reached.append(each.pid)
        return len(reached) < 7 or send(each, number)

    monkeypatch.setattr(process, "send", late)
    task_id = os.urandom(8).hex()
    slow = subprocess.Popen(["sleep", "600"], env={**os.environ, process.MARK: task_id})
    try:
        assert kill_marked(task_id) == []
        assert slow.wait(PATIENCE) == -signal.SIGKILL
        assert reached[0] == slow.pid
    finally:
        slow.kill()
        slow.wait()


def test_a_client_s_signals_are_passed_on(sayer):
    it = sayer(remote(RUNS + "say(ended={'exitCode': 0}) if stage.take() == 'SIGUSR1' else stage.hang()"))
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.send(signals.forwarding(signal.SIGUSR1))
    assert it.wait().outcome is Outcome.SUCCEEDED


def test_it_is_paused_when_it_says_so_and_not_before(sayer):
    first = RUNS + "stage.take(); stage.wait('a'); say(paused=True); stage.take(); stage.wait('b'); say(paused=False); stage.wait('c'); "
    it = sayer(remote(first + OVER))
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.pause()
    wait_for(lambda: word(it, "signals") == ["SIGTSTP"], "it was asked to pause")
    assert it.until(lambda _: True).state is State.RUNNING
    touch(it, "a")
    it.until(lambda status: status.state is State.PAUSED and status.paused_at, "it is paused")
    it.resume()
    wait_for(lambda: word(it, "signals") == ["SIGTSTP", "SIGCONT"], "it was asked to go on")
    assert it.until(lambda _: True).state is State.PAUSED
    touch(it, "b")
    it.until(lambda status: status.state is State.RUNNING and status.paused_at is None, "it goes on")
    touch(it, "c")
    assert (status := it.wait()).outcome is Outcome.SUCCEEDED
    assert status.paused_seconds > 0


def test_another_process_takes_the_same_try_up(sayer):
    it = sayer(remote(RUNS + "stage.die()", parameters={"next": RUNS + "say(ended={'exitCode': 6})"}))
    status = it.wait()
    assert (status.outcome, status.exit_code, status.actions[0].tries) == (Outcome.FAILED, 6, 1)
    assert word(it, "starts") == ["first 1", "next 1"]


def test_processes_that_die_one_after_the_other_are_not_followed_for_ever(sayer):
    it = sayer(remote(RUNS + "stage.die()"))
    status = it.wait()
    assert (status.state, status.outcome) == (State.LOST, Outcome.LOST)
    assert "6 processes that followed it ended without saying how it ended, the last with SIGKILL" in (status.error or "")
    assert word(it, "starts") == ["first 1", *["next 1"] * 5]


def test_a_stop_outlasts_the_death_of_the_process_it_was_told(sayer):
    first = RUNS + "stage.take(); stage.die()"
    after = RUNS + "\nwhile stage.take() != 'SIGTERM': pass\nsay(ended={'exitCode': 8})"
    it = sayer(remote(first, parameters={"next": after}))
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.stop()
    status = it.wait()
    assert (status.outcome, status.exit_code) == (Outcome.CANCELLED, 8)


def test_a_stop_before_it_runs_starts_nothing_more(sayer):
    it = sayer(remote("stage.note(); stage.take(); stage.die()", parameters={"next": RUNS + OVER}))
    it.until(lambda status: status.actions[0].container, "it provides")
    it.stop()
    status = it.wait()
    assert (status.outcome, status.exit_code, word(it, "starts")) == (Outcome.CANCELLED, None, ["first 1"])


def test_a_stop_that_comes_after_the_end_changes_nothing(sayer):
    it = sayer(remote(RUNS + "say(ended={'exitCode': 0}); stage.note(id='over'); stage.wait('a')"))
    it.until(lambda status: (note := status.actions[0].container) and note.id == "over", "it is over")
    it.stop()
    it.until(lambda status: status.state is State.STOPPING, "it was told")
    touch(it, "a")
    assert (it.wait().outcome, word(it, "signals")) == (Outcome.SUCCEEDED, [])


def test_its_time_limit_ends_it(sayer):
    it = sayer(remote(RUNS + "\nwhile stage.take() != 'SIGTERM': pass\nsay(ended={'exitCode': 143})", timeoutSeconds=0.3))
    status = it.wait()
    assert (status.outcome, status.exit_code) == (Outcome.TIMED_OUT, 143)
    assert status.receipt is not None
    assert status.receipt.reason == "action timeout"


# -- a runner that follows a dead one


def died(it: Attempt) -> None:
    it.runner.kill()
    it.runner.wait()


def earlier(it: Attempt, seconds: float) -> None:
    """As if all that the dead runner has told of had been so much earlier."""
    path = Path(it.directory.status)
    status = json.loads(path.read_text())
    for record in (status, *status["actions"]):
        if record["startedAt"] is not None:
            record["startedAt"] = stamp(datetime.fromisoformat(record["startedAt"]).timestamp() - seconds)
    path.write_text(json.dumps(status))


WAITS = RUNS + "stage.hang()"
POLITE = RUNS + "\nwhile stage.take() != 'SIGTERM': pass\nsay(ended={'exitCode': 143})"


def test_the_next_runner_goes_on_with_the_same_try_and_then_with_the_rest(sayer):
    actions = [
        shell("echo one"),
        remote(WAITS, parameters={"next": RUNS + "print('two', flush=True); say(ended={'exitCode': 0})"}),
        shell("echo three"),
    ]
    it = sayer(*actions, cleanup=[shell("echo tidied")])
    # that it is at hand is told before its process is started
    before = it.until(lambda status: status.current_action_idx == 1 and word(it, "starts") and status.state is State.RUNNING, "it runs")
    died(it)
    after = sayer(*actions, cleanup=[shell("echo tidied")], follows=it)
    status = after.wait()
    assert (status.outcome, after.output) == (Outcome.SUCCEEDED, b"one\ntwo\nthree\ntidied\n")
    assert states(status) == ["exited"] * 4
    assert [each.tries for each in status.actions] == [1, 1, 1, 1]
    assert (status.started_at, status.actions[0]) == (before.started_at, before.actions[0])
    assert (status.actions[1].started_at, status.actions[1].output_start) == (before.actions[1].started_at, 4)
    assert status.usage is not None and status.actions[0].usage is not None
    assert status.usage.cpu_seconds >= status.actions[0].usage.cpu_seconds
    assert word(it, "starts") == ["first 1", "next 1"]


@pytest.mark.parametrize("limit", ["task", "action"])
def test_time_limits_go_on(sayer, limit):
    action = remote(WAITS, parameters={"next": POLITE}, **({"timeoutSeconds": 3600} if limit == "action" else {}))
    spec = {"timeoutSeconds": 3600} if limit == "task" else {}
    it = sayer(action, **spec)
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    died(it)
    earlier(it, 7200)
    status = sayer(action, **spec, follows=it).wait()
    assert (status.outcome, status.exit_code) == (Outcome.TIMED_OUT, 143)
    assert status.receipt is not None
    assert status.receipt.reason == ("timeout" if limit == "task" else "action timeout")


def test_a_stop_goes_on_for_its_reason(sayer):
    actions = [remote(RUNS + "stage.take(); stage.hang()", parameters={"next": POLITE})]
    it = sayer(*actions, timeoutSeconds=0.5)
    it.until(lambda status: status.state is State.STOPPING and status.receipt, "it is being stopped")
    died(it)
    after = sayer(*actions, follows=it)  # without the limit: what it does it does for what it has read
    status = after.wait()
    assert (status.outcome, status.exit_code) == (Outcome.TIMED_OUT, 143)
    assert status.receipt is not None
    assert (status.receipt.reason, status.receipt.container) == ("timeout", "SIGTERM passed on")


def test_a_pause_goes_on(sayer):
    pause = "stage.take(); say(paused=True); stage.hang()"
    resume = "say(paused=True); stage.take(); say(paused=False); stage.wait('a'); "
    actions = [remote(RUNS + pause, parameters={"next": RUNS + resume + OVER})]
    it = sayer(*actions)
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.pause()
    before = it.until(lambda status: status.state is State.PAUSED, "it is paused")
    died(it)
    after = sayer(*actions, follows=it)
    wait_for(lambda: len(word(it, "starts")) == 2, "it has been taken up")
    status = after.until(lambda status: status.runner != before.runner, "the next runner tells")
    assert (status.state, status.paused_at) == (State.PAUSED, before.paused_at)
    after.resume()
    after.until(lambda status: status.state is State.RUNNING and status.paused_seconds > 0, "it goes on")
    touch(it, "a")
    assert after.wait().outcome is Outcome.SUCCEEDED


def test_a_cleanup_goes_on_and_what_was_cancelled_stays_so(sayer):
    cleanup = [remote(WAITS, parameters={"next": RUNS + OVER}), shell("echo tidied")]
    it = sayer(shell("sleep 600"), cleanup=cleanup)
    it.until(lambda status: status.state is State.RUNNING, "it runs")
    it.stop()
    it.until(lambda status: status.current_action_idx == 1 and word(it, "starts"), "its cleanup runs")
    died(it)
    after = sayer(shell("sleep 600"), cleanup=cleanup, follows=it)
    status = after.wait()
    assert (status.outcome, after.output) == (Outcome.CANCELLED, b"tidied\n")
    assert states(status) == ["exited"] * 3


def test_a_runner_that_comes_too_late_does_nothing(sayer):
    it = sayer(remote(RUNS + OVER))
    before = it.wait()
    late = sayer(remote(RUNS + OVER), follows=it)
    assert late.runner.wait(PATIENCE) != 0
    assert (it.status, word(it, "starts")) == (before, ["first 1"])


def test_processor_time_of_what_runs_elsewhere_is_a_sign_that_it_gets_on(sayer):
    now_and_then = "import time\nwhile True:\n sum(range(100_000))\n time.sleep(0.05)"
    elsewhere = subprocess.Popen([sys.executable, "-c", now_and_then])
    try:
        first = RUNS + f"say(process={elsewhere.pid}); stage.wait('a'); say(process=2**30); stage.hang()"
        it = sayer(remote(first), stall={"afterSeconds": 1})
        it.until(lambda status: status.state is State.RUNNING, "it runs")
        begun = time.monotonic()
        busy = it.until(lambda status: time.monotonic() - begun > 3, "it works for longer than it may be silent")
        assert busy.silence is None
        touch(it, "a")
        it.until(lambda status: status.silence is not None, "nothing of it works any more")
    finally:
        elsewhere.kill()
        elsewhere.wait()
