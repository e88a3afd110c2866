"""The machine that downloads: what arrives is what was wanted, whole, or it is not there."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from machinery import Answer, Bench, Handler, Site

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LONG_AGO = {"last_modified": "Mon, 01 Jan 2024 00:00:00 GMT", "date": "Mon, 01 Jan 2025 00:00:00 GMT"}


def whole(content: bytes = CONTENT, **headers: object) -> Answer:
    return lambda request: request.reply(200, content, **headers)


def cut(length: int, content: bytes = CONTENT, **headers: object) -> Answer:
    """Announces all, and closes the connection in the middle."""

    def answer(request: Handler) -> None:
        request.head(200, content_length=len(content), **headers)
        request.wfile.write(content[:length])

    return answer


def rest(content: bytes = CONTENT, **headers: object) -> Answer:
    """What a Range asks for."""

    def answer(request: Handler) -> None:
        start = request.start_of_range()
        assert start is not None
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.reply(206, content[start:], content_range=span, **headers)

    return answer


def moved(status: int, to: str) -> Answer:
    return lambda request: request.reply(status, b"gone", location=to)


def chunked(*chunks: bytes, end: bool = True) -> Answer:
    def answer(request: Handler) -> None:
        request.head(200, transfer_encoding="chunked")
        for chunk in chunks:
            request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if end:
            request.wfile.write(b"0\r\n\r\n")

    return answer


def failed(bench: Bench, url: str, *said: str, **parameters: Any) -> None:
    """It fails with these words in one line, and leaves nothing."""
    context = parameters.pop("context", {})
    ended = bench.run("download", {"url": url, "path": "got", "resumes": 0, **parameters}, **context)
    assert ended.code == 1, ended
    for words in said:
        assert words in ended.output
    assert ended.output.startswith("download: ")
    assert ended.output.count("\n") == 1
    assert bench.files() == set()


# -- the whole file


def test_a_file_is_fetched_checked_and_named_after_its_url(bench: Bench, site: Site):
    url = site.on("/a/b%20c.bin", whole())
    ended = bench.run("download", {"url": url + "?x=1#y", "sha256": SHA256.upper()})
    assert ended.code == 0
    assert ended.output == f"b c.bin: {len(CONTENT)} bytes, sha256 {SHA256}\n"
    assert (bench.work / "b c.bin").read_bytes() == CONTENT
    assert bench.files() == {"b c.bin"}
    assert ended.progress[-1].startswith("100.0 ")
    assert "500.0 KiB" in ended.progress[-1]


def test_directories_on_the_way_are_made_and_an_older_file_gives_way(bench: Bench, site: Site):
    url = site.on("/f", whole(b"new"))
    (bench.work / "a/b").mkdir(parents=True)
    old = bench.work / "a/b/f"
    old.write_text("older, and longer")
    os.link(old, bench.away / "second name")
    for path in ("a/b/f", "./c//d/f"):
        assert bench.run("download", {"url": url, "path": path}).code == 0
    assert old.read_bytes() == (bench.work / "c/d/f").read_bytes() == b"new"
    assert old.stat().st_mode & 0o777 == 0o644
    assert (bench.away / "second name").read_text() == "older, and longer"


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_a_length_need_not_be_announced(bench: Bench, site: Site, content: bytes):
    url = site.on("/f", chunked(*filter(None, [content[:7], content[7:]])))
    assert bench.run("download", {"url": url, "sha256": hashlib.sha256(content).hexdigest()}).code == 0
    assert (bench.work / "f").read_bytes() == content


def test_a_connection_that_the_server_keeps_open_is_not_waited_for(bench: Bench, site: Site):
    done = threading.Event()

    def answer(request: Handler) -> None:
        request.reply(200, CONTENT)
        request.wfile.flush()
        done.wait()

    try:
        assert bench.run("download", {"url": site.on("/f", answer)}).code == 0
    finally:
        done.set()
    assert (bench.work / "f").read_bytes() == CONTENT


def test_headers_are_sent_and_stand_before_our_own(bench: Bench, site: Site):
    url = site.on("/f", whole())
    headers = {"X-One": "1", "accept": "text/plain"}
    assert bench.run("download", {"url": url, "headers": headers}).code == 0
    sent = site.requests[0].headers
    assert (sent["X-One"], sent.get_all("Accept"), sent["Accept-Encoding"]) == ("1", ["text/plain"], "identity")


def test_a_secret_is_sent_as_a_bearer_token_and_credentials_of_the_url_as_basic(bench: Bench, site: Site):
    url = site.on("/f", whole())
    assert bench.run("download", {"url": url, "bearerSecret": "s"}, secrets={"s": "geheim"}).code == 0
    assert bench.run("download", {"url": url.replace("//", "//me:p%40ss@")}).code == 0
    sent = [each.headers["Authorization"] for each in site.requests]
    assert sent == ["Bearer geheim", "Basic bWU6cEBzcw=="]


# -- what is not wanted


def test_another_content_than_wanted_leaves_the_older_file(bench: Bench, site: Site):
    url = site.on("/f", whole())
    (bench.work / "f").write_text("older")
    ended = bench.run("download", {"url": url, "sha256": "0" * 64})
    assert ended.code == 1
    assert SHA256 in ended.output
    assert "0" * 64 in ended.output
    assert (bench.work / "f").read_text() == "older"
    assert bench.files() == {"f"}


def test_a_size_that_is_announced_is_refused_before_it_is_sent(bench: Bench, site: Site):
    gone = threading.Event()

    def answer(request: Handler) -> None:
        request.head(200, content_length=10**12)
        request.connection.settimeout(60)
        assert request.rfile.read(1) == b""  # the client closes, without a byte of the content
        gone.set()

    failed(bench, site.on("/f", answer), "1000000000000 bytes", "1000 are allowed (maxBytes)", maxBytes=1000)
    assert gone.wait(60)


def test_a_size_that_is_not_announced_is_counted_while_it_streams(bench: Bench, site: Site):
    def endless(request: Handler) -> None:
        request.head(200, transfer_encoding="chunked")
        while True:
            request.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    failed(bench, site.on("/f", endless), "more than the 1000000 bytes", maxBytes=1_000_000)


def test_just_the_size_that_is_allowed_is_taken(bench: Bench, site: Site):
    for answer in (whole(), chunked(CONTENT)):
        url = site.on("/f", answer)
        assert bench.run("download", {"url": url, "maxBytes": len(CONTENT)}).code == 0
        failed_at = bench.run("download", {"url": url, "path": "g", "maxBytes": len(CONTENT) - 1})
        assert failed_at.code == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 503])
def test_a_refusal_is_told_without_what_may_be_secret(bench: Bench, site: Site, status: int):
    url = site.on("/f", lambda request: request.reply(status, b"long page"))
    ended = bench.run("download", {"url": url.replace("//", "//user:geheim@") + "?token=geheim", "resumes": 5})
    assert ended.code == 1
    assert f"{url}?…: {status} " in ended.output
    assert "geheim" not in ended.output
    assert "long page" not in ended.output
    assert len(site.requests) == 1  # an answer is an answer: `retry` is for asking again


def test_a_host_that_cannot_be_reached(bench: Bench):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        failed(bench, f"http://127.0.0.1:{deaf.getsockname()[1]}/f", "cannot be reached", resumes=5)
    failed(bench, "http://" + "a" * 70 + ".invalid/f", "cannot be asked for")


def test_what_is_not_http(bench: Bench, site: Site):
    failed(bench, site.on("/f", lambda request: request.wfile.write(b"SSH-2.0-x\r\n\r\n")), "not HTTP")
    failed(bench, site.on("/g", lambda request: None), "closed without an answer")


def test_a_server_that_stalls(bench: Bench, site: Site):
    done = threading.Event()

    def answer(request: Handler) -> None:
        request.head(200, content_length=10)
        request.wfile.write(b"abc")
        done.wait()

    def silent(_request: Handler) -> None:
        done.wait()

    def said() -> str:
        ended = bench.run("download", {"url": url, "timeoutSeconds": 0.2, "resumes": 0})
        assert (ended.code, bench.files()) == (1, set())
        assert "no byte came for 0.2 seconds" in ended.output
        return ended.output

    url = site.on("/f", answer)
    try:
        # on a busy machine the head and the first bytes may be late as well
        wait_for(lambda: "after 3 bytes" in said(), "it has stalled after the first bytes")
        failed(bench, site.on("/g", silent), "no byte came for 0.2 seconds", timeoutSeconds=0.2)
    finally:
        done.set()


def test_a_value_that_no_header_can_hold_is_not_shown(bench: Bench, site: Site):
    url = site.on("/f", whole())
    for value in ("geheim\nX-Evil: 1", "geheim €"):
        ended = bench.run("download", {"url": url, "bearerSecret": "s"}, secrets={"s": value})
        assert ended.code == 1
        assert "the header Authorization" in ended.output
        assert "geheim" not in ended.output
    assert site.requests == []
    failed(bench, url, "'s' was not given", bearerSecret="s")


# -- taken up again


@pytest.mark.parametrize("mark", [{"etag": '"v1"'}, LONG_AGO], ids=["ETag", "Last-Modified"])
def test_a_broken_transfer_is_taken_up_where_it_broke(bench: Bench, site: Site, mark: dict[str, object]):
    url = site.on("/f", cut(100_000, **mark), lambda request: rest(**mark)(request))
    ended = bench.run("download", {"url": url, "sha256": SHA256})
    assert ended.code == 0, ended
    assert (bench.work / "f").read_bytes() == CONTENT
    assert len(site.requests) == 2
    sent = site.requests[1].headers
    assert sent["Range"] == "bytes=100000-"
    assert sent["If-Range"] == (mark.get("etag") or mark["last_modified"])
    assert "after 100000 bytes" in ended.output


def test_it_breaks_again_and_again(bench: Bench, site: Site):
    def piecewise(request: Handler) -> None:
        start = request.start_of_range() or 0
        headers = {"etag": '"v"', "content_length": len(CONTENT) - start}
        if start:
            request.head(206, content_range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", **headers)
        else:
            request.head(200, **headers)
        request.wfile.write(CONTENT[start : start + 200_000])

    url = site.on("/f", piecewise)
    assert bench.run("download", {"url": url, "resumes": 2, "sha256": SHA256}).code == 0
    assert [each.headers["Range"] for each in site.requests] == [None, "bytes=200000-", "bytes=400000-"]
    site.requests.clear()
    (bench.work / "f").unlink()
    ended = bench.run("download", {"url": url, "resumes": 1})
    assert ended.code == 1
    assert "closed before the end" in ended.output
    assert len(site.requests) == 2
    assert bench.files() == set()


def test_a_connection_that_is_reset_is_taken_up_again(bench: Bench, site: Site):
    def reset(request: Handler) -> None:
        cut(1000, etag='"v"')(request)
        request.wfile.flush()
        linger = b"\1\0\0\0\0\0\0\0"
        request.connection.setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER: close sends RST
        request.connection.close()

    url = site.on("/f", reset, lambda request: (rest() if request.start_of_range() else whole())(request))
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0


def test_a_server_that_fails_meanwhile_is_asked_again(bench: Bench, site: Site):
    url = site.on("/f", cut(1000, etag='"v"'), lambda request: request.reply(503), rest())
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0


NEW = b"a new version" * 50_000
OTHER = {
    "no mark": (cut(1000), whole(NEW), False),
    "a weak mark": (cut(1000, etag='W/"1"'), whole(NEW), False),
    "a mark too young": (cut(1000, **{**LONG_AGO, "date": LONG_AGO["last_modified"]}), whole(NEW), False),
    "no ranges": (cut(1000, etag='"1"'), whole(NEW, etag='"2"'), True),
    "another version in the range": (cut(1000, etag='"1"'), rest(NEW, etag='"2"'), True),
    "another range": (cut(1000, etag='"1"'), lambda r: r.reply(206, NEW[5:], content_range=f"bytes 5-{len(NEW) - 1}/{len(NEW)}"), True),
    "no word on the range": (cut(1000, etag='"1"'), lambda r: r.reply(206, NEW[1000:]), True),
    "no such range": (cut(1000, etag='"1"'), lambda r: r.reply(416), True),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER)
def test_what_may_be_another_version_begins_anew(bench: Bench, site: Site, case: str):
    first, second, ranged = OTHER[case]
    url = site.on("/f", first, second, whole(NEW))
    ended = bench.run("download", {"url": url, "sha256": hashlib.sha256(NEW).hexdigest()})
    assert ended.code == 0, ended
    assert (bench.work / "f").read_bytes() == NEW
    assert ("Range" in site.requests[1].headers) is ranged
    for later in site.requests[2:]:
        assert "Range" not in later.headers


def test_a_range_that_nobody_asked_for(bench: Bench, site: Site):
    failed(bench, site.on("/f", lambda r: r.reply(206, b"x", content_range="bytes 0-0/1")), "another part")


def test_chunks_that_break_off(bench: Bench, site: Site):
    url = site.on("/f", chunked(CONTENT[:1000], end=False), whole())
    failed(bench, site.on("/g", chunked(b"abc", end=False)), "closed before the end")
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0


def test_a_new_version_that_is_too_large(bench: Bench, site: Site):
    url = site.on("/f", cut(1000, content=CONTENT[:2000], etag='"1"'), whole(NEW, etag='"2"'))

    ended = bench.run("download", {"url": url, "maxBytes": 2000, "resumes": 1})
    assert ended.code == 1
    assert f"has {len(NEW)} bytes" in ended.output


# -- to another place


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_followed(bench: Bench, site: Site, status: int):
    site.on("/c d", whole(b"x"))
    site.on("/c%20d", whole())
    url = site.on("/a", moved(status, "b/../c d"))
    assert bench.run("download", {"url": url, "path": "f", "sha256": SHA256}).code == 0


def test_ten_redirections_and_no_more(bench: Bench, site: Site):
    for number in range(11):
        site.on(f"/{number}", moved(302, f"/{number + 1}"))
    site.on("/11", whole())
    assert bench.run("download", {"url": site.url("/1"), "path": "f"}).code == 0
    (bench.work / "f").unlink()
    failed(bench, site.url("/0"), "more than 10 redirections")
    failed(bench, site.on("/loop", moved(301, "/loop")), "more than 10 redirections")


@pytest.mark.parametrize("to", ["file:///etc/hostname", "FILE:/etc/hostname", "ftp://127.0.0.1/x", "gopher:x", "http://[/"])
def test_a_redirection_leads_to_http_alone(bench: Bench, site: Site, to: str):
    failed(bench, site.on("/f", moved(302, to)), "redirected", context={"host_files": ["/"]})


def test_what_comes_with_a_redirection_is_not_read(bench: Bench, site: Site):
    def endless(request: Handler) -> None:
        request.head(302, location="/there", transfer_encoding="chunked")
        while True:
            request.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    url = site.on("/f", endless)
    site.on("/there", whole())
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0


def test_another_host_is_not_told_the_credentials(bench: Bench, make_site: Callable[[], Site]):
    first, second = make_site(), make_site()
    second.on("/back", moved(302, first.on("/end", whole())))
    first.on("/same", moved(302, second.url("/back")))
    url = first.on("/f", moved(302, "/same"))
    headers = {"Private-Token": "geheim", "Cookie": "geheim", "Accept": "x/y"}
    parameters = {"url": url, "headers": headers, "bearerSecret": "s"}
    assert bench.run("download", parameters, secrets={"s": "geheim"}).code == 0
    here, same, end = (str(each.headers) for each in first.requests)
    (there,) = (str(each.headers) for each in second.requests)
    assert here.count("geheim") == same.count("geheim") == 3
    assert "geheim" not in there
    assert "geheim" not in end  # whoever sent us back may have chosen where
    assert "x/y" in there


def test_a_broken_transfer_is_taken_up_through_the_redirection(bench: Bench, make_site: Callable[[], Site]):
    first, second = make_site(), make_site()
    second.on("/g", cut(1000, etag='"1"'), rest(etag='"1"'))
    url = first.on("/f", moved(302, second.url("/g")))
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0
    assert second.requests[1].headers["Range"] == "bytes=1000-"


def test_a_proxy_of_the_environment_is_asked(bench: Bench, make_site: Callable[[], Site]):
    proxy, site = make_site(), make_site()
    proxy.answers["http://far.invalid/f"] = [whole(b"by proxy")]
    bench.env["http_proxy"] = proxy.url("")
    bench.env["no_proxy"] = "127.0.0.1"
    assert bench.run("download", {"url": "http://far.invalid/f"}).code == 0
    assert (bench.work / "f").read_bytes() == b"by proxy"
    assert bench.run("download", {"url": site.on("/g", whole(b"at once"))}).code == 0
    assert (bench.work / "g").read_bytes() == b"at once"
    assert len(proxy.requests) == 1


@pytest.mark.needs("openssl")
def test_https_needs_a_certificate_that_is_trusted(bench: Bench, site: Site, tmp_path: Path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3",
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate, key)
    site.socket = secure.wrap_socket(site.socket, server_side=True)
    site.scheme = "https"
    url = site.on("/f", cut(1000, etag='"1"'), rest())
    failed(bench, url, "certificate is not trusted")
    bench.env["SSL_CERT_FILE"] = str(certificate)
    assert bench.run("download", {"url": url, "sha256": SHA256}).code == 0
    assert len(site.requests) == 2



# -- files of this machine


def test_a_file_of_this_machine_from_an_allowed_directory(bench: Bench):
    source = bench.away / "a b"
    source.write_bytes(CONTENT)
    (bench.away / "inner").symlink_to("a b")
    for name in ("a%20b", "inner"):
        ended = bench.run(
            "download",
            {"url": f"file://{bench.away}/{name}", "path": "f", "sha256": SHA256, "maxBytes": len(CONTENT)},
            host_files=["/nowhere", str(bench.away)],
        )
        assert ended.code == 0, ended
        assert (bench.work / "f").read_bytes() == CONTENT


def test_other_files_of_this_machine_are_refused(bench: Bench, tmp_path: Path):
    (tmp_path / "secret").write_text("geheim")
    (tmp_path / "away-too").mkdir()
    (tmp_path / "away-too/f").write_text("geheim")
    (bench.away / "link").symlink_to("../secret")
    (bench.away / "way").symlink_to("..")
    (bench.away / "directory").mkdir()
    os.mkfifo(bench.away / "fifo")
    allowed = {"context": {"host_files": [str(bench.away)]}}
    at = f"file://{bench.away}"
    for url in (f"{at}/link", f"{at}/way/secret", f"{at}/../secret", f"{at}-too/f", f"{at}/%2e%2e/secret", at):
        failed(bench, url, "none of the directories", **allowed)
    for name in ("directory", "fifo"):
        failed(bench, f"{at}/{name}", "not a regular file", **allowed)
    failed(bench, f"{at}/missing", "no such file", **allowed)
    failed(bench, f"{at}/missing", "none of the directories")
    (bench.away / "large").write_bytes(bytes(1001))
    failed(bench, f"{at}/large", "has 1001 bytes", maxBytes=1000, **allowed)
    failed(bench, f"{at}/large", "sha256", sha256="0" * 64, **allowed)


# -- where it goes


def test_nothing_is_put_outside_of_the_working_directory(bench: Bench, site: Site):
    url = site.on("/f", whole())
    (bench.work / "out").symlink_to(bench.away)
    (bench.work / "up").symlink_to("../away")
    (bench.work / "loop").symlink_to("loop")
    (bench.work / "file").write_text("")
    for path, words in [
        ("out/x", "symbolic link out of"),
        ("up/x", "leads out of"),
        ("loop/x", "symbolic link"),
        ("file/x", "not a directory"),
        ("../away/x", '".."'),
        (str(bench.away / "x"), "absolute"),
    ]:
        ended = bench.run("download", {"url": url, "path": path})
        assert (ended.code, words in ended.output) == (1, True), ended
    assert list(bench.away.iterdir()) == []


def test_links_inside_are_followed_and_one_in_the_place_of_the_file_is_replaced(bench: Bench, site: Site):
    url = site.on("/f", whole())
    (bench.away / "victim").write_text("untouched")
    (bench.work / "d").mkdir()
    (bench.work / "d/in").symlink_to("../e/./f")
    (bench.work / "g").symlink_to(bench.away / "victim")
    assert bench.run("download", {"url": url, "path": "d/in/x"}).code == 0
    assert (bench.work / "e/f/x").read_bytes() == CONTENT
    assert bench.run("download", {"url": url, "path": "g"}).code == 0
    assert (bench.work / "g").read_bytes() == CONTENT
    assert (bench.away / "victim").read_text() == "untouched"
    ended = bench.run("download", {"url": url, "path": "d"})
    assert (ended.code, ended.output) == (1, "download: d is a directory\n")


def test_a_url_without_a_name_needs_a_path(bench: Bench, site: Site):
    for url in (site.url("/"), site.url("/a/"), site.url("/%2e%2e"), site.url("/a%2fb"), site.url("")):
        ended = bench.run("download", {"url": url})
        assert (ended.code, "name of a file" in ended.output) == (1, True)


# -- stopped


def test_one_that_is_stopped_leaves_nothing(bench: Bench, site: Site):
    done = threading.Event()

    def answer(request: Handler) -> None:
        request.head(200, content_length=1000)
        request.wfile.write(b"abc")
        done.wait()

    pid = bench.start("download", {"url": site.on("/f", answer)})
    try:
        part = bench.work / ".f.part"
        wait_for(lambda: part.exists() and part.stat().st_size == 3, "some bytes are there")
        os.kill(pid, signal.SIGTERM)
        assert bench.end().code == -signal.SIGTERM
        assert bench.files() == set()
    finally:
        done.set()


def test_what_a_killed_one_left_is_thrown_away(bench: Bench, site: Site):
    (bench.work / ".f.part").write_bytes(b"left" * len(CONTENT))
    assert bench.run("download", {"url": site.on("/f", whole()), "sha256": SHA256}).code == 0
    assert bench.files() == {"f"}


def test_a_name_as_long_as_names_may_be(bench: Bench, site: Site):
    url = site.on("/f", whole())
    for name in ("x" * 255, "é" * 127):
        assert bench.run("download", {"url": url, "path": name}).code == 0
        assert (bench.work / name).read_bytes() == CONTENT
    assert bench.run("download", {"url": url, "path": "x" * 256}).code == 1
