"""Drove's operations on tasks, against a real daemon and a real engine: what is answered, and what comes of it."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Daemon, wait_for
from dialectclient import DialectClient
from engines import PodmanServer
from imageregistry import Registry
from images import BUSYBOX_IMAGE, busybox, busybox_layer
from logservers import Udp
from machinery import Handler, Site

pytestmark = [pytest.mark.needs("root", "podman", "runc")]

BASIC = {"Authorization": "Bearer {token}"}
OPERATION = {"timeout": "5m", "parallelism": 1, "failureStrategy": "STOP"}
OPERATIONS, VALIDATE = "/apis/v1/tasks/operations", "/apis/v1/tasks/validate/spec"
_NUMBERS = count(1)


class Drove(DialectClient):
    """Of one daemon with Podman."""

    place: Path

    def create(self, spec: dict[str, Any], **operation: Any) -> httpx.Response:
        return self.post(OPERATIONS, {"type": "CREATE", "spec": spec, "opSpec": {**OPERATION, **operation}})

    def run(self, *args: str, **more: Any) -> str:
        """The id by which `/v1` knows a task that was created."""
        spec = asked(*args, **more)
        answer = self.create(spec)
        assert answer.status_code == 200, answer.text
        return self.id_of(spec)

    def id_of(self, spec: dict[str, Any]) -> str:
        alias = f"drove:{spec['sourceAppName']}/{spec['taskId']}"
        (task,) = self.daemon.http.get("/v1/tasks", params={"alias": alias}).json()
        return str(task["taskId"])

    def kill(self, app: str, task: str) -> httpx.Response:
        return self.post(OPERATIONS, {"type": "KILL", "sourceAppName": app, "taskId": task, "opSpec": OPERATION})

    def refused(self, **more: Any) -> list[str]:
        answer = self.create(asked("true", **more))
        assert answer.status_code == 400, answer.text
        body = answer.json()
        assert (body["status"], body["message"]) == ("FAILED", "Command validation failure")
        return list(body["data"]["validationErrors"])


def asked(*args: str, **more: Any) -> dict[str, Any]:
    """A TaskSpec of its own name."""
    return {
        "sourceAppName": "APP",
        "taskId": f"T{next(_NUMBERS)}",
        "executable": {"type": "DOCKER", "url": BUSYBOX_IMAGE, "dockerPullTimeout": "100 seconds"},
        "resources": [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 64}],
        "args": list(args),
        **more,
    }


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """One that wants a password."""
    registry = Registry(("ada", "open sesame"))
    registry.serve()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def drove(podman_server: PodmanServer, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drove]:
    directory = tmp_path_factory.mktemp("drove")
    for name in ("open", "closed", "secrets"):
        (directory / name).mkdir(mode=0o700 if name == "secrets" else 0o755)
    (directory / "open/file").write_text("of this machine\n")
    (directory / "secrets/web").write_text("s3same-of-web\n")
    (directory / "secrets/pull").write_text("open sesame")
    daemon = Daemon(
        directory / "state",
        dialects=["drove"],
        engines=podman_server.sockets,
        container_networks=["none"],
        container_mounts=[f"{directory}/open", f"{directory}/closed:ro"],
        container_devices=["/dev/null"],
        host_files=[str(directory / "open")],
        secrets_dir=str(directory / "secrets"),
        pass_environment=["DROVE_TEST_*"],
        drove_registries={f"127.0.0.1:{registry.server_port}": {"username": "ada", "passwordSecret": "pull"}},
        forward_allow=["127.0.0.1"],
        cpus=100,
        memory_mb=100_000,
    )
    try:
        daemon.start(DROVE_TEST_REGION="west", DROVE_HIDDEN="secret")
        client = Drove(daemon, BASIC)
        client.place = directory
        yield client
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def waiting(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drove]:
    """Where no task of Drove's clients starts: the one processor is taken."""
    daemon = Daemon(
        tmp_path_factory.mktemp("waiting") / "state",
        dialects=["drove"],
        engines=podman_server.sockets,
        container_networks=["none"],
        cpus=1,
        memory_mb=512,
    )
    try:
        daemon.start()
        daemon.wait_state(daemon.submit("sleep", "600", resources={"cpus": 1}), "running")
        yield Drove(daemon, BASIC)
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def at_once(client: Drove, specs: list[dict[str, Any]]) -> list[httpx.Response]:
    """Create all of them in the same moment."""
    gate = threading.Barrier(len(specs))

    def create(spec: dict[str, Any]) -> httpx.Response:
        gate.wait()
        return client.create(spec)

    with ThreadPoolExecutor(len(specs)) as pool:
        return list(pool.map(create, specs))


