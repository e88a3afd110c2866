"""Files that are put into the working directory before the first action."""

from __future__ import annotations

import base64
import os
import stat
import threading
from typing import Any

import pytest
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
