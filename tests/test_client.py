"""The client against servers that misbehave on purpose. No daemon is needed."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from gunicorn.config import Keepalive

from task_runner.client import ApiError, Client, ConnectionFailed, wire
from task_runner.client.link import Link
from task_runner.client.records import Batch, Task
from task_runner.errors import InvalidRequest, NotFound

Script = Callable[["Handler"], None]


def a_task(**more: Any) -> dict[str, Any]:
    known = {"taskId": "0123456789abcdef", "state": "exited", "outcome": "succeeded", "exitCode": 0}
    rest: dict[str, Any] = {"attempt": 1, "tags": {}, "actions": [], "spec": {"actions": []}}
    return {**dict.fromkeys(Task.__annotations__), **rest, **known, **more}


class Handler(BaseHTTPRequestHandler):
    """Answers every request by the next step of the script; the last step stays."""

    protocol_version = "HTTP/1.1"
    server: Any

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        steps: list[Script] = self.server.steps
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunks(self, *chunks: bytes, complete: bool, **headers: str) -> None:
        self.send_response(200)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if complete:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.vanish()

    def vanish(self) -> None:
        """Close the connection in the middle of things."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def say(value: Any, status: int = 200, **headers: str) -> Script:
    return lambda handler: handler.answer(value, status, **headers)


def stream(*chunks: bytes, complete: bool = True, **headers: str) -> Script:
    return lambda handler: handler.chunks(*chunks, complete=complete, **headers)


def vanish(handler: Handler) -> None:
    handler.vanish()


@contextmanager
def _serving(server: Any, *steps: Script) -> Iterator[list[Any]]:
    server.daemon_threads = True
    server.steps, server.seen = list(steps), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def script(*steps: Script, patience: float = 10.0) -> Iterator[tuple[Client, list[Any]]]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with (
        _serving(server, *steps) as seen,
        Client(f"http://127.0.0.1:{server.server_address[1]}", "secret", patience=patience) as client,
    ):
        yield client, seen


def test_a_submit_that_got_no_answer_is_repeated_with_the_same_key():
    with script(vanish, say(a_task(), 201)) as (client, seen):
        assert client.submit({"command": ["true"]}, "key-1")["taskId"] == "0123456789abcdef"
    assert [headers["Idempotency-Key"] for _, _, headers, _ in seen] == ["key-1", "key-1"]
    assert [json.loads(body) for *_, body in seen] == [{"command": ["true"]}] * 2


def test_every_submit_has_a_key_of_its_own_and_keeps_it():
    with script(vanish, say(a_task(), 201)) as (client, seen):
        client.submit({"command": ["true"]})
        client.submit(["true"])
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in seen]
    assert keys[0] == keys[1] != keys[2]
    assert all(len(key) == 32 for key in keys)


def test_what_would_count_twice_is_sent_once():
    with script(vanish) as (client, seen):
        for act in (lambda: client.signal("abcd", "SIGHUP"), lambda: client.retry("abcd")):
            with pytest.raises(ConnectionFailed):
                act()
        assert len(seen) == 2


def test_a_daemon_that_never_answered_is_not_waited_for():
    begin = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # it is taken, and nobody listens
        port = silent.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}", patience=1000, met=False) as client, pytest.raises(ConnectionFailed) as caught:
            client.node()
    assert time.monotonic() - begin < 30
    assert "task-runner serve" in str(caught.value)


def test_patience_with_a_daemon_that_went_away_ends():
    outages: list[str] = []
    with script(say(a_task()), vanish) as (_client, seen):
        with Client(_client.url, patience=0.3, on_outage=lambda error: outages.append(str(error))) as client:
            client.get("abcd")
            with pytest.raises(ConnectionFailed):
                client.get("abcd")
        assert len(seen) > 2
    assert len(outages) == 1


def test_not_ready_is_waited_out():
    problem = {"title": "Service Unavailable", "status": 503, "detail": "examining"}
    with script(say(problem, 503), say(problem, 503), say(a_task())) as (client, seen):
        assert client.get("abcd")["state"] == "exited"
        assert len(seen) == 3


