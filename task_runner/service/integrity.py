"""Whether a file is the database it should be, as far as can be told in a moment.

A large database is not read from end to end at start: what is damaged deep inside shows when it is read.
"""

from __future__ import annotations

import os
import sqlite3

from task_runner.errors import Damaged
from task_runner.lib.taskdir import open_regular

#: a database of up to so many pages is checked from end to end: 20 MiB in some hundredths of a second
CHECKED_PAGES = 5_000


def check_file(path: str) -> None:
    """Raises Damaged for what SQLite takes for no damage: it would follow a link, wait for a FIFO, and throw a log away
    that stands beside an empty database or beside none."""
    if os.path.lexists(path):
        os.close(open_regular(path))
    if _size(path) == 0 and _size(path + "-wal") > 0:
        raise Damaged("it is empty, but its log is not")


def check_content(db: sqlite3.Connection, path: str) -> None:
    """Raises Damaged or sqlite3.DatabaseError where the database is seen to be damaged."""
    pages, page_size = (db.execute(f"PRAGMA page_{what}").fetchone()[0] for what in ("count", "size"))
    if pages * page_size > os.path.getsize(path) + _size(path + "-wal"):
        raise Damaged(f"it lacks a part of its {pages} pages")
    if pages <= CHECKED_PAGES and (fault := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise Damaged(str(fault))
    # what the start reads, whatever the size
    for sql in ("SELECT * FROM tasks WHERE outcome IS NULL OR deleted", "SELECT * FROM sqlite_sequence"):
        db.execute(sql).fetchall()


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
