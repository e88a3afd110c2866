"""A task's output: the same byte at the same offset, for whoever reads it, however often the connection breaks."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon, wait_for

from task_runner.api.follow import CHUNK, Source, tail_offset

UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"


def log(daemon: Daemon, task_id: str) -> Path:
    return daemon.state_dir / "tasks" / task_id / "output.log"


def go(daemon: Daemon, task_id: str) -> None:
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()


def wrote(daemon: Daemon, task_id: str, size: int) -> None:
    wait_for(lambda: log(daemon, task_id).exists() and log(daemon, task_id).stat().st_size >= size, "it has written")


def get(daemon: Daemon, task_id: str, query: str = "", **headers: str) -> httpx.Response:
    return daemon.http.get(f"/v1/tasks/{task_id}/output?{query}", headers=headers)


@contextmanager
def followed(daemon: Daemon, task_id: str, query: str = "", **headers: str) -> Iterator[httpx.Response]:
    url = f"{daemon.url}/v1/tasks/{task_id}/output?follow=true&{query}"
    headers = {"Authorization": f"Bearer {daemon.token}", **headers}
    with httpx.stream("GET", url, headers=headers, timeout=PATIENCE, verify=False) as response:
        assert response.status_code == 200
        yield response


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The server-sent events in these lines, their data as JSON."""
    event: dict[str, Any] = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name == "data" else value


def content(event: dict[str, Any]) -> bytes:
    data = event["data"]
    return data["text"].encode() if "text" in data else base64.b64decode(data["base64"])


# -- what has been written

EVERY_BYTE = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def binary(shared: Daemon) -> str:
    """A task whose output is EVERY_BYTE."""
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)"
    return str(shared.wait(shared.submit(sys.executable, "-c", code))["taskId"])


def test_every_byte_comes_as_it_was_written(shared: Daemon, binary: str):
    response = get(shared, binary)
    assert response.content == EVERY_BYTE
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-output-offset"] == "0"
    assert shared.task(binary)["output"]["bytes"] == len(EVERY_BYTE)


