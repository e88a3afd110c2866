"""The state directory: which file of the daemon stands where, and the lock that makes the daemon the only one."""

from __future__ import annotations

import fcntl
import json
import os
import time

from task_runner.errors import Refused, StateDirectoryBusy
from task_runner.lib.clock import stamp
from task_runner.lib.taskdir import PASSABLE, TaskDirectories


class StateDirectory:
    """Paths, and nothing done before `create`."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.lock = f"{self.path}/daemon.lock"
        self.launcher_lock = f"{self.path}/launcher.lock"
        self.bell = f"{self.path}/doorbell"
        self.database = f"{self.path}/tasks.db"
        self.token = f"{self.path}/token"
        #: who did what
        self.audit = f"{self.path}/audit.log"
        #: what the machine was like over the last day
        self.history = f"{self.path}/history"
        self.address = f"{self.path}/address.json"
        #: where /v1 is served, if nobody says otherwise, beside a task-executor
        self.socket = f"{self.path}/api.sock"
        #: what runners and the launcher had to say when something went wrong with themselves
        self.runner_log = f"{self.path}/runners.log"
        #: is there if containers were ever run
        self.containers = f"{self.path}/containers"
        #: where tasks keep locks that they share
        self.locks = f"{self.path}/locks"
        self.tasks = TaskDirectories(f"{self.path}/tasks")

    def create(self, *, shared: bool = False) -> None:
        """Make the directories, for the owner alone; ``shared``: other users, whom tasks run as, may pass through to
        what belongs to them. Raises Refused."""
        mode = PASSABLE if shared else 0o700
        try:
            for path in (self.path, self.tasks.path, self.locks):
                os.makedirs(path, mode=0o700, exist_ok=True)
            state = os.stat(self.path)
        except OSError as error:
            raise Refused(f"cannot use the state directory {self.path}: {error.strerror}") from error
        if state.st_uid != os.geteuid():
            raise Refused(f"the state directory {self.path} belongs to uid {state.st_uid}, not to the daemon's")
        for path in (self.path, self.tasks.path):
            if os.stat(path).st_mode & 0o777 != mode:
                os.chmod(path, mode)

    def hold(self, patience: float = 0.0) -> int:
        """Become the daemon of this directory; returns the descriptor to keep open.

        Waits up to ``patience`` seconds for an earlier daemon to go: a server that replaces its worker starts
        the new one first. Raises StateDirectoryBusy, which says who holds it.
        """
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                holder = os.pread(fd, 4096, 0).decode(errors="replace").strip()
                os.close(fd)
                raise StateDirectoryBusy(f"{self.path} is in use by another daemon: {holder or 'unknown'}")
            time.sleep(0.05)
        _sign(fd)
        return fd

    def starts_under_way(self) -> bool:
        """Whether a launcher, or a runner that it has forked and that has claimed nothing yet, is still there."""
        try:
            fd = os.open(self.launcher_lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)


def _sign(fd: int) -> None:
    """Say who holds the lock. Written over what stands there, which needs no space on a full disk."""
    text = json.dumps({"pid": os.getpid(), "since": stamp(time.time())}).encode() + b"\n"
    try:
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    except OSError:
        pass  # the lock counts, not the name


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
