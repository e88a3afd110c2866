"""Every route of i3D.net's task system: status and whole body, in both forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from i3dclient import BATCH, TASK, I3d, refusal, timeless, told

from task_runner.api.dialects.i3d import routes
from task_runner.api.dialects.i3d.templates import template_id
from task_runner.service.settings import Settings

INSTANCE = "/v3/applicationInstance"

FAILING = "echo trying; echo no such map >&2; exit 3"
TEMPLATES: dict[str, dict[str, Any]] = {
    "greet": {
        "description": "greets",
        "parameters": {"who": {"description": "whom to greet"}, "times": {"type": "integer", "default": 1}},
        "task": {
            "name": "greet ${who}",
            "actions": [
                {"machine": "process", "name": "Greet", "parameters": {"command": ["echo", "${who}", "${times}"]}},
                {"machine": "echo", "parameters": ["echo done"]},
            ],
        },
    },
    "sleep": {"task": {"command": ["sleep", "600"], "graceSeconds": 0.2}},
    "fail": {"task": {"actions": [{"machine": "process", "name": "Start instance", "parameters": {"shell": FAILING}}]}},
    "hurry": {"task": {"command": ["sleep", "600"], "timeoutSeconds": 0.1, "graceSeconds": 0.2}},
    "big": {"task": {"command": ["true"], "resources": {"memoryMb": 1_000_000_000}}},
    "same": {"task": {"command": ["true"], "alias": "same"}},
    "typed": {
        "parameters": {"applicationInstanceId": {"type": "integer"}, "on": {"type": "boolean"}, "level": {"type": "number"}},
        "task": {"command": ["true"], "metadata": {"id": "${applicationInstanceId}", "on": "${on}", "level": "${level}"}},
    },
    "stop": {
        "parameters": {"methodId": {"type": "integer", "default": 2}, "timeout": {"type": "integer", "default": 30}},
        "task": {"command": ["echo", "${methodId}", "${timeout}"]},
    },
    "customCommand": {"parameters": {"say": {"maxLength": 512}}, "task": {"command": ["echo", "${say}"]}},
    "start": {"task": {"command": ["true"]}},
    "restart": {"task": {"command": ["true"]}},
    "deploy": {"parameters": {"applicationBuildId": {}}, "task": {"command": ["echo", "${applicationBuildId}"]}},
}


def equipped(home: Path, **settings: Any) -> Daemon:
    """A daemon with these templates."""
    templates = home / "templates"
    templates.mkdir()
    for name, template in TEMPLATES.items():
        (templates / f"{name}.json").write_text(json.dumps(template))
    return Daemon(home / "state", dialects=["i3d"], i3d_host_id=46256, templates_dir=str(templates), **settings)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Iterator[I3d]:
    daemon = equipped(tmp_path_factory.mktemp("i3d"))
    try:
        yield I3d(daemon.start())
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[I3d]:
    """The same, in the form of the OpenAPI description."""
    daemon = equipped(tmp_path_factory.mktemp("openapi"), i3d_openapi=True)
    try:
        yield I3d(daemon.start())
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def finished(i3d: I3d, batch: dict[str, Any]) -> dict[str, Any]:
    path = f"{BATCH}/{batch['id']}"
    return dict(wait_for(lambda: (b := i3d.one("GET", path))["finishedAt"] and b, "the batch is over"))


PARAMS = [{"paramName": "who", "paramValue": "you"}, {"paramName": "times", "paramValue": "2"}]


# -- the documented way: templates, create, batch, tasks


def test_templates(i3d: I3d, openapi: I3d):
    def greet(client: I3d) -> Any:
        response = client.get(f"{TASK}/template")
        assert response.status_code == 200
        assert sorted(each["name"] for each in response.json()) == sorted(TEMPLATES)
        return next(each for each in response.json() if each["name"] == "greet")

    prose = {
        "id": template_id("greet"),
        "name": "greet",
        "description": "greets",
        "actions": [
            {"idx": 0, "actionType": "Greet", "requiredParams": {"who": "whom to greet"}},
            {"idx": 1, "actionType": "echo", "requiredParams": None},
        ],
    }
    assert greet(i3d) == prose
    actions = [{**step, "requiredParams": list(step["requiredParams"] or ())} for step in prose["actions"]]
    assert greet(openapi) == {**prose, "actions": actions}


def test_a_batch_from_beginning_to_end(i3d: I3d):
    created = i3d.post(TASK, {
        "taskTemplateId": str(template_id("greet")),
        "applicationInstanceIds": ["2897954287466354361", "12"],
        "taskActionParam": PARAMS,
    })  # fmt: skip
    batch = created.json()[0]
    first, second = (int(each) for each in batch["taskIds"])
    assert second > first
    counts = {"numTasks": 2, "numTasksOk": 0, "numTasksFailed": 0, "numTasksCancelled": 0}
    assert batch["taskIds"].keys() == {str(first), str(second)}
    assert timeless({**batch, "taskIds": {}}) == {
        "id": batch["id"], "createdAt": "T", "executeAt": "T", "finishedAt": 0, **counts, "taskIds": {},
    }  # fmt: skip
    assert batch["createdAt"] == batch["executeAt"]
    over = finished(i3d, batch)
    assert over == {
        **batch, "finishedAt": over["finishedAt"], "numTasksOk": 2, "taskIds": {str(first): 127, str(second): 127}
    }  # fmt: skip
    assert told(i3d.get(f"{TASK}/{first}")) == (200, [{
        "id": first,
        "batchId": batch["id"],
        "categoryId": 2,
        "entityId": 2897954287466354361,
        "currentActionIdx": 1,
        "executeAt": "T",
        "lastActivityAt": "T",
        "finishedAt": "T",
        "resultCode": 127,
        "resultText": "Done",
    }])  # fmt: skip
    assert i3d.one("GET", f"{INSTANCE}/12/task") == i3d.task(second)
    listed = i3d.get(TASK).json()
    assert [each["id"] for each in listed[:2]] == [second, first]
    assert i3d.get("/v3/host/46256/task").json() == i3d.get(TASK).json()[:50]
    assert i3d.get(BATCH).json()[0] == over
    v1 = i3d.daemon.http.get("/v1/tasks", params={"entity": "12"}).json()[0]
    assert i3d.daemon.output(v1["taskId"]) == b"you 2\ndone\n"


def test_a_batch_of_the_openapi_form(openapi: I3d):
    batch = openapi.create("greet", 11, 12, taskActionParam=PARAMS)
    over = finished(openapi, batch)
    first, second = over["taskIds"]
    assert timeless(over) == {
        "id": batch["id"], "createdAt": "T", "executeAt": "T", "finishedAt": "T", "numTasks": 2,
        "numTasksOk": 2, "numTasksFailed": 0, "numTasksCancelled": 0, "taskIds": [first, second],
    }  # fmt: skip
    assert told(openapi.get(f"{TASK}/{first}")) == (200, [{
        "id": first,
        "name": "greet you",
        "batchId": batch["id"],
        "categoryId": 1,
        "entityId": 11,
        "currentActionIdx": 1,
        "executeAt": "T",
        "lastActivityAt": "T",
        "finishedAt": "T",
        "resultCode": 127,
        "resultText": "Done",
    }])  # fmt: skip


def whole(openapi_form: bool, name: str, **known: Any) -> dict[str, Any]:
    """A task's body, without its times."""
    waiting = {"currentActionIdx": -1, "executeAt": 0, "lastActivityAt": 0, "finishedAt": 0, "resultCode": 0}
    body = {"batchId": 0, **waiting, "resultText": "Pending Task execution", **known}
    return {**body, "categoryId": 1, "name": name} if openapi_form else {**body, "categoryId": 2}


