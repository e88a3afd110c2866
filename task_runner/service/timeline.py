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
    bars = [bar for bar in (*stored, *(bar for task in live for bar in _of_task(task))) if _is_seen(bar, span)]
    bars.sort(key=lambda bar: (bar.run.started or "", bar.task_id), reverse=True)
    rows = [_row(bar) for bar in bars[:limit]]
    columns = [*zip(*rows, strict=True)] if rows else [()] * len(COLUMNS)
    return {
        "from": span.begin,
        "to": span.end,
        "more": cut or len(bars) > limit,
        **{name: list(column) for name, column in zip(COLUMNS, columns, strict=True)},
    }


def _is_seen(bar: Bar, span: Span) -> bool:
    return bar.run.started is not None and span.meets(bar.run.started, bar.run.finished)


def _row(bar: Bar) -> tuple[Any, ...]:
    run = bar.run
    whose = (bar.task_id, bar.name, bar.batch, bar.entity)
    return (*whose, run.state, run.outcome, run.started, run.finished, run.attempt)


def runs(*, last: Run, previous: Iterable[dict[str, Any]]) -> Iterator[Run]:
    """The attempts of a task: the last, and those before it as its record has them in JSON."""
    numbers = set()
    for past in previous:
        outcome, number = past.get("outcome"), past.get("attempt", 1)
        state = State.LOST if outcome == Outcome.LOST.value else State.EXITED
        numbers.add(number)
        yield Run(
            attempt=number,
            started=past.get("startedAt"),
            finished=past.get("finishedAt"),
            outcome=outcome,
            state=state.value,
        )
    if last.attempt not in numbers:
        yield last


# -- from memory


def _of_task(task: Task) -> Iterator[Bar]:
    record = task.record
    status, outcome = record.status, record.outcome and record.outcome.value
    previous = [
        {
            "attempt": past.attempt,
            "outcome": past.outcome and past.outcome.value,
            "startedAt": past.started_at,
            "finishedAt": past.finished_at,
        }
        for past in record.previous
    ]
    last = Run(
        attempt=status.attempt if status else record.attempt,
        started=status.started_at if status else None,
        finished=(status.finished_at if status else None) or record.finished_at,
        outcome=outcome,
        state=record.state.value,
    )
    for run in runs(last=last, previous=previous):
        yield Bar(task_id=task.id, name=task.name, batch=task.batch, entity=task.entity, run=run)


# -- from the store

_SELECT = """
    SELECT id, name, batch, entity, state, outcome, finished_at,
        ifnull(json_extract(record, '$.status.attempt'), 1), json_extract(record, '$.status.startedAt'),
        json_extract(record, '$.status.finishedAt'), json_extract(record, '$.previous')
    FROM tasks"""
_OVER = "outcome IS NOT NULL AND deleted = 0"


def begun_within(span: Span, limit: int) -> Op:
    """Those that first began in the interval, the last first."""
    sql = f"{_SELECT} WHERE {_OVER} AND {BEGAN} BETWEEN ? AND ? ORDER BY {BEGAN} DESC LIMIT ?"
    return sql, (span.begin, span.end, limit)


def begun_before(span: Span, limit: int, index: str) -> Op:
    """Those that began before it and ended in it or after it."""
    where = f"{_OVER} AND {BEGAN} < ? AND finished_at >= ?"
    return f"{_SELECT} INDEXED BY {index} WHERE {where} ORDER BY {BEGAN} DESC LIMIT ?", (span.begin, span.begin, limit)


#: where no more tasks than these have ended since the interval began, they are looked at one by one: its usual end is
#: now, and all that ever began before it are many more. Else those are gone through, in the index alone.
_FEW = 5000


def ended_since(span: Span) -> Op:
    """How many have ended since the interval began, and one more than few at most."""
    since = "SELECT 1 FROM tasks INDEXED BY tasks_finished WHERE outcome IS NOT NULL AND finished_at >= ? LIMIT ?"
    return f"SELECT count(*) FROM ({since})", (span.begin, _FEW + 1)  # noqa: S608


def _stored(book: Book, span: Span, limit: int) -> tuple[list[Bar], bool]:
    """Bars, and whether there are others."""
    read = book.store.read
    rows = read(begun_within(span, limit + 1))
    if len(rows) <= limit:
        index = "tasks_finished" if read(ended_since(span))[0][0] <= _FEW else "tasks_began"
        rows += read(begun_before(span, limit + 1 - len(rows), index))
    return [bar for row in rows[:limit] for bar in _of_row(row)], len(rows) > limit


def _of_row(row: Any) -> Iterator[Bar]:
    task_id, name, batch, entity, state, outcome, over, attempt, started, finished, previous = row
    last = Run(attempt=attempt, started=started, finished=finished or over, outcome=outcome, state=state)
    for run in runs(last=last, previous=json.loads(previous) if previous else ()):
        yield Bar(task_id=task_id, name=name, batch=batch, entity=entity, run=run)
