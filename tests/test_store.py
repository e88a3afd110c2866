"""The store: what is written, in which order, and what a refusal does to the rest."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon

from task_runner.errors import Damaged, StorageFull
from task_runner.service import statements
from task_runner.service.backlog import Backlog
from task_runner.service.commits import Writer
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


@pytest.mark.parametrize("value", [None, "\udc80", 2**64])
def test_a_faulty_change_fails_alone(tmp_path: Path, value: Any) -> None:
    async def work(store: Store) -> None:
        bad: Op = ("INSERT INTO keys VALUES ('a', ?, '', '')", (value,))  # NOT NULL
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


def test_a_daemon_takes_over_a_store_of_the_second_version_and_goes_on(make_daemon: Callable[..., Daemon]) -> None:
    """Every row of it stays what it was; what is new has its place beside it."""
    daemon = make_daemon(keep_finished_seconds=1e9, idempotency_seconds=1e9)
    daemon.state_dir.mkdir()
    with closing(sqlite3.connect(daemon.state.database)) as db:
        db.executescript((Path(__file__).parent / "data/store-2.sql").read_text())
    daemon.start()
    get = daemon.http.get
    tasks = {task["taskId"][-1]: task for task in get("/v1/tasks").json()}
    assert {last: (task["state"], task["outcome"], task["origin"], task["alias"]) for last, task in tasks.items()} == {
        "1": ("exited", "succeeded", "v1", None),
        "2": ("exited", "failed", "v1", None),
        "3": ("scheduled", None, "v1", None),
        "4": ("scheduled", None, "v1", None),
        "5": ("pending", None, "v1", None),
    }
    assert (tasks["1"]["entity"], tasks["1"]["tags"], tasks["2"]["exitCode"]) == ("gs-17", {"release": "0.2"}, 3)
    assert len(get("/v1/tasks", params={"origin": "v1"}).json()) == 5
    batch = get("/v1/batches/00000000000000b1").json()
    assert (batch["name"], batch["numTasksFailed"], batch["paused"]) == ("nightly", 1, True)
    assert get("/v1/templates/one").json()["task"] == {"command": ["true"]}
    assert get("/v1/node").json()["draining"]
    with daemon.http.stream("GET", "/v1/tasks/0000000000000001/events", headers={"Last-Event-ID": "0"}) as stream:
        told = (line for line in stream.iter_lines() if line.startswith("data"))
        assert [json.loads(next(told)[5:])["state"] for _ in range(2)] == ["pending", "exited"]
    repeated = daemon.post("/v1/tasks", {"command": ["true"]}, headers={"Idempotency-Key": "k1"})
    assert repeated.json()["taskId"] == "0000000000000005"
    # what there was not goes in as well
    named = daemon.submit("true", alias="nightly")
    again = daemon.post("/v1/tasks", {"command": ["true"], "alias": "nightly"})
    assert (again.status_code, named in again.json()["detail"]) == (409, True)
    made = daemon.post("/v1/batches", {"tasks": [{"command": ["true"]}]}).json()
    daemon.post("/v1/node/undrain")
    for task_id in ("0000000000000005", named, *made["tasks"]):
        assert daemon.wait(task_id)["outcome"] == "succeeded"
    daemon.post("/v1/tasks/0000000000000004/stop")
    daemon.restart()
    assert daemon.task("0000000000000004")["outcome"] == "cancelled"
    assert [task["taskId"] for task in daemon.http.get("/v1/tasks", params={"alias": "nightly"}).json()] == [named]


@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_record_hinders_no_upgrade_and_is_not_looked_into(tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as db:
        db.executescript((Path(__file__).parent / f"data/store-{version}.sql").read_text())
        db.execute("UPDATE tasks SET record = '{\"state\": \"exi' WHERE id = '0000000000000001' AND outcome = 'succeeded'")
        assert db.execute("SELECT changes()").fetchone() == (1,)
        db.commit()

    async def work(store: Store) -> None:
        assert store.set_aside is None
        assert store.read((f"SELECT count(*) FROM tasks WHERE outcome IS NOT NULL AND {statements.BEGAN} > ''", ()))[0][0] > 0
        await store.write([("DELETE FROM tasks WHERE id = '0000000000000001'", ())])

    run(work, tmp_path)


class _Stubborn(sqlite3.Connection):
    """Fails once where something is to be taken back."""

    failed = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "ROLLBACK" and not self.failed:
            self.failed = True
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def test_a_refused_change_that_cannot_be_taken_back_does_not_end_the_writing() -> None:
    async def work() -> None:
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Stubborn)
        db.execute("CREATE TABLE t (x)")
        writer = Writer(db, lambda _seconds: None)
        try:
            add: Op = ("INSERT INTO t VALUES (1)", ())
            with pytest.raises(StorageFull):
                await writer.write([add, ("INSERT INTO missing VALUES (1)", ())])
            with pytest.raises(StorageFull):
                await writer.write([add])  # the first one is still open, and is taken back now
            await writer.write([add])
            assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
        finally:
            await asyncio.to_thread(writer.close)

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_upgraded_store_is_as_a_new_one(tmp_path: Path, version: int) -> None:
    """The same columns in the same order, and the same indices: rows are written by their place."""

    def shape(path: Path) -> dict[str, object]:
        with closing(sqlite3.connect(path / "tasks.db")) as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            indices = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL").fetchall()
            columns = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in tables}
            return {**columns, "indices": {name: " ".join(sql.split()) for name, sql in indices}}

    new, old = tmp_path / "new", tmp_path / "old"
    for path in (new, old):
        path.mkdir()
    with closing(sqlite3.connect(old / "tasks.db")) as db:
        db.executescript((Path(__file__).parent / f"data/store-{version}.sql").read_text())

    async def work(_store: Store) -> None:
        pass

    run(work, new)
    run(work, old)
    assert shape(old) == shape(new)
