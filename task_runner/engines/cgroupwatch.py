"""What the kernel counts for a container, read from its own control groups while they are there.

The runtime removes them a moment after the container's main process has ended. A pidfd wakes whoever watches in
between, and what is read then counts. Processes that were killed for lack of memory are not missed even where that
comes too late, if the watch began before the container did anything: cgroup v2 wakes for each of them, and so does v1
through an eventfd, which counts them (and one more when the group is removed).
"""

from __future__ import annotations

import os
import select
import threading

from task_runner.engines import cgroupuse
from task_runner.engines.cgroupuse import Groups
from task_runner.model.status import Accounting

#: seconds for the kernel to tell of a group that has been removed, and in how many turns they are waited for: a machine
#: that stands still meanwhile takes one of them, and not the kernel's time
_REMOVAL, _TURNS = 1.0, 10
#: seconds for a watch to have read the last figures, once the engine says that the container has ended
_LAST = 3.0


class CgroupWatch:
    """Reads in a thread of its own, until the process has ended. Of a process that is not there, or has no groups of
    its own, nothing is known."""

    @classmethod
    def of(cls, pid: int | None) -> CgroupWatch:
        """Of a container, by its main process."""
        return cls(None if pid is None else cgroupuse.groups(pid), pid or 0)

    def __init__(self, groups: Groups | None, pid: int) -> None:
        self._accounting: Accounting | None = None
        self._oom_kills: int | None = None
        self._thread: threading.Thread | None = None
        if groups is None:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return  # it has just ended
        alarm = _open_alarm(groups)
        self._thread = threading.Thread(target=self._watch, args=(groups, pidfd, alarm), daemon=True)
        self._thread.start()

    @property
    def sees(self) -> bool:
        """Whether there is anything to be known."""
        return self._thread is not None

    def accounting(self) -> Accounting | None:
        """All that was counted for a container that has ended; None where it was too late to read it."""
        self._settle()
        return self._accounting

    def oom_kills(self) -> int | None:
        """Processes of a container that has ended, which the kernel has killed for lack of memory; None: not known."""
        self._settle()
        return self._oom_kills

    def _settle(self) -> None:
        if self._thread is not None:
            self._thread.join(_LAST)

    def _watch(self, groups: Groups, pidfd: int, alarm: int | None) -> None:
        try:
            kills = cgroupuse.oom_kills(groups)
            events = 0
            while not _ended(pidfd, alarm):
                events += _heard(groups, alarm)
                kills = _latest(cgroupuse.oom_kills(groups), kills)
            self._accounting = cgroupuse.accounting(groups)
            if self._accounting is not None:
                self._oom_kills = _latest(self._accounting.oom_kills, kills)
            elif groups.version("memory") == 1 and alarm is not None:
                self._oom_kills = max(kills or 0, events + _heard_last(groups, alarm))
            else:
                self._oom_kills = kills or None
        finally:
            os.close(pidfd)
            if alarm is not None:
                os.close(alarm)


def _ended(pidfd: int, alarm: int | None) -> bool:
    """Waits until the process has ended, or the alarm has sounded."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if alarm is not None:
        poll.register(alarm, select.POLLIN | select.POLLPRI)
    return pidfd in dict(poll.poll())


def _latest(now: int | None, before: int | None) -> int | None:
    return before if now is None else now


def _open_alarm(groups: Groups) -> int | None:
    """What wakes for each process that is killed for lack of memory: with v1 an eventfd, with v2 the file that counts
    them. None where the host has neither."""
    path = groups.file("memory", "memory.oom_control", "memory.events")
    if path is None:
        return None
    try:
        if groups.version("memory") == 2:
            return _opened(path)
        return _eventfd(path)
    except OSError:
        return None


def _opened(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.read(fd, 4096)  # from here on it tells of changes
    return fd


def _eventfd(path: str) -> int:
    counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(f"{os.path.dirname(path)}/cgroup.event_control", "w") as file:
                file.write(f"{counter} {control}")
        finally:
            os.close(control)
    except OSError:
        os.close(counter)
        raise
    return counter


def _heard(groups: Groups, alarm: int | None) -> int:
    """Take note of the alarm; with v1: how often it has sounded."""
    if alarm is None:
        return 0
    try:
        if groups.version("memory") == 1:
            return os.eventfd_read(alarm)
        os.lseek(alarm, 0, os.SEEK_SET)
        os.read(alarm, 4096)
    except OSError:
        pass  # nothing has happened since; or the group is gone
    return 0


def _heard_last(groups: Groups, alarm: int) -> int:
    """How often it has sounded for a group that is gone: the last time for that."""
    if groups.version("memory") == 2:
        return 0
    poll = select.poll()
    poll.register(alarm, select.POLLIN)
    events = 0
    for _ in range(_TURNS):
        if poll.poll(_REMOVAL / _TURNS * 1000):
            events += _heard(groups, alarm)
    return events - 1
