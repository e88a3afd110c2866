"""What is kept of finished tasks: by age, number and size; and the quota over all output."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import PATIENCE, ROOT, Daemon, wait_for
from test_service import World, in_world

from task_runner.environment.memory import MemoryEnvironment
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.errors import NotFound, Refused
from task_runner.lib import diskuse
from task_runner.lib.clock import stamp
from task_runner.model.state import Outcome, State
from task_runner.service import kept, retention
from task_runner.service import settings as settings_module
from task_runner.service.node import node_json
from task_runner.service.store import Query, Store

DAY = 86_400.0


async def left(made: World) -> list[str]:
    """The ids of all tasks once nothing more is to be removed."""
    while await made.service.retention.tidy():
        pass
    return [task.id for task in await made.service.page(Query())]


async def ended(made: World, command: str = "true", *, size: int = 0, **more: object) -> str:
    task_id = await made.submit(command, **more)
    made.environment.output_bytes[task_id, 1] = size  # before its end: the service may measure it from then on
    await made.over(task_id)
    made.clock.now += 1
    return task_id


async def cancelled(made: World, **more: object) -> str:
    task_id = await made.submit("sleep", **more)
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    await made.service.control.stop(task_id)
    await made.over(task_id)
    made.clock.now += 1
    return task_id


# -- age


@in_world(keep_finished_seconds=DAY, keep_outcome_seconds={"failed": 10 * DAY, "cancelled": 60.0})
async def test_each_outcome_has_its_own_age(made):
    good, bad, stopped = await ended(made), await ended(made, "false"), await cancelled(made)
    assert await left(made) == [good, bad, stopped]
    made.clock.now += 100
    assert await left(made) == [good, bad]
    made.clock.now += DAY
    assert await left(made) == [bad]
    made.clock.now += 10 * DAY
    assert await left(made) == []
    assert made.environment.known() == []


@in_world(keep_finished_seconds=DAY, keep_outcome_seconds={"failed": 2 * DAY})
async def test_what_a_task_says_itself_wins_in_both_directions(made):
    brief = await ended(made, "false", keepSeconds=60)
    usual = await ended(made)
    long = await ended(made, keepSeconds=100 * DAY)
    made.clock.now += 30
    assert await left(made) == [brief, usual, long]
    made.clock.now += 60
    assert await left(made) == [usual, long]
    made.clock.now += 99 * DAY
    assert await left(made) == [long]
    made.clock.now += 2 * DAY
    assert await left(made) == []


@in_world(keep_finished_seconds=DAY)
async def test_a_task_that_is_to_be_kept_for_no_time_goes_at_once(made):
    await ended(made, keepSeconds=0)
    assert await left(made) == []


# -- number and size


@in_world(keep_finished_count=1, keep_finished_seconds=DAY)
async def test_the_number_stands_above_what_a_task_says_itself(made):
    await ended(made, keepSeconds=100 * DAY)
    newest = await ended(made)
    assert await left(made) == [newest]


@in_world(keep_finished_bytes=1000, keep_finished_seconds=DAY)
async def test_beyond_the_size_the_oldest_go_until_it_fits(made):
    first, second = await ended(made, size=600, keepSeconds=100 * DAY), await ended(made, size=300)
    await made.service.disk.measure()
    assert await left(made) == [first, second]
    third = await ended(made, size=500)
    await made.service.disk.measure()
    assert await left(made) == [second, third]
    large = await ended(made, size=1001)
    await made.service.disk.measure()
    assert await left(made) == []
    assert large not in made.environment.known()


@in_world(keep_finished_bytes=1000)
async def test_a_task_that_ran_again_is_measured_again(made):
    task_id = await ended(made, size=600)
    await made.service.disk.measure()
    await made.service.control.retry(task_id)
    made.environment.output_bytes[task_id, 2] = 200
    assert made.service.store.read(kept.bytes_sum()) == [(0,)]
    await made.over(task_id)
    await made.service.disk.measure()
    assert made.service.store.read(kept.bytes_sum()) == [(800,)]


@in_world()
async def test_what_was_measured_late_is_not_noted_of_a_task_that_runs(made):
    task_id = await ended(made)
    made.environment.swallow = True
    await made.service.control.retry(task_id)
    await made.service.book.write([kept.measured(task_id, 5, 5)])
    assert made.service.store.read(kept.bytes_sum()) == [(0,)]


# -- tasks that others wait for


@in_world(keep_finished_seconds=60, max_running=1)
async def test_a_task_that_another_waits_for_stays_and_hides_nothing(made):
    awaited = [await ended(made) for _ in range(3)]
    others = [await ended(made) for _ in range(3)]
    busy = await made.submit("sleep")
    await made.until(lambda: made.state(busy) is State.RUNNING)
    waiting = await made.submit("true", after=[{"task": each} for each in awaited])
    made.clock.now += 1000
    with mock.patch.object(retention, "SLICE", 2):
        assert await left(made) == [*awaited, busy, waiting]
        assert set(others).isdisjoint(made.environment.known())
        made.environment.finish(busy)
        assert (await made.over(waiting)).record.outcome is Outcome.SUCCEEDED
        made.clock.now += 1000
        assert await left(made) == []


@in_world(keep_finished_seconds=60)
async def test_a_task_that_is_being_removed_cannot_be_tried_again(made):
    task_id = await ended(made)
    made.clock.now += 1000
    reached, go_on = threading.Event(), threading.Event()

    def slowly(_self: object, _task_id: str) -> None:
        reached.set()
        go_on.wait(PATIENCE)

    with mock.patch.object(MemoryEnvironment, "discard", slowly):
        tidying = asyncio.ensure_future(made.service.retention.tidy())
        await made.until(reached.is_set)
        try:
            with pytest.raises(NotFound):
                await made.service.control.retry(task_id)
        finally:
            go_on.set()
        assert await tidying == 1
    assert made.service.store.get(task_id) is None


@in_world(keep_finished_seconds=60)
async def test_a_task_that_is_tried_again_is_not_removed(made):
    task_id = await ended(made)
    made.clock.now += 1000
    made.environment.swallow = True
    made.service.book.take_up(made.service.get(task_id))  # as a retry does before the store has it
    assert await left(made) == [task_id]
    await made.service.control.retry(task_id)
    assert await left(made) == [task_id]


# -- the cost


def test_every_look_up_goes_by_an_index(tmp_path: Path):
    store = Store(str(tmp_path / "tasks.db"))
    store.open()
    store.close()
    look_ups = {
        "tasks_active": kept.hidden(10),
        "tasks_expiry": kept.aged("failed", stamp(0), 10),
        "tasks_keep": kept.run_out(stamp(0), 10),
        "tasks_finished": kept.oldest(10),
        "COVERING INDEX tasks_bytes": kept.bytes_sum(),
        "INDEX tasks_bytes": kept.bytes_oldest(10),
        "COVERING INDEX tasks_output": kept.output_sum(),
        "INDEX tasks_output": kept.output_oldest(10),
        "tasks_measure": kept.unmeasured(10),
        "COVERING INDEX tasks_outcome": kept.count(),
    }
    with sqlite3.connect(store.path) as db:
        for index, (sql, values) in look_ups.items():
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            assert index in plan, (sql, plan)
            assert "TEMP B-TREE" not in plan, (sql, plan)
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {kept.span()[0]}"))
        assert plan.count("SEARCH tasks") == 2, plan
    db.close()


CLOSE_IN_THE_MIDDLE = """
import sys, threading
from task_runner.service.store import Store
store = Store(sys.argv[1])
store.open()
slow = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000) SELECT count(*) FROM c"
found = []
look_up = threading.Thread(target=lambda: found.append(store.read((slow, ()))))
look_up.start()
while not store._readers:
    pass
