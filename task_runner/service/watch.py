"""The watch: learns what became of the tasks that runners have in hand.

News (the doorbell, a pidfd, the scan) says only "look at this task". All that is to be looked at is looked at in
one go, and the changes found are stored in one transaction; news that comes meanwhile waits for the next go. So
under load the work per task falls, and a bell rung twice costs one look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from task_runner.environment.base import Environment, Sighting
from task_runner.lib import backoff, failpoint
from task_runner.lib.clock import stamp
from task_runner.model.state import WAITING, Event, Outcome, State, step
from task_runner.model.status import Status
from task_runner.service.again import next_attempt
from task_runner.service.book import Book, Change
from task_runner.service.classify import Active, Ended, NotStarted, Orphaned, Vanished, classify
from task_runner.service.pulses import Pulses
from task_runner.service.queue import Queue
from task_runner.service.succession import Succession
from task_runner.service.task import Record, Task

log = logging.getLogger(__name__)

#: seconds after which a launch that nothing was heard of is looked into
LAUNCH_PATIENCE = 5.0


class Watch:
    """Looks at active tasks and notes what it sees."""

    def __init__(self, book: Book, environment: Environment, queue: Queue, *, scan: float, stalled: float) -> None:
        self._book = book
        self._environment = environment
        self._queue = queue
        self._succession = Succession(environment, book.clock, queue.grant)
        book.on_final.append(lambda task: self._succession.forget(task.id))
        self._scan_seconds = scan
        self._pulses = Pulses(book, environment, stalled_after=stalled)
        self._news: set[str] = set()
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._burials: set[asyncio.Task[None]] = set()
        self._burying: set[str] = set()

    def news(self, task_id: str) -> None:
        """Something may have happened to this task."""
        if task_id in self._book.active:
            self._news.add(task_id)
            self._wake.set()

    async def run(self) -> None:
        """Follow the news, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            ids, self._news = self._news, set()
            try:
                await self.look(ids)
            except Exception:
                # not expected; the scan will come back to these tasks
                log.exception("looking at %d tasks failed", len(ids))

    async def scan(self) -> None:
        """Look at every active task now and then, for ever: for news that got lost, and for silence."""
        while True:
            await asyncio.sleep(self._scan_seconds)
            await self._book.save_pending()
            ids = sorted(self._queue.running)
            for start in range(0, len(ids), 200):
                try:
                    await self.look(ids[start : start + 200], idle=True)
                except Exception:
                    log.exception("scanning failed")
                await asyncio.sleep(0)

    async def look(self, ids: Iterable[str], *, idle: bool = False) -> None:
        """Look at these tasks and note what is new. ``idle``: there was no news, so silence counts.

        One look at a time: what one has found and not yet noted another would find, and tell, again.
        """
        async with self._looking:
            changes = self._changes(ids, idle)
            if changes:
                failpoint.reach("watch.before-note")
                await self._note(changes)
                failpoint.reach("watch.after-note")
        self._queue.fill()

    def _changes(self, ids: Iterable[str], idle: bool) -> list[Change]:
        changes = []
        for task_id in ids:
            task = self._book.active.get(task_id)
            if task is None or task.ending or task.final or task.record.state in WAITING:
                continue
            try:
                change = self._examine(task, idle)
            except Exception:
                log.exception("looking at task %s failed", task_id)  # not expected; it must not hide the others
                continue
            if change is not None:
                changes.append(change)
        return changes

    async def _note(self, changes: list[Change]) -> None:
        changes = [self._or_again(change) for change in changes]
        for change in changes:
            change.task.ending = _is_end(change)
        try:
            await self._book.note(changes, self._make_durable)
        finally:  # what could not be noted, for whatever reason, is looked at again
            for change in changes:
                change.task.ending = False
        for change in changes:
            task = change.task
            if task.final or task.waiting:
                self._pulses.forget(task)
                self._environment.forget(task.id)
            if task.waiting:
                intent = task.intent
                task.start_over()
                task.intent = intent  # a stop that was asked for while the end was noted: the queue sees to it
                self._queue.back(task)

    def _or_again(self, change: Change) -> Change:
        """An end that the spec wants followed by another attempt is not the end of the task."""
        task, record = change.task, change.record
        if record.outcome is None or task.intent is not None or task.deleted or not task.mentions("retry"):
            return change
        tries = record.attempt - record.first_attempt + 1
        wait = backoff.delay(task.spec.retry, tries, record.outcome, backoff.chance())
        if wait is None:
            return change
        at = stamp(self._book.clock.time() + wait)
        state = step(task.record.state, Event.AGAIN) if task.record.state is not State.UNKNOWN else State.PENDING
        log.info("task %s: attempt %d ended %s; another follows", task.id, record.attempt, record.outcome.value)
        return Change(task, next_attempt(record, state=state, retry_at=at, series=True), ended=record)

    def _make_durable(self, task: Task) -> None:
        self._environment.make_durable(task.id, task.record.attempt)

    # -- one task

    def _examine(self, task: Task, idle: bool) -> Change | None:
        sighting = self._environment.look(task.id, task.record.attempt)
        match classify(task.id, task.record.attempt, task.record.state, sighting, task.record.status):
            case Ended(status):
                return Change(task, _ended(task.record, status, sighting))
            case Active(state, status):
                return self._active(task, state, status, sighting, idle)
            case NotStarted():
                self._not_started(task)
            case Vanished() as vanished:
                self._bury(task, vanished, sighting)
            case Orphaned(vanished):
                if not self._succession.follow(task, sighting.runner) and self._bar(task):
                    self._bury(task, vanished, sighting)
        return None

    def _bar(self, task: Task) -> bool:
        """Let no successor come any more, one that is late included."""
        return self._environment.bar(task.id, task.record.attempt)

    def _active(
        self, task: Task, state: State, status: Status | None, sighting: Sighting, idle: bool
    ) -> Change | None:
        if task.intent is not None and not task.delivered and state is not State.STOPPING:
            task.delivered = self.deliver(task)
        self._heed_wish(task, state)
        if idle:
            self._pulses.check(task, sighting)
        if status is not None and state is not State.STARTING:
            self._queue.started(task)
        new = replace(task.record, state=state, status=status, damage=sighting.damage or task.record.damage)
        if state is task.record.state and _told(status) == _told(task.record.status):
            task.record = new  # a heartbeat, a byte count: nothing to tell
            return None
        return Change(task, new)

    def deliver(self, task: Task) -> bool:
        """Pass the wanted stop on to the runner; False where there is none yet."""
        intent = task.intent
        assert intent is not None
        return self._environment.stop(task.id, task.record.attempt, intent.signal, intent.grace_seconds)

    def _heed_wish(self, task: Task, state: State) -> None:
        """Ask again for a pause, or its end, that the runner could not heed: it was just starting, or between two
        actions."""
        if task.wish is State.PAUSED and state is State.RUNNING:
            self._environment.pause(task.id, task.record.attempt)
        elif task.wish is State.RUNNING and state is State.PAUSED:
            self._environment.resume(task.id, task.record.attempt)
        elif state in (State.STOPPING, State.PAUSED):
            # A wish to run stays. Signals that are delivered together run their handlers in reverse: a runner that was
            # late hears of a pause and the resume after it as resume, then pause.
            task.wish = None

    def _not_started(self, task: Task) -> None:
        """A launch of which nothing is to be seen: take it back, if it is old enough to be lost."""
        age = None if task.launched_at is None else self._book.clock.monotonic() - task.launched_at
        if age is None or age > LAUNCH_PATIENCE:
            self.recall(task)

    def recall(self, task: Task) -> None:
        """Put a launched task back into the queue, unless a runner has claimed it."""
        if self._environment.recall(task.id, task.record.attempt):
            self._queue.back(task)
        else:
            self.news(task.id)

    def outage(self) -> None:
        """The environment may have lost launches: each is taken back or found to have happened."""
        for task_id in list(self._queue.starting):
            task = self._book.active.get(task_id)
            if task is not None:
                self.recall(task)
        self._queue.fill()

    # -- the end of a runner that did not say how

    def _bury(self, task: Task, vanished: Vanished, sighting: Sighting) -> None:
        if task.id in self._burying:
            return
        self._burying.add(task.id)
        burial = asyncio.ensure_future(self._clear_and_note(task, vanished, sighting))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def _clear_and_note(self, task: Task, vanished: Vanished, sighting: Sighting) -> None:
        try:
            rebooted = vanished.earlier_boot
            receipt = await asyncio.to_thread(self._environment.clear, task.id, rebooted=rebooted)
            record = replace(
                task.record,
                state=State.LOST,
                outcome=Outcome.LOST,
                finished_at=stamp(self._book.clock.time()),
                status=vanished.status,
                error=vanished.evidence,
                receipt=receipt,
                damage=sighting.damage or task.record.damage,
            )
            await self._note([Change(task, record)])
            self._queue.fill()
        finally:
            self._burying.discard(task.id)


def _is_end(change: Change) -> bool:
    return change.record.outcome is not None or change.record.attempt != change.task.record.attempt


def _told(status: Status | None) -> object:
    """What of a status is worth an event when it changes, beside the state."""
    if status is None:
        return (-1, None, None, None)
    container = status.container
    stage = container and (container.stage, container.removing)
    return (status.current_action_idx, status.progress, status.silence and status.silence.reason, stage)


def _ended(record: Record, status: Status, sighting: Sighting) -> Record:
    return replace(
        record,
        state=status.state,
        outcome=status.outcome,
        finished_at=status.finished_at,
        status=status,
        error=status.error,
        damage=sighting.damage or record.damage,
    )
