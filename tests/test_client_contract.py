"""What both clients promise, against a real daemon: one suite, run with Client and with AsyncClient."""

from __future__ import annotations

import asyncio
import inspect
import io
import itertools
import pickle
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from clients import KINDS, Proxy, client_of
from conftest import PATIENCE, ROOT, Daemon, wait_for

import task_runner.client as library
from task_runner.client import (
    ApiError,
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    ConnectionBroken,
    ConnectionFailed,
    NotFound,
    Silent,
    TaskFailed,
    Unauthorized,
)
from task_runner.client.link import KEY_SECONDS, Link, Outage
from task_runner.errors import InvalidRequest


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, shared: Daemon) -> Iterator[Any]:
    with client_of(kind, shared.url, shared.token) as made:
        yield made


# -- what is asked


def test_work_is_a_command_or_a_spec_or_a_template(client: Any, kind: str):
    plain = client.submit(["true"], timeout_seconds=60, tags={"by": "hand"}, graceSeconds=3)
    assert plain["spec"]["timeoutSeconds"] == 60
    assert (plain["tags"], plain["spec"]["graceSeconds"]) == ({"by": "hand"}, 3)
    assert client.submit({"shell": "exit 4"}, name="four")["name"] == "four"
    client.put_template(f"t-{kind}", {"parameters": {"n": {"type": "integer"}}, "task": {"shell": "exit ${n}"}})
    made = client.submit(template=f"t-{kind}", parameters={"n": 5})
    assert client.wait(made)["exitCode"] == 5
    assert client.template(f"t-{kind}")["parameters"]["n"]["type"] == "integer"
    assert f"t-{kind}" in [each["name"] for each in client.templates()]
    client.delete_template(f"t-{kind}")


@pytest.mark.parametrize("work", ["make test", b"x", print, 7, ["a", 1], None])
def test_what_is_no_command_is_a_type_error(client: Any, work: Any):
    with pytest.raises(TypeError):
        client.submit(work)


def test_run_returns_how_it_ended_and_what_it_wrote(client: Any):
    done = client.run(["sh", "-c", "echo out; echo err >&2; exit 3"], output_mode="separate")
    assert (done.outcome, done.exit_code, done.signal, done.ok) == ("failed", 3, None, False)
    assert (done.output, done.stderr) == (b"out\n", b"err\n")
    assert done.task["taskId"] == done.task_id
    good = client.run(["echo", "hello"], check=True)
    assert (good.output, good.stderr, good.ending) == (b"hello\n", None, "succeeded, exit code 0")
    with pytest.raises(TaskFailed, match="failed, exit code 7") as caught:
        client.run({"shell": "echo why; exit 7"}, check=True)
    assert caught.value.result.output == b"why\n"


def test_errors_mirror_those_of_the_api(client: Any, kind: str, shared: Daemon):
    with pytest.raises(BadRequest) as bad:
        client.submit(["true"], timeout_second=1)
    assert isinstance(bad.value, InvalidRequest)
    assert [(fault.field, "did you mean" in fault.message) for fault in bad.value.fields] == [("timeoutSecond", True)]
    with pytest.raises(NotFound) as missing:
        client.get("ffffffffffffffff")
    assert (missing.value.status, "there is no task" in missing.value.detail) == (404, True)
    over = client.wait(client.submit(["true"]))
    with pytest.raises(Conflict):
        client.pause(over)
    with (
        client_of(kind, shared.url, "wrong", hint="read the file") as stranger,
        pytest.raises(Unauthorized, match="read the file"),
    ):
        stranger.node()
    again = pickle.loads(pickle.dumps(bad.value))
    assert (type(again), again.status, again.fields) == (BadRequest, 400, bad.value.fields)


def test_a_task_is_controlled(client: Any, shared: Daemon):
    task = client.submit({"shell": "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"})
    shared.wait_state(task["taskId"], "running")
    shared.wait_output(task["taskId"], b"up")
    # an answer waits half a second for the state, and is asked for again where the task is later
    wait_for(lambda: client.pause(task)["state"] == "paused", "it is paused")
    assert client.pause(task)["state"] == "paused"  # as if its answer had been lost
    wait_for(lambda: client.resume(task)["state"] == "running", "it goes on")
    client.signal(task, "HUP")
    shared.wait_output(task["taskId"], b"hup")
    assert client.explain(task)["state"] == "running"
    assert client.stop(task, grace=5, wait=PATIENCE)["outcome"] == "cancelled"
    assert client.attempt(task, 1)["outcome"] == "cancelled"
    assert client.retry(task)["attempt"] == 2
    client.delete(task)
    with pytest.raises(NotFound):
        client.get(task)