# -- CREATE


def test_a_task_is_created_and_runs_in_its_container(drove: Drove):
    script = "echo \"$1\"; env | grep -E '^(HOST|DROVE.*|A|EMPTY)=' | sort; id -u; id -g; cat /data/file; pwd"
    spec = asked(
        "sh", "-c", script, "sh", "arg with blanks",
        env={"A": "1", "DROVE_TEST_REGION": "", "DROVE_HIDDEN": "", "EMPTY": ""},
        userSpec={"user": "4321", "group": "1234"},
        volumes=[{"pathOnHost": str(drove.place / "open"), "pathInContainer": "/data", "mode": "READ_ONLY"}],
        tags={"team": "b"},
    )  # fmt: skip
    answer = drove.create(spec)
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "SUCCESS", "data": {"taskId": f"APP-{spec['taskId']}"}, "message": "success"},
    )
    task = drove.daemon.wait(drove.id_of(spec))
    kept = task["metadata"]["drove"]
    host = os.uname().nodename
    assert drove.daemon.output(task["taskId"]).decode().splitlines() == [
        "arg with blanks",
        "A=1",
        f"DROVE_CONTAINER_ID={BUSYBOX_IMAGE}",
        f"DROVE_EXECUTOR_HOST={host}",
        f"DROVE_INSTANCE_ID={kept['instanceId']}",
        "DROVE_SOURCE_APP_NAME=APP",
        f"DROVE_TASK_ID={spec['taskId']}",
        "DROVE_TEST_REGION=west",
        f"HOST={host}",
        "4321",
        "1234",
        "of this machine",
        "/",
    ]
    assert (task["outcome"], task["origin"], task["name"]) == ("succeeded", "drove", f"APP-{spec['taskId']}")
    assert (kept["sourceAppName"], kept["taskId"], kept["env"]["EMPTY"]) == ("APP", spec["taskId"], "")
    (action,) = task["actions"]
    assert {each["limit"]: each["asked"] for each in action["container"]["limits"]} == {"memoryMb": 64, "cpus": 1.0}