@pytest.mark.parametrize("which", ["i3d", "openapi"])
def test_every_route_in_its_order(request: pytest.FixtureRequest, which: str):
    client: I3d = request.getfixturevalue(which)
    strict = which == "openapi"
    created = client.call("POST", TASK, {"taskTemplateId": "sleep", "applicationInstanceIds": ["14"]})
    [batch] = created.json()
    number = client.only(batch)
    counts = {"numTasks": 1, "numTasksOk": 0, "numTasksFailed": 0, "numTasksCancelled": 0}
    made = {"id": batch["id"], "createdAt": "T", "executeAt": "T", "finishedAt": 0, **counts}
    assert timeless({**batch, "taskIds": 0}) == {**made, "taskIds": 0}
    client.wait(number, 1)
    task = {"id": number, "batchId": batch["id"], "entityId": 14, "currentActionIdx": 0, "executeAt": "T",
            "lastActivityAt": "T"}  # fmt: skip
    going = whole(strict, "sleep", **task, resultCode=1, resultText="In progress")
    held = whole(strict, "sleep", **task, resultCode=2, resultText="Paused")
    over = whole(strict, "sleep", **task, finishedAt="T", resultCode=125 if strict else 124, resultText="Cancelled")
    ended = {**made, "finishedAt": "T", "numTasksCancelled": 1, "taskIds": [number] if strict else {str(number): 124}}
    for method, path, expected in (
        ("GET", f"{TASK}/{number}", going),
        ("GET", f"{BATCH}/{batch['id']}", {**made, "taskIds": [number] if strict else {str(number): 1}}),
        ("PUT", f"{TASK}/{number}", held),
        ("GET", TASK, held),
        ("GET", f"{INSTANCE}/14/task", held),
        ("GET", "/v3/host/46256/task", held),
        ("PUT", f"{TASK}/{number}", going),
        ("DELETE", f"{TASK}/{number}", over),
        ("GET", f"{TASK}/{number}", over),
        ("GET", f"{BATCH}/{batch['id']}", ended),
        ("GET", BATCH, ended),
    ):
        if method == "GET":
            status, body = told(client.call(method, path))
            assert (method, path, status, body[0]) == (method, path, 200, expected)
        else:
            turned = client.cancel(number) if method == "DELETE" else client.turn(number, expected["resultCode"])
            assert (method, timeless(turned)) == (method, expected)
    command = {"customCommand": [{"key": "say", "value": "hello"}]}
    for path, sent, name in (
        (f"{INSTANCE}/15/stop", {"timeout": 5}, "stop"),
        (f"{INSTANCE}/16/start", None, "start"),
        (f"{INSTANCE}/17/restart", {}, "restart"),
        (f"{INSTANCE}/18/deploy", {"applicationBuildId": "b"}, "deploy"),
        ("/v3/customCommand/applicationInstance/19", command, "customCommand"),
    ):
        status, [body] = told(client.post(path, sent))
        entity = int(path.split("/")[3]) if name != "customCommand" else 19
        assert (status, body) == (200, whole(strict, name, id=body["id"], entityId=entity))