def test_many_are_waited_for(client: Any):
    tasks = [client.submit({"shell": f"exit {code}"}) for code in (0, 1, 2)]
    assert [each["exitCode"] for each in client.wait_all(tasks)] == [0, 1, 2]
    batch = client.submit_batch({"tasks": [{"command": ["true"]}] * 3})
    assert client.wait_batch(batch)["numTasksOk"] == 3
    assert [each["exitCode"] for each in client.batch_results(batch)] == [0, 0, 0]
    assert [each["taskId"] for each in client.list(batch=batch["batchId"], limit=2)] == batch["tasks"]
    later = client.submit(["true"], execute_at=4e9)
    assert client.wait_all([tasks[0], later], timeout=0.05)[1]["state"] == "scheduled"
    assert client.wait(later, timeout=0.05)["state"] == "scheduled"
    client.stop(later)
    assert client.node()["ready"]
    assert client.wait_empty(timeout=PATIENCE)["empty"]


def test_files_are_listed_and_fetched(client: Any):
    task = client.run({"shell": "mkdir out; echo done > out/report"}).task
    assert [each["path"] for each in client.files.list(task, recursive=True)] == ["out", "out/report"]
    assert b"".join(client.files.read(task, "out/report")) == b"done\n"
    packed = io.BytesIO(b"".join(client.files.archive(task)))
    with tarfile.open(fileobj=packed) as archive:
        assert "out/report" in archive.getnames()
    with pytest.raises(NotFound):
        list(client.files.read(task, "nothing"))


def test_input_goes_to_the_command(client: Any, shared: Daemon):
    task = client.submit(["cat"], open_stdin=True)
    shared.wait_state(task["taskId"], "running")
    assert client.send_input(task, b"hello ", offset=0) == 6
    assert client.send_input(task, b"again", offset=6, end=True) == 11
    assert b"".join(client.iter_output(task, follow=True)) == b"hello again"


def test_the_events_of_a_task_end_with_it(client: Any):
    task = client.submit({"shell": "exit $((2 - TASK_RUNNER_ATTEMPT))"}, retry={"count": 2})
    told = list(client.iter_events(task))
    assert told[-1]["state"] == "exited"
    assert {each["taskId"] for each in told} == {task["taskId"]}
    assert list(client.iter_events(task)) == told  # over by now, and told from the beginning
    assert list(client.iter_events(task, after=told[0]["id"])) == told[1:]


def test_a_retried_task_is_followed_to_its_last_attempt(client: Any):
    task = client.wait(client.submit({"shell": "exit 1"}))
    client.retry(task)
    told = list(client.iter_events(task))
    assert [each["attempt"] for each in told if each["state"] == "exited"] == [1, 2]


# -- connections that break


def test_a_submit_whose_answer_is_lost_makes_one_task(kind: str, shared: Daemon):
    name = f"lost answer {kind}"
    with Proxy(shared.url, lambda n: 0 if n < 2 else None) as proxy:
        with client_of(kind, proxy.url, shared.token) as client:
            made = client.submit(["true"], name=name)
            batch = client.submit_batch({"tasks": [{"command": ["true"], "name": name}]})
        assert proxy.connections >= 3
    found = [each["taskId"] for each in shared.http.get("/v1/tasks", params={"q": name}).json()]
    assert found == [made["taskId"], *batch["tasks"]]


def test_an_answer_that_comes_in_halves_is_asked_for_again(kind: str, shared: Daemon):
    done = shared.wait(shared.submit("echo", "hello"))
    with Proxy(shared.url, lambda n: 150 + 400 * n if n < 4 else None) as proxy:
        with client_of(kind, proxy.url, shared.token) as client:
            assert client.get(done["taskId"]) == done
        assert proxy.connections == 5


