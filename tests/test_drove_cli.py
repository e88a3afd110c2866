"""The real `drove` command against a daemon that runs real containers: what it prints is what is so."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Daemon, wait_for
from drovecli import DroveCli, pairs, table
from engines import PodmanServer
from images import BUSYBOX_IMAGE

pytestmark = pytest.mark.needs("podman")

HOST = socket.gethostname()
TICKS = "echo begun; while :; do echo tick; sleep 0.2; done"


@pytest.fixture(scope="module")
def daemon(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path_factory.mktemp("drove") / "state", dialects=["drove"], engines=podman_server.sockets, cpus=4,
        memory_mb=4096,
    )  # fmt: skip
    try:
        yield daemon.start()
        for task in daemon.http.get("/v1/tasks", params={"state": "running"}).json():
            daemon.post(f"/v1/tasks/{task['taskId']}/stop", {"graceSeconds": 0})
        wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def drove(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> DroveCli:
    return DroveCli(daemon, tmp_path_factory.mktemp("home"))


def spec(app: str, task: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "sourceAppName": app,
        "taskId": task,
        "executable": {"type": "DOCKER", "url": BUSYBOX_IMAGE, "dockerPullTimeout": "100 seconds"},
        "resources": [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 64}],
        "placementPolicy": {"type": "ANY"},
        "logging": {"type": "LOCAL", "maxSize": "10m", "maxFiles": 3, "compress": True},
        "args": ["sh", "-c", script],
        **more,
    }


def create(drove: DroveCli, body: dict[str, Any]) -> str:
    """What it says to a spec in a file."""
    path = drove.home / f"{body.get('sourceAppName')}-{body.get('taskId')}.json"
    path.write_text(json.dumps(body))
    return drove.run("tasks", "create", str(path))


def submit(daemon: Daemon, body: dict[str, Any]) -> None:
    """Create a task without the command, where that is not what is looked at."""
    operation = {"type": "CREATE", "spec": body, "opSpec": {"timeout": "5m", "failureStrategy": "STOP"}}
    answer = daemon.post("/apis/v1/tasks/operations", operation)
    assert answer.status_code == 200, answer.text


def info(daemon: Daemon, app: str, task: str) -> dict[str, Any]:
    """A task as it is on the wire."""
    answer = daemon.http.get(f"/apis/v1/tasks/{app}/instances/{task}").json()
    return dict(answer.get("data", {}))


def wait_shown(daemon: Daemon, app: str, task: str, state: str) -> dict[str, Any]:
    return dict(wait_for(lambda: (t := info(daemon, app, task)).get("state") == state and t, f"{app}/{task} is {state}"))


def kill(daemon: Daemon, app: str, task: str) -> None:
    operation = {"type": "KILL", "sourceAppName": app, "taskId": task, "opSpec": {"timeout": "5m", "failureStrategy": "STOP"}}
    assert daemon.post("/apis/v1/tasks/operations", operation).status_code == 200
    wait_shown(daemon, app, task, "STOPPED")


def at_once(drove: DroveCli, *commands: str) -> list[str]:
    """What several commands print that do not mind each other."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda command: drove.run(*command.split()), commands))


