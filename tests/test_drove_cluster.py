"""Drove's cluster, executors and applications: views of the one node; its envelope; and who may ask."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon
from dialectclient import DialectClient

from task_runner.api.dialects.drove import envelope
from task_runner.api.dialects.drove.executors import Share
from task_runner.api.dialects.drove.node import executor_id, millis
from task_runner.api.surface import Refusal

SETTINGS = {"dialects": ["drove"], "cpus": 3.5, "memory_mb": 1000, "drove_tags": ["gpu"]}
CORES = [0, 1, 2]


@pytest.fixture
def drove(shared: Daemon) -> Iterator[DialectClient]:
    """A client of a daemon that takes tasks."""
    yield DialectClient(shared, {"Authorization": "Bearer {token}"})
    assert shared.post("/v1/node/undrain").status_code == 200


def port(daemon: Daemon) -> int:
    return int(daemon.url.rpartition(":")[2])


def known(daemon: Daemon) -> dict[str, Any]:
    """What answers are filled with that is not the same everywhere."""
    return {
        "HOST": socket.gethostname(),
        "PORT": port(daemon),
        "LEADER": f"{socket.gethostname()}:{port(daemon)}",
        "ID": executor_id(str(daemon.state_dir)),
        "TIME": re.compile(r"\d{13}"),
    }


def check(found: Any, expected: Any, words: dict[str, Any]) -> None:
    """Both are the same, once the words in capitals are what they stand for."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and set(found) == set(expected), found
        for name, value in expected.items():
            check(found[name], value, words)
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), found
        for one, other in zip(found, expected, strict=True):
            check(one, other, words)
    else:
        value = words.get(expected, expected) if isinstance(expected, str) else expected
        if isinstance(value, re.Pattern):
            assert type(found) is int and value.fullmatch(str(found)), found
        else:
            assert (type(found), found) == (type(value), value)


def success(data: Any) -> dict[str, Any]:
    return {"status": "SUCCESS", "data": data, "message": "success"}


def failed(message: str) -> dict[str, Any]:
    return {"status": "FAILED", "message": message}


def invalid(*faults: str) -> dict[str, Any]:
    return {"status": "FAILED", "data": {"validationErrors": list(faults)}, "message": "Command validation failure"}


def refused(message: str) -> dict[str, Any]:
    return {"status": "FAILED", "data": {"failure": message}, "message": message}


NO_APPLICATIONS = (
    "only tasks are run here, no applications and no local services: what is to run for ever can be a task without a"
    " time limit"
)
SUMMARY = {
    "leader": "LEADER", "state": "NORMAL", "numExecutors": 1, "numApplications": 0, "numActiveApplications": 0,
    "numActiveTasks": 0, "numLocalServices": 0, "numActiveLocalServices": 0, "freeCores": 3, "usedCores": 0,
    "totalCores": 3, "freeMemory": 1000, "usedMemory": 0, "totalMemory": 1000,
}  # fmt: skip
EXECUTOR = {
    "executorId": "ID", "hostname": "HOST", "port": "PORT", "transportType": "HTTP", "freeCores": 3, "usedCores": 0,
    "freeMemory": 1000, "usedMemory": 0, "tags": ["HOST", "gpu"], "state": "ACTIVE",
}  # fmt: skip
DETAILS = {
    "type": "EXECUTOR", "hostname": "HOST", "port": "PORT", "transportType": "HTTP", "updated": "TIME",
    "state": {
        "executorId": "ID",
        "cpus": {"type": "CPU", "freeCores": {"0": CORES}, "usedCores": {"0": []}},
        "memory": {"type": "MEMORY", "freeMemory": {"0": 1000}, "usedMemory": {"0": 0}},
        "layout": {"cores": {"0": CORES}, "memory": {"0": 1000}},
    },
    "instances": [], "tasks": [], "serviceInstances": [], "tags": ["HOST", "gpu"], "metadata": {}, "executorState": "ACTIVE", "blacklisted": False,
}  # fmt: skip

