"""What tasks take on the disk: measured after their end, and the quota over the output of all of them.

A finished task is measured once, in a thread, and only where a limit asks for it: a task can leave a million files.
Over the quota the output of the tasks that finished first is freed. Where that is not enough nothing new starts until
it is: what runs is never touched.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from task_runner.environment.base import Environment
from task_runner.errors import TaskRunnerError
from task_runner.service import kept
from task_runner.service.book import Book
from task_runner.service.queue import Queue
from task_runner.service.settings import Settings
from task_runner.service.statements import Op

log = logging.getLogger(__name__)

#: tasks measured, or freed of their output, in one go
SLICE = 200


class Disk:
    """Measures tasks, and keeps the quota."""

    def __init__(self, book: Book, environment: Environment, queue: Queue, settings: Settings) -> None:
        self._book = book
        self._environment = environment
        self._queue = queue
        self._settings = settings
        #: bytes that the output of all tasks took at the last look; None: nobody has looked
        self.output_bytes: int | None = None

    async def run(self) -> None:
        """Keep to the quota, for ever."""
        while self._settings.output_quota_bytes is not None:
            try:
                await self.check_quota(self._settings.output_quota_bytes)
            except TaskRunnerError:
                pass  # the store is full; it says so itself
            except Exception:
                log.exception("looking at the size of the output failed")
            await asyncio.sleep(self._settings.scan_seconds)

    # -- measuring

    async def measure(self) -> None:
        """Measure the finished tasks that have not been. Raises StorageFull."""
        while ops := await asyncio.to_thread(self._measured):
            await self._book.write(ops)

    def _measured(self) -> list[Op]:
        found, env = self._book.store.read(kept.unmeasured(SLICE)), self._environment
        return [kept.measured(each, env.disk_use(each), env.output_use(each, attempts)) for each, attempts in found]

    # -- the quota

    async def check_quota(self, quota: int) -> None:
        """Free what is over the quota, and close the queue while that is not enough. Raises StorageFull."""
        await self.measure()
        running = [(task.id, task.record.attempt) for task in self._book.active.values()]
        used = await asyncio.to_thread(self._used, running)
        while used > quota and (freed := await self._free(used - quota)):
            used -= freed
        self.output_bytes = used
        closed = None
        if used > quota:
            closed = f"the output of all tasks takes {used} bytes of the {quota} that are allowed (output_quota_bytes)"
        if (closed is None) != (self._queue.limits.closed is None):
            log.warning("%s: nothing new is started", closed) if closed else log.info("tasks are started again")
        self._queue.limits = replace(self._queue.limits, closed=closed)
        if closed is None:
            self._queue.fill()

    def _used(self, running: list[tuple[str, int]]) -> int:
        finished: int = self._book.store.read(kept.output_sum())[0][0]
        return finished + sum(self._environment.output_use(task_id, attempt) for task_id, attempt in running)

    async def _free(self, excess: int) -> int:
        """Free the output of some of the tasks that finished first; returns how many bytes. Raises StorageFull."""
        freed, ops = 0, list[Op]()
        for task_id, size in await asyncio.to_thread(self._book.store.read, kept.output_oldest(SLICE)):
            if freed >= excess:
                break
            task = await asyncio.to_thread(self._book.store.get, task_id)
            if task is not None and task.final and task_id not in self._book.active:
                try:
                    # only of the attempts that are known to be over: another may begin right now
                    await asyncio.to_thread(self._environment.drop_output, task_id, task.record.attempt)
                except OSError as error:
                    log.warning("task %s: its output cannot be freed: %s", task_id, error)
                    continue
                log.info("task %s: its output was freed: %d bytes", task_id, size, extra={"action": "output_freed"})
                freed += size
            ops.append(kept.output_freed(task_id))
        await self._book.write(ops)
        return freed
