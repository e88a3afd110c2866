"""What is kept of finished tasks, as look-ups: which may go, and what they take on the disk.

Each is answered from an index, so that a million finished tasks cost no more than those that it finds.
"""

from __future__ import annotations

from task_runner.service.statements import Op


def hidden(limit: int) -> Op:
    """Ids of tasks that were to be removed, and are not yet."""
    where = "(outcome IS NULL OR deleted) AND deleted AND outcome IS NOT NULL"
    return (f"SELECT id FROM tasks INDEXED BY tasks_active WHERE {where} ORDER BY seq LIMIT ?", (limit,))  # noqa: S608


def aged(outcome: str, before: str, limit: int) -> Op:
    """Ids of tasks that ended in this way before a stamp, the oldest first, but for those with a time of their own."""
    where = "outcome = ? AND keep_seconds IS NULL AND finished_at < ?"
    return (f"SELECT id FROM tasks WHERE {where} ORDER BY finished_at LIMIT ?", (outcome, before, limit))  # noqa: S608


def run_out(now: str, limit: int) -> Op:
    """Ids of tasks with a time of their own that is over."""
    end = "julianday(finished_at) + keep_seconds / 86400.0"
    where = f"outcome IS NOT NULL AND keep_seconds IS NOT NULL AND {end} < julianday(?)"
    return (f"SELECT id FROM tasks WHERE {where} ORDER BY {end} LIMIT ?", (now, limit))  # noqa: S608


def span() -> Op:
    """How many tasks there are at most."""
    return ("SELECT ifnull((SELECT max(seq) FROM tasks) - (SELECT min(seq) FROM tasks) + 1, 0)", ())


def count() -> Op:
    """How many have finished."""
    return ("SELECT count(*) FROM tasks INDEXED BY tasks_outcome WHERE outcome IS NOT NULL", ())


def oldest(limit: int) -> Op:
    """Ids of those that finished first."""
    return ("SELECT id FROM tasks WHERE outcome IS NOT NULL ORDER BY finished_at LIMIT ?", (limit,))


def bytes_sum() -> Op:
    """What the files of finished tasks take, as far as it is known."""
    return ("SELECT ifnull(sum(bytes), 0) FROM tasks WHERE bytes > 0", ())


def bytes_oldest(limit: int) -> Op:
    """Ids of those that finished first, and what the files of each take."""
    return ("SELECT id, bytes FROM tasks WHERE bytes > 0 ORDER BY finished_at LIMIT ?", (limit,))


def output_sum() -> Op:
    """What the output of finished tasks takes, as far as it is known."""
    return ("SELECT ifnull(sum(output_bytes), 0) FROM tasks WHERE output_bytes > 0", ())


def output_oldest(limit: int) -> Op:
    """Ids of those that finished first, and what the output of each takes."""
    return ("SELECT id, output_bytes FROM tasks WHERE output_bytes > 0 ORDER BY finished_at LIMIT ?", (limit,))


def unmeasured(limit: int) -> Op:
    """Ids of finished tasks whose files have not been measured, and how many attempts each has had."""
    columns, where = "id, ifnull(json_extract(record, '$.attempt'), 1)", "outcome IS NOT NULL AND bytes IS NULL"
    return (f"SELECT {columns} FROM tasks WHERE {where} ORDER BY seq LIMIT ?", (limit,))  # noqa: S608


def measured(task_id: str, total: int, output: int) -> Op:
    """The statement that notes what a task's files take. One that runs again is measured at its next end."""
    sql = "UPDATE tasks SET bytes = ?, output_bytes = ? WHERE id = ? AND outcome IS NOT NULL"
    return (sql, (total, output, task_id))


def output_freed(task_id: str) -> Op:
    """The statement that notes that a task's output is gone."""
    sql = "UPDATE tasks SET bytes = max(0, bytes - output_bytes), output_bytes = 0 WHERE id = ?"
    return (sql, (task_id,))