def test_output_goes_on_at_the_byte_where_the_connection_broke():
    running = a_task(state="running", outcome=None)
    steps = [
        say(running),
        stream(b"abc", b"de", complete=False),
        vanish,
        stream(b"fgh", complete=False),
        stream(b"ij"),
        say(a_task()),
        stream(b"k"),
    ]
    with script(*steps) as (client, seen):
        assert b"".join(client.iter_output("0123", follow=True)) == b"abcdefghijk"
    asked = [path.partition("?")[2] for _, path, *_ in seen if "/output" in path]
    assert [query.split("&")[0] for query in asked] == [f"offset={n}" for n in (0, 5, 5, 8, 10)]
    assert [query.split("&")[2] for query in asked] == ["follow=true"] * 4 + ["follow=false"]
    assert all("/v1/tasks/0123456789abcdef/output" in path for _, path, *_ in seen if "/output" in path)


def test_a_clean_end_of_a_stream_is_not_the_end_of_the_task():
    running = a_task(state="running", outcome=None)
    steps = [say(running), stream(b"a"), say(running), stream(b"b"), say(a_task()), stream()]
    with script(*steps) as (client, _seen):
        assert b"".join(client.iter_output("0123", follow=True)) == b"ab"


def test_another_attempt_ends_the_output_of_this_one():
    again = a_task(state="running", outcome=None, attempt=2)
    steps = [say(a_task(state="running", outcome=None)), stream(b"a"), say(again), stream(b"b")]
    with script(*steps) as (client, seen):
        assert b"".join(client.iter_output("0123", follow=True)) == b"ab"
    assert all("attempt=1" in path for _, path, *_ in seen if "/output" in path)


