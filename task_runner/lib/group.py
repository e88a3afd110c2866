"""The control groups of one task: on v2 one for every task, on v1 one for each controller that a limit needs.

v2 is for tracking, kill and freeze, whether it has controllers or not. The freezer of v1 is never used: who is frozen
there does not even die.

What a task makes below its group (a container engine does) belongs to it: it is killed, frozen and removed with it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

from task_runner.kernel import cgroupcounts, cgroupfiles
from task_runner.kernel.cgroupfiles import Place, read, write
from task_runner.lib import process
from task_runner.lib.cgroups import PREDECESSORS, Places
from task_runner.lib.grouplimits import LIMITS, needed, set_limits
from task_runner.lib.process import Process
from task_runner.model.status import Accounting, LimitNote
from task_runner.model.walls import Means, TaskLimits

#: seconds to wait for a group to be removable: a process that has just ended may keep it for a moment
_PATIENCE = 0.3


def make(places: Places, task_id: str, attempt: int = 1) -> Group | None:
    """The group of an attempt; None where there are none, or it cannot be made."""
    group = Group(places, f"{task_id}-{attempt}", new=True)
    if places.v2 is not None and not group.open():
        return None
    return group if places.v2 is not None or places.v1 else None


def of_attempt(places: Places, task_id: str, attempt: int) -> Group | None:
    """The group of an attempt, made by its runner; None where there is none (any more)."""
    group = Group(places, f"{task_id}-{attempt}")
    return group if any(map(os.path.isdir, group.directories)) else None


def cpu_seconds(places: Places, task_id: str, attempt: int) -> float | None:
    """Processor time that an attempt has used so far; None where it has no group that counts it."""
    v2, cpuacct = places.v2, places.v1.get("cpuacct")
    name = f"{task_id}-{attempt}"
    return cgroupcounts.cpu_seconds(v2 and f"{v2}/{name}", cpuacct and f"{cpuacct}/{name}")


def left_by(places: Places, task_id: str) -> list[Group]:
    """The groups that attempts of a task have left."""
    return [Group(places, name) for name in _names(places) if name.rpartition("-")[0] == task_id]


def attempts(places: Places) -> list[tuple[str, int]]:
    """Task and attempt of every group there is."""
    found = [name.rpartition("-") for name in _names(places)]
    return [(task_id, int(attempt)) for task_id, _, attempt in found if task_id and attempt.isdecimal()]


def means(places: Places) -> list[Means]:
    """How groups enforce each limit that is theirs: by trying it."""
    trial = make(places, "trial", os.getpid())
    if trial is None:
        return [Means(limit=limit, by=None, note=places.why) for limit in LIMITS]
    try:
        wanted = TaskLimits(memory_mb=64, swap_mb=64, cpus=1.0, pids=64, io_weight=100)
        return [Means(limit=note.limit, by=note.by, note=note.note) for note in trial.limit(wanted)]
    finally:
        trial.remove()


def _names(places: Places) -> list[str]:
    names: set[str] = set()
    for directory in filter(None, (places.v2, *places.v1.values())):
        try:
            names.update(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
        except OSError:
            pass
    return sorted(names)


class Group:
    """What one attempt has."""

    __slots__ = ("_places", "_name", "_v2", "_v1", "_limited", "memory_mb")

    def __init__(self, places: Places, name: str, *, new: bool = False) -> None:
        """``new``: it has nothing in v1 yet."""
        self._places = places
        self._name = name
        self._limited = False
        #: its limit of memory, where that is enforced
        self.memory_mb: int | None = None
        self._v2 = None if places.v2 is None else f"{places.v2}/{name}"
        self._v1: dict[str, str] = {}
        if not new:
            of_v1 = {controller: f"{directory}/{name}" for controller, directory in places.v1.items()}
            self._v1.update((controller, path) for controller, path in of_v1.items() if os.path.isdir(path))

    def open(self) -> bool:
        """Make the group of v2; False where that fails."""
        assert self._v2 is not None
        try:
            os.mkdir(self._v2, 0o755)
        except FileExistsError:
            pass
        except OSError:
            return False
        return True

    @property
    def directories(self) -> list[str]:
        """Where it is; hierarchies of v1 may share one."""
        return list(dict.fromkeys(filter(None, (self._v2, *self._v1.values()))))

    @property
    def join(self) -> tuple[str, ...]:
        """The files that the first process of an action writes "0" into to be in the group."""
        return tuple(f"{directory}/cgroup.procs" for directory in self.directories)

    @property
    def home(self) -> tuple[str, ...]:
        """The same to leave it again; empty where a runner must not go inside, since limits would count it."""
        home = self._places.v2_home
        return () if self._limited or self._v2 is None or home is None else (home,)

    # -- limits

    def limit(self, limits: TaskLimits) -> list[LimitNote]:
        """Set limits; returns what became of those that were asked for. Before anybody joins: it may make groups."""
        for controller in needed(limits):
            self._need(controller)
        places = self._places
        notes = set_limits(limits, self.place, why=places.why, caveat=places.caveat)
        self._limited = bool(notes)
        if any(note.limit == "memoryMb" and note.by is not None for note in notes):
            self.memory_mb = limits.memory_mb
        return notes

    def _need(self, controller: str) -> None:
        """Make the group of v1, where that is where the controller is."""
        if (directory := self._places.v1.get(controller)) is None:
            return
        try:
            os.mkdir(f"{directory}/{self._name}", 0o755)
        except FileExistsError:
            pass
        except OSError:
            return
        self._v1[controller] = f"{directory}/{self._name}"

    def place(self, controller: str) -> Place | None:
        """Where a controller of the group is, by its name in v2; None: nowhere."""
        if self._v2 is not None and controller in self._places.v2_controllers:
            return Place(2, self._v2)
        directory = self._v1.get(PREDECESSORS.get(controller, controller))
        return None if directory is None else Place(1, directory)

    # -- who is in it

    def pids(self) -> list[int]:
        """Everybody in it, and in groups below it."""
        directory = next(iter(self.directories), None)
        if directory is None:
            return []
        return [pid for below in _tree(directory) for pid in cgroupfiles.pids(f"{below}/cgroup.procs")]

    def members(self) -> list[Process]:
        """The same, looked at. Who was in the group before and after the look is no other by the same pid."""
        seen = [each for pid in self.pids() if (each := process.look(pid)) is not None and each.alive]
        still = frozenset(self.pids()) if seen else frozenset()
        return [each for each in seen if each.pid in still]

    def populated(self) -> bool:
        """Whether anybody lives in it, zombies not counted."""
        if self._v2 is not None:
            return "populated 1" in read(f"{self._v2}/cgroup.events")
        return bool(self._v1) and bool(self.pids())

    def kill(self) -> bool:
        """SIGKILL everybody in it at once; False where the host cannot do that (cgroup v2, Linux 5.14)."""
        return self._v2 is not None and write(f"{self._v2}/cgroup.kill", "1")

    def freeze(self) -> bool:
        """Let nobody in it run, until `thaw`; they still die. False where the host cannot do that (cgroup v2)."""
        return self._v2 is not None and write(f"{self._v2}/cgroup.freeze", "1")

    def thaw(self) -> bool:
        """Let them go on; False where the host cannot freeze."""
        return self._v2 is not None and write(f"{self._v2}/cgroup.freeze", "0")

    @property
    def frozen(self) -> bool:
        """Whether everybody in it is frozen; who is in the middle of something in the kernel is so a moment later."""
        return self._v2 is not None and "frozen 1" in read(f"{self._v2}/cgroup.events")

    def remove(self) -> bool:
        """Remove it with all below it; False where somebody is still in it."""
        deadline = time.monotonic() + _PATIENCE
        removed = [_remove(directory, deadline) for directory in self.directories]
        return all(removed)

    # -- what the kernel counted

    def oom_kills(self) -> int | None:
        """Processes of it that the kernel has killed because there was no memory; None: not counted here."""
        return cgroupcounts.oom_kills(self.place("memory"))

    def oom_words(self, kills: int) -> str:
        """What so many kills mean. Where all of a group goes at once the kernel counts more than there were."""
        place = self.place("memory")
        whole = self.memory_mb is not None and place is not None and place.version == 2
        limit = "without a limit of its own" if self.memory_mb is None else f"{self.memory_mb} MiB allowed"
        return f"out of memory: the kernel killed {'all' if whole else kills} of its processes ({limit})"

    def accounting(self) -> Accounting | None:
        """What has been used so far."""
        if not self.directories:
            return None
        return cgroupcounts.account(self._v2, self._v1.get("cpuacct"), self.place)


def _tree(directory: str) -> Iterator[str]:
    """A group and all below it, those farthest below first."""
    for below, _directories, _files in os.walk(directory, topdown=False):
        yield below


def _remove(directory: str, deadline: float) -> bool:
    pause = 0.001
    while True:
        try:
            os.rmdir(directory)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                return False
        for below in list(_tree(directory))[:-1]:
            try:
                os.rmdir(below)
            except OSError:
                pass
        time.sleep(pause)
        pause *= 2
