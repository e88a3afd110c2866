"""Tokens and their scopes: each opens what its scopes say, as long as it lasts, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
from attempts import HandClock
from conftest import PATIENCE, ROOT, Daemon, verb, wait_for
from starlette.routing import Route
from test_gate_dialects import CREDENTIAL, in_its_form

from task_runner.api import permissions, problem
from task_runner.api.access import HOLDER, OPEN, either, route
from task_runner.api.surface import Surface
from task_runner.errors import Forbidden
from task_runner.lib import lock
from task_runner.model.scopes import Scope, allowed
from task_runner.service.tokens import PREFIX, STRANGER, Tokens

SETTINGS = {"dialects": ["drove", "executor", "i3d"]}
SCOPES = [scope.value for scope in Scope]
TABLE = ROOT / "doc/reference/scopes.md"

_made = iter(range(1, 10_000))


def make(daemon: Daemon, *scopes: str, name: str | None = None, **more: Any) -> str:
    """The secret of a new token."""
    name = name or f"t{next(_made)}"
    response = daemon.post("/v1/tokens", {"name": name, "scopes": list(scopes), **more})
    assert response.status_code == 201, response.text
    return str(response.json()["token"])


def ask(daemon: Daemon, secret: str, method: str, path: str, surface: str = "v1", **options: Any) -> httpx.Response:
    headers = CREDENTIAL.get(surface, CREDENTIAL["executor"])(secret)
    return daemon.http.request(method, path, headers=headers, **options)


def status(daemon: Daemon, secret: str, method: str, path: str, surface: str = "v1", **options: Any) -> int:
    """Only the status: a stream is not read."""
    headers = CREDENTIAL.get(surface, CREDENTIAL["executor"])(secret)
    if "content" in options:
        headers["Content-Type"] = "application/octet-stream"
    with daemon.http.stream(method, path, headers=headers, **options) as response:
        if response.status_code == 403:
            response.read()
            lacks = problem_of(surface, response)
            assert "lacks the scope" in lacks
        return response.status_code


def problem_of(surface: str, response: httpx.Response) -> str:
    if surface == "v1":
        assert response.headers["content-type"] == "application/problem+json"
        return str(response.json()["detail"])
    return in_its_form(surface, response, 403)


# -- what each scope opens


def test_admin_implies_all_and_submit_implies_templates():
    assert allowed([Scope.ADMIN]) == set(Scope)
    assert allowed([Scope.SUBMIT]) == {Scope.SUBMIT, Scope.SUBMIT_TEMPLATE}
    for scope in (Scope.READ, Scope.LOGS, Scope.CONTROL, Scope.SUBMIT_TEMPLATE):
        assert allowed([scope]) == {scope}
    assert allowed([]) == frozenset()


def described() -> list[tuple[str, str, str, str]]:
    """The rows of the page."""
    return re.findall(r"^\| (\w+) \| `(\w+)` \| `(\S+)` \| ([^|]+) \|$", TABLE.read_text(), re.MULTILINE)


def opens(need: str, scope: str) -> bool:
    """Whether a token with this scope alone is enough, by what the page says."""
    if need in ("nothing", "any token"):
        return True
    words = re.split(r" (?:and|or) ", need)
    has = [word in allowed([Scope(scope)]) for word in words]
    return all(has) if " and " in need else any(has)


def test_the_page_of_scopes_has_every_route_and_is_up_to_date():
    assert TABLE.read_text() == permissions.table() + "\n"
    assert described() == list(permissions.rows())
    assert {need for *_route, need in described()} <= {
        "nothing", "any token", "submit or control", "submit and control", *SCOPES
    }  # fmt: skip


#: what else than an empty object is sent, so that it is the scope that decides
BODIES: dict[str, dict[str, Any]] = {
    "/v1/tasks": {"json": {"template": "nowhere"}},
    "/v1/tasks/": {"json": {"template": "nowhere"}},
    "/v1/batches": {"json": {"tasks": [{"template": "nowhere"}]}},
    "/v1/tasks/x1/input": {"content": b"x"},
    "/apis/v1/tasks/search": {"data": {"x": "y"}},
}


@pytest.fixture(scope="module")
def by_scope(shared: Daemon) -> dict[str, str]:
    """A token with each scope alone."""
    return {scope: make(shared, scope, name=f"only-{scope}") for scope in SCOPES}


@pytest.mark.parametrize("scope", SCOPES)
def test_every_route_of_every_surface_opens_for_the_scopes_that_the_page_names(
    shared: Daemon, by_scope: dict[str, str], scope: str
):
    for surface, method, path, need in described():
        if surface == "executor" and path in ("/health", "/{path:path}"):
            continue  # there only where the dialect has an address of its own
        path = re.sub(r"\{\w+(:\w+)?\}", "x1", path)
        method = "PATCH" if method == "other" else method
        more = BODIES.get(path, {"json": {}}) if method in ("POST", "PUT", "PATCH") else {}
        found = status(shared, by_scope[scope], method, path, surface, **more)
        assert (found != 403) == opens(need, scope), f"{surface} {method} {path}: {found}, needs {need}"
        assert found != 401
    shared.post("/v1/node/undrain")
    assert shared.http.get("/ready").status_code == 200


def test_head_needs_what_get_needs(shared: Daemon, by_scope: dict[str, str]):
    headers = {"Authorization": f"Bearer {by_scope['control']}"}
    for path in ("/v1/tasks", "/v1/tasks/x/output", "/v1/tokens"):
        assert httpx.head(shared.url + path, headers=headers, timeout=PATIENCE, verify=False).status_code == 403


def test_what_is_not_there_is_told_to_every_holder(shared: Daemon, by_scope: dict[str, str]):
    for secret in by_scope.values():
        assert ask(shared, secret, "GET", "/v1/nowhere").status_code == 404
        assert ask(shared, secret, "PUT", "/v1/tasks", json={}).status_code == 405


def test_a_route_that_does_not_say_what_it_needs_cannot_be_made():
    async def endpoint(_request: Any) -> Any: ...

    with pytest.raises(TypeError, match="scope"):
        Surface(name="x", routes=[Route("/x", endpoint)], answer=problem.answer)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        route("/x", endpoint)  # type: ignore[call-arg]
    made = Surface(
        name="x", routes=[route("/x", endpoint, scope=Scope.READ), route("/y", endpoint, scope=OPEN)], answer=problem.answer
    )
    assert (made.is_open("/x"), made.is_open("/y"), made.is_open("/y\n"), made.is_open("/y/")) == (False, True, False, False)


def test_a_door_without_a_gate_in_front_stays_shut():
    async def endpoint(_request: Any) -> Any:
        pytest.fail("it was entered")

    for state in ({}, {"state": {}}, {"state": {"token": STRANGER}}):
        for need in (Scope.READ, HOLDER):
            door = route("/x", endpoint, scope=need)
            with pytest.raises(Forbidden):
                door.handle({"type": "http", "method": "GET", "path": "/x", **state}, None, None).send(None)  # type: ignore[arg-type]


def test_a_need_of_one_scope_of_several_is_met_by_each():
    need = either(Scope.SUBMIT, Scope.CONTROL)
    assert list(need.missing({Scope.CONTROL})) == list(need.missing({Scope.SUBMIT})) == []
    assert list(need.missing({Scope.READ})) == [Scope.SUBMIT, Scope.CONTROL]
    assert not HOLDER.missing(frozenset())


# -- what depends on the body


@pytest.fixture(scope="module")
def template(shared: Daemon) -> str:
    body = {"parameters": {"n": {"type": "integer", "default": 1}}, "task": {"command": ["echo", "${n}"]}}
    assert shared.http.put("/v1/templates/hello", json=body).status_code == 201
    return "hello"


def test_submit_template_is_enough_for_templates_and_for_nothing_else(
    shared: Daemon, by_scope: dict[str, str], template: str
):
    secret = by_scope["submit-template"]

    def post(path: str, body: Any) -> httpx.Response:
        return ask(shared, secret, "POST", path, json=body)

    made = post("/v1/tasks", {"template": template, "parameters": {"n": 7}})
    assert made.status_code == 201
    assert shared.wait(made.json()["taskId"])["outcome"] == "succeeded"
    assert shared.output(made.json()["taskId"]) == b"7\n"
    assert post("/v1/batches", {"tasks": [{"template": template}]}).status_code == 201
    assert post("/v1/batches", {"task": {"template": template}, "entities": ["a"]}).status_code == 201
    before = len(shared.http.get("/v1/tasks").json())
    for path, body in (
        ("/v1/tasks", {"command": ["true"]}),
        ("/v1/tasks", {"machine": "echo", "parameters": ["echo x"]}),
        ("/v1/tasks", {"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}),
        ("/v1/tasks", {"command": ["true"], "metadata": {"template": template, "filler": "x" * 70_000}}),
        ("/v1/tasks", {"no": "sense"}),
        ("/v1/batches", {"tasks": [{"template": template}, {"command": ["true"]}]}),
        ("/v1/batches", {"task": {"command": ["true"]}, "entities": ["a"]}),
    ):
        response = post(path, body)
        assert response.status_code == 403, body
        assert "lacks the scope submit" in response.json()["detail"]
    # beside a template nothing can stand that says what is done
    assert post("/v1/tasks", {"template": template, "command": ["true"]}).status_code == 400
    assert len(shared.http.get("/v1/tasks").json()) == before


def test_drove_asks_for_what_the_operation_needs(shared: Daemon, by_scope: dict[str, str]):
    path = "/apis/v1/tasks/operations"
    create, kill = {"type": "CREATE"}, {"type": "KILL", "sourceAppName": "a", "taskId": "b"}
    for scope, body, expected in (
        ("submit", create, 400), ("submit", kill, 403), ("control", create, 403), ("control", kill, 400),
        ("admin", create, 400), ("admin", kill, 400),
    ):  # fmt: skip
        assert ask(shared, by_scope[scope], "POST", path, "drove", json=body).status_code == expected, (scope, body)


def test_what_a_task_has_written_is_for_the_scope_logs(shared: Daemon, by_scope: dict[str, str]):
    task_id = shared.submit("sh", "-c", "echo confidential; echo more >file")
    shared.wait(task_id)
    reader, logs = make(shared, "read"), make(shared, "read", "logs")
    path = f"/v1/tasks/{task_id}"
    assert [each["text"] for each in ask(shared, logs, "GET", f"{path}/explain").json()["lastOutput"]] == ["confidential\n"]
    explained = ask(shared, reader, "GET", f"{path}/explain")
    assert explained.json()["lastOutput"] is None
    assert "confidential" not in explained.text.replace("echo confidential", "")
    for more in ("/output", "/files", "/files/file"):
        assert ask(shared, reader, "GET", path + more).status_code == 403
        assert ask(shared, logs, "GET", path + more).status_code == 200
    assert "The end of its" not in verb(shared, "explain", task_id, env={"TASK_RUNNER_TOKEN": reader}).stdout


def test_the_name_of_a_token_is_kept_with_its_tasks_and_is_what_task_users_goes_by(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(task_users={"ci": ["4242"]}, allow_root=False).start()
    ci, other = make(daemon, "submit", name="ci"), make(daemon, "submit", name="other")
    body = {"command": ["true"], "user": "4242"}
    assert "'other'" in ask(daemon, other, "POST", "/v1/tasks", json=body).text
    # who is not root can run nothing as others, and says that instead
    assert "'ci'" not in ask(daemon, ci, "POST", "/v1/tasks", json=body).text
    made = ask(daemon, other, "POST", "/v1/tasks", json={"command": ["true"]})
    with closing(sqlite3.connect(daemon.state.database)) as db:
        rows = db.execute("SELECT json_extract(record, '$.token') FROM tasks WHERE id = ?", (made.json()["taskId"],))
        assert rows.fetchone() == ("other",)


# -- made and kept


def test_a_token_outlives_the_daemon_and_only_its_digest_is_kept(daemon: Daemon):
    secret = make(daemon, "read", name="keep")
    assert secret.startswith(PREFIX)
    assert len(secret) > 43
    daemon.restart()
    assert ask(daemon, secret, "GET", "/v1/tasks").status_code == 200
    assert ask(daemon, secret, "POST", "/v1/tasks", json={"command": ["true"]}).status_code == 403
    task_id = daemon.submit("true")
    daemon.wait(task_id)
    daemon.terminate()
    wait_for(lambda: not lock.probe(daemon.state.tasks.attempt(task_id, 1)).held, "its runner writes nothing any more")
    for path in daemon.state_dir.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert secret.removeprefix(PREFIX).encode() not in path.read_bytes(), path
    assert secret.encode() not in daemon.log.read_bytes()


def test_the_list_shows_what_there_is_and_no_secret(shared: Daemon):
    before = time.time()
    response = shared.post(
        "/v1/tokens", {"name": "shown", "scopes": ["control", "read", "read"], "expiresInSeconds": 3600}
    )
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    assert response.headers["location"] == "/v1/tokens/shown"
    made = response.json()
    secret = made.pop("token")
    found = {each["name"]: each for each in shared.http.get("/v1/tokens").json()}
    assert found["shown"] == made
    assert (made["scopes"], made["createdBy"], made["expired"], made["lastUsedAt"]) == (["read", "control"], "admin", False, None)
    assert made["createdAt"] < made["expiresAt"]
    assert secret not in shared.http.get("/v1/tokens").text
    admin = found["admin"]
    assert (admin["scopes"], admin["createdAt"], admin["expiresAt"]) == (["admin"], None, None)
    assert ask(shared, secret, "GET", "/v1/node").status_code == 200
    used = next(each for each in shared.http.get("/v1/tokens").json() if each["name"] == "shown")["lastUsedAt"]
    assert used >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))


def test_when_a_token_was_used_is_remembered(daemon: Daemon):
    secret = make(daemon, "read", name="used")
    assert ask(daemon, secret, "GET", "/v1/node").status_code == 200
    used = daemon.http.get("/v1/tokens").json()[-1]["lastUsedAt"]
    assert used is not None
    daemon.terminate()
    daemon.start()
    assert daemon.http.get("/v1/tokens").json()[-1]["lastUsedAt"] == used


def test_a_use_while_uses_are_written_down_is_written_the_next_time():
    clock, written = HandClock(), []
    tokens = Tokens(admin="secret", clock=clock)

    class Book:
        async def write(self, ops: list[Any]) -> None:
            written.extend(ops)
            if len(written) == 2:
                clock.now += 1
                tokens.find(secret)

    tokens._book = Book()  # type: ignore[assignment]
    _token, secret = asyncio.run(tokens.create("x", [Scope.READ], seconds=None, by="admin"))
    tokens.find(secret)
    for _ in range(3):
        asyncio.run(tokens.note_uses())
    assert len(written) == 3  # its making, its use, and the other one
    assert written[1] != written[2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "x"}, "scopes"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": "read"}, "scopes"),
        ({"name": "x", "scopes": ["read", "everything"]}, "scopes.1"),
        ({"name": "x", "scopes": [["read"]]}, "scopes.0"),
        ({"name": "admin", "scopes": ["read"]}, "name"),
        ({"name": "none", "scopes": ["read"]}, "name"),
        ({"name": "*", "scopes": ["read"]}, "name"),
        ({"name": "a/b", "scopes": ["read"]}, "name"),
        ({"name": "a\nb", "scopes": ["read"]}, "name"),
        ({"name": "x" * 65, "scopes": ["read"]}, "name"),
        ({"name": 7, "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": ["read"], "expiresInSeconds": 0}, "expiresInSeconds"),
        ({"name": "x", "scopes": ["read"], "expiresInSeconds": -1}, "expiresInSeconds"),
        ({"name": "x", "scopes": ["read"], "expiresInSeconds": 1e300}, "expiresInSeconds"),
        ({"name": "x", "scopes": ["read"], "expiresInSeconds": True}, "expiresInSeconds"),
        ({"name": "x", "scopes": ["read"], "expiresInSeconds": "30d"}, "expiresInSeconds"),
        ({"name": "x", "scopes": ["read"], "secret": "y"}, "secret"),
    ],
)
def test_what_makes_no_sense_makes_no_token(shared: Daemon, body: dict[str, Any], field: str):
    response = shared.post("/v1/tokens", body)
    assert response.status_code == 400
    assert [each["field"] for each in response.json()["errors"]] == [field]
    assert "x" not in [each["name"] for each in shared.http.get("/v1/tokens").json()]


def test_a_name_is_given_once_until_it_is_revoked(shared: Daemon):
    first = make(shared, "read", name="once")
    again = shared.post("/v1/tokens", {"name": "once", "scopes": ["admin"]})
    assert (again.status_code, "revoke" in again.json()["detail"]) == (409, True)
    assert shared.http.delete("/v1/tokens/once").json() == {"success": True}
    assert shared.http.delete("/v1/tokens/once").status_code == 404
    second = make(shared, "logs", name="once")
    assert ask(shared, first, "GET", "/v1/node").status_code == 401
    assert ask(shared, second, "GET", "/v1/node").status_code == 403


def test_the_token_of_the_state_directory_can_be_neither_revoked_nor_made(shared: Daemon):
    response = shared.http.delete("/v1/tokens/admin")
    assert (response.status_code, "<state>/token" in response.json()["detail"]) == (409, True)
    assert shared.http.get("/v1/node").status_code == 200


def test_no_token_is_made_where_none_is_asked_for(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(auth="none")
    daemon.start(wait=False)
    wait_for(lambda: _answers(daemon), "the daemon answers")
    response = httpx.post(
        f"{daemon.url}/v1/tokens", json={"name": "x", "scopes": ["read"]}, timeout=PATIENCE, verify=False
    )
    assert (response.status_code, "auth = none" in response.json()["detail"]) == (409, True)
    assert httpx.get(f"{daemon.url}/v1/tokens", timeout=PATIENCE, verify=False).json() == []


def _answers(daemon: Daemon) -> bool:
    try:
        return httpx.get(f"{daemon.url}/health", timeout=2, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_damaged_token_opens_nothing_and_hinders_nobody(daemon: Daemon):
    good, bad, odd = (make(daemon, "read", name=name) for name in ("good", "bad", "odd"))
    daemon.kill()
    with closing(sqlite3.connect(daemon.state.database)) as db:
        db.execute("UPDATE tokens SET expires_at = 'soon' WHERE name = 'bad'")
        db.execute("UPDATE tokens SET scopes = 'fly read' WHERE name = 'odd'")
        db.commit()
    daemon.start()
    assert [ask(daemon, each, "GET", "/v1/node").status_code for each in (good, bad, odd)] == [200, 401, 200]
    assert b"'bad'" in daemon.log.read_bytes()


# -- ended


def test_a_revoked_token_opens_nothing_from_then_on_also_after_a_crash(daemon: Daemon):
    secret = make(daemon, "admin", name="gone")
    assert ask(daemon, secret, "DELETE", "/v1/tokens/gone").status_code == 200  # its own
    assert ask(daemon, secret, "GET", "/v1/node").status_code == 401
    daemon.restart()
    assert ask(daemon, secret, "GET", "/v1/node").status_code == 401


def test_an_expired_token_opens_nothing_and_is_told_why(shared: Daemon):
    secret = make(shared, "read", name="short", expiresInSeconds=0.2)

    def over() -> httpx.Response | None:
        response = ask(shared, secret, "GET", "/v1/node")
        return response if response.status_code == 401 else None

    assert "'short' has expired" in wait_for(over, "it has expired").json()["detail"]
    assert next(each for each in shared.http.get("/v1/tokens").json() if each["name"] == "short")["expired"] is True
    assert ask(shared, secret, "GET", "/health").status_code == 200


@pytest.fixture
def follower(shared: Daemon) -> Iterator[str]:
    """A task that runs and says nothing more."""
    task_id = shared.submit("sh", "-c", "echo begun; exec sleep 1000")
    shared.wait_output(task_id, b"begun")
    yield task_id
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})


@contextmanager
def followed(daemon: Daemon, path: str, accept: str, *lives: float | None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name of a token, and what else comes of a stream that was opened with it and has begun. ``lives``: how many
    seconds the token lasts; a longer one is for a machine where the stream did not begin within a shorter one."""
    for seconds in lives:
        name = f"stream{next(_made)}"
        more = {} if seconds is None else {"expiresInSeconds": seconds}
        headers = {"Authorization": f"Bearer {make(daemon, 'read', 'logs', name=name, **more)}", "Accept": accept}
        with httpx.stream("GET", daemon.url + path, headers=headers, timeout=PATIENCE, verify=False) as response:
            parts = response.iter_raw()
            try:
                begun = response.status_code == 200 and next(parts)
            except (StopIteration, httpx.RemoteProtocolError):
                continue
            if begun:
                yield name, parts
                return
            assert response.status_code in (200, 401)
    pytest.fail(f"the stream did not begin with a token of {lives[-1]} s")


