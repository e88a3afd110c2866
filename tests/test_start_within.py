"""`startWithinSeconds`: a task that is not started in time ends, having never run. Its rules are in test_queue.py."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Daemon, Run, wait_for
from test_service import World, in_world

from task_runner.errors import StorageFull
from task_runner.model.state import Outcome, State
from task_runner.service.batchform import parse_batch
from task_runner.service.waiting import UNCONSIDERED

SETTINGS = {"pools": '{"one": 1}'}
REASON = "it was not started within 5 s: pool one: 1 of 1 places are taken"


# -- on a service whose clock is the test's


async def occupied(made: World) -> str:
    """A task that holds the one place there is, and runs."""
    task_id = await made.submit("sleep", pools=["one"])
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    return task_id


async def late(made: World, **more: object) -> str:
    """A task whose time to start is about to be over."""
    task_id = await made.submit("sleep", pools=["one"], startWithinSeconds=5, **more)
    made.clock.now += 6
    made.clock.boot += 6
    return task_id


@in_world(pools={"one": 1})
async def test_it_ends_timed_out_and_nothing_of_it_was_started(made):
    first = await occupied(made)
    task_id = await late(made)
    made.service.queue.fill()
    task = await made.over(task_id)
    assert (task.record.state, task.record.outcome, task.record.error) == (State.EXITED, Outcome.TIMED_OUT, REASON)
    assert (task.record.status, task.record.attempt) == (None, 1)
    made.environment.finish(first)
    await made.over(first)
    assert [launch.task_id for launch in made.environment.launches] == [first]
    assert task_id not in made.environment.known()
    # it is so for the next daemon, too
    await made.replace_daemon()
    assert made.service.get(task_id).record == task.record


@in_world(pools={"one": 1})
async def test_a_time_that_runs_out_while_no_daemon_runs_is_over(made):
    first = await occupied(made)
    task_id = await made.submit("sleep", pools=["one"], startWithinSeconds=5)
    made.clock.now += 6
    await made.replace_daemon()
    made.environment.finish(first)
    task = await made.over(task_id)
    assert task.record.outcome is Outcome.TIMED_OUT
    assert task.record.error == "it was not started within 5 s: its time was over before this daemon could consider it"
    assert [launch.task_id for launch in made.environment.launches] == [first]


@in_world(pools={"one": 1})
async def test_a_new_daemon_gives_it_what_is_left(made):
    await occupied(made)
    task_id = await made.submit("sleep", pools=["one"], startWithinSeconds=10)
    made.clock.now += 6
    await made.replace_daemon()
    made.clock.boot += 3.9
    made.service.queue.fill()
    assert made.state(task_id) is State.PENDING
    made.clock.boot += 0.2
    made.service.queue.fill()
    assert (await made.over(task_id)).record.outcome is Outcome.TIMED_OUT


@in_world(pools={"one": 1})
async def test_a_stop_at_the_same_moment_leaves_one_ending(made):
    await occupied(made)
    task_id = await late(made)
    made.service.queue.fill()
    await made.service.control.stop(task_id)
    task = await made.over(task_id)
    assert task.record.outcome in (Outcome.TIMED_OUT, Outcome.CANCELLED)
    assert made.service.store.get(task_id).record == task.record
    finals = [event for event in made.service.store.events(0, task_id, 100) if event.data["outcome"]]
    assert len(finals) == 1


@in_world(pools={"one": 1})
async def test_another_time_at_the_same_moment_is_kept_or_refused(made):
    """Whoever is first: a task that has got another time is not ended by the old one."""
    await occupied(made)
    task_id = await late(made)
    change = asyncio.ensure_future(made.service.control.reschedule(task_id, made.clock.now + 100))
    await asyncio.sleep(0)  # it has begun
    made.service.queue.fill()
    await change
    for _ in range(3):
        made.service.queue.fill()
        await asyncio.sleep(0.01)
    assert made.state(task_id) is State.SCHEDULED
    made.clock.now += 101
    made.clock.boot += 101
    made.service.queue.fill()
    await made.until(lambda: made.state(task_id) is State.PENDING)
    assert made.service.queue.reason(made.service.get(task_id))

    def is_over_after_a_while() -> bool:
        made.clock.boot += 6  # again and again: its time may begin to count a moment after it is seen to be pending
        made.service.queue.fill()
        return made.state(task_id) is State.EXITED

    await made.until(is_over_after_a_while)
    assert (await made.over(task_id)).record.error == REASON


@in_world(pools={"one": 1})
async def test_a_store_that_is_full_ends_it_later_and_it_does_not_start_meanwhile(made):
    first = await occupied(made)
    task_id = await late(made)
    write = made.service.book.backlog.write

    async def full(_ops: object) -> None:
        raise StorageFull("no space")

    made.service.book.backlog.write = full
    made.service.queue.fill()
    await asyncio.sleep(0.01)
    assert made.state(task_id) is State.PENDING
    made.environment.finish(first)
    await made.until(lambda: made.service.queue.running == set())
    made.service.queue.fill()
    assert made.service.queue.reason(made.service.get(task_id)) == f"it is being ended: {REASON}"
    made.service.book.backlog.write = write
    made.clock.boot += 60
    made.service.queue.fill()
    assert (await made.over(task_id)).record.outcome is Outcome.TIMED_OUT
    assert [launch.task_id for launch in made.environment.launches] == [first]


@in_world(pools={"one": 1})
async def test_it_can_be_tried_again_by_request_and_has_its_whole_time(made):
    first = await occupied(made)
    task_id = await late(made, retry={"count": 3})
    made.service.queue.fill()
    task = await made.over(task_id)
    assert task.record.attempt == 1  # `retry` is for attempts that ran
    await made.service.control.retry(task_id)
    made.clock.boot += 4
    made.clock.now += 4
    made.service.queue.fill()
    assert made.state(task_id) is State.PENDING
    made.environment.finish(first)
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    assert made.service.get(task_id).record.previous[0].error == REASON


@in_world(pools={"one": 1})
async def test_a_batch_counts_it_as_failed(made):
    await occupied(made)
    body = {"tasks": [{"command": ["sleep"], "pools": ["one"], "startWithinSeconds": 5}] * 2}
    batch_id, _repeated = await made.service.submit_batch(parse_batch(body, made.service.expand))
    made.clock.boot += 5
    made.service.queue.fill()
    await made.service.batches.wait(batch_id, 60)
    shown = made.service.batches.show(made.service.batches.get(batch_id))
    assert (shown["numTasksOk"], shown["numTasksFailed"], shown["numTasksCancelled"]) == (0, 2, 0)


# -- as a client sees it

#: seconds: what is asked for counts from the request on, and a disk that stands still for a while may use up the first
LIMITS = (0.3, 5, 30)


@pytest.fixture
def full_pool(shared: Daemon) -> Any:
    task_id = shared.submit("sleep", "600", pools=["one"])
    shared.wait_state(task_id, "running")
    yield shared
    shared.post(f"/v1/tasks/{task_id}/stop")
    shared.wait(task_id)


def test_its_task_says_that_it_never_ran_and_who_waits_for_it_is_told(full_pool: Daemon) -> None:
    for within in LIMITS:
        task_id = full_pool.submit("true", pools=["one"], startWithinSeconds=within)
        needs_it = full_pool.submit("true", after=[{"task": task_id}])
        bears_it = full_pool.submit("true", after=[{"task": task_id, "on": "end"}])
        task = full_pool.wait(task_id)
        if UNCONSIDERED not in task["error"]:
            break
    facts = {key: task[key] for key in ("state", "outcome", "startedAt", "exitCode", "signal", "receipt", "attempt")}
    assert facts == {
        "state": "exited",
        "outcome": "timed_out",
        "startedAt": None,
        "exitCode": None,
        "signal": None,
        "receipt": None,
        "attempt": 1,
    }
    assert task["error"] == f"it was not started within {within} s: pool one: 1 of 1 places are taken"
    assert task["spec"]["startWithinSeconds"] == within
    assert not os.path.exists(full_pool.state.tasks.attempt(task_id, 1).status)
    assert full_pool.wait(bears_it)["outcome"] == "succeeded"
    fallen = full_pool.wait(needs_it)
    assert (fallen["outcome"], fallen["error"]) == (
        "cancelled", f"task {task_id}, which it waits for, ended timed_out",
    )  # fmt: skip
    words = full_pool.http.get(f"/v1/tasks/{task_id}/explain").json()["summary"]
    assert f"It was not started within {within} s: pool one: 1 of 1 places are taken." in words


@pytest.mark.parametrize("value", [0, -1, "soon", 1e12, True])
def test_a_time_that_makes_no_sense_is_refused(shared: Daemon, value: Any) -> None:
    assert list(shared.refusal(command=["true"], startWithinSeconds=value)) == ["startWithinSeconds"]


def test_a_killed_daemon_does_not_stop_its_clock(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(pools='{"one": 1}').start()
    first = daemon.submit("sleep", "600", pools=["one"])
    daemon.wait_state(first, "running")
    over, long = (daemon.submit("true", pools=["one"], startWithinSeconds=each) for each in (0.3, 600))
    accepted = time.monotonic()
    daemon.kill()
    wait_for(lambda: time.monotonic() - accepted > 0.4, "its time is over")
    daemon.restart()
    assert daemon.wait(over)["outcome"] == "timed_out"
    assert daemon.task(long)["state"] == "pending"
    daemon.post(f"/v1/tasks/{first}/stop")
    assert daemon.wait(long)["outcome"] == "succeeded"
    with sqlite3.connect(daemon.state_dir / "tasks.db") as store:
        assert store.execute("SELECT outcome FROM tasks WHERE id = ?", (over,)).fetchone() == ("timed_out",)


def test_run_says_why_and_ends_as_for_a_time_limit(task_runner: Run, daemon: Daemon) -> None:
    assert task_runner("drain").returncode == 0
    for within in LIMITS:
        done = task_runner("run", "--start-within", f"{within}s", "true")
        if UNCONSIDERED not in done.stderr:
            break
    assert done.returncode == 124
    assert f"it was not started within {within} s: the daemon is draining" in done.stderr