def test_a_tail_that_breaks_goes_on_where_it_began_and_no_earlier():
    def tail(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("X-Output-Offset", "100")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n")
        handler.vanish()

    with script(say(a_task()), tail, stream(b"d")) as (client, seen):
        assert b"".join(client.iter_output("0123", tail=1)) == b"abcd"
    assert "tail=1&" in seen[1][1]
    assert "offset=103&" in seen[2][1]


def test_a_gap_is_said_in_its_place_and_nothing_behind_it_is_lost():
    limited = a_task(spec={"maxOutputBytes": 65_536})
    steps = [
        say({**limited, "state": "running", "outcome": None}),
        stream(b"abc", X_Output_Offset="0"),  # ends before the gap
        say(limited),
        stream(b"xyz", X_Output_Offset="1000"),
        stream(X_Output_Offset="1003"),
    ]
    with script(*steps) as (client, seen):
        output = b"".join(client.iter_output("0123", follow=True))
    assert output == b"abc\n[... 997 bytes not kept ...]\nxyz"
    asked = [path.partition("?")[2] for _, path, *_ in seen if "/output" in path]
    assert [query.split("&")[0] for query in asked] == ["offset=0", "offset=3", "offset=1003"]
    assert all(query.endswith("&gaps=stop") for query in asked)


def test_an_attempt_and_a_stream_can_be_asked_for():
    with script(say(a_task(attempt=3)), stream(b"x")) as (client, seen):
        assert b"".join(client.iter_output("0123", attempt=2, stream="stderr", follow=True)) == b"x"
    assert seen[1][1].endswith("/output?offset=0&attempt=2&follow=false&stream=stderr")


def test_input_is_sent_again_only_where_its_place_is_said():
    with script(vanish, say({"bytes": 7})) as (client, seen):
        assert client.send_input("abcd", b"\xff\x00", offset=5, end=True) == 7
        assert [(path, headers["Content-Type"], body) for _, path, headers, body in seen] == [
            ("/v1/tasks/abcd/input?offset=5&end=true", "application/octet-stream", b"\xff\x00")
        ] * 2
    with script(vanish) as (client, seen):
        with pytest.raises(ConnectionFailed):
            client.send_input("abcd", b"x")
        assert len(seen) == 1


def test_another_time_is_sent_as_it_was_given():
    with script(say(a_task())) as (client, seen):
        client.reschedule("abcd", "2030-01-31T03:00:00Z")
        client.reschedule("abcd", None)
    assert [(verb, path) for verb, path, *_ in seen] == [("PATCH", "/v1/tasks/abcd")] * 2
    assert [json.loads(body) for *_, body in seen] == [{"executeAt": "2030-01-31T03:00:00Z"}, {"executeAt": None}]


def test_a_batch_that_got_no_answer_is_repeated_with_the_same_key():
    batch = dict.fromkeys(Batch.__annotations__) | {"batchId": "b1", "tasks": ["t1"]}
    with script(vanish, say(batch, 201)) as (client, seen):
        assert client.submit_batch({"tasks": []}, "key-1")["tasks"] == ["t1"]
    assert [headers["Idempotency-Key"] for _, _, headers, _ in seen] == ["key-1", "key-1"]


@pytest.mark.parametrize("batch_id", ["", ".", "../tasks"])
def test_the_id_of_a_batch_cannot_be_another_path(batch_id: str):
    with script(say({"status": 404, "detail": "no"}, 404)) as (client, seen):
        with pytest.raises((InvalidRequest, ApiError)):
            client.batch(batch_id)
        assert [path for _, path, *_ in seen] in ([], ["/v1/batches/..%2Ftasks"])


def test_all_pages_are_listed_and_the_token_goes_nowhere_else():
    link = '<http://evil.example/v1/tasks?cursor=1&tag=a%3Db>; rel="next"'
    with script(say([a_task(taskId="one")], Link=link), say([a_task(taskId="two")])) as (client, seen):
        found = [task["taskId"] for task in client.list(tag=("a=b", "c=d"), stalled=True, q=None, limit=1)]
    assert found == ["one", "two"]
    assert seen[0][1] == "/v1/tasks?tag=a%3Db&tag=c%3Dd&stalled=true&limit=1"
    assert seen[1][1] == "/v1/tasks?cursor=1&tag=a%3Db"


def test_an_error_carries_what_the_daemon_said():
    problem = {"status": 400, "detail": "no", "errors": [{"field": "name", "message": "too long"}]}
    answer = say(problem, 400, Content_Type="application/problem+json")
    with script(answer) as (client, _seen), pytest.raises(ApiError) as caught:
        client.submit({}, "k")
    assert (caught.value.status, caught.value.detail) == (400, "no")
    assert [(fault.field, fault.message) for fault in caught.value.fields] == [("name", "too long")]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'"text"'])
def test_what_is_not_task_runner_is_called_so(body: bytes):
    with script(say(body)) as (client, _seen):
        for ask in (client.node, lambda: client.get("abcd"), lambda: list(client.list()) or client.node()):
            with pytest.raises(ApiError, match="not Task Runner"):
                ask()


def test_an_error_without_words_is_still_an_error():
    with script(say(b"<html>", 500)) as (client, _seen), pytest.raises(ApiError) as caught:
        client.get("abcd")
    assert caught.value.status == 500


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_an_id_cannot_be_another_path(task_id: str):
    with pytest.raises(InvalidRequest), Client("http://127.0.0.1:1") as client:
        client.get(task_id)


def test_an_id_is_quoted():
    with script(say(a_task())) as (client, seen):
        client.get("a/../b?c")
    assert seen[0][1] == "/v1/tasks/a%2F..%2Fb%3Fc"


def test_what_is_no_text_is_refused_before_it_is_sent():
    with script(say(a_task())) as (client, seen):
        with pytest.raises(InvalidRequest):
            client.submit({"command": ["\udcff"]}, "k")
        assert not seen


def test_a_unix_socket(tmp_path: Path):
    path = str(tmp_path / "socket")
    server = socketserver.ThreadingUnixStreamServer(path, Handler)
    with _serving(server, say(a_task())) as seen, Client(f"unix://{path}", "secret") as client:
        assert client.local
        assert client.get("abcd")["taskId"] == "0123456789abcdef"
    assert seen[0][2]["Authorization"] == "Bearer secret"


def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with script(say(a_task())) as (client, _seen):
        assert client.get("abcd")["state"] == "exited"


