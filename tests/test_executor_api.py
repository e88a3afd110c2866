"""The task-executor's routes: request, status and whole body. What upstream tests of its handler and its store has a
counterpart here, named after it."""

from __future__ import annotations

import itertools
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from conftest import PATIENCE, Daemon, wait_for
from dialectclient import DialectClient
from executorclient import BEARER, TIME, begun, decoded, id_of, in_state, shell, timeless
from starlette.applications import Starlette
from starlette.middleware import Middleware

from task_runner.api.dialects.executor.routes import surface
from task_runner.api.gate import Entry, Gate
from task_runner.lib.clock import SystemClock
from task_runner.service.settings import Settings
from task_runner.service.tokens import Tokens

SETTINGS = {"dialects": ["executor"]}
JSON = {"Content-Type": "application/json"}
STARTING = {"waiting": {"reason": "Pending"}}


@pytest.fixture
def client(shared: Daemon) -> DialectClient:
    return DialectClient(shared, BEARER)


def names(client: DialectClient) -> list[str]:
    return [task["name"] for task in client.get("/getTasks").json()]


def ended(client: DialectClient, name: str) -> dict[str, Any]:
    """How a task ended, when it has."""
    path = f"/tasks/{quote(name, safe='')}"
    status = wait_for(lambda: client.get(path).json()["processStatus"].get("terminated"), f"{name} is over")
    assert all(TIME.fullmatch(status.pop(time)) for time in ("startedAt", "finishedAt"))
    return dict(status)


# -- what is refused: every answer whole


def error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def cannot(message: str) -> dict[str, str]:
    return error("Internal Server Error", f"failed to create task: {message}")


REFUSED = [
    ("POST", "/tasks", b"", 400, error("Bad Request", "invalid request body: EOF")),
    ("POST", "/setTasks", b"", 400, error("Bad Request", "invalid request body: EOF")),
    (
        "POST",
        "/setTasks",
        b'{"name": "a"}',
        400,
        error(
            "Bad Request",
            "invalid request body: json: cannot unmarshal object into Go value of type []task_executor.Task",
        ),
    ),
    ("POST", "/tasks", b"null", 400, error("Bad Request", "task name is required")),
    ("POST", "/tasks", b'{"process": {"command": ["true"]}}', 400, error("Bad Request", "task name is required")),
    ("GET", "/tasks/missing", None, 404, error("Not Found", "task not found: task missing not found")),
    (
        "POST",
        "/tasks",
        {"name": "none", "process": {}},
        500,
        cannot("failed to start task: no command specified in process spec (task name: none)"),
    ),
    (
        "POST",
        "/tasks",
        {"name": "none"},
        500,
        cannot("failed to start task: no process and no podTemplateSpec given (task name: none)"),
    ),
    (
        "POST",
        "/tasks",
        {"name": "../x", "process": {"command": ["true"]}},
        500,
        cannot("failed to persist task: invalid task name: path traversal detected"),
    ),
    (
        "POST",
        "/tasks",
        {"name": "none", "process": {"command": ["true"], "workingDir": "/no/such"}},
        500,
        cannot("failed to start task: failed to start cmd: chdir /no/such: no such file or directory"),
    ),
    (
        "POST",
        "/tasks",
        {"name": "none", "process": {"command": ["true"], "workingDir": "/etc/passwd"}},
        500,
        cannot("failed to start task: failed to start cmd: chdir /etc/passwd: not a directory"),
    ),
    (
        "POST",
        "/tasks",
        {"name": "none", "process": {"command": ["true"], "workingDir": "below"}},
        500,
        cannot(
            "failed to start task: failed to start cmd: chdir below: no such file or directory in the task's own, "
            "which is empty at the start"
        ),
    ),
    (
        "POST",
        "/tasks",
        {"name": "none", "spec": {"process": {"command": ["true"], "env": [{"name": "A", "valueFrom": {}}]}}},
        500,
        cannot("spec.process.env.0.valueFrom: there is no cluster here to ask; give the value itself"),
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "whole"), REFUSED)
def test_what_is_refused(client: DialectClient, method: str, path: str, body: Any, status: int, whole: Any):
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    response = client.call(method, path, content=content, headers=JSON)
    assert (response.status_code, response.json()) == (status, whole)
    assert response.headers["content-type"] == "application/json"
    assert response.content.endswith(b"}\n")
    assert "none" not in names(client)


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"name": "a\nb", "process": {"command": ["true"]}}, "name"),
        ({"name": "n" * 600, "process": {"command": ["true"]}}, "name"),
        ({"name": "none", "process": {"command": ["true"], "args": ["\x00"]}}, "process.args.0"),
        ({"name": "none", "spec": {"process": {"command": ["true", "\x00"]}}}, "spec.process.command.1"),
        ({"name": "none", "process": {"command": ["true"], "timeoutSeconds": 10**12}}, "process.timeoutSeconds"),
        ({"name": "none", "process": {"command": ["true"], "env": [{"name": "A=B"}]}}, "process.env.A=B"),
    ],
)
def test_what_cannot_be_done_here_is_refused_with_the_field_of_the_client(
    client: DialectClient, task: dict[str, Any], field: str
):
    refused = client.post("/tasks", task)
    assert (refused.status_code, refused.json()["code"]) == (500, "Internal Server Error")
    assert refused.json()["message"].startswith(f"failed to create task: {field}")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/tasks", "POST"),
        ("PUT", "/tasks/a", "DELETE, GET, HEAD"),
        ("GET", "/setTasks", "POST"),
        ("POST", "/getTasks", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_in_plain_text(client: DialectClient, method: str, path: str, allowed: str):
    response = client.call(method, path)
    assert (response.status_code, response.text) == (405, "Method Not Allowed\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/tasks/", "/tasks/a/b", "/setTasks/x", "/getTasks/"])
