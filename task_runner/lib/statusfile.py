"""status.json: what a runner knows, written whole, read with suspicion.

Rule 1: one writer, the runner, and it replaces the file by rename: a reader sees the old or the new whole.
Rule 2: the space of the last status is taken before the first command starts (promise 10): `reserve`
        allocates a file, `write_last` fills and renames it, so an ending needs no free block and no free inode.
Rule 3: no fsync while the daemon answers the bell, since it commits what it reads to the store and says nothing
        of an ending before. If nobody answers, `sync` is the runner's.

A file that is torn, foreign or no file at all is Damaged; who reads decides what to do, and keeps it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from task_runner.errors import Damaged
from task_runner.lib.taskdir import AttemptDirectory, read_control, set_aside, write_all, write_control
from task_runner.model.codec import from_json, to_json
from task_runner.model.status import FORMAT, ActionStatus, Status

#: room for the last status: what a receipt lists, errors, and a message are limited so that they fit
RESERVED_BYTES = 24 * 1024
#: and what an action's status grows by when its end is known, a short error included
RESERVED_BYTES_AN_ACTION = 800


class StatusWriter:
    """The runner's hand."""

    def __init__(self, directory: AttemptDirectory, actions: Sequence[ActionStatus], extra: int = 0) -> None:
        """``extra``: bytes of the last status that are not known to it otherwise."""
        self._path = directory.status
        self._reserve = f"{directory.path}/.status.reserve"
        self._reserved = -1
        room = sum(len(json.dumps(to_json(each))) + RESERVED_BYTES_AN_ACTION for each in actions)
        self._room = RESERVED_BYTES + extra + room

    def reserve(self) -> None:
        """Take the space of the last status. Raises OSError where there is none."""
        # not truncated: what an earlier runner of this attempt has taken is kept
        self._reserved = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._reserved, 0, self._room)

    def write(self, status: Status) -> bool:
        """Write a status that others will follow; False where it could not be written."""
        try:
            write_control(self._path, _encode(status))
        except OSError:
            return False
        return True

    def write_last(self, status: Status) -> None:
        """Write the status that stays, into the reserved space."""
        data = _encode(status)
        write_all(self._reserved, data)
        os.ftruncate(self._reserved, len(data))
        try:
            os.rename(self._reserve, self._path)
        except (IsADirectoryError, NotADirectoryError):
            set_aside(self._path)  # somebody made a directory of that name
            os.rename(self._reserve, self._path)

    def close(self) -> None:
        os.close(self._reserved)

    def sync(self) -> None:
        """Bring the last status to stable storage."""
        sync_status(os.path.dirname(self._path), self._reserved)


def sync_status(directory: str, fd: int) -> None:
    """Bring a status file and its name to stable storage."""
    try:
        os.fsync(fd)
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError:
        pass  # there is nobody left to tell


def _encode(status: Status) -> bytes:
    return json.dumps(to_json(status)).encode() + b"\n"


def read(directory: AttemptDirectory) -> Status | None:
    """The status as it stands; None where there is none yet. Raises Damaged, OSError."""
    return read_file(directory.status)


def read_file(path: str) -> Status | None:
    """The same of any file."""
    try:
        raw = read_control(path)
    except FileNotFoundError:
        return None
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"status.json is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Damaged("status.json is not an object")
    version = data.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise Damaged(f"status.json has format {version!r}; this daemon reads 1 to {FORMAT}")
    return from_json(Status, data)
