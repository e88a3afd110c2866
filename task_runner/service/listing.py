"""A page of tasks, from two places: the active ones in memory, the finished ones in the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from task_runner.service.book import Book
from task_runner.service.statements import fold
from task_runner.service.store import Query
from task_runner.service.task import Task


async def list_tasks(book: Book, query: Query) -> list[Task]:
    """The first ``query.limit`` tasks that match, in the order asked for."""
    # Memory first: a task that ends between the two looks is then in both; the other way round it is in neither.
    # And nothing that was accepted in between: a later one could be over already, and an earlier one be missed.
    newest, looked = book.newest, dict(book.active)
    if query.newest_first:
        query = replace(query, after=newest + 1 if query.after is None else min(query.after, newest + 1))
    finished = [] if query.stalled else await asyncio.to_thread(book.store.finished, query)
    looked.update(book.active)  # a retried one has come back
    both = [task for task in looked.values() if task.seq <= newest and _matches(task, query)]
    both += [task for task in finished if task.seq <= newest and task.id not in looked]
    both.sort(key=lambda task: task.seq, reverse=query.newest_first)
    return both[: query.limit]


def _matches(task: Task, query: Query) -> bool:
    record = task.record
    return (
        not task.deleted
        and (not query.states or record.state.value in query.states)
        and (not query.outcomes or (record.outcome is not None and record.outcome.value in query.outcomes))
        and (query.stalled is None or query.stalled == (task.stalled is not None))
        and query.batch in (None, task.batch)
        and query.entity in (None, task.entity)
        and query.origin in (None, record.origin)
        and query.alias in (None, task.alias)
        and _comes_after(task.seq, query)
        and all(tag in (f"{key}={value}" for key, value in task.tags.items()) for tag in query.tags)
        and (not query.text or fold(query.text) in fold(f"{task.id} {task.name or ''}\n{task.spec_json}"))
    )


def _comes_after(seq: int, query: Query) -> bool:
    if query.after is None:
        return True
    return seq < query.after if query.newest_first else seq > query.after
