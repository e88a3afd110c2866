"""Where containerd keeps the logs of containers: it wants a directory for each, and never removes it."""

from __future__ import annotations

import hashlib
import os
import shutil

from task_runner.errors import EngineFailed

BASE = "/var/log/task-runner"


class Logs:
    """The directories of one engine, one for each container, by its name.

    Not below the state directory of a daemon: they belong to the container, and whoever finds that finds them.
    """

    #: of the log in its directory
    NAME = "log"

    def __init__(self, socket: str) -> None:
        engine = hashlib.sha256(os.path.realpath(socket).encode()).hexdigest()[:12]
        self._base = f"{BASE}/cri-{engine}"

    def path(self, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise EngineFailed(f"a container cannot be called {name!r}")
        return f"{self._base}/{name}"

    def make(self, name: str) -> None:
        """Raises EngineFailed where that is not allowed."""
        path = self.path(name)
        for _ in range(100):
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
            except FileNotFoundError:
                continue  # the last container of this engine has just taken the directory above with it
            except OSError as error:
                raise EngineFailed(f"cannot make {path}, for the container's log: {error.strerror}") from error
            return

    def names(self) -> list[str]:
        try:
            return os.listdir(self._base)
        except FileNotFoundError:
            return []

    def keep(self, seen: list[str], wanted: set[str]) -> None:
        """Remove those of what has been ``seen`` that are not ``wanted``: somebody else removed their containers."""
        for name in set(seen) - wanted:
            self.remove(name)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path(name), ignore_errors=True)
        try:
            os.rmdir(self._base)
        except OSError:
            pass  # there are others, or none was ever made