#: what the generated Go client wants of each answer, and nothing else; each a number of 32 bits, or as named
STRICT = {
    TASK: {"name": str, "resultText": str},
    BATCH: {"taskIds": list},
    f"{TASK}/template": {"name": str, "description": str, "actions": list},
}
INTEGERS = {
    TASK: ["id", "batchId", "categoryId", "entityId", "currentActionIdx", "executeAt", "lastActivityAt", "finishedAt",
           "resultCode"],
    BATCH: ["id", "createdAt", "executeAt", "finishedAt", "numTasks", "numTasksOk", "numTasksFailed",
            "numTasksCancelled"],
    f"{TASK}/template": ["id"],
}  # fmt: skip


@pytest.mark.parametrize("path", STRICT)
def test_a_strict_client_can_read_every_answer_of_the_openapi_form(openapi: I3d, path: str):
    finished(openapi, openapi.create("fail", 2**31 - 1))
    openapi.create("sleep", 5, executeAt=2**31 - 1)
    for each in openapi.get(path).json():
        assert set(each) == {*STRICT[path], *INTEGERS[path]}
        for name, kind in STRICT[path].items():
            assert type(each[name]) is kind
        assert all(type(each[name]) is int and -(2**31) <= each[name] < 2**31 for name in INTEGERS[path])
        for step in each.get("actions", ()):
            assert set(step) == {"idx", "actionType", "requiredParams"}
            assert type(step["requiredParams"]) is list
        assert all(type(number) is int for number in each.get("taskIds", ()))


