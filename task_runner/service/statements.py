"""Rows and statements: a task as the store keeps it, and every change as one SQL statement with its values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from task_runner.model.codec import from_json, to_json
from task_runner.service.task import Record, StopIntent, Task

VERSION = 4
SCHEMA = """
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the number of a removed row is not used again
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    outcome TEXT,
    name TEXT,
    tags TEXT NOT NULL,              -- every tag as a line "key=value", with a line feed before and after
    created_at TEXT NOT NULL,
    finished_at TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,
    stop TEXT,                       -- the stop that is wanted, if any
    spec TEXT NOT NULL,
    record TEXT NOT NULL,
    batch TEXT,
    entity TEXT,
    keep_seconds REAL,               -- how long to keep it after its end, where it says so itself
    bytes INTEGER,                   -- what its files take on the disk, known some time after its end
    output_bytes INTEGER             -- and of it, its output
);
CREATE INDEX tasks_active ON tasks (seq) WHERE outcome IS NULL OR deleted;
CREATE INDEX tasks_state ON tasks (state, seq);
CREATE INDEX tasks_outcome ON tasks (outcome, seq);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE outcome IS NOT NULL;
CREATE TABLE keys (key TEXT PRIMARY KEY, task_id TEXT NOT NULL, digest TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL, at TEXT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX events_task ON events (task_id, seq);
"""
#: what came with version 2
ADDED_2 = """
CREATE INDEX tasks_batch ON tasks (batch, outcome) WHERE batch IS NOT NULL;
CREATE INDEX tasks_entity ON tasks (entity, seq) WHERE entity IS NOT NULL;
CREATE INDEX tasks_measure ON tasks (seq) WHERE outcome IS NOT NULL AND bytes IS NULL;
CREATE INDEX tasks_bytes ON tasks (finished_at, bytes) WHERE bytes > 0;
CREATE INDEX tasks_output ON tasks (finished_at, output_bytes) WHERE output_bytes > 0;
-- when each may go: by the rule for its outcome, or by its own
CREATE INDEX tasks_expiry ON tasks (outcome, finished_at) WHERE outcome IS NOT NULL AND keep_seconds IS NULL;
CREATE INDEX tasks_keep ON tasks (julianday(finished_at) + keep_seconds / 86400.0)
    WHERE outcome IS NOT NULL AND keep_seconds IS NOT NULL;
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT,
    created_at TEXT NOT NULL,
    num_tasks INTEGER NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    -- of those of its tasks that have been removed since
    removed_ok INTEGER NOT NULL DEFAULT 0,
    removed_failed INTEGER NOT NULL DEFAULT 0,
    removed_cancelled INTEGER NOT NULL DEFAULT 0,
    removed_finished_at TEXT,        -- when the last of those ended
    data TEXT NOT NULL               -- tags and metadata
);
CREATE TABLE templates (name TEXT PRIMARY KEY, updated_at TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    hook INTEGER NOT NULL,           -- which of the spec's notifications
    url TEXT NOT NULL,
    secret TEXT,                     -- the name of the one it is signed with
    host TEXT NOT NULL,
    queued_at TEXT NOT NULL,         -- when it was last put into the queue
    body TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at TEXT,                    -- not before; none: delivered, or given up
    delivered_at TEXT,
    last_status INTEGER,             -- of the last HTTP answer
    last_error TEXT
);
CREATE INDEX outbox_task ON outbox (task_id, seq);
CREATE INDEX outbox_due ON outbox (next_at) WHERE next_at IS NOT NULL;
CREATE TABLE settled (name TEXT PRIMARY KEY, value TEXT NOT NULL);  -- what was set by request and outlives the daemon
"""
#: what came with version 3
ADDED_3 = """
ALTER TABLE tasks ADD COLUMN origin TEXT;   -- as its record has it
ALTER TABLE tasks ADD COLUMN alias TEXT;
ALTER TABLE batches ADD COLUMN origin TEXT;
ALTER TABLE events ADD COLUMN origin TEXT;  -- the dialect that the task came in by, if it is one
CREATE INDEX events_origin ON events (origin, at) WHERE origin IS NOT NULL;
CREATE INDEX tasks_origin ON tasks (origin, seq);
-- one that is being removed has lost its alias already
CREATE UNIQUE INDEX tasks_alias ON tasks (alias) WHERE alias IS NOT NULL AND deleted = 0;
"""
#: what came with it later: a store of version 3 may be without them
ADDED_3_LATE = """
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,     -- SHA-256 of the secret, which is not kept
    scopes TEXT NOT NULL,            -- words with spaces between them
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,        -- the name of a token
    expires_at TEXT,
    used_at TEXT                     -- the last time, as far as it was noted
);
CREATE TABLE IF NOT EXISTS spans (                 -- those that are still to be exported, all of one ending together
    seq INTEGER PRIMARY KEY AUTOINCREMENT, data TEXT NOT NULL
);
"""
#: when the first attempt of a task began, as its record has it; a damaged one says nothing, and costs no other row
BEGAN = (
    "CASE WHEN json_valid(record)"
    " THEN ifnull(json_extract(record, '$.previous[0].startedAt'), json_extract(record, '$.status.startedAt')) END"
)
#: what came with version 4
ADDED_4 = f"""
CREATE INDEX tasks_began ON tasks ({BEGAN}, finished_at) WHERE outcome IS NOT NULL;
CREATE TABLE sessions (              -- who is logged in to the web page
    digest TEXT PRIMARY KEY,         -- SHA-256 of the cookie, which is not kept
    token TEXT NOT NULL,             -- the digest of the token that it was opened with
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
"""
#: from each earlier version to the one after it
UPGRADES = {
    1: """
ALTER TABLE tasks ADD COLUMN batch TEXT;
ALTER TABLE tasks ADD COLUMN entity TEXT;
ALTER TABLE tasks ADD COLUMN keep_seconds REAL;
ALTER TABLE tasks ADD COLUMN bytes INTEGER;
ALTER TABLE tasks ADD COLUMN output_bytes INTEGER;
"""
    + ADDED_2,
    2: ADDED_3
    + """
UPDATE tasks SET origin = ifnull(CASE WHEN json_valid(record) THEN json_extract(record, '$.origin') END, 'v1');
UPDATE batches SET origin = 'v1';
""",
    3: ADDED_3_LATE + ADDED_4,
}

#: one statement with its values
Op = tuple[str, Sequence[Any] | Mapping[str, Any]]

#: changes nothing, but is written: does the store take changes?
TOUCH: Op = (f"PRAGMA user_version = {VERSION}", ())


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A change of a task's state, as it was told."""

    seq: int
    task_id: str
    at: str
    data: dict[str, Any]
    #: the dialect that the task came in by; none: /v1
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class StoredChange:
    """An event that tells of another place in the task's life than the one before it."""

    event: StoredEvent
    #: the data of that one; none: this was the first
    before: dict[str, Any] | None


SELECT = "SELECT seq, id, name, tags, deleted, stop, spec, record, batch, entity, alias FROM tasks"


def insert(task: Task) -> Op:
    """The statement that accepts a task."""
    record = task.record
    return (
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, ?, ?, ?, ?, ?, NULL, NULL, ?, ?)",
        (
            task.seq,
            task.id,
            record.state.value,
            record.outcome and record.outcome.value,
            task.name,
            tag_lines(task.tags),
            record.created_at,
            record.finished_at,
            task.spec_json,
            _record_json(record),
            task.batch,
            task.entity,
            task.spec.keep_seconds,
            record.origin,
            task.alias,
        ),
    )


