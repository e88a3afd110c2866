"""The book: the tasks that are not over, in memory, and the way every change of any task takes.

A change goes to stable storage first; then it is true for this daemon; then it is told. So nothing that was
said of a task can be unsaid by a crash.

**Full disk.** The store may refuse a change. A request is then refused. But what a runner reports has happened,
and its status file is there: that file is brought to stable storage in place of the store's row, the change
becomes true, and the row follows when there is space.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from task_runner.errors import TaskRunnerError
from task_runner.lib.clock import Clock, stamp
from task_runner.model.codec import to_json
from task_runner.service import statements
from task_runner.service.backlog import Backlog
from task_runner.service.dependencies import Dependants
from task_runner.service.events import Hub
from task_runner.service.statements import Op, StoredEvent
from task_runner.service.store import Store
from task_runner.service.task import Record, Task, stall_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What is now known of a task."""

    task: Task
    record: Record
    #: how the attempt ended before the one that `record` tells of, where that is not the task's end
    ended: Record | None = None


class Book:
    """Tasks that are not over, or whose ending the store has yet to take, by id; and how they change."""

    def __init__(self, store: Store, hub: Hub, clock: Clock) -> None:
        self.store = store
        self.hub = hub
        self.clock = clock
        self.active: dict[str, Task] = {}
        #: called with every task that is over
        self.on_final: list[Callable[[Task], None]] = []
        #: called with tasks that have been accepted
        self.on_accepted: list[Callable[[Sequence[Task]], None]] = []
        #: called with every change that has been stored, while its task is still as it was
        self.on_change: list[Callable[[Change], None]] = []
        #: what else a change of a task to a record writes, in its transaction and before the task's row changes
        self.also: Callable[[Task, Record, StoredEvent], list[Op]] = lambda _task, _record, _event: []
        #: what else is written where a change ends an attempt, in its transaction
        self.ending: Callable[[Change], list[Op]] = lambda _change: []
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.backlog = Backlog(store)
        self._unsaved_endings: list[Task] = []
        self._seq = store.last_seq()
        #: number of the task that was accepted last; whatever has a lower one can be seen
        self.newest = self._seq
        self._event_seq = store.last_event()
        self._rank = 0.0
        self.dependants = Dependants()

    def resume_counting(self) -> None:
        """Go on after the highest numbers in the store, which has got rows from elsewhere."""
        self._seq = self.newest = self.store.last_seq()

    def next_rank(self) -> float:
        """The place of the next task in the order of acceptance: the time, and never less than the one before."""
        self._rank = max(self._rank, self.clock.time())
        return self._rank

    def take_up(self, task: Task) -> None:
        """A task that an earlier daemon accepted."""
        self.active[task.id] = task
        self._rank = max(self._rank, task.record.rank)
        self.dependants.add(task)

    def unfinished(self, origin: str, *, deleted: bool = False) -> list[Task]:
        """The tasks of a surface that are not over, in the order of acceptance; ``deleted``: those that are hidden, and
        go when they are, in place of the others."""
        found = [
            task
            for task in self.active.values()
            if task.record.origin == origin and task.deleted == deleted and not task.final
        ]
        return sorted(found, key=lambda task: task.seq)

    def now(self) -> str:
        return stamp(self.clock.time())

    # -- changes

    @property
    def storage_error(self) -> str | None:
        """What the store last refused, until it takes changes again."""
        return self.backlog.error

    async def write(self, ops: list[Op]) -> None:
        """Bring changes to the store. Raises StorageFull."""
        await self.backlog.write(ops)

    async def accept(self, tasks: Sequence[Task], more: Iterable[Op] = ()) -> None:
        """Keep new tasks, all or none; from then on they exist. Raises StorageFull: then they do not."""
        ops: list[Op] = list(more)
        events = []
        for task in tasks:
            self._seq += 1
            task.seq = self._seq
            events.append(self._event(task, task.record))
            ops += self.also(task, task.record, events[-1])
            ops += (statements.insert(task), statements.keep_event(events[-1]))
        await self.write(ops)
        for task, event in zip(tasks, events, strict=True):
            self.active[task.id] = task
            self.dependants.add(task)
            self.hub.publish(event)
        self.newest = max(self.newest, tasks[-1].seq)
        for call in self.on_accepted:
            call(tasks)

    async def note(self, changes: list[Change], make_durable: Callable[[Task], None]) -> None:
        """Take in what the environment showed."""
        events = [self._event(change.task, change.record) for change in changes]
        ops = self._ops(changes, events)
        try:
            await self.write(ops)
        except TaskRunnerError:
            for change in changes:
                if change.record.outcome is not None or change.record.attempt != change.task.record.attempt:
                    make_durable(change.task)
            self.backlog.keep(ops)
            self._unsaved_endings += [change.task for change in changes if change.record.outcome is not None]
        self._become(changes, events)

    async def change(self, changes: Sequence[Change], more: Iterable[Op] = ()) -> None:
        """Change tasks that have no runner, all or none. Raises StorageFull: then nothing has changed."""
        events = [self._event(change.task, change.record) for change in changes]
        await self.write([*self._ops(changes, events), *more])
        self._become(changes, events)

    async def mark(self, task: Task) -> None:
        """Tell that the mark `stalled` was set or taken away."""
        event = self._event(task, task.record)
        try:
            await self.write([*self.also(task, task.record, event), statements.keep_event(event)])
        except TaskRunnerError:
            return
        self.hub.publish(event)

    async def save_pending(self) -> None:
        """Try again to store what the store refused; and find out whether it takes changes again."""
        try:
            await self.backlog.retry()
        except TaskRunnerError:
            return
        endings, self._unsaved_endings = self._unsaved_endings, []
        for task in endings:
            if task.final:
                self.active.pop(task.id, None)

    def is_unsaved(self, task: Task) -> bool:
        """Whether it is over, and the store has not taken that yet."""
        return task in self._unsaved_endings

    async def write_now_or_later(self, ops: list[Op]) -> None:
        """Bring a change to the store that nobody waits for."""
        try:
            await self.write(ops)
        except TaskRunnerError:
            self.backlog.keep(ops)

    def _ops(self, changes: Sequence[Change], events: Sequence[StoredEvent]) -> list[Op]:
        told = zip(changes, events, strict=True)
        ops = [op for change, event in told for op in self.also(change.task, change.record, event)]
        ops += [op for change in changes for op in self.ending(change)]
        ops += [statements.save(change.task.id, change.record) for change in changes]
        return ops + [statements.keep_event(event) for event in events]

    def _become(self, changes: Sequence[Change], events: Sequence[StoredEvent]) -> None:
        for change, event in zip(changes, events, strict=True):
            for call in self.on_change:
                call(change)
            change.task.record = change.record
            self._told(change.task, event)

    def _told(self, task: Task, event: StoredEvent) -> None:
        self.hub.publish(event)
        if task.final:
            self.dependants.discard(task)
            if task not in self._unsaved_endings:
                self.active.pop(task.id, None)
            for waiter in self._waiters.pop(task.id, ()):
                if not waiter.done():
                    waiter.set_result(None)
            for call in self.on_final:
                call(task)

    def _event(self, task: Task, record: Record) -> StoredEvent:
        self._event_seq += 1
        status = record.status
        data: dict[str, Any] = {
            "taskId": task.id,
            "name": task.name,
            "state": record.state.value,
            "outcome": record.outcome and record.outcome.value,
            "attempt": record.attempt,
            "exitCode": status.exit_code if status else None,
            "signal": status.signal if status else None,
            "currentActionIdx": status.current_action_idx if status else -1,
            "stalled": to_json(stall_of(task, record)),
            "progress": to_json(status.progress) if status else None,
            "batch": task.batch,
            "entity": task.entity,
        }
        if status is not None and (container := status.container) is not None and container.stage is not None:
            data["containerStage"] = "removing" if container.removing else container.stage
        origin = None if record.origin == "v1" else record.origin
        return StoredEvent(self._event_seq, task.id, self.now(), data, origin)

    # -- waiting

    async def wait(self, task_id: str, timeout: float) -> None:
        """Return when the task is over, or after ``timeout`` seconds."""
        if task_id not in self.active or self.active[task_id].final:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(task_id, set()).add(waiter)
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            pass
        finally:
            self._waiters.get(task_id, set()).discard(waiter)