#: method, path below /apis/v1, status, whole body
REPLAY = [
    ("GET", "/ping", 200, success("pong")),
    ("GET", "/cluster", 200, success(SUMMARY)),
    ("GET", "/cluster/executors", 200, success([EXECUTOR])),
    ("GET", "/cluster/executors/ID", 200, success(DETAILS)),
    ("GET", "/cluster/executors/other", 200, failed("No executor found with id: other")),
    ("POST", "/cluster/executors/blacklist", 400, invalid("id - must not be empty")),
    ("POST", "/cluster/executors/blacklist?id=ID", 200, success({"successful": ["ID"], "failed": []})),
    ("POST", "/cluster/executors/ID/blacklist", 200, success({"successful": ["ID"], "failed": []})),
    (
        "POST",
        "/cluster/executors/unblacklist?id=a&id=ID&id=b",
        200,
        success({"successful": ["ID"], "failed": ["a", "b"], "message": "No executor found with id: a, b"}),
    ),
    ("POST", "/cluster/executors/ID/unblacklist", 200, success({"successful": ["ID"], "failed": []})),
    ("POST", "/cluster/maintenance/set", 200, success({"state": "MAINTENANCE", "updated": "TIME"})),
    ("POST", "/cluster/maintenance/unset", 200, success({"state": "NORMAL", "updated": "TIME"})),
    ("GET", "/cluster/events", 200, success([])),
    ("GET", "/cluster/events/latest?lastSyncTime=17", 200, success({"events": [], "lastSyncTime": 17})),
    ("GET", "/cluster/events/summary", 200, success({"eventsCount": {}, "lastSyncTime": 0})),
    (
        "GET",
        "/cluster/events?size=-1",
        400,
        invalid("size - expected a whole number from 0 to 2147483647, found '-1'"),
    ),
    (
        "GET",
        "/cluster/events/latest?lastSyncTime=soon",
        400,
        invalid("lastSyncTime - expected a whole number of at least 0, found 'soon'"),
    ),
    ("GET", "/endpoints", 200, success([])),
    ("GET", "/endpoints/app/A", 200, success([])),
    ("GET", "/applications", 200, success({})),
    ("GET", "/applications/A", 200, failed("App A not found")),
    ("GET", "/applications/A/spec", 200, failed("App A not found")),
    ("GET", "/applications/A/instances", 200, success([])),
    ("GET", "/applications/A/instances/old", 200, success([])),
    ("GET", "/applications/A/instances/I", 200, failed("No such application instance A/I")),
    ("POST", "/applications/operations", 400, invalid(NO_APPLICATIONS)),
    ("POST", "/applications/operations/A/cancel", 400, invalid(NO_APPLICATIONS)),
    ("POST", "/applications/validate/spec", 400, invalid(NO_APPLICATIONS)),
    ("GET", "/localservices", 200, success({})),
    ("GET", "/localservices/S", 200, failed("Local service S not found")),
    ("GET", "/localservices/S/instances", 200, success([])),
    ("GET", "/localservices/S/instances/I", 200, failed("No such local service instance S/I")),
    ("POST", "/localservices/operations", 400, invalid(NO_APPLICATIONS)),
    ("GET", "/nowhere", 404, refused("there is nothing at /apis/v1/nowhere")),
    ("POST", "/cluster/placement/simulate", 404, refused("there is nothing at /apis/v1/cluster/placement/simulate")),
    ("PUT", "/cluster", 405, refused("PUT is not possible here")),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "body"), REPLAY)
def test_replay(drove: DialectClient, method: str, path: str, status: int, body: Any):
    words = known(drove.daemon)
    response = drove.call(method, f"/apis/v1{path.replace('ID', words['ID'])}", {} if method == "POST" else None)
    assert response.headers["content-type"] == "application/json"
    check(response.json(), body, words)
    assert response.status_code == status


# -- the node in numbers


