"""The gate before every route of every dialect, where it shares the addresses of /v1 and where it has its own.

The routes are those that the dialects have, so that a new one cannot be forgotten. No service stands behind them: who
gets past the gate where nobody should is answered with a fault of the program.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from conftest import PATIENCE, ROOT, Daemon, verb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from task_runner.api import v1
from task_runner.api.dialects import registry
from task_runner.api.gate import Entry, Gate
from task_runner.api.star_app import create_app
from task_runner.api.surface import Surface, Switchboard
from task_runner.lib.clock import SystemClock
from task_runner.service.settings import DialectName, Settings
from task_runner.service.tokens import Tokens

NAMES: tuple[DialectName, ...] = get_args(DialectName)
LIMIT = 2048
#: where each dialect is alone
OWN = {name: f"testserver:{9001 + index}" for index, name in enumerate(NAMES)}
#: what stands in the place of a route's methods, where it takes any
ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = ("GET", "HEAD", "OPTIONS")
SETTINGS = {"dialects": list(NAMES), "max_body_bytes": LIMIT}

SURFACES: dict[str, Surface] = {name: registry.surface(name, Settings(state_dir="/nowhere")) for name in NAMES}

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

#: how its clients show a token
CREDENTIAL: dict[str, Callable[[str], dict[str, str]]] = {
    "drove": lambda token: {"Authorization": "Basic " + base64.b64encode(f"admin:{token}".encode()).decode()},
    "executor": lambda token: {"Authorization": f"Bearer {token}"},
    "i3d": lambda token: {"PRIVATE-TOKEN": token},
}
#: a call that the service answers
READ = {"drove": "/apis/v1/tasks", "executor": "/getTasks", "i3d": "/v3/applicationInstance/task"}
WRITE = {"drove": "/apis/v1/tasks/operations", "executor": "/tasks", "i3d": "/v3/applicationInstance/task"}


def in_its_form(name: str, response: Any, status: int) -> str:
    """Asserts that a refusal has the form of its system; returns its words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    match name:
        case "drove":
            assert set(body) == {"status", "data", "message"}
            assert body["status"] == "FAILED"
            found = body["message"]
        case "executor":
            assert set(body) == {"code", "message"}
            assert body["code"] == HTTPStatus(status).phrase
            found = body["message"]
        case _:
            assert set(body) == {"errorCode", "errorMessage", "errors"}
            assert isinstance(body["errorCode"], int)
            assert isinstance(body["errors"], list)
            found = body["errorMessage"]
    assert found
    return str(found)


def _calls() -> Iterator[tuple[str, str, str, bool]]:
    """Every method and path of every dialect, and whether it is asked for on an address of the dialect's own."""
    for name in NAMES:
        surface = SURFACES[name]
        seen = set()
        for route in surface.routes:
            path = _PARAMETER.sub("x1", route.path)
            for method in sorted(route.methods or ANY_METHOD):
                seen.add((method, path, True))
                if surface.owns(path):
                    seen.add((method, path, False))
        for prefix in surface.prefixes:
            seen |= {(method, f"{prefix}/nowhere/at/all", own) for method in ANY_METHOD for own in (True, False)}
        for method, path, own in sorted(seen):
            yield name, method, path, own


CALLS = list(_calls())
#: a walk over all of the calls of one dialect
every_door = pytest.mark.parametrize(("name", "own"), [(name, own) for name in NAMES for own in (True, False)])