def test_no_connection_is_used_that_the_server_may_just_be_closing():
    shortest = min(Keepalive.default, uvicorn.Config("x:y").timeout_keep_alive)
    link = Link(url="http://127.0.0.1:1", timeout=1, patience=0, met=False)
    assert wire.options(link)["limits"].keepalive_expiry <= shortest / 2


@pytest.mark.parametrize("token", ["a\nb", "ä"])
def test_a_token_that_no_header_can_hold(token: str):
    with Client("http://127.0.0.1:1", token) as client, pytest.raises(InvalidRequest, match="token"):
        client.node()


def test_batches_input_and_attempts_against_the_daemon(daemon: Any):
    with Client(daemon.url, daemon.token) as client:
        made = client.submit_batch({"tasks": [{"command": ["true"]}, {"command": ["false"]}]}, "k")
        again = client.submit_batch({"tasks": [{"command": ["true"]}, {"command": ["false"]}]}, "k")
        assert (again["batchId"], again["tasks"]) == (made["batchId"], made["tasks"])
        over = client.wait_batch(made["batchId"])
        assert (over["numTasksOk"], over["numTasksFailed"]) == (1, 1)
        assert [each["exitCode"] for each in client.batch_results(made["batchId"])] == [0, 1]
        assert [task["taskId"] for task in client.list(batch=made["batchId"])] == made["tasks"]
        assert [each["batchId"] for each in client.batches()] == [made["batchId"]]
        assert client.attempt(made["tasks"][1], 1)["exitCode"] == 1
        waiting = client.submit_batch({"task": {"command": ["true"], "executeAt": 4e9}, "entities": ["gs-1"]})
        assert client.pause_batch(waiting["batchId"])["paused"]
        assert not client.resume_batch(waiting["batchId"])["paused"]
        (task_id,) = [task["taskId"] for task in client.list(entity="gs-1")]
        assert client.reschedule(task_id, 5e9)["executeAt"] == "2128-06-11T08:53:20.000000Z"
        assert client.stop_batch(waiting["batchId"])["numTasksCancelled"] == 1
        line = "cat; while [ ! -e go ]; do sleep 0.1; done"  # a task that is over takes nothing, not even again
        cat = client.submit({"shell": line, "openStdin": True})["taskId"]
        daemon.wait_state(cat, "running")
        assert client.send_input(cat, b"one", offset=0) == 3
        assert client.send_input(cat, b"one", offset=0) == 3  # as if its answer had been lost
        with pytest.raises(ApiError) as caught:
            client.send_input(cat, b"two", offset=0)
        assert caught.value.status == 409
        for _ in range(2):
            assert client.send_input(cat, b"\n", offset=3, end=True) == 4
        (daemon.state_dir / "tasks" / cat / "work" / "go").touch()
        assert client.wait(cat)["outcome"] == "succeeded"
        assert b"".join(client.iter_output(cat)) == b"one\n"


def test_a_client_against_the_daemon(daemon: Any):
    with Client(daemon.url, daemon.token) as client:
        task = client.submit({"command": ["sh", "-c", "echo one; echo two"]}, "k")
        assert client.submit({"command": ["sh", "-c", "echo one; echo two"]}, "k")["taskId"] == task["taskId"]
        assert client.wait(task["taskId"][:6])["outcome"] == "succeeded"
        assert b"".join(client.iter_output(task["taskId"][:6], follow=True)) == b"one\ntwo\n"
        assert b"".join(client.iter_output(task["taskId"], offset=2)) == b"e\ntwo\n"
        assert b"".join(client.iter_output(task["taskId"], tail=1)) == b"two\n"
        for _ in range(4):
            client.submit({"command": ["true"]})
        assert len(list(client.list(limit=2))) == 5
        assert client.node()["storage"]["ok"]
        assert client.drain()["draining"]
        assert not client.undrain()["draining"]
        client.delete(task["taskId"])
        with pytest.raises(ApiError) as caught:
            client.get(task["taskId"])
        assert caught.value.status == 404
        assert not isinstance(caught.value, NotFound)
