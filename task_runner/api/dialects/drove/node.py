"""The one node: by which id and name Drove's clients know it, and how it tells the time."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import UTC, datetime, timedelta

from task_runner.lib.clock import Clock

#: all processors and memory are shown as those of one NUMA node
NUMA = "0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def hostname() -> str:
    """As the machine calls itself."""
    return socket.gethostname()


def executor_id(state_dir: str) -> str:
    """The same for every daemon of a state directory on this machine."""
    return str(uuid.uuid3(uuid.NAMESPACE_URL, f"task-runner://{hostname()}{os.path.realpath(state_dir)}"))


def millis(stamp: str) -> int:
    """A stamp of ours (ISO 8601, UTC) as Drove has times: milliseconds since 1970, rounded down."""
    return (datetime.fromisoformat(stamp) - _EPOCH) // _MILLISECOND


def now_millis(clock: Clock) -> int:
    """The time."""
    return int(clock.time() * 1000)