def test_configs_of_every_kind_lie_where_they_are_wanted(drove: Drove, site: Site):
    def config(request: Handler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        told = f"{request.command} {request.rfile.read(length).decode()} {request.headers['Authorization']}"
        request.reply(201 if request.command == "PUT" else 200, f"{told}\n".encode())

    site.on("/config", config)
    call = {"protocol": "HTTP", "hostname": "127.0.0.1", "port": site.server_address[1], "path": "/config"}
    call |= {"operationTimeout": "30 seconds", "connectionTimeout": "30 seconds"}
    task_id = drove.run(
        "sh", "-c", "cat /etc/inline.conf /opt/deep/local /fetched /put; echo more >> /etc/inline.conf; stat -c %a /etc/inline.conf; ls /work",
        configs=[
            {"type": "INLINE", "localFilename": "/etc/inline.conf", "data": base64.b64encode(b"inline\n").decode()},
            {"type": "EXECUTOR_LOCAL_FILE", "localFilename": "/opt/deep/local", "filePathOnHost": str(drove.place / "open/file")},
            {"type": "CONTROLLER_HTTP_FETCH", "localFilename": "fetched", "http": {**call, "username": "ada", "password": "s3same-of-web"}},
            {"type": "EXECUTOR_HTTP_FETCH", "localFilename": "/put", "http": {**call, "verb": "PUT", "payload": "{}", "successCodes": [201]}},
        ],
    )  # fmt: skip
    task = drove.daemon.wait(task_id)
    basic = base64.b64encode(b"ada:s3same-of-web").decode()
    assert drove.daemon.output(task_id).decode().splitlines()[:6] == [
        "inline", "of this machine", f"GET  Basic {basic}", "PUT {} None", "644", "ls: /work: No such file or directory",
    ]  # fmt: skip
    assert "s3same" not in json.dumps(task)
    assert (drove.place / "open/file").read_text() == "of this machine\n"
    stored = [path for path in drove.daemon.state_dir.rglob("*") if path.is_file()]
    assert stored
    others = [path for path in stored if path.name != "output.log" and "drove-configs" not in str(path)]
    assert not [path for path in others if b"s3same" in content(path)]


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the daemon has just replaced another file by it


def test_a_config_that_cannot_be_fetched_fails_the_task_before_its_container(drove: Drove, site: Site):
    site.on("/config", lambda request: request.reply(200, b"x"))
    call = {"protocol": "HTTP", "hostname": "127.0.0.1", "port": site.server_address[1], "path": "/config", "successCodes": [201]}
    task = drove.daemon.wait(drove.run("true", configs=[{"type": "EXECUTOR_HTTP_FETCH", "localFilename": "/a", "http": call}]))
    assert task["outcome"] == "failed"
    assert task["actions"][0]["state"] == "skipped"
    assert "200 OK, which is none of the statuses" in task["error"]


def test_an_image_is_fetched_anew_each_time_with_the_credentials_of_the_server(drove: Drove, registry: Registry):
    seen = []
    for word in (b"first", b"second"):
        image = registry.add("moving", "1", busybox(layer=busybox_layer(extra=word)))
        seen.append(drove.daemon.wait(drove.run("cat", "/srv/extra", executable={"type": "DOCKER", "url": image}))["taskId"])
    assert [drove.daemon.output(each) for each in seen] == [b"first", b"second"]


def test_output_goes_to_the_log_server_of_the_spec(drove: Drove, receiver: Callable[..., Any]):
    server = receiver(Udp)
    spec = asked("echo", "hello", logging={"type": "RSYSLOG", "server": f"udp://127.0.0.1:{server.port}", "tagPrefix": "a-"})
    assert drove.create(spec).status_code == 200
    drove.daemon.wait(drove.id_of(spec))
    wait_for(lambda: server.messages, "a message came")
    (message,) = server.messages
    assert (message.text, message.app, message.priority) == (b"hello", f"a-APP-{spec['taskId']}", 3 * 8 + 6)


def test_a_task_that_cannot_start_in_time_ends_so(waiting: Drove):
    late = asked("true")
    assert waiting.create(late, timeout="100ms").status_code == 200
    task = waiting.daemon.wait(waiting.id_of(late))
    assert (task["outcome"], task["startedAt"], task["actions"]) == ("timed_out", None, [])
    assert waiting.kill("APP", late["taskId"]).status_code == 400


def test_what_can_never_start_is_refused(waiting: Drove):
    assert waiting.refused(resources=[{"type": "CPU", "count": 2}, {"type": "MEMORY", "sizeInMB": 513}]) == [
        "Cluster does not have enough CPU. Required: 2 Available: 1",
        "Cluster does not have enough Memory. Required: 513 Available: 512",
    ]


def test_a_task_that_has_not_started_can_be_killed(waiting: Drove):
    spec = asked("true")
    assert waiting.create(spec).status_code == 200
    assert waiting.kill("APP", spec["taskId"]).json()["data"] == {"taskId": spec["taskId"]}
    task = waiting.daemon.wait(waiting.id_of(spec))
    assert (task["outcome"], task["startedAt"]) == ("cancelled", None)


# -- names


def test_a_name_is_taken_until_its_metadata_is_gone(waiting: Drove):
    spec = asked("true", sourceAppName="TEST_APP")
    told = f"Task already exists for TEST_APP/{spec['taskId']} with taskID: TEST_APP-{spec['taskId']}"

    def is_taken() -> bool:
        again = waiting.create(spec)
        expected = {"status": "FAILED", "data": {"validationErrors": [told]}, "message": "Command validation failure"}
        return (again.status_code, again.json()) == (400, expected)

    assert waiting.create(spec).status_code == 200
    assert is_taken()
    task_id = waiting.id_of(spec)
    assert waiting.kill("TEST_APP", spec["taskId"]).status_code == 200
    waiting.daemon.wait(task_id)
    assert is_taken()
    assert waiting.daemon.http.delete(f"/v1/tasks/{task_id}").status_code == 200
    assert waiting.create(spec).status_code == 200
    assert waiting.id_of(spec) != task_id


def test_of_many_requests_at_once_one_creates_the_task(waiting: Drove):
    spec = asked("true")
    told = f"Task already exists for APP/{spec['taskId']} with taskID: APP-{spec['taskId']}"
    answers = at_once(waiting, [spec] * 6)
    assert sorted(each.status_code for each in answers) == [200] + [400] * 5
    assert [each.json()["data"]["validationErrors"] for each in answers if each.status_code == 400] == [[told]] * 5


# -- placement


@pytest.mark.parametrize(("policy", "most"), [({"type": "ONE_PER_HOST"}, 1), ({"type": "MAX_N_PER_HOST", "max": 2}, 2)])
def test_tasks_of_one_application_are_counted_where_the_policy_says_so(waiting: Drove, policy: dict[str, Any], most: int):
    limited = {"sourceAppName": f"LIMITED-{most}", "placementPolicy": policy}
    specs = [asked("true", **limited) for _ in range(5)]
    answers = at_once(waiting, specs)
    assert sorted(each.status_code for each in answers) == [200] * most + [400] * (5 - most)
    (told,) = waiting.refused(**limited)
    assert told.startswith(f"spec.placementPolicy - {policy['type']} allows {most} of this source application on this node")
    assert waiting.create(asked("true", **{**limited, "sourceAppName": f"OTHER-{most}"})).status_code == 200
    begun = next(spec for spec, answer in zip(specs, answers, strict=True) if answer.status_code == 200)
    assert waiting.kill(limited["sourceAppName"], begun["taskId"]).status_code == 200
    waiting.daemon.wait(waiting.id_of(begun))
    assert waiting.create(asked("true", **limited)).status_code == 200


def test_a_task_that_was_deleted_counts_until_it_has_ended(drove: Drove):
    alone = {
        "sourceAppName": "ALONE",
        "placementPolicy": {"type": "ONE_PER_HOST"},
        "volumes": [{"pathOnHost": str(drove.place / "open"), "pathInContainer": "/data", "mode": "READ_ONLY"}],
    }
    script = "trap 'while [ ! -e /data/end ]; do sleep 0.1; done; exit' TERM; echo up; sleep 1000 & wait"
    spec = asked("sh", "-c", script, **alone)
    assert drove.create(spec).status_code == 200
    task_id = drove.id_of(spec)
    drove.daemon.wait_output(task_id, b"up")
    path = f"/apis/v1/tasks/ALONE/instances/{spec['taskId']}"
    assert drove.call("DELETE", path).json()["data"] == {"deleted": True}
    (told,) = drove.refused(**alone)
    assert "1 are not over" in told
    (drove.place / "open/end").touch()
    wait_for(lambda: drove.create(asked("true", **alone)).status_code == 200, "it has ended")


def test_a_node_with_tags_takes_only_who_asks_for_one(make_daemon: Callable[..., Daemon], podman_server: PodmanServer):
    daemon = make_daemon(
        dialects=["drove"], engines=podman_server.sockets, container_networks=["none"], drove_tags=["gpu"], drove_args=False
    )
    client = Drove(daemon.start(), BASIC)
    assert client.refused() == ["Passing command line to containers is disabled on this cluster"]
    assert "MATCH_TAG" in client.refused(args=[])[0]
    accepted = client.post(VALIDATE, asked(args=[], placementPolicy={"type": "MATCH_TAG", "tag": "gpu"}))
    assert (accepted.status_code, accepted.json()) == (200, {"status": "SUCCESS", "message": "success"})
    assert client.refused(args=[], devices=[{"type": "DIRECT", "pathOnHost": "/dev/null"}]) == [
        "Device access is disabled. To enable, set enableRawDeviceAccess: true in controller options."
    ]


# -- KILL


def test_a_running_task_is_killed_without_grace(drove: Drove):
    spec = asked("sh", "-c", "trap '' TERM; echo up; sleep 600")
    assert drove.create(spec).status_code == 200
    task_id = drove.id_of(spec)
    drove.daemon.wait_output(task_id, b"up")
    answer = drove.kill("APP", spec["taskId"])
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "SUCCESS", "data": {"taskId": spec["taskId"]}, "message": "success"},
    )
    task = drove.daemon.wait(task_id)
    assert task["outcome"] == "cancelled"
    assert (task["receipt"]["signal"], task["exitCode"]) == ("SIGKILL", 137)
    told = f"Either task does not exist or has already finished for APP/{spec['taskId']}"
    again = drove.kill("APP", spec["taskId"])
    assert (again.status_code, again.json()["data"]) == (400, {"validationErrors": [told]})


