"""Checks of the machine: Python, kernel, limits, cgroup."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator

from task_runner.cli.check import Result, attempt
from task_runner.kernel import cgroupmounts

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
#: descriptors and processes that are not there for tasks
_SPARE = 200
#: below this many tasks at once a limit deserves a word
_FEW = 500


def check_python() -> Iterator[Result]:
    """Which one it is; an older one than 3.11 does not get as far as this."""
    yield Result("python", "ok", ".".join(map(str, sys.version_info[:3])))


def check_kernel() -> Iterator[Result]:
    """What a runner needs, by trying it."""
    release = os.uname().release
    need = f"this kernel is {release}; Linux 5.4 or later is needed, and a sandbox that allows it"
    yield attempt("pidfd", _try_pidfd, need)
    yield attempt("child subreaper", _try_subreaper, need)
    yield attempt(
        "children in /proc",
        _try_children,
        "CONFIG_PROC_CHILDREN is missing: a stop reads all of /proc instead, which is slower on a busy machine",
        otherwise="warn",
    )


def _try_pidfd() -> None:
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def _try_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    steps = ((_PR_GET_CHILD_SUBREAPER, ctypes.byref(before)), (_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1)))
    for operation, argument in steps:
        if libc.prctl(operation, argument, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(before.value), 0, 0, 0)


def _try_children() -> None:
    with open(f"/proc/self/task/{threading.get_native_id()}/children", "rb") as file:
        file.read()


def check_limits(pid: int | None) -> Iterator[Result]:
    """How many tasks the limits allow: those of the daemon, where it can be asked, else those of this process."""
    whose, target = ("daemon", pid) if pid is not None and os.path.exists(f"/proc/{pid}") else ("this shell", 0)
    yield _limit(target, whose, resource.RLIMIT_NOFILE, "open files", per_task=1)
    yield _limit(target, whose, resource.RLIMIT_NPROC, "processes", per_task=2)


def _limit(pid: int, whose: str, which: int, name: str, *, per_task: int) -> Result:
    try:
        soft, hard = resource.prlimit(pid, which)
    except OSError:
        return Result(name, "info", f"the limits of the {whose} cannot be read")
    if soft == resource.RLIM_INFINITY:
        return Result(name, "ok", f"no limit ({whose})")
    tasks = max(0, soft - _SPARE) // per_task
    found = f"{soft} ({whose}): enough for about {tasks} tasks at once"
    if tasks >= _FEW:
        return Result(name, "ok", found)
    setting = "LimitNOFILE" if which == resource.RLIMIT_NOFILE else "LimitNPROC"
    most = "without limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
    return Result(name, "warn", found, f"raise it ({most}): {setting}= in the service unit, or ulimit")


def check_cgroup() -> Iterator[Result]:
    """The cgroup of version 2 that this shell is in. What the daemon makes of its own it says itself."""
    path = cgroupmounts.own_v2()
    if path is None:
        yield Result("cgroup", "info", "no cgroup v2 here: tasks are stopped by scanning for their processes")
        return
    yield Result("cgroup", "info", f"v2, {path}, {'ours to divide' if os.access(path, os.W_OK) else 'not ours'}")
    yield from _process_limit(path)


def _process_limit(path: str) -> Iterator[Result]:
    try:
        with open(f"{path}/pids.max", encoding="ascii") as file:
            most = file.read().strip()
    except OSError:
        return
    if most.isdigit() and (int(most) - _SPARE) // 2 < _FEW:
        tasks = max(0, int(most) - _SPARE) // 2
        found = f"{most} in this cgroup: enough for about {tasks} tasks at once"
        yield Result("pids.max", "warn", found, "TasksMax=infinity in the service unit")
