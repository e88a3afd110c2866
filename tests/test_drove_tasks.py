"""Drove's tasks as its clients see them: listed, one by one, forgotten, and searched for. Real tasks of Podman."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from droving import APP, OPERATION, Drove, clean_client, drove_daemon, start_held
from engines import PodmanServer
from images import BUSYBOX_IMAGE

from task_runner.api.dialects.drove.node import executor_id
from task_runner.api.dialects.drove.record import DroveRecord
from task_runner.api.dialects.drove.taskinfo import Place, names, view
from task_runner.model.codec import to_json
from task_runner.model.spec import Action, Spec
from task_runner.model.state import State
from task_runner.model.terms import Resources
from task_runner.service.task import Record, Task

real = [pytest.mark.needs("root"), pytest.mark.needs("podman"), pytest.mark.needs("runc")]
TIME, INSTANCE = re.compile(r"\d{13}"), re.compile(r"TI-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def harbour(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = drove_daemon(tmp_path_factory.mktemp("harbour"), podman_server.sockets)
    try:
        yield start_held(daemon)
        wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
    finally:
        daemon.close()


@pytest.fixture
def drove(harbour: Daemon) -> Iterator[Drove]:
    yield from clean_client(harbour)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a few megabytes; unmounted when the test is over."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Use up every free block."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler


def one(name: str) -> str:
    return f"/apis/v1/tasks/{APP}/instances/{name}"


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same fields with the same values, where a pattern stands for what differs from run to run."""
    assert set(found) == set(expected), found
    for name, value in expected.items():
        if isinstance(value, re.Pattern):
            assert value.fullmatch(str(found[name])), (name, found[name])
        else:
            assert found[name] == value, name