class Doors:
    """The application twice: with all dialects on the addresses of /v1, and with each on its own."""

    def __init__(self, state_dir: str) -> None:
        given: dict[str, Any] = {
            "state_dir": state_dir, "dialects": list(NAMES), "allowed_hosts": ["testserver"], "max_body_bytes": LIMIT,
        }  # fmt: skip
        # never started: there is no service behind
        self._shared = create_app(Settings(**given))
        self._apart = create_app(Settings(**given, dialect_binds=OWN))
        with open(f"{state_dir}/token") as file:
            self.token = file.read().strip()

    async def ask(
        self, name: str, method: str, path: str, own: bool, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = {} if token is None else CREDENTIAL[name](token)
        headers |= options.pop("headers", {})
        transport = httpx.ASGITransport(self._apart if own else self._shared, raise_app_exceptions=False)
        url = f"http://{OWN[name]}" if own else "http://testserver:9000"
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            return await client.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(str(tmp_path_factory.mktemp("doors") / "state"))


def walk(name: str, own: bool, step: Callable[[str, str], Awaitable[None]]) -> None:
    """Take this step for every call of a dialect; an error says for which."""

    async def go() -> None:
        for who, method, path, where in CALLS:
            if (who, where) == (name, own):
                try:
                    await step(method, path)
                except AssertionError as error:
                    raise AssertionError(f"{method} {path}: {error}") from error

    asyncio.run(go())


def is_open(name: str, path: str, own: bool) -> bool:
    return own and SURFACES[name].is_open(path)


def test_the_walk_has_every_route_of_every_dialect() -> None:
    for name in NAMES:
        walked = {path for who, _method, path, _own in CALLS if who == name}
        assert walked >= {_PARAMETER.sub("x1", route.path) for route in SURFACES[name].routes}
        assert len(walked) > 4


# -- every route


@every_door
def test_nobody_enters_without_the_token(doors: Doors, name: str, own: bool) -> None:
    async def step(method: str, path: str) -> None:
        for token in (None, "x" * 43):
            response = await doors.ask(name, method, path, own, token=token)
            if is_open(name, path, own):
                assert response.status_code in (200, 405)
                continue
            assert response.status_code == 401
            assert response.headers["www-authenticate"]
            if method != "HEAD":
                assert "token" in in_its_form(name, response, 401)

    walk(name, own, step)


@every_door
def test_a_page_of_another_site_and_a_name_that_is_not_ours_are_refused(doors: Doors, name: str, own: bool) -> None:
    async def step(method: str, path: str) -> None:
        origin = await doors.ask(name, method, path, own, token=doors.token, headers={"Origin": "http://evil.example"})
        host = await doors.ask(name, method, path, own, token=doors.token, headers={"Host": "evil.example"})
        assert (origin.status_code, host.status_code) == (403, 421)
        if method != "HEAD":
            assert "other sites" in in_its_form(name, origin, 403)
            assert "allowed_hosts" in in_its_form(name, host, 421)

    walk(name, own, step)


@every_door
def test_a_write_that_is_too_large_or_of_another_kind_is_refused(doors: Doors, name: str, own: bool) -> None:
    async def send(method: str, path: str, body: bytes, kind: str) -> httpx.Response:
        headers = {"Content-Type": kind}
        return await doors.ask(name, method, path, own, token=doors.token, content=body, headers=headers)

    async def step(method: str, path: str) -> None:
        if method in SAFE or is_open(name, path, own):
            return
        large = await send(method, path, b"x" * (LIMIT + 1), "application/json")
        assert "max_body_bytes" in in_its_form(name, large, 413)
        for kind in ("text/plain", "multipart/form-data; boundary=x", ""):
            assert "a body must be" in in_its_form(name, await send(method, path, b"{}", kind), 415)

    walk(name, own, step)


# -- beside them


@every_door
def test_a_fault_of_the_program_is_told_in_its_form_and_not_explained(doors: Doors, name: str, own: bool) -> None:
    words = in_its_form(name, asyncio.run(doors.ask(name, "GET", READ[name], own, token=doors.token)), 500)
    assert "service" not in words


@pytest.mark.parametrize("name", NAMES)
def test_on_an_address_of_its_own_there_is_nothing_else(doors: Doors, name: str) -> None:
    others = [READ[other] for other in NAMES if other != name]
    # the token of /v1, where the dialect's clients may put none
    bearer = {"Authorization": f"Bearer {doors.token}"}

    async def go() -> None:
        for path in ("/v1/tasks", "/v1/node", "/metrics", "/", *others):
            assert (await doors.ask(name, "GET", path, True, token=doors.token)).status_code == 404, path
            assert (await doors.ask(name, "GET", path, True)).status_code == 401
            assert (await doors.ask(name, "GET", path, True, headers=bearer)).status_code in (401, 404)

    asyncio.run(go())


@pytest.mark.parametrize("name", NAMES)
def test_the_token_counts_only_where_its_clients_put_it(shared: Daemon, name: str) -> None:
    token = shared.token
    basic = base64.b64encode(f"{token}:".encode()).decode()  # as the user's name
    wrong = [
        {},
        {"Cookie": f"token={token}"},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": "Basic ===="},
        *(CREDENTIAL[name](each) for each in (token[:-1], token + "x", token.swapcase(), "x")),
    ]
    with httpx.Client(base_url=shared.url, timeout=PATIENCE, verify=False) as client:
        assert client.get(READ[name], headers=CREDENTIAL[name](token)).status_code == 200
        for headers in wrong:
            assert client.get(READ[name], headers=headers).status_code == 401, headers
        assert client.get(READ[name], params={"token": token}).status_code == 401


@pytest.mark.parametrize("name", NAMES)
def test_a_body_of_unsaid_length_is_counted(shared: Daemon, name: str) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(20):
            yield b"x" * 1000
        yield b'"}'

    headers = {"Content-Type": "application/json", **CREDENTIAL[name](shared.token)}
    response = httpx.post(shared.url + WRITE[name], content=parts(), headers=headers, timeout=PATIENCE, verify=False)
    assert "max_body_bytes" in in_its_form(name, response, 413)
    assert shared.http.get("/ready").status_code == 200


def test_a_dialect_that_is_not_switched_on_is_not_there(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(dialects=["drove"]).start()
    for name in NAMES:
        status = httpx.get(daemon.url + READ[name], headers=CREDENTIAL[name](daemon.token), timeout=PATIENCE, verify=False).status_code
        assert status == (200 if name == "drove" else 401 if name == "i3d" else 404)
    assert daemon.http.get("/v1/node").json()["dialects"] == [{"name": "drove", "address": None}]


def test_the_node_tells_which_are_served_and_where(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    own = f"unix:{tmp_path}/i3d"
    daemon = make_daemon(dialects=["i3d", "drove"], dialect_binds={"i3d": own, "executor": "127.0.0.1:1"}).start()
    for found in (daemon.http.get("/v1/node").json(), daemon.post("/v1/node/undrain").json()):
        assert found["dialects"] == [{"name": "i3d", "address": own}, {"name": "drove", "address": None}]
    assert re.search(rf"^dialects +i3d on {re.escape(own)}, drove$", verb(daemon, "node").stdout, re.MULTILINE)


# -- odd requests

PATHS = st.one_of(
    st.text(max_size=30),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["/", "//", ".", "..", "apis", "APIS", "apisx", "v1", "v3", "tasks", "setTasks", "health", "ping", "node",
                 "%2e", "%2F", ";x", "?", "#", "\0", "\n", "\N{SNOWMAN}", "applicationInstance", "task"]
            ),
            max_size=8,
        ),
    ),
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"authorization", b"private-token", b"host", b"origin", b"content-type", b"content-length", b"cookie",
             b"sec-fetch-site", b"x-forwarded-for", b"transfer-encoding", b"content-encoding", b"upgrade"]
        ),
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([b"localhost", b"Basic Og==", b"Basic ", b"Bearer", b"application/json", b"1", b"99999999999"]),
        ),
    ),
    max_size=6,
)  # fmt: skip


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing."""
    with pytest.raises(StopIteration):
        work.send(None)


@pytest.mark.parametrize("name", ["v1", *NAMES])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, headers=HEADERS, method=st.sampled_from([*ANY_METHOD, "HEAD", "TRACE", ""]), web=st.booleans())
def test_whatever_is_asked_nobody_enters_without_the_token(
    name: Any, path: str, headers: list[tuple[bytes, bytes]], method: str, web: bool
) -> None:
    surface = SURFACES.get(name, v1.SURFACE)
    entered: list[str] = []

    async def inside(scope: Any, _receive: Any, _send: Any) -> None:
        entered.append(scope["path"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    gate = Gate(inside, surface=surface, entry=Entry(Tokens("t" * 43, SystemClock())), allowed_hosts=[], max_body_bytes=LIMIT)
    scope = {
        "type": "websocket" if web else "http", "method": method, "path": path, "raw_path": path.encode(),
        "headers": headers, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "query_string": b"", "scheme": "http",
    }  # fmt: skip
    drive(gate(scope, receive, send))
    assert not entered or (not web and surface.is_open(path))
    if web:
        assert [message["type"] for message in sent] == ["websocket.close"]
    elif not entered:
        assert sent[0]["status"] in (401, 403, 421)


@settings(max_examples=200, deadline=None)
@given(PATHS)
def test_a_path_is_for_the_dialect_that_has_its_first_part_and_else_for_v1(path: str) -> None:
    def app(name: str) -> Any:
        async def answer(_scope: Any, _receive: Any, _send: Any) -> None:
            chosen.append(name)

        return answer

    chosen: list[str] = []
    shared = [(SURFACES[name], app(name)) for name in NAMES]
    drive(Switchboard(app("v1"), shared, [])({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]
    first = {"apis": "drove", "tasks": "executor", "setTasks": "executor", "getTasks": "executor", "v3": "i3d"}
    assert chosen == [first.get(path[1:].split("/")[0], "v1") if path.startswith("/") else "v1"]


TARGETS = [
    "//apis/v1/ping", "/apis//v1/tasks", "/%61pis/v1/tasks", "/apis%2Fv1%2Ftasks", "/apis/../v1/node", "/./getTasks",
    "/apis/v1/tasks%00", "/apis/v1/tasks/", "/v3", "/v3/", "/apis", "/tasks", "/tasks/", "/tasks/%2e%2e%2fx", "/APIS/v1/tasks",
    "http://localhost/apis/v1/tasks", "http://evil.example/getTasks", "*", "/apis/v1/tasks;jsessionid=1",
    "/apis/v1/tasks?%ff=%fe", "/v3/applicationInstance/task/%F0%9F%92%A9", "/v3/applicationInstance/task/99999999999999999999",
    "/apis/v1/tasks/%ff/instances/%ed%a0%80", "/tasks/%ed%a0%80", "/tasks/" + "x" * 5000, "/getTasks#x",
    "/v1/tasks?alias=%ff", "/v1/tasks?alias=%ed%a0%80&origin=%00",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT"])
def test_odd_targets_are_refused_without_the_token_and_break_nothing_with_it(shared: Daemon, method: str) -> None:
    host, port = shared.url.removeprefix("http://").split(":")

    def status(target: str, *headers: str) -> int:
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""])
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(head.encode())
            answer = b""
            while b"\r\n" not in answer and (chunk := connection.recv(65536)):
                answer += chunk
        return int(answer.split(b" ", 2)[1])

    for target in TARGETS:
        assert status(target) in (400, 401), target
        found = status(target, f"Authorization: Bearer {shared.token}", f"PRIVATE-TOKEN: {shared.token}")
        assert found < 500, target
    assert shared.http.get("/ready").status_code == 200
    assert b"Traceback" not in shared.log.read_bytes()


# -- what the documentation says of them

DIALECTS = (ROOT / "doc/dialects.md").read_text()
_TEST = re.compile(r"\b(test_\w+)(\.py)?(?:::(test_\w+))?")


def test_every_test_that_the_page_names_exists() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    defined = {name for text in files.values() for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", text, re.MULTILINE)}
    missing = []
    for first, is_file, inner in _TEST.findall(DIALECTS):
        if is_file:
            text = files.get(f"{first}.py")
            if text is None or (inner and not re.search(rf"def {inner}\(", text)):
                missing.append(f"{first}.py::{inner}")
        elif first not in defined and f"{first}.py" not in files:
            missing.append(first)
    assert not missing


def _sections() -> dict[str, str]:
    """The text of each system, by the word that its heading has."""
    parts = re.split(r"^## (.+)$", DIALECTS, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


HEADING = {"drove": "Drove", "executor": "OpenSandbox task-executor", "i3d": "i3D.net"}


@pytest.mark.parametrize("name", NAMES)
def test_every_route_has_its_place_on_the_page(name: DialectName) -> None:
    """By its whole path, or by what follows `/apis/v1` or `/v3` in it; `…` stands for any beginning or end."""
    section = _nameless(_sections()[HEADING[name]])
    missing = set()
    for route in SURFACES[name].routes:
        parts = [part for part in _nameless(route.path).split("/") if part not in ("", "apis", "v1", "v3")]
        places = [r"/".join(map(re.escape, parts)) + r"(?![\w/])"]
        places += [r"/".join(map(re.escape, parts[:end])) + r"/…" for end in range(1, len(parts))]
        places += [r"…/" + r"/".join(map(re.escape, parts[start:])) + r"(?![\w/])" for start in range(1, len(parts))]
        if parts != ["{}"] and not any(re.search(rf"(?<!\w){place}", section) for place in places):
            missing.add(route.path)
    assert not missing


def _nameless(text: str) -> str:
    """Whatever the parts of a path are called that stand for something: {app}, <app>, APP."""
    return re.sub(r"\{[^}]*\}|(?<=/)<[^>]*>|(?<=/)[A-Z][A-Z_]*\b", "{}", text)