# -- how tasks end


@pytest.mark.parametrize(
    ("template", "prose", "openapi_code", "text"),
    [
        ("fail", 126, 126, "Start instance: exit code 3: no such map"),
        ("hurry", 125, 126, "Timed out"),
    ],
)
def test_an_ending_is_told(i3d: I3d, openapi: I3d, template: str, prose: int, openapi_code: int, text: str):
    for client, code in ((i3d, prose), (openapi, openapi_code)):
        batch = client.create(template, 21)
        task = client.wait(client.only(batch))
        assert (task["resultCode"], task["resultText"]) == (code, text)
        # where the time is over before the first action has begun there is none
        assert task["currentActionIdx"] in ((0, -1) if template == "hurry" else (0,))
        over = finished(client, batch)
        assert (over["numTasksOk"], over["numTasksFailed"], over["numTasksCancelled"]) == (0, 1, 0)


def test_a_running_task_is_cancelled(i3d: I3d, openapi: I3d):
    for client, code in ((i3d, 124), (openapi, 125)):
        batch = client.create("sleep", 22)
        number = client.only(batch)
        client.wait(number, 1)
        task = client.cancel(number)
        assert (task["resultCode"], task["resultText"]) == (code, "Cancelled")
        assert task == client.task(number)
        assert finished(client, batch)["numTasksCancelled"] == 1


def test_a_scheduled_task_is_cancelled_before_it_starts(i3d: I3d):
    batch = i3d.create("sleep", 23, executeAt=4_102_444_800)
    number = i3d.only(batch)
    planned = {
        "id": number, "batchId": batch["id"], "categoryId": 2, "entityId": 23, "currentActionIdx": -1,
        "executeAt": 4_102_444_800, "lastActivityAt": 0, "finishedAt": 0, "resultCode": 0,
    }  # fmt: skip
    found = i3d.task(number)
    assert found.pop("resultText").startswith("Pending Task execution")
    assert (found, batch["executeAt"]) == (planned, 4_102_444_800)
    cancelled = i3d.one("DELETE", f"{TASK}/{number}")
    assert (cancelled["resultCode"], cancelled["currentActionIdx"], cancelled["executeAt"]) == (124, -1, 4_102_444_800)


def test_a_task_that_is_over_cannot_be_cancelled_or_paused(i3d: I3d):
    number = i3d.only(i3d.create("fail", 24))
    i3d.wait(number)
    message = "Task cannot be cancelled: it is over (failed)"
    assert told(i3d.call("DELETE", f"{TASK}/{number}")) == (409, refusal(23000, message))
    message = "Task cannot be pause: the task is exited: it cannot be paused"
    assert told(i3d.call("PUT", f"{TASK}/{number}")) == (409, refusal(23000, message))


def test_a_task_that_has_not_started_cannot_be_paused(i3d: I3d):
    number = i3d.only(i3d.create("sleep", 25, executeAt=4_102_444_800))
    message = "Task cannot be pause: the task is scheduled: it cannot be paused"
    assert told(i3d.call("PUT", f"{TASK}/{number}")) == (409, refusal(23000, message))
    i3d.one("DELETE", f"{TASK}/{number}")


def test_a_secret_in_the_last_line_is_not_told(make_daemon: Any, tmp_path: Path):
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "password").chmod(0o600)
    daemon = make_daemon(dialects=["i3d"], secrets_dir=str(tmp_path)).start()
    task = {"shell": "echo no $P; exit 1", "secrets": [{"name": "password", "env": "P"}]}
    assert daemon.http.put("/v1/templates/tell", json={"task": task}).status_code == 201
    client = I3d(daemon)
    over = client.wait(client.only(client.create("tell", 7)))
    assert over["resultText"] == "process: exit code 1: no *************"


# -- pausing