def test_another_path_is_refused_in_plain_text(client: DialectClient, path: str):
    for method in ("GET", "DELETE", "POST"):
        response = client.call(method, path)
        if (method, path.startswith("/tasks/")) == ("POST", True):
            assert response.status_code == 405
            continue
        assert (response.status_code, response.text) == (404, "404 page not found\n")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_without_the_token_nothing_is_told(shared: Daemon):
    response = httpx.get(f"{shared.url}/getTasks", verify=False, timeout=PATIENCE)
    assert (response.status_code, response.json()["code"]) == (401, "Unauthorized")
    assert "<state>" in response.json()["message"]
    assert b"\\u003cstate\\u003e" in response.content


def test_a_body_that_is_not_said_to_be_json_is_refused(client: DialectClient):
    refused = client.call("POST", "/tasks", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (refused.status_code, refused.json()["code"]) == (415, "Unsupported Media Type")


# -- upstream's tests of its handler


def test_handler_health():
    """On an address that it shares, /health is the daemon's own."""
    dialect = surface(Settings(state_dir="/nowhere"))
    assert [door.path for door in dialect.routes if dialect.is_open(door.path)] == ["/health", "/health"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer ones would rather be used with another client library
        from starlette.testclient import TestClient
    entry = Entry(Tokens(None, SystemClock()), free=True, anybody=True)
    gate = Middleware(Gate, surface=dialect, entry=entry, allowed_hosts=["testserver"], max_body_bytes=1000)
    client = TestClient(Starlette(routes=dialect.routes, middleware=[gate]))
    answer = client.get("/health")
    assert (answer.status_code, answer.content) == (200, b'{"status":"healthy"}\n')
    assert client.post("/health").status_code == 405
    reset = client.post("/reset", json={"version": "1"})
    assert (reset.status_code, reset.text) == (404, "404 page not found\n")


def test_handler_create_task(client: DialectClient):
    response = client.post("/tasks", {"name": "test-task", "process": {"command": ["sleep", "600"]}})
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    running = {
        "name": "test-task",
        "process": {"command": ["sleep", "600"]},
        "processStatus": {"running": {"startedAt": "TIME"}},
    }
    assert timeless(response.json()) in (running, in_state(running, STARTING))
    assert timeless(begun(client, "test-task")) == running
    assert client.call("DELETE", "/tasks/test-task").status_code == 204


def test_answers_wait_for_the_start(client: DialectClient):
    """For a while: on a busy machine not every one of them can tell of it."""
    numbers = itertools.count()

    def told(state: str, **more: Any) -> bool:
        created = client.post("/tasks", shell(f"told-{next(numbers)}", "sleep 600", **more))
        return state in created.json()["processStatus"]

    wait_for(lambda: told("running"), "an answer tells that the task runs")
    wait_for(lambda: told("terminated", timeoutSeconds=0), "an answer tells that its time was over")


def test_handler_get_task(client: DialectClient):
    client.post("/tasks", shell("got", "exit 3"))
    ended(client, "got")
    response = client.get("/tasks/got")
    assert (response.status_code, timeless(response.json())) == (
        200,
        {
            "name": "got",
            "process": {"command": ["sh", "-c"], "args": ["exit 3"]},
            "processStatus": {
                "terminated": {"exitCode": 3, "reason": "Failed", "startedAt": "TIME", "finishedAt": "TIME"}
            },
        },
    )
    assert client.get("/tasks/not-there").status_code == 404


def test_handler_delete_task(client: DialectClient):
    client.post("/tasks", shell("deleted", "true"))
    ended(client, "deleted")
    for _time in range(2):
        response = client.call("DELETE", "/tasks/deleted")
        assert (response.status_code, response.content) == (204, b"")
        assert "content-type" not in response.headers
    assert client.get("/tasks/deleted").status_code == 404
    assert client.call("DELETE", "/tasks/never-there").status_code == 204


def test_handler_list_tasks(make_daemon: Any):
    client = DialectClient(make_daemon(**SETTINGS).start(), BEARER)
    response = client.get("/getTasks")
    assert (response.status_code, response.content) == (200, b"[]\n")
    client.post("/tasks", shell("task-1", "true"))
    client.post("/tasks", shell("task-2", "true"))
    assert names(client) == ["task-1", "task-2"]
    ended(client, "task-1")  # while it is being deleted it is shown until it is over
    # upstream: TestHandler_SyncTasks
    response = client.post("/setTasks", [shell("task-2", "true"), shell("task-3", "sleep 600")])
    assert response.status_code == 200
    assert [task["name"] for task in response.json()] == ["task-2", "task-3"]
    assert [decoded(task)["name"] for task in response.json()] == ["task-2", "task-3"]


def test_handler_errors(client: DialectClient):
    client.post("/tasks", shell("fail", "true"))
    refused = client.post("/tasks", shell("fail", "true"))
    assert (refused.status_code, refused.json()) == (500, cannot("task fail already exists"))
    ended(client, "fail")
    assert client.post("/tasks", shell("fail", "true")).json() == cannot("task fail already exists")


def test_handler_converts_a_timeout(client: DialectClient):
    for seconds in (0, -5):
        name = f"over{seconds}"
        created = client.post("/tasks", {"name": name, "process": {"command": ["sleep", "600"], "timeoutSeconds": seconds}})
        assert created.status_code == 201
        over = ended(client, name)
        assert over.pop("signal", 15) == 15  # there is none where its time was over before it had a process
        assert over == {
            "exitCode": 137,
            "reason": "TaskTimeout",
            "message": f"Task exceeded timeout of {seconds} seconds",
        }


def test_handler_keeps_the_exit_code_of_a_failed_task(client: DialectClient):
    client.post("/tasks", shell("killed", "kill -9 $$"))
    assert ended(client, "killed") == {"exitCode": 137, "signal": 9, "reason": "Failed"}
    client.post("/tasks", {"name": "unknown", "process": {"command": ["no-such-program"]}})
    status = ended(client, "unknown")
    assert "no-such-program: no such program" in status.pop("message")
    assert status == {"exitCode": 127, "reason": "Failed"}


# -- the guide's shape


def test_the_usage_guides_first_task(client: DialectClient):
    spec = {"process": {"command": ["sh", "-c"], "args": ["echo 'Hello from my task!' && sleep 600"]}}
    created = client.post("/tasks", {"name": "my-first-task", "spec": spec})
    state = {"running": {"startedAt": "TIME"}}
    whole = {
        "name": "my-first-task",
        "process": spec["process"],
        "processStatus": state,
        "spec": spec,
        "status": {"state": state},
    }
    assert created.status_code == 201
    if "running" in created.json()["processStatus"]:
        assert timeless(created.json()) == whole
    else:
        assert created.json() == {**in_state(whole, {"waiting": {"reason": "Initialized"}}), "processStatus": STARTING}
    assert decoded(created.json())
    assert timeless(begun(client, "my-first-task")) == whole
    listed = {task["name"]: task for task in client.get("/getTasks").json()}
    assert timeless(listed["my-first-task"]) == whole
    assert client.call("DELETE", "/tasks/my-first-task").status_code == 204


# -- a task runs as it was asked for


def test_words_env_and_directory_reach_the_command(client: DialectClient, shared: Daemon, tmp_path: Path):
    tmp_path.chmod(0o755)
    process = {
        "command": ["sh", "-c", 'printf "%s|" "$@" "$A" "$B" "$PWD"; echo late >&2', "sh"],
        "args": ["foo'bar", "$HOME", "a b", ""],
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B"}, {"value": "nobody's"}],
        "workingDir": str(tmp_path),
    }
    client.post("/tasks", {"name": "verbatim", "process": process})
    assert ended(client, "verbatim") == {"exitCode": 0, "reason": "Succeeded"}
    task_id = id_of(shared, "verbatim")
    output = shared.http.get(f"/v1/tasks/{task_id}/output", params={"stream": "stdout"})
    assert output.text == f"foo'bar|$HOME|a b||2||{tmp_path}|"
    assert shared.http.get(f"/v1/tasks/{task_id}/output", params={"stream": "stderr"}).text == "late\n"
    shown = client.get("/tasks/verbatim").json()["process"]
    assert shown == {**process, "env": [*process["env"][:3], {"name": "", "value": "nobody's"}]}


@pytest.mark.parametrize("name", ["a/b", "/etc/passwd", "ü <&>", "50%", "%2F", "...", "a?b#c", "'\"", "a:b", " "])
def test_names_are_no_directories(client: DialectClient, name: str):
    created = client.post("/tasks", {"name": name, "process": {"command": ["true"]}})
    assert (created.status_code, created.json()["name"]) == (201, name)
    assert ended(client, name)["exitCode"] == 0
    assert client.call("DELETE", f"/tasks/{quote(name, safe='')}").status_code == 204
    assert name not in names(client)


# -- what is done through /v1 is seen here


def test_a_paused_task_runs_and_a_stopped_one_has_failed(client: DialectClient, shared: Daemon):
    client.post("/tasks", shell("paused", "sleep 600"))
    running = begun(client, "paused")
    task_id = id_of(shared, "paused")
    assert shared.task(task_id)["origin"] == "executor"
    shared.post(f"/v1/tasks/{task_id}/pause")
    shared.wait_state(task_id, "paused")
    assert client.get("/tasks/paused").json() == running
    shared.post(f"/v1/tasks/{task_id}/stop")
    assert ended(client, "paused") == {"exitCode": 143, "signal": 15, "reason": "Failed", "message": "Task was stopped"}


def test_a_stopped_task_has_the_exit_code_of_its_command(client: DialectClient, shared: Daemon, tmp_path: Path):
    ready = tmp_path / "ready"
    script = "trap 'exit {}' TERM; touch {}; while :; do sleep 0.1; done"
    for name, code, message in (
        ("three", 3, "Task was stopped"),
        ("nought", 0, "Task was stopped; its command ended with exit code 0"),
    ):
        client.post("/tasks", shell(name, script.format(code, ready)))
        wait_for(ready.exists, "its trap is set")
        ready.unlink()
        shared.post(f"/v1/tasks/{id_of(shared, name)}/stop")
        assert ended(client, name) == {"exitCode": code or 143, "reason": "Failed", "message": message}


def test_a_task_that_is_tried_again_through_v1_is_shown_anew(client: DialectClient, shared: Daemon, tmp_path: Path):
    client.post("/tasks", shell("again", f"test -e {tmp_path}/there"))
    assert ended(client, "again")["exitCode"] == 1
    tmp_path.joinpath("there").touch()
    shared.post(f"/v1/tasks/{id_of(shared, 'again')}/retry")
    wait_for(lambda: ended(client, "again")["exitCode"] == 0, "the second attempt")


def test_a_task_that_waits_says_what_for(make_daemon: Any):
    daemon = make_daemon(**SETTINGS, max_running=1).start()
    client = DialectClient(daemon, BEARER)
    client.post("/tasks", shell("first", "sleep 600"))
    begun(client, "first")
    waiting = client.post("/tasks", {"name": "second", "spec": shell("", "true")}).json()
    state = waiting["processStatus"]["waiting"]
    assert (state["reason"], waiting["status"]["state"]["waiting"]["reason"]) == ("Pending", "Initialized")
    assert "running" in state["message"]
    assert decoded(waiting)


def test_a_directory_that_goes_before_the_start_fails_the_task(make_daemon: Any, tmp_path: Path):
    directory = tmp_path / "directory"
    directory.mkdir()
    client = DialectClient(make_daemon(**SETTINGS, max_running=1).start(), BEARER)
    client.post("/tasks", shell("first", "sleep 600"))
    client.post("/tasks", shell("second", "true", workingDir=str(directory)))
    directory.rmdir()
    client.call("DELETE", "/tasks/first")
    status = ended(client, "second")
    assert (status["exitCode"], status["reason"], str(directory) in status["message"]) == (127, "Failed", True)


# -- upstream's tests of its store


def test_store_crud(client: DialectClient):
    assert client.get("/tasks/kept").status_code == 404
    client.post("/tasks", shell("kept", "true", timeoutSeconds=60))
    assert client.post("/tasks", shell("kept", "true")).status_code == 500
    ended(client, "kept")
    client.daemon.restart()
    assert client.get("/tasks/kept").json()["process"] == shell("kept", "true", timeoutSeconds=60)["process"]
    assert client.call("DELETE", "/tasks/kept").status_code == 204
    assert client.call("DELETE", "/tasks/kept").status_code == 204
    client.daemon.restart()
    assert client.get("/tasks/kept").status_code == 404


def test_store_bears_damaged_files(make_daemon: Any):
    daemon = make_daemon(**SETTINGS).start()
    client = DialectClient(daemon, BEARER)
    client.post("/tasks", shell("damaged", "exit 4"))
    assert ended(client, "damaged")["exitCode"] == 4
    daemon.kill()
    files = [path for path in daemon.state_dir.joinpath("tasks").rglob("*.json") if path.is_file()]
    assert files
    for path in files:
        path.write_text("{not json")
    daemon.start()
    client = DialectClient(daemon, BEARER)
    assert names(client) == ["damaged"]
    assert ended(client, "damaged")["exitCode"] == 4


def test_store_concurrent_updates(client: DialectClient):
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(client.post, "/tasks", shell(f"at-once-{n % 4}", "true")) for n in range(16)]
        statuses = sorted(post.result().status_code for post in posts)
    assert statuses == [201] * 4 + [500] * 12
    assert {f"at-once-{n}" for n in range(4)} <= set(names(client))
