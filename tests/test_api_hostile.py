"""Requests of any shape, size and encoding: a 4xx with a reason, never a 500, and the daemon works on."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_validate import NOT_JSON

from task_runner.api import v1

GOOD = b'{"command": ["true"]}'
JSON = {"Content-Type": "application/json"}
ANY_VALUE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    1e308,
    "",
    "x",
    "\0",
    "\ud83d\ude00",
    "x" * 10_000,
    [],
    [[]],
    [None],
    {},
    {"": {}},
]
FIELDS = ["actions", "machine", "parameters", "command", "shell", "env", "workingDirectory", "stdin", "name"]
FIELDS += ["timeoutSeconds", "stopSignal", "graceSeconds", "tags", "metadata", "nothing", "", "é", "\0"]


@pytest.fixture(scope="module", autouse=True)
def _drained(shared: Daemon) -> None:
    """It starts nothing: that some of these bodies are good tasks is not what is tested."""
    shared.post("/v1/node/drain")


def refused(response: httpx.Response) -> dict[str, Any]:
    """A 4xx that says what is wrong."""
    return refusal(response.status_code, response.headers["content-type"], response.content)


def refusal(status: int, kind: str | None, said: bytes) -> dict[str, Any]:
    assert 400 <= status < 500, said
    assert kind == "application/problem+json"
    problem = json.loads(said)
    assert problem["detail"]
    assert (problem["status"], bool(problem["title"])) == (status, True)
    for fault in problem.get("errors", []):
        assert set(fault) == {"field", "message"}
        assert fault["message"]
    return dict(problem)


def answered(response: httpx.Response) -> None:
    """Taken, or refused in words with the field that is at fault."""
    if response.status_code != 201:
        assert refused(response)["errors"]


class Plain:
    """One connection, and the simplest client there is: thousands of requests are sent."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(daemon.url.removeprefix("http://"), timeout=PATIENCE)
        self._headers = {**JSON, "Authorization": f"Bearer {daemon.token}"}

    def ask(self, method: str, path: str, body: bytes) -> tuple[int, str | None, bytes]:
        """The status, the type of what is said, and that."""
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read()

    def answers(self, body: bytes) -> None:
        """A task of this is taken, or refused in words with the field that is at fault."""
        status, kind, said = self.ask("POST", "/v1/tasks", body)
        if status != 201:
            assert refusal(status, kind, said)["errors"]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def plain(shared: Daemon) -> Iterator[Plain]:
    made = Plain(shared)
    yield made
    made.close()


def post(daemon: Daemon, body: bytes, **headers: str) -> httpx.Response:
    return daemon.http.post("/v1/tasks", content=body, headers={**JSON, **headers})


def works(daemon: Daemon) -> None:
    response = post(daemon, GOOD)
    assert response.status_code == 201
    task_id = response.json()["taskId"]
    assert daemon.task(task_id)["state"] == "pending"
    assert daemon.http.delete(f"/v1/tasks/{task_id}").status_code == 200


# -- bodies


@pytest.mark.parametrize("kind", NOT_JSON)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_not_json(shared: Daemon, kind: str, chunked: bool):
    body = NOT_JSON[kind]
    content: Any = (body[at : at + 1000] for at in range(0, len(body), 1000)) if chunked else body
    problem = refused(shared.http.post("/v1/tasks", content=content, headers=JSON))
    assert problem["status"] == 400
    assert problem["errors"]
    works(shared)


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "text", [], [1], ["a" * 1000] * 100])
def test_a_body_that_is_no_object(shared: Daemon, value: Any):
    assert "object" in refused(post(shared, json.dumps(value).encode()))["detail"]


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_any_field(shared: Daemon, plain: Plain, field: str):
    for value in ANY_VALUE:
        for base in (
            {},
            {"command": ["true"]},
            {"machine": "echo"},
            {"actions": [{"machine": "echo", "parameters": ""}]},
        ):
            plain.answers(json.dumps({**base, field: value}).encode())
        inside = {"actions": [{"machine": "process", "parameters": {"command": ["true"], field: value}}]}
        plain.answers(json.dumps(inside).encode())
        plain.answers(json.dumps({"actions": [{"machine": "echo", field: value}]}).encode())
    works(shared)


def test_a_faulty_field_is_named(shared: Daemon):
    problem = refused(post(shared, b'{"command": ["a", 5], "timeoutSecond": 3, "tags": {"a": 1}}'))
    said = {fault["field"]: fault["message"] for fault in problem["errors"]}
    assert set(said) == {"timeoutSecond", "tags.a"} or set(said) == {"command.1", "timeoutSecond", "tags.a"}
    assert "'timeoutSeconds'" in said["timeoutSecond"]


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 5_000_000, 20_000_000])
def test_a_body_that_is_too_large(shared: Daemon, size: int):
    body = b'{"command": ["%s"]}' % (b"x" * size)
    assert refused(post(shared, body))["status"] == 413
    parts = (body[at : at + 65536] for at in range(0, len(body), 65536))
    assert refused(shared.http.post("/v1/tasks", content=parts, headers=JSON))["status"] == 413
    works(shared)


