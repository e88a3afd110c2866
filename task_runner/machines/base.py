"""How an action becomes a child process of the runner.

`process` is the command itself. Every other machine is a Python function that runs in a forked child of
its own: it may crash, hang or import a large library without touching the runner.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from task_runner.errors import StartFailed
from task_runner.machines.walls import Walls
from task_runner.model.walls import TaskLimits

#: signals that Python ignores and a command must find as the system sets them
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What an action may know of the task it belongs to."""

    task_id: str
    attempt: int
    action_index: int
    #: the task's working directory
    work: str
    #: the whole environment of the action, before what its parameters add
    env: dict[str, str]
    stdout: int
    stderr: int
    #: directory of the named locks that tasks of one daemon share
    locks: str
    #: what the action reads on its standard input, where that is kept open; none: it is empty
    stdin: int | None = None
    #: the FIFO that takes lines of progress (machines/progress.py); none: nobody listens
    progress: str | None = None
    #: directories below which files of this machine may be read for the task
    host_files: tuple[str, ...] = ()
    #: values of the secrets that the spec names
    secrets: Mapping[str, str] = field(default_factory=dict)
    #: what the action's process puts around itself before it is the action; none: nothing
    walls: Walls | None = None
    #: what the task may use, for machines that hand that on to somebody else
    limits: TaskLimits | None = None
    #: where a machine says how it gets on (machines/say.py); none: nobody listens
    say: int | None = None
    #: which start of the action this is: 1 and up
    tries: int = 1
    #: an earlier process of this very try has been lost: find what it had started, and start nothing
    take_up: bool = False
    #: container engines by the path of their socket, the default first; empty: look in the usual places
    engines: Mapping[str, str] = field(default_factory=dict)
    #: names the daemon in labels of what engines make for it
    daemon: str = ""


_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

#: a machine written in Python: returns the exit code of the action
Run = Callable[[Any, Context], int]


def start_forked(run: Run, parameters: Any, context: Context, *, masked: bool = False) -> int:
    """Run a machine in a forked child; returns its pid. Raises StartFailed.

    Signals for the child are blocked until it has left the runner: before, they would be noted in the runner's
    own inbox. With ``masked`` they stay so, and the machine unblocks them when it is ready for them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    runner = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(run, parameters, context, runner, masked)
    except OSError as error:
        raise StartFailed(f"fork: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(run: Run, parameters: Any, context: Context, runner: int, masked: bool) -> NoReturn:
    code = 1
    try:
        _leave_runner(context, runner)
        if not masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
        code = run(parameters, context)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def _leave_runner(context: Context, runner: int) -> None:
    """Give up all that the child has of the runner: its session, signals, and above all its lock.

    A child that kept the lock's descriptor would make a dead runner look alive. And it is to die with the runner:
    /proc shows it with the environment of the launcher, without the task's mark, so nobody would find it.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != runner:
        os._exit(1)  # it died before that call
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(context.stdout, 1)
    os.dup2(context.stderr, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.umask(0o022)
    os.chdir(context.work)
    os.environ.clear()
    os.environ.update(context.env)
    sys.stdout = open(  # noqa: SIM115
        1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