def test_a_slow_answer_is_not_waited_for_for_ever(kind: str, shared: Daemon):
    name = f"slow answer {kind}"
    with (
        Proxy(shared.url, hold=lambda n: 2.0 if n == 0 else 0.0) as proxy,
        client_of(kind, proxy.url, shared.token, timeout=0.5) as client,
    ):
        made = client.submit(["true"], name=name)
    assert [each["taskId"] for each in shared.http.get("/v1/tasks", params={"q": name}).json()] == [made["taskId"]]


def test_patience_ends_and_says_why(kind: str, shared: Daemon):
    told: list[Exception] = []
    with Proxy(shared.url, lambda n: 0) as proxy:
        with client_of(kind, proxy.url, shared.token, patience=0.4, on_outage=told.append) as client:
            with pytest.raises(ConnectionBroken):
                client.submit(["true"])
            with pytest.raises(ConnectionBroken):
                client.node()
        tries = proxy.connections
        with (
            client_of(kind, proxy.url, shared.token, patience=PATIENCE) as client,
            pytest.raises(ConnectionFailed),
        ):
            client.retry("ffffffffffffffff")  # would count twice: sent once
        assert proxy.connections == tries + 1
    assert (tries > 3, len(told)) == (True, 1)
    with (
        Proxy(shared.url, hold=lambda n: 1.5) as proxy,
        client_of(kind, proxy.url, shared.token, patience=0, timeout=0.3) as client, pytest.raises(Silent),
    ):
        client.node()


@pytest.mark.parametrize("seed", range(3))
def test_every_byte_comes_once_whatever_breaks(kind: str, shared: Daemon, seed: int):
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i of the output; sleep 0.01; done; seq 1 20000"
    task = shared.submit("sh", "-c", script)
    chance = random.Random(seed)
    with (
        Proxy(shared.url, lambda n: chance.randrange(1, 9000) if n < 60 else None) as proxy,
        client_of(kind, proxy.url, shared.token) as client,
    ):
        got = b"".join(client.iter_output(task, follow=True))
    shared.wait(task)
    assert got == shared.output(task)
    assert got.endswith(b"\n20000\n")


@pytest.mark.parametrize("seed", range(2))
def test_every_event_comes_once_whatever_breaks(kind: str, shared: Daemon, seed: int):
    chance = random.Random(seed)
    begin = _last_event(shared)
    with Proxy(shared.url, lambda n: chance.randrange(200, 1500) if n < 40 else None) as proxy:
        with client_of(kind, proxy.url, shared.token) as client:
            made = [shared.submit("true") for _ in range(20)]
            waiting, told = set(made), []
            with closing(client.iter_events(after=begin)) as events:
                for event in events:
                    told.append(event)
                    if event["state"] == "exited":
                        waiting.discard(event["taskId"])
                    if not waiting:
                        break
        assert proxy.connections > 5
    with Client(shared.url, shared.token) as client, closing(client.iter_events(after=begin)) as again:
        assert told == list(itertools.islice(again, len(told)))


def _last_event(daemon: Daemon) -> int:
    with daemon.http.stream("GET", "/v1/events") as response:
        return int(response.headers["x-last-event-id"])


# -- daemons that die


