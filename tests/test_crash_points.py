"""The daemon dies before and after every durable step of accepting, starting and stopping (promises 1 to 5).

A failpoint kills it (or the runner that was just forked) at a named place. Then a new daemon takes over, the client
repeats its request with the same idempotency key, and there is one task, started once, with its true ending.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from conftest import Daemon, wait_for

from task_runner.lib import process

pytestmark = pytest.mark.slow

ACCEPTING = ["accept.before-store", "store.before-commit", "store.after-commit", "accept.after-store"]
STARTING = ["start.before-launch", "start.after-launch"]
RUNNING = ["watch.before-note", "watch.after-note"]
STOPPING = ["stop.before-intent", "stop.after-intent", "stop.delivered"]


@pytest.fixture(autouse=True)
def launchers(request: pytest.FixtureRequest) -> None:
    """Where it matters how the daemon and its launcher die, that is a program of its own, as in real life."""
    if hasattr(request.node, "callspec") and request.node.callspec.params.get("failpoint") in STARTING:
        request.getfixturevalue("executed_launchers")


def traced(trace, script: str) -> dict:
    return {"shell": f'echo start >> {trace}; {script}'}


def started(daemon: Daemon, directory: Path, failpoint: str) -> Daemon:
    """A daemon that is ready, and dies at the failpoint from then on: what it stores at its start does not count."""
    daemon.start(TASK_RUNNER_FAILPOINT=f"{failpoint}@{directory}/armed")
    (directory / "armed").touch()
    return daemon


def starts(trace) -> int:
    return trace.read_text().count("start\n") if trace.exists() else 0


def post_until_answered(daemon: Daemon, body: dict, failpoint: str) -> str:
    """Submit; if the daemon dies of it, start another and submit again with the same key."""
    try:
        response = daemon.post("/v1/tasks", body, headers={"Idempotency-Key": "the-key"})
        first = response.json()["taskId"]
    except httpx.TransportError:
        first = None
    assert daemon.wait_dead() == -9, failpoint
    daemon.restart()
    response = daemon.post("/v1/tasks", body, headers={"Idempotency-Key": "the-key"})
    assert response.status_code in (200, 201)
    task_id = response.json()["taskId"]
    assert first in (None, task_id)
    return task_id


@pytest.mark.parametrize("failpoint", [*ACCEPTING, *STARTING, *RUNNING])
def test_death_while_accepting_starting_or_noting(make_daemon, tmp_path, failpoint):
    trace = tmp_path / "trace"
    daemon = started(make_daemon(), tmp_path, failpoint)
    task_id = post_until_answered(daemon, traced(trace, "exit 7"), failpoint)
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["attempt"]) == ("failed", 7, 1)
    assert starts(trace) == 1
    assert [each["taskId"] for each in daemon.http.get("/v1/tasks").json()] == [task_id]


def forked_from_launchers(daemon: Daemon) -> set[int]:
    """The launchers of a state directory, and the runners that they have forked: these have the same command line."""
    own = daemon.state.launcher_lock.encode()
    return {each.pid for each in process.everyone() if each.alive and own in command_line(each.pid)}


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.usefixtures("executed_launchers")
@pytest.mark.parametrize(("late", "processes"), [("launcher.begun", 1), ("runner.forked", 2)])
def test_what_comes_late_of_a_dead_daemon_runs_nothing(make_daemon, tmp_path, late, processes):
    trace, hold = tmp_path / "trace", tmp_path / "hold"
    hold.touch()
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT=f"{late}~{hold}")
    task_id = daemon.submit(**traced(trace, "true"))
    wait_for(lambda: daemon.task(task_id)["state"] == "starting", "its start has been asked for")
    wait_for(lambda: len(forked_from_launchers(daemon)) == processes, "it is on its way")
    daemon.restart()
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    directory = daemon.work(task_id).parent
    daemon.http.delete(f"/v1/tasks/{task_id}")
    wait_for(lambda: not directory.exists(), "nothing tells any more that it has run")
    hold.unlink()
    wait_for(lambda: forked_from_launchers(daemon) == {daemon.launcher_pid}, "the late one has ended, with its runners")
    assert starts(trace) == 1
    assert not directory.exists()


@pytest.mark.parametrize("failpoint", STOPPING)
def test_death_while_stopping(make_daemon, tmp_path, failpoint):
    trace = tmp_path / "trace"
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT=failpoint)
    task_id = daemon.submit(**traced(trace, "sleep 600"))
    daemon.wait_state(task_id, "running")
    wait_for(lambda: starts(trace) == 1, "it has begun, and is not stopped on its way there")
    with pytest.raises(httpx.TransportError):
        daemon.post(f"/v1/tasks/{task_id}/stop")
    assert daemon.wait_dead() == -9
    daemon.restart()
    if failpoint == "stop.before-intent":
        assert daemon.wait_state(task_id, "running")  # the stop was never promised
        daemon.post(f"/v1/tasks/{task_id}/stop")
    task = daemon.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("cancelled", "SIGTERM")
    assert task["receipt"]["reason"] == "stop"
    assert daemon.alive(task_id) == []
    assert starts(trace) == 1


def test_death_while_recovering(make_daemon, tmp_path):
    trace = tmp_path / "trace"
    daemon = make_daemon().start()
    task_id = daemon.submit(**traced(trace, "while [ ! -e go ]; do sleep 0.1; done; exit 3"))
    daemon.wait_state(task_id, "running")
    daemon.kill()
    for _ in range(2):
        daemon.start(wait=False, TASK_RUNNER_FAILPOINT="recover.loaded")
        assert daemon.wait_dead() == -9
    daemon.restart()
    daemon.wait_state(task_id, "running")
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    assert daemon.wait(task_id)["exitCode"] == 3
    assert starts(trace) == 1


def test_a_runner_killed_before_its_claim_is_started_again(make_daemon, tmp_path):
    trace = tmp_path / "trace"
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT="runner.forked")
    task_id = daemon.submit(**traced(trace, "exit 0"))
    daemon.restart()
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    assert starts(trace) == 1


def test_a_runner_killed_after_its_claim_makes_the_task_lost_and_not_run_again(make_daemon, tmp_path):
    trace = tmp_path / "trace"
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT="runner.claimed")
    task_id = daemon.submit(**traced(trace, "exit 0"))
    lost = daemon.wait(task_id)
    assert (lost["state"], lost["outcome"], lost["exitCode"]) == ("lost", "lost", None)
    assert "ended without saying how" in lost["error"]
    daemon.restart()
    assert daemon.task(task_id)["state"] == "lost"
    assert starts(trace) == 0


def test_an_accepted_task_survives_a_daemon_that_dies_before_starting_it(make_daemon, tmp_path):
    trace = tmp_path / "trace"
    daemon = make_daemon(max_running=1).start()
    blocker = daemon.submit("sleep", "600")
    waiting = [daemon.submit(**traced(trace, "exit 5")) for _ in range(5)]
    assert "1 of 1 tasks are running" in daemon.task(waiting[0])["pendingReason"]
    daemon.restart()
    assert daemon.task(waiting[0])["state"] == "pending"
    daemon.post(f"/v1/tasks/{blocker}/stop")
    for task_id in waiting:
        assert daemon.wait(task_id)["exitCode"] == 5
    assert starts(trace) == 5


def test_a_delete_that_was_answered_is_finished_by_the_next_daemon(make_daemon):
    daemon = make_daemon().start()
    task_id = daemon.submit("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", graceSeconds=1)
    daemon.wait_state(task_id, "running")
    assert daemon.http.delete(f"/v1/tasks/{task_id}").json() == {"success": True}
    daemon.restart()
    assert daemon.http.get(f"/v1/tasks/{task_id}").status_code == 404
    assert daemon.http.get("/v1/tasks").json() == []
    wait_for(lambda: not (daemon.state_dir / "tasks" / task_id).exists(), "the directory is gone")
    assert daemon.alive(task_id) == []


@pytest.mark.parametrize("failpoint", ACCEPTING)
def test_a_batch_is_there_whole_or_not_at_all(make_daemon, tmp_path, failpoint):
    trace = tmp_path / "trace"
    daemon = started(make_daemon(), tmp_path, failpoint)
    body = {"tasks": [traced(trace, "exit 0")] * 7}
    with pytest.raises(httpx.TransportError):
        daemon.post("/v1/batches", body, headers={"Idempotency-Key": "the-key"})
    assert daemon.wait_dead() == -9
    daemon.restart()
    assert len(daemon.http.get("/v1/tasks").json()) in (0, 7)
    batch = daemon.post("/v1/batches", body, headers={"Idempotency-Key": "the-key"}).json()
    assert all(daemon.wait(task_id)["outcome"] == "succeeded" for task_id in batch["tasks"])
    assert (len(daemon.http.get("/v1/tasks").json()), starts(trace)) == (7, 7)


@pytest.mark.parametrize("failpoint", [*STARTING, "start.before-launch:2", "start.after-launch:2", "watch.before-note:1", "watch.after-note:1"])
def test_death_around_another_try(make_daemon, tmp_path, failpoint):
    trace = tmp_path / "trace"
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT=failpoint)
    body = {**traced(trace, "[ $TASK_RUNNER_ATTEMPT = 2 ]"), "retry": {"count": 3, "delaySeconds": 0.1}}
    try:
        daemon.post("/v1/tasks", body, headers={"Idempotency-Key": "the-key"})
    except httpx.TransportError:
        pass  # it died before it could answer
    assert daemon.wait_dead() == -9
    daemon.restart()
    task_id = daemon.post("/v1/tasks", body, headers={"Idempotency-Key": "the-key"}).json()["taskId"]
    task = daemon.wait(task_id)
    assert (task["outcome"], task["attempt"], [each["outcome"] for each in task["attempts"]]) == ("succeeded", 2, ["failed"])
    assert starts(trace) == 2


@pytest.mark.parametrize(("failpoint", "ran"), [("runner.next-action", 1), ("runner.cleanup", 2)])
def test_a_runner_killed_between_two_actions_starts_nothing_more(make_daemon, tmp_path, failpoint, ran):
    trace = tmp_path / "trace"
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT=failpoint)
    actions = [{"machine": "process", "parameters": traced(trace, "exit 0")}] * 2
    task_id = daemon.submit(actions=actions, cleanup=actions)
    assert daemon.wait(task_id)["outcome"] == "lost"
    daemon.restart()
    assert (daemon.task(task_id)["outcome"], starts(trace)) == ("lost", ran)