def test_a_missing_task_cannot_be_killed(drove: Drove):
    answer = drove.kill("APP", "NONE")
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "status": "FAILED",
            "data": {"validationErrors": ["Either task does not exist or has already finished for APP/NONE"]},
            "message": "Command validation failure",
        },
    )


# -- maintenance


def test_in_maintenance_nothing_is_created_and_what_there_is_can_be_killed(waiting: Drove):
    spec = asked("true")
    assert waiting.create(spec).status_code == 200
    assert waiting.post("/apis/v1/cluster/maintenance/set").status_code == 200
    try:
        assert waiting.refused() == ["Cluster is in maintenance mode"]
        assert waiting.kill("APP", spec["taskId"]).status_code == 200
        waiting.daemon.wait(waiting.id_of(spec))
    finally:
        assert waiting.post("/apis/v1/cluster/maintenance/unset").status_code == 200


# -- what is refused


def test_what_the_server_does_not_allow_is_told_in_droves_words(drove: Drove):
    place = drove.place
    assert drove.refused(
        volumes=[
            {"pathOnHost": "/etc", "pathInContainer": "/a", "mode": "READ_ONLY"},
            {"pathOnHost": f"{place}/open", "pathInContainer": "/b", "mode": "READ_WRITE"},
            {"pathOnHost": "/root", "pathInContainer": "/c", "mode": "READ_WRITE"},
        ],
        resources=[{"type": "CPU", "count": 101}, {"type": "MEMORY", "sizeInMB": 100_001}],
    ) == [
        "Volume mount requested on non whitelisted host directory: /etc",
        "Volume mount requested on non whitelisted host directory: /root",
        "Cluster does not have enough CPU. Required: 101 Available: 100",
        "Cluster does not have enough Memory. Required: 100001 Available: 100000",
    ]
    (told,) = drove.refused(volumes=[{"pathOnHost": f"{place}/closed", "pathInContainer": "/a", "mode": "READ_WRITE"}])
    assert told.startswith(f"Volume mount requested on non whitelisted host directory: {place}/closed - ")
    assert "only for reading" in told
    assert drove.refused(args=["x" * 2049]) == ["Maximum combined length of command line arguments can be 2048"]
    assert drove.refused(placementPolicy={"type": "LOCAL"}) == ["Local service placement is not allowed for tasks"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"configs": [{"type": "EXECUTOR_LOCAL_FILE", "localFilename": "/a", "filePathOnHost": "/etc/passwd"}]},
         "spec.configs[0].filePathOnHost - the server lets tasks read files below these directories"),
        ({"configs": [{"type": "INLINE", "localFilename": "/a", "data": "%"}]}, "spec.configs[0].data - "),
        ({"configs": [{"type": "INLINE", "localFilename": "/a", "data": ""}, {"type": "INLINE", "localFilename": "a", "data": ""}]},
         "spec.configs[1].localFilename - inside, /a is the place of"),
        ({"configs": [{"type": "EXECUTOR_HTTP_FETCH", "localFilename": "/a", "http": {"hostname": "h", "path": "/ä"}}]}, "spec.configs[0].http - "),
        ({"devices": [{"type": "DIRECT", "pathOnHost": "/dev/full"}]}, "spec.devices[0].pathOnHost - the server lets containers have these devices"),
        ({"logging": {"type": "RSYSLOG", "server": "udp://logs.example:514"}}, "spec.logging.server - the host 'logs.example' is not one"),
        ({"logging": {"type": "RSYSLOG", "server": "udp://127.0.0.1:514", "tagPrefix": "x" * 21}}, "spec.logging.tagPrefix - "),
        ({"executable": {"url": "UPPER CASE"}}, "spec.executable.url - "),
        ({"executable": {"url": "busybox", "dockerPullTimeout": "2d"}}, "spec.executable.dockerPullTimeout - "),
        ({"userSpec": {"user": "a b"}}, "spec.userSpec - "),
        ({"env": {"A=B": "1"}}, "spec.env.A=B - "),
        ({"placementPolicy": {"type": "MATCH_TAG", "tag": "gpu"}}, "spec.placementPolicy - this node, the only one, has not the tag 'gpu'"),
        ({"placementPolicy": {"type": "RULE_BASED", "rule": "x", "ruleType": "HOPE"}}, "spec.placementPolicy - rules are not evaluated"),
        ({"taskId": "x" * 700}, "spec.taskId - "),
    ],
)  # fmt: skip
def test_each_refusal_names_the_field_of_the_request_and_the_reason(drove: Drove, more: dict[str, Any], told: str):
    found = drove.refused(**more)
    assert [each for each in found if each.startswith(told)], found
    spec = asked("true", **more)
    answer = drove.post(VALIDATE, spec)
    assert answer.status_code == 400
    bare = told.removeprefix("spec.")
    assert [each for each in answer.json()["data"]["validationErrors"] if each.startswith(bare)], answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type": "CREATE", "type": "KILL"}', b'"x"', b"\xff", b'{"type": "RENAME"}', b"{}"])
