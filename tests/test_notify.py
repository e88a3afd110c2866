"""Webhooks: what is told, once, in order, signed, and until the receiver has it.

The first part stands on a store, a book and a notifier, and a receiver that speaks real HTTP; the second on a daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets as tokens
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, ROOT, Daemon, verb, wait_for

from task_runner.errors import NotFound, StorageFull, TaskRunnerError
from task_runner.lib.clock import SystemClock, stamp
from task_runner.model.codec import to_json
from task_runner.model.state import Outcome, State
from task_runner.model.status import Heartbeat, Identity, Silence, Status
from task_runner.service import notify, outbox, statements
from task_runner.service.book import Book, Change
from task_runner.service.events import Hub
from task_runner.service.notify import Notifier
from task_runner.service.outbox import Answer, Message
from task_runner.service.secrets import Secrets
from task_runner.service.store import Store
from task_runner.service.task import Record, Stall, Task
from task_runner.service.validate import parse_spec

STATES = ["pending", "running", "paused", "stopping", "stalled", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.json["type"])


class Receiver:
    """A web server of the test. ``answer`` gives a status for a request, or says "hang"."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], int | str] = lambda _request: 204
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # whoever sent it was killed half-way
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                answer = receiver.answer(request)
                receiver.requests.append(request)
                if answer == "hang":
                    receiver.released.wait(PATIENCE)
                    self.close_connection = True
                    return
                self.send_response(int(answer))
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: Any) -> None:
                pass  # the other end did not wait

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def types(self, path: str | None = None) -> list[str]:
        return [each.type for each in self.requests if path in (None, each.path)]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def make_receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Receiver]]:
    monkeypatch.setenv("NO_PROXY", "*")
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def receiver(make_receiver: Callable[[], Receiver]) -> Receiver:
    return make_receiver()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is sent again at once."""
    monkeypatch.setattr(outbox, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(outbox, "LAST_DELAY", 0.05)


class Clock(SystemClock):
    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Post:
    """A store, a book and a notifier."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = Clock()
        self.store = Store(str(path / "tasks.db"))
        self.store.open()
        self.book = Book(self.store, Hub(), self.clock)
        self.secrets = Secrets(None, options.pop("environ", {}))
        given = {"allow": None, "give_up_seconds": 1000.0, "connections": 8, **options}
        self.notifier = Notifier(self.book, self.secrets, **given)
        self.book.also = self.notifier.messages

    async def accept(self, *hooks: dict[str, Any], **more: Any) -> Task:
        spec = parse_spec({"command": ["true"], "notify": list(hooks), **more})
        task = Task(
            id=tokens.token_hex(8),
            seq=0,
            spec_json=json.dumps(to_json(spec, sparse=True)),
            name=spec.name,
            tags=spec.tags,
            record=Record(state=State.PENDING, created_at=self.book.now()),
        )
        await self.book.accept([task])
        return task

    async def become(self, task: Task, state: State, outcome: Outcome | None = None, **more: Any) -> None:
        record = replace(task.record, state=state, outcome=outcome, **more)
        await self.book.note([Change(task, record)], lambda _task: None)

    async def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        return value

    def states(self, task: Task) -> list[str]:
        return [outbox.message_json(each)["state"] for each in self.notifier.of_task(task.id)]

    def types(self, task: Task) -> list[str]:
        return [outbox.message_json(each)["type"] for each in self.notifier.of_task(task.id)]


@contextlib.asynccontextmanager
async def post(path: Path, *, sending: bool = True, **options: Any) -> AsyncIterator[Post]:
    made = Post(path, **options)
    running = asyncio.create_task(made.notifier.run()) if sending else None
    try:
        yield made
    finally:
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        made.store.close()


def status_of(task: Task, **more: Any) -> Status:
    return Status(
        task_id=task.id,
        runner=Identity(pid=1, start_time=1, boot_id="b"),
        state=State.RUNNING,
        heartbeat=Heartbeat(at=stamp(0), monotonic=0.0),
        **more,
    )


# -- what is told


