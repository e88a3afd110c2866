"""Removing tasks: one is hidden at once, stopped where it is active, and gone when it is over.

Files first: what is left after a crash, wherever it comes, is a row that says that it is to be removed.
"""

from __future__ import annotations

import asyncio

from task_runner.environment.base import Environment
from task_runner.errors import Conflict, StorageFull
from task_runner.service import batch, statements
from task_runner.service.background import Background
from task_runner.service.book import Book
from task_runner.service.control import Control
from task_runner.service.task import Task


class Removal:
    """Forgets tasks."""

    def __init__(self, book: Book, environment: Environment, control: Control, background: Background) -> None:
        self._book = book
        self._environment = environment
        self._control = control
        self._background = background
        #: tasks that are being removed: nobody can have one tried again that is about to lose its files
        self.leaving: set[str] = set()
        book.on_final.append(self._over)

    async def delete(self, task: Task) -> None:
        """Forget a task. Raises Conflict where other tasks wait for its end, and StorageFull: where the store does not
        know of its end its files go not before it does, since nothing else tells the next daemon that it has run."""
        if waiting := self._book.dependants.waiting_for(task.id):
            raise Conflict(f"task {waiting[0].id} waits for this one: stop or delete it first")
        if task.final and not task.ending:
            self.leaving.add(task.id)  # before the store is waited for: meanwhile it could be tried again
        try:
            await self._book.write([statements.hide(task.id)])
        except StorageFull:
            if not task.final or self._book.is_unsaved(task):
                self.leaving.discard(task.id)
                raise
        task.deleted = True
        self._book.hub.publish_gone([task.id])
        if task.final:
            self.begin(task)
        else:
            await self._stop(task)

    async def _stop(self, task: Task) -> None:
        intent = task.intent
        signal, grace = (intent.signal, intent.grace_seconds) if intent else (None, None)
        await self._control.request_stop(task, signal, grace)

    def _over(self, task: Task) -> None:
        if task.deleted:
            self.begin(task)

    def begin(self, task: Task) -> None:
        """Have a task removed that is hidden and over."""
        self._background.job(self.remove([task.id]))

    async def remove(self, ids: list[str]) -> None:
        """Remove tasks that are over."""
        self.leaving.update(ids)
        try:
            ops = []
            for task_id in ids:
                await asyncio.to_thread(self._environment.discard, task_id)
                ops += [batch.count_removed(task_id), *statements.remove(task_id)]
            await self._book.write_now_or_later(ops)
        finally:
            self.leaving.difference_update(ids)