def test_a_pause_is_so_before_the_answer_and_holds_the_instance(i3d: I3d):
    first = i3d.only(i3d.create("sleep", 31))
    # at once: the client need not know that it has only just been started
    paused = i3d.turn(first, 2)
    assert (paused["resultCode"], paused["resultText"]) == (2, "Paused")
    second = i3d.only(i3d.create("greet", 31, taskActionParam=PARAMS))
    other = i3d.only(i3d.create("greet", 32, taskActionParam=PARAMS))
    assert i3d.wait(other)["resultCode"] == 127
    waiting = i3d.task(second)
    assert (waiting["resultCode"], waiting["currentActionIdx"]) == (0, -1)
    assert waiting["resultText"].startswith("Pending Task execution: entity 31 is busy with task ")
    i3d.turn(first, 1)
    assert i3d.task(second)["resultCode"] == 0
    i3d.turn(first, 2)
    i3d.one("DELETE", f"{TASK}/{first}")
    assert i3d.wait(first)["resultCode"] == 124
    assert i3d.wait(second)["resultCode"] == 127


# -- what templates are given


def test_values_get_the_types_that_the_template_declares(i3d: I3d):
    params = [{"paramName": "on", "paramValue": "true"}, {"paramName": "level", "paramValue": "1.5"}]
    i3d.create("typed", 41, 42, taskActionParam=params)
    for instance in (41, 42):
        [task] = i3d.daemon.http.get("/v1/tasks", params={"entity": str(instance)}).json()
        assert task["metadata"] == {"id": instance, "on": True, "level": 1.5}


@pytest.mark.parametrize("given", [template_id("fail"), str(template_id("fail")), "fail"])
def test_a_template_is_named_by_number_or_name(i3d: I3d, given: str | int):
    assert i3d.wait(i3d.only(i3d.create(given, 43)))["resultText"].startswith("Start instance")


def test_a_repeated_request_with_a_key_makes_one_batch(i3d: I3d):
    body = {"taskTemplateId": "fail", "applicationInstanceIds": ["44"]}
    made = [i3d.post(TASK, body, headers={"Idempotency-Key": "i3d-once"}).json()[0]["id"] for _ in range(2)]
    assert made[0] == made[1]


# -- instances, hosts, commands


def test_an_operation_is_one_task_from_the_template_of_its_name(i3d: I3d):
    made = i3d.post(f"{INSTANCE}/51/stop", {"methodId": 1, "timeout": None})
    [task] = made.json()
    assert timeless(task) == {
        "id": task["id"], "batchId": 0, "categoryId": 2, "entityId": 51, "currentActionIdx": -1, "executeAt": 0,
        "lastActivityAt": 0, "finishedAt": 0, "resultCode": 0, "resultText": "Pending Task execution",
    }  # fmt: skip
    i3d.wait(task["id"])
    [v1] = i3d.daemon.http.get("/v1/tasks", params={"entity": "51"}).json()
    assert (i3d.daemon.output(v1["taskId"]), v1["template"], v1["origin"]) == (b"1 30\n", "stop", "i3d")


def test_an_operation_needs_no_body(i3d: I3d):
    assert i3d.wait(i3d.one("POST", f"{INSTANCE}/52/stop")["id"])["resultCode"] == 127


def test_a_custom_command_goes_to_an_instance(i3d: I3d):
    command = {"customCommand": [{"key": "say", "value": "hello 'all'"}]}
    number = i3d.one("POST", "/v3/customCommand/applicationInstance/53", command)["id"]
    i3d.wait(number)
    [v1] = i3d.daemon.http.get("/v1/tasks", params={"entity": "53"}).json()
    assert i3d.daemon.output(v1["taskId"]) == b"hello 'all'\n"


def test_an_instance_that_nothing_was_done_to_has_no_tasks(i3d: I3d):
    assert told(i3d.get(f"{INSTANCE}/54/task")) == (200, [])


# -- refusals

