"""The use cases: what may be asked of tasks, whoever asks, in whatever wire format."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from task_runner.environment.base import Environment
from task_runner.errors import Conflict, NotFound, StorageFull, Unavailable
from task_runner.lib import failpoint
from task_runner.lib.clock import Clock, stamp
from task_runner.model.codec import to_json
from task_runner.model.spec import Spec
from task_runner.model.state import Event, Outcome, State, step
from task_runner.service import statements
from task_runner.service.book import Book
from task_runner.service.events import Hub
from task_runner.service.listing import list_tasks
from task_runner.service.queue import Queue
from task_runner.service.recovery import examine, load
from task_runner.service.retention import Retention
from task_runner.service.schedule import Limits
from task_runner.service.settings import Settings
from task_runner.service.store import Query, Store
from task_runner.service.task import Record, StopIntent, Task
from task_runner.service.watch import Watch

log = logging.getLogger(__name__)

_PREFIX = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that a request made."""

    task: Task
    #: an earlier request with the same key had made it
    repeated: bool = False


class TaskService:
    """Everything that can be asked for. One per state directory."""

    def __init__(self, settings: Settings, store: Store, environment: Environment, clock: Clock) -> None:
        self.settings = settings
        self.store = store
        self.environment = environment
        self.clock = clock
        self.hub = Hub()
        #: every runner of an earlier daemon has been examined
        self.recovered = asyncio.Event()
        self._keys_under_way: dict[str, asyncio.Future[Accepted]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._jobs: set[asyncio.Task[None]] = set()

    # -- life

    async def start(self) -> None:
        """Open the store and the environment, and begin to examine what an earlier daemon left."""
        self.store.open()
        self.book = Book(self.store, self.hub, self.clock)
        settings = self.settings
        limits = Limits(max_running=settings.max_running, max_starting=settings.max_starting)
        self.queue = Queue(self.book, self.environment, limits)
        self.queue.cancel = lambda task: self._in_background(self._cancel_unstarted(task))
        self.watch = Watch(
            self.book,
            self.environment,
            self.queue,
            scan=settings.scan_seconds,
            stalled=settings.stalled_after_seconds,
        )
        self.book.on_final.append(self._remove_if_deleted)
        self.retention = Retention(self.book, settings, self._remove)
        await self.environment.open(self.watch.news, self.queue.refused, self.watch.outage)
        launched = await load(self.book, self.queue, self.environment, self._begin_removal)
        self._background = [
            asyncio.create_task(self._recover(launched), name="recover"),
            asyncio.create_task(self.watch.run(), name="watch"),
            asyncio.create_task(self.watch.scan(), name="scan"),
            asyncio.create_task(self.retention.run(), name="retention"),
        ]

    async def stop_serving(self) -> None:
        """Let go of everything. Tasks go on."""
        for job in self._background:
            job.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.environment.close()
        await asyncio.to_thread(self.store.close)

    async def _recover(self, launched: list[Task]) -> None:
        await examine(launched, self.book, self.queue, self.watch)
        self.recovered.set()

    # -- accepting

    async def submit(self, spec: Spec, *, origin: str = "v1", key: str | None = None) -> Accepted:
        """Accept a task. When this returns, it is on stable storage. Raises StorageFull, Conflict."""
        spec_json = json.dumps(to_json(spec, sparse=True), ensure_ascii=False)
        if key is None:
            return Accepted(await self._accept(spec, spec_json, origin, None))
        digest = hashlib.sha256(spec_json.encode()).hexdigest()
        while key in self._keys_under_way:
            await asyncio.wait([self._keys_under_way[key]])
        since = stamp(self.clock.time() - self.settings.idempotency_seconds)
        if found := self.store.key(key, since):
            return self._repeated(found, digest)
        under_way = self._keys_under_way[key] = asyncio.get_running_loop().create_future()
        try:
            return Accepted(await self._accept(spec, spec_json, origin, (key, digest)))
        finally:
            del self._keys_under_way[key]
            under_way.cancel()

    def _repeated(self, found: tuple[str, str], digest: str) -> Accepted:
        task_id, first_digest = found
        if digest != first_digest:
            raise Conflict("this idempotency key was used before, for a task with another spec")
        return Accepted(self.get(task_id), repeated=True)

    async def _accept(self, spec: Spec, spec_json: str, origin: str, key: tuple[str, str] | None) -> Task:
        now = self.book.now()
        task = Task(
            id=secrets.token_hex(8),
            seq=self.book.next_seq(),
            spec_json=spec_json,
            name=spec.name,
            tags=dict(spec.tags),
            record=Record(state=State.PENDING, origin=origin, created_at=now),
        )
        failpoint.reach("accept.before-store")
        more = [statements.keep_key(key[0], task.id, key[1], now)] if key else []
        await self.book.accept(task, more)
        failpoint.reach("accept.after-store")
        self.queue.add(task)
        self.queue.fill()
        return task

    # -- reading

    def get(self, task_id: str) -> Task:
        """The task with this id, or with the only id that begins so. Raises NotFound."""
        task = self.book.active.get(task_id) or self.store.get(task_id)
        if task is None and len(task_id) < 16 and _PREFIX.fullmatch(task_id):
            ids = self.store.ids_like(task_id, 2)
            if len(ids) > 1:
                raise NotFound(f"more than one task has an id that begins with {task_id}")
            task = self.get(ids[0]) if ids else None
        if task is None or task.deleted:
            raise NotFound(f"there is no task {task_id[:80]!r}")
        return task

    async def page(self, query: Query) -> list[Task]:
        """A page of tasks, those in memory and those in the store, in the order of acceptance."""
        return await list_tasks(self.book, query)

    async def wait(self, task_id: str, seconds: float) -> Task:
        """The task as it is when it is over, or when the time is."""
        task = self.get(task_id)
        await self.book.wait(task.id, seconds)
        return self.get(task.id)

    # -- controlling

    async def stop(
        self, task_id: str, *, signal: str | None = None, grace: float | None = None, wait: float = 0.5
    ) -> Task:
        """Stop a task; returns it as it is after at most ``wait`` seconds. One that is over stays as it is."""
        task = self.get(task_id)
        if not task.final:
            await self._stop(task, StopIntent(requested_at=self.book.now(), signal=signal, grace_seconds=grace))
            await self.book.wait(task.id, wait)
        return self.get(task.id)

    async def _stop(self, task: Task, intent: StopIntent) -> None:
        if task.waiting:
            await self._cancel_unstarted(task)
            return
        task.intent = intent
        failpoint.reach("stop.before-intent")
        try:
            await self.book.write([statements.save_intent(task.id, intent)])
        except StorageFull:
            pass  # a stop must work on a full disk; only a crash right now would forget it
        failpoint.reach("stop.after-intent")
        if not task.final and not task.waiting:
            task.delivered = self.watch.deliver(task)
            failpoint.reach("stop.delivered")
            self.watch.news(task.id)
        elif task.waiting:
            await self._cancel_unstarted(task)  # its launch was taken back meanwhile

    async def _cancel_unstarted(self, task: Task) -> None:
        task.ending = True  # keeps the queue from starting it while the store writes
        try:
            record = replace(
                task.record,
                state=step(task.record.state, Event.STOP),
                outcome=Outcome.CANCELLED,
                finished_at=self.book.now(),
            )
            await self.book.end_unstarted(task, record)
        finally:
            task.ending = False

    def pause(self, task_id: str) -> Task:
        """Freeze a running task. Raises Conflict where it does not run."""
        task = self._controllable(task_id, "paused", {State.RUNNING, State.PAUSED})
        self._reach_runner(task, self.environment.pause(task.id, task.record.attempt))
        return task

    def resume(self, task_id: str) -> Task:
        """Let a paused task go on. Raises Conflict where it does not run."""
        task = self._controllable(task_id, "resumed", {State.RUNNING, State.PAUSED})
        self._reach_runner(task, self.environment.resume(task.id, task.record.attempt))
        return task

    def signal(self, task_id: str, number: int) -> Task:
        """Send a signal to the first process of a task's current action. Raises Conflict."""
        task = self._controllable(task_id, "signalled", {State.RUNNING, State.PAUSED, State.STOPPING})
        self._reach_runner(task, self.environment.signal(task.id, task.record.attempt, number))
        return task

    def _controllable(self, task_id: str, verb: str, states: set[State]) -> Task:
        task = self.get(task_id)
        if task.record.state not in states:
            raise Conflict(f"the task is {task.record.state.value}: it cannot be {verb}")
        return task

    def _reach_runner(self, task: Task, reached: bool) -> None:
        self.watch.news(task.id)
        if not reached:
            raise Conflict("the task has no runner any more")

    async def settle(self, task: Task, states: set[State], wait: float = 0.5) -> Task:
        """The task as it is once it is in one of these states or over, or after ``wait`` seconds."""
        with self.hub.subscribe(task.id) as changes:
            try:
                async with asyncio.timeout(wait):
                    while task.record.state not in states and not task.final:
                        await changes.next()
            except TimeoutError:
                pass
        return task

    async def retry(self, task_id: str) -> Task:
        """Run a task that is over once more, as a new attempt. Raises Conflict where it is not over."""
        task = self.get(task_id)
        if not task.final:
            raise Conflict(f"the task is {task.record.state.value}: only one that is over can be tried again")
        if task.ending:
            raise Conflict("another request is about to try this task again")
        old = task.record
        record = Record(
            state=step(old.state, Event.RETRY),
            attempt=old.attempt + 1,
            origin=old.origin,
            created_at=old.created_at,
            previous=old.previous + ([old.status] if old.status else []),
        )
        self.book.active[task.id] = task
        task.ending = True
        try:
            await self.book.end_unstarted(task, record)
            await self.book.write([statements.save_intent(task.id, None)])
        except StorageFull:
            self.book.active.pop(task.id, None)
            raise
        finally:
            task.ending = False
        task.intent, task.delivered, task.launched_at = None, False, None
        self.queue.add(task)
        self.queue.fill()
        return task

    # -- removing

    async def delete(self, task_id: str) -> None:
        """Forget a task. One that is active is hidden at once, stopped, and removed when it is over."""
        task = self.get(task_id)
        try:
            await self.book.write([statements.hide(task.id)])
        except StorageFull:
            if not task.final:
                raise
        task.deleted = True
        if task.final:
            self._begin_removal(task)
        else:
            await self._stop(task, task.intent or StopIntent(requested_at=self.book.now()))

    def _remove_if_deleted(self, task: Task) -> None:
        if task.deleted:
            self._begin_removal(task)

    def _begin_removal(self, task: Task) -> None:
        self._in_background(self._remove([task.id]))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.warning("left for later: %s", error)

    async def _remove(self, ids: list[str]) -> None:
        """Files first: what is left after a crash is a row that says it is to be removed."""
        for task_id in ids:
            await asyncio.to_thread(self.environment.discard, task_id)
        await self.book.write_now_or_later([op for task_id in ids for op in statements.remove(task_id)])

    # -- the node

    def drain(self, draining: bool) -> None:
        """Start nothing new, or start again."""
        self.queue.limits = replace(self.queue.limits, draining=draining)
        self.queue.fill()

    def require_ready(self) -> None:
        """Raises Unavailable until every task of an earlier daemon has been examined."""
        if not self.recovered.is_set():
            raise Unavailable("the daemon is examining the tasks of its predecessor")

    def node(self) -> dict[str, Any]:
        """This daemon in numbers."""
        active = [task for task in self.book.active.values() if not task.final]
        states = {state.value: 0 for state in State if state not in (State.EXITED, State.LOST)}
        for task in active:
            states[task.record.state.value] += 1
        return {
            "states": states,
            "stalled": sum(1 for task in active if task.stall is not None),
            "maxRunning": self.queue.limits.max_running,
            "draining": self.queue.limits.draining,
            "ready": self.recovered.is_set(),
            "storage": {"ok": self.book.storage_error is None, "error": self.book.storage_error},
            "storeSetAside": self.store.set_aside,
        }