def test_a_large_body_within_the_limit_is_read(shared: Daemon):
    answered(post(shared, b'{"metadata": {"x": "%s"}, "command": ["true"]}' % (b"x" * 4_000_000)))
    answered(post(shared, b'{"metadata": {"x": [%s0]}, "command": ["true"]}' % (b"0," * 1_000_000)))
    answered(post(shared, b'{%s"command": ["true"]}' % b"".join(b'"f%d": 1,' % n for n in range(20_000))))
    works(shared)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body(shared: Daemon, encoding: str):
    assert refused(post(shared, gzip.compress(GOOD), **{"Content-Encoding": encoding}))["status"] == 415


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "x-nothing"])
def test_the_charset_of_json_is_utf_8_whatever_is_said(shared: Daemon, charset: str):
    answered(post(shared, '{"command": ["é"]}'.encode(), **{"Content-Type": f"application/json; charset={charset}"}))
    refused(
        post(shared, '{"command": ["é"]}'.encode("latin-1"), **{"Content-Type": f"application/json; charset={charset}"})
    )


def test_a_client_that_goes_in_the_middle_of_its_body(shared: Daemon):
    host, port = shared.url.removeprefix("http://").split(":")
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shared.token}\r\nContent-Type: application/json\r\n"
    for end in (
        b"Content-Length: 1000\r\n\r\n" + GOOD,
        b"Transfer-Encoding: chunked\r\n\r\n15\r\n" + GOOD[:5],
        b"Conten",
    ):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + end)
    works(shared)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: -1\r\n\r\n", b"Content-Length: x\r\n\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Content-Length: 21\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\xff\xfe: x\r\n\r\n", b"X : y\r\n\r\n", b"\0\0\0\r\n\r\n",
    ],
)  # fmt: skip
def test_a_broken_head(shared: Daemon, rest: bytes):
    host, port = shared.url.removeprefix("http://").split(":")
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shared.token}\r\nContent-Type: application/json\r\n"
    answer = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(head.encode() + rest)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass  # cut off: an answer too
    assert not answer.startswith(b"HTTP/1.1 5")
    works(shared)


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/tasks/\xff",
        b"/v1/tasks?q=\xff",
        b"/\xc3\xa9",
        b"*",
        b"x",
        b"http://[",
        b"/v1/tasks/%zz",
        b"/%",
        b"//",
        b"/" + b"a" * 70_000,
    ],
)
def test_a_broken_target(shared: Daemon, target: bytes):
    host, port = shared.url.removeprefix("http://").split(":")
    head = (
        b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "
        + shared.token.encode()
        + b"\r\n\r\n"
    )
    answer = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(b"GET " + target + head)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    works(shared)


# -- any bytes, any route


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), position=st.floats(0, 1), fault=st.binary(max_size=4), cut=st.integers(0, 4))
def test_a_good_body_with_a_fault(shared: Daemon, seed: int, position: float, fault: bytes, cut: int):
    chosen = random.Random(seed)
    body = bytearray(
        json.dumps({chosen.choice(FIELDS): chosen.choice(ANY_VALUE), "command": ["true"], "tags": {"a": "b"}}).encode()
    )
    at = int(position * len(body))
    body[at : at + cut] = fault
    answered(post(shared, bytes(body)))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_any_body_on_any_route_with_any_method(shared: Daemon, plain: Plain, method: str):
    task_id = post(shared, GOOD).json()["taskId"]
    bodies = [b"", b"{}", b"[]", b'{"x": 1}', b"\xff", b'{"signal": [[[]]]}', os.urandom(100), b"[" * 1000]
    seen: set[str] = set()
    for route in v1.routes:
        path = re.sub(r"\{(\w+)[^}]*\}", lambda match: task_id if match[1] == "task_id" else "1", route.path)
        taken = method in (route.methods or ())
        if path.endswith(("/events", "/drain", "/undrain")) and taken:
            continue
        # where the method is not taken, nothing of the body is looked at: the longest and an odd one, once a path
        for body in bodies if taken else [] if path in seen else bodies[-2:]:
            status, _kind, _said = plain.ask(method, f"{path}?limit=5", body)
            assert status < 500, (method, path, body)
        seen.add(path)
    works(shared)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=-1", "offset"), ("offset=x", "offset"), ("offset=" + "9" * 25, "offset"), ("offset=²", "offset"),
        ("tail=-1", "tail"), ("tail=x", "tail"), ("tail=1e3", "tail"), ("follow=maybe", "follow"), ("follow=", "follow"),
        ("attempt=0", "attempt"), ("attempt=2", "attempt"), ("attempt=x", "attempt"), ("stream=stderr", "stream"),
        ("stream=%00", "stream"),
    ],
)  # fmt: skip
def test_a_faulty_parameter_of_the_output(shared: Daemon, query: str, field: str):
    task_id = post(shared, GOOD).json()["taskId"]
    problem = refused(shared.http.get(f"/v1/tasks/{task_id}/output?{query}"))
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize("value", ["²", "-1", "x", "1" * 5000, "1.5", "\xff"])
def test_a_faulty_place_to_resume_at(shared: Daemon, value: str):
    task_id = post(shared, GOOD).json()["taskId"]
    for path in (f"/v1/tasks/{task_id}/output", f"/v1/tasks/{task_id}/events", "/v1/events"):
        problem = refused(shared.http.get(path, headers={"Last-Event-ID": value.encode("latin-1")}))
        assert problem["errors"][0]["field"] in ("Last-Event-ID", "after")
    refused(shared.http.get("/v1/events", params={"after": value}))


@pytest.mark.parametrize("value", ["nan", "-1", "301", "inf", "x", "", "٣"])
def test_a_faulty_patience(shared: Daemon, value: str):
    task_id = post(shared, GOOD).json()["taskId"]
    assert refused(shared.http.get(f"/v1/tasks/{task_id}", params={"wait": value}))["errors"][0]["field"] == "wait"
    refused(shared.http.post(f"/v1/tasks/{task_id}/stop", params={"wait": value}))
    assert shared.task(task_id)["state"] == "pending"
