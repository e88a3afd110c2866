"""What the service decides, over an environment without processes and a clock that is set by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable

import pytest
from conftest import PATIENCE

from task_runner.environment.memory import MemoryEnvironment
from task_runner.errors import Conflict, NotFound, StorageFull
from task_runner.lib.clock import stamp
from task_runner.model.spec import Spec
from task_runner.model.state import Outcome, State
from task_runner.service import commits
from task_runner.service import settings as settings_module
from task_runner.service.node import node_json
from task_runner.service.store import Query, Store
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_spec


class HandClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.boot = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.boot


class World:
    """A service, what it stands on, and what it is told."""

    def __init__(self, path: str, **settings: object) -> None:
        self.path = path
        self.clock = HandClock()
        self.environment = MemoryEnvironment(self.clock)
        defaults: dict[str, object] = {"scan_seconds": 0.02, "state_dir": path}
        self.settings = settings_module.load(**{**defaults, **settings})
        self.service = self._new_service()

    def _new_service(self) -> TaskService:
        return TaskService(self.settings, Store(f"{self.path}/tasks.db"), self.environment, self.clock)

    async def replace_daemon(self) -> None:
        await self.service.stop_serving()
        self.service = self._new_service()
        await self.service.start()
        await self.service.recovered.wait()

    async def submit(self, *command: str, **more: object) -> str:
        accepted = await self.service.submit(parse_spec({"command": list(command), **more}))
        return accepted.task.id

    async def over(self, task_id: str):
        task = await self.service.wait(task_id, PATIENCE)
        assert task.final
        return task

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(self.told())
            await asyncio.sleep(0.005)

    def told(self) -> str:
        """What there is to know where something did not come."""
        service, queue = self.service, self.service.queue
        tasks = [f"{task.id} {task.record.state} ending={task.ending}" for task in service.book.active.values()]
        jobs = [f"{job.get_name()} {job.get_coro()} {job.get_stack(limit=1)}" for job in asyncio.all_tasks()]
        counts = f"stored {service.store.counts()}, starting {len(queue.starting)}, running {len(queue.running)}"
        return "\n".join([counts, f"storage {service.book.storage_error}", *tasks, *jobs])

    def state(self, task_id: str) -> State:
        return self.service.get(task_id).record.state


@contextlib.asynccontextmanager
async def world(path, **settings: object) -> AsyncIterator[World]:
    path.mkdir(exist_ok=True)
    made = World(str(path), **settings)
    await made.service.start()
    await made.service.recovered.wait()
    try:
        yield made
    finally:
        await made.service.stop_serving()


def in_world(**settings: object):
    """Runs an async test in a world of its own."""

    def wrap(test):
        def run(tmp_path) -> None:
            async def go() -> None:
                async with world(tmp_path / "state", **settings) as made:
                    await test(made)

            asyncio.run(go())

        run.__name__ = test.__name__
        return run

    return wrap


@in_world(max_running=2)
async def test_no_more_than_the_limit_run_and_the_rest_starts_in_order(made):
    ids = [await made.submit("sleep") for _ in range(5)]
    await made.until(lambda: [made.state(i) for i in ids[:2]] == [State.RUNNING] * 2)
    assert [made.state(i) for i in ids[2:]] == [State.PENDING] * 3
    assert "2 of 2 tasks are running" in made.service.queue.reason(made.service.get(ids[2]))
    for task_id in ids:
        await made.until(lambda task_id=task_id: made.state(task_id) is State.RUNNING)
        made.environment.finish(task_id)
        await made.over(task_id)
    assert [launch.task_id for launch in made.environment.launches] == ids


@in_world()
async def test_draining_starts_nothing_and_undraining_starts_what_waits(made):
    await made.service.drain.begin()
    task_id = await made.submit("true")
    assert made.state(task_id) is State.PENDING
    assert "draining" in made.service.queue.reason(made.service.get(task_id))
    await made.service.drain.end()
    assert (await made.over(task_id)).record.outcome is Outcome.SUCCEEDED


@in_world(max_running=1)
async def test_a_pending_task_that_is_stopped_never_starts(made):
    first, second = await made.submit("sleep"), await made.submit("sleep")
    task = await made.service.control.stop(second)
    assert (task.record.outcome, task.record.status) == (Outcome.CANCELLED, None)
    made.environment.finish(first)
    await made.over(first)
    assert [launch.task_id for launch in made.environment.launches] == [first]


@in_world()
async def test_a_refused_launch_is_tried_again_and_says_why_it_waits(made):
    made.environment.refuse = "fork: Resource temporarily unavailable"
    task_id = await made.submit("true")
    await made.until(lambda: made.state(task_id) is State.PENDING)
    assert "Resource temporarily unavailable" in made.service.queue.reason(made.service.get(task_id))
    made.environment.refuse = None
    made.clock.boot += 60
    assert (await made.over(task_id)).record.outcome is Outcome.SUCCEEDED


@in_world()
async def test_a_launch_that_nothing_came_of_is_recalled_and_made_again(made):
    made.environment.swallow = True
    task_id = await made.submit("true")
    assert made.state(task_id) is State.STARTING
    made.environment.swallow = False
    made.clock.boot += 60
    assert (await made.over(task_id)).record.outcome is Outcome.SUCCEEDED
    assert len(made.environment.launches) == 2


@in_world()
async def test_a_second_stop_only_shortens_the_grace_also_where_no_runner_has_heard_of_the_first(made):
    made.environment.swallow = True
    requests = [(("SIGINT", 7.0), ("SIGTERM", 3600.0)), ((None, None), (None, 3600.0)), ((None, None), ("SIGINT", 2.0))]
    ids = [await made.submit("sleep") for _ in requests]
    for task_id, both in zip(ids, requests, strict=True):
        for signal, grace in both:
            await made.service.control.stop(task_id, signal=signal, grace=grace, wait=0)
        assert made.state(task_id) is State.STARTING
    for launch in made.environment.launches:
        made.environment._start(launch)
    receipts = [(await made.over(task_id)).record.status.receipt for task_id in ids]
    assert [(each.signal, each.grace_seconds) for each in receipts] == [("SIGINT", 7.0), ("SIGTERM", None), ("SIGTERM", 2.0)]


@in_world()
async def test_a_task_whose_runner_vanished_is_lost_with_evidence(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    made.environment.vanish(task_id)
    task = await made.over(task_id)
    assert (task.record.state, task.record.outcome) == (State.LOST, Outcome.LOST)
    assert "ended without saying how" in task.record.error


@in_world(heartbeat_seconds=1, stalled_after_seconds=3)
async def test_silence_is_called_stalled_and_a_pulse_takes_it_back(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    made.clock.boot += 10
    await made.until(lambda: made.service.get(task_id).stall)
    assert "no sign of life for 10 s" in made.service.get(task_id).stall.reason
    made.clock.boot -= 10
    await made.until(lambda: made.service.get(task_id).stall is None)


@in_world(heartbeat_seconds=1, stalled_after_seconds=3)
async def test_a_changed_wall_clock_makes_nothing_stalled(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    for jump in (3600, -7200):
        made.clock.now += jump
        await made.service.watch.look([task_id], idle=True)
        await made.service.watch.look([task_id], idle=True)
        assert made.service.get(task_id).stall is None


@in_world()
async def test_the_next_daemon_finds_everything(made):
    running, ended = await made.submit("sleep"), await made.submit("false")
    await made.over(ended)
    await made.until(lambda: made.state(running) is State.RUNNING)
    await made.replace_daemon()
    assert made.state(running) is State.RUNNING
    assert made.service.get(ended).record.outcome is Outcome.FAILED
    made.environment.finish(running)
    assert (await made.over(running)).record.outcome is Outcome.SUCCEEDED


@in_world()
async def test_an_ending_that_happened_without_a_daemon_is_found(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    await made.service.stop_serving()
    made.environment.finish(task_id, exit_code=9)
    made.service = made._new_service()
    await made.service.start()
    assert (await made.over(task_id)).record.status.exit_code == 9


@in_world()
async def test_an_idempotency_key_names_one_task(made):
    spec = parse_spec({"command": ["true"]})
    several = await asyncio.gather(*(made.service.submit(spec, key="k") for _ in range(20)))
    assert len({accepted.task.id for accepted in several}) == 1
    assert [accepted.repeated for accepted in several].count(False) == 1
    with pytest.raises(Conflict):
        await made.service.submit(parse_spec({"command": ["false"]}), key="k")
    made.clock.now += made.settings.idempotency_seconds + 1
    assert not (await made.service.submit(spec, key="k")).repeated


@in_world()
async def test_a_retry_is_a_new_attempt_and_the_old_ending_stays(made):
    task_id = await made.submit("false")
    await made.over(task_id)
    await made.service.control.retry(task_id)
    task = await made.over(task_id)
    assert task.record.attempt == 2
    assert [status.attempt for status in task.record.previous] == [1]
    with pytest.raises(Conflict):
        running = await made.submit("sleep")
        await made.service.control.retry(running)


@in_world()
async def test_a_deleted_task_is_gone_and_an_active_one_is_stopped_first(made):
    ended, running = await made.submit("true"), await made.submit("sleep")
    await made.over(ended)
    await made.until(lambda: made.state(running) is State.RUNNING)
    for task_id in (ended, running):
        await made.service.delete(task_id)
        with pytest.raises(NotFound):
            made.service.get(task_id)
    assert await made.service.page(Query()) == []
    await made.until(lambda: made.environment.known() == [])
    await made.until(lambda: made.service.store.counts() == {})


@in_world(keep_finished_count=3)
async def test_the_oldest_finished_tasks_are_removed_beyond_the_number(made):
    ids = []
    for _ in range(6):
        made.clock.now += 1
        ids.append(await made.submit("true"))
        await made.over(ids[-1])
    await made.service.retention.tidy()
    assert [task.id for task in await made.service.page(Query())] == ids[3:]
    assert sorted(made.environment.known()) == sorted(ids[3:])


@in_world(keep_finished_seconds=1000)
async def test_finished_tasks_are_removed_after_their_time_and_active_ones_are_not(made):
    old, active = await made.submit("true"), await made.submit("sleep")
    await made.over(old)
    made.clock.now += 2000
    new = await made.submit("true")
    await made.over(new)
    await made.service.retention.tidy()
    assert [task.id for task in await made.service.page(Query())] == [active, new]


@in_world()
async def test_pages_are_complete_whatever_is_active_and_whatever_is_finished(made):
    ids = [await made.submit("sleep" if n % 3 else "true", tags={"n": str(n % 2)}) for n in range(20)]
    await made.until(lambda: made.service.store.counts().get("succeeded") == 7)
    for newest_first in (False, True):
        found: list[str] = []
        after = None
        while page := await made.service.page(Query(after=after, limit=3, newest_first=newest_first)):
            found += [task.id for task in page]
            after = page[-1].seq
        assert found == (ids[::-1] if newest_first else ids)
    odd = await made.service.page(Query(tags=("n=1",)))
    assert [task.id for task in odd] == ids[1::2]
    states = await made.service.page(Query(states=frozenset({"exited"})))
    assert [task.id for task in states] == ids[::3]


@in_world()
async def test_a_full_disk_refuses_requests_and_keeps_endings(made):
    running = await made.submit("sleep")
    await made.until(lambda: made.state(running) is State.RUNNING)
    real = commits._commit
    commits._commit = lambda db, jobs: StorageFull("tasks.db: database or disk is full")
    try:
        with pytest.raises(StorageFull):
            await made.submit("true")
        made.environment.finish(running, exit_code=4)
        task = await made.over(running)
        assert task.record.outcome is Outcome.FAILED
        assert made.environment.made_durable == [running]
        assert "disk is full" in node_json(made.service)["storage"]["error"]
    finally:
        commits._commit = real
    await made.until(lambda: node_json(made.service)["storage"]["ok"])
    await made.replace_daemon()
    assert made.service.get(running).record.status.exit_code == 4


@contextlib.contextmanager
def full_disk(after: int = 0):
    """The store takes nothing more of tasks after so many transactions with any of them; others come by themselves."""
    real, room = commits._commit, iter(range(after))
    full = StorageFull("tasks.db: database or disk is full")

    def commit(db, jobs):
        of_tasks = any("tasks" in sql for job in jobs for sql, _values in job.ops)
        return full if of_tasks and next(room, None) is None else real(db, jobs)

    commits._commit = commit
    try:
        yield
    finally:
        commits._commit = real


@in_world()
async def test_what_ended_and_was_deleted_on_a_full_disk_is_not_run_again_by_the_next_daemon(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    with full_disk():
        made.environment.finish(task_id, exit_code=4)
        await made.over(task_id)
        with pytest.raises(StorageFull):  # without its files nothing would tell that it has run
            await made.service.delete(task_id)
        await made.service.stop_serving()
    made.service = made._new_service()
    await made.service.start()
    await made.service.recovered.wait()
    assert (await made.over(task_id)).record.status.exit_code == 4
    await made.service.delete(task_id)
    assert len(made.environment.launches) == 1


@in_world()
async def test_what_was_deleted_and_ended_on_a_full_disk_is_gone_with_the_next_daemon(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    with full_disk(after=2):  # that it is hidden, and that it is to stop
        await made.service.delete(task_id)
        await made.until(lambda: task_id not in made.environment.known())
        await made.service.stop_serving()
    made.service = made._new_service()
    await made.service.start()
    await made.service.recovered.wait()
    await made.until(lambda: made.service.store.get(task_id) is None)
    assert len(made.environment.launches) == 1


@in_world()
async def test_events_are_kept_in_order_and_survive_the_daemon(made):
    task_id = await made.submit("false")
    await made.over(task_id)
    await made.replace_daemon()
    events = made.service.store.events(0, task_id, 100)
    assert [event.data["state"] for event in events][0] == "pending"
    assert events[-1].data["outcome"] == "failed"
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    other = await made.submit("true")
    await made.over(other)
    assert made.service.store.events(events[-1].seq, None, 100)[0].task_id == other


def test_a_spec_goes_through_the_store_unchanged(tmp_path):
    spec = parse_spec({"command": ["a", "ü", ""], "env": {"K": "v"}, "tags": {"a": "=b="}, "metadata": {"x": [1]}})
    assert isinstance(spec, Spec)
    assert json.loads(json.dumps(spec.metadata)) == {"x": [1]}
    assert stamp(0) == "1970-01-01T00:00:00.000000Z"