NO_CHOICE = "this daemon knows no fleets, regions and labels: name the instances in applicationInstanceIds"
NO_ID = "is no valid ID: a whole number from 1 to 2^63-1 is expected"
NO_HOST = (
    "a command for a host is one for all of its instances, and this daemon does not know which there are: "
    "send it to each of them, POST /v3/customCommand/applicationInstance/{applicationInstanceId}"
)
ORDER = {"taskTemplateId": "greet", "applicationInstanceIds": ["61"], "taskActionParam": PARAMS}
REFUSALS: list[tuple[str, str, Any, int, dict[str, Any]]] = [
    *(
        (method, f"{path}/999999", None, 404, refusal(10001, f"there is no {what} 999999"))
        for method, path, what in (
            ("GET", TASK, "task"), ("PUT", TASK, "task"), ("DELETE", TASK, "task"), ("GET", BATCH, "batch"),
        )
    ),
    *(
        (method, path.format("x7"), None, 404, refusal(10002, f"'x7' {NO_ID}"))
        for method, path in (
            ("GET", f"{TASK}/{{}}"), ("PUT", f"{TASK}/{{}}"), ("DELETE", f"{TASK}/{{}}"), ("GET", f"{BATCH}/{{}}"),
            ("GET", f"{INSTANCE}/{{}}/task"), ("GET", "/v3/host/{}/task"), ("POST", f"{INSTANCE}/{{}}/stop"),
            ("POST", "/v3/customCommand/applicationInstance/{}"), ("POST", "/v3/customCommand/host/{}"),
        )
    ),
    ("GET", "/v3/host/7/task", None, 404, refusal(10001, "there is no host 7 here: this machine is host 46256")),
    ("GET", INSTANCE, None, 404, refusal(10001, "there is nothing at /v3/applicationInstance")),
    ("GET", f"{INSTANCE}/7", None, 404, refusal(10001, "there is nothing at /v3/applicationInstance/7")),
    ("DELETE", BATCH, None, 405, refusal(10008, "DELETE is not possible here")),
    ("GET", f"{TASK}?labels=a", None, 400, refusal(10008, "there is no parameter 'labels' here")),
    ("POST", TASK, [], 400, refusal(10008, "the body must be a JSON object")),
    ("POST", TASK, {**ORDER, "fleetId": "5"}, 422, refusal(11001, f"fleetId: {NO_CHOICE}", fleetId=NO_CHOICE)),
    ("POST", TASK, {**ORDER, "taskTemplateId": "nothing"}, 422, refusal(
        11001, "taskTemplateId: there is no template 'nothing'; GET /v3/applicationInstance/task/template lists them",
        taskTemplateId="there is no template 'nothing'; GET /v3/applicationInstance/task/template lists them",
    )),
    ("POST", TASK, {**ORDER, "taskActionParam": []}, 422, refusal(
        11001, "taskActionParam.who: this parameter is required: whom to greet",
        taskActionParam__who="this parameter is required: whom to greet",
    )),
    ("POST", TASK, {**ORDER, "taskActionParam": [PARAMS[0], {"paramName": "times", "paramValue": "two"}]}, 422, refusal(
        11001, "taskActionParam.times: expected a number", taskActionParam__times="expected a number",
    )),
    ("POST", f"{INSTANCE}/7/stop", {"timeout": "soon"}, 422, refusal(
        11001, "timeout: expected a number", timeout="expected a number",
    )),
    ("POST", f"{INSTANCE}/7/stop", {"force": "1"}, 422, refusal(
        11001, "force: no such parameter; there are: methodId, timeout",
        force="no such parameter; there are: methodId, timeout",
    )),
    ("POST", "/v3/customCommand/applicationInstance/7", {"customCommand": [{"key": "say"}]}, 422, refusal(
        11001, 'customCommand.0: an object with "key" and "value" is expected',
        customCommand__0='an object with "key" and "value" is expected',
    )),
    ("POST", "/v3/customCommand/applicationInstance/7", {"command": "x"}, 422, refusal(
        11001, "command: there is no such field; there is: customCommand",
        command="there is no such field; there is: customCommand",
    )),
    ("POST", "/v3/customCommand/host/7", {"customCommand": []}, 422, refusal(23000, NO_HOST)),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "expected"), REFUSALS)