def test_each_state_that_was_asked_for_is_told_in_order_also_when_it_is_entered_again(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": ["running", "paused", "succeeded"]})
            for state in (State.STARTING, State.RUNNING, State.PAUSED, State.RUNNING, State.STOPPING):
                await made.become(task, state)
            await made.become(task, State.EXITED, Outcome.SUCCEEDED)
            await made.until(lambda: made.states(task) == ["delivered"] * 4)

    asyncio.run(go())
    assert receiver.types() == ["running", "paused", "running", "succeeded"]


def test_without_a_choice_the_endings_are_told(tmp_path):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": "http://127.0.0.1:1/"})
            await made.become(task, State.RUNNING)
            await made.become(task, State.LOST, Outcome.LOST)
            assert made.types(task) == ["lost"]

    asyncio.run(go())


def test_a_daemon_that_takes_up_a_running_task_does_not_tell_again_that_it_runs(tmp_path):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": "http://127.0.0.1:1/", "on": STATES})
            await made.become(task, State.RUNNING)
        async with post(tmp_path, sending=False) as made:
            (task,) = made.store.unfinished()
            task.record = replace(task.record, state=State.UNKNOWN)
            await made.become(task, State.RUNNING)
            await made.become(task, State.RUNNING, status=status_of(task, current_action_idx=1))
            assert made.types(task) == ["pending", "running"]

    asyncio.run(go())


def test_every_attempt_is_told_and_only_the_last_one_has_an_ending(tmp_path):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": "http://127.0.0.1:1/", "on": STATES})
            for attempt in (2, 3):  # the first two end before anybody sees them run
                await made.become(task, State.PENDING, attempt=attempt)
            await made.become(task, State.EXITED, Outcome.FAILED)
            await made.become(task, State.PENDING, attempt=4)
            await made.become(task, State.EXITED, Outcome.FAILED)
            assert made.types(task) == ["pending", "pending", "pending", "failed", "pending", "failed"]

    asyncio.run(go())


def test_a_stall_is_told_once_also_by_the_next_daemon_and_its_end_is_not(tmp_path):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": "http://127.0.0.1:1/", "on": ["stalled"]})
            await made.become(task, State.RUNNING)
            task.stall = Stall(reason="no heartbeat for 40 s", since=stamp(100))
            await made.book.mark(task)
            await made.become(task, State.PAUSED)
        async with post(tmp_path, sending=False) as made:
            (task,) = made.store.unfinished()
            task.stall = Stall(reason="no heartbeat for 50 s", since=stamp(100))
            await made.book.mark(task)
            task.stall = None
            await made.book.mark(task)
            assert made.types(task) == ["stalled"]
            silence = Silence(since=stamp(200), reason="no output")
            await made.become(task, State.RUNNING, status=status_of(task, silence=silence))
            await made.become(task, State.EXITED, Outcome.TIMED_OUT)
            assert made.types(task) == ["stalled", "stalled"]
            shown = json.loads(made.notifier.of_task(task.id)[1].body)
            assert shown["task"]["stalled"] == {"reason": "no output", "since": stamp(200)}

    asyncio.run(go())


def test_a_change_that_the_store_refuses_is_not_told(tmp_path):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            spec = parse_spec({"command": ["true"], "notify": [{"url": "http://127.0.0.1:1/", "on": ["pending"]}]})
            record = Record(state=State.PENDING, created_at=made.book.now())
            task = Task("0" * 16, 0, json.dumps(to_json(spec, sparse=True)), None, {}, record)
            with pytest.raises(TaskRunnerError):
                await made.book.accept([task], [("INSERT INTO nowhere VALUES (1)", ())])
            assert made.notifier.of_task(task.id) == []
            await made.book.accept([task])
            assert made.types(task) == ["pending"]

    asyncio.run(go())


def test_the_body_holds_the_facts_of_its_moment(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept(
                {"url": f"{receiver.url}/hook?a=1", "on": ["pending", "failed"]},
                name="nightly \N{SNOWMAN}",
                tags={"branch": "main"},
                metadata={"ticket": 17},
            )
            status = status_of(task, exit_code=3, started_at=stamp(1000))
            ending = {"status": status, "error": "it broke", "finished_at": stamp(1001)}
            await made.become(task, State.EXITED, Outcome.FAILED, **ending)
            await made.until(lambda: made.states(task) == ["delivered"] * 2)
            first, second = (each.json for each in receiver.requests)
            assert {each.path for each in receiver.requests} == {"/hook?a=1"}
            assert set(first) == set(second) == {"id", "type", "at", "task"}
            assert (first["task"]["state"], first["task"]["outcome"]) == ("pending", None)
            assert second["task"] == {
                "taskId": task.id,
                "name": "nightly \N{SNOWMAN}",
                "batch": None,
                "entity": None,
                "tags": {"branch": "main"},
                "metadata": {"ticket": 17},
                "state": "exited",
                "outcome": "failed",
                "exitCode": 3,
                "signal": None,
                "attempt": 1,
                "error": "it broke",
                "stalled": None,
                "createdAt": task.record.created_at,
                "startedAt": stamp(1000),
                "finishedAt": stamp(1001),
            }
            assert first["id"] != second["id"]
            for request in receiver.requests:
                assert request.headers["content-type"] == "application/json"
                assert request.headers["x-task-runner-delivery"] == request.json["id"]
                assert "x-task-runner-signature" not in request.headers

    asyncio.run(go())


# -- how it is sent


def test_it_is_sent_again_until_the_receiver_takes_it_with_the_same_id_and_what_follows_waits(
    tmp_path, receiver, quick
):
    refused: list[str] = []

    def answer(request: Request) -> int:
        if request.type == "running" and len(refused) < 3:
            refused.append(request.json["id"])
            return (500, 404, 302)[len(refused) - 1]
        return 200

    receiver.answer = answer

    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": STATES})
            await made.become(task, State.RUNNING)
            await made.become(task, State.EXITED, Outcome.SUCCEEDED)
            await made.until(lambda: made.states(task) == ["delivered"] * 3)
            running = made.notifier.of_task(task.id)[1]
            assert (running.tries, running.last_status, running.last_error) == (4, 200, None)
            assert (made.notifier.delivered, made.notifier.failed, made.notifier.gave_up) == (3, 3, 0)

    asyncio.run(go())
    assert receiver.types() == ["pending", *["running"] * 4, "succeeded"]
    assert len({each.json["id"] for each in receiver.requests}) == 3
    assert all(each.path != "/elsewhere" for each in receiver.requests), "a redirect was followed"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is not sent again within the test."""
    monkeypatch.setattr(outbox, "FIRST_DELAY", 500.0)


def test_one_receiver_that_fails_holds_up_neither_another_hook_nor_another_task(tmp_path, receiver, slow):
    receiver.answer = lambda request: 503 if request.path == "/bad" else 200
    on = ["pending", "running", "paused"]

    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            both = await made.accept({"url": f"{receiver.url}/bad", "on": on}, {"url": f"{receiver.url}/good", "on": on})
            await made.become(both, State.RUNNING)
        async with post(tmp_path) as made:

            def bad() -> list[Message]:
                return [each for each in made.notifier.of_task(both.id) if each.hook == 0]

            await made.until(lambda: bad()[0].tries == 1)
            assert bad()[0].next_at == bad()[1].next_at, "a queue waits as a whole"
            assert bad()[0].last_status == 503
            assert "503" in (bad()[0].last_error or "")
            await made.become(both, State.PAUSED)
            await made.until(lambda: made.states(both).count("delivered") == 3)
            other = await made.accept({"url": f"{receiver.url}/good", "on": on})
            await made.until(lambda: made.states(other) == ["delivered"])
            assert [each.tries for each in bad()] == [1, 0, 0], "what follows waits, also what came later"

    asyncio.run(go())
    assert receiver.types("/bad") == ["pending"]


def test_a_host_that_does_not_answer_takes_a_quarter_of_the_places_and_no_more(
    tmp_path, make_receiver, monkeypatch
):
    monkeypatch.setattr(notify, "TIMEOUT", PATIENCE)
    deaf, good = make_receiver(), make_receiver()
    deaf.answer = lambda _request: "hang"

    async def go() -> None:
        async with post(tmp_path, connections=8) as made:
            for _ in range(12):
                await made.accept({"url": deaf.url, "on": ["pending"]})
            await made.until(lambda: len(deaf.requests) == 2)
            tasks = [await made.accept({"url": good.url, "on": ["pending"]}) for _ in range(12)]
            await made.until(lambda: all(made.states(task) == ["delivered"] for task in tasks))
            assert len(deaf.requests) == 2
            deaf.answer = lambda _request: 200
            deaf.released.set()  # these two get no answer, and all the others one
            await made.until(lambda: made.notifier.delivered >= 12 + 10)

    asyncio.run(go())


def test_what_stands_behind_many_for_a_host_that_does_not_answer_is_sent(tmp_path, make_receiver, monkeypatch):
    monkeypatch.setattr(notify, "TIMEOUT", PATIENCE)
    monkeypatch.setattr(notify, "IDLE", PATIENCE)
    deaf, good = make_receiver(), make_receiver()
    deaf.answer = lambda _request: "hang"

    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            for _ in range(40):
                await made.accept({"url": deaf.url, "on": ["pending"]})
            task = await made.accept({"url": good.url, "on": ["pending"]})
        async with post(tmp_path, connections=8) as made:
            await made.until(lambda: made.states(task) == ["delivered"])

    asyncio.run(go())


def test_no_answer_in_time_is_a_try_that_failed(tmp_path, receiver, quick, monkeypatch):
    monkeypatch.setattr(notify, "TIMEOUT", 0.2)
    receiver.answer = lambda _request: 200 if receiver.requests else "hang"

    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": ["pending"]})
            error = await made.until(lambda: made.notifier.of_task(task.id)[0].last_error)
            assert error == "no answer within 0.2 s"  # the next try, which succeeds, is not far
            await made.until(lambda: made.states(task) == ["delivered"])

    asyncio.run(go())


def test_a_receiver_that_is_gone_is_given_up_at_once_and_what_follows_is_sent(tmp_path, receiver):
    receiver.answer = lambda request: 410 if request.type == "pending" else 200

    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": STATES})
            await made.become(task, State.RUNNING)
            await made.until(lambda: made.states(task) == ["gave_up", "delivered"])
            given_up = made.notifier.of_task(task.id)[0]
            assert (given_up.tries, given_up.last_status) == (1, 410)
            assert made.notifier.gave_up == 1

    asyncio.run(go())
    assert receiver.types() == ["pending", "running"]


def test_after_a_time_it_is_given_up_but_not_untried(tmp_path, receiver, quick):
    receiver.answer = lambda _request: 500

    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": receiver.url, "on": STATES})
            await made.become(task, State.RUNNING)
        async with post(tmp_path, give_up_seconds=60) as made:
            await made.until(lambda: len(receiver.requests) > 2)
            assert made.states(task) == ["pending", "pending"]
            made.clock.ahead = 100
            await made.until(lambda: made.states(task) == ["gave_up", "gave_up"])
            assert made.notifier.of_task(task.id)[1].tries == 1

    asyncio.run(go())


def test_the_waits_grow_up_to_a_quarter_of_an_hour_and_are_spread():
    assert [outbox.delay(tries, 0.5) for tries in (1, 2, 3, 10, 11, 5000)] == [1, 2, 4, 512, 900, 900]
    assert (outbox.delay(1, 0.0), outbox.delay(1, 1.0)) == (0.75, 1.25)


@pytest.mark.parametrize(
    ("answer", "age", "again"),
    [
        (Answer(status=204), 0, False),
        (Answer(status=500, error="500"), 0, True),
        (Answer(error="refused"), 999, True),
        (Answer(error="refused"), 1001, False),
        (Answer(status=410, error="410", hopeless=True), 0, False),
    ],
)
def test_when_it_is_sent_again(answer, age, again):
    message = Message(
        **dict.fromkeys(Message.__dataclass_fields__)
        | {"queued_at": stamp(5000 - age), "tries": 2}  # type: ignore[arg-type]
    )
    found = outbox.again_at(message, answer, now=5000.0, give_up_seconds=1000.0, chance=0.5)
    assert found == (stamp(5004) if again else None)


def test_a_clock_that_was_set_back_does_not_hold_up_what_waits(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            made.clock.ahead = 90_000
            task = await made.accept({"url": receiver.url, "on": ["pending"]})
        async with post(tmp_path) as made:
            await made.until(lambda: made.states(task) == ["delivered"])

    asyncio.run(go())


def test_what_waits_is_sent_by_the_next_daemon(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": receiver.url, "on": STATES})
            await made.become(task, State.RUNNING)
        async with post(tmp_path) as made:
            await made.until(lambda: made.states(task) == ["delivered"] * 2)

    asyncio.run(go())
    assert receiver.types() == ["pending", "running"]


def test_what_came_of_a_try_is_kept_until_a_full_store_takes_it_and_it_is_not_sent_again_meanwhile(
    tmp_path, receiver, monkeypatch
):
    monkeypatch.setattr(notify, "IDLE", 0.02)
    refused = 0

    async def go() -> None:
        async with post(tmp_path) as made:
            write = made.store.write

            async def full(ops: list[statements.Op]) -> None:
                nonlocal refused
                if refused < 5 and any("UPDATE outbox" in sql for sql, _values in ops):
                    refused += 1
                    raise StorageFull
                await write(ops)

            made.book.backlog.store = Wrapped(made.store, full)  # type: ignore[assignment]
            task = await made.accept({"url": receiver.url, "on": ["pending"]})
            await made.until(lambda: made.states(task) == ["delivered"])

    asyncio.run(go())
    assert refused == 5
    assert receiver.types() == ["pending"]


class Wrapped:
    """A store whose `write` is another."""

    def __init__(self, store: Store, write: Any) -> None:
        self._store, self.write = store, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_removed_tasks_notifications_are_still_sent_and_go_with_the_last(tmp_path, receiver, slow):
    receiver.answer = lambda request: 500 if request.type == "succeeded" else 200

    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": ["pending", "succeeded"]})
            await made.until(lambda: made.states(task) == ["delivered"])
            await made.become(task, State.EXITED, Outcome.SUCCEEDED)
            await made.until(lambda: made.notifier.of_task(task.id)[1].tries == 1)
            await made.book.write(statements.remove(task.id))
            assert made.types(task) == ["succeeded"]
            receiver.answer = lambda _request: 200
            await made.notifier.redeliver(task.id, made.notifier.of_task(task.id)[0].seq)
            await made.until(lambda: made.types(task) == [])

    asyncio.run(go())
    assert receiver.types() == ["pending", "succeeded", "succeeded"]


def test_it_is_sent_once_more_when_somebody_asks(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": ["pending"]})
            await made.until(lambda: made.states(task) == ["delivered"])
            seq = made.notifier.of_task(task.id)[0].seq
            again = await made.notifier.redeliver(task.id, seq)
            assert again.seq == seq
            await made.until(lambda: len(receiver.requests) == 2 and made.states(task) == ["delivered"])
            other = await made.accept()
            with pytest.raises(NotFound):
                await made.notifier.redeliver(other.id, seq)

    asyncio.run(go())
    assert len({each.json["id"] for each in receiver.requests}) == 1


# -- who may be told, and the signature


@pytest.mark.parametrize(
    ("pattern", "url", "allowed"),
    [
        ("hooks.example.com", "https://hooks.example.com/x", True),
        ("hooks.example.com", "https://HOOKS.example.com:8443/x", True),
        ("hooks.example.com", "https://hooks.example.com.evil.example/x", False),
        ("hooks.example.com", "https://hooks.example.com@evil.example/x", False),
        ("hooks.example.com", "https://hooksXexample.com/x", False),
        ("*.example.com", "https://a.b.example.com/x", True),
        ("*.example.com", "https://example.com/x", False),
        ("10.0.*", "http://10.0.7.1/", True),
        ("10.0.*", "http://10.1.7.1/", False),
        ("::1", "http://[::1]:80/", True),
    ],
)
def test_only_hosts_of_the_list_are_told(tmp_path, pattern, url, allowed):
    async def go() -> None:
        async with post(tmp_path, sending=False, allow=["nobody.example", pattern]) as made:
            faults = made.notifier.check(parse_spec({"command": ["true"], "notify": [{"url": url}]}))
            assert [fault.field for fault in faults] == ([] if allowed else ["notify.0.url"])
            assert all("notify_allow" in fault.message for fault in faults)

    asyncio.run(go())


def test_a_host_that_is_no_longer_allowed_is_not_told(tmp_path, receiver):
    async def go() -> None:
        async with post(tmp_path, sending=False) as made:
            task = await made.accept({"url": receiver.url, "on": ["pending"]})
        async with post(tmp_path, allow=["hooks.example.com"]) as made:
            await made.until(lambda: made.states(task) == ["gave_up"])
            assert "notify_allow" in (made.notifier.of_task(task.id)[0].last_error or "")

    asyncio.run(go())
    assert receiver.requests == []


def test_the_signature_is_what_the_documented_check_expects(tmp_path, receiver):
    page = (ROOT / "doc/howto/notifications.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    documented: dict[str, Any] = {}
    exec(next(block for block in blocks if "def genuine" in block), documented)

    async def go() -> None:
        async with post(tmp_path, environ={"TASK_RUNNER_SECRET_HOOK_KEY": "s\u00fcss"}) as made:
            await made.accept({"url": receiver.url, "on": ["pending"], "secret": "hook-key"})
            await made.until(lambda: receiver.requests)

    asyncio.run(go())
    (request,) = receiver.requests
    assert documented["genuine"]("s\u00fcss", request.headers, request.body)
    assert not documented["genuine"]("other", request.headers, request.body)
    assert not documented["genuine"]("s\u00fcss", request.headers, request.body + b" ")
    late = request.headers | {"x-task-runner-timestamp": str(int(request.headers["x-task-runner-timestamp"]) - 1)}
    assert not documented["genuine"]("s\u00fcss", late, request.body)


def test_without_its_secret_it_is_not_sent_unsigned_but_later(tmp_path, receiver, quick):
    async def go() -> None:
        async with post(tmp_path) as made:
            task = await made.accept({"url": receiver.url, "on": ["pending"], "secret": "hook-key"})
            error = await made.until(lambda: made.notifier.of_task(task.id)[0].last_error)
            assert "'hook-key'" in error
            assert receiver.requests == []
            made.secrets._variables["hook-key"] = "value"
            await made.until(lambda: made.states(task) == ["delivered"])

    asyncio.run(go())
    assert "x-task-runner-signature" in receiver.requests[0].headers


# -- with a daemon


def notifications(daemon: Daemon, task_id: str) -> list[dict[str, Any]]:
    response = daemon.http.get(f"/v1/tasks/{task_id}/notifications")
    assert response.status_code == 200, response.text
    return list(response.json())


def cli(daemon: Daemon, *words: str) -> str:
    done = verb(daemon, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ending_of_a_task_is_told_and_shown(daemon: Daemon, receiver: Receiver):
    task_id = daemon.submit("sh", "-c", "exit 3", notify=[{"url": f"{receiver.url}/hook"}], name="broken")
    wait_for(lambda: receiver.requests, "the ending is told")
    (request,) = receiver.requests
    told = request.json["task"]
    assert request.type == "failed"
    task = daemon.wait(task_id)
    assert told == {name: task[name] for name in told}
    (shown,) = wait_for(lambda: [n for n in notifications(daemon, task_id) if n["state"] == "delivered"])
    assert shown | {"n": 0, "at": "", "deliveredAt": ""} == {
        "n": 0,
        "id": request.json["id"],
        "type": "failed",
        "at": "",
        "hook": 0,
        "url": f"{receiver.url}/hook",
        "state": "delivered",
        "tries": 1,
        "nextAt": None,
        "deliveredAt": "",
        "lastStatus": 204,
        "lastError": None,
    }
    assert f"{shown['n']}" in cli(daemon, "notifications", task_id)
    answer = daemon.post(f"/v1/tasks/{task_id}/notifications/{shown['n']}/redeliver")
    assert (answer.status_code, answer.json()["n"]) == (200, shown["n"])
    wait_for(lambda: len(receiver.requests) == 2 and notifications(daemon, task_id)[0]["state"] == "delivered", "it is sent once more")
    cli(daemon, "notifications", task_id, "--redeliver", str(shown["n"]))
    wait_for(lambda: len(receiver.requests) == 3, "and once more")
    metrics = daemon.http.get("/metrics").text
    assert re.search(r"^task_runner_notifications_delivered_total [123]\.0$", metrics, re.MULTILINE)
    for wrong in ("0", "x", "9" * 30, "-1"):
        assert daemon.post(f"/v1/tasks/{task_id}/notifications/{wrong}/redeliver").status_code == 404
    assert daemon.http.get("/v1/tasks/0000000000000000/notifications").status_code == 404


def test_what_may_not_be_told_is_refused_with_its_field(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(notify_allow='["*.example.com"]').start()
    hooks = [{"url": "https://hooks.example.com/"}, {"url": "http://169.254.169.254/", "secret": "none"}]
    answer = daemon.post("/v1/tasks", {"command": ["true"], "notify": hooks})
    assert answer.status_code == 400
    faults = {fault["field"]: fault["message"] for fault in answer.json()["errors"]}
    assert set(faults) == {"notify.1.url", "notify.1.secret"}
    assert "notify_allow" in faults["notify.1.url"]
    batch = {"tasks": [{"command": ["true"]}, {"command": ["true"], "notify": hooks}]}
    answer = daemon.post("/v1/batches", batch)
    assert answer.status_code == 400
    assert {fault["field"] for fault in answer.json()["errors"]} == {f"tasks.1.{field}" for field in faults}


def test_what_was_not_delivered_outlives_a_killed_daemon(daemon: Daemon, receiver: Receiver):
    receiver.answer = lambda _request: 503
    task_id = daemon.submit("true", notify=[{"url": receiver.url, "on": ["pending", "succeeded"]}])
    daemon.wait(task_id)
    wait_for(lambda: receiver.requests, "a first try")
    daemon.kill()
    receiver.answer = lambda _request: 200
    daemon.start()
    wait_for(lambda: [n["state"] for n in notifications(daemon, task_id)] == ["delivered"] * 2, "delivered")
    types = receiver.types()
    assert types[-1] == "succeeded"
    assert types.count("succeeded") == 1


def test_the_ending_of_a_deleted_task_is_told(daemon: Daemon, receiver: Receiver):
    task_id = daemon.submit("sleep", "1000", notify=[{"url": receiver.url}])
    daemon.wait_state(task_id, "running")
    assert daemon.http.delete(f"/v1/tasks/{task_id}").status_code == 200
    wait_for(lambda: receiver.types() == ["cancelled"], "the ending is told")


@pytest.mark.parametrize(
    "place", ["accept.after-store", "start.after-launch", "watch.before-note", "watch.after-note", "watch.after-note:2"]
)
def test_a_change_is_written_down_once_wherever_the_daemon_dies(
    make_daemon: Callable[..., Daemon], receiver: Receiver, place: str
):
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT=place)
    command = 'until [ -e "$0" ]; do sleep 0.01; done'
    go = daemon.state_dir.parent / "go"
    body = {"command": ["sh", "-c", command, str(go)], "notify": [{"url": receiver.url, "on": STATES}]}
    key = {"Idempotency-Key": "one"}
    at_its_end = place == "watch.after-note:2"
    with contextlib.suppress(httpx.TransportError):
        first = daemon.post("/v1/tasks", body, headers=key).json()
        if at_its_end:  # on a busy machine there is one change more before its end, and it dies of that
            daemon.wait_state(first["taskId"], "running")
            go.touch()
    daemon.wait_dead()
    daemon.restart()
    task_id = daemon.post("/v1/tasks", body, headers=key).json()["taskId"]
    if not at_its_end:
        daemon.wait_state(task_id, "running")
    go.touch()
    daemon.wait(task_id)
    wait_for(lambda: {n["state"] for n in notifications(daemon, task_id)} == {"delivered"}, "all is delivered")
    assert [n["type"] for n in notifications(daemon, task_id)] == ["pending", "running", "succeeded"]
    ids = list(dict.fromkeys((each.json["id"], each.type) for each in receiver.requests))
    assert [kind for _id, kind in ids] == ["pending", "running", "succeeded"]