class TestReal:
    pytestmark = real

    def test_a_task_is_shown_whole(self, drove: Drove) -> None:
        asked = drove.spec(
            *drove.until_told("seen"),
            env={"GREETING": "hello", "EMPTY": ""},
            logging={"type": "LOCAL", "maxSize": "10m", "maxFiles": 3, "compress": True},
            tags={"team": "a"},
            resources=[{"type": "CPU", "count": 2}, {"type": "MEMORY", "sizeInMB": 64}],
        )
        body = {"type": "CREATE", "spec": asked, "opSpec": OPERATION}
        created = drove.post("/apis/v1/tasks/operations", body)
        assert created.json()["data"] == {"taskId": f"{APP}-{asked['taskId']}"}
        name = asked["taskId"]
        expected = {
            "sourceAppName": APP,
            "taskId": name,
            "instanceId": INSTANCE,
            "executorId": executor_id(str(drove.daemon.state_dir)),
            "hostname": socket.gethostname(),
            "executable": {"type": "DOCKER", "url": BUSYBOX_IMAGE, "dockerPullTimeout": "100 seconds"},
            "resources": [
                {"type": "CPU", "cores": {"0": [0, 1]}},
                {"type": "MEMORY", "memoryInMB": {"0": 64}},
            ],
            "volumes": asked["volumes"],
            "loggingSpec": {"type": "LOCAL", "maxSize": "10m", "maxFiles": 3, "compress": True},
            "env": {"GREETING": "hello", "EMPTY": ""},
            "state": "RUNNING",
            "metadata": {},
            "errorMessage": "",
            "created": TIME,
            "updated": TIME,
        }
        running = drove.wait(name, "RUNNING")
        check(running, expected)
        listed = drove.get("/apis/v1/tasks")
        assert listed.status_code == 200
        assert set(listed.json()) == {"status", "data", "message"}
        check(listed.json()["data"][0], expected)
        drove.tell("seen")
        ended = drove.wait(name)
        result = {"status": "SUCCESSFUL", "exitCode": 0}
        check(ended, {**expected, "state": "STOPPED", "taskResult": result})
        assert (ended["created"], ended["instanceId"]) == (running["created"], running["instanceId"])
        assert ended["updated"] >= running["updated"] >= running["created"]
        assert drove.get("/apis/v1/tasks").json() == {"status": "SUCCESS", "data": [], "message": "success"}

    def test_an_active_task_that_is_deleted_is_stopped_and_its_name_is_free(
        self, drove: Drove, podman_server: PodmanServer
    ) -> None:
        name = drove.create("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
        drove.wait(name, "RUNNING")
        deleted = drove.call("DELETE", one(name))
        assert deleted.json() == {"status": "SUCCESS", "data": {"deleted": True}, "message": "success"}
        assert drove.listed() == []
        assert drove.get(one(name)).json() == {"status": "FAILED", "message": f"No such task instance {APP}/{name}"}
        again = drove.create("true", name=name)
        assert again == name
        drove.wait(name)
        wait_for(lambda: not podman_server.containers_of(drove.daemon.state_dir), "both containers are removed")

    def test_a_task_that_another_waits_for_is_not_deleted(self, drove: Drove) -> None:
        name = drove.create("sleep", "1000")
        task_id = drove.id_of(name)
        waiting = drove.daemon.submit("true", after=[{"task": task_id}])
        kept = drove.call("DELETE", one(name))
        assert (kept.status_code, kept.json()) == (200, {
            "status": "FAILED",
            "data": {"deleted": False},
            "message": f"Could not delete {APP}/{name}: task {waiting} waits for this one: stop or delete it first",
        })  # fmt: skip
        assert drove.info(name)
        drove.daemon.http.delete(f"/v1/tasks/{waiting}")

    def test_what_a_full_disk_does_not_let_go_is_not_said_to_be_deleted(
        self, podman_server: PodmanServer, small_disk: Path
    ) -> None:
        daemon = drove_daemon(small_disk, podman_server.sockets)
        try:
            drove = Drove(daemon.start())
            over = drove.create("true")
            drove.wait(over)
            active = drove.create("sleep", "1000")
            drove.wait(active, "RUNNING")
            filler = fill(small_disk)
            def refused() -> bool:
                # another name each time: one that has still found room is there
                create = {"type": "CREATE", "spec": drove.spec("true"), "opSpec": OPERATION}
                return drove.post("/apis/v1/tasks/operations", create).status_code == 507

            wait_for(refused, "the store takes no more")
            for name in (active, over):
                body = drove.call("DELETE", one(name)).json()
                assert (body["status"], body["data"]) == ("FAILED", {"deleted": False})
                assert body["message"].startswith(f"Could not delete {APP}/{name}: ")
                assert "full" in body["message"]
            assert drove.info(active)["state"] == "RUNNING"
            filler.unlink()
            wait_for(lambda: drove.get(one(over)).json()["status"] == "FAILED", "what was over is gone")
            assert drove.call("DELETE", one(active)).json()["data"] == {"deleted": True}
        finally:
            daemon.close()

    def test_a_search_leads_to_the_page_of_the_task(self, drove: Drove) -> None:
        name = drove.create("true")
        assert search(drove, APP, name) == (303, f"/tasks/{APP}/{name}")
        assert search(drove, APP, "other") == (303, "/")
        drove.wait(name)


def search(drove: Drove, app: str, name: str) -> tuple[int, str]:
    form = {"taskSearchAppName": app, "taskSearchTaskID": name}
    answer = drove.call("POST", "/apis/v1/tasks/search", data=form, follow_redirects=False)
    return answer.status_code, answer.headers["location"]


# -- what is not there: without any task


SETTINGS = {"dialects": ["drove"]}
NONE = {"status": "FAILED", "message": f"No such task instance {APP}/T"}
REFUSED = {"status": "FAILED", "message": "Command validation failure"}


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/apis/v1/tasks", 200, {"status": "SUCCESS", "data": [], "message": "success"}),
        ("GET", one("T"), 200, NONE),
        ("GET", one("T%2Fx"), 404, {"status": "FAILED", "data": {"failure": f"there is nothing at {one('T/x')}"}, "message": f"there is nothing at {one('T/x')}"}),
        ("DELETE", one("T"), 200, {"status": "FAILED", "data": {"deleted": False}, "message": f"Could not delete {APP}/T"}),
        ("PUT", one("T"), 405, {"status": "FAILED", "data": {"failure": "PUT is not possible here"}, "message": "PUT is not possible here"}),
        ("DELETE", "/apis/v1/tasks", 405, {"status": "FAILED", "data": {"failure": "DELETE is not possible here"}, "message": "DELETE is not possible here"}),
    ],
)  # fmt: skip
def test_what_is_said_of_what_is_not_there(shared: Daemon, method: str, path: str, status: int, body: dict[str, Any]) -> None:
    answer = Drove(shared).call(method, path)
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize(
    ("form", "faults"),
    [
        ("", ["taskSearchAppName - must not be empty", "taskSearchTaskID - must not be empty"]),
        ("taskSearchAppName=A&taskSearchTaskID=", ["taskSearchTaskID - must not be empty"]),
        ("taskSearchAppName=..%2F&taskSearchTaskID=T", [r"taskSearchAppName - must match [a-zA-Z\d\-_]*"]),
        ("taskSearchAppName=A&taskSearchTaskID=%FF", [r"taskSearchTaskID - must match [a-zA-Z\d\-_]*"]),
    ],
)
def test_a_search_for_what_can_be_no_name_is_refused(shared: Daemon, form: str, faults: list[str]) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = Drove(shared).call("POST", "/apis/v1/tasks/search", content=form, headers=kind)
    assert (answer.status_code, answer.json()) == (400, {**REFUSED, "data": {"validationErrors": faults}})