def test_a_task_from_its_file_to_its_end(daemon: Daemon, drove: DroveCli):
    said = create(drove, spec("SHOP", "T1", TICKS))
    assert said == "Task created. Source App Name: SHOP Task ID: T1. Drove assigned task ID: SHOP-T1\n"
    all_cores = [{"type": "CPU", "count": 4}, {"type": "MEMORY", "sizeInMB": 100}]
    submit(daemon, spec("STORE", "T2", "true", resources=all_cores))
    task = wait_shown(daemon, "SHOP", "T1", "RUNNING")
    assert info(daemon, "STORE", "T2")["state"] == "PENDING"

    listed, shop, backwards, shown, told, as_json, logs = at_once(
        drove,
        "tasks list --sort 2",
        "tasks list --app SHOP",
        "tasks list --sort 1 --reverse",
        "tasks show SHOP T1",
        "describe task SHOP T1",
        "describe task SHOP T1 --json",
        "tasks logs SHOP T1",
    )
    row = {
        "Id": task["instanceId"], "Source App": "SHOP", "Task ID": "T1", "State": "RUNNING", "Host": HOST, "CPU": "1",
        "Memory(MB)": "64",
    }  # fmt: skip
    first, second = table(listed)
    assert row.items() <= first.items()
    waits = {"Source App": "STORE", "Task ID": "T2", "State": "PENDING", "Host": "", "CPU": "1", "Memory(MB)": "100"}
    assert waits.items() <= second.items()
    assert re.fullmatch(r"\d\d/\d\d/\d{4}, \d\d:\d\d:\d\d", first["Created"])
    assert [each["Task ID"] for each in table(shop)] == ["T1"]
    assert [each["Source App"] for each in table(backwards)] == ["STORE", "SHOP"]
    assert pairs(shown).items() >= {
        "Source App": "SHOP", "Task ID": "T1", "Instance ID": task["instanceId"], "State": "RUNNING",
        "Executor Host": HOST, "Executable": f"{BUSYBOX_IMAGE} (DOCKER)", "Result": "", "Error Message": "",
        "Volumes": "", "Metadata": "",
    }.items()  # fmt: skip
    assert "State:             RUNNING\n" in told
    assert f"Hostname:          {HOST}\n  Executor ID:       {task['executorId']}\n" in told
    assert "Memory:            64 MB\n" in told
    assert {**json.loads(as_json), "updated": 0} == {**info(daemon, "SHOP", "T1"), "updated": 0}
    assert pairs(logs) == {"files": "['output.log']"}

    path = "/apis/v1/logfiles/tasks/SHOP/T1/download/output.log"
    wait_for(lambda: b"tick" in daemon.http.get(path).content, "its first line has been kept")
    tail = drove.start("tasks", "tail", "SHOP", "T1")
    try:
        assert tail.stdout is not None
        assert [tail.stdout.readline() for _ in range(5)] == [b"tick\n"] * 5
    finally:
        tail.send_signal(signal.SIGINT)
        tail.communicate()
    assert tail.returncode == 0

    kill(daemon, "STORE", "T2")
    assert drove.run("tasks", "kill", "SHOP", "T1") == "Task kill issued\n"
    wait_shown(daemon, "SHOP", "T1", "STOPPED")
    shown, told, listed = at_once(drove, "tasks show SHOP T1", "describe task SHOP T1", "tasks list --app SHOP")
    assert pairs(shown).items() >= {"State": "STOPPED", "Result": "CANCELLED (Task exit code: -1)"}.items()
    assert "Task Result:\n------------\n  Status:            CANCELLED\n  Exit Code:         -1\n" in told
    assert table(listed) == []


def test_what_became_of_it_and_what_it_wrote(daemon: Daemon, drove: DroveCli):
    submit(daemon, spec("ENDS", "GOOD", "echo all is well; echo and this is stderr >&2"))
    submit(daemon, spec("ENDS", "BAD", "echo no; exit 3"))
    for task in ("GOOD", "BAD"):
        wait_shown(daemon, "ENDS", task, "STOPPED")
    good, bad, told, saved, _, events = at_once(
        drove,
        "tasks show ENDS GOOD",
        "tasks show ENDS BAD",
        "describe task ENDS BAD",
        "tasks download ENDS GOOD output.log -o here.txt",
        "tasks download ENDS BAD output.log",
        "cluster events --type TASK_STATE_CHANGE --textfmt {type}{metadata}",
    )
    assert pairs(good).items() >= {"Result": "SUCCESSFUL (Task exit code: 0)", "Error Message": ""}.items()
    assert pairs(bad)["Result"] == "FAILED (Task exit code: 3)"
    assert pairs(bad)["Error Message"].startswith("Task instance exited with status: 3")
    assert "Error:\n------\n  Task instance exited with status: 3" in told
    assert saved == "Downloading log to: here.txt\nDownloaded size: 31 bytes\n"
    assert sorted((drove.home / "here.txt").read_text().splitlines()) == ["all is well", "and this is stderr"]
    assert (drove.home / "output.log").read_bytes() == b"no\n"

    all_changes = [json.loads(line.removeprefix("TASK_STATE_CHANGE")) for line in events.splitlines()]
    changes = [each for each in all_changes if (each["APP_NAME"], each["TASK_ID"]) == ("ENDS", "BAD")]
    last = changes[0]
    assert (last["CURRENT_STATE"], last["RESULT_STATUS"], last["RESULT_EXIT_CODE"]) == ("STOPPED", "FAILED", 3)
    assert last["ERROR"].startswith("Task instance exited with status: 3")
    assert changes[-1]["CURRENT_STATE"] == "PENDING"


def test_what_is_refused_is_said(daemon: Daemon, drove: DroveCli):
    submit(daemon, spec("FAULTS", "T1", "true"))
    again = create(drove, spec("FAULTS", "T1", "true"))
    assert again == (
        "Error: [400 - FAILED] Command validation failure.\n"
        "Validation errors:\n"
        "  - Task already exists for FAULTS/T1 with taskID: FAULTS-T1\n"
    )
    wait_shown(daemon, "FAULTS", "T1", "STOPPED")
    faulty = create(drove, {**spec("FAULTS", "T2", "true"), "resources": []})
    assert faulty.startswith("Error: [400 - FAILED] Command validation failure.\nValidation errors:\n  - ")
    assert "resources" in faulty or "requirements" in faulty
    missing, finished, absent, unlogged, app = at_once(
        drove,
        "tasks show FAULTS NONE",
        "tasks kill FAULTS T1",
        "tasks kill FAULTS NONE",
        "tasks logs FAULTS NONE",
        "apps summary SHOP",
    )
    assert missing == "Error making Drove call: No such task instance FAULTS/NONE\n"
    for said, task in ((finished, "T1"), (absent, "NONE")):
        assert f"  - Either task does not exist or has already finished for FAULTS/{task}\n" in said
    assert unlogged == "Error making Drove call: Drove call failed with status: 204\n"
    assert app == "Error making Drove call: App SHOP not found\n"


