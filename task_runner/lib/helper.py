"""A child of a runner that runs no action, but helps: how it gives up all that it has of the runner."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from task_runner.kernel.descriptors import close_all_but
from task_runner.lib.signals import HANDLED


def leave_runner(kept: Collection[int]) -> None:
    """Give up its session, its signals, and all descriptors but the standard error and these: above all its lock.

    Signals that are meant for the task, or for a terminal's foreground, must not end a helper before the task.
    """
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (*HANDLED, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    close_all_but(kept)
