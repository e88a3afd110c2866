"""TaskExecutor: a concurrent.futures.Executor over commands, against a real daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, as_completed, wait
from contextlib import contextmanager
from typing import Any

import pytest
from clients import Proxy
from conftest import PATIENCE, Daemon, wait_for

from task_runner.client import Client, ConnectionFailed, NotFound, TaskExecutor
from task_runner.client import executor as module
from task_runner.client.discovery import find
from task_runner.client.futures import TaskFuture, TaskResult
from task_runner.client.ledger import Ledger

LINGER = {"shell": "while [ ! -e go ]; do sleep 0.05; done"}


@pytest.fixture
def client(shared: Daemon) -> Iterator[Client]:
    with Client(shared.url, shared.token) as made:
        yield made


@pytest.fixture
def narrow(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that runs one task at a time."""
    return make_daemon(max_running=1).start()


@contextmanager
def executing(client: Client, **spec: Any) -> Iterator[TaskExecutor]:
    """An executor that is shut down; but a test that fails does not wait for its tasks."""
    executor = TaskExecutor(client, **spec)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False)
        raise
    with executor:
        pass  # it ends as everybody ends it


def watchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("tasks of ")]


def test_a_future_is_resolved_with_how_the_task_ended(client: Client):
    with executing(client, tags={"by": "test"}) as executor:
        good = executor.submit(["echo", "hello"], timeout_seconds=60)
        bad = executor.submit({"shell": "echo why; exit 3"}, name="bad", tags={"more": "x"})
        assert (good.result(PATIENCE).ok, good.result().output()) == (True, b"hello\n")
        result = bad.result(PATIENCE)
    assert (result.outcome, result.exit_code, result.signal, result.output()) == ("failed", 3, None, b"why\n")
    assert result.task_id == bad.task_id
    task = client.get(bad.task_id)
    assert (task["name"], task["tags"]) == ("bad", {"executor": executor.name, "by": "test", "more": "x"})
    assert isinstance(good, Future)
    assert not watchers()


def test_the_output_of_a_local_task_has_a_path(shared: Daemon):
    env = {"TASK_RUNNER_STATE_DIR": str(shared.state_dir), "TASK_RUNNER_URL": shared.url}
    (shared.state_dir / "address.json").write_text(f'{{"url": "{shared.url}", "pid": 1}}')
    with Client.at(find(env=env)) as client, executing(client) as executor:
        result = executor.submit({"shell": "echo x; exit $((3 - TASK_RUNNER_ATTEMPT))"}, retry={"count": 2}).result()
        assert (result.attempt, result.ok) == (3, True)
        path = result.output_path()
        assert path is not None
        assert path.read_bytes() == result.output() == b"x\n"
        assert result.output_path("stderr") is None
    with Client(shared.url, shared.token) as stranger, executing(stranger) as executor:
        assert executor.submit(["true"]).result().output_path() is None


def test_map_gives_results_in_order(client: Client):
    with executing(client) as executor:
        found = executor.map([["sh", "-c", f"exit {code}"] for code in range(7)], chunksize=3)
        assert [each.exit_code for each in found] == list(range(7))
        assert list(executor.map([])) == []
        late = executor.map([["sleep", "1000"]], timeout=0.05)
        with pytest.raises(TimeoutError):
            next(late)
        for task in client.list(tag=f"executor={executor.name}", state="running,starting,pending"):
            client.stop(task, grace=0)


def test_as_completed_and_wait_know_its_futures(client: Client):
    with executing(client) as executor:
        futures = {executor.submit({"shell": f"exit {code}"}): code for code in range(5)}
        assert {futures[each]: each.result().exit_code for each in as_completed(futures, PATIENCE)} == {
            code: code for code in range(5)
        }
        assert not wait(futures).not_done


@pytest.mark.parametrize("work", [print, lambda: 1, "make test", b"x", 7, ["a", 1]])
def test_what_is_no_command_is_a_type_error(client: Client, work: Any):
    with executing(client) as executor:
        with pytest.raises(TypeError, match="command"):
            executor.submit(work)
        with pytest.raises(TypeError, match="command"):
            list(executor.map([work]))
    with executing(client) as executor, pytest.raises(TypeError, match="Python code"):
        executor.map(print, [1])  # type: ignore[arg-type]
    assert not watchers()