def _meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_output_events_and_a_wait_live_through_the_death_of_the_daemon(kind: str, make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    with client_of(kind, daemon.url, daemon.token) as client:
        task = client.submit({"shell": "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 3"})
        daemon.wait_output(task["taskId"], b"one")
        results: dict[str, Any] = {}

        def follow() -> None:
            got = b""
            for chunk in client.iter_output(task, follow=True):
                results["begun"] = got = got + chunk
            results["output"] = got

        def hear() -> None:
            results["events"] = list(client.iter_events(task))

        def wait() -> None:
            results["task"] = client.wait(task)

        threads = [_meanwhile(each) for each in (follow, hear, wait)]
        wait_for(lambda: "begun" in results, "the output has begun to come")
        daemon.restart()
        daemon.restart()
        (daemon.work(task["taskId"]) / "go").touch()
        for thread in threads:
            thread.join(PATIENCE)
        assert results["output"] == b"one\ntwo\n"
        assert (results["task"]["outcome"], results["task"]["exitCode"]) == ("failed", 3)
        ids = [each["id"] for each in results["events"]]
        assert ids == sorted(set(ids))
        assert results["events"] == list(client.iter_events(task))


def test_no_event_is_missed_by_who_had_none_yet(kind: str, make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    with Proxy(daemon.url, lambda n: None) as proxy, client_of(kind, proxy.url, daemon.token) as client:
        first: list[Any] = []
        with client_of(kind, daemon.url, daemon.token) as other:
            thread = _meanwhile(lambda: first.append(next(client.iter_events())))
            wait_for(lambda: proxy.connections, "it listens")
            wait_for(lambda: proxy.answered, "it has been told where the stream begins")
            daemon.kill()
            daemon.start(wait=False)
            task = other.submit(["true"])  # long accepted when the listener comes back, or not: it hears of it
            thread.join(PATIENCE)
        assert first[0]["taskId"] == task["taskId"]
        assert first[0]["state"] == "pending"



def test_a_key_is_good_for_its_time_and_one_body(kind: str, make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(idempotency_seconds=1.0).start()
    with client_of(kind, daemon.url, daemon.token) as client:
        made = client.submit(["true"], "order-66")
        assert wait_for(lambda: client.submit(["true"], "order-66")["taskId"] != made["taskId"], "the key has expired")

        def conflicts(command: str) -> bool:
            try:
                client.submit([command], "order-66")
            except Conflict:
                return True
            return False

        # of two bodies in a row one is refused, unless the key of the first expires between them
        wait_for(lambda: conflicts("true") or conflicts("false"), "another body is refused")
        gone = client.submit(["true"], "order-67")
        client.wait(gone)
        client.delete(gone)
        try:
            assert client.submit(["true"], "order-67")["taskId"] != gone["taskId"]
        except ApiError as error:
            assert error.status in (404, 409)


# -- on its own


def test_a_keyed_request_is_not_repeated_longer_than_keys_are_remembered():
    link = Link(url="http://localhost", timeout=1, patience=10 * KEY_SECONDS, met=True)
    assert Outage(link, KEY_SECONDS)._seconds == KEY_SECONDS < 86_400


def test_both_clients_have_the_same_methods():
    names = [name for name in dir(Client) if not name.startswith("_")]
    assert len(names) > 30
    only_sync = {"close", "hear"}
    assert set(names) - only_sync == {name for name in dir(AsyncClient) if not name.startswith("_")} - {"aclose"}
    one, other = Client("http://127.0.0.1:1"), AsyncClient("http://127.0.0.1:1")
    for name in set(names) - only_sync - {"at", "files", "url", "local", "state_dir"}:
        mine, its = getattr(one, name), getattr(other, name)
        assert mine.__doc__ == its.__doc__ != None, name  # noqa: E711
        assert inspect.signature(mine) == inspect.signature(its)


def test_importing_the_client_loads_neither_http_nor_an_event_loop():
    code = (
        "import sys\nfrom task_runner.client import Client, find\n"
        "heavy = {'httpx', 'asyncio', 'concurrent.futures', 'pydantic', 'starlette', 'random'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "Client('http://127.0.0.1:1').close()\n"
        "assert 'httpx' not in sys.modules\n"
    )
    env = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=PATIENCE, env=env, cwd=ROOT)
    for name in library.__all__:
        assert getattr(library, name).__name__ == name


def test_many_tasks_of_a_loop_share_one_client(shared: Daemon):
    async def scene() -> list[int | None]:
        async with AsyncClient(shared.url, shared.token) as client:
            results = await asyncio.gather(*(client.run({"shell": f"exit {code}"}) for code in range(20)))
            task = await client.submit(["sleep", "1000"])
            waiting = asyncio.ensure_future(client.wait(task))
            async for event in client.iter_events(task):
                if event["state"] == "running":
                    break
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.stop(task, wait=PATIENCE))["outcome"] == "cancelled"
            return [each.exit_code for each in results]

    assert asyncio.run(scene()) == list(range(20))


def test_many_threads_share_one_client(shared: Daemon):
    with Client(shared.url, shared.token) as client:
        codes: dict[int, int | None] = {}
        threads = [_meanwhile(lambda n=n: codes.update({n: client.run({"shell": f"exit {n}"}).exit_code}))
                   for n in range(12)]
        for thread in threads:
            thread.join(PATIENCE)
    assert codes == {n: n for n in range(12)}
