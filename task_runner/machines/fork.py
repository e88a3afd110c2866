"""How a child of the runner comes into being that has something to do before it is what it is to be.

Signals for it are blocked until it has left the runner: before, they would be noted in the runner's own inbox.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import NoReturn

from task_runner.errors import StartFailed
from task_runner.kernel.descriptors import close_all_but
from task_runner.machines import oom

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
#: bytes of a reason that are heard
_LONGEST = 4096


def fork(child: Callable[[], NoReturn]) -> int:
    """Fork; returns the pid of the child, which begins with all signals blocked. Raises StartFailed."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            child()
    except OSError as error:
        raise StartFailed(f"fork: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def fork_and_hear(child: Callable[[int], NoReturn]) -> int:
    """The same, and wait until the child is what it is to be. Raises StartFailed with the reason why it cannot be.

    ``child`` is given a descriptor to write that reason to. It is through when it closes it, or execs.
    """
    try:
        hear, tell = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise StartFailed(f"pipe: {error.strerror}") from error
    try:
        pid = fork(lambda: child(tell))
    except StartFailed:
        os.close(hear)
        raise
    finally:
        os.close(tell)
    with open(hear, "rb", buffering=0) as pipe:
        reason = pipe.read(_LONGEST) or b""
    if reason:
        os.waitpid(pid, 0)
        raise StartFailed(reason.decode(errors="replace"))
    return pid


def fail(tell: int, reason: str) -> NoReturn:
    """In the child: give up, and say why."""
    os.write(tell, reason.encode(errors="replace")[:_LONGEST])
    os._exit(1)


def leave_runner(runner: int, *, stdin: int | None, stdout: int, stderr: int, kept: Collection[int] = ()) -> None:
    """Give up all that the child has of the runner: its session, signals, and above all its lock.

    A child that kept the lock's descriptor would make a dead runner look alive. And it is to die with the runner:
    /proc shows it with the environment of the launcher, without the task's mark, so nobody would find it.
    """
    die_with(runner)
    oom.expose()
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    os.dup2(os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    close_all_but(kept)


def die_with(runner: int) -> None:
    """Be killed when the runner ends. The kernel forgets that when a process changes its user."""
    die_with_parent()
    if os.getppid() != runner:
        os._exit(1)  # it died before that call


def die_with_parent() -> None:
    """The same, for who cannot see its parent from its pid namespace."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def outlive() -> None:
    """Be killed with the runner no more: from here on the task's mark is in the environment."""
    _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