store.close()
look_up.join()
assert found == [[(1000000,)]], found
"""


def test_the_store_is_not_closed_in_the_middle_of_a_look_up(tmp_path: Path):
    # in a process of its own, for it may crash
    command = [sys.executable, "-c", CLOSE_IN_THE_MIDDLE, str(tmp_path / "tasks.db")]
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0 or b"closed database" in done.stderr, done


# -- the quota


async def looked(made: World) -> None:
    """Return when the service has had its own look at the quota: the next is an hour away."""
    await made.until(lambda: made.service.disk.output_bytes is not None)


@in_world(output_quota_bytes=1000, scan_seconds=3600)
async def test_over_the_quota_the_oldest_output_is_freed_and_the_tasks_stay(made):
    await looked(made)
    first, second = await ended(made, size=600), await ended(made, size=600)
    await made.service.disk.check_quota(1000)
    assert made.environment.output_bytes == {(second, 1): 600}
    assert [task.id for task in await made.service.page(Query())] == [first, second]
    assert node_json(made.service)["outputQuota"] == {"bytes": 1000, "used": 600}
    await made.service.disk.check_quota(1000)
    assert made.environment.output_bytes == {(second, 1): 600}


@in_world(output_quota_bytes=1000, scan_seconds=3600)
async def test_while_running_tasks_are_over_the_quota_nothing_new_starts(made):
    await looked(made)
    running = await made.submit("sleep")
    await made.until(lambda: made.state(running) is State.RUNNING)
    made.environment.output_bytes[running, 1] = 5000
    await made.service.disk.check_quota(1000)
    waiting = await made.submit("true")
    assert made.state(waiting) is State.PENDING
    reason = made.service.queue.reason(made.service.get(waiting))
    assert "5000 bytes of the 1000 that are allowed (output_quota_bytes)" in reason
    assert made.state(running) is State.RUNNING
    made.environment.finish(running)
    await made.over(running)
    await made.service.disk.check_quota(1000)
    await made.over(waiting)


@in_world(output_quota_bytes=1000, scan_seconds=3600)
async def test_output_that_cannot_be_freed_closes_the_queue(made):
    await looked(made)
    await ended(made, size=5000)
    with mock.patch.object(MemoryEnvironment, "drop_output", side_effect=PermissionError("no")):
        await made.service.disk.check_quota(1000)
        waiting = await made.submit("true")
        assert "output_quota_bytes" in made.service.queue.reason(made.service.get(waiting))
    await made.service.disk.check_quota(1000)
    await made.over(waiting)


def writes(megabytes: int, and_then: str = "") -> list[str]:
    return ["sh", "-c", f"head -c {megabytes * 1_000_000} /dev/urandom; {and_then}"]


def quota(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.http.get("/v1/node").json()["outputQuota"])


def test_freed_output_is_told_of_and_newer_output_is_whole(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(output_quota_bytes=3_500_000).start()
    old = daemon.wait(daemon.submit(*writes(2)))
    new = daemon.wait(daemon.submit(*writes(2)))
    wait_for(lambda: daemon.http.get(f"/v1/tasks/{old['taskId']}/output").status_code == 404, "it is freed")
    gone = daemon.http.get(f"/v1/tasks/{old['taskId']}/output")
    assert "2000000 bytes, is not kept any more" in gone.json()["detail"]
    assert "output_quota_bytes" in gone.json()["detail"]
    assert daemon.task(old["taskId"])["output"] == old["output"]
    assert len(daemon.output(new["taskId"])) == 2_000_000
    assert quota(daemon)["bytes"] == 3_500_000
    # of the last look: the one that has freed it counts anew when the store has taken that
    wait_for(lambda: 2_000_000 <= (quota(daemon)["used"] or 0) < 3_500_000, "the newer output alone is counted")
    silent = daemon.wait(daemon.submit("true"))
    assert daemon.http.get(f"/v1/tasks/{silent['taskId']}/output").content == b""


def test_a_running_task_over_the_quota_runs_on_and_holds_back_others(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(output_quota_bytes=1_000_000).start()
    large = daemon.submit(*writes(2, "while [ ! -e go ]; do sleep 0.1; done; echo end"))
    wait_for(lambda: (quota(daemon)["used"] or 0) > 1_000_000, "it is over")
    small = daemon.submit("true")
    reason = wait_for(lambda: daemon.task(small)["pendingReason"], "the small one waits")
    assert "output_quota_bytes" in reason
    daemon.wait_state(large, "running")  # a runner writes before it tells that it runs
    Path(daemon.state.tasks.attempt(large, 1).work, "go").touch()
    assert daemon.wait(large)["outcome"] == "succeeded"
    assert daemon.wait(small)["outcome"] == "succeeded"


def test_freeing_spares_an_attempt_that_begins_meanwhile(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    task_id = daemon.wait(daemon.submit("echo", "one"))["taskId"]
    daemon.post(f"/v1/tasks/{task_id}/retry")
    daemon.wait(task_id)
    environment = MultiprocessEnvironment(daemon.state)
    assert environment.output_use(task_id, 2) > environment.output_use(task_id, 1) > 0
    environment.drop_output(task_id, 1)
    assert daemon.output(task_id) == b"one\n"
    assert daemon.http.get(f"/v1/tasks/{task_id}/output?attempt=1").status_code == 404
    assert environment.output_use(task_id, 1) == 0


def test_files_count_towards_the_size_and_the_oldest_task_goes(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(keep_finished_bytes=3_500_000, tidy_seconds=0.1).start()
    old = daemon.wait(daemon.submit("sh", "-c", "head -c 2000000 /dev/urandom > left"))["taskId"]
    assert daemon.task(old)["state"] == "exited"
    new = daemon.wait(daemon.submit("sh", "-c", "head -c 2000000 /dev/urandom > left"))["taskId"]
    wait_for(lambda: daemon.http.get(f"/v1/tasks/{old}").status_code == 404, "the old one is removed")
    assert daemon.task(new)["outcome"] == "succeeded"
    wait_for(lambda: daemon.state.tasks.ids() == [new], "its files are removed")


def test_a_task_can_ask_to_be_forgotten_at_once(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(tidy_seconds=0.1).start()
    stays = daemon.submit("true")
    goes = daemon.submit("true", keepSeconds=0)
    wait_for(lambda: daemon.http.get(f"/v1/tasks/{goes}").status_code == 404, "it is removed")
    assert daemon.wait(stays)


# -- measuring


def test_blocks_are_counted_and_not_lengths(tmp_path: Path):
    top = tmp_path / "task"
    (top / "work/deep").mkdir(parents=True)
    empty = diskuse.of_tree(str(top))
    data = top / "work/deep/data"
    data.write_bytes(os.urandom(1_000_000))
    os.sync()
    one = diskuse.of_tree(str(top)) - empty
    assert 1_000_000 <= one < 1_100_000
    os.link(data, top / "again")  # the same bytes under two names
    with open(top / "hole", "wb") as hole:
        hole.truncate(10**9)
    outside = tmp_path / "outside"
    outside.write_bytes(os.urandom(1_000_000))
    os.symlink(outside, top / "link")
    os.symlink(tmp_path, top / "loop")
    assert diskuse.of_tree(str(top)) - empty < one + 100_000
    assert diskuse.of_tree(str(tmp_path / "missing")) == 0
    assert diskuse.of_file(str(tmp_path / "missing")) == 0


# -- settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep_outcome_seconds": {"faild": 1}}, "keep_outcome_seconds"),
        ({"keep_outcome_seconds": {"failed": 0}}, "keep_outcome_seconds.failed"),
        ({"keep_finished_bytes": -1}, "keep_finished_bytes"),
        ({"output_quota_bytes": -1}, "output_quota_bytes"),
        ({"tidy_seconds": 0}, "tidy_seconds"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(given: dict[str, Any], message: str):
    with pytest.raises(Refused, match=message):
        settings_module.load(**given)