def test_what_tasks_take_is_used_and_what_is_left_is_free(drove: DialectClient):
    daemon = drove.daemon
    task_id = daemon.submit("sleep", "1000", resources={"cpus": 1.25, "memoryMb": 300})
    daemon.wait_state(task_id, "running")
    words = known(daemon)
    used = {"freeCores": 2, "usedCores": 1, "freeMemory": 700, "usedMemory": 300}
    try:
        check(drove.get("/apis/v1/cluster").json(), success({**SUMMARY, **used}), words)
        check(drove.get("/apis/v1/cluster/executors").json(), success([{**EXECUTOR, **used}]), words)
        state = drove.get(f"/apis/v1/cluster/executors/{words['ID']}").json()["data"]["state"]
        assert state["cpus"] == {"type": "CPU", "freeCores": {"0": [1, 2]}, "usedCores": {"0": [0]}}
        assert state["memory"] == {"type": "MEMORY", "freeMemory": {"0": 700}, "usedMemory": {"0": 300}}
    finally:
        daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
        daemon.wait(task_id)


SHARES = [
    # total, free: whole total, free and used ones
    (4.0, 4.0, (4, 4, 0)),
    (4.0, 0.0, (4, 0, 4)),
    (1.5, 1.0, (1, 1, 0)),
    (3.5, 2.25, (3, 2, 1)),
    (0.5, 0.5, (0, 0, 0)),
    (2.0, -1.0, (2, 0, 2)),  # it has less than it once had
    (float("inf"), float("inf"), (0, 0, 0)),
]


@pytest.mark.parametrize(("total", "free", "expected"), SHARES)
def test_whole_units(total: float, free: float, expected: tuple[int, int, int]):
    share = Share.of(total, free)
    assert (share.total, share.free, share.used) == expected


# -- maintenance


def states(drove: DialectClient) -> tuple[str, str]:
    executors = drove.get("/apis/v1/cluster/executors").json()["data"]
    return drove.get("/apis/v1/cluster").json()["data"]["state"], executors[0]["state"]


@pytest.mark.parametrize("way", ["maintenance/set", "executors/ID/blacklist"])
def test_maintenance_is_a_drain_and_a_drain_is_maintenance(drove: DialectClient, way: str):
    daemon = drove.daemon
    own = known(daemon)["ID"]
    assert states(drove) == ("NORMAL", "ACTIVE")
    assert drove.post(f"/apis/v1/cluster/{way.replace('ID', own)}", {}).status_code == 200
    assert daemon.http.get("/v1/node").json()["draining"] is True
    assert states(drove) == ("MAINTENANCE", "BLACKLISTED")
    details = drove.get(f"/apis/v1/cluster/executors/{own}").json()["data"]
    assert (details["executorState"], details["blacklisted"]) == ("BLACKLISTED", True)
    assert daemon.post("/v1/node/undrain").status_code == 200
    assert states(drove) == ("NORMAL", "ACTIVE")


def test_an_executor_that_is_not_here_is_not_drained(drove: DialectClient):
    answer = drove.post("/apis/v1/cluster/executors/blacklist?id=other", {}).json()
    assert answer["data"] == {"successful": [], "failed": ["other"], "message": "No executor found with id: other"}
    assert states(drove) == ("NORMAL", "ACTIVE")


def test_maintenance_and_the_id_of_the_executor_outlive_the_daemon(make_daemon: Callable[..., Daemon]):
    drove = DialectClient(make_daemon(**SETTINGS).start(), {"Authorization": "Bearer {token}"}, restarting=True)
    first = drove.post("/apis/v1/cluster/maintenance/set", {}).json()["data"]
    executors = [drove.get("/apis/v1/cluster/executors").json()["data"][0] for _ in range(2)]
    assert executors[0] == executors[1]
    assert executors[0]["state"] == "BLACKLISTED"
    assert drove.post("/apis/v1/cluster/maintenance/set", {}).json()["data"] == first
    assert drove.post("/apis/v1/cluster/maintenance/unset", {}).json()["data"]["state"] == "NORMAL"
    assert states(drove) == ("NORMAL", "ACTIVE")


# -- the envelope


def test_what_is_null_is_left_out_and_what_is_empty_is_not():
    answer = envelope.success({"a": None, "b": [{"c": None, "d": {}}], "e": "", "f": []})
    assert json.loads(answer.body)["data"] == {"b": [{"d": {}}], "e": "", "f": []}
    assert json.loads(envelope.success().body) == {"status": "SUCCESS", "message": "success"}