def test_only_what_has_not_started_is_cancelled(narrow: Daemon):
    with Client(narrow.url, narrow.token) as client, executing(client) as executor:
        first = executor.submit(LINGER)
        second, third = executor.submit(["true"]), executor.submit(["true"])
        narrow.wait_state(first.task_id, "running")
        wait_for(first.running, "the future knows")
        assert not first.cancel()
        told: list[TaskFuture] = []
        second.add_done_callback(told.append)
        assert second.cancel()
        assert second.cancel()
        assert second.cancelled()
        wait_for(lambda: told, "the callback has been called, by whichever thread heard of the end first")
        assert told == [second]
        with pytest.raises(CancelledError):
            second.result()
        task = client.get(second.task_id)
        assert (task["state"], task["outcome"], task["startedAt"]) == ("exited", "cancelled", None)
        (narrow.work(first.task_id) / "go").touch()
        assert first.result(PATIENCE).ok
        assert third.result(PATIENCE).ok
        assert not third.cancel()


def test_a_cancel_is_told_also_where_the_listening_thread_has_heard_of_the_end_first(narrow: Daemon, monkeypatch: pytest.MonkeyPatch):
    heard, answered = threading.Event(), threading.Event()
    with Client(narrow.url, narrow.token) as client, executing(client) as executor:
        first, second = executor.submit(LINGER), executor.submit(["true"])
        narrow.wait_state(first.task_id, "running")
        stop, resolve, tell = client.stop, executor._resolve, executor._tell
        asking = threading.current_thread()

        def stop_late(*given: Any, **more: Any) -> Any:
            known = stop(*given, **more)
            assert heard.wait(PATIENCE)
            return known

        def resolve_late(*given: Any) -> None:
            heard.set()
            assert answered.wait(PATIENCE)
            resolve(*given)

        def say_and_tell() -> None:
            tell()
            if threading.current_thread() is asking:
                answered.set()

        with monkeypatch.context() as patched:
            patched.setattr(client, "stop", stop_late)
            patched.setattr(executor, "_resolve", resolve_late)
            patched.setattr(executor, "_tell", say_and_tell)
            assert second.cancel()
        (narrow.work(first.task_id) / "go").touch()
        assert first.result(PATIENCE).ok


def test_shutdown_can_cancel_what_waits(narrow: Daemon):
    with Client(narrow.url, narrow.token) as client:
        executor = TaskExecutor(client)
        first, second = executor.submit(LINGER), executor.submit(["true"])
        narrow.wait_state(first.task_id, "running")
        executor.shutdown(wait=False, cancel_futures=True)
        assert second.cancelled()
        assert not first.done()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(["true"])
        (narrow.work(first.task_id) / "go").touch()
        assert first.result(PATIENCE).ok
        wait_for(lambda: not watchers(), "nobody listens any more")


def test_what_somebody_else_stops_or_removes_is_over(client: Client):
    with executing(client) as executor:
        stopped, removed = executor.submit(LINGER), executor.submit({"command": ["true"], "executeAt": 4e9})
        client.stop(stopped.task_id, grace=0)
        client.delete(removed.task_id)
        assert stopped.result(PATIENCE).outcome == "cancelled"
        assert removed.result(PATIENCE).outcome == "cancelled"
        assert not stopped.cancelled()  # not by this executor
        with pytest.raises(NotFound):
            removed.result().output()


def test_an_end_that_was_never_told_is_found_by_looking(client: Client, monkeypatch: pytest.MonkeyPatch):
    over = client.wait(client.submit({"shell": "exit 3"}))["taskId"]
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOOK_SHARE", 0)
    with executing(client) as executor:
        live = executor.submit(LINGER)
        missed, gone = TaskFuture(executor._cancel), TaskFuture(executor._cancel)
        # as if their events had been removed while the connection was away
        executor._ledger.entered(executor._ledger.begin(), {over: missed, "f" * 16: gone})
        executor.submit(["true"]).result(PATIENCE)  # its events are signs of life, and with them comes the look
        assert missed.result(PATIENCE).exit_code == 3
        assert isinstance(gone.exception(PATIENCE), NotFound)
        assert not live.done()
        client.stop(live.task_id, grace=0)


