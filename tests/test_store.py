"""The store: what is written, in which order, and what a refusal does to the rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from task_runner.errors import Damaged, StorageFull
from task_runner.service import statements
from task_runner.service.backlog import Backlog
from task_runner.service.statements import Op
from task_runner.service.store import Store


def keep(key: str, value: str) -> Op:
    return statements.keep_key(key, value, "", "2026-01-01")


def kept(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path / "tasks.db")) as db:
        return dict(db.execute("SELECT key, task_id FROM keys"))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = Store(str(path / "tasks.db"))
    store.open()
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


def run(work: Callable[[Store], Coroutine[Any, Any, None]], path: Path) -> None:
    async def within() -> None:
        async with opened(path) as store:
            await work(store)

    asyncio.run(within())


def test_a_faulty_change_fails_alone(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        bad: Op = ("INSERT INTO keys VALUES ('a', NULL, '', '')", ())  # NOT NULL
        results = await asyncio.gather(
            *(store.write([op]) for op in (keep("x", "1"), bad, keep("y", "2"))), return_exceptions=True
        )
        assert [type(each) for each in results] == [type(None), Damaged, type(None)]

    run(work, tmp_path)
    assert kept(tmp_path) == {"x": "1", "y": "2"}


class Refusing:
    """A store that refuses while it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = False

    async def write(self, ops: list[Op]) -> None:
        if self.full:
            raise StorageFull("full")
        await self._store.write(ops)


def test_what_was_refused_is_written_before_what_comes_after(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        refusing = Refusing(store)
        backlog = Backlog(refusing)  # type: ignore[arg-type]
        refusing.full = True
        for ops in ([keep("x", "old")], [keep("y", "old")]):
            with pytest.raises(StorageFull):
                await backlog.write(ops)
            backlog.keep(ops)
        assert backlog.error == "full"
        refusing.full = False
        await asyncio.gather(*(backlog.write([keep("x", word)]) for word in ("new", "newer", "newest")))
        assert backlog.error is None

    run(work, tmp_path)
    assert kept(tmp_path) == {"x": "newest", "y": "old"}


def test_a_change_that_was_on_its_way_does_not_hide_that_another_was_refused(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        backlog = Backlog(store)
        on_its_way = asyncio.create_task(backlog.write([keep("x", "1")]))
        await asyncio.sleep(0)
        backlog.error = "full"  # what a refusal leaves
        backlog.keep([keep("y", "2")])
        await on_its_way
        assert backlog.error == "full"
        await backlog.retry()
        assert backlog.error is None

    run(work, tmp_path)
    assert kept(tmp_path) == {"x": "1", "y": "2"}


def test_a_refused_change_that_can_never_be_stored_does_not_bar_the_way(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        backlog = Backlog(store)
        backlog.keep([("INSERT INTO keys VALUES ('a', NULL, '', '')", ())])
        backlog.keep([keep("x", "1")])
        await backlog.retry()

    run(work, tmp_path)
    assert kept(tmp_path) == {"x": "1"}


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as db:
        frozen = Path(__file__).parent / "data/store-1.sql"
        db.executescript(frozen.read_text())
    async def work(store: Store) -> None:
        task = store.get("0123456789abcdef")
        assert task is not None
        assert (task.batch, task.entity, task.record.attempt, task.name) == (None, None, 2, "frozen")
        assert [past.exit_code for past in task.record.previous] == [3]
        assert store.paused_batches() == []

    run(work, tmp_path)
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (statements.VERSION,)
