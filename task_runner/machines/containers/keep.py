"""What a later process of the same try has to know, in a file of two slots.

Rule 1: an entry is written before that is done which it tells of.
Rule 2: the two slots are written by turns, so that one of them is whole at any time. Whoever finds the newer one torn
        knows by that alone that what it was to tell of has not been done.
Rule 3: it has to outlive the process and not the machine: nothing is brought to stable storage.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from dataclasses import dataclass, replace
from typing import Any

from task_runner.errors import Damaged
from task_runner.model.codec import from_json, to_json

#: bytes; an entry has fewer
_SLOT = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """How far it has come."""

    #: "new"; "create", "start": the engine is being asked to make the container, to start it
    stage: str = "new"
    engine: str | None = None
    #: what is being written to the log is of this stream (1: stdout, 2: stderr), as long as nothing else stands here
    stream: int = 1
    #: how long the log was when that began
    at: int = 0
    #: how long the two files were when the try began, where the streams are kept apart
    stdout_start: int = 0
    stderr_start: int = 0
    #: bytes of either stream that had been written by then
    stdout: int = 0
    stderr: int = 0
    #: the machine's last word, in what it said
    last: dict[str, Any] | None = None


class Keep:
    """The file. Without a path nothing is kept."""

    def __init__(self, path: str | None) -> None:
        """Raises OSError."""
        self._fd = -1
        self._turn = 0
        self._lock = threading.Lock()
        self.entry = Entry()
        if path is not None:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._fd, 0, 2 * _SLOT)  # a disk that fills up later stops nothing
            self._read()

    def _read(self) -> None:
        for slot in range(2):
            turn, entry = _decode(os.pread(self._fd, _SLOT, slot * _SLOT))
            if turn > self._turn and entry is not None:
                self._turn, self.entry = turn, entry

    def write(self, **changes: Any) -> None:
        """Change some of the entry's fields. Any thread may. Raises OSError."""
        with self._lock:
            self.entry = replace(self.entry, **changes)
            if self._fd < 0:
                return
            self._turn += 1
            text = json.dumps({"turn": self._turn, **to_json(self.entry)}, ensure_ascii=False)
            data = text.encode("utf-8", "replace")
            line = b"%08x %s\n" % (zlib.crc32(data), data)
            assert len(line) <= _SLOT
            os.pwrite(self._fd, line, self._turn % 2 * _SLOT)


def _decode(slot: bytes) -> tuple[int, Entry | None]:
    line, end, _ = slot.partition(b"\n")
    try:
        if not end or int(line[:8], 16) != zlib.crc32(line[9:]):
            return 0, None
        value = json.loads(line[9:])
        return int(value["turn"]), from_json(Entry, value)
    except (ValueError, KeyError, Damaged):
        return 0, None
