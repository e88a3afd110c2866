"""The timeline: which attempts ran when, those of tasks that are over from the store, the others from memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from task_runner.model.state import Outcome, State
from task_runner.service.book import Book
from task_runner.service.statements import BEGAN, Op
from task_runner.service.task import Task

COLUMNS = ("taskId", "name", "batch", "entity", "state", "outcome", "startedAt", "finishedAt", "attempt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An interval, by two stamps."""

    begin: str
    end: str

    def meets(self, started: str, finished: str | None) -> bool:
        return started <= self.end and (finished is None or finished >= self.begin)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One attempt: from ``started`` to ``finished`` (none: it goes on)."""

    attempt: int
    started: str | None
    finished: str | None
    outcome: str | None
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A run, and whose it is."""

    task_id: str
    name: str | None
    batch: str | None
    entity: str | None
    run: Run


async def timeline(book: Book, span: Span, limit: int) -> dict[str, Any]:
    """By column the attempts that ran at some time within the interval, those that started last first; "more": there
    are others."""
    # as for a list of tasks: one that ends, or is tried again, between the two looks is in one of them
    looked = dict(book.active)
    stored, cut = await asyncio.to_thread(_stored, book, span, limit)
    looked.update(book.active)
    over = {bar.task_id for bar in stored}
    live = [task for task in looked.values() if not task.deleted and task.id not in over]
    bars = _sorted([*stored, *(bar for task in live for bar in _of_task(task) if _is_seen(bar, span))])
    rows = [_row(bar) for bar in bars[:limit]]
    columns = [*zip(*rows, strict=True)] if rows else [()] * len(COLUMNS)
    return {
        "from": span.begin,
        "to": span.end,
        "more": cut or len(bars) > limit,
        **{name: list(column) for name, column in zip(COLUMNS, columns, strict=True)},
    }


def _sorted(bars: Iterable[Bar]) -> list[Bar]:
    return sorted(bars, key=lambda bar: (bar.run.started or "", bar.task_id), reverse=True)


def _is_seen(bar: Bar, span: Span) -> bool:
    return bar.run.started is not None and span.meets(bar.run.started, bar.run.finished)


def _row(bar: Bar) -> tuple[Any, ...]:
    run = bar.run
    whose = (bar.task_id, bar.name, bar.batch, bar.entity)
    return (*whose, run.state, run.outcome, run.started, run.finished, run.attempt)


def earlier(attempt: int, started: str | None, finished: str | None, outcome: str | None) -> Run:
    """An attempt that another has followed."""
    state = State.LOST if outcome == Outcome.LOST.value else State.EXITED
    return Run(attempt=attempt, started=started, finished=finished, outcome=outcome, state=state.value)


def runs(previous: list[Run], last: Run) -> list[Run]:
    """The attempts of a task. One that waits for another still has the status of the one before: that is told once."""
    return previous if last.attempt in {run.attempt for run in previous} else [*previous, last]


# -- from memory


def _of_task(task: Task) -> Iterator[Bar]:
    record = task.record
    status, outcome = record.status, record.outcome and record.outcome.value
    last = Run(
        attempt=status.attempt if status else record.attempt,
        started=status.started_at if status else None,
        finished=(status.finished_at if status else None) or record.finished_at,
        outcome=outcome,
        state=record.state.value,
    )
    previous = [
        earlier(past.attempt, past.started_at, past.finished_at, past.outcome and past.outcome.value)
        for past in record.previous
    ]
    for run in runs(previous, last):
        yield Bar(task_id=task.id, name=task.name, batch=task.batch, entity=task.entity, run=run)


# -- from the store

_SELECT = """
    SELECT id, name, batch, entity, state, outcome, finished_at,
        ifnull(json_extract(record, '$.status.attempt'), 1), json_extract(record, '$.status.startedAt'),
        json_extract(record, '$.status.finishedAt'), json_extract(record, '$.previous')
    FROM tasks"""
