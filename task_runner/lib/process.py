"""Processes, by identity. A pid alone is believed nowhere.

Every signal goes through a pidfd: it is opened by pid, then the start time is read and compared. Should the
pid have been given away in between, the descriptor names the new owner and the start time differs.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from task_runner.kernel import marks
from task_runner.kernel.cgroupfiles import read
from task_runner.lib.clock import boot_id
from task_runner.model.status import Identity, ProcessNote

#: the state of a process that is there and that /proc does not show us (`hidepid`): one of another user, or one that
#: nobody may look into. Nothing else is known of it, and its start time is 0
UNSEEN = "?"
#: names the task in the environment of everything it starts; how the remains of a dead runner are found
MARK = "TASK_RUNNER_TASK_ID"


class Process(NamedTuple):
    """One line of /proc/PID/stat, as far as it matters here. A tuple, for there may be tens of thousands.

    proc(5): fields 2 (name), 3 (state), 4 (ppid), 14 to 17 (times), 22 (start), 24 (resident pages).
    """

    pid: int
    command: str
    #: R, S, D, T (stopped), Z (zombie) …; or UNSEEN
    state: str
    ppid: int
    #: clock ticks since boot
    start_time: int
    #: user and system time, clock ticks
    ticks: int
    #: the same of the children that it has waited for, and theirs
    child_ticks: int = 0
    #: pages in memory; 0 of a zombie
    pages: int = 0

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"

    @property
    def note(self) -> ProcessNote:
        return ProcessNote(pid=self.pid, command=self.command)


def look(pid: int) -> Process | None:
    """What the kernel says of a pid now; None where there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse(pid, os.read(fd, 4096))
    except OSError:
        return None
    finally:
        os.close(fd)


def parse(pid: int, stat: bytes) -> Process | None:
    """A line of /proc/PID/stat; None where it is none."""
    begin, end = stat.find(b"("), stat.rfind(b")")  # the name may hold blanks and brackets
    fields = stat[end + 1 :].split(None, 22)
    if begin < 0 or len(fields) < 22:
        return None
    return Process(
        pid,
        stat[begin + 1 : end].decode(errors="replace"),
        chr(fields[0][0]),
        int(fields[1]),
        int(fields[19]),
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[21]),
    )


def identify(pid: int) -> Identity:
    """The identity of a process that is known to live (oneself, or an own child). Raises ProcessLookupError."""
    process = look(pid)
    if process is None:
        raise ProcessLookupError(pid)
    return Identity(pid=pid, start_time=process.start_time, boot_id=boot_id())


def is_alive(identity: Identity) -> bool:
    """Whether exactly this process lives; a zombie does not."""
    if identity.boot_id != boot_id():
        return False
    process = look(identity.pid)
    return process is not None and process.start_time == identity.start_time and process.alive


def open_pidfd(identity: Identity) -> int | None:
    """A pidfd of exactly this process; None where it is gone, whoever has its pid now."""
    if identity.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(identity.pid)
    except (OSError, OverflowError):
        return None
    process = look(identity.pid)
    if process is None or process.start_time != identity.start_time or not process.alive:
        os.close(fd)
        return None
    return fd


def send(process: Process, number: int) -> bool:
    """Signal a process that was looked at before; False where it is gone or not ours to signal."""
    if process.state == UNSEEN:
        fd = _open_unseen(process)
    else:
        fd = open_pidfd(Identity(pid=process.pid, start_time=process.start_time, boot_id=boot_id()))
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _open_unseen(process: Process) -> int | None:
    """Its start time cannot be compared. That it is a child of its parent still, once the descriptor is open, says as
    much: whoever has its pid now is a child of the same."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    try:
        if process.pid in _children(process.ppid):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def unseen(parent: int) -> list[Process]:
    """Children of a process that are there and that /proc does not show us. Theirs are not found."""
    hidden = [pid for pid in _children(parent) if look(pid) is None and _exists(pid)]
    left = set(_children(parent)) if hidden else ()
    return [Process(pid, "", UNSEEN, parent, 0, 0) for pid in hidden if pid in left]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@functools.cache
def proc_hides() -> bool:
    """Whether the /proc that we see may hide processes from us (proc(5), `hidepid`)."""
    shown = [line for line in read("/proc/self/mountinfo").splitlines() if line.split()[4] == "/proc"]
    _, told, mode = shown[-1].rpartition("hidepid=") if shown else ("", "", "")
    return bool(told) and not mode.startswith(("0", "off"))


def descendants(*roots: int) -> list[Process]:
    """Everything below these processes, parents first. A moment's view: whoever must be sure looks again."""
    if not _kernel_lists_children():
        return _descendants_by_parent(roots)
    found: list[Process] = []
    todo = list(roots)
    while todo:
        parent = todo.pop()
        if proc_hides():
            found += unseen(parent)
        for pid in _children(parent):
            process = look(pid)
            if process is not None:
                found.append(process)
                todo.append(pid)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                raw = file.read(1 << 20)
            children += [int(child) for child in raw.split()]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended; its children are somebody else's now
    except PermissionError:
        pass  # it is hidden meanwhile (`hidepid=1`), as one that has become another user's is
    return children


@functools.cache
def _kernel_lists_children() -> bool:
    """Whether /proc has the children of a process (CONFIG_PROC_CHILDREN)."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _descendants_by_parent(roots: Iterable[int]) -> list[Process]:
    """The same from one walk through all of /proc, for a kernel that does not list children."""
    by_parent: dict[int, list[Process]] = {}
    for process in everyone():
        by_parent.setdefault(process.ppid, []).append(process)
    found = [process for root in roots for process in by_parent.pop(root, ())]
    for process in found:  # grows while it is walked
        found += by_parent.pop(process.pid, [])
    return found


def everyone(*, newest_first: bool = True) -> Iterator[Process]:
    """Every process of the machine that /proc shows, those with the highest pids first, or last.

    They are mostly the newest, and the newest are the ones that may be gone before their turn comes.
    """
    for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=newest_first):
        if (process := look(pid)) is not None:
            yield process


def marked(task_id: str) -> list[Process]:
    """What a task whose runner is dead has left: all that carry its mark, and their descendants.

    A process that cleared its environment and lost its marked parent is not found. Only a cgroup knows it.
    """
    found = {process.pid: process for process in find_marked(task_id)}
    found.update({below.pid: below for below in descendants(*found) if below.alive})
    found.pop(os.getpid(), None)
    return list(found.values())


def find_marked(task_id: str) -> Iterator[Process]:
    """Every live process that carries the mark of a task, each as soon as it is seen."""
    mark = f"{MARK}={task_id}".encode()
    # looked at before its environment is read: should the pid be given away in between, a signal reaches nobody
    others = ((each.pid, each) for each in everyone() if each.alive and each.pid != os.getpid())
    return (process for process, words in marks.environments(others) if mark in words)
