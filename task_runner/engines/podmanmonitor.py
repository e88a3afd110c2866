"""Whether Podman will ever learn how a container ended.

Each container of Podman has a monitor (conmon), which alone sees how it ends. Where that was killed, Podman says for
ever that the container runs. So where both the monitor and the main process are gone, nobody knows, and nobody will.
"""

from __future__ import annotations

import os
import time
from typing import Any

from task_runner.engines.base import Seen
from task_runner.engines.dockerapi import Api

#: seconds for Podman to take note of what a monitor had written before it ended
_PATIENCE = 3.0
#: what a container is called whose end nobody saw
LOST = "its main process has ended, and so had its monitor (conmon), which alone would know how"


class Monitors:
    """Looks after the monitors of containers that are said to run and do not."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._since: dict[str, float] = {}

    def is_lost(self, container: str, seen: Seen) -> bool:
        """Whether main process and monitor have been gone for a while. False where that cannot be seen from here."""
        running = seen.state == "running" and seen.pid is not None
        if not running or _lives(seen.pid) or not _unattended(self._api.inspect(container)):
            self._since.pop(container, None)
            return False
        return time.monotonic() - self._since.setdefault(container, time.monotonic()) > _PATIENCE


def _unattended(found: dict[str, Any] | None) -> bool:
    if found is None or not _is_here(found):
        return False
    state = found.get("State") or {}
    pids = state.get("Pid"), state.get("ConmonPid")
    running = state.get("Status") == "running" or state.get("Running") is True
    return running and all(pids) and not any(map(_lives, pids))


def _is_here(found: dict[str, Any]) -> bool:
    """Whether these are processes of this machine: where they are, so are the container's files."""
    path = found.get("ConmonPidFile") or found.get("PidFile") or ""
    return bool(path) and os.path.isdir(os.path.dirname(path))


def _lives(pid: int | None) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