def test_what_is_no_operation_is_a_json_failure(drove: Drove, body: bytes):
    answer = drove.call("POST", OPERATIONS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    told = answer.json()
    assert (told["status"], told["message"]) == ("FAILED", "JSON validation failure")
    assert told["data"]["validationErrors"]
    if body == b'{"type": "RENAME"}':
        assert told["data"] == {"validationErrors": ["type - one of CREATE, KILL is expected"]}


def test_an_operation_without_its_parts_says_which(drove: Drove):
    def errors(body: dict[str, Any]) -> list[str]:
        answer = drove.post(OPERATIONS, body)
        assert answer.status_code == 400
        return list(answer.json()["data"]["validationErrors"])

    assert errors({"type": "create"}) == ["opSpec must not be null", "spec must not be null"]
    assert errors({"type": "KILL", "opSpec": {"timeout": "1m", "failureStrategy": "STOP"}}) == [
        "sourceAppName must not be empty",
        "taskId must not be empty",
    ]
    assert errors({"type": "CREATE", "opSpec": {**OPERATION, "timeout": "soon"}, "spec": {}})[:2] == [
        "opSpec.timeout - Invalid duration: soon: a number and one of ns, us, ms, s, m, h, d is expected",
        "spec.sourceAppName - Source Application name is mandatory",
    ]


# -- validation alone


def test_a_spec_can_be_validated_and_nothing_comes_of_it(drove: Drove):
    spec = asked("true", sourceAppName="VALID")
    answer = drove.post(VALIDATE, spec)
    assert (answer.status_code, answer.json()) == (200, {"status": "SUCCESS", "message": "success"})
    alias = f"drove:VALID/{spec['taskId']}"
    assert drove.daemon.http.get("/v1/tasks", params={"alias": alias}).json() == []
    missing = drove.post(VALIDATE, {})
    assert missing.json()["data"]["validationErrors"] == [
        "sourceAppName - Source Application name is mandatory",
        "taskId - Task ID is mandatory",
        "executable - Executable details is required",
        "resources - CPU/Memory requirements must be specified",
    ]


# -- between any two calls the daemon may die


def test_the_daemon_may_die_between_any_two_calls(make_daemon: Callable[..., Daemon], podman_server: PodmanServer):
    daemon = make_daemon(dialects=["drove"], engines=podman_server.sockets, container_networks=["none"])
    client = Drove(daemon.start(), BASIC, restarting=True)
    spec = asked("sh", "-c", "echo up; sleep 600")
    assert client.create(spec).status_code == 200
    assert client.create(spec).status_code == 400
    task_id = client.id_of(spec)
    daemon.wait_output(task_id, b"up")
    assert client.kill("APP", spec["taskId"]).status_code == 200
    task = daemon.wait(task_id)
    assert (task["outcome"], task["attempt"]) == ("cancelled", 1)
    assert daemon.output(task_id) == b"up\n"
    assert client.kill("APP", spec["taskId"]).status_code == 400