def test_a_callback_may_submit(client: Client):
    with executing(client) as executor:
        followers: list[TaskFuture] = []
        first = executor.submit(["true"])
        first.add_done_callback(lambda _done: followers.append(executor.submit({"shell": "exit 9"})))
        assert first.result(PATIENCE).ok
        wait_for(lambda: followers, "the callback has been called")
        assert followers[0].result(PATIENCE).exit_code == 9


def test_futures_live_through_the_death_of_the_daemon(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    with Client(daemon.url, daemon.token) as client, executing(client) as executor:
        futures = [executor.submit(LINGER, name=str(n)) for n in range(5)]
        for each in futures:
            daemon.wait_state(each.task_id, "running")
        daemon.kill()
        for each in futures[:3]:
            (daemon.work(each.task_id) / "go").touch()  # they end while nobody is there to tell
        daemon.start()
        for each in futures[:3]:
            assert each.result(PATIENCE).ok
        daemon.restart()
        for each in futures[3:]:
            (daemon.work(each.task_id) / "go").touch()
            assert each.result(PATIENCE).exit_code == 0


def test_futures_fail_when_the_daemon_stays_away(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    with Proxy(daemon.url) as proxy:
        client = Client(proxy.url, daemon.token, patience=0.3)
        executor = TaskExecutor(client)
        future = executor.submit(LINGER)
    assert isinstance(future.exception(PATIENCE), ConnectionFailed)
    with pytest.raises(BrokenExecutor):
        executor.submit(["true"])
    executor.shutdown()
    client.close()
    assert daemon.task(future.task_id)["outcome"] is None


def test_connections_that_break_lose_no_future(client: Client, shared: Daemon):
    with (
        Proxy(shared.url, lambda n: 700 + 300 * n if n < 12 else None) as proxy,
        Client(proxy.url, shared.token) as shaky, executing(shaky) as executor,
    ):
        futures = [executor.submit({"shell": f"exit {n % 5}"}) for n in range(30)]
        assert [each.result(PATIENCE).exit_code for each in futures] == [n % 5 for n in range(30)]
    assert len(list(client.list(tag=f"executor={executor.name}"))) == 30


def test_many_futures_need_one_thread_and_one_stream(client: Client, request: pytest.FixtureRequest):
    many = 10_000 if request.config.getoption("--long") else 300
    with executing(client) as executor:
        before = threading.active_count()
        results = executor.map([["true"]] * many, chunksize=100)
        assert len(watchers()) == 1
        assert threading.active_count() <= before + 1
        assert all(each.ok for each in results)
        assert len(executor._ledger) == 0
        assert not executor._ledger._early


# -- the books


def event(task_id: str, state: str) -> dict[str, str]:
    return {"taskId": task_id, "state": state}


def test_an_end_that_overtakes_the_answer_to_the_submit_is_not_lost():
    books: Ledger[str] = Ledger()
    assert books.heard(event("before", "exited")) == (None, True)
    first, second = books.begin(), books.begin()
    for task_id in ("stranger", "a", "b"):
        books.heard(event(task_id, "exited"))
    books.heard(event("a", "running"))
    assert books.entered(first, {"a": "A"}) == [("A", event("a", "exited"))]
    assert books.entered(second, {"b": "B", "c": "C"}) == [("B", event("b", "exited"))]
    assert not books._early
    assert books.heard(event("c", "running")) == ("C", False)
    assert books.heard(event("c", "exited")) == ("C", True)
    assert books.heard(event("c", "exited")) == (None, True)
    assert len(books) == 0


def test_strangers_are_forgotten_as_soon_as_no_submit_can_be_about_them():
    books: Ledger[str] = Ledger()
    old = books.begin()
    books.heard(event("x", "lost"))
    young = books.begin()
    books.heard(event("y", "exited"))
    books.entered(old, {})
    assert [known["taskId"] for _, known in books._early] == ["y"]
    books.entered(young, {})
    assert not books._early


def test_a_result_says_how_it_ended():
    result = TaskResult(task_id="a", outcome="failed", exit_code=None, signal="SIGKILL", attempt=1, _client=None)  # type: ignore[arg-type]
    assert result.ending == "failed, SIGKILL"
    assert "_client" not in repr(result)
