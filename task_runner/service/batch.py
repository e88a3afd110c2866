"""A batch as the service knows it, and as the store keeps it.

What became of its tasks is counted anew each time it is asked for, so no count can be wrong. Of tasks that have been
removed the row keeps the sums: they are added in the transaction that removes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from task_runner.model.codec import to_json
from task_runner.model.state import Outcome
from task_runner.service.statements import Op

COLUMNS = (
    "seq, id, name, created_at, num_tasks, paused, removed_ok, removed_failed, removed_cancelled, removed_finished_at,"
    " data, origin"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What was asked for, and what is left of it when tasks have been removed."""

    id: str
    #: place in the order of acceptance; 0: it is not in the store yet
    seq: int = 0
    #: the surface it came in by
    origin: str = "v1"
    name: str | None
    created_at: str
    num_tasks: int
    #: none of its tasks starts
    paused: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    removed: Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How tasks ended. Timed out and lost ones have failed, too."""

    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    #: when the last of them did
    finished_at: str | None = None

    @property
    def over(self) -> int:
        return self.ok + self.failed + self.cancelled

    def __add__(self, other: Counts) -> Counts:
        stamps = [each.finished_at for each in (self, other) if each.finished_at is not None]
        return Counts(
            ok=self.ok + other.ok,
            failed=self.failed + other.failed,
            cancelled=self.cancelled + other.cancelled,
            finished_at=max(stamps, default=None),
        )


def counts(by_outcome: dict[str, int], finished_at: str | None) -> Counts:
    """From numbers by outcome."""
    ok = by_outcome.get(Outcome.SUCCEEDED.value, 0)
    cancelled = by_outcome.get(Outcome.CANCELLED.value, 0)
    failed = sum(by_outcome.values()) - ok - cancelled
    return Counts(ok=ok, failed=failed, cancelled=cancelled, finished_at=finished_at)


def insert(batch: Batch) -> Op:
    """The statement that accepts a batch; its tasks follow in the same transaction."""
    data = json.dumps({"tags": batch.tags, "metadata": batch.metadata}, ensure_ascii=False)
    return (
        "INSERT INTO batches (id, name, created_at, num_tasks, data, origin) VALUES (?, ?, ?, ?, ?, ?)",
        (batch.id, batch.name, batch.created_at, batch.num_tasks, data, batch.origin),
    )


def pause(batch_id: str, paused: bool) -> Op:
    return ("UPDATE batches SET paused = ? WHERE id = ?", (paused, batch_id))


def count_removed(task_id: str) -> Op:
    """The statement that keeps the count right when a task is removed; stands before the removal."""
    sql = (
        "UPDATE batches SET removed_ok = removed_ok + (SELECT outcome = 'succeeded' FROM tasks WHERE id = :id),"
        " removed_cancelled = removed_cancelled + (SELECT outcome = 'cancelled' FROM tasks WHERE id = :id),"
        " removed_failed = removed_failed"
        " + (SELECT outcome NOT IN ('succeeded', 'cancelled') FROM tasks WHERE id = :id),"
        " removed_finished_at = max(ifnull(removed_finished_at, ''), (SELECT finished_at FROM tasks WHERE id = :id))"
        # the outcome is asked for, too: a row that is removed before it is over must not fail a commit
        " WHERE id = (SELECT batch FROM tasks WHERE id = :id AND outcome IS NOT NULL)"
    )
    return (sql, {"id": task_id})


def standings(batch_id: str) -> Op:
    """The look-up of number, id, state and outcome of each of its tasks that are not hidden, in order of acceptance."""
    return ("SELECT seq, id, state, outcome FROM tasks WHERE batch = ? AND NOT deleted ORDER BY seq", (batch_id,))


def drop_empty(before: str) -> Op:
    """The statement that removes batches that nothing is left of, and whose last task ended before a stamp."""
    sql = (
        "DELETE FROM batches WHERE removed_ok + removed_failed + removed_cancelled >= num_tasks"
        " AND ifnull(removed_finished_at, '') < ?"
    )
    return (sql, (before,))


def batch_of(row: Any) -> Batch:
    """From a row of COLUMNS."""
    seq, batch_id, name, created_at, num_tasks, paused, ok, failed, cancelled, finished_at, data, origin = row
    more = json.loads(data)
    return Batch(
        id=batch_id,
        seq=seq,
        origin=origin,
        name=name,
        created_at=created_at,
        num_tasks=num_tasks,
        paused=bool(paused),
        tags=more["tags"],
        metadata=more["metadata"],
        removed=Counts(ok=ok, failed=failed, cancelled=cancelled, finished_at=finished_at),
    )


def batch_json(batch: Batch, now: Counts, states: dict[str, int]) -> dict[str, Any]:
    """As `/v1` shows it; ``now`` counts all its tasks that are over, ``states`` those that are not."""
    finished = now.over >= batch.num_tasks
    return {
        "batchId": batch.id,
        "name": batch.name,
        "createdAt": batch.created_at,
        "finishedAt": now.finished_at if finished else None,
        "paused": batch.paused,
        "numTasks": batch.num_tasks,
        "numTasksOk": now.ok,
        "numTasksFailed": now.failed,
        "numTasksCancelled": now.cancelled,
        "states": states,
        "tags": to_json(batch.tags),
        "metadata": batch.metadata,
    }
