"""The output of containerd's containers, past containerd.

containerd reads it from two pipes, whose other end a helper process of the container (its shim) writes, and makes a log
of it by lines. That log is not what was written: a carriage return before a newline is taken away, and what is in the
pipes when the container ends may be lost (Debian's 1.6.20 loses up to 128 KiB of fast output, every time). The shim
takes files as well as pipes. So the pipes are replaced by links to files before the container is started: then they
hold every byte as soon as it was written, whatever becomes of containerd.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil

from task_runner.engines.outputfiles import NAMES
from task_runner.errors import EngineFailed

BASE = "/var/log/task-runner"


class Outputs:
    """The directories of one engine, one for each container, by its name.

    Not below the state directory of a daemon: they belong to the container, and whoever finds that finds them.
    """

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
                continue  # the last container there was has just taken the directories above with it
            except OSError as error:
                raise EngineFailed(f"cannot make {path}, for the container's output: {error.strerror}") from error
            break
        for each in NAMES:
            os.close(os.open(f"{path}/{each}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def lead(self, name: str, container: str, state: str) -> None:
        """Have the output of a container that is not started yet written there; ``state``: the directory of the
        engine's CRI plugin. Raises EngineFailed where its pipes cannot be found."""
        for each in NAMES:
            found = glob.glob(f"{glob.escape(state)}/containers/{container}/io/*/{container}-{each}")
            if len(found) != 1:
                raise EngineFailed(f"the container's pipe for {each} is not below {state}, where containerd keeps it")
            os.symlink(f"{self.path(name)}/{each}", f"{found[0]}.new")
            os.rename(f"{found[0]}.new", found[0])

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
            os.rmdir(BASE)
        except OSError:
            pass  # there are others, or none was ever made
