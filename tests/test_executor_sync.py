"""setTasks, deletion, the limit of active tasks, and what remains of tasks after a crash. What upstream tests of its
manager has a counterpart here, named after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from dialectclient import DialectClient
from executorclient import BEARER, begun, decoded, id_of, shell

from task_runner.lib import process

SETTINGS = {"dialects": ["executor"], "executor_max_tasks": 1}


class Client(DialectClient):
    """What the tests here ask for."""

    def set(self, *tasks: dict[str, Any], status: int = 200) -> Any:
        response = self.post("/setTasks", list(tasks))
        assert response.status_code == status, response.text
        return response.json()

    def names(self) -> list[str]:
        return [decoded(task)["name"] for task in self.get("/getTasks").json()]

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/tasks/{name}").json()["processStatus"])

    def ended(self, name: str) -> dict[str, Any]:
        return dict(wait_for(lambda: self.status(name).get("terminated"), f"{name} is over"))

    def gone(self, name: str) -> bool:
        return self.get(f"/tasks/{name}").status_code == 404

    def wait_empty(self) -> None:
        wait_for(lambda: self.get("/getTasks").json() == [], "no tasks are left")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon without a limit."""
    daemon = Daemon(tmp_path_factory.mktemp("roomy") / "state", dialects=["executor"])
    try:
        yield daemon.start()
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def emptied(daemon: Daemon) -> Client:
    client = Client(daemon, BEARER)
    client.set()
    client.wait_empty()
    return client


@pytest.fixture
def client(roomy: Daemon) -> Client:
    """Of a daemon without a limit, and without any tasks."""
    return emptied(roomy)


@pytest.fixture
def limited(shared: Daemon) -> Client:
    """Of one with upstream's limit, without any tasks."""
    return emptied(shared)


def holding(name: str, gate: Path) -> dict[str, Any]:
    """A task that does not mind SIGTERM, and ends when a file is there."""
    return shell(name, f"trap '' TERM; echo $$ > {gate}.pid; while [ ! -e {gate} ]; do sleep 0.1; done")


def holds(gate: Path) -> bool:
    """The command has set its trap."""
    return Path(f"{gate}.pid").exists()


# -- the limit


MAXIMUM = "maximum concurrent tasks (1) reached, cannot create new task"


# upstream: TestTaskManager_Create, the second active one; TestTaskManager_CountActiveTasks
def test_manager_refuses_a_second_active_task(limited: Client):
    assert limited.post("/tasks", shell("one", "sleep 600")).status_code == 201
    refused = limited.post("/tasks", shell("two", "true"))
    assert (refused.status_code, refused.json()["message"]) == (500, f"failed to create task: {MAXIMUM}")
    assert limited.names() == ["one"]
    # one that is over, or being deleted, does not count
    limited.call("DELETE", "/tasks/one")
    assert limited.post("/tasks", shell("two", "true")).status_code == 201
    limited.ended("two")
    assert limited.post("/tasks", shell("three", "true")).status_code == 201


def test_of_two_new_tasks_the_first_is_made_and_the_other_reported(limited: Client):
    failed = limited.set(shell("first", "sleep 600"), shell("second", "true"), status=500)
    assert failed == {
        "code": "Internal Server Error",
        "message": f"failed to sync tasks: failed to create task second: {MAXIMUM}",
    }
    assert limited.names() == ["first"]


def test_the_limit_holds_for_requests_at_once(limited: Client):
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(limited.post, "/tasks", shell(f"race-{n}", "sleep 600")) for n in range(8)]
        assert sorted(post.result().status_code for post in posts) == [201] + [500] * 7
    assert len(limited.names()) == 1


def test_the_limit_holds_after_a_crash(limited: Client):
    limited.post("/tasks", shell("survivor", "sleep 600"))
    limited.daemon.restart()
    assert limited.post("/tasks", shell("another", "true")).json()["message"].endswith(MAXIMUM)


# upstream: TestTaskManager_Sync
def test_manager_sync_swaps_one_task_for_another(limited: Client):
    assert [task["name"] for task in limited.set(shell("t1", "sleep 600"))] == ["t1"]
    swapped = limited.set(shell("t2", "sleep 600"))
    assert swapped[0]["name"] == "t2"
    wait_for(lambda: limited.names() == ["t2"], "t1 is gone")
    begun(limited, "t2")


