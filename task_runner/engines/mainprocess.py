"""Waiting for the main process of a container, without asking its engine."""

from __future__ import annotations

import os
import select

from task_runner.kernel.cgroupfiles import read


def await_end(container: str, pid: int | None, seconds: float) -> bool:
    """Returns True when it has ended, and False if it still runs after so many seconds. Returns True at once where it
    cannot be told by the name of its control group that it is that process."""
    try:
        pidfd = os.pidfd_open(pid or 0)
    except OSError:
        return True
    try:
        if container not in read(f"/proc/{pid}/cgroup"):
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    except OSError:
        return True
    finally:
        os.close(pidfd)
