"""The store: what was accepted and what is known, in SQLite (WAL, synchronous=FULL).

One thread writes (service/commits.py), and every thread reads for itself. Whoever awaits `write` and gets no error may
rely on it after a power cut.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from task_runner.errors import Damaged, Refused
from task_runner.lib.taskdir import set_aside
from task_runner.service.batch import COLUMNS, Batch, batch_of
from task_runner.service.commits import Writer
from task_runner.service.integrity import check_content, check_file
from task_runner.service.statements import (
    ADDED_2,
    ADDED_3,
    ADDED_3_LATE,
    ADDED_4,
    SCHEMA,
    SELECT,
    UPGRADES,
    VERSION,
    Op,
    StoredChange,
    StoredEvent,
    changes,
    fold,
    task_of,
)
from task_runner.service.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which tasks to list. Empty means any."""

    states: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    batch: str | None = None
    entity: str | None = None
    #: the surface they came in by
    origin: str | None = None
    alias: str | None = None
    text: str | None = None
    #: True or False: only tasks that are, or are not, stalled; a finished one is not
    stalled: bool | None = None
    #: list what comes after this place in the order asked for
    after: int | None = None
    newest_first: bool = False
    limit: int = 1000


@dataclass(slots=True)
class _Reader:
    """The connection of one thread; closing it in the middle of a look-up would crash the process."""

    db: sqlite3.Connection
    busy: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class Store:
    """The database of one state directory."""

    path: str
    #: where a damaged database was put, if one was found
    set_aside: str | None = None
    #: there was none, or none that could be used
    made_new: bool = False
    #: called with the seconds that a transaction took, in the writer's thread
    on_commit: Callable[[float], None] = lambda _seconds: None
    _writer: Writer | None = None
    _readers: list[_Reader] = field(default_factory=list)
    _local: threading.local = field(default_factory=threading.local)

    # -- opening

    def open(self) -> None:
        """Open or make the database. One that is damaged is set aside. Raises Refused for a newer one."""
        try:
            check_file(self.path)
            db = self._connect(check=True)
        except sqlite3.OperationalError as error:
            raise Refused(f"cannot open {self.path}: {error}") from error
        except (sqlite3.DatabaseError, Damaged) as error:
            log.warning("%s is damaged (%s)", self.path, error)
            aside = [set_aside(self.path + extra) for extra in ("", "-wal", "-shm")]
            self.set_aside = next(filter(None, aside), None)
            db = self._connect()
        self._writer = Writer(db, lambda seconds: self.on_commit(seconds))

    def _connect(self, *, check: bool = False) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            # after a burst the log file is kept for the next one, but not for ever
            db.execute("PRAGMA journal_size_limit=67108864")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise Refused(f"{self.path} is of a newer version ({version}); this daemon knows {VERSION}")
            if version == 0:
                self.made_new = True
                everything = f"{SCHEMA} {ADDED_2} {ADDED_3} {ADDED_3_LATE} {ADDED_4} PRAGMA user_version={VERSION}"
                db.executescript(f"BEGIN IMMEDIATE; {everything}; COMMIT;")
            for number in range(version, VERSION) if version else ():
                db.executescript(f"BEGIN IMMEDIATE; {UPGRADES[number]} PRAGMA user_version={number + 1}; COMMIT;")
            if check:
                check_content(db, self.path)
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Write what waits, then close."""
        if self._writer is not None:
            self._writer.close()
        while self._readers:
            reader = self._readers.pop()
            with reader.busy:  # a look-up in a thread goes on when whoever awaited it is cancelled
                reader.db.close()

    async def write(self, ops: list[Op]) -> None:
        """Make these changes, all or none, and bring them to stable storage. Raises StorageFull."""
        assert self._writer is not None
        await self._writer.write(ops)

    # -- reading

    def _read(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Rows. Each thread has a connection of its own, so that no look-up waits for somebody's long query."""
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = _Reader(self._connect())
            self._readers.append(reader)
        with reader.busy:
            return reader.db.execute(sql, values).fetchall()

    def read(self, look_up: Op) -> list[Any]:
        """The rows of a look-up that another module words."""
        return self._read(*look_up)

    def unfinished(self) -> Iterator[Task]:
        """The tasks that are not over, and those that wait for their removal, in the order of acceptance."""
        return map(task_of, self._read(f"{SELECT} WHERE outcome IS NULL OR deleted ORDER BY seq"))

    def get(self, task_id: str) -> Task | None:
        rows = self._read(f"{SELECT} WHERE id = ? AND NOT deleted", (task_id,))
        return task_of(rows[0]) if rows else None

    def by_alias(self, alias: str) -> Task | None:
        rows = self._read(f"{SELECT} WHERE alias = ? AND deleted = 0", (alias,))
        return task_of(rows[0]) if rows else None

    def by_seq(self, seq: int) -> Task | None:
        rows = self._read(f"{SELECT} WHERE seq = ? AND NOT deleted", (seq,))
        return task_of(rows[0]) if rows else None

    def ids_like(self, prefix: str, limit: int) -> list[str]:
        """Ids that begin so. The prefix must be of characters that ids are made of."""
        sql = "SELECT id FROM tasks WHERE id >= ? AND id < ? AND NOT deleted LIMIT ?"
        return [row[0] for row in self._read(sql, (prefix, prefix + "~", limit))]

    def finished(self, query: Query) -> list[Task]:
        """A page of finished tasks."""
        where, values = ["outcome IS NOT NULL", "NOT deleted"], list[Any]()
        for column, wanted in (("state", query.states), ("outcome", query.outcomes)):
            if wanted:
                where.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values += wanted
        for column, value in (
            ("batch", query.batch),
            ("entity", query.entity),
            ("origin", query.origin),
            ("alias", query.alias),
        ):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        for tag in query.tags:
            where.append("instr(tags, ?)")
            values.append(f"\n{tag}\n")
        if query.text:
            where.append("(instr(lower(id || ' ' || ifnull(name, '')), ?) OR instr(lower(spec), ?))")
            values += [fold(query.text)] * 2
        if query.after is not None:
            where.append(f"seq {'<' if query.newest_first else '>'} ?")
            values.append(query.after)
        order = "DESC" if query.newest_first else "ASC"
        sql = f"{SELECT} WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"
        return [task_of(row) for row in self._read(sql, (*values, query.limit))]

    def counts(self) -> dict[str, int]:
        """How many finished tasks there are, by outcome."""
        sql = "SELECT outcome, count(*) FROM tasks WHERE outcome IS NOT NULL AND NOT deleted GROUP BY outcome"
        return dict(self._read(sql))

    def last_seq(self) -> int:
        return self._highest("tasks")

    def last_event(self) -> int:
        return self._highest("events")

    def _highest(self, table: str) -> int:
        """The highest number ever given out, removed rows included."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        return int(rows[0][0]) if rows else 0

    def key(self, key: str, since: str) -> tuple[str, str] | None:
        """The task that a request with this idempotency key made, and the digest of that request."""
        rows = self._read("SELECT task_id, digest FROM keys WHERE key = ? AND created_at >= ?", (key, since))
        return rows[0] if rows else None

    def batch(self, batch_id: str) -> Batch | None:
        found = self._read(f"SELECT {COLUMNS} FROM batches WHERE id = ?", (batch_id,))  # noqa: S608
        return batch_of(found[0]) if found else None

    def batch_by_seq(self, seq: int) -> Batch | None:
        found = self._read(f"SELECT {COLUMNS} FROM batches WHERE seq = ?", (seq,))  # noqa: S608
        return batch_of(found[0]) if found else None

    def batches(self, limit: int, origin: str | None = None, before: int | None = None) -> list[Batch]:
        """The newest, newest first; ``origin``: those that came in by this surface; ``before``: older than that one."""
        sql = f"SELECT {COLUMNS} FROM batches WHERE ? IN (origin, '') AND seq < ? ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return list(map(batch_of, self._read(sql, (origin or "", 2**62 if before is None else before, limit))))

    def paused_batches(self) -> list[str]:
        return [row[0] for row in self._read("SELECT id FROM batches WHERE paused")]

    def batch_outcomes(self, batch_id: str, besides: Sequence[str] = ()) -> tuple[dict[str, int], str | None]:
        """How many tasks of a batch have ended in which way, those that are still in the store; and when the last.
        ``besides``: those with these ids are left out."""
        sql = (
            "SELECT outcome, count(*), max(finished_at) FROM tasks WHERE batch = ? AND outcome IS NOT NULL"
            " AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY outcome"
        )
        found = self._read(sql, (batch_id, json.dumps(besides)))
        return {row[0]: row[1] for row in found}, max((row[2] for row in found if row[2]), default=None)

    def batch_task_ids(self, batch_id: str) -> list[str]:
        """In the order of acceptance."""
        return [row[0] for row in self._read("SELECT id FROM tasks WHERE batch = ? ORDER BY seq", (batch_id,))]

    def events(self, after: int, task_id: str | None, limit: int) -> list[StoredEvent]:
        """Events that came after this one, oldest first."""
        where, values = ("seq > ?", [after]) if task_id is None else ("seq > ? AND task_id = ?", [after, task_id])
        sql = f"SELECT seq, task_id, at, data FROM events WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608
        return [StoredEvent(row[0], row[1], row[2], json.loads(row[3])) for row in self._read(sql, (*values, limit))]

    def changes(self, origin: str, since: str, limit: int) -> list[StoredChange]:
        """Changes of state, outcome or container of the tasks that came in by a dialect, newest first, none from before
        ``since`` (a stamp)."""
        return [
            StoredChange(StoredEvent(seq, task_id, at, json.loads(data), of), before and json.loads(before))
            for seq, task_id, at, data, of, before in self._read(*changes(origin, since, limit))
        ]