@pytest.mark.parametrize("offset", [0, 1, 255, 767, 768, 769, 10**15])
def test_from_an_offset(shared: Daemon, binary: str, offset: int):
    response = get(shared, binary, f"offset={offset}")
    assert (response.status_code, response.content) == (200, EVERY_BYTE[offset:])
    with followed(shared, binary, f"offset={offset}") as stream:
        assert stream.read() == EVERY_BYTE[offset:]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", EVERY_BYTE[:1]),
        ("bytes=10-19", EVERY_BYTE[10:20]),
        ("bytes=700-", EVERY_BYTE[700:]),
        ("bytes=700-100000", EVERY_BYTE[700:]),
        ("bytes=0-99999999999999", EVERY_BYTE),
    ],
)
def test_a_range(shared: Daemon, binary: str, asked: str, expected: bytes):
    response = get(shared, binary, Range=asked)
    assert (response.status_code, response.content) == (206, expected)
    start = int(asked.removeprefix("bytes=").split("-")[0])
    assert response.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/*"


@pytest.mark.parametrize("asked", ["bytes=768-", "bytes=5-3", "bytes=999999999999999999-"])
def test_a_range_that_holds_nothing(shared: Daemon, binary: str, asked: str):
    assert get(shared, binary, Range=asked).status_code == 416


@pytest.mark.parametrize(
    "asked", ["bytes=-5", "lines=1-2", "bytes=1-2,4-5", "bytes=x", "bytes=" + "9" * 5000 + "-", "bytes=²-"]
)
def test_a_range_that_is_not_understood_is_no_range(shared: Daemon, binary: str, asked: str):
    response = shared.http.get(f"/v1/tasks/{binary}/output", headers={"Range": asked.encode("latin-1")})
    assert (response.status_code, response.content) == (200, EVERY_BYTE)


@pytest.mark.parametrize(("lines", "expected"), [(0, ""), (1, "9\n"), (3, "7\n8\n9\n"), (9, None), (10**9, None)])
def test_the_last_lines(shared: Daemon, lines: int, expected: str | None):
    task_id = shared.wait(shared.submit("seq", "1", "9"))["taskId"]
    assert get(shared, task_id, f"tail={lines}").text == (
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n" if expected is None else expected
    )


@pytest.mark.parametrize("length", [0, 1, CHUNK - 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_where_the_last_lines_begin(tmp_path: Path, length: int, end: bytes):
    lines = [b"first", b"x" * length, b"", b"last"]
    path = tmp_path / "log"
    path.write_bytes(b"\n".join(lines) + end)
    whole = path.read_bytes().splitlines(keepends=True)
    for count in range(6):
        expected = b"".join(whole[len(whole) - count :]) if count <= len(whole) else b"".join(whole)
        assert path.read_bytes()[tail_offset(Source(attempt=1, path=str(path)), count) :] == expected


def test_where_the_last_lines_of_nothing_begin(tmp_path: Path):
    assert tail_offset(Source(attempt=1, path=str(tmp_path / "nowhere")), 5) == 0
    (tmp_path / "empty").touch()
    assert tail_offset(Source(attempt=1, path=str(tmp_path / "empty")), 5) == 0


def test_output_that_is_not_there_yet(shared: Daemon):
    shared.post("/v1/node/drain")
    try:
        task_id = shared.submit("echo", "x")
        assert get(shared, task_id).content == b""
        assert get(shared, task_id, "tail=5").content == b""
        with followed(shared, task_id) as stream:
            shared.post("/v1/node/undrain")
            assert stream.read() == b"x\n"
    finally:
        shared.post("/v1/node/undrain")


def test_a_log_that_was_replaced_is_not_followed_elsewhere(shared: Daemon, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for replace in (lambda path: path.symlink_to(secret), os.mkfifo, lambda path: path.mkdir()):
        task_id = shared.wait(shared.submit("echo", "x"))["taskId"]
        path = log(shared, task_id)
        path.unlink()
        replace(path)
        for query in ("", "tail=1", "follow=true"):
            assert get(shared, task_id, query).content == b""


# -- following


def test_following_shows_what_is_written_and_ends_with_the_task(shared: Daemon):
    task_id = shared.submit("sh", "-c", f"echo one; {UNTIL_GO}; echo two")
    with followed(shared, task_id) as stream:
        parts = stream.iter_bytes()
        assert next(parts) == b"one\n"
        go(shared, task_id)
        assert b"".join(parts) == b"two\n"
    assert shared.wait(task_id)["outcome"] == "succeeded"


def test_following_as_events(shared: Daemon):
    task_id = shared.submit("sh", "-c", f"echo ä; {UNTIL_GO}; printf '\\377'")
    with followed(shared, task_id, Accept="text/event-stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        told = events(stream.iter_lines())
        assert next(told) == {"event": "output", "id": "3", "data": {"offset": 0, "text": "ä\n"}}
        go(shared, task_id)
        assert next(told) == {"event": "output", "id": "4", "data": {"offset": 3, "base64": "/w=="}}
        assert list(told) == [{"event": "end", "data": {"state": "exited"}}]
    for resumed in ({"Last-Event-ID": "3"}, {}):
        query = "" if resumed else "offset=3"
        with followed(shared, task_id, query, Accept="text/event-stream", **resumed) as stream:
            assert [event.get("id") for event in events(stream.iter_lines())] == ["4", None]


def test_following_ends_when_the_task_is_removed(shared: Daemon):
    task_id = shared.submit("sh", "-c", f"echo one; {UNTIL_GO}")
    with followed(shared, task_id) as stream:
        parts = stream.iter_bytes()
        assert next(parts) == b"one\n"
        shared.http.delete(f"/v1/tasks/{task_id}")
        assert b"".join(parts) == b""


def test_a_reader_that_does_not_read_does_not_slow_the_task(shared: Daemon):
    size = 30_000_000
    task_id = shared.submit("sh", "-c", f"echo x; {UNTIL_GO}; head -c {size} /dev/zero")
    with followed(shared, task_id) as stream:
        parts = stream.iter_bytes()
        received = len(next(parts))
        go(shared, task_id)
        assert shared.wait(task_id)["outcome"] == "succeeded"
        assert shared.http.get("/ready").status_code == 200
        assert received + sum(map(len, parts)) == size + 2


def test_streams_are_limited_and_one_that_was_left_is_free_again(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(max_streams=2).start()
    task_id = daemon.submit("sh", "-c", f"echo x; {UNTIL_GO}")
    wrote(daemon, task_id, 2)
    for _ in range(3):
        with followed(daemon, task_id) as one, followed(daemon, task_id, Accept="text/event-stream") as two:
            parts = one.iter_bytes(), two.iter_bytes()  # httpx closes a response whose iterator is let go
            assert next(parts[0]) == b"x\n"
            next(parts[1])
            refused = get(daemon, task_id, "follow=true")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "max_streams" in refused.json()["detail"]
            assert get(daemon, task_id).content == b"x\n"
        # the command is silent: that its readers have gone is learnt from the connections alone
        wait_for(lambda: "\ntask_runner_streams 0.0\n" in daemon.http.get("/metrics").text, "the streams are free")


def test_an_orderly_end_of_the_daemon_ends_the_streams(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", f"echo one; {UNTIL_GO}; echo two")
    with followed(daemon, task_id, Accept="text/event-stream") as stream:
        told = events(stream.iter_lines())
        assert next(told)["id"] == "4"
        daemon.wait_state(task_id, "running")
        daemon.terminate()
        assert list(told) == [{"event": "end", "data": {"state": "running"}}]
    daemon.start()
    go(daemon, task_id)
    with followed(daemon, task_id, **{"Last-Event-ID": "4"}) as stream:
        assert stream.read() == b"two\n"