# -- from records


HERE = Place("executor-1", "host-1")
CONTAINER = {"image": "i:1", "env": {"A": "1"}, "pullTimeoutSeconds": 90.0}


def task(spec: Spec, **more: Any) -> Task:
    return Task(
        id="0123456789abcdef",
        seq=1,
        spec_json=json.dumps(to_json(spec)),
        name=None,
        tags={},
        alias=spec.alias,
        record=Record(state=State.PENDING, origin="drove", created_at="2026-01-01T00:00:00.000000Z"),
        **more,
    )


def test_a_task_without_what_the_request_said_is_shown_by_its_spec() -> None:
    spec = Spec(
        actions=[Action(machine="container", parameters=CONTAINER)],
        alias="drove:APP/T1",
        resources=Resources(cpus=2, memory_mb=64),
        metadata={"drove": {"damaged": True}},
    )
    shown = view(task(spec), HERE)
    check({name: value for name, value in shown.items() if value is not None}, {
        "sourceAppName": "APP",
        "taskId": "T1",
        "instanceId": INSTANCE,
        "executorId": "executor-1",
        "executable": {"type": "DOCKER", "url": "i:1", "dockerPullTimeout": "90 seconds"},
        "resources": [{"type": "CPU", "cores": {"0": [0, 1]}}, {"type": "MEMORY", "memoryInMB": {"0": 64}}],
        "volumes": [],
        "env": {"A": "1"},
        "state": "PENDING",
        "metadata": {},
        "errorMessage": "",
        "created": 1767225600000,
        "updated": 1767225600000,
    })  # fmt: skip
    assert view(task(spec), HERE) == shown


def test_a_task_that_has_lost_its_alias_is_named_as_it_was_asked_for() -> None:
    asked = DroveRecord(source_app_name="APP", task_id="T1", instance_id="TI-1", executable={"type": "DOCKER", "url": "i:1"})
    actions = [Action(machine="container", parameters=CONTAINER)]
    assert names(task(Spec(actions=actions, metadata=asked.metadata()))) == ("APP", "T1")
    assert names(task(Spec(actions=actions))) is None


def test_what_is_asked_for_twice_is_shown_as_the_sum() -> None:
    asked = DroveRecord(
        source_app_name="APP",
        task_id="T1",
        instance_id="TI-1",
        executable={"type": "DOCKER", "url": "i:1"},
        resources=[{"type": "CPU", "count": 1}, {"type": "CPU", "count": 2}, {"type": "MEMORY", "sizeInMB": 5}],
    )
    actions = [Action(machine="container", parameters=CONTAINER)]
    shown = view(task(Spec(actions=actions, alias=asked.alias, metadata=asked.metadata())), HERE)
    assert shown["resources"] == [
        {"type": "CPU", "cores": {"0": [0, 1, 2]}},
        {"type": "MEMORY", "memoryInMB": {"0": 5}},
    ]
    assert (shown["instanceId"], shown["loggingSpec"]) == ("TI-1", None)
