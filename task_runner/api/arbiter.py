"""The process above the daemon under gunicorn: its arbiter, without which the daemon must not live on.

An arbiter that is killed leaves its worker behind: nothing replaces that any more, and it keeps the port and the
state directory from the arbiter that comes next.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from task_runner.errors import Refused
from task_runner.kernel.cgroupfiles import read

_PR_SET_PDEATHSIG = 1


def die_with_arbiter() -> None:
    """Have the kernel end this process when its arbiter ends, however. Raises Refused if it has ended already.

    SIGKILL, since the tasks and the store survive that anyhow and nothing is quicker. An arbiter that ends in
    order has ended its workers before.
    """
    if "gunicorn.arbiter" not in sys.modules:
        return  # served by something else
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if not _is_arbiter(os.getppid()):
        raise Refused("the gunicorn that started this worker has ended meanwhile")


def _is_arbiter(pid: int) -> bool:
    """Whether this process is what forked us, or calls itself gunicorn (which setproctitle lets it)."""
    parent = read(f"/proc/{pid}/cmdline")
    return parent == read(f"/proc/{os.getpid()}/cmdline") or "gunicorn" in parent
