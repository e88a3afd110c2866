"""Where tasks wait until they wait for nothing but room.

A task is parked at the first `waiting.Place` that keeps it from starting, and considered again when that changes, and
only then. So news costs what it changes, not what waits. Those that are left stand in the lines of service/schedule.py.

Rule 1: a task that waits for other tasks, for its next try or for its batch keeps its place in the line of its entity.
        One that is scheduled has none until its time has come.
Rule 2: who cannot succeed any more is ended at once: a task whose dependency did not succeed, those that depend on it,
        and so on. The service is told of them in this order and in one go, so that one commit takes them all.
Rule 3: news is only noted; `settle` acts on it. So no piece of news acts in the middle of another, and a chain of any
        length needs no recursion.
Rule 4: `scheduled` goes by the wall clock, whoever sets it. The wait for a next try is a duration, and so is the time
        within which a task is to start: they go by the monotonic clock, and after a restart they are what the wall
        clock says is left of them, at most their longest.
Rule 5: a task whose time to start is over is not launched any more, whatever becomes free in the same moment. One
        whose launch is on its way is none of those that wait; if the launch comes to nothing it is one again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from task_runner.lib.backoff import growing
from task_runner.model.state import Outcome, State
from task_runner.model.terms import Condition
from task_runner.service.alarms import Alarms
from task_runner.service.book import Book
from task_runner.service.entities import Entities
from task_runner.service.schedule import SLOT, Line, Want, unfit
from task_runner.service.task import Task
from task_runner.service.waiting import UNCONSIDERED, Crowd, Place, Waiting, start_by, survey, too_late, verdict_on

#: seconds after which a task that the service was about to change is looked at again …
RECHECK = 1.0
#: … doubled each time it has been asked to end it, up to this
RECHECK_LAST = 30.0


class Parking:
    """Tasks that wait.

    ``total``: what there is of each kind. ``ending_of``: how a task ended that is not active; None: there is no such
    task. ``cancel`` and ``due`` are those of the queue. ``waits_for``: what a task that could start has no room for.
    """

    def __init__(
        self,
        book: Book,
        total: dict[str, float],
        *,
        priority_seconds: float,
        ending_of: Callable[[str], Outcome | None],
        cancel: Callable[[Task, str | None, Outcome], None],
        due: Callable[[list[Task]], None],
        waits_for: Callable[[Want], str],
    ) -> None:
        self._book = book
        self._total = {SLOT: 1.0, **total}
        self._priority_seconds = priority_seconds
        self._ending_of = ending_of
        self._cancel = cancel
        self._due = due
        self._waits_for = waits_for
        #: batches whose tasks are not to start
        self.held: set[str] = set()
        #: those that wait for nothing but room, by the kinds of their needs
        self.lines: dict[tuple[str, ...], Line] = {}
        self.alarms = Alarms(book.clock)
        self._waiting: dict[str, Waiting] = {}
        self._batches: dict[str, dict[str, Waiting]] = {}
        self._entities = Entities()
        # news that is to be acted on
        self._arrived: deque[Waiting] = deque()
        self._ended: deque[tuple[str, Outcome | None]] = deque()
        self._moved: dict[str, None] = {}  # entities
        self._held_before: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def get(self, task_id: str) -> Waiting | None:
        return self._waiting.get(task_id)

    # -- news

    def add(self, task: Task) -> None:
        """A task waits; one that waits already is considered anew."""
        self.remove(task)
        waiting = self._waiting[task.id] = Waiting(task)
        if task.batch is not None:
            self._batches.setdefault(task.batch, {})[task.id] = waiting
        self._arrived.append(waiting)

    def remove(self, task: Task) -> None:
        """A task waits no more. Nothing happens where it does not."""
        waiting = self._waiting.pop(task.id, None)
        if waiting is None:
            return
        self._unpark(waiting)
        if task.batch is not None:
            self._batches[task.batch].pop(task.id)
            if not self._batches[task.batch]:
                del self._batches[task.batch]
        if task.entity is not None:
            self._entities.leave(task.entity, task.id)
            self._moved[task.entity] = None

    def over(self, task: Task) -> None:
        """A task has ended."""
        self.remove(task)
        self._ended.append((task.id, task.record.outcome))

    def occupy(self, task: Task) -> None:
        """A task has been launched."""
        if task.entity is not None:
            self._entities.occupy(task.entity, task.id)
            self._moved[task.entity] = None

    def vacate(self, task: Task) -> None:
        """A task that had been launched is so no more."""
        if task.entity is not None:
            self._entities.vacate(task.entity, task.id)
            self._moved[task.entity] = None

    # -- acting on it

    def settle(self) -> None:
        """Act on the news and on the clocks. Calls `cancel` and `due`, which may bring more news."""
        while True:
            if self._ended:
                self._resolve(*self._ended.popleft())
            elif self._arrived:
                self._arrive(self._arrived.popleft())
            elif self._moved:
                self._advance(self._moved.popitem()[0])
            elif self.held != self._held_before:
                self._heed_batches()
            elif not self._heed_clocks():
                return

    def consider(self, waiting: Waiting) -> None:
        """Find the place where a task has to wait now."""
        self._unpark(waiting)
        task, now = waiting.task, self._book.clock.monotonic()
        waiting.place = self._place(waiting, now)
        match waiting.place:
            case Place.LEAVING:
                self._leave(waiting, now)
            case Place.TIME:
                self.alarms.at_time(task.record.execute_at or task.record.created_at, waiting)
            case Place.LATER:
                self.alarms.at_age(waiting.later, waiting)
            case Place.ROOM:
                want = waiting.want_with(self._priority_seconds)
                self.lines.setdefault(want.kinds, Line()).add(want)
        if task.start_by is not None and waiting.place is not Place.LEAVING:
            self.alarms.at_age(task.start_by, waiting)

    def _place(self, waiting: Waiting, now: float) -> Place:
        task = waiting.task
        if task.intent is not None:
            waiting.doomed = True  # stopped while its launch was on the way, and then the launch was recalled
        if waiting.doomed or task.ending or not task.waiting:
            return Place.LEAVING
        if task.record.state is State.SCHEDULED:
            return Place.TIME
        if task.entity is not None and not self._entities.at_front(task.entity, task.id):
            return Place.ENTITY
        if waiting.open:
            return Place.AFTER
        if waiting.later > now:
            return Place.LATER
        if task.batch in self.held:
            return Place.BATCH
        if unfit(waiting.want_with(self._priority_seconds).needs, self._total) is not None:
            return Place.UNFIT
        return Place.ROOM

    def _leave(self, waiting: Waiting, now: float) -> None:
        delay = RECHECK
        if waiting.doomed:
            waiting.asked += 1
            delay = growing(RECHECK, 2.0, RECHECK_LAST, waiting.asked)
        self.alarms.at_age(now + delay, waiting)
        if waiting.doomed and not waiting.task.ending:
            self._cancel(waiting.task, waiting.verdict, waiting.outcome)

    def _unpark(self, waiting: Waiting) -> None:
        waiting.moves += 1
        if waiting.place is Place.ROOM and waiting.want is not None and (line := self.lines.get(waiting.want.kinds)):
            line.discard(waiting.task.id)

    def _arrive(self, waiting: Waiting) -> None:
        task = waiting.task
        if self._waiting.get(task.id) is not waiting:
            return  # it has left again
        waiting.delay(self._book.clock)
        if task.entity is not None and task.record.state is State.PENDING:
            self._entities.join(task.entity, task.seq, task.id)
            self._moved[task.entity] = None
        if task.start_by is None and task.record.state is State.PENDING:
            task.start_by = start_by(task, self._book.clock)
        verdict = waiting.look_up(self._ending)
        if verdict is not None:
            self._doom(waiting, verdict)
        elif waiting.late(self._book.clock):
            self._doom(waiting, too_late(task, UNCONSIDERED), Outcome.TIMED_OUT)
        else:
            self.consider(waiting)

    def _ending(self, task_id: str) -> Outcome | bool:
        """How a task ended; True: it has not; False: there is none."""
        task = self._book.active.get(task_id)
        if task is not None:
            return task.record.outcome or True
        return self._ending_of(task_id) or False

    def _advance(self, entity: str) -> None:
        """Consider whom the line of an entity has brought to its front, and whom it has pushed from there."""
        for task_id in self._entities.changed(entity):
            waiting = self._waiting.get(task_id)
            if waiting is not None and waiting.place is not Place.LEAVING:
                self.consider(waiting)

    def _heed_batches(self) -> None:
        changed, self._held_before = self.held ^ self._held_before, set(self.held)
        for batch in changed:
            for waiting in self._batches.get(batch, {}).values():
                if waiting.place in (Place.BATCH, Place.ROOM):
                    self.consider(waiting)

    def _heed_clocks(self) -> bool:
        """Consider the tasks whose time has come; False if there are none."""
        due = self.alarms.due_times()
        for waiting in due:
            self._unpark(waiting)
            waiting.place = Place.LEAVING
            self.alarms.at_age(self._book.clock.monotonic() + RECHECK, waiting)
        if tasks := [waiting.task for waiting in due if not waiting.task.ending]:
            self._due(tasks)
        again = [(waiting, waiting.moves) for waiting in self.alarms.due_ages()]
        for waiting, moves in again:
            if waiting.moves != moves:
                continue  # one before it has ended it, or it had two alarms
            if waiting.late(self._book.clock):
                self._doom(waiting, too_late(waiting.task, self.reason(waiting)), Outcome.TIMED_OUT)
            else:
                self.consider(waiting)
        return bool(due or again)

    # -- those that wait for others

    def _resolve(self, task_id: str, outcome: Outcome | None) -> None:
        """A task is over: look at those that wait for it."""
        for task in self._book.dependants.waiting_for(task_id):
            waiting = self._waiting.get(task.id)
            condition = waiting.open.pop(task_id, None) if waiting is not None else None
            if waiting is None or condition is None:
                continue  # it has yet to arrive, and will look for itself
            verdict = verdict_on(task_id, outcome or Outcome.LOST, condition)
            if verdict is not None:
                self._doom(waiting, verdict)
            elif waiting.place is Place.AFTER:
                self.consider(waiting)

    def _doom(self, waiting: Waiting, verdict: str, outcome: Outcome = Outcome.CANCELLED) -> None:
        """Have a task ended, and all that cannot succeed without it (Rule 2)."""
        todo = deque([(waiting, verdict, outcome)])
        while todo:
            waiting, verdict, outcome = todo.popleft()
            if waiting.doomed:
                continue
            waiting.doomed, waiting.verdict, waiting.outcome = True, verdict, outcome
            task_id = waiting.task.id
            self.consider(waiting)
            words = verdict_on(task_id, outcome, Condition.SUCCESS)
            for task in self._book.dependants.waiting_for(task_id):
                dependant = self._waiting.get(task.id)
                if dependant is not None and words and dependant.open.get(task_id) is Condition.SUCCESS:
                    todo.append((dependant, words, Outcome.CANCELLED))

    # -- in numbers and words

    def survey(self) -> dict[Place, Crowd]:
        """How many wait, and since when, by what they wait for."""
        return survey(self._waiting.values())

    def reason(self, waiting: Waiting) -> str:
        """Why a task waits: what the last look at it found."""
        task = waiting.task
        if waiting.place is Place.ROOM and waiting.want is not None:
            return self._waits_for(waiting.want)
        if waiting.place is Place.ENTITY and task.entity is not None:
            return self._entities.ahead(task.entity)
        if waiting.place is Place.UNFIT and waiting.want is not None:
            return unfit(waiting.want.needs, self._total) or ""
        return waiting.words(self._book.clock)