_OVER = "outcome IS NOT NULL AND deleted = 0"


#: a damaged record does not say that it was
_RETRIED = "CASE WHEN json_valid(record) THEN ifnull(json_array_length(record, '$.previous'), 0) > 0 ELSE 0 END"


def begun_within(span: Span, limit: int) -> Op:
    """Those that first began in the interval, the last first."""
    sql = f"{_SELECT} WHERE {_OVER} AND {BEGAN} BETWEEN ? AND ? ORDER BY {BEGAN} DESC LIMIT ?"
    return sql, (span.begin, span.end, limit)


def lasted_until(moment: str, limit: int, index: str) -> Op:
    """Those that first began before a moment and ended at it or after it: first those that were tried again, of which
    attempts may have begun later, then the others, the last first."""
    return f"{_lasted(index)} ORDER BY {_RETRIED} DESC, {BEGAN} DESC LIMIT ?", (moment, moment, _MOST_RETRIED + limit)


def retried_until(moment: str, index: str) -> Op:
    """Of these, those that were tried again."""
    return f"{_lasted(index)} AND {_RETRIED} LIMIT ?", (moment, moment, _MOST_RETRIED)


def _lasted(index: str) -> str:
    return f"{_SELECT} INDEXED BY {index} WHERE {_OVER} AND {BEGAN} < ? AND finished_at >= ?"


#: tasks that were tried again and had begun and were not over at one moment: more than there are
_MOST_RETRIED = 20_000
#: where no more tasks than these have ended since a moment, they are looked at one by one: the usual end of an interval
#: is now, and all that ever began before it are many more. Else those are gone through, in the index alone.
_FEW = 5000


def ended_since(moment: str) -> Op:
    """How many have ended since a moment, and one more than few at most."""
    since = "SELECT 1 FROM tasks INDEXED BY tasks_finished WHERE outcome IS NOT NULL AND finished_at >= ? LIMIT ?"
    return f"SELECT count(*) FROM ({since})", (moment, _FEW + 1)  # noqa: S608


def _stored(book: Book, span: Span, limit: int) -> tuple[list[Bar], bool]:
    """The bars of the interval, but of more than so many at least those that started last; and whether others are left
    out.

    The indexes know when a task first began. Where those that began last in the interval are enough, a bar that started
    later than these all the same is of a task that had begun before, was not over, and was tried again.
    """
    read = book.store.read
    bars = _seen(read(begun_within(span, limit + 1)), span)
    if len(bars) <= limit:
        rows, most = read(lasted_until(span.begin, limit, _index(book, span.begin))), _MOST_RETRIED + limit
    else:
        moment = bars[limit].run.started or span.begin
        rows, most = read(retried_until(moment, _index(book, moment))), _MOST_RETRIED
    known = {bar.task_id for bar in bars}
    bars += [bar for bar in _seen(rows, span) if bar.task_id not in known]
    return bars, len(rows) == most


def _index(book: Book, moment: str) -> str:
    return "tasks_finished" if book.store.read(ended_since(moment))[0][0] <= _FEW else "tasks_began"


def _seen(rows: Iterable[Any], span: Span) -> list[Bar]:
    """Their bars in the interval, those that started last first."""
    return _sorted(bar for row in rows for bar in _of_row(row) if _is_seen(bar, span))


def _of_row(row: Any) -> Iterator[Bar]:
    task_id, name, batch, entity, state, outcome, over, attempt, started, finished, previous = row
    last = Run(attempt=attempt, started=started, finished=finished or over, outcome=outcome, state=state)
    before = [
        earlier(past.get("attempt", 1), past.get("startedAt"), past.get("finishedAt"), past.get("outcome"))
        for past in json.loads(previous or "[]")
    ]
    for run in runs(before, last):
        yield Bar(task_id=task_id, name=name, batch=batch, entity=entity, run=run)
