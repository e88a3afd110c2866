"""Login to the web page: the cookie, what it opens and for how long, and that no other site can use it."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon, wait_for
from starlette.datastructures import Headers

from task_runner.api.web import cookies

SETTINGS = {"dialects": '["drove", "executor", "i3d"]'}
_made = itertools.count()


class Browser:
    """Shows its cookies, and says of a request what a browser says of one from our own page."""

    def __init__(self, daemon: Daemon) -> None:
        self.url = daemon.url
        self.own = {"Origin": daemon.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        self.http = httpx.Client(base_url=daemon.url, timeout=PATIENCE, verify=False)

    def login(self, token: str) -> httpx.Response:
        return self.http.post("/ui/login", json={"token": token}, headers=self.own)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        more = {} if body is None else {"json": body}
        return self.http.post(path, headers=self.own if headers is None else headers, **more, **options)

    def status(self, path: str = "/v1/tasks") -> int:
        return self.http.get(path).status_code

    @property
    def cookie(self) -> str:
        [(name, value)] = self.http.cookies.items()
        return f"{name}={value}"


@pytest.fixture
def browsers() -> Iterator[Callable[[Daemon], Browser]]:
    made: list[Browser] = []

    def make(daemon: Daemon) -> Browser:
        made.append(Browser(daemon))
        return made[-1]

    yield make
    for each in made:
        each.http.close()


@pytest.fixture
def browser(shared: Daemon, browsers: Callable[[Daemon], Browser]) -> Browser:
    """Logged in with the token of the state directory."""
    made = browsers(shared)
    assert made.login(shared.token).status_code == 200
    return made


def token(daemon: Daemon, *scopes: str, **more: Any) -> tuple[str, str]:
    """A new one: its name and its secret."""
    name = f"t{next(_made)}"
    made = daemon.post("/v1/tokens", {"name": name, "scopes": list(scopes), **more})
    assert made.status_code == 201, made.text
    return name, str(made.json()["token"])


def sessions(daemon: Daemon) -> list[tuple[str, ...]]:
    """The rows of the store."""
    with sqlite3.connect(f"file:{daemon.state.database}?mode=ro", uri=True) as db:
        return list(db.execute("SELECT digest, token, created_at, expires_at FROM sessions"))


# -- in


def test_a_login_gives_a_cookie_that_script_and_other_sites_do_not_get(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    answer = browsers(shared).login(f"  {shared.token}\n")
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("name", "scopes", "free")} == {
        "name": "admin", "scopes": ["admin"], "free": False
    }  # fmt: skip
    value, *attributes = answer.headers["set-cookie"].split("; ")
    port = shared.url.rpartition(":")[2]
    assert value.startswith(f"task-runner-{port}=")
    assert len(value.partition("=")[2]) >= 43
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert answer.headers["cache-control"] == "no-store"
    assert shared.token not in answer.text + answer.headers["set-cookie"]


def test_the_cookie_is_for_https_alone_where_the_browser_sees_that(shared: Daemon):
    headers = {"Host": "localhost", "Origin": "https://localhost"}
    answer = shared.http.post("/ui/login", json={"token": shared.token}, headers=headers)
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert (value.partition("=")[0], attributes[-1]) == ("task-runner", "Secure")


def test_who_is_logged_in_is_told(shared: Daemon, browser: Browser, browsers: Callable[[Daemon], Browser]):
    shown = browser.http.get("/ui/session")
    assert (shown.json()["name"], shown.json()["scopes"], shown.json()["free"]) == ("admin", ["admin"], False)
    assert shown.headers["cache-control"] == "no-store"
    nobody = browsers(shared).http.get("/ui/session")
    assert (nobody.status_code, nobody.headers["content-type"]) == (401, "application/problem+json")
    name, secret = token(shared, "read", "logs")
    reader = browsers(shared)
    assert reader.login(secret).json()["name"] == name
    assert reader.http.get("/ui/session").json()["scopes"] == ["read", "logs"]


def test_a_cookie_is_read_as_it_was_set_however_long_it_is(shared: Daemon, browser: Browser):
    """What undoes quotes takes the square of its length: anybody could stop the daemon with one header."""
    name, _, secret = browser.cookie.partition("=")

    def status(cookie: str) -> int:
        return httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": cookie}, timeout=PATIENCE, verify=False).status_code

    assert status(f'{name}="{secret}"') == 401
    for cookie in (f"{name}={secret}", f"a=b;{name} = {secret} ;;c", f"{name}=x; {name}={secret}", f"{name}; {name}={secret}"):
        assert status(cookie) == 200
    quoted = '"' + 1_000_000 * "\\" + '"'
    assert status(f"a={quoted[:50_000]}\"; {name}={secret}") == 200
    headers = Headers({"Host": "localhost:1", "Cookie": f"a={quoted}; task-runner-1={quoted}"})
    assert cookies.read(headers) == quoted


def test_a_token_itself_is_a_session_too(shared: Daemon):
    assert shared.http.get("/ui/session").json()["name"] == "admin"


def test_the_cookie_opens_what_its_token_opens(shared: Daemon, browser: Browser, browsers: Callable[[Daemon], Browser]):
    for path in ("/v1/tasks", "/v1/node", "/metrics", "/v1/openapi.json", "/v1/tokens", "/ready", "/"):
        assert browser.status(path) == 200, path
    made = browser.post("/v1/tasks", {"command": ["echo", "by cookie"]})
    assert made.status_code == 201
    task_id = made.json()["taskId"]
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert browser.http.get(f"/v1/tasks/{task_id}/output").text == "by cookie\n"
    assert browser.http.delete(f"/v1/tasks/{task_id}", headers=browser.own).status_code == 200

    reader = browsers(shared)
    reader.login(token(shared, "read")[1])
    assert (reader.status("/v1/tasks"), reader.status("/v1/tokens")) == (200, 403)
    assert reader.post("/v1/tasks", {"command": ["true"]}).status_code == 403


def test_events_come_by_cookie(shared: Daemon, browser: Browser):
    headers = {"Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
    with browser.http.stream("GET", "/v1/events?after=0", headers=headers) as response:
        assert (response.status_code, response.headers["x-content-type-options"]) == (200, "nosniff")
        assert "sandbox" in response.headers["content-security-policy"]
        assert next(response.iter_lines()) == ": task-runner events"


def test_what_a_task_has_written_is_never_a_page(shared: Daemon, browser: Browser):
    task_id = shared.submit("echo", "<script>alert(1)</script>")
    shared.wait(task_id)
    for headers in ({}, {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}):
        answer = browser.http.get(f"/v1/tasks/{task_id}/output", headers=headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert not answer.headers["content-type"].startswith("text/html")


def test_authorization_wins_over_the_cookie(shared: Daemon, browser: Browser):
    _name, secret = token(shared, "read")
    assert browser.http.get("/v1/tokens", headers={"Authorization": f"Bearer {secret}"}).status_code == 403
    for bad in ("Bearer nope", "Basic YWRtaW46YWRtaW4=", "x"):
        assert browser.http.get("/v1/tasks", headers={"Authorization": bad}).status_code == 401
    # who shows a token himself is no browser that is made use of
    change = browser.http.post("/v1/node/undrain", headers={"Authorization": f"Bearer {shared.token}"})
    assert change.status_code == 200


def test_the_token_itself_is_no_cookie_and_the_cookie_no_token(shared: Daemon, browser: Browser):
    name, _, secret = browser.cookie.partition("=")
    as_bearer = httpx.get(f"{shared.url}/v1/tasks", headers={"Authorization": f"Bearer {secret}"}, verify=False, timeout=PATIENCE)
    as_cookie = httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": f"{name}={shared.token}"}, verify=False, timeout=PATIENCE)
    other = httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": f"{name}-x={secret}; task-runner={secret}"}, verify=False, timeout=PATIENCE)
    assert {as_bearer.status_code, as_cookie.status_code, other.status_code} == {401}
    among = f"a=b; {name}={secret}; c=d"
    assert httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": among}, verify=False, timeout=PATIENCE).status_code == 200


@pytest.mark.parametrize("path", ["/apis/v1/ping", "/apis/v1/tasks", "/tasks", "/getTasks", "/v3/tasks", "/v3/host"])
def test_the_cookie_opens_no_dialect(shared: Daemon, browser: Browser, path: str):
    answer = browser.http.get(path)
    assert answer.status_code in (401, 403, 404)
    with_token = shared.http.get(path)
    if with_token.status_code == 200:
        assert answer.status_code == 401


def test_every_dialect_has_a_path_that_a_token_opens_and_the_cookie_does_not(shared: Daemon, browser: Browser):
    from task_runner.api.dialects import registry
    from task_runner.service.settings import read

    for name in ("drove", "executor", "i3d"):
        surface = registry.surface(name, read(state_dir="/nowhere"))
        doors = [door for door in surface.routes if "GET" in (door.methods or ()) and not door.need.open]
        paths = [door.path for door in doors if "{" not in door.path and surface.owns(door.path)]
        assert paths, name
        assert [browser.status(path) for path in paths] == [401] * len(paths), name


# -- not in


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'"x"', b'{"token": 1}', b'{"token": null}', b'{"token": "x", "more": 1}', b"{"]
)
def test_a_login_that_makes_no_sense_is_refused(shared: Daemon, body: bytes):
    answer = httpx.post(f"{shared.url}/ui/login", content=body, headers={"Content-Type": "application/json"}, verify=False, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_of_another_site_logs_nobody_in(shared: Daemon, kind: str):
    body = json.dumps({"token": shared.token})
    answer = httpx.post(f"{shared.url}/ui/login", content=body, headers={"Content-Type": kind}, verify=False, timeout=PATIENCE)
    assert answer.status_code == 415
    cross = {"Origin": "http://evil.example"}
    assert httpx.post(f"{shared.url}/ui/login", json={"token": shared.token}, headers=cross, verify=False, timeout=PATIENCE).status_code == 403


@pytest.mark.parametrize("chunked", [False, True])
def test_a_stranger_cannot_send_more_than_a_login_needs(shared: Daemon, chunked: bool):
    """What he sends is kept and read before he is known, and he may send it over many connections."""
    body = json.dumps({"token": "x" * 20_000}).encode()
    asked = {"content": iter([body]) if chunked else body, "headers": {"Content-Type": "application/json"}}
    answer = httpx.post(f"{shared.url}/ui/login", verify=False, timeout=PATIENCE, **asked)
    assert (answer.status_code, "without a token" in answer.json()["detail"]) == (413, True)


def test_what_strangers_send_without_end_pushes_nothing_out_of_the_audit_log(daemon: Daemon):
    with httpx.Client(base_url=daemon.url, timeout=PATIENCE, verify=False) as stranger:
        for _ in range(30):
            assert stranger.post("/ui/logout").status_code == 204
            assert stranger.post("/ui/login", json={"token": 1}).status_code == 400
            assert stranger.post("/ui/login", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    found = [(line["route"], line["status"]) for line in daemon.http.get("/v1/audit?limit=1000").json() if line["token"] is None]
    assert sorted(found) == [("/ui/login", 400), ("/ui/login", 415), ("/ui/logout", 204)]


@pytest.mark.parametrize("secret", ["", "x", "x" * 64, "é\udc80".encode("utf-8", "surrogatepass").decode("utf-8", "replace")])
def test_a_wrong_token_logs_nobody_in_and_stands_in_the_audit_log(shared: Daemon, browsers: Callable[[Daemon], Browser], secret: str):
    answer = browsers(shared).login(secret)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert "set-cookie" not in answer.headers
    lines = shared.http.get("/v1/audit?limit=1000").json()
    failed = [line for line in lines if line.get("route") == "/ui/login" and line["status"] == 401]
    assert failed and {(line["token"], line["from"], line["method"]) for line in failed} == {(None, "127.0.0.1", "POST")}
    assert not any(secret and len(secret) > 5 and secret in json.dumps(line) for line in lines)


def test_a_login_and_a_logout_stand_in_the_audit_log(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    name, secret = token(shared, "read")
    browser = browsers(shared)
    browser.login(secret)
    browser.post("/ui/logout")
    lines = [line for line in shared.http.get("/v1/audit?limit=1000").json() if line["token"] == name]
    assert [(line["route"], line["status"]) for line in lines] == [("/ui/login", 200), ("/ui/logout", 204)]


def test_a_look_whether_somebody_is_logged_in_is_no_refusal_to_be_noted(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    assert browsers(shared).status("/ui/session") == 401
    assert not [line for line in shared.http.get("/v1/audit?limit=1000").json() if line.get("route") == "/ui/session"]


def test_many_wrong_logins_are_slowed_down_and_hinder_nobody_who_has_a_token(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    found: set[int] = set()
    enough = threading.Event()

    def guess() -> None:
        with httpx.Client(base_url=shared.url, timeout=PATIENCE, verify=False) as client:
            while not enough.is_set():
                status = client.post("/ui/login", json={"token": "wrong"}).status_code
                found.add(status)
                if status == 429:
                    return

    threads = [threading.Thread(target=guess) for _ in range(40)]
    for each in threads:
        each.start()
    try:
        wait_for(lambda: len(found) > 1, "some are refused at once")
        assert browsers(shared).login(shared.token).status_code == 200
    finally:
        enough.set()
        for each in threads:
            each.join()
    assert found == {401, 429}


# -- requests that other sites make


CHANGE = "/v1/node/undrain"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "{url}"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Referer": "{url}/ui/"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "{url}", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "{url}", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "{url}.evil.example"}, 403),
        ({"Origin": "http://evil.example://{host}"}, 403),
    ],
)
def test_a_change_by_cookie_must_come_from_our_own_page(shared: Daemon, browser: Browser, headers: dict[str, str], expected: int):
    host = shared.url.removeprefix("http://")
    filled = {name: value.format(url=shared.url, host=host, port=host.rpartition(":")[2]) for name, value in headers.items()}
    for call in (lambda: browser.http.post(CHANGE, headers=filled), lambda: browser.post("/ui/logout", headers=filled)):
        answer = call()
        assert answer.status_code == (204 if expected == 200 and answer.request.url.path == "/ui/logout" else expected)
    assert browser.status() == (401 if expected == 200 else 200)  # it is logged out, or not


def test_every_change_by_cookie_is_refused_without_an_origin(shared: Daemon, browser: Browser):
    from task_runner.api import v1

    for door in v1.routes:
        for method in sorted((door.methods or set()) - {"GET", "HEAD"}):
            if door.path == "/ui/login":
                continue
            path = door.path.replace("{", "").replace("}", "").replace(":path", "")
            assert browser.http.request(method, path).status_code == 403, f"{method} {path}"
    assert browser.status() == 200


def test_a_form_with_our_origin_changes_nothing(shared: Daemon, browser: Browser):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = {**browser.own, "Content-Type": kind}
        answer = browser.http.post("/v1/tasks", content=b'{"command": ["true"]}', headers=headers)
        assert answer.status_code == 415


def test_a_page_of_another_site_reads_nothing(shared: Daemon, browser: Browser):
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}):
        assert browser.http.get("/v1/tasks", headers=headers).status_code == 403
        assert browser.http.get("/ui/session", headers=headers).status_code == 403
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = browser.http.options("/v1/tasks", headers=preflight)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- the end


def test_a_logout_ends_the_session_and_no_other(shared: Daemon, browser: Browser, browsers: Callable[[Daemon], Browser]):
    other = browsers(shared)
    other.login(shared.token)
    kept = browser.cookie
    answer = browser.post("/ui/logout")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert not dict(browser.http.cookies)  # the browser has forgotten it
    assert httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": kept}, verify=False, timeout=PATIENCE).status_code == 401
    assert other.status() == 200
    assert browser.post("/ui/logout").status_code == 204  # nobody was logged in


def test_a_new_login_ends_the_one_before(shared: Daemon, browser: Browser):
    before = browser.cookie
    assert browser.login(shared.token).status_code == 200
    assert browser.cookie != before
    assert httpx.get(f"{shared.url}/v1/tasks", headers={"Cookie": before}, verify=False, timeout=PATIENCE).status_code == 401
    assert browser.status() == 200


def until_it_ends(browser: Browser, act: Callable[[], Any]) -> bool:
    """Follow the events of the daemon until the stream ends by itself, once ``act`` has been done; whether one began."""
    with browser.http.stream("GET", "/v1/events") as response:
        if response.status_code != 200:
            return False
        parts = response.iter_raw()
        next(parts)
        act()
        with pytest.raises((StopIteration, httpx.RemoteProtocolError)):
            while True:  # the client's own patience is longer than that of the test
                next(parts)
    return True


def test_a_stream_ends_with_a_logout(shared: Daemon, browser: Browser):
    headers = {**browser.own, "Cookie": browser.cookie}
    url = f"{shared.url}/ui/logout"
    assert until_it_ends(browser, lambda: httpx.post(url, headers=headers, verify=False, timeout=PATIENCE))


def test_a_session_and_its_streams_end_when_the_token_is_revoked(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    name, secret = token(shared, "read")
    browser = browsers(shared)
    browser.login(secret)
    assert until_it_ends(browser, lambda: shared.http.delete(f"/v1/tokens/{name}"))
    assert (browser.status(), browser.status("/ui/session")) == (401, 401)
    wait_for(lambda: not any(row for row in sessions(shared) if row[0] in digests(browser)), "its row has gone")


def digests(browser: Browser) -> set[str]:
    import hashlib

    return {hashlib.sha256(value.encode()).hexdigest() for value in dict(browser.http.cookies).values()}


def test_a_session_ends_when_its_token_expires(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    for seconds in (2, 8, 32):  # more where this machine is so slow that it expires before its stream begins
        _name, secret = token(shared, "read", expiresInSeconds=seconds)
        browser = browsers(shared)
        if browser.login(secret).status_code == 200 and until_it_ends(browser, lambda: None):
            break
    else:
        pytest.fail("it had expired before its stream began")
    assert browser.status() == 401
    assert "expired" in browser.login(secret).json()["detail"]


def test_a_session_ends_some_time_after_its_last_use(make_daemon: Callable[..., Daemon], browsers: Callable[[Daemon], Browser]):
    daemon = make_daemon(web_session_hours=2 / 3600).start()
    used, left = browsers(daemon), browsers(daemon)
    ends: list[str] = []
    asked = time.monotonic()
    used.login(daemon.token), left.login(daemon.token)

    def left_is_over() -> bool:
        nonlocal asked
        is_over = len(sessions(daemon)) == 1
        before, asked = asked, time.monotonic()
        answer = used.http.get("/ui/session")
        if answer.status_code == 401:  # a use moves the end where half of the time is over: one second may be left
            assert time.monotonic() - before >= 1, "it has ended although it was used"
            assert used.login(daemon.token).status_code == 200  # this machine was too slow to use it in time
            return False
        ends.append(answer.json()["expiresAt"])
        time.sleep(0.2)  # so that it is used often, and not all the time
        return is_over

    wait_for(left_is_over, "the one that is not used has ended")
    assert left.status() == 401
    # not each use moves the end: that would be a write for each request
    assert 1 < len(set(ends)) < len(ends)
    wait_for(lambda: not sessions(daemon), "and the other one, too")
    assert used.status() == 401


def test_a_token_has_so_many_sessions_at_most(shared: Daemon, browsers: Callable[[Daemon], Browser]):
    from task_runner.service.sessions import MOST_OF_A_TOKEN

    _name, secret = token(shared, "read")
    first, second = browsers(shared), browsers(shared)
    first.login(secret), second.login(secret)
    with httpx.Client(base_url=shared.url, timeout=PATIENCE, verify=False) as client:
        for _ in range(MOST_OF_A_TOKEN - 1):
            client.cookies.clear()
            assert client.post("/ui/login", json={"token": secret}).status_code == 200
    assert (first.status(), second.status()) == (401, 200)


# -- the daemon's end


def test_sessions_outlive_a_daemon_that_is_killed_and_only_their_digests_are_kept(
    daemon: Daemon, browsers: Callable[[Daemon], Browser]
):
    name, secret = token(daemon, "read")
    made = {who: browsers(daemon) for who in ("admin", "reader", "out", "revoked")}
    revoked, revoked_secret = token(daemon, "read")
    for who, given in (("admin", daemon.token), ("reader", secret), ("out", secret), ("revoked", revoked_secret)):
        assert made[who].login(given).status_code == 200
    assert made["out"].post("/ui/logout").status_code == 204
    daemon.http.delete(f"/v1/tokens/{revoked}")
    rows = json.dumps(sessions(daemon))
    assert not any(value in rows for each in made.values() for value in dict(each.http.cookies).values())
    daemon.restart()
    assert {who: each.status() for who, each in made.items()} == {"admin": 200, "reader": 200, "out": 401, "revoked": 401}
    assert made["reader"].http.get("/ui/session").json()["name"] == name
    # one of the same name is another token
    daemon.http.delete(f"/v1/tokens/{name}")
    daemon.post("/v1/tokens", {"name": name, "scopes": ["admin"]})
    daemon.restart()
    assert made["reader"].status() == 401
    # the sessions of a token that was made anew go with the old one
    (daemon.state_dir / "token").unlink()
    daemon.restart()
    assert made["admin"].status() == 401


def test_a_damaged_row_opens_nothing_and_hinders_nobody(daemon: Daemon, browsers: Callable[[Daemon], Browser]):
    good, bad = browsers(daemon), browsers(daemon)
    good.login(daemon.token), bad.login(daemon.token)
    daemon.kill()
    with sqlite3.connect(daemon.state.database) as db:
        [digest] = digests(bad)
        assert db.execute("UPDATE sessions SET expires_at = 'x', token = 'zz' WHERE digest = ?", (digest,)).rowcount == 1
        db.execute("INSERT INTO sessions VALUES ('d', 'e', 'f', 'g')")
    daemon.restart()
    assert (good.status(), bad.status()) == (200, 401)


def test_two_daemons_on_one_machine_do_not_log_each_other_out(make_daemon: Callable[..., Daemon], shared: Daemon, tmp_path: Any):
    other = make_daemon(tmp_path / "other").start()
    cookies = []
    for daemon in (shared, other):  # as a browser keeps them: for the host, whatever the port
        answer = httpx.post(f"{daemon.url}/ui/login", json={"token": daemon.token}, verify=False, timeout=PATIENCE)
        cookies.append(answer.headers["set-cookie"].partition(";")[0])
    assert len({each.partition("=")[0] for each in cookies}) == 2
    for daemon in (shared, other):
        answer = httpx.get(f"{daemon.url}/v1/tasks", headers={"Cookie": "; ".join(cookies)}, verify=False, timeout=PATIENCE)
        assert answer.status_code == 200


def test_no_login_is_needed_where_no_token_is_asked_for(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(auth="none")
    daemon.start(wait=False)

    def session() -> Any:
        try:
            return httpx.get(f"{daemon.url}/ui/session", verify=False, timeout=2).json()
        except httpx.HTTPError:
            return None

    shown = wait_for(session, "it answers")
    assert (shown["free"], shown["scopes"]) == (True, ["admin"])
    answer = httpx.post(f"{daemon.url}/ui/login", json={"token": "x"}, verify=False, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["free"]) == (200, True)
    assert "set-cookie" not in answer.headers
    assert httpx.get(f"{daemon.url}/v1/tasks", verify=False, timeout=PATIENCE).status_code == 200
    output = httpx.get(f"{daemon.url}/v1/node", headers={"Sec-Fetch-Dest": "document"}, verify=False, timeout=PATIENCE)
    assert "sandbox" in output.headers["content-security-policy"]
