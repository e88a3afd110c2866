"""What a forwarder (lib/forwarding/forwarder.py) is told at its start, and where it says what got through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from task_runner.errors import Damaged
from task_runner.lib.taskdir import read_control
from task_runner.model.walls import Logging

#: where the journal of this machine listens
JOURNAL = "/run/systemd/journal/socket"
#: the version of forward.json
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Whose lines they are."""

    task_id: str
    attempt: int
    name: str | None
    entity: str | None
    batch: str | None
    #: of this machine
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a forwarder is told at its start."""

    logging: Logging
    origin: Origin
    #: stream and path of each log
    files: Sequence[tuple[str, str]]
    #: bytes of each beyond which its middle is freed
    limit: int | None
    #: a PEM file with whom to trust; none: as this machine does
    authorities: str | None
    #: where the note of what got through goes, and under which name
    directory: str
    note: str


def missed(path: str) -> int | None:
    """Lines that did not get through, by a forward.json, each counted for each target; None: not known, or not yet."""
    try:
        note: Any = json.loads(read_control(path))
        count = note["missed"] if note["final"] and note["format"] == FORMAT else None
    except (OSError, Damaged, ValueError, KeyError, TypeError, RecursionError):
        return None
    return count if type(count) is int else None
