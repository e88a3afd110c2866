"""Tessia's clients work unchanged: its documented start and its documented exchanges."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, ROOT, kill_tasks, wait_for

from task_runner.api.star_app import create_app
from task_runner.lib.statedir import StateDirectory
from task_runner.service.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer ones would rather be used with another client library
    from starlette.testclient import TestClient

#: what its own task runner is started with, and what today's gunicorn workers are called
STARTS = {
    "the documented line": ["-k", "uvicorn.workers.UvicornWorker", "task_runner.api.star_app:create_app"],
    "the worker's new home": ["-k", "uvicorn_worker.UvicornWorker", "task_runner.api.star_app:create_app()"],
}
LINES = ["echo Start", "sleep 0.01", "log warning Important", "cleanup", "echo Done"]


class Node:
    """A server as Tessia's documentation starts it, and `curl` with its headers."""

    def __init__(self, state_dir: Path, arguments: list[str]) -> None:
        self.state = StateDirectory(str(state_dir))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        env = {**inherited, "TASK_RUNNER_STATE_DIR": str(state_dir)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: os.path.exists(self.state.address), "the daemon has told its address")
        address = json.loads(Path(self.state.address).read_text())
        token = Path(self.state.token).read_text().strip()
        self.http = httpx.Client(
            base_url=address["url"], headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
        )
        wait_for(lambda: self.http.get("/ready").status_code == 200, "the daemon is ready")

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        kill_tasks(self.state)


@pytest.fixture(params=STARTS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    arguments = STARTS[request.param]
    if importlib.util.find_spec(arguments[1].rsplit(".", 1)[0]) is None:
        pytest.skip(f"the installed uvicorn does not ship {arguments[1]}")
    started = Node(tmp_path / "state", arguments)
    yield started
    started.close()


def wait_over(http: Any, task_id: str) -> dict[str, Any]:
    """As its clients do: look until the state is one of the two last ones."""
    return dict(
        wait_for(
            lambda: (t := http.get(f"/v1/tasks/{task_id}").json())["state"] in ("exited", "lost") and t, "it is over"
        )
    )


def test_the_documented_exchanges(node: Node):
    sample = (ROOT / "doc/sample_task.json").read_text()
    longer = sample.replace("sleep 1.5", "sleep 600")  # it is still there when it is stopped
    for body in (sample, longer):
        created = node.http.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
        assert created.status_code == 201
        assert created.json()["state"] in ("pending", "starting", "running")
    sample_id = created.json()["taskId"]
    for parameters in (LINES, "\n".join(LINES)):
        created = node.http.post("/v1/tasks", json={"machine": "echo", "parameters": parameters})
        assert created.status_code == 201
        task_id = created.json()["taskId"]
        assert wait_over(node.http, task_id)["state"] == "exited"
        assert node.http.get(f"/v1/tasks/{task_id}/output").text == "Start\nWARNING: Important\nDone\n"
    for path in ("/v1/tasks", "/v1/tasks/"):
        listed = node.http.get(path)
        assert listed.status_code == 200
        assert sample_id in [task["taskId"] for task in listed.json()]
        assert {"taskId", "state"} <= set(listed.json()[0])
    wait_for(lambda: node.http.get(f"/v1/tasks/{sample_id}").json()["state"] == "running", "it runs")
    stopped = node.http.post(f"/v1/tasks/{sample_id}/stop")
    assert (stopped.status_code, stopped.json()["taskId"]) == (200, sample_id)
    assert stopped.json()["state"] in ("stopping", "exited")
    assert wait_over(node.http, sample_id)["outcome"] == "cancelled"
    assert node.http.get(f"/v1/tasks/{sample_id}/output").text.endswith("Cleaned up\n")
    removed = node.http.delete(f"/v1/tasks/{sample_id}")
    assert (removed.status_code, removed.json()) == (200, {"success": True})
    assert sample_id not in [task["taskId"] for task in node.http.get("/v1/tasks").json()]
    gone = node.http.get(f"/v1/tasks/{sample_id}")
    assert (gone.status_code, bool(gone.json()["detail"])) == (404, True)


def test_a_task_lives_through_the_end_of_its_server(tmp_path: Path):
    arguments = STARTS["the worker's new home"]
    first = Node(tmp_path / "state", arguments)
    try:
        body = {"machine": "echo", "parameters": "echo a\nsleep 3\necho b\nreturn 4"}
        task_id = first.http.post("/v1/tasks", json=body).json()["taskId"]
        wait_for(lambda: first.http.get(f"/v1/tasks/{task_id}").json()["state"] == "running", "it runs")
    finally:
        first.http.close()
        first.process.terminate()
        first.process.wait(PATIENCE)
    os.unlink(first.state.address)
    second = Node(tmp_path / "state", arguments)
    try:
        task = wait_over(second.http, task_id)
        assert (task["outcome"], task["exitCode"]) == ("failed", 4)
        assert second.http.get(f"/v1/tasks/{task_id}/output").text == "a\nb\n"
    finally:
        second.close()


# -- its own test's way in: the application in a test client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(state_dir=str(tmp_path / "state"), auth="none", allowed_hosts=["testserver"])
    with TestClient(create_app(settings)) as client:
        wait_for(lambda: client.get("/ready").status_code == 200, "ready")
        yield client
    kill_tasks(StateDirectory(str(tmp_path / "state")))


def test_the_small_answers(client: TestClient):
    index = client.get("/").json()
    assert index["name"] == "task_runner"
    assert index["apis"][0]["root"] == "/v1"
    assert client.get("/v1/schema").json()["/"]
    assert client.get("/v1/tasks/").json() == []


def test_a_task_in_the_test_client(client: TestClient):
    created = client.post("/v1/tasks", json={"machine": "echo", "parameters": LINES})
    assert created.status_code == 201
    assert wait_over(client, created.json()["taskId"])["state"] == "exited"
    assert client.delete(f"/v1/tasks/{created.json()['taskId']}").json() == {"success": True}


def test_stopping_returns_while_the_cleanup_still_runs(client: TestClient):
    created = client.post(
        "/v1/tasks", json={"machine": "echo", "parameters": "sleep 100\ncleanup\nsleep 1.5\necho clean"}
    )
    task_id = created.json()["taskId"]
    wait_for(lambda: client.get(f"/v1/tasks/{task_id}").json()["state"] == "running", "it runs")
    asked = time.monotonic()
    answer = client.post(f"/v1/tasks/{task_id}/stop").json()
    # it may be over by then only if answering took as long as the cleanup
    assert answer["state"] == "stopping" or time.monotonic() - asked > 1
    assert wait_over(client, task_id)["outcome"] == "cancelled"


@pytest.mark.parametrize("call", [("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/output")])
def test_a_task_that_is_not_there(client: TestClient, call: tuple[str, str]):
    response = client.request(call[0], f"/v1/tasks/nosuchtask{call[1]}")
    assert (response.status_code, bool(response.json()["detail"])) == (404, True)


@pytest.mark.parametrize(
    "body",
    ["text", [], {}, {"machine": "nosuch", "parameters": ""}, {"parameters": "echo x"}, {"machine": "echo", "parameters": 5},
     {"machine": "echo", "parameters": "frobnicate"}, {"machine": "echo", "parameters": "", "extra": 1}],
)  # fmt: skip
def test_a_request_that_makes_no_sense(client: TestClient, body: Any):
    response = client.post("/v1/tasks", json=body)
    assert (response.status_code, bool(response.json()["detail"])) == (400, True)
