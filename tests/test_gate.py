"""The gate: nobody gets in by accident."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, ROOT, Daemon, wait_for
from served import GUNICORN, LIMITS, environment, refusal

from task_runner.api import binds, v1
from task_runner.api.gate import admin_token
from task_runner.errors import TaskRunnerError, UnsafeBind
from task_runner.service.settings import Settings

EVERY_CALL = sorted({(method, route.path) for route in v1.routes for method in route.methods or ()})
LIMIT = 4096
SETTINGS = {"max_body_bytes": LIMIT, "allowed_hosts": '["lab.example"]'}


@pytest.fixture(scope="module")
def task_id(shared: Daemon) -> str:
    """A task that is over."""
    return str(shared.wait(shared.submit("touch", "file"))["taskId"])


def request(daemon: Daemon, method: str, path: str, **headers: str) -> httpx.Response:
    """A request with these headers alone: no token unless one is given."""
    return httpx.request(method, daemon.url + path, headers=headers, timeout=PATIENCE, verify=False)


def bearer(daemon: Daemon) -> dict[str, str]:
    return {"Authorization": f"Bearer {daemon.token}"}


def raw(daemon: Daemon, data: bytes) -> bytes:
    """What the daemon answers to these bytes, until it closes the connection."""
    host, port = daemon.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


#: {task_id}, {path:path}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@pytest.fixture(scope="module")
def things(shared: Daemon, task_id: str) -> dict[str, str]:
    """One existing thing for every parameter of a path."""
    batch = shared.post("/v1/batches", {"tasks": [{"command": ["true"]}]})
    assert batch.status_code == 201
    template = shared.http.put("/v1/templates/one", json={"task": {"command": ["true"]}})
    assert template.status_code in (200, 201)
    return {
        "task_id": task_id, "attempt": "1", "path": "file", "batch_id": batch.json()["batchId"], "name": "one"
    }  # fmt: skip


# -- the token


#: for everybody: what a browser must have before anybody has logged in, and how to do that
PAGES = {"/ui", "/ui/{path:path}", "/ui/static/{path:path}", "/ui/login", "/ui/logout", "/ui/session"}


def is_page(path: str) -> bool:
    return path in PAGES or path.startswith("/docs")


def test_no_route_is_open_but_health_and_the_pages():
    assert {route.path for route in v1.routes if route.need.open and not is_page(route.path)} == {"/health", "/"}
    at_root = [route for route in v1.routes if route.path == "/"]
    assert [route.need.open for route in at_root] == [True, False]  # the first one is for browsers: test_web_server.py


@pytest.mark.parametrize(("method", "path"), [call for call in EVERY_CALL if not is_page(call[1])])
def test_every_route_but_health_needs_the_token(shared: Daemon, task_id: str, method: str, path: str):
    path = _PARAMETER.sub(task_id, path)
    for headers in ({}, {"Authorization": "Bearer " + "x" * 43}):
        response = request(shared, method, path, **headers)
        if path == "/health":
            assert response.status_code == 200
        else:
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert "token" in response.json()["detail"]


def test_the_walk_over_the_routes_sees_them_all(shared: Daemon):
    described = shared.http.get("/v1/openapi.json").json()["paths"]
    assert {_PARAMETER.sub(r"{\1}", path) for _method, path in EVERY_CALL if not is_page(path)} == {
        path for path in described if not is_page(path)
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/v1/nowhere", "/health/", "/health/../v1/tasks", "//health", "/HEALTH"]
)
def test_what_is_not_there_needs_the_token_too(shared: Daemon, method: str, path: str):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    # 400: the server's parser does not know the method
    assert raw(shared, head.encode()).split(b" ", 2)[1] == (b"400" if method == "FOO" else b"401")


def test_health_answers_without_a_token_and_tells_nothing_else(shared: Daemon):
    assert request(shared, "GET", "/health").json() == {"status": "ok"}
    assert request(shared, "POST", "/health").status_code == 405


def test_forms_of_the_token(shared: Daemon):
    token = shared.token
    for good in (f"Bearer {token}", f"bearer {token}", f"Bearer  {token}"):
        assert request(shared, "GET", "/v1/node", Authorization=good).status_code == 200
    bad = [token, f"Basic {token}", "Bearer", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Bearer {token} x"]
    for value in bad:
        assert request(shared, "GET", "/v1/node", Authorization=value).status_code == 401
    assert request(shared, "GET", f"/v1/node?token={token}").status_code == 401
    not_ascii = (
        b"GET /v1/node HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
    )
    assert raw(shared, not_ascii).startswith(b"HTTP/1.1 401")


def test_an_upgrade_to_a_websocket_is_no_way_around(shared: Daemon):
    head = (
        "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert raw(shared, head.encode()).split(b" ", 2)[1] in (b"400", b"401", b"403")


def test_the_token_is_made_once_and_for_the_owner_alone(daemon: Daemon):
    path = daemon.state_dir / "token"
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(before.strip()) >= 32
    daemon.restart()
    assert path.read_bytes() == before
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700


def _short(path: Path) -> None:
    path.write_text("abc\n")
    path.chmod(0o600)


def _open_to_others(path: Path) -> None:
    path.write_text("x" * 43)
    path.chmod(0o640)


def _link(path: Path) -> None:
    path.with_name("elsewhere").write_text("x" * 43)
    path.symlink_to("elsewhere")


TOKEN_FILES = {
    "empty": lambda path: path.touch(0o600),
    "short": _short,
    "readable by others": _open_to_others,
    "link": _link,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "FIFO": lambda path: os.mkfifo(path, 0o600),
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", TOKEN_FILES)
def test_a_token_file_that_cannot_be_trusted_keeps_the_daemon_from_starting(tmp_path: Path, kind: str):
    path = tmp_path / "token"
    TOKEN_FILES[kind](path)
    with pytest.raises(TaskRunnerError, match="token"):
        admin_token(str(path))
    assert os.path.lexists(path)


def test_a_token_that_a_person_chose_is_taken(tmp_path: Path):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("a token of my very own\n")
    assert admin_token(str(path)) == "a token of my very own"


# -- browsers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1].evil", "a@b"],
)
def test_a_name_that_is_not_ours_is_not_answered(shared: Daemon, host: str):
    for path in ("/health", "/v1/node"):
        response = request(shared, "GET", path, Host=host, **bearer(shared))
        assert response.status_code == 421
        assert "allowed_hosts" in response.json()["detail"]


def test_a_request_without_a_name_is_not_answered(shared: Daemon):
    assert b" 421 " in raw(shared, b"GET /health HTTP/1.0\r\n\r\n").split(b"\r\n")[0]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1:8000", "[::1]:8000", "[::1]", "10.1.2.3", "lab.example:80",
     socket.gethostname()],
)  # fmt: skip
def test_our_own_names_and_addresses_are_answered(shared: Daemon, host: str):
    assert request(shared, "GET", "/v1/node", Host=host, **bearer(shared)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    ],
)
def test_pages_of_other_sites_are_refused(shared: Daemon, headers: dict[str, str]):
    for method, path in (("GET", "/v1/tasks"), ("POST", "/v1/node/drain"), ("GET", "/health")):
        response = request(shared, method, path, Host="localhost", **headers, **bearer(shared))
        assert response.status_code == 403
        assert response.json()["detail"]
    assert shared.http.get("/v1/node").json()["draining"] is False


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://localhost:99"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_our_own_pages_are_let_in(shared: Daemon, headers: dict[str, str]):
    response = request(shared, "GET", "/v1/node", Host="localhost:99", **headers, **bearer(shared))
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "json",
        "",
    ],
)
def test_a_write_must_be_json(shared: Daemon, kind: str):
    body = b'{"command": ["true"]}'
    response = shared.http.post("/v1/tasks", content=body, headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_an_empty_form_is_no_write_either(shared: Daemon, task_id: str, kind: str):
    for method, path in (("POST", "/v1/node/drain"), ("DELETE", f"/v1/tasks/{task_id}")):
        assert shared.http.request(method, path, headers={"Content-Type": kind}).status_code == 415
    assert shared.http.get("/v1/node").json()["draining"] is False


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.tessia+json"])
def test_json_by_its_other_names(shared: Daemon, kind: str):
    response = shared.http.post("/v1/tasks", content=b'{"command": ["true"]}', headers={"Content-Type": kind})
    assert response.status_code == 201


def test_a_compressed_body_is_refused(shared: Daemon):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = shared.http.post("/v1/tasks", content=b"\x1f\x8b\x08", headers=headers)
    assert (response.status_code, "Content-Encoding" in response.json()["detail"]) == (415, True)


# -- the size of a body


def _body(size: int) -> bytes:
    body = b'{"command": ["true"], "metadata": {"filler": "%s"}}'
    return body % (b"x" * (size - len(body) + 2))


def _parts(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_limited_whether_its_length_is_said_or_not(shared: Daemon, size: int, chunked: bool):
    body = _body(size)
    assert len(body) == size
    response = shared.http.post(
        "/v1/tasks", content=_parts(body) if chunked else body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == (201 if size <= LIMIT else 413)
    if size > LIMIT:
        assert str(LIMIT) in response.json()["detail"]
    assert shared.http.get("/ready").status_code == 200


# -- methods


@pytest.mark.parametrize("path", sorted({route.path for route in v1.routes if "GET" in (route.methods or ())}))
def test_head_is_get_without_a_body_and_comes_back(shared: Daemon, things: dict[str, str], path: str):
    path = _PARAMETER.sub(lambda match: things[match[1]], path)
    with httpx.Client(base_url=shared.url, headers=bearer(shared), timeout=PATIENCE, verify=False) as client:
        response = client.head(path)
        expected = 308 if path == "/ui" else 404 if path.startswith("/ui/static/") else 200
        assert (response.status_code, response.content) == (expected, b"")
        assert client.get("/health").status_code == 200


def test_head_of_a_stream_that_does_not_end_comes_back(shared: Daemon):
    active = shared.submit("sleep", "1000")
    shared.wait_state(active, "running")
    with httpx.Client(base_url=shared.url, headers=bearer(shared), timeout=PATIENCE, verify=False) as client:
        assert client.head(f"/v1/tasks/{active}/output?follow=true").status_code == 200
        assert client.get("/health").status_code == 200
    shared.post(f"/v1/tasks/{active}/stop", {"graceSeconds": 0})


@pytest.mark.parametrize(
    ("method", "path"),
    [("OPTIONS", "/v1/tasks"), ("PUT", "/v1/tasks"), ("POST", "/v1/node"), ("GET", "/v1/node/drain")],
)
def test_a_method_that_is_not_there_is_refused(shared: Daemon, method: str, path: str):
    response = shared.http.request(method, path)
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"]
    assert method in response.json()["detail"]
    assert not [name for name in response.headers if name.startswith("access-control")]


# -- no token, and where that is possible


def test_without_a_token_on_loopback(make_daemon: Any):
    daemon = make_daemon(auth="none")
    daemon.start(wait=False)
    wait_for(lambda: _answers(daemon.url), "the daemon answers")
    assert request(daemon, "GET", "/v1/tasks").json() == []
    assert not (daemon.state_dir / "token").exists()
    assert request(daemon, "GET", "/v1/tasks", Host="evil.example").status_code == 421
    assert request(daemon, "GET", "/v1/tasks", Origin="http://evil.example").status_code == 403
    # a proxy on this machine says that somebody else asks
    assert request(daemon, "GET", "/v1/tasks", **{"X-Forwarded-For": "203.0.113.7"}).status_code == 401


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


SAFE = ["127.0.0.1:8000", "127.9.9.9:1", "localhost:8000", "[::1]:8000", "unix:/run/x.sock"]
OPEN = ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "host.example:80", ":8000", "8000", "[fe80::1]:80"]


@pytest.mark.parametrize("address", SAFE)
@pytest.mark.parametrize("auth", ["none", "token"])
def test_a_bind_that_only_this_machine_reaches_is_safe(tmp_path: Path, address: str, auth: Any):
    binds.check([address], Settings(state_dir=str(tmp_path), auth=auth))


@pytest.mark.parametrize("address", OPEN)
def test_a_bind_that_others_reach_is_refused(tmp_path: Path, address: str):
    for given in ({"auth": "none"}, {"auth": "none", "plain_http": True}, {"auth": "none", "tls_certificate": "x"}, {}):
        settings = Settings(state_dir=str(tmp_path), **given)
        with pytest.raises(UnsafeBind, match="other machines"):
            binds.check(["127.0.0.1:1", address], settings)
    for given in ({"plain_http": True}, {"tls_certificate": "x"}):
        binds.check([address], Settings(state_dir=str(tmp_path), **given))


def test_the_sockets_a_process_listens_on_are_found(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local, socket.socket() as idle:
        local.bind(str(tmp_path / "s"))
        local.listen()
        idle.bind(("127.0.0.1", 0))
        found = binds.listening()
        assert f"127.0.0.1:{tcp.getsockname()[1]}" in found
        assert f"unix:{tmp_path}/s" in found
        assert f"127.0.0.1:{idle.getsockname()[1]}" not in found


def test_clients_are_told_an_address_they_can_reach(tmp_path: Path):
    settings = Settings(state_dir=str(tmp_path))
    assert binds.url(["0.0.0.0:80", "127.0.0.1:81"], settings) == "http://127.0.0.1:81"
    assert binds.url(["0.0.0.0:80"], settings) == "http://127.0.0.1:80"
    assert binds.url(["[::]:80"], settings) == "http://[::1]:80"
    assert binds.url(["unix:/run/x"], settings) == "unix:///run/x"
    assert binds.url([], settings) is None
    assert binds.url(["127.0.0.1:1"], Settings(state_dir=str(tmp_path), tls_certificate="x")) == "https://127.0.0.1:1"


UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "task_runner.api.star_app:create_app", "--port", "0", "--host")


@pytest.mark.parametrize("auth", ["none", "token"])
@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_a_server_started_by_hand_on_all_addresses_ends_by_itself(server: str, auth: str):
    command = (*GUNICORN, "-b", "0.0.0.0:0") if server == "gunicorn" else (*UVICORN, "0.0.0.0")
    assert "can be reached from other machines" in refusal(*command, auth=auth)


def test_a_unix_socket_needs_no_token_if_so_chosen(tmp_path: Path):
    path = tmp_path / "s"
    server = subprocess.Popen(
        [*GUNICORN, "-b", f"unix:{path}"],
        cwd=ROOT,
        env=environment({"state_dir": str(tmp_path / "state"), "auth": "none"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path), limits=LIMITS), base_url="http://localhost", timeout=PATIENCE) as client:

            def answers() -> bool:
                try:
                    return client.get("/ready").status_code == 200
                except httpx.ConnectError:
                    return False  # it is not there yet, or nobody listens yet

            wait_for(answers, "the daemon answers")
            created = client.post("/v1/tasks", json={"command": ["true"]})
            assert created.status_code == 201
            over = client.get(f"/v1/tasks/{created.json()['taskId']}?wait=60", timeout=PATIENCE + 10)
            assert over.json()["outcome"] == "succeeded"
    finally:
        server.terminate()
        server.wait(PATIENCE)
