"""Control: what may be asked of a task that has been accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from signal import SIGCONT

from task_runner.environment.base import Environment
from task_runner.errors import Conflict, StorageFull
from task_runner.lib import failpoint
from task_runner.lib.clock import stamp
from task_runner.model.codec import from_json
from task_runner.model.machines import ProcessParameters
from task_runner.model.state import Event, Outcome, State, step
from task_runner.service import statements
from task_runner.service.again import next_attempt
from task_runner.service.book import Book, Change
from task_runner.service.queue import Queue
from task_runner.service.task import StopIntent, Task
from task_runner.service.watch import Watch

#: states in which a task has a command that can be signalled
_SIGNALLED = {State.RUNNING, State.PAUSED, State.STOPPING}


class Control:
    """``get`` finds a task by its id, or raises NotFound."""

    def __init__(
        self, book: Book, environment: Environment, queue: Queue, watch: Watch, get: Callable[[str], Task]
    ) -> None:
        self._book = book
        self._environment = environment
        self._queue = queue
        self._watch = watch
        self._get = get

    # -- stopping

    async def stop(
        self, task_id: str, *, signal: str | None = None, grace: float | None = None, wait: float = 0.5
    ) -> Task:
        """Stop a task; returns it as it is after at most ``wait`` seconds. One that is over stays as it is."""
        task = self._get(task_id)
        if not task.final:
            await self.request_stop(task, signal, grace)
            await self._book.wait(task.id, wait)
        return self._get(task.id)

    async def request_stop(self, task: Task, signal: str | None = None, grace: float | None = None) -> None:
        """Have a task stopped, and remember that it is wanted; does not wait for its end. Raises StorageFull where it
        had not started."""
        if task.waiting and not task.ending:
            await self.cancel_unstarted(task)
            return
        # also where another change of it is under way (its time has come, or was changed): the intent outlasts that
        asked = StopIntent(requested_at=self._book.now(), signal=signal, grace_seconds=grace)
        intent = task.intent = _with_the_first(task, asked)
        failpoint.reach("stop.before-intent")
        try:
            await self._book.write([statements.save_intent(task.id, intent)])
        except StorageFull:
            pass  # a stop must work on a full disk; only a crash right now would forget it
        failpoint.reach("stop.after-intent")
        if not task.final and not task.waiting:
            task.delivered = self._watch.deliver(task)
            failpoint.reach("stop.delivered")
            self._watch.news(task.id)
        elif task.waiting:
            await self.cancel_unstarted(task)  # its launch was taken back meanwhile, or it had not started

    async def cancel_unstarted(
        self, task: Task, reason: str | None = None, outcome: Outcome = Outcome.CANCELLED
    ) -> None:
        """End a task that waits. ``outcome``: TIMED_OUT where the time is over within which it was to start. Raises
        StorageFull: then it still waits."""
        if task.ending or not task.waiting:
            return
        event = Event.EXPIRE if outcome is Outcome.TIMED_OUT else Event.STOP
        record = replace(
            task.record,
            state=step(task.record.state, event),
            outcome=outcome,
            finished_at=self._book.now(),
            error=reason,
        )
        with _changing(task):
            await self._book.change([Change(task, record)])

    # -- a task that runs

    def pause(self, task_id: str) -> Task:
        """Freeze a running task. Raises Conflict where it does not run."""
        task = self._controllable(task_id, "paused", {State.RUNNING, State.PAUSED})
        task.wish = State.PAUSED
        self._reach_runner(task, self._environment.pause(task.id, task.record.attempt))
        return task

    def resume(self, task_id: str) -> Task:
        """Let a paused task go on. Raises Conflict where it does not run."""
        task = self._controllable(task_id, "resumed", {State.RUNNING, State.PAUSED})
        task.wish = State.RUNNING
        self._reach_runner(task, self._environment.resume(task.id, task.record.attempt))
        return task

    def signal(self, task_id: str, number: int) -> Task:
        """Send a signal to the first process of a task's current action. Raises Conflict."""
        task = self._controllable(task_id, "signalled", _SIGNALLED)
        if number == SIGCONT and task.record.state is State.PAUSED:
            raise Conflict("the task is paused: SIGCONT would let a part of it run; resume it")
        self._reach_runner(task, self._environment.signal(task.id, task.record.attempt, number))
        return task

    async def feed(self, task_id: str, data: bytes, *, offset: int | None, end: bool) -> int:
        """Pass bytes to a task's open standard input; returns how many have come by now. Raises Conflict, also where
        the spec asks for no open input, and StorageFull: then none were taken."""
        task = self._get(task_id)
        if not _has_open_input(task):
            raise Conflict('no action of this task asks for an open standard input ("openStdin": true)')
        if task.final or task.waiting:
            raise Conflict(f"the task is {task.record.state.value}: it takes no input")
        attempt = task.record.attempt
        total = await asyncio.to_thread(self._environment.feed, task.id, attempt, data, offset, end)
        if total is None:
            raise Conflict("the task has no runner that could take its input")
        return total

    def _controllable(self, task_id: str, verb: str, states: set[State]) -> Task:
        task = self._get(task_id)
        if task.record.state not in states:
            raise Conflict(f"the task is {task.record.state.value}: it cannot be {verb}")
        return task

    def _reach_runner(self, task: Task, reached: bool) -> None:
        self._watch.news(task.id)
        if not reached:
            raise Conflict("the task has no runner any more")

    async def settle(self, task: Task, states: set[State], wait: float = 0.5) -> Task:
        """The task as it is once it is in one of these states or over, or after ``wait`` seconds."""
        with self._book.hub.subscribe(task.id) as changes:
            try:
                async with asyncio.timeout(wait):
                    while task.record.state not in states and not task.final:
                        await changes.next()
            except TimeoutError:
                pass
        return task

    # -- another time

    async def reschedule(self, task_id: str, at: float | None) -> Task:
        """Let a task that has not started run at another time (seconds since 1970; None: now). Raises Conflict."""
        task = self._get(task_id)
        record = task.record
        if not task.waiting or task.ending or record.attempt > 1:
            raise Conflict(f"the task is {record.state.value}: its time can be changed only before it starts")
        now = self._book.clock.time()
        later = at is not None and at > now
        state = record.state
        if later:
            state = step(state, Event.POSTPONE)
        elif state is State.SCHEDULED:
            state = step(state, Event.DUE)
        record = replace(record, state=state, execute_at=stamp(now if at is None else at), renewed_at=stamp(now))
        with _changing(task):
            await self._book.change([Change(task, record)])
        task.start_by = None
        self._queue.add(task)
        self._queue.fill()
        return task

    async def make_due(self, tasks: list[Task]) -> None:
        """Let scheduled tasks be pending whose time has come. Raises StorageFull: then they are not, and the queue asks
        again in a while."""
        # somebody may have begun to end one since the queue asked
        tasks = [task for task in tasks if task.record.state is State.SCHEDULED and not task.ending]
        if not tasks:
            return
        changes = [Change(task, replace(task.record, state=step(task.record.state, Event.DUE))) for task in tasks]
        with _changing(*tasks):
            await self._book.change(changes)
        for task in tasks:
            self._queue.add(task)

    async def retry(self, task_id: str) -> Task:
        """Run a task that is over once more, as a new attempt. Raises Conflict where it is not over."""
        task = self._get(task_id)
        if not task.final:
            raise Conflict(f"the task is {task.record.state.value}: only one that is over can be tried again")
        if task.ending:
            raise Conflict("another request is about to try this task again")
        state = step(task.record.state, Event.RETRY)
        record = next_attempt(task.record, state=state, renewed_at=self._book.now(), series=False)
        with _changing(task):
            self._book.take_up(task)
            try:
                await self._book.change([Change(task, record)], [statements.save_intent(task.id, None)])
            except StorageFull:
                self._book.active.pop(task.id, None)
                raise
        task.start_over()
        self._queue.add(task)
        self._queue.fill()
        return task


def _with_the_first(task: Task, asked: StopIntent) -> StopIntent:
    """What is wanted of a task that is to stop: the first request counts, and another can only shorten the grace. Its
    runner holds to that, too, but may not have heard of the first one yet."""
    first = task.intent
    if first is None:
        return asked
    own = task.spec.grace_seconds
    grace = min(first.grace_seconds, asked.grace_seconds, key=lambda each: own if each is None else each)
    return replace(asked, signal=first.signal, grace_seconds=grace)


@contextmanager
def _changing(*tasks: Task) -> Iterator[None]:
    """While the store is asked to change these: the queue does not start them, and nobody else changes them."""
    for task in tasks:
        task.ending = True
    try:
        yield
    finally:
        for task in tasks:
            task.ending = False


def _has_open_input(task: Task) -> bool:
    """Whether an action of it keeps its standard input open."""
    return any(
        action.machine == "process" and from_json(ProcessParameters, action.parameters).open_stdin
        for action in task.spec.all_actions
    )
