"""Files that are put into the working directory before the first action."""

from __future__ import annotations

import base64
import os
import select
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from machinery import Bench, Ended, Handler, Site

ROOT_ONLY = pytest.mark.needs("root")


def place(bench: Bench, *files: dict[str, Any], **context: Any) -> Ended:
    return bench.run("files", list(files), **context)


def refused(bench: Bench, file: dict[str, Any], *said: str, **context: Any) -> None:
    ended = place(bench, {"path": "f", **file}, **context)
    assert ended.code == 1, ended
    for words in said:
        assert words in ended.output
    assert ended.output.startswith("files: ")
    assert ended.output.count("\n") == 1
    assert not (bench.work / "f").exists()
    assert not (bench.work / ".f.part").exists()


def test_each_source(bench: Bench, site: Site):
    (bench.away / "here").write_bytes(b"\0of this machine")
    url = site.on("/f", lambda request: request.reply(200, b"fetched"))
    ended = place(
        bench,
        {"path": "text", "text": "grüße\n"},
        {"path": "empty", "text": ""},
        {"path": "a/./b//bytes", "base64": base64.encodebytes(bytes(range(256))).decode()},
        {"path": "a/here", "hostPath": str(bench.away / "here")},
        {"path": "fetched", "fetch": {"url": url}},
        host_files=[str(bench.away)],
    )
    assert (ended.code, ended.output) == (0, "")
    assert (bench.work / "text").read_text() == "grüße\n"
    assert (bench.work / "empty").read_bytes() == b""
    assert (bench.work / "a/b/bytes").read_bytes() == bytes(range(256))
    assert (bench.work / "a/here").read_bytes() == b"\0of this machine"
    assert (bench.work / "fetched").read_bytes() == b"fetched"


def test_modes(bench: Bench):
    place(bench, {"path": "d/run", "text": "", "mode": "0755"}, {"path": "own", "text": "", "mode": "600"}, {"path": "f", "text": ""})
    modes = [stat.S_IMODE((bench.work / name).stat().st_mode) for name in ("d", "d/run", "own", "f")]
    assert modes == [0o755, 0o755, 0o600, 0o644]


