"""The life of Drove's tasks over the wire, from the first to the last call; and the same with a daemon that is killed
and started anew before each of them."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, wait_for
from dialectclient import DialectClient
from engines import PodmanServer
from images import BUSYBOX_IMAGE

pytestmark = pytest.mark.needs("podman")

OP_SPEC = {"timeout": "5m", "parallelism": 1, "failureStrategy": "STOP"}


@pytest.fixture(params=[False, True], ids=["one daemon", "a daemon for each call"])
def drove(
    request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon], podman_server: PodmanServer
) -> Iterator[DialectClient]:
    daemon = make_daemon(dialects=["drove"], engines=podman_server.sockets, cpus=2, memory_mb=1024).start()
    yield DialectClient(daemon, {"Authorization": "Bearer {token}"}, restarting=request.param)
    for task in daemon.http.get("/v1/tasks", params={"state": "running"}).json():
        daemon.post(f"/v1/tasks/{task['taskId']}/stop", {"graceSeconds": 0})
    wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")


def spec(task: str, script: str) -> dict[str, Any]:
    return {
        "sourceAppName": "APP",
        "taskId": task,
        "executable": {"type": "DOCKER", "url": BUSYBOX_IMAGE, "dockerPullTimeout": "100 seconds"},
        "resources": [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 64}],
        "env": {"GREETING": "good day"},
        "args": ["sh", "-c", script],
    }


def operate(drove: DialectClient, kind: str, **more: Any) -> tuple[int, Any]:
    answer = drove.post("/apis/v1/tasks/operations", {"type": kind, "opSpec": OP_SPEC, **more})
    return answer.status_code, answer.json()


def data(drove: DialectClient, path: str) -> Any:
    answer = drove.get(f"/apis/v1/{path}")
    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS"), answer.text
    return answer.json()["data"]


def wait_shown(daemon: Daemon, task: str, state: str) -> dict[str, Any]:
    """Asked without starting the daemon anew."""

    def shown() -> dict[str, Any] | None:
        answer = daemon.http.get(f"/apis/v1/tasks/APP/instances/{task}").json()
        return dict(answer["data"]) if answer.get("data", {}).get("state") == state else None

    return dict(wait_for(shown, f"{task} is {state}"))


def success(data: Any) -> dict[str, Any]:
    return {"status": "SUCCESS", "data": data, "message": "success"}


def test_the_life_of_two_tasks(drove: DialectClient):
    daemon = drove.daemon
    # the first runs until it is killed
    runs = spec("T1", 'echo "$GREETING"; echo "$DROVE_TASK_ID of $DROVE_SOURCE_APP_NAME"; sleep 1000')
    assert operate(drove, "CREATE", spec=runs) == (200, success({"taskId": "APP-T1"}))
    first = wait_shown(daemon, "T1", "RUNNING")
    shown = data(drove, "tasks/APP/instances/T1")
    assert shown["instanceId"] == first["instanceId"]
    assert shown["env"] == {"GREETING": "good day"}
    wait_for(lambda: data_of(daemon).count("\n") == 2, "it has written")

    # the second to its end
    assert operate(drove, "CREATE", spec=spec("T2", "echo done; exit 6"))[0] == 200
    wait_shown(daemon, "T2", "STOPPED")
    over = data(drove, "tasks/APP/instances/T2")
    assert over["taskResult"] == {"status": "FAILED", "exitCode": 6}
    assert over["errorMessage"].startswith("Task instance exited with status: 6")

    # which of them there are, and what they wrote
    assert [each["taskId"] for each in data(drove, "tasks")] == ["T1"]
    files = drove.get("/apis/v1/logfiles/tasks/APP/T1/list")
    assert files.json() == {"files": ["output.log"]}
    read = drove.get("/apis/v1/logfiles/tasks/APP/T1/read/output.log", params={"offset": "0"})
    assert read.json() == {"data": "good day\nT1 of APP\n", "offset": 0}
    assert drove.get("/apis/v1/logfiles/tasks/APP/T2/download/output.log").content == b"done\n"

    # the end of the first
    assert operate(drove, "KILL", sourceAppName="APP", taskId="T1") == (200, success({"taskId": "T1"}))
    wait_shown(daemon, "T1", "STOPPED")
    killed = data(drove, "tasks/APP/instances/T1")
    assert killed["taskResult"] == {"status": "CANCELLED", "exitCode": -1}
    check_events(data(drove, "cluster/events/latest"), first)

    # its name is taken until it is deleted
    assert operate(drove, "CREATE", spec=spec("T1", "true"))[1]["data"]["validationErrors"] == [
        "Task already exists for APP/T1 with taskID: APP-T1"
    ]
    deleted = drove.call("DELETE", "/apis/v1/tasks/APP/instances/T1")
    assert (deleted.status_code, deleted.json()) == (200, success({"deleted": True}))
    assert operate(drove, "CREATE", spec=spec("T1", "echo again")) == (200, success({"taskId": "APP-T1"}))
    again = wait_shown(daemon, "T1", "STOPPED")
    assert again["taskResult"] == {"status": "SUCCESSFUL", "exitCode": 0}
    assert again["instanceId"] != first["instanceId"]
    assert drove.get("/apis/v1/logfiles/tasks/APP/T1/download/output.log").content == b"again\n"

    # nothing ran twice, whatever happened to the daemon
    assert [task["attempt"] for task in daemon.http.get("/v1/tasks?origin=drove").json()] == [1, 1]


def test_an_end_that_is_just_being_stored_is_told_with_its_result(
    make_daemon: Callable[..., Daemon], podman_server: PodmanServer
):
    daemon = make_daemon(dialects=["drove"], engines=podman_server.sockets, cpus=1, memory_mb=512)
    hold = daemon.state_dir.parent / "hold"
    daemon.start(TASK_RUNNER_FAILPOINT=f"store.after-commit~{hold}")
    drove = DialectClient(daemon, {"Authorization": "Bearer {token}"})
    daemon.wait_state(daemon.submit("sleep", "600", resources={"cpus": 1}), "running")
    assert operate(drove, "CREATE", spec=spec("T1", "true"))[0] == 200
    hold.touch()
    with ThreadPoolExecutor(2) as pool, closing(sqlite3.connect(f"file:{daemon.state.database}?mode=ro", uri=True)) as store:
        try:
            killed = pool.submit(operate, drove, "KILL", sourceAppName="APP", taskId="T1")
            ended = "SELECT count(*) FROM tasks WHERE outcome = 'cancelled'"
            wait_for(lambda: store.execute(ended).fetchone() == (1,), "the store has it")
            asked = pool.submit(data, drove, "cluster/events")
            for _ in range(20):
                assert data(drove, "tasks/APP/instances/T1")["state"] == "PENDING"
        finally:
            hold.unlink()
        assert killed.result(PATIENCE)[0] == 200
        last = asked.result(PATIENCE)[0]["metadata"]
    assert (last["CURRENT_STATE"], last["RESULT_STATUS"], last["RESULT_EXIT_CODE"]) == ("STOPPED", "CANCELLED", -1)


def data_of(daemon: Daemon) -> str:
    read = daemon.http.get("/apis/v1/logfiles/tasks/APP/T1/read/output.log?offset=0")
    return str(read.json()["data"])


def check_events(latest: dict[str, Any], first: dict[str, Any]) -> None:
    events = latest["events"]
    assert [each["time"] for each in events] == sorted((each["time"] for each in events), reverse=True)
    assert latest["lastSyncTime"] == events[0]["time"]
    assert len({each["id"] for each in events}) == len(events)
    told = {task: [each["metadata"] for each in events if each["metadata"]["TASK_ID"] == task] for task in ("T1", "T2")}
    for task, ending in (("T1", ("CANCELLED", -1)), ("T2", ("FAILED", 6))):
        states = [each["CURRENT_STATE"] for each in reversed(told[task])]
        assert (states[0], states[-1]) == ("PENDING", "STOPPED")
        assert all(one != other for one, other in itertools.pairwise(states)), states
        assert (told[task][0]["RESULT_STATUS"], told[task][0]["RESULT_EXIT_CODE"]) == ending
    assert "RUNNING" in [each["CURRENT_STATE"] for each in told["T1"]]
    assert told["T1"][0].items() >= {
        "APP_NAME": "APP", "INSTANCE_ID": first["instanceId"], "EXECUTABLE": BUSYBOX_IMAGE,
        "EXECUTOR_ID": first["executorId"], "EXECUTOR_HOST": first["hostname"], "CREATED": first["created"],
    }.items()  # fmt: skip
