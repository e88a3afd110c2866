"""The web page as the daemon serves it: which file at which address, and with which headers."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon

from task_runner.api.web import assets
from task_runner.api.web.routes import prefers_html

FILES = sorted(assets.load())
LARGE, SMALL = "vendor/uPlot.esm.js", "icon.svg"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def get(daemon: Daemon, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """What a stranger is answered, without anything that a client adds by itself."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(timeout=PATIENCE, verify=False, headers={"Accept-Encoding": "identity"}) as client:
        return client.request(method, daemon.url + path, headers=given)


def raw(daemon: Daemon, path: bytes) -> tuple[int, bytes]:
    """The status and body for a path that a client library would clean up first."""
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


# -- addresses


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/tasks/0123?attempt=2&action=x", "/ui/batches", "/ui/batches/b1", "/ui/node", "/ui/login", "/ui/a/b/c"]
)
def test_every_page_is_the_same_file(shared: Daemon, path: str):
    response = get(shared, path)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.content == (assets.STATIC / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_it_is_and_with_its_type(shared: Daemon, name: str):
    response = get(shared, f"/ui/static/{name}")
    assert (response.status_code, response.content) == (200, (assets.STATIC / name).read_bytes())
    kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    if (ending := name.rpartition(".")[2]) in kinds:
        assert response.headers["content-type"] == kinds[ending]


def test_the_list_is_at_the_address_that_ends_with_a_slash(shared: Daemon):
    response = get(shared, "/ui")
    assert (response.status_code, response.headers["location"]) == (308, "/ui/")


def test_what_is_no_file_of_the_page_is_not_there(shared: Daemon):
    for path in ("nope.js", "", "vendor", "vendor/", "index.html/", "INDEX.HTML"):
        response = get(shared, f"/ui/static/{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json"), path


@pytest.mark.parametrize(
    "path",
    [
        b"../routes.py", b"../../../errors.py", b"%2e%2e/routes.py", b"..%2froutes.py", b"..%5croutes.py", b"/etc/passwd",
        b"%2fetc%2fpasswd", b"vendor/../../routes.py", b"vendor/../app.js", b"./app.js", b"vendor//htm-preact.js", b"app.js%00",
        b"app.js%0a", b"\xff",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_files(shared: Daemon, path: bytes):
    status, body = raw(shared, b"/ui/static/" + path)
    assert status in (400, 401, 404)  # 400: the server's parser takes no such byte; 401: it is not even a page's path
    assert b"import" not in body and b"root:" not in body


def test_nothing_is_changed_at_a_page(shared: Daemon):
    for path in ("/ui/", "/ui/tasks/x", "/ui/static/app.js", "/ui/session", "/ui"):
        for method in ("POST", "PUT", "DELETE"):
            assert get(shared, path, method).status_code == 405


# -- the root


def test_a_browser_at_the_root_is_led_to_the_page(shared: Daemon):
    response = get(shared, "/", Accept=BROWSER)
    assert (response.status_code, response.headers["location"], response.headers["vary"]) == (303, "/ui/", "Accept")
    assert get(shared, "/", "HEAD", Accept=BROWSER).status_code == 303


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html", "text/plain", ""])
def test_a_program_at_the_root_is_told_what_there_is(shared: Daemon, accept: str):
    answer = get(shared, "/", Accept=accept, Authorization=f"Bearer {shared.token}")
    assert (answer.status_code, answer.json()["name"]) == (200, "task_runner")
    assert get(shared, "/", Accept=accept).status_code == 401


def test_who_prefers_html():
    assert prefers_html(BROWSER) and prefers_html("TEXT/HTML") and prefers_html("text/html;q=0.9, application/json")
    assert not any(map(prefers_html, ("", "*/*", "text/*", "application/json,text/html", "text/htmlx")))


# -- headers


@pytest.mark.parametrize("path", ["/ui/", "/ui/tasks/x", f"/ui/static/{LARGE}", f"/ui/static/{SMALL}"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_headers_of_the_page(shared: Daemon, path: str, method: str):
    headers = get(shared, path, method).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in headers


def test_head_of_a_file_has_its_headers_and_no_body(shared: Daemon):
    path = f"/ui/static/{LARGE}"
    head, whole = get(shared, path, "HEAD"), get(shared, path)
    assert head.content == b""
    assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


def test_a_large_file_is_packed_for_who_takes_that(shared: Daemon):
    path = f"/ui/static/{LARGE}"
    plain = get(shared, path)
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "br, gzip", "gzip;q=0.5", "GZIP"):
        packed = get(shared, path, Accept_Encoding=accepted)
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", plain.content)
        assert int(packed.headers["content-length"]) < len(plain.content) / 2
        assert (packed.headers["vary"], plain.headers["vary"]) == ("Accept-Encoding", "Accept-Encoding")
        assert packed.headers["etag"] != plain.headers["etag"]
    for refused in ("br", "gzip;q=0", "gzip;q=0.0", "x-gzip2"):
        assert "content-encoding" not in get(shared, path, Accept_Encoding=refused).headers
    assert "content-encoding" not in get(shared, f"/ui/static/{SMALL}", Accept_Encoding="gzip").headers


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("path", ["/ui/", f"/ui/static/{LARGE}"])
def test_what_the_browser_has_already_is_not_sent_again(shared: Daemon, path: str, coding: str):
    etag = get(shared, path, Accept_Encoding=coding).headers["etag"]
    assert etag.startswith('"')  # a strong one
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        again = get(shared, path, Accept_Encoding=coding, If_None_Match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"] == "no-cache"
    assert get(shared, path, Accept_Encoding=coding, If_None_Match='"x"').status_code == 200


def test_a_file_changes_its_etag_with_its_content(tmp_path: Any):
    def etag(text: str) -> str:
        (tmp_path / "a.js").write_text(text)
        return assets.load(tmp_path)["a.js"].etag

    assert etag("1") == etag("1") != etag("2")


def test_only_known_kinds_of_files_are_served_and_what_is_packed_is_the_file(tmp_path: Any):
    for name in ("a.js", "b.py", ".hidden", "c.js.map", "d"):
        (tmp_path / name).write_text("x" * 5000)
    found = assets.load(tmp_path)
    assert list(found) == ["a.js"]
    packed = found["a.js"].packed
    assert packed is not None
    assert gzip.decompress(packed) == found["a.js"].body == b"x" * 5000


# -- other sites


def test_a_link_from_another_site_opens_a_page_and_nothing_else(shared: Daemon):
    for path in ("/ui/", "/ui/tasks/x", "/ui"):
        assert get(shared, path, **LINK).status_code in (200, 308)
    assert get(shared, "/", Accept=BROWSER, **LINK).status_code == 303
    token = {"Authorization": f"Bearer {shared.token}"}
    for path in ("/v1/tasks", "/metrics", "/ui/static/app.js", "/ui/session"):
        assert get(shared, path, **LINK, **token).status_code == 403, path
    assert get(shared, "/ui/", "POST", **LINK).status_code == 403
    assert get(shared, "/ui/", **{**LINK, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert get(shared, "/ui/", **{**LINK, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert get(shared, "/ui/", Origin="http://evil.example", **LINK).status_code == 403
    assert get(shared, "/ui/", Host="evil.example").status_code == 421


# -- without it


def test_the_page_can_be_turned_off(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(web_ui=False).start()
    for path in ("/ui", "/ui/", "/ui/tasks/x", "/ui/static/app.js", "/ui/session"):
        assert get(daemon, path).status_code == 404, path
    for path in ("/ui/login", "/ui/logout"):
        assert daemon.post(path, {"token": daemon.token}).status_code == 404
    assert get(daemon, "/", Accept=BROWSER).status_code == 401
    answer = daemon.http.get("/", headers={"Accept": BROWSER})
    assert json.loads(answer.content)["name"] == "task_runner"
