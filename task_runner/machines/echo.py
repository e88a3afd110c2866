"""The `echo` machine: carries out a script of `model.echo`, line by line.

The lines after `cleanup` run whatever happened before them: the end of the script, a `return`, a `raise`,
or a polite signal. Then the machine ends as it would have: with its exit code, or by that signal.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from task_runner.machines.base import Context, Run
from task_runner.model.echo import Script, Statement, parse

POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class _Lock:
    name: str
    mode: int
    fd: int


class _Stopped(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


def load(parameters: Any, context: Context) -> Run:
    """Read the script, and open its locks: they are the daemon's files, whoever takes them."""
    script = parse(parameters)
    locks = _open_locks(script, context.locks)
    return lambda _parameters, _context: _run(script, locks)


def _run(script: Script, locks: Sequence[_Lock]) -> int:
    """Carry out the script; returns its exit code."""
    stopped_by: int | None = None
    fault: Exception | None = None
    code = 0
    try:
        try:
            _on_polite(_raise_stopped)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])  # started masked: a stop that came early comes now
            _hold(locks)
            code = _carry_out(script.main)
        except Exception as error:
            fault = error
        _on_polite(signal.SIG_IGN)
    except _Stopped as stop:
        stopped_by = stop.number
    cleanup_code = _carry_out(script.cleanup)
    if stopped_by is not None:
        signal.signal(stopped_by, signal.SIG_DFL)
        os.kill(os.getpid(), stopped_by)
    if fault is not None:
        raise fault
    return code or cleanup_code


def _on_polite(handler: Any) -> None:
    for number in POLITE:
        signal.signal(number, handler)


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    _on_polite(signal.SIG_IGN)  # whoever stops us twice waits for the cleanup, or for the grace to end
    raise _Stopped(number)


def _open_locks(script: Script, directory: str) -> list[_Lock]:
    """The named locks, in one order for everybody so that no two scripts wait for each other."""
    if not script.shared and not script.exclusive:
        return []
    import urllib.parse  # in the child that needs it

    os.makedirs(directory, mode=0o700, exist_ok=True)
    locks = []
    for name in sorted({*script.shared, *script.exclusive}):
        mode = fcntl.LOCK_EX if name in script.exclusive else fcntl.LOCK_SH
        # quoted, and never "." or "..": the name is the client's, the file is ours
        path = os.path.join(directory, "use-" + urllib.parse.quote(name, safe="")[:240])
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        locks.append(_Lock(name, mode, fd))
    return locks


def _hold(locks: Sequence[_Lock]) -> None:
    """Take the locks; held until this process ends."""
    for lock in locks:
        try:
            fcntl.flock(lock.fd, lock.mode | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for {lock.name}", flush=True)
            fcntl.flock(lock.fd, lock.mode)


def _carry_out(statements: Sequence[Statement]) -> int:
    for statement in statements:
        if statement.word == "sleep":
            time.sleep(statement.number)
        elif statement.word == "return":
            return int(statement.number)
        elif statement.word == "raise":
            raise RuntimeError(statement.text or f"raised by line {statement.line}")
        else:
            print(statement.text, flush=True)
    return 0