# upstream: TestTaskManager_Sync with nil, which its handler makes of no body that can be sent
def test_null_wants_no_tasks(limited: Client):
    limited.post("/tasks", shell("t1", "true"))
    response = limited.call("POST", "/setTasks", content=b"null", headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    limited.wait_empty()


# upstream: TestTaskManager_Timeout
def test_manager_times_out(limited: Client):
    limited.post("/tasks", {"name": "slow", "process": {"command": ["sleep", "600"], "timeoutSeconds": 1}})
    ended = limited.ended("slow")
    assert (ended["exitCode"], ended["reason"]) == (137, "TaskTimeout")
    assert ended["message"] == "Task exceeded timeout of 1 seconds"
    # upstream: 0 active after the end
    assert limited.post("/tasks", shell("next", "true", timeoutSeconds=600)).status_code == 201
    assert limited.ended("next")["reason"] == "Succeeded"


# upstream: TestTaskManager_Get, TestTaskManager_List, TestTaskManager_Delete
def test_manager_get_list_and_delete(limited: Client):
    assert limited.names() == []
    assert limited.gone("none")
    limited.post("/tasks", shell("one", "sleep 600"))
    assert limited.names() == ["one"]
    for name in ("one", "one", "none"):
        assert limited.call("DELETE", f"/tasks/{name}").status_code == 204
    wait_for(lambda: limited.gone("one"), "it is gone")
    assert limited.names() == []


# -- what is wanted


def test_a_wanted_task_is_kept_whatever_else_is_asked_of_it(client: Client):
    client.set(shell("kept", "sleep 600"))
    first = begun(client, "kept")
    assert client.set(shell("kept", "exit 7", timeoutSeconds=1)) == [first]
    assert client.set({"name": "kept"}) == [first]
    task_id = id_of(client.daemon, "kept")
    client.daemon.post(f"/v1/tasks/{task_id}/stop")
    ended = client.ended("kept")
    (after,) = client.set(shell("kept", "true"))
    assert after["processStatus"] == {"terminated": ended}
    assert id_of(client.daemon, "kept") == task_id


def test_of_tasks_with_one_name_the_last_counts_and_the_nameless_are_passed_over(client: Client):
    wanted = [shell("a", "exit 1"), {"process": {"command": ["true"]}}, shell("a", "exit 2"), {"name": ""}]
    assert [task["name"] for task in client.set(*wanted)] == ["a"]
    assert client.ended("a")["exitCode"] == 2


def test_what_fails_is_told_and_the_rest_is_done(client: Client):
    client.set(shell("old", "true"))
    client.ended("old")
    failed = client.set(shell("x", "true", workingDir="/no/such"), shell("y", "exit 5"), {"name": "z"}, status=500)
    assert failed["message"].split("\n") == [
        (
            "failed to sync tasks: failed to create task x: failed to start task: failed to start cmd: "
            "chdir /no/such: no such file or directory"
        ),
        "failed to create task z: failed to start task: no process and no podTemplateSpec given (task name: z)",
    ]
    assert client.ended("y")["exitCode"] == 5
    assert client.names() == ["y"]


def test_a_task_that_another_waits_for_is_not_deleted_and_told(client: Client):
    client.set(shell("needed", "sleep 600"))
    daemon = client.daemon
    waiting = daemon.submit("true", after=[{"task": id_of(daemon, "needed")}])
    failed = client.set(shell("new", "true"), status=500)
    assert failed["message"].startswith("failed to sync tasks: failed to delete task needed: task ")
    assert client.names() == ["needed", "new"]
    assert client.call("DELETE", "/tasks/needed").json()["message"].startswith("failed to delete task: task ")
    assert daemon.http.delete(f"/v1/tasks/{waiting}").status_code == 200
    wait_for(lambda: client.call("DELETE", "/tasks/needed").status_code == 204, "nobody waits for it any more")


def test_requests_at_once_leave_what_one_of_them_wanted(client: Client):
    wanted = [[f"{letter}{n}" for n in range(3)] for letter in "abcdef"]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda names: client.set(*(shell(name, "sleep 600") for name in names)), wanted))
    left = wait_for(lambda: (names := client.names()) and len(names) == 3 and names, "those of one are left")
    assert left in wanted


def test_many_tasks_are_made_and_deleted_in_one_request(client: Client):
    names = [f"n{number}" for number in range(50)]
    assert [task["name"] for task in client.set(*(shell(name, "true") for name in names))] == names
    client.set()
    client.wait_empty()


