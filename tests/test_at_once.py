"""Requests that meet at the same moment: none of them is lost, and none leaves half of a task behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from conftest import Daemon, wait_for
from test_service import World, in_world

from task_runner.errors import Conflict, NotFound
from task_runner.model.state import Outcome, State
from task_runner.service.batchform import parse_batch
from task_runner.service.validate import parse_spec


async def batch(made: World, count: int, **task: Any) -> tuple[str, list[str]]:
    """The ids of a batch and of its tasks."""
    order = parse_batch({"tasks": [{"command": ["sleep"], **task}] * count}, made.service.expand)
    batch_id, _repeated = await made.service.submit_batch(order)
    return batch_id, made.service.store.batch_task_ids(batch_id)


@in_world()
async def test_a_stop_is_not_lost_to_a_change_of_the_time(made):
    task_id = await made.submit("sleep", executeAt=made.clock.now + 1000)
    await asyncio.gather(made.service.control.reschedule(task_id, None), made.service.control.stop(task_id))
    assert (await made.over(task_id)).record.outcome is Outcome.CANCELLED
    assert made.environment.launches == []


@in_world()
async def test_a_stop_is_not_lost_in_the_moment_in_which_a_task_becomes_due(made):
    batch_id, ids = await batch(made, 50, executeAt=made.clock.now + 10)
    made.clock.now += 20
    tasks = [made.service.get(task_id) for task_id in ids]
    due = made.service.control.make_due(tasks)
    await asyncio.gather(due, made.service.batches.stop(batch_id, signal=None, grace=None, wait=5))
    for task_id in ids:
        assert (await made.over(task_id)).record.outcome is Outcome.CANCELLED


@in_world()
async def test_a_deletion_is_not_lost_in_the_moment_in_which_a_task_becomes_due(made):
    task_id = await made.submit("sleep", executeAt=made.clock.now + 10)
    made.clock.now += 20
    task = made.service.get(task_id)
    await asyncio.gather(made.service.control.make_due([task]), made.service.delete(task_id))
    await made.until(lambda: task.final and made.service.store.get(task_id) is None)
    assert made.environment.launches == []


@in_world()
async def test_a_task_that_is_being_deleted_cannot_be_tried_again(made):
    task_id = await made.submit("true")
    await made.over(task_id)
    deleted, retried = await asyncio.gather(
        made.service.delete(task_id), made.service.control.retry(task_id), return_exceptions=True
    )
    assert deleted is None
    assert isinstance(retried, NotFound)
    await made.until(lambda: made.service.store.get(task_id) is None)
    assert len(made.environment.launches) == 1


@in_world()
async def test_a_task_that_is_being_tried_again_is_stopped_and_deleted(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    made.environment.finish(task_id)
    await made.over(task_id)
    await asyncio.gather(made.service.control.retry(task_id), made.service.delete(task_id))
    await made.until(lambda: task_id not in made.service.book.active and made.service.store.get(task_id) is None)
    await made.until(lambda: made.environment.known() == [])


@in_world()
async def test_what_is_just_starting_when_its_batch_is_paused_is_paused_as_soon_as_it_runs(made):
    made.environment.swallow = True
    batch_id, (task_id,) = await batch(made, 1)
    await made.until(lambda: made.state(task_id) is State.STARTING)
    await made.service.batches.pause(batch_id)
    made.environment.swallow = False
    made.environment.launch(made.environment.launches[0])
    await made.until(lambda: made.state(task_id) is State.PAUSED)
    await made.service.batches.resume(batch_id)
    await made.until(lambda: made.state(task_id) is State.RUNNING)


@in_world()
async def test_a_batch_that_is_paused_and_resumed_at_once_runs(made):
    batch_id, ids = await batch(made, 20)
    await made.until(lambda: all(made.state(task_id) is State.RUNNING for task_id in ids))
    await asyncio.gather(made.service.batches.pause(batch_id), made.service.batches.resume(batch_id))
    await asyncio.sleep(0)  # what was asked of the environment has been done
    assert {made.environment.look(task_id, 1).status.state for task_id in ids} == {State.RUNNING}
    await made.until(lambda: all(made.state(task_id) is State.RUNNING for task_id in ids))


@in_world(scan_seconds=1000)
async def test_looks_that_meet_tell_of_a_change_once(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    look = made.service.watch.look
    made.environment.pause(task_id, 1)
    await asyncio.sleep(0)
    first = [asyncio.create_task(look([task_id])) for _ in range(2)]
    await asyncio.sleep(0)
    made.environment.finish(task_id)
    second = asyncio.create_task(look([task_id]))
    await asyncio.gather(*first)
    await asyncio.gather(second, look([task_id]))
    await made.over(task_id)
    told = [json.loads(data) for (data,) in made.service.store.read(_events_of(task_id))]
    assert len([each for each in told if each["outcome"]]) == 1
    assert len([each for each in told if each["state"] == "paused"]) <= 1


def _events_of(task_id: str) -> tuple[str, tuple[str]]:
    return ("SELECT data FROM events WHERE task_id = ? ORDER BY seq", (task_id,))


def test_a_task_that_was_starting_when_the_daemon_died_is_paused_with_its_batch(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT="watch.before-note")
    with contextlib.suppress(httpx.TransportError):
        daemon.post("/v1/batches", {"tasks": [{"command": ["sleep", "600"]}] * 3})
    daemon.wait_dead()
    daemon.restart()
    (listed,) = daemon.http.get("/v1/batches").json()
    daemon.post(f"/v1/batches/{listed['batchId']}/pause")
    held = wait_for(
        lambda: (states := daemon.http.get(f"/v1/batches/{listed['batchId']}").json()["states"])
        and set(states) <= {"paused", "pending"}
        and states,
        "none of it runs",
    )
    assert sum(held.values()) == 3


@in_world()
async def test_a_repeated_request_is_answered_though_it_would_be_refused_by_now(made):
    first = await made.submit("true")
    await made.over(first)
    spec = parse_spec({"command": ["true"], "after": [{"task": first}]})
    accepted = await made.service.submit(spec, key="once")
    await made.over(accepted.task.id)
    await made.service.delete(first)
    again = await made.service.submit(spec, key="once")
    assert (again.task.id, again.repeated) == (accepted.task.id, True)


def test_the_order_of_names_does_not_make_another_body(shared: Daemon) -> None:
    headers = {"Idempotency-Key": "names", "Content-Type": "application/json"}
    bodies = (
        '{"command": ["true"], "tags": {"a": "1", "b": "2"}, "metadata": {"x": {"y": 1, "z": 2}}}',
        '{"metadata": {"x": {"z": 2, "y": 1}}, "tags": {"b": "2", "a": "1"}, "command": ["true"]}',
    )
    first, second = (shared.http.post("/v1/tasks", content=body, headers=headers) for body in bodies)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["taskId"] == second.json()["taskId"]


@in_world()
async def test_a_paused_task_takes_no_signal_that_would_let_a_part_of_it_run(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    made.service.control.pause(task_id)
    await made.until(lambda: made.state(task_id) is State.PAUSED)
    with pytest.raises(Conflict, match="resume it"):
        made.service.control.signal(task_id, signal.SIGCONT)


def test_a_long_cycle_is_told_in_short(shared: Daemon) -> None:
    count = 3000
    tasks = [
        {"command": ["true"], "name": f"t{n}", "after": [{"task": f"t{(n + 1) % count}"}]} for n in range(count)
    ]
    response = shared.post("/v1/batches", {"tasks": tasks})
    assert response.status_code == 400
    (fault,) = response.json()["errors"]
    assert fault["message"].startswith("it would wait for itself: tasks.0 waits for tasks.1 waits for")
    assert "2991 more" in fault["message"]
    assert len(fault["message"]) < 500