@ROOT_ONLY
def test_owners(bench: Bench):
    ended = place(
        bench,
        {"path": "a", "text": "", "owner": "4321"},
        {"path": "b", "text": "", "owner": "4321:1234", "mode": "0640"},
        {"path": "c", "text": "", "owner": "nobody:root"},
    )
    assert ended.code == 0, ended
    owners = [((bench.work / name).stat().st_uid, (bench.work / name).stat().st_gid) for name in "abc"]
    assert owners[:2] == [(4321, os.getegid()), (4321, 1234)]
    assert owners[2][0] not in (0, 4321)
    assert stat.S_IMODE((bench.work / "b").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give files away")
def test_only_root_gives_files_away(bench: Bench):
    refused(bench, {"text": "", "owner": "0"}, "owner 0", "only root")


def test_an_owner_who_is_not_known(bench: Bench):
    refused(bench, {"text": "", "owner": "no-such-user"}, "owner no-such-user", "name not found")
    refused(bench, {"text": "", "owner": "0:no-such-group"}, "no-such-group")
    refused(bench, {"text": "", "owner": "4294967295"}, "no such number")


def test_a_fetch_as_it_was_asked_for(bench: Bench, site: Site):
    url = site.on("/f", lambda request: request.reply(200, b"1"))
    secrets = {"pass": "geheim", "token": "auch"}
    fetches = [
        {"url": url, "method": "POST", "headers": {"X-One": "1"}},
        {"url": url, "username": "mé", "passwordSecret": "pass"},
        {"url": url, "username": "only"},
        {"url": url, "bearerSecret": "token"},
    ]
    files = [{"path": str(index), "fetch": fetch} for index, fetch in enumerate(fetches)]
    assert place(bench, *files, secrets=secrets).code == 0
    assert [each.command for each in site.requests] == ["POST", "GET", "GET", "GET"]
    assert site.requests[0].headers["X-One"] == "1"
    sent = [each.headers["Authorization"] for each in site.requests[1:]]
    assert sent == [
        "Basic " + base64.b64encode("mé:geheim".encode()).decode(),
        "Basic " + base64.b64encode(b"only:").decode(),
        "Bearer auch",
    ]


def test_a_fetch_with_a_body(bench: Bench, site: Site):
    bodies: list[bytes] = []

    def take(request: Handler) -> None:
        bodies.append(request.rfile.read(int(request.headers.get("Content-Length") or 0)))
        request.reply(200, b"1")

    url = site.on("/f", take)
    json_type = {"content-type": "application/json"}
    fetches = [{"url": url, "method": "PUT", "body": "grüße"}, {"url": url, "method": "POST", "body": "{}", "headers": json_type}]
    assert place(bench, *({"path": str(index), "fetch": each} for index, each in enumerate(fetches))).code == 0
    assert bodies == ["grüße".encode(), b"{}"]
    assert [each.headers["Content-Type"] for each in site.requests] == ["text/plain; charset=utf-8", "application/json"]


@pytest.mark.parametrize(("status", "methods", "sizes"), [(303, ["POST", "GET"], ["2", None]), (307, ["POST", "POST"], ["2", "2"])])
def test_a_body_goes_on_where_the_method_does(bench: Bench, site: Site, status: int, methods: list[str], sizes: list[str | None]):
    site.on("/g", lambda request: request.reply(200, b"1"))
    url = site.on("/f", lambda request: request.reply(status, location="/g"))
    assert place(bench, {"path": "f", "fetch": {"url": url, "method": "POST", "body": "{}"}}).code == 0
    assert [each.command for each in site.requests] == methods
    assert [each.headers["Content-Length"] for each in site.requests] == sizes


def test_statuses_that_hold_the_file(bench: Bench, site: Site):
    odd = site.on("/odd", lambda request: request.reply(418, b"tea"))
    url = site.on("/f", lambda request: request.reply(200, b"1"))
    assert place(bench, {"path": "f", "fetch": {"url": odd, "statuses": [200, 418]}}).code == 0
    assert (bench.work / "f").read_bytes() == b"tea"
    (bench.work / "f").unlink()
    refused(bench, {"fetch": {"url": url, "statuses": [201, 204]}}, "200 OK, which is none of the statuses that were asked for")
    moved = site.on("/moved", lambda request: request.reply(302, b"here", location="/f"))
    assert place(bench, {"path": "f", "fetch": {"url": moved, "statuses": [302]}}).code == 0
    assert (bench.work / "f").read_bytes() == b"here"


def test_headers_that_are_secrets(bench: Bench, site: Site):
    fetch = {"url": site.on("/f", lambda request: request.reply(200)), "headerSecrets": {"X-Api-Key": "key"}}
    assert place(bench, {"path": "f", "fetch": fetch}, secrets={"key": "geheim"}).code == 0
    assert site.requests[0].headers["X-Api-Key"] == "geheim"
    (bench.work / "f").unlink()
    refused(bench, {"fetch": fetch}, "'key' was not given")


def test_a_header_that_is_a_secret_is_not_for_another_host(bench: Bench, site: Site, make_site: Callable[[], Site]):
    other = make_site()
    target = other.on("/g", lambda request: request.reply(200))
    url = site.on("/f", lambda request: request.reply(307, location=target))
    place(bench, {"path": "f", "fetch": {"url": url, "headerSecrets": {"X-Api-Key": "key"}}}, secrets={"key": "geheim"})
    assert [each.headers["X-Api-Key"] for each in (*site.requests, *other.requests)] == ["geheim", None]


@pytest.mark.needs("openssl")
def test_a_certificate_that_nobody_trusts(bench: Bench, site: Site, tmp_path: Path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=else"]
    subprocess.run([*making, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate, key)
    site.socket = secure.wrap_socket(site.socket, server_side=True)
    site.scheme = "https"
    url = site.on("/f", lambda request: request.reply(200, b"1"))
    refused(bench, {"fetch": {"url": url}}, "certificate is not trusted")
    assert place(bench, {"path": "f", "fetch": {"url": url, "insecure": True, "connectSeconds": 30}}).code == 0


def test_connecting_has_a_time_of_its_own(bench: Bench, site: Site):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        held = [socket.socket() for _ in range(4)]
        try:
            for each in held:  # until nobody more is let in
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            assert select.select([full], [], [], PATIENCE)[0], "one is in: there is no room for another"
            fetch = {"url": f"http://127.0.0.1:{full.getsockname()[1]}/", "connectSeconds": 0.2, "timeoutSeconds": 600}
            refused(bench, {"fetch": fetch}, "there was no connection within 0.2 seconds")
        finally:
            for each in held:
                each.close()
    slow = threading.Event()
    url = site.on("/f", lambda request: (slow.wait(0.5), request.reply(200))[1])
    assert place(bench, {"path": "f", "fetch": {"url": url, "connectSeconds": 0.2, "timeoutSeconds": 600}}).code == 0


def test_a_fetch_that_fails(bench: Bench, site: Site):
    url = site.on("/f", lambda request: request.reply(403, b"geheim"))
    for method in ("GET", "POST"):
        refused(bench, {"fetch": {"url": url + "?key=geheim", "method": method}}, "f: ", f"{url}?…: 403 Forbidden")
    assert "geheim" not in place(bench, {"path": "f", "fetch": {"url": url + "?key=geheim"}}).output
    refused(bench, {"fetch": {"url": url, "bearerSecret": "s"}}, "'s' was not given")
    refused(bench, {"fetch": {"url": "file:///etc/hostname"}}, "begins with file:", host_files=["/"])
    assert len(site.requests) == 3


def test_a_fetch_that_stalls(bench: Bench, site: Site):
    done = threading.Event()

    def silent(_request: Handler) -> None:
        done.wait()

    try:
        refused(bench, {"fetch": {"url": site.on("/f", silent), "timeoutSeconds": 0.2}}, "no byte came for 0.2 seconds")
    finally:
        done.set()


def test_a_post_that_broke_off_is_not_sent_again(bench: Bench, site: Site):
    url = site.on("/f", lambda request: request.head(200, content_length=5, etag='"1"'))
    refused(bench, {"fetch": {"url": url, "method": "POST"}}, "closed before the end")
    assert len(site.requests) == 1


def test_other_files_of_this_machine_are_refused(bench: Bench):
    secret = bench.work.parent / "secret"
    secret.write_text("geheim")
    (bench.away / "link").symlink_to(secret)
    (bench.away / "d").mkdir()
    allowed = {"host_files": [str(bench.away)]}
    for path in (secret, bench.away / "link", bench.away / "../secret"):
        refused(bench, {"hostPath": str(path)}, "none of the directories", **allowed)
    refused(bench, {"hostPath": str(bench.away / "d")}, "not a regular file", **allowed)
    refused(bench, {"hostPath": str(bench.away / "missing")}, "no such file", **allowed)
    refused(bench, {"hostPath": str(secret)}, "none of the directories")
    refused(bench, {"hostPath": "/dev/zero"}, "not a regular file", host_files=["/dev"])


def test_nothing_is_put_outside_of_the_working_directory(bench: Bench):
    (bench.work / "out").symlink_to(bench.away)
    (bench.away / "victim").write_text("untouched")
    (bench.work / "l").symlink_to(bench.away / "victim")
    for path in ("out/x", "../away/x", str(bench.away / "x"), "out/victim"):
        assert place(bench, {"path": path, "text": "harm"}).code == 1
    assert place(bench, {"path": "l", "text": "mine"}).code == 0
    assert {each.name: each.read_text() for each in bench.away.iterdir()} == {"victim": "untouched"}
    assert (bench.work / "l").read_text() == "mine"


def test_the_first_that_fails_ends_it(bench: Bench):
    ended = place(bench, {"path": "a", "text": "1"}, {"path": "b", "base64": "?"}, {"path": "c", "text": "3"})
    assert ended.code == 1
    assert ended.output.startswith("files: b: is not base64")
    assert bench.files() == {"a"}