def test_ways_to_be_let_in(daemon: Daemon, drove: DroveCli):
    stranger, raw, by_hand, bearer = at_once(
        drove,
        "-c stranger tasks list",
        "-c raw cluster ping",
        f"-e {daemon.url}/ -u me -p {daemon.token} cluster ping",
        f"-e {daemon.url} -t {daemon.token} cluster ping",
    )
    assert stranger.startswith("Error: [401 - FAILED] a token is needed: as the password of Basic")
    assert {raw, by_hand, bearer, drove.run_anew("cluster", "ping")} == {"Cluster ping successful\n"}


def test_a_token_is_never_taken_for_an_option(daemon: Daemon):
    assert re.fullmatch("[0-9a-f]{64}", daemon.token)


def test_the_cluster_and_its_executor(daemon: Daemon, drove: DroveCli):
    submit(daemon, spec("NODE", "T1", "sleep 1000"))
    task = wait_shown(daemon, "NODE", "T1", "RUNNING")
    executor = task["executorId"]
    summary, endpoints, apps, executors, node, tasks, told, cluster = at_once(
        drove,
        "cluster summary",
        "cluster endpoints",
        "apps list",
        "executor list",
        f"executor info {executor}",
        f"executor tasks {executor}",
        f"describe executor {executor}",
        "describe cluster",
    )
    port = daemon.url.rpartition(":")[2]
    assert pairs(summary) == {
        "State": "NORMAL",
        "Leader Controller": f"{HOST}:{port}",
        "Cores": "Utilization: 25% (Total: 4 Used: 1 Free: 3)",
        "Memory": "Utilization: 2% (Total: 4,096 MB Used: 64 MB Free: 4,032 MB)",
        "Number of live executors": "1",
        "Applications": "Active: 0 Total: 0",
    }
    assert pairs(endpoints) == {"endpoints": ""}
    assert table(apps) == []
    assert table(executors) == [{
        "Executor ID": executor, "Host": HOST, "Port": port, "Transport": "HTTP", "Free Cores": "3", "Used Cores": "1",
        "Free Memory (MB)": "4032", "Used Memory (MB)": "64", "Tags": f"['{HOST}']", "State": "ACTIVE",
    }]  # fmt: skip
    assert pairs(node).items() >= {"ID": executor, "Host": HOST, "Port": port, "State": "ACTIVE", "Tags": HOST}.items()
    assert "Free cores: 1,2,3 Used cores: 0\n" in node
    assert "Free :  4,032 MB Used:  64 MB\n" in node
    (row,) = table(tasks)
    assert row.items() >= {
        "Id": task["instanceId"], "Source App": "NODE", "Task ID": "T1", "State": "RUNNING", "CPU": "1",
        "Memory(MB)": "64",
    }.items()  # fmt: skip
    assert f"  ID:              {executor}\n  Hostname:        {HOST}\n" in told
    told_task = "  [OK] T1\n      Source App: NODE\n      State: RUNNING\n      Resources: 1 CPU, 64 MB Memory\n"
    assert f"Tasks (1):\n----------\n{told_task}" in told
    assert f"[OK] {executor}\n" in cluster
    kill(daemon, "NODE", "T1")


def test_maintenance(daemon: Daemon, drove: DroveCli):
    assert drove.run("cluster", "maintenance-on") == "Cluster state: MAINTENANCE\n"
    try:
        assert create(drove, spec("LATE", "T1", "true")) == (
            "Error: [400 - FAILED] Command validation failure.\n"
            "Validation errors:\n  - Cluster is in maintenance mode\n"
        )
        assert daemon.http.get("/v1/node").json()["draining"] is True
    finally:
        assert drove.run("cluster", "maintenance-off").startswith("Maintenance mode removal accepted.")
    assert daemon.http.get("/v1/node").json()["draining"] is False


def test_the_executor_is_taken_out_and_put_back(daemon: Daemon, drove: DroveCli):
    (executor,) = daemon.http.get("/apis/v1/cluster/executors").json()["data"]
    own = executor["executorId"]
    out = drove.run("executor", "blacklist", own, "other")
    assert out == f"Successful: {own}\nFailed: other\nNo executor found with id: other\n"
    (executor,) = daemon.http.get("/apis/v1/cluster/executors").json()["data"]
    assert executor["state"] == "BLACKLISTED"
    assert drove.run("executor", "unblacklist", own) == f"Successful: {own}\nFailed: \n"
