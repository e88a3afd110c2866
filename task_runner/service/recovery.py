"""After a daemon's start: what has become of the tasks that an earlier daemon had in hand?

Rule 1: the store says what was accepted, the directory says what was started.
Rule 2: a task without a directory was not started. One with a directory but without a claim was about to be: its
        launch is recalled, which either proves that it never happens or finds the runner that claimed it.
Rule 3: until its runner has been examined, a task is `unknown`.

What was going on is not redone but looked at, so it does not matter where the earlier daemon died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from task_runner.environment.base import Environment
from task_runner.lib import failpoint
from task_runner.model.state import ACTIVE, State
from task_runner.service.book import Book
from task_runner.service.fsck import rebuild
from task_runner.service.queue import Queue
from task_runner.service.task import StopIntent, Task
from task_runner.service.watch import Watch

log = logging.getLogger(__name__)

#: tasks examined between two chances for requests to be answered
SLICE = 100
#: where a task is whose runner has been found alive
UNDER_WAY = ACTIVE - {State.UNKNOWN}


async def load(
    book: Book, queue: Queue, environment: Environment, remove: Callable[[Task], None]
) -> list[Task]:
    """Take up every task that was accepted and is not over; returns those that a runner may have.

    From then on they can be asked for. Those returned are `unknown`.
    """
    if book.store.made_new and (count := await rebuild(book.store, environment)):
        log.warning("the store was damaged or missing, and has been rebuilt from %d task directories", count)
        book.resume_counting()
    return _load(book, queue, environment, remove)


def _load(book: Book, queue: Queue, environment: Environment, remove: Callable[[Task], None]) -> list[Task]:
    """Read the unfinished tasks; returns those that a runner may have."""
    launched, known = [], set(environment.known())
    for task in book.store.unfinished():
        if task.final:
            remove(task)
            continue
        if task.deleted and task.intent is None:
            task.intent = StopIntent(requested_at=book.now())
        book.take_up(task)
        if task.waiting and task.id not in known:
            queue.add(task)
            continue
        if task.waiting and task.batch in queue.held:
            task.wish = State.PAUSED  # it was just starting, and has not been asked
        task.record = replace(task.record, state=State.UNKNOWN)
        if task.mentions("gpus"):
            task.gpus = environment.look(task.id, task.record.attempt).gpus
        queue.adopt(task)
        launched.append(task)
    return launched


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of the tasks that were under way when an earlier daemon ended. Neither: what was about to be
    launched and waits again, and what has been found dead and is being cleared."""

    #: attempts whose runner goes on
    adopted: int
    #: attempts that ended while no daemon was there, and whose runner said how
    ended: int


async def examine(launched: list[Task], book: Book, queue: Queue, watch: Watch) -> Examined:
    """Find out what has become of these tasks."""
    attempts = {task.id: task.record.attempt for task in launched}
    await asyncio.to_thread(failpoint.reach, "recover.loaded")  # who waits there is not to hold up requests
    for start in range(0, len(launched), SLICE):
        await watch.look([task.id for task in launched[start : start + SLICE]])
        await asyncio.sleep(0)
    adopted = sum(1 for task in launched if task.id in book.active and not task.waiting)
    if launched:
        log.info("%d tasks were under way, %d still are", len(launched), adopted, extra={"action": "recovered"})
    queue.fill()
    same = [task for task in launched if task.record.attempt == attempts[task.id]]
    return Examined(
        # what this daemon has launched meanwhile has not been adopted
        adopted=sum(1 for task in same if task.record.state in UNDER_WAY and task.launched_at is None),
        ended=len(launched) - len(same) + sum(1 for task in same if task.record.state is State.EXITED),
    )