@pytest.mark.parametrize("how", ["revoked", "expired"])
@pytest.mark.parametrize("stream", ["events", "task events", "output", "output events"])
def test_a_stream_ends_with_its_token(shared: Daemon, follower: str, how: str, stream: str):
    path, accept = {
        "events": ("/v1/events", "*/*"),
        "task events": (f"/v1/tasks/{follower}/events", "*/*"),
        "output": (f"/v1/tasks/{follower}/output?follow=true", "*/*"),
        "output events": (f"/v1/tasks/{follower}/output?follow=true", "text/event-stream"),
    }[stream]
    lives = (1.5, 6, 24) if how == "expired" else (None,)
    with followed(shared, path, accept, *lives) as (name, parts):
        if how == "revoked":
            shared.http.delete(f"/v1/tokens/{name}")
        with pytest.raises((StopIteration, httpx.RemoteProtocolError)):
            while True:  # the client's own patience is longer than that of the test
                next(parts)


def test_the_stream_of_another_token_goes_on(shared: Daemon, follower: str):
    name = f"other{next(_made)}"
    make(shared, "read", name=name)
    mine = make(shared, "logs")
    headers = {"Authorization": f"Bearer {mine}"}
    path = f"{shared.url}/v1/tasks/{follower}/output?follow=true"
    with httpx.stream("GET", path, headers=headers, timeout=PATIENCE, verify=False) as response:
        parts = response.iter_raw()
        assert next(parts) == b"begun\n"
        shared.http.delete(f"/v1/tokens/{name}")
        shared.post(f"/v1/tasks/{follower}/stop", {"graceSeconds": 0})
        assert list(parts) == []  # to its orderly end


