"""Tessia's clients work unchanged: its documented start and its documented exchanges."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
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
from served import LIMITS, begin

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

    def __init__(self, state_dir: Path, arguments: list[str], **settings: str) -> None:
        self.state = StateDirectory(str(state_dir))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        given = {f"TASK_RUNNER_{name.upper()}": value for name, value in settings.items()}
        env = {**inherited, **given, "TASK_RUNNER_STATE_DIR": str(state_dir)}
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = begin(sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", *arguments, cwd=ROOT, env=env, **nowhere)
        wait_for(lambda: os.path.exists(self.state.address), "the daemon has told its address")
        self.url = json.loads(Path(self.state.address).read_text())["url"]
        token = Path(self.state.token)
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, verify=False, limits=LIMITS)
        wait_for(lambda: self.http.get("/ready").status_code == 200, "the daemon is ready")

    def stop(self) -> None:
        """Tasks go on."""
        self.http.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        os.unlink(self.state.address)  # the next one tells its own

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
    # the answer waits half a second for what the runner says
    assert stopped.json()["state"] in ("running", "stopping", "exited")
    assert wait_over(node.http, sample_id)["outcome"] == "cancelled"
    assert node.http.get(f"/v1/tasks/{sample_id}/output").text.endswith("Cleaned up\n")
    removed = node.http.delete(f"/v1/tasks/{sample_id}")
    assert (removed.status_code, removed.json()) == (200, {"success": True})
    assert sample_id not in [task["taskId"] for task in node.http.get("/v1/tasks").json()]
    gone = node.http.get(f"/v1/tasks/{sample_id}")
    assert (gone.status_code, bool(gone.json()["detail"])) == (404, True)


@pytest.mark.needs("curl")
def test_the_documented_line_of_curl_needs_no_token_where_the_server_wants_none(tmp_path: Path):
    node = Node(tmp_path / "state", STARTS["the worker's new home"], auth="none")
    try:
        line = (
            f"curl -s -X POST --url {node.url}/v1/tasks  --data-binary @doc/sample_task.json"
            " -H 'Content-Type: application/json'"
        )
        done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=True)
        answer = json.loads(done.stdout)
        assert answer["state"] in ("pending", "starting", "running")
        task_id = answer["taskId"]
        wait_for(lambda: node.http.get(f"/v1/tasks/{task_id}").json()["state"] == "running", "it runs")
        # results and output are in a directory of its own; that it runs is told before it has written
        output = Path(node.state.tasks.attempt(task_id, 1).output)
        wait_for(lambda: output.read_bytes().startswith(b"The task has started"), "it has written")
        found = json.loads(Path(node.state.tasks.attempt(task_id, 1).status).read_text())
        assert (found["taskId"], found["state"]) == (task_id, "running")
    finally:
        node.close()


def test_a_task_lives_through_the_end_of_its_server_and_its_status_file_tells_of_it(tmp_path: Path):
    arguments = STARTS["the worker's new home"]
    often = {"heartbeat_seconds": "0.2", "stalled_after_seconds": "2", "scan_seconds": "0.2"}
    node = Node(tmp_path / "state", arguments, **often)
    try:
        command = {"shell": "echo a; while [ ! -e go ]; do sleep 0.1; done; echo b; exit 4"}
        ends, lives, hangs = (node.http.post("/v1/tasks", json=command).json()["taskId"] for _ in range(3))
        for task_id in (ends, lives, hangs):
            wait_for(lambda task_id=task_id: node.http.get(f"/v1/tasks/{task_id}").json()["state"] == "running", "runs")
        node.stop()
        # nobody but its runner is there
        attempts = {task_id: node.state.tasks.attempt(task_id, 1) for task_id in (ends, lives, hangs)}
        runner = json.loads(Path(attempts[hangs].status).read_text())["runner"]["pid"]
        os.kill(runner, signal.SIGSTOP)
        Path(attempts[ends].work, "go").touch()
        wait_for(lambda: json.loads(Path(attempts[ends].status).read_text())["state"] == "exited", "it has ended")
        node = Node(tmp_path / "state", arguments, **often)
        over = node.http.get(f"/v1/tasks/{ends}").json()
        assert (over["state"], over["outcome"], over["exitCode"]) == ("exited", "failed", 4)
        assert node.http.get(f"/v1/tasks/{ends}/output").text == "a\nb\n"
        assert node.http.get(f"/v1/tasks/{lives}").json()["state"] == "running"
        def stalled(task_id: str) -> bool:
            return node.http.get(f"/v1/tasks/{task_id}").json()["stalled"] is not None

        # after a moment in which the whole machine stood still the timestamps of both are stale, until one beats again
        wait_for(lambda: stalled(hangs) and not stalled(lives), "stale timestamps are seen")
        os.kill(runner, signal.SIGCONT)
        wait_for(lambda: not node.http.get(f"/v1/tasks/{hangs}").json()["stalled"], "it beats again")
        Path(attempts[lives].work, "go").touch()
        assert wait_over(node.http, lives)["exitCode"] == 4
    finally:
        node.close()


# -- its own test's way in: the application in a test client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    state_dir = str(tmp_path_factory.mktemp("tessia") / "state")
    with TestClient(create_app(Settings(state_dir=state_dir, auth="none", allowed_hosts=["testserver"]))) as client:
        wait_for(lambda: client.get("/ready").status_code == 200, "ready")
        yield client
    kill_tasks(StateDirectory(state_dir))


def test_the_small_answers(client: TestClient):
    index = client.get("/").json()
    assert index["name"] == "task_runner"
    assert index["apis"][0]["root"] == "/v1"
    assert client.get("/v1/schema").json()["/"]
    assert isinstance(client.get("/v1/tasks/").json(), list)


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
    # the answer waits half a second for what the runner says; it may be over by then only if answering took as long as
    # the cleanup
    assert answer["state"] in ("running", "stopping") or time.monotonic() - asked > 1
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
