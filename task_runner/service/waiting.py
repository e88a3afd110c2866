"""One task that waits: what for, and what there is to say of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from task_runner.lib.clock import Clock
from task_runner.model.state import Outcome, State
from task_runner.model.terms import Condition
from task_runner.service.schedule import SLOT, Needs, Want, needs_of
from task_runner.service.task import Record, Task

#: what a task needs that asks for nothing
_PLAIN: Needs = ((SLOT, 1),)

#: what there is to say of a task that is new here, or being changed
CONSIDERED = "it is about to be considered"
#: and of one whose time was over before
UNCONSIDERED = "its time was over before this daemon could consider it"

# Reading a spec takes longer than finding out that it does not have the word, which most have not.


class Place(enum.Enum):
    """What keeps a task from starting: the first of these that does."""

    NEW = "new"  #: it has not been considered yet
    LEAVING = "leaving"  #: the service is ending or changing it
    TIME = "time"  #: it is scheduled; it does not stand in the line of its entity
    ENTITY = "entity"  #: another task of its entity comes first
    AFTER = "after"  #: tasks that must be over first
    LATER = "later"  #: its next try
    BATCH = "batch"  #: its batch is paused
    UNFIT = "unfit"  #: it needs more than there is; the configuration has changed since it was accepted
    ROOM = "room"  #: what others have


@dataclass(slots=True)
class Crowd:
    """Tasks that wait for the same."""

    count: int
    #: since when the one is due that has been for longest, or will be first
    since: str


@dataclass(slots=True, eq=False)
class Waiting:
    """A task in the queue."""

    task: Task
    place: Place = Place.NEW
    #: grows with each move: what a heap says of an earlier place is void
    moves: int = 0
    #: tasks that it waits for and that are not over
    open: dict[str, Condition] = field(default_factory=dict)
    #: it is to be ended instead of started, so and for this reason
    doomed: bool = False
    outcome: Outcome = Outcome.CANCELLED
    verdict: str | None = None
    #: how often that has been asked of the service
    asked: int = 0
    #: not before, on the monotonic clock
    later: float = 0.0
    #: as a candidate
    want: Want | None = None

    def want_with(self, priority_seconds: float) -> Want:
        """What it wants, with its place in the order."""
        if self.want is None:
            task = self.task
            priority = task.spec.priority if task.mentions("priority") else 0
            key = (task.record.rank - priority * priority_seconds, task.seq)
            self.want = Want(key, task.id, needs(task))
        return self.want

    def look_up(self, ending_of: Callable[[str], Outcome | bool]) -> str | None:
        """Find out which of the tasks that it waits for are not over; returns why it is to be ended, if it is.

        ``ending_of``: True for a task that is not over, False for one that does not exist.
        """
        if not self.task.mentions("after"):
            return None
        for each in self.task.spec.after:
            ending = ending_of(each.task)
            if ending is True:
                if self.open.get(each.task) is not Condition.SUCCESS:
                    self.open[each.task] = each.on
            elif ending is False:
                return f"task {each.task}, which it waits for, does not exist any more"
            elif isinstance(ending, Outcome) and (verdict := verdict_on(each.task, ending, each.on)):
                return verdict
        return None

    def delay(self, clock: Clock) -> None:
        """Set the time of its next try: a duration from now on, whatever becomes of the wall clock."""
        task = self.task
        self.later = task.not_before
        if task.record.retry_at is not None and task.spec.retry is not None:
            rest = seconds_of(task.record.retry_at) - clock.time()
            self.later = max(self.later, clock.monotonic() + min(max(0.0, rest), _longest_wait(task)))

    def late(self, clock: Clock) -> bool:
        """Whether it is to be ended because it has not been launched in time."""
        task = self.task
        return (
            task.start_by is not None
            and task.start_by <= clock.monotonic()
            and task.record.state is State.PENDING
            and not (self.doomed or task.ending)
        )

    def words(self, clock: Clock) -> str:
        """Why it waits, where that concerns no other part of the queue."""
        task = self.task
        match self.place:
            case Place.TIME:
                return f"its time has not come: {task.record.execute_at}"
            case Place.AFTER:
                first, condition = next(iter(self.open.items()))
                rest = f", and for {len(self.open) - 1} more" if len(self.open) > 1 else ""
                return f"waits for task {first} to {'succeed' if condition is Condition.SUCCESS else 'end'}{rest}"
            case Place.LATER:
                return task.pending_reason or self._next_try(clock)
            case Place.BATCH:
                return "its batch is paused"
            case Place.LEAVING if self.outcome is Outcome.TIMED_OUT:
                return f"it is being ended: {self.verdict}"
            case Place.LEAVING if self.doomed:
                return f"it is being cancelled: {self.verdict}" if self.verdict else "it is being stopped"
        return task.pending_reason or CONSIDERED

    def _next_try(self, clock: Clock) -> str:
        record, retry = self.task.record, self.task.spec.retry
        tries = f" of {retry.count + 1}" if retry is not None else ""
        seconds = max(0.0, self.later - clock.monotonic())
        return f"try {record.attempt - record.first_attempt + 1}{tries} in {seconds:.0f} s"


def needs(task: Task) -> Needs:
    """What a task needs."""
    if not task.mentions("resources") and not task.mentions("pools"):
        return _PLAIN
    return needs_of(task.spec.resources, task.spec.pools)


def start_by(task: Task, clock: Clock) -> float | None:
    """When a pending task has to be launched by, on the monotonic clock; None: its spec does not say.

    The stamps say since when it is due, or from when on it will be; a clock that was set back gives it no longer than
    it has in all.
    """
    if not task.mentions("startWithinSeconds") or task.spec.start_within_seconds is None:
        return None
    rest = min(seconds_of(due_at(task.record)) - clock.time(), _longest_wait(task))
    return clock.monotonic() + max(0.0, rest + task.spec.start_within_seconds)


def due_at(record: Record) -> str:
    """Since when an attempt is due, or from when on it will be."""
    return max(filter(None, (record.created_at, record.execute_at, record.retry_at, record.renewed_at)))


def _longest_wait(task: Task) -> float:
    """Seconds before another try of it, at most."""
    retry = task.spec.retry
    return retry.max_delay_seconds * (1 + retry.jitter) if retry is not None and task.record.retry_at else 0.0


def too_late(task: Task, reason: str) -> str:
    """Why a task is not to start whose time is over; ``reason``: what it waited for."""
    return f"it was not started within {task.spec.start_within_seconds:.12g} s: {reason}"


def verdict_on(task_id: str, ending: Outcome, condition: Condition) -> str | None:
    """Why a task is not to start for which another ended so; None: it may."""
    if condition is Condition.END or ending is Outcome.SUCCEEDED:
        return None
    return f"task {task_id}, which it waits for, ended {ending.value}"


def survey(tasks: Iterable[Waiting]) -> dict[Place, Crowd]:
    """How many there are, and since when, by what they wait for."""
    crowds: dict[Place, Crowd] = {}
    for each in tasks:
        since = due_at(each.task.record)
        crowd = crowds.get(each.place)
        if crowd is None:
            crowds[each.place] = Crowd(1, since)
        else:
            crowd.count += 1
            crowd.since = min(crowd.since, since)
    return crowds


def seconds_of(stamp: str) -> float:
    """Seconds since 1970 of a stamp of lib/clock.py."""
    return datetime.fromisoformat(stamp).timestamp()