def test_a_refusal_has_the_form_of_the_system(
    i3d: I3d, method: str, path: str, body: Any, status: int, expected: dict[str, Any]
):
    response = i3d.call(method, path, body)
    assert (response.status_code, response.json()) == (status, expected)


def test_what_a_template_asks_for_and_is_not_possible_here_is_told_of_the_template(i3d: I3d):
    response = i3d.post(TASK, {"taskTemplateId": "big", "applicationInstanceIds": ["62", "63"]})
    [fault] = response.json()["errors"]
    assert (response.status_code, fault["property"]) == (422, "taskTemplateId")
    assert fault["message"].startswith("resources.memoryMb: ")


def test_a_conflict_with_another_task_is_a_task_error(i3d: I3d):
    i3d.wait(i3d.only(i3d.create("same", 64)))
    response = i3d.post(TASK, {"taskTemplateId": "same", "applicationInstanceIds": ["65"]})
    assert (response.status_code, response.json()["errorCode"]) == (409, 23000)
    assert response.json()["errorMessage"].startswith("the alias 'same' is taken by task ")


def test_a_refused_batch_leaves_nothing(i3d: I3d):
    before = i3d.get(TASK).json()[0]["id"]
    assert i3d.post(TASK, {**ORDER, "applicationInstanceIds": ["66", "x"]}).status_code == 422
    assert i3d.get(TASK).json()[0]["id"] == before
    assert i3d.get(f"{INSTANCE}/66/task").json() == []


def test_an_instance_whose_number_the_clients_of_the_openapi_form_cannot_read_is_refused(openapi: I3d):
    why = "clients of the OpenAPI description read no number beyond 2147483647; set i3d_openapi = false"
    body = {"taskTemplateId": "fail", "applicationInstanceIds": [str(2**31)]}
    field = {"applicationInstanceIds__0": why}
    assert told(openapi.post(TASK, body)) == (422, refusal(11001, f"applicationInstanceIds.0: {why}", **field))
    assert told(openapi.post(f"{INSTANCE}/{2**31}/stop")) == (404, refusal(10002, why))


def test_a_missing_or_broken_template_of_an_operation_is_told_with_the_remedy(make_daemon: Any, tmp_path: Path):
    (tmp_path / "stop.toml").write_text("task = ")
    client = I3d(make_daemon(dialects=["i3d"], templates_dir=str(tmp_path)).start())
    message = (
        "this is done by the template 'start', and there is none; "
        "put one there: task-runner template put start FILE, or start.toml in templates_dir"
    )
    assert told(client.post(f"{INSTANCE}/7/start")) == (422, refusal(23000, message))
    broken = client.post(f"{INSTANCE}/7/stop").json()
    assert broken["errorMessage"].startswith("this is done by the template 'stop', which cannot be used: it is not TOML")
    assert client.get(f"{TASK}/template").json() == []


def test_a_host_without_a_number_says_how_it_gets_one(make_daemon: Any):
    client = I3d(make_daemon(dialects=["i3d"]).start())
    message = "there is no host 7 here: this machine does not know its number (set i3d_host_id)"
    assert told(client.get("/v3/host/7/task")) == (404, refusal(10001, message))


# -- the token

TOKEN = "a token is needed: PRIVATE-TOKEN; it stands in <state>/token"
EVERY_CALL = sorted({(method, each.path) for each in routes.surface(Settings()).routes for method in each.methods})


@pytest.mark.parametrize(("method", "path"), EVERY_CALL)
def test_every_route_needs_the_token(i3d: I3d, method: str, path: str):
    path = path.replace("{", "").replace("}", "")
    for headers in ({}, {"PRIVATE-TOKEN": "x" * 43}, {"Authorization": f"Basic {i3d.daemon.token}"}):
        response = i3d.daemon.http.request(method, path, headers={"Authorization": "", **headers})
        assert response.status_code == 401
        assert method == "HEAD" or response.json() == refusal(10004, TOKEN)