def test_a_task_that_is_over_is_known_until_it_is_deleted(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """The daemon removes what is over after a while; this one would then run again."""
    daemon = make_daemon(dialects=["executor"], keep_finished_seconds=0.01, tidy_seconds=0.05).start()
    client, log = Client(daemon, BEARER), tmp_path / "log"
    client.set(shell("once", f"echo >> {log}"))
    client.ended("once")
    other = daemon.submit("true")
    wait_for(lambda: daemon.http.get(f"/v1/tasks/{other}").status_code == 404, "another is removed")
    assert [task["name"] for task in client.set(shell("once", f"echo >> {log}"))] == ["once"]
    assert runs(log) == 1


# -- while a task is being deleted


# upstream: TestTaskManager_AsyncStopOnDelete
def test_manager_deletes_without_waiting_for_the_end(client: Client, tmp_path: Path):
    gate = tmp_path / "gate"
    client.set(holding("leaving", gate))
    wait_for(lambda: holds(gate), "it holds")
    task_id = id_of(client.daemon, "leaving")
    before = begun(client, "leaving")
    assert client.call("DELETE", "/tasks/leaving").status_code == 204
    # hidden from /v1, shown here, and its name is taken
    assert client.daemon.http.get(f"/v1/tasks/{task_id}").status_code == 404
    assert client.get("/tasks/leaving").json() == before
    refused = client.post("/tasks", shell("leaving", "true"))
    assert refused.json()["message"] == "failed to create task: task leaving already exists"
    # others come before it
    assert [task["name"] for task in client.set(shell("new", "sleep 600"))] == ["new", "leaving"]
    # wanted again, it is kept as it is; and goes
    assert [task["name"] for task in client.set(shell("new", ""), shell("leaving", "true"))] == ["new", "leaving"]
    gate.touch()
    wait_for(lambda: client.names() == ["new"], "it is gone")
    # and the next request makes it anew
    assert [task["name"] for task in client.set(shell("new", ""), shell("leaving", "exit 9"))] == ["new", "leaving"]
    assert client.ended("leaving")["exitCode"] == 9
    assert id_of(client.daemon, "leaving") != task_id


def test_a_task_deleted_through_v1_is_shown_until_it_is_over(client: Client, tmp_path: Path):
    gate = tmp_path / "gate"
    client.set(holding("leaving", gate))
    wait_for(lambda: holds(gate), "it holds")
    task_id = id_of(client.daemon, "leaving")
    # it is not killed while the daemon starts anew, however long that takes: deletion keeps to the grace asked for first
    client.daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 600})
    assert client.daemon.http.delete(f"/v1/tasks/{task_id}").status_code == 200
    assert client.names() == ["leaving"]
    client.daemon.restart()
    assert client.names() == ["leaving"]
    assert client.set(holding("leaving", gate))[0]["processStatus"].keys() == {"running"}
    gate.touch()
    client.wait_empty()


# -- after a crash


def runs(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


# upstream: TestTaskManager_RecoverLostRunning, where the next sync runs it again. Here nothing is run twice
def test_manager_recovers_a_lost_task_and_does_not_run_it_again(client: Client, tmp_path: Path):
    log = tmp_path / "log"
    task = shell("once", f"echo >> {log}; sleep 600")
    client.set(task)
    wait_for(lambda: runs(log) == 1, "it runs")
    runner = client.daemon.runner_pid(id_of(client.daemon, "once"))
    client.daemon.kill()
    os.kill(runner, signal.SIGKILL)
    client.daemon.start()
    ended = client.ended("once")
    assert (ended["exitCode"], ended["reason"]) == (137, "ProcessCrashed")
    assert ended["message"].startswith("Process exited without writing exit code: ")
    (after,) = client.set(task)
    assert after["processStatus"] == {"terminated": ended}
    assert client.post("/tasks", task).json()["message"] == "failed to create task: task once already exists"
    assert runs(log) == 1
    # it runs again when it has been deleted, and not before
    client.set()
    client.wait_empty()
    client.set(task)
    wait_for(lambda: runs(log) == 2, "it runs anew")


# upstream: TestTaskManager_RecoverSucceeded
@pytest.mark.parametrize("code", [0, 6])
def test_manager_recovers_what_ended_while_it_was_away(client: Client, tmp_path: Path, code: int):
    """Upstream forgets one that failed meanwhile, and runs it again."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    task = shell("away", f"echo >> {log}; while [ ! -e {gate} ]; do sleep 0.1; done; echo done >&2; exit {code}")
    client.set(task)
    wait_for(lambda: runs(log) == 1, "it runs")
    daemon = client.daemon
    runner = daemon.runner_pid(id_of(daemon, "away"))
    daemon.kill()
    gate.touch()
    wait_for(lambda: (seen := process.look(runner)) is None or not seen.alive, "it is over")
    daemon.start()
    assert client.ended("away")["exitCode"] == code
    (after,) = client.set(task)
    assert after["processStatus"]["terminated"]["reason"] == ("Failed" if code else "Succeeded")
    assert runs(log) == 1


def test_a_running_task_goes_on_when_the_daemon_is_killed(client: Client):
    client.set(shell("steady", "sleep 600"))
    before = begun(client, "steady")
    for _time in range(2):
        client.daemon.restart()
        assert client.set(shell("steady", "sleep 600")) == [before]
        assert client.get("/tasks/steady").json() == before