# -- the command line


def test_tokens_on_the_command_line(daemon: Daemon):
    made = verb(daemon, "token", "create", "ci", "--scope", "submit", "--scope", "read", "--expires", "30d")
    secret = made.stdout.strip()
    assert (made.returncode, secret.count("\n")) == (0, 0)
    assert "ci allows read, submit, until 20" in made.stderr
    assert secret not in made.stderr
    as_ci = {"TASK_RUNNER_TOKEN": secret}
    assert verb(daemon, "list", env=as_ci).returncode == 0
    refused = verb(daemon, "drain", env=as_ci)
    assert refused.returncode == 5
    assert "the token 'ci' may not do this: it lacks the scope admin" in refused.stderr
    listed = verb(daemon, "token", "list").stdout
    assert re.search(r"^ci +20\S+ +admin +20\S+ +20\S+ +read submit$", listed, re.MULTILINE)
    assert [each["name"] for each in json.loads(verb(daemon, "token", "list", "--json").stdout)] == ["admin", "ci"]
    whole = json.loads(verb(daemon, "token", "create", "all", "--scope", "admin", "--json").stdout)
    assert (whole["scopes"], whole["expiresAt"], whole["token"][:4]) == (["admin"], None, "trt_")
    assert verb(daemon, "token", "revoke", "ci").returncode == 0
    assert verb(daemon, "token", "revoke", "ci").returncode == 3
    gone = verb(daemon, "list", env=as_ci)
    assert gone.returncode == 5
    assert verb(daemon, "token", "create", "x", "--scope", "fly").returncode == 2
    assert verb(daemon, "token", "create", "x").returncode == 2
    assert verb(daemon, "token", "create", "all", "--scope", "read").returncode == 4
