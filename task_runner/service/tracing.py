"""Tracing: what an attempt's end is worth telling goes to a collector, sooner or later.

Rule 1: the spans of an ending are written in the transaction of that ending: they are there exactly if it is. So no
        restart loses one, and none is made twice.
Rule 2: they are taken away when the collector has them. A daemon that dies between the collector's answer and that
        makes the next one send them again: the same spans, with the same ids.
Rule 3: nothing waits for the collector. What it does not take waits in the store, up to a number; then the oldest go.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from task_runner.errors import TaskRunnerError
from task_runner.lib import failpoint
from task_runner.lib.backoff import growing
from task_runner.model.codec import from_json, to_json
from task_runner.model.trace import RANDOM, SAMPLED
from task_runner.service import spans, tracecontext
from task_runner.service.book import Book, Change
from task_runner.service.spans import Span
from task_runner.service.statements import Op
from task_runner.service.task import Task
from task_runner.service.traceoptions import Sampler

if TYPE_CHECKING:
    from task_runner.service.otlp import Exporter

log = logging.getLogger(__name__)

T = TypeVar("T")

#: seconds in which endings gather, so that many go in one request
GATHER = 0.25
#: seconds between two looks where nothing says that there is something to be exported
IDLE = 10.0
#: endings in one request
MOST = 200
#: seconds before a request is made again that failed: doubled each time, up to the last
AGAIN_FIRST, AGAIN_LAST = 1.0, 60.0
#: what a collector answers to data that it will never take
BAD_DATA = 400


class Tracer:
    """``sampled``: which traces are exported. ``most``: so many endings wait for the collector."""

    def __init__(self, book: Book, sampled: Sampler, *, most: int) -> None:
        self._book = book
        self._sampled = sampled
        self._most = most
        self._wake = asyncio.Event()
        self._exporter: Exporter | None = None
        #: the last row that the collector has, or that was given up; whether the store has noted that or not
        self._done = 0
        self._failures = 0
        #: since the daemon's start
        self.exported = self.failed = self.dropped = 0

    # -- what the service asks

    def ops(self, change: Change) -> list[Op]:
        """The statements for the spans of an attempt that ends with this change."""
        before, record = change.task.record, change.record
        ended = change.ended or (record if record.outcome is not None else None)
        if ended is None or before.outcome is not None or not self._is_sampled(change.task):
            return []
        told = spans.of_ending(change.task, ended, over=record.outcome is not None)
        self._wake.set()
        data = json.dumps([to_json(each, sparse=True) for each in told], separators=(",", ":"))
        return [("INSERT INTO spans (data) VALUES (?)", (data,))]

    def parents(self, task: Task) -> list[str]:
        """The TRACEPARENT of each action of a task's attempt, by index."""
        known, record = spans.names(task), task.record
        came = record.trace.flags & RANDOM if record.trace is not None else 0
        flags = came | (SAMPLED if self._is_sampled(task) else 0)
        actions = len(task.spec.all_actions)
        ids = (known.action(record.attempt, index) for index in range(actions))
        return [tracecontext.parent(known.trace, span_id, flags) for span_id in ids]

    def waiting(self) -> int:
        """Endings whose spans are still to be exported."""
        return int(self._book.store.read(("SELECT count(*) FROM spans WHERE seq > ?", (self._done,)))[0][0])

    def _is_sampled(self, task: Task) -> bool:
        return self._sampled(spans.names(task).trace, task.record.trace)

    # -- exporting

    async def run(self) -> None:
        """Export what there is, for ever."""
        try:
            while True:
                pause = AGAIN_LAST
                try:
                    pause = await self._export_next()
                except Exception:
                    log.exception("exporting spans failed")  # not expected
                if not self._failures:
                    await self._sleep(pause)
                else:
                    await asyncio.sleep(pause)
        finally:
            if self._exporter is not None:
                self._exporter.close()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                await asyncio.sleep(GATHER)
        except TimeoutError:
            return
        self._wake.clear()
        try:
            await self._book.store.write([])  # returns when what was handed to the store before is in it
        except TaskRunnerError:
            pass

    async def _export_next(self) -> float:
        """Send the oldest; returns the seconds until the next look."""
        look_up: Op = ("SELECT seq, data FROM spans WHERE seq > ? ORDER BY seq LIMIT ?", (self._done, MOST))
        rows = await asyncio.to_thread(self._book.store.read, look_up)
        if not rows:
            return IDLE
        if self._exporter is None:
            self._exporter = await _in_thread(_connect)
        exporter, groups = self._exporter, [_read(data) for _seq, data in rows]
        status = await self._send(exporter, [span for group in groups for span in group])
        if status == BAD_DATA:
            # whichever it does not like: the others shall not suffer
            for (seq, _data), group in zip(rows, groups, strict=True):
                status = await self._send(exporter, group)
                if status == BAD_DATA:
                    log.warning("the collector refuses spans of an ending, they are dropped: %s", group[:1])
                    self.dropped += 1
                elif status != 200:
                    break
                await self._settle(seq)
        elif status == 200:
            await self._settle(rows[-1][0])
        if status in (200, BAD_DATA):
            self._failures = 0
            return 0.0 if len(rows) == MOST else IDLE
        return await self._put_off(status)

    async def _send(self, exporter: Exporter, group: list[Span]) -> int | None:
        if not group:
            return 200
        status = await _in_thread(lambda: exporter.send(group))
        if status == 200:
            failpoint.reach("spans.sent")
            self.exported += len(group)
        else:
            self.failed += 1
        return status

    async def _settle(self, seq: int) -> None:
        self._done = seq
        await self._book.write_now_or_later([("DELETE FROM spans WHERE seq <= ?", (seq,))])

    async def _put_off(self, status: int | None) -> float:
        self._failures += 1
        if self._failures == 1:
            what = f"answered {status}" if status is not None else "does not answer"
            log.warning("the collector of traces %s; spans wait in the store", what, extra={"action": "spans_wait"})
        newest_of_too_many = "SELECT seq FROM spans WHERE seq > ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
        rows = await asyncio.to_thread(self._book.store.read, (newest_of_too_many, (self._done, self._most)))
        if rows:
            count: Op = ("SELECT count(*) FROM spans WHERE seq > ? AND seq <= ?", (self._done, rows[0][0]))
            self.dropped += self._book.store.read(count)[0][0]
            log.warning("spans of the oldest endings are dropped: more than %d wait (tracing_waiting)", self._most)
            await self._settle(rows[0][0])
        return growing(AGAIN_FIRST, 2.0, AGAIN_LAST, self._failures)


def _connect() -> Exporter:
    from task_runner.service.otlp import Exporter

    return Exporter()


def _read(data: str) -> list[Span]:
    """One that cannot be read is nobody's: it was written by another version."""
    try:
        return [from_json(Span, each) for each in json.loads(data)]
    except (TypeError, ValueError, TaskRunnerError) as error:
        log.warning("spans that were kept cannot be read, and are dropped: %s", error)
        return []


async def _in_thread(call: Callable[[], T]) -> T:
    """What a call returns that may hang for seconds. In a thread that does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    threading.Thread(target=work, name="spans", daemon=True).start()
    return await done
