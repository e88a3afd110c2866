"""The queue: the way of tasks that wait into the environment.

What a task may wait for beside room is the matter of service/parking.py; who starts where there is room is decided in
service/schedule.py. Here both are put to use: what comes in is noted, and `fill` acts on it, which is called soon by
itself and by everyone who wants it sooner. It costs what has changed and what it starts, however many wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from task_runner.environment.base import Environment, Launch, Refusal
from task_runner.errors import TaskRunnerError
from task_runner.lib import failpoint
from task_runner.lib.backoff import growing
from task_runner.model.grant import Grant
from task_runner.model.state import Event, Outcome, State, step
from task_runner.service.book import Book
from task_runner.service.capacity import Capacity
from task_runner.service.holds import Holds
from task_runner.service.parking import Parking
from task_runner.service.schedule import GPUS, Limits, Plan, Room, schedule, waits_for
from task_runner.service.task import Task
from task_runner.service.waiting import CONSIDERED, Crowd, Place, Waiting, needs
from task_runner.service.waker import Handle, Waker

log = logging.getLogger(__name__)

#: seconds before a launch that the environment refused is tried again: doubled each time, up to the last
RETRY_FIRST, RETRY_LAST = 0.1, 30.0


class Queue:
    """Pending and scheduled tasks, and what the launched ones have.

    ``capacity``: what there is for tasks; unless given, processors and memory without end and nothing else.
    ``grant``: what a task is given beside its spec, asked when `task.gpus` is set; an error of ours is a refusal.
    ``ending_of``: how a task ended that is not active, None if there is none; the store knows, unless said otherwise.
    ``call_later``: the event loop's, unless said otherwise.
    """

    def __init__(
        self,
        book: Book,
        environment: Environment,
        limits: Limits,
        *,
        capacity: Capacity | None = None,
        priority_seconds: float = 3600.0,
        grant: Callable[[Task], Grant | None] | None = None,
        ending_of: Callable[[str], Outcome | None] | None = None,
        call_later: Callable[[float, Callable[[], None]], Handle] | None = None,
    ) -> None:
        self._book = book
        self._environment = environment
        self.limits = limits
        self.grant = grant or _gpus_alone
        #: launched and not over
        self.running: set[str] = set()
        #: launched and not yet seen to run
        self.starting: set[str] = set()
        #: ends a task that is not to be started any more, for this reason and so; set by the service. It may do so
        #: later, and is asked again where nothing comes of it
        self.cancel: Callable[[Task, str | None, Outcome], None] = lambda _task, _reason, _outcome: None
        #: makes tasks `pending` whose time has come, and then calls `add` with each; set by the service. It may do so
        #: later; meanwhile they must be `ending`, or it is asked again
        self.due: Callable[[list[Task]], None] = self._due
        self._holds = Holds(capacity or Capacity(cpus=math.inf, memory_mb=math.inf))
        self._parking = Parking(
            book,
            self._holds.total,
            priority_seconds=priority_seconds,
            ending_of=ending_of or self._ending_in_store,
            cancel=lambda *ending: self.cancel(*ending),
            due=lambda tasks: self.due(tasks),
            waits_for=lambda want: waits_for(want, self.room(), self._plan),
        )
        #: batches whose tasks are not to start
        self.held = self._parking.held
        self._plan = Plan(self.room())
        #: launches that the environment refused, or for which there was nothing to grant
        self.refused_launches = 0
        self._filling = False
        self._waker = Waker(book.clock, self.fill, call_later)
        book.on_final.append(self._over)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._parking)

    def close(self) -> None:
        """Start nothing any more, and wake up no more."""
        self._waker.close()

    # -- news: noted here, acted on in `fill`

    def add(self, task: Task) -> None:
        """Let a task wait its turn; one that waits already is considered anew."""
        self._parking.add(task)
        self._waker.soon()

    def remove(self, task: Task) -> None:
        """Let a task wait no more."""
        self._parking.remove(task)
        self._waker.soon()

    def hold(self, batch: str, held: bool) -> None:
        """Start no tasks of a batch, or start them again."""
        (self.held.add if held else self.held.discard)(batch)
        self._waker.soon()

    def adopt(self, task: Task) -> None:
        """Count a task that was launched by an earlier daemon, with `task.gpus` as its claim says. May be called again
        when those have become known: until they are, no graphics processors are given out."""
        self._parking.remove(task)
        self.running.add(task.id)
        self._holds.take(task.id, needs(task), task.gpus)
        self._parking.occupy(task)
        self._waker.soon()

    def started(self, task: Task) -> None:
        """A launched task was seen to run."""
        if task.id in self.starting:
            self.starting.discard(task.id)
            self._waker.soon()

    def back(self, task: Task) -> None:
        """A launched task waits again, at its old place: its launch is proven not to have happened, or this attempt is
        over and another is to follow."""
        self._release(task)
        task.launched_at = None
        task.gpus = ()
        if task.record.state in (State.STARTING, State.UNKNOWN):
            task.record = replace(task.record, state=State.PENDING)
        self.add(task)

    def refused(self, refusal: Refusal) -> None:
        """The environment could not launch; try again later, and say why meanwhile."""
        task = self._book.active.get(refusal.task_id)
        if task is None or task.record.attempt != refusal.attempt or task.id not in self.starting:
            return
        task.refusals += 1
        self.refused_launches += 1
        delay = growing(RETRY_FIRST, 2.0, RETRY_LAST, task.refusals)
        task.not_before = self._book.clock.monotonic() + delay
        task.pending_reason = f"it could not be started, and will be tried again: {refusal.reason}"
        log.warning("task %s: %s", task.id, task.pending_reason)
        self.back(task)

    def _over(self, task: Task) -> None:
        self._release(task)
        self._parking.over(task)
        self._waker.soon()

    def _release(self, task: Task) -> None:
        self.running.discard(task.id)
        self.starting.discard(task.id)
        self._holds.release(task.id)
        self._parking.vacate(task)

    def _due(self, tasks: list[Task]) -> None:
        for task in tasks:
            task.record = replace(task.record, state=step(task.record.state, Event.DUE))
            self.add(task)

    def _ending_in_store(self, task_id: str) -> Outcome | None:
        task = self._book.store.get(task_id)
        return task.record.outcome if task is not None else None

    # -- acting

    def fill(self) -> None:
        """Act on the news, and launch all that may start."""
        if self._waker.closed:
            return
        if self._filling:  # called by somebody whom it has called
            self._waker.soon()
            return
        self._filling = True
        try:
            while not self._pass():
                pass
        finally:
            self._filling = False
        seconds = self._parking.alarms.sleep()
        if seconds is not None:
            self._waker.within(seconds)

    def _pass(self) -> bool:
        """Decide once; False if it was decided for tasks that must not start, so that it has to be done again."""
        self._parking.settle()
        lines = self._parking.lines
        self._plan = schedule(lines.values(), self.room())
        chosen = [waiting for want in self._plan.starts if (waiting := self._parking.get(want.task_id))]
        for kinds in [kinds for kinds, line in lines.items() if not line]:
            del lines[kinds]
        ready = [waiting for waiting in chosen if _may_start(waiting.task)]
        for waiting in chosen:
            if not _may_start(waiting.task):
                self._parking.consider(waiting)
        # all are counted before the first is launched: a launch may call back
        for waiting in ready:
            self._take(waiting)
        for waiting in ready:
            self._launch(waiting.task)
        return len(ready) == len(chosen)

    def room(self) -> Room:
        """What there is, and what of it is free."""
        return self._holds.room(self.limits, len(self.starting))

    def _take(self, waiting: Waiting) -> None:
        task, needed = waiting.task, needs(waiting.task)
        wanted = dict(needed).get(GPUS, 0)
        task.gpus = self._holds.free_gpus()[:wanted] if wanted else ()
        self._parking.remove(task)
        self._parking.occupy(task)
        self._holds.take(task.id, needed, task.gpus)
        self.running.add(task.id)
        self.starting.add(task.id)
        task.record = replace(task.record, state=step(task.record.state, Event.LAUNCH))
        task.launched_at = self._book.clock.monotonic()
        task.pending_reason = None

    def _launch(self, task: Task) -> None:
        attempt = task.record.attempt
        try:
            grant = self.grant(task)
        except TaskRunnerError as error:
            self.refused(Refusal(task_id=task.id, attempt=attempt, reason=str(error)))
            return
        failpoint.reach("start.before-launch")
        self._environment.launch(Launch(task_id=task.id, attempt=attempt, spec=task.spec_json, grant=grant))
        failpoint.reach("start.after-launch")

    def survey(self) -> dict[Place, Crowd]:
        """How many wait, and since when, by what they wait for. Costs what waits."""
        return self._parking.survey()

    # -- in words

    def reason(self, task: Task) -> str | None:
        """What a waiting task waits for, in words. Cheap: it says what the last `fill` found."""
        if not task.waiting:
            return None
        waiting = self._parking.get(task.id)
        if waiting is None:
            return CONSIDERED
        return self._parking.reason(waiting)


def _may_start(task: Task) -> bool:
    """Whether nobody has changed a candidate without a word: the service marks what it is about to end."""
    return task.record.state is State.PENDING and not task.ending and task.intent is None


def _gpus_alone(task: Task) -> Grant | None:
    return Grant(gpus=list(task.gpus)) if task.gpus else None