def save(task_id: str, record: Record) -> Op:
    """The statement that notes what is known."""
    known = "state = ?, outcome = ?, finished_at = ?, record = ?"
    return (
        # its files are measured anew: another attempt writes more
        f"UPDATE tasks SET {known}, bytes = NULL, output_bytes = NULL WHERE id = ?",  # noqa: S608
        (
            record.state.value,
            record.outcome and record.outcome.value,
            record.finished_at,
            _record_json(record),
            task_id,
        ),
    )


def _record_json(record: Record) -> str:
    return json.dumps(to_json(record, sparse=True), separators=(",", ":"))


def save_intent(task_id: str, intent: StopIntent | None) -> Op:
    return ("UPDATE tasks SET stop = ? WHERE id = ?", (intent and json.dumps(to_json(intent)), task_id))


def hide(task_id: str) -> Op:
    return ("UPDATE tasks SET deleted = 1 WHERE id = ?", (task_id,))


def remove(task_id: str) -> list[Op]:
    return [
        ("DELETE FROM tasks WHERE id = ?", (task_id,)),
        ("DELETE FROM events WHERE task_id = ?", (task_id,)),
        # what is still to be sent outlives the task
        ("DELETE FROM outbox WHERE task_id = ? AND next_at IS NULL", (task_id,)),
    ]


def keep_key(key: str, task_id: str, digest: str, at: str) -> Op:
    return ("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", (key, task_id, digest, at))


def drop_keys(before: str) -> Op:
    return ("DELETE FROM keys WHERE created_at < ?", (before,))


def keep_event(event: StoredEvent) -> Op:
    values = (event.seq, event.task_id, event.at, json.dumps(event.data), event.origin)
    return ("INSERT INTO events VALUES (?, ?, ?, ?, ?)", values)


def changes(origin: str, since: str, limit: int) -> Op:
    """The look-up behind Store.changes."""
    place = "'$.state', '$.outcome', '$.containerStage'"
    sql = f"""
        SELECT seq, task_id, at, data, origin, before FROM (
            SELECT *, (
                SELECT data FROM events WHERE task_id = this.task_id AND seq < this.seq ORDER BY seq DESC LIMIT 1
            ) AS before FROM events AS this WHERE origin = ? AND at >= ?
        ) WHERE json_extract(data, {place}) IS NOT json_extract(before, {place}) ORDER BY at DESC, seq DESC LIMIT ?"""  # noqa: S608
    return sql, (origin, since, limit)


def fold(text: str) -> str:
    """In lower case as SQLite's lower() has it: A to Z, and no other letter."""
    return text.encode(errors="replace").lower().decode()


def tag_lines(tags: dict[str, str]) -> str:
    return "".join(f"\n{key}={value}\n" for key, value in tags.items())


def task_of(row: Any) -> Task:
    seq, task_id, name, tags, deleted, stop, spec, record, batch, entity, alias = row
    return Task(
        id=task_id,
        seq=seq,
        spec_json=spec,
        name=name,
        tags=dict(line.split("=", 1) for line in tags.split("\n") if line),
        record=from_json(Record, json.loads(record)),
        intent=from_json(StopIntent, json.loads(stop)) if stop else None,
        deleted=bool(deleted),
        batch=batch,
        entity=entity,
        alias=alias,
    )