@pytest.mark.parametrize("header", ["PRIVATE-TOKEN: {}", "Authorization: Bearer {}"])
def test_the_token_may_stand_in_either_header(i3d: I3d, header: str):
    name, _, value = header.format(i3d.daemon.token).partition(": ")
    response = i3d.daemon.http.get(TASK, headers={"Authorization": "", name: value})
    assert response.status_code == 200


def test_a_body_must_be_json(i3d: I3d):
    for content, kind, status, code in (
        (b"{", "application/json", 400, 10008),
        (b"a=b", "application/x-www-form-urlencoded", 415, 10008),
    ):
        response = i3d.post(TASK, content=content, headers={"Content-Type": kind})
        assert (response.status_code, response.json()["errorCode"], response.json()["errors"]) == (status, code, [])


# -- the same tasks by /v1


def test_v1_sees_and_controls_what_came_in_here(i3d: I3d):
    batch = i3d.create("sleep", 71, 72)
    first, second = map(int, batch["taskIds"])
    v1 = {t["entity"]: t for t in i3d.daemon.http.get("/v1/tasks", params={"origin": "i3d"}).json()}
    one, two = v1["71"]["taskId"], v1["72"]["taskId"]
    i3d.daemon.wait_state(one, "running")
    i3d.daemon.post(f"/v1/tasks/{one}/pause")  # its answer waits half a second for the state, and no longer
    i3d.daemon.wait_state(one, "paused")
    assert i3d.task(first)["resultCode"] == 2
    i3d.turn(first, 1)
    i3d.daemon.wait_state(one, "running")
    i3d.daemon.post(f"/v1/tasks/{one}/stop")
    i3d.daemon.wait(one)
    assert i3d.task(first)["resultCode"] == 124
    i3d.daemon.wait_state(two, "running")
    assert i3d.daemon.http.delete(f"/v1/tasks/{two}").status_code == 200
    assert told(i3d.get(f"{TASK}/{second}")) == (404, refusal(10001, f"there is no task {second}"))
    assert i3d.one("GET", f"{BATCH}/{batch['id']}")["taskIds"] == {str(first): 124}
    over = finished(i3d, batch)
    assert (over["numTasks"], over["numTasksCancelled"], over["taskIds"]) == (2, 2, {str(first): 124})
    assert i3d.daemon.post(f"/v1/tasks/{one}/retry").status_code == 200
    assert i3d.wait(first, 1)["finishedAt"] == 0
    i3d.one("DELETE", f"{TASK}/{first}")


def test_what_came_in_elsewhere_is_not_shown_here(i3d: I3d):
    made = i3d.daemon.post("/v1/batches", {"task": {"command": ["true"]}, "entities": ["81"]}).json()
    i3d.daemon.wait(made["tasks"][0])
    assert i3d.get(f"{INSTANCE}/81/task").json() == []
    newest = i3d.only(i3d.create("fail", 82))
    assert i3d.get(f"{TASK}/{newest + 1}").status_code == 404
    listed = json.dumps(i3d.get(BATCH).json())
    assert '"entityId": 81' not in json.dumps(i3d.get(TASK).json())
    assert made["batchId"] not in listed


def test_the_last_hundred_are_listed(tmp_path: Path):
    daemon = equipped(tmp_path)
    try:
        client = I3d(daemon.start())
        assert daemon.post("/v1/node/drain").status_code == 200
        for _ in range(101):
            client.create("fail", 7)
        batch = client.create("fail", *range(1001, 1121))
        numbers = sorted(map(int, batch["taskIds"]), reverse=True)
        assert len(numbers) == 120
        assert [each["id"] for each in client.get(TASK).json()] == numbers[:100]
        assert [each["id"] for each in client.get("/v3/host/46256/task").json()] == numbers[:50]
        assert [each["id"] for each in client.get(BATCH).json()] == list(range(102, 2, -1))
        assert [each["id"] for each in client.get(f"{INSTANCE}/7/task").json()] == list(range(101, 51, -1))
    finally:
        daemon.close()
