"""What container engines still keep for tasks that are over: looked for where a runner may not have removed it.

That is at the daemon's start, and after the end of a task whose container nobody saw out.
"""

from __future__ import annotations

import asyncio
import logging

from task_runner.environment.base import Environment
from task_runner.lib import backoff
from task_runner.model.machines import CONTAINER
from task_runner.model.state import Outcome
from task_runner.model.status import ActionStatus
from task_runner.service.book import Book
from task_runner.service.task import Record, Task

log = logging.getLogger(__name__)

#: seconds before an engine that did not answer is asked again, how that grows, and how often it is asked
AGAIN, FACTOR, LONGEST, MOST = 5.0, 2.0, 600.0, 30


class Leftovers:
    """Has them removed."""

    def __init__(self, book: Book, environment: Environment) -> None:
        self._book = book
        self._environment = environment
        self._wanted = asyncio.Event()
        self._wanted.set()
        book.on_final.append(self._over)

    async def run(self) -> None:
        """Once at the start, and whenever there may be some, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            for tries in range(1, MOST):
                if await self._environment.sweep(self._doomed):
                    break
                await asyncio.sleep(backoff.growing(AGAIN, FACTOR, LONGEST, tries))

    def _over(self, task: Task) -> None:
        if task.mentions(CONTAINER) and may_have_left(task.record):
            self._wanted.set()

    def _doomed(self, task_id: str, attempt: int) -> bool:
        """Whether what an attempt has made is to go: nobody has it in hand, or ever will."""
        task = self._book.active.get(task_id)
        return task is None or task.final or attempt < task.record.attempt


def may_have_left(record: Record) -> bool:
    """Whether a container of an attempt that is over may still be there. Pure."""
    if record.outcome is Outcome.LOST or record.status is None:
        return True
    return any(map(_may_have_left, record.status.actions))


def _may_have_left(action: ActionStatus) -> bool:
    """Also where the engine had the image, and the container did not start: it may come to what it was asked for when
    nobody waits for it any more."""
    container = action.container
    return container is not None and (
        container.left or (container.image_id is not None and action.exit_code is None and action.signal is None)
    )
