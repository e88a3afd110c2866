"""Changes of the store, as transactions: one thread makes them.

It takes everything that waits, commits it as one transaction, and then tells all who waited: a thousand clients share
an fsync. Whoever awaits `write` and gets no error may rely on it after a power cut.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from task_runner.errors import Damaged, StorageFull
from task_runner.lib import failpoint
from task_runner.service.statements import Op

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    ops: list[Op]
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Makes changes in the order in which they were asked for. ``db`` is its own from then on.

    ``on_commit``: called with the seconds that a transaction took, in the writer's thread.
    """

    def __init__(self, db: sqlite3.Connection, on_commit: Callable[[float], None]) -> None:
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, args=(db,), name="store", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, then close the connection."""
        self._jobs.put(None)
        self._thread.join()

    async def write(self, ops: list[Op]) -> None:
        """Make these changes, all or none, and bring them to stable storage. Raises StorageFull."""
        loop = asyncio.get_running_loop()
        job = _Job(ops, loop.create_future(), loop)
        self._jobs.put(job)
        await job.done

    def _write_all(self, db: sqlite3.Connection) -> None:
        ended = False
        while not ended:
            jobs = []
            job = self._jobs.get()
            while job is not None:
                jobs.append(job)
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            ended = job is None
            if jobs:
                began = time.perf_counter()
                errors = _commit_each(db, jobs)
                self._on_commit(time.perf_counter() - began)
                _settle(jobs, errors)
        db.close()


def _commit_each(db: sqlite3.Connection, jobs: list[_Job]) -> list[Exception | None]:
    """What went wrong with each: together if that works, else one by one, so that a faulty one fails alone."""
    error = _commit(db, jobs)
    if isinstance(error, Damaged) and len(jobs) > 1:
        return [_commit(db, [job]) for job in jobs]
    return [error] * len(jobs)


def _commit(db: sqlite3.Connection, jobs: Iterable[_Job]) -> Exception | None:
    """One transaction for all. Returns what went wrong; then nothing of it was done."""
    try:
        db.execute("BEGIN IMMEDIATE")
        for job in jobs:
            for sql, values in job.ops:
                db.execute(sql, values)
        failpoint.reach("store.before-commit")
        db.execute("COMMIT")
        failpoint.reach("store.after-commit")
    # the others: of text that is no Unicode, and of a number of more than 64 bits
    except (sqlite3.Error, ValueError, OverflowError) as error:
        _roll_back(db)
        log.warning("the store did not take a change: %s", error, extra={"action": "commit_failed"})
        if isinstance(error, sqlite3.OperationalError):
            return StorageFull(f"tasks.db: {error}")
        return Damaged(f"tasks.db: {error}")
    return None


def _roll_back(db: sqlite3.Connection) -> None:
    """Where a disk fails, this may, too. The thread must go on: the next transaction is refused, this tried again."""
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        log.warning("a change that was refused could not be taken back yet: %s", error)


def _settle(jobs: list[_Job], errors: list[Exception | None]) -> None:
    """Tell all who waited: one call into each event loop, not one a job."""

    def tell() -> None:
        for job, error in zip(jobs, errors, strict=True):
            if not job.done.done():
                if error is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(error)

    try:
        jobs[0].loop.call_soon_threadsafe(tell)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more