def test_a_fault_of_the_program_is_an_unexpected_server_error():
    answer = envelope.answer(Refusal(500, "the daemon has made a mistake; its log has the details"))
    assert answer.status_code == 500
    assert json.loads(answer.body) == {
        "status": "FAILED",
        "data": {"failure": "the daemon has made a mistake; its log has the details"},
        "message": "Unexpected Server error",
    }


@pytest.mark.parametrize(("stamp", "expected"), [("1970-01-01T00:00:00Z", 0), ("2026-01-31T12:00:00.123999Z", 1769860800123)])
def test_times_are_milliseconds_since_1970(stamp: str, expected: int):
    assert millis(stamp) == expected


# -- who may ask


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(daemon: Daemon, method: str = "GET", path: str = "/apis/v1/ping", **headers: str | bytes) -> httpx.Response:
    """With these headers alone."""
    return httpx.request(method, daemon.url + path, headers=headers, timeout=PATIENCE, verify=False)


def test_ways_to_show_the_token(shared: Daemon):
    token = shared.token
    latin = "Basic  " + base64.b64encode(b"\xe9:" + token.encode()).decode()
    for good in (basic("admin", token), basic("", token), latin, token, f"Bearer {token}", f"bearer  {token}"):
        assert ask(shared, Authorization=good).json()["data"] == "pong"
    bad = [
        basic(token, ""), basic("admin", token + "x"), basic("admin", f"x:{token}"), "Basic", "Basic ???", "Basic /w==",
        basic("admin", token).encode() + b"\xe9", "Basic é".encode(),
        f"Basic {token}", f"Digest {token}", token[:-1], "Bearer", "",
    ]  # fmt: skip
    for value in bad:
        answer = ask(shared, Authorization=value)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="drove"')
        assert answer.json()["data"]["failure"].startswith("a token is needed")
    assert ask(shared).status_code == 401


def test_the_ways_of_drove_are_none_of_v1(shared: Daemon):
    for value in (basic("admin", shared.token), shared.token):
        assert ask(shared, path="/v1/node", Authorization=value).status_code == 401


#: what a browser sends of itself: it has the password of Basic, and adds it to whatever a page asks for
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
WRITES = [
    ("POST", "/apis/v1/cluster/maintenance/set"),
    ("POST", "/apis/v1/cluster/executors/blacklist?id=ID"),
    ("POST", "/apis/v1/tasks/operations"),
    ("POST", "/apis/v1/tasks/search"),
    ("DELETE", "/apis/v1/tasks/A/instances/T"),
    ("GET", "/apis/v1/tasks"),
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_is_refused_though_the_browser_knows_the_password(
    drove: DialectClient, headers: dict[str, str]
):
    daemon = drove.daemon
    for method, path in WRITES:
        for kind in ({}, {"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            asked = path.replace("ID", known(daemon)["ID"])
            answer = ask(daemon, method, asked, Authorization=basic("x", daemon.token), **kind, **headers)
            check(answer.json(), refused("requests from pages of other sites are refused"), {})
            assert answer.status_code == 403
    assert states(drove) == ("NORMAL", "ACTIVE")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_a_form_is_no_command(drove: DialectClient, kind: str):
    """Old browsers send forms to other sites without saying where from."""
    daemon = drove.daemon
    for path in ("cluster/maintenance/set", "tasks/operations", "cluster/executors/x/blacklist"):
        headers = {"Authorization": basic("x", daemon.token), "Content-Type": kind}
        answer = httpx.post(f"{daemon.url}/apis/v1/{path}", headers=headers, content=b"a=b", timeout=PATIENCE, verify=False)
        assert (answer.status_code, answer.json()["status"]) == (415, "FAILED")
    assert states(drove) == ("NORMAL", "ACTIVE")


def test_a_name_that_is_not_ours_is_not_answered(shared: Daemon):
    answer = ask(shared, Authorization=basic("x", shared.token), Host="evil.example")
    assert (answer.status_code, "allowed_hosts" in answer.json()["data"]["failure"]) == (421, True)
