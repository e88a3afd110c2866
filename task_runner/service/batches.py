"""Batches: tasks that were accepted together, asked for and controlled together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from task_runner.errors import Conflict, NotFound
from task_runner.model.batch import MAX_TASKS
from task_runner.model.state import Outcome, State
from task_runner.service import batch as rows
from task_runner.service.batch import Batch, batch_json, counts
from task_runner.service.book import Book
from task_runner.service.control import Control
from task_runner.service.listing import list_tasks
from task_runner.service.queue import Queue
from task_runner.service.store import Query
from task_runner.service.task import Task

#: tasks dealt with between two chances for requests to be answered
SLICE = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """How one task of a batch stands."""

    seq: int
    state: State
    outcome: Outcome | None


class Batches:
    """The batches of the store."""

    def __init__(self, book: Book, queue: Queue, control: Control) -> None:
        self._book = book
        self._queue = queue
        self._control = control

    def load(self) -> None:
        """Hold back what belongs to a paused batch; done before the first start."""
        self._queue.held.update(self._book.store.paused_batches())

    def get(self, batch_id: str) -> Batch:
        """Raises NotFound."""
        batch = self._book.store.batch(batch_id)
        if batch is None:
            raise NotFound(f"there is no batch {batch_id[:80]!r}")
        return batch

    def by_seq(self, seq: int, origin: str) -> Batch:
        """The batch with this number that came in by a surface. Raises NotFound."""
        batch = self._book.store.batch_by_seq(seq)
        if batch is None or batch.origin != origin:
            raise NotFound(f"there is no batch {seq}")
        return batch

    def show(self, batch: Batch) -> dict[str, Any]:
        """As `/v1` shows it: what became of its tasks is counted now."""
        active = self._active(batch.id)
        # the store may know of an end already that is not true yet (Book): no task is in both sums
        ending = [task.id for task in active if task.ending]
        by_outcome, finished_at = self._book.store.batch_outcomes(batch.id, ending)
        states: dict[str, int] = {}
        for task in active:
            state = task.record.state.value
            states[state] = states.get(state, 0) + 1
        return batch_json(batch, counts(by_outcome, finished_at) + batch.removed, states)

    def newest(self, limit: int, before: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """The batches that were accepted last, newest first (of those older than ``before``), and what the next page
        is before; none: there is no more."""
        found = self._book.store.batches(limit, before=before)
        return [self.show(batch) for batch in found], found[-1].seq if len(found) == limit else None

    def of(self, origin: str, limit: int) -> list[Batch]:
        """Those of them that came in by one surface."""
        return self._book.store.batches(limit, origin)

    async def wait(self, batch_id: str, seconds: float) -> None:
        """Return when all of a batch is over, or after ``seconds``."""
        await self._all_over(self._active(batch_id), seconds)

    async def results(self, batch_id: str) -> list[dict[str, Any]]:
        """What became of each of its tasks that has not been removed, in the order of acceptance."""
        return [_result(task) for task in await self.tasks(batch_id)]

    async def tasks(self, batch_id: str) -> list[Task]:
        """Those of its tasks that have not been removed, in the order of acceptance."""
        return await list_tasks(self._book, Query(batch=batch_id, limit=MAX_TASKS))

    async def standings(self, batch_id: str) -> list[Standing]:
        """The same, where no more than this is asked for of each."""
        found = await asyncio.to_thread(self._book.store.read, rows.standings(batch_id))
        standings = []
        for seq, task_id, state, outcome in found:
            task = self._book.active.get(task_id)  # what runs is known better than the store has it
            if task is not None:
                standings.append(Standing(seq, task.record.state, task.record.outcome))
            else:
                standings.append(Standing(seq, State(state), Outcome(outcome) if outcome else None))
        return standings

    def _active(self, batch_id: str) -> list[Task]:
        return [task for task in self._book.active.values() if task.batch == batch_id and not task.final]

    async def stop(self, batch_id: str, *, signal: str | None, grace: float | None, wait: float) -> Batch:
        """Stop every task of it that is not over; returns after at most ``wait`` seconds beyond what the requests
        take."""
        batch = self.get(batch_id)
        tasks = self._active(batch.id)
        # those that wait first: a full disk refuses to end them, and then nothing of what runs has been stopped either
        waiting = [task for task in tasks if task.waiting]
        for start in range(0, len(waiting), SLICE):
            await asyncio.gather(*map(self._control.cancel_unstarted, waiting[start : start + SLICE]))
        started = [task for task in tasks if not task.final]
        for start in range(0, len(started), SLICE):
            part = started[start : start + SLICE]
            await asyncio.gather(*(self._control.request_stop(task, signal, grace) for task in part))
        await self._all_over(started, wait)
        return batch

    async def _all_over(self, tasks: Iterable[Task], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                for task in tasks:
                    await self._book.wait(task.id, seconds)
        except TimeoutError:
            pass

    async def pause(self, batch_id: str) -> Batch:
        """Freeze those of its tasks that run, and start none. Raises StorageFull."""
        return await self._hold(batch_id, True)

    async def resume(self, batch_id: str) -> Batch:
        """Let them go on. Raises StorageFull."""
        return await self._hold(batch_id, False)

    async def _hold(self, batch_id: str, paused: bool) -> Batch:
        batch = self.get(batch_id)
        await self._book.write([rows.pause(batch.id, paused)])
        self._queue.hold(batch.id, paused)
        change = self._control.pause if paused else self._control.resume
        wanted = State.PAUSED if paused else State.RUNNING
        for task in self._active(batch.id):
            if task.record.state in (State.RUNNING, State.PAUSED):
                try:
                    change(task.id)
                except (Conflict, NotFound):
                    pass  # it has just ended
            elif not task.waiting:
                task.wish = wanted  # one that is just starting is asked as soon as it runs
        return self.get(batch.id)


def _result(task: Task) -> dict[str, Any]:
    record, status = task.record, task.record.status
    return {
        "taskId": task.id,
        "name": task.name,
        "entity": task.entity,
        "state": record.state.value,
        "outcome": record.outcome and record.outcome.value,
        "exitCode": status.exit_code if status else None,
        "signal": status.signal if status else None,
        "error": record.error,
        "attempt": record.attempt,
        "startedAt": status.started_at if status else None,
        "finishedAt": record.finished_at,
    }

