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

from task_runner.lib import process
from task_runner.lib.cgroups import Places
from task_runner.lib.process import Process
from task_runner.model.status import Accounting, LimitNote
from task_runner.model.walls import TaskLimits

_MIB = 1024 * 1024
#: microseconds over which the use of processors is counted
_PERIOD = 100_000
#: seconds to wait for a group to be removable: a process that has just ended may keep it for a moment
_PATIENCE = 0.3


def make(places: Places, task_id: str, attempt: int = 1) -> Group | None:
    """The group of an attempt; None where there are none, or it cannot be made."""
    group = Group(places, f"{task_id}-{attempt}")
    if places.v2 is not None and not group.open():
        return None
    return group if places.v2 is not None or places.v1 else None


def left_by(places: Places, task_id: str) -> list[Group]:
    """The groups that attempts of a task have left."""
    return [Group(places, name) for name in _names(places) if name.rpartition("-")[0] == task_id]


def attempts(places: Places) -> list[tuple[str, int]]:
    """Task and attempt of every group there is."""
    found = [name.rpartition("-") for name in _names(places)]
    return [(task_id, int(attempt)) for task_id, _, attempt in found if task_id and attempt.isdecimal()]


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

    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._name = name
        self._limited = False
        #: its limit of memory, where that is enforced
        self.memory_mb: int | None = None
        self._v2 = None if places.v2 is None else f"{places.v2}/{name}"
        self._v1 = {
            controller: path
            for controller, directory in places.v1.items()
            if os.path.isdir(path := f"{directory}/{name}")
        }

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
    def join(self) -> tuple[str, ...]:
        """The files that the first process of an action writes "0" into to be in the group."""
        directories = dict.fromkeys(filter(None, (self._v2, *self._v1.values())))
        return tuple(f"{directory}/cgroup.procs" for directory in directories)

    @property
    def home(self) -> tuple[str, ...]:
        """The same to leave it again; empty where a runner must not go inside, since limits would count it."""
        home = self._places.v2_home
        return () if self._limited or self._v2 is None or home is None else (home,)

    # -- limits

    def limit(self, limits: TaskLimits) -> list[LimitNote]:
        """Set limits; returns what became of those that were asked for. Before anybody joins: on v1 that makes groups."""
        if limits.memory_mb is not None or limits.swap_mb is not None:
            self._need("memory")
        if limits.cpus is not None:
            self._need("cpu")
            self._need("cpuacct")
        if limits.pids is not None:
            self._need("pids")
        if limits.io_weight is not None:
            self._need("blkio")
        notes: list[LimitNote] = []
        for limit, asked, setter in (
            ("memoryMb", limits.memory_mb, self._limit_memory),
            ("swapMb", limits.swap_mb, lambda asked: self._limit_swap(asked, limits.memory_mb)),
            ("cpus", limits.cpus, self._limit_cpus),
            ("pids", limits.pids, self._limit_pids),
            ("ioWeight", limits.io_weight, self._weigh_io),
        ):
            if asked is not None:
                self._limited = True
                by, note = setter(asked)  # type: ignore[operator]
                if limit == "memoryMb" and by is not None:
                    self.memory_mb = limits.memory_mb
                notes.append(LimitNote(limit=limit, asked=float(asked), by=by, note=note))
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

    def _in_v2(self, controller: str) -> str | None:
        return self._v2 if controller in self._places.v2_controllers else None

    def _refused(self, controller: str) -> tuple[None, str]:
        why = self._places.why
        return None, f"there is no {controller} controller for tasks{f': {why}' if why else ''}"

    def _limit_memory(self, megabytes: int) -> tuple[str | None, str | None]:
        if (directory := self._in_v2("memory")) is not None:
            _write(f"{directory}/memory.oom.group", "1")
            return _set(f"{directory}/memory.max", str(megabytes * _MIB), "cgroup v2")
        if (directory := self._v1.get("memory")) is not None:
            return _set(f"{directory}/memory.limit_in_bytes", str(megabytes * _MIB), "cgroup v1")
        return self._refused("memory")

    def _limit_swap(self, megabytes: int, memory: int | None) -> tuple[str | None, str | None]:
        if (directory := self._in_v2("memory")) is not None:
            return _set(f"{directory}/memory.swap.max", str(megabytes * _MIB), "cgroup v2")
        if (directory := self._v1.get("memory")) is None:
            return self._refused("memory")
        if memory is None:
            return None, "cgroup v1 limits swap only where memoryMb is given as well"
        return _set(f"{directory}/memory.memsw.limit_in_bytes", str((memory + megabytes) * _MIB), "cgroup v1")

    def _limit_cpus(self, cpus: float) -> tuple[str | None, str | None]:
        quota = max(1000, round(cpus * _PERIOD))
        if (directory := self._in_v2("cpu")) is not None:
            return _set(f"{directory}/cpu.max", f"{quota} {_PERIOD}", "cgroup v2")
        if (directory := self._v1.get("cpu")) is not None:
            _write(f"{directory}/cpu.cfs_period_us", str(_PERIOD))
            return _set(f"{directory}/cpu.cfs_quota_us", str(quota), "cgroup v1")
        return self._refused("cpu")

    def _limit_pids(self, count: int) -> tuple[str | None, str | None]:
        if (directory := self._in_v2("pids")) is not None:
            return _set(f"{directory}/pids.max", str(count), "cgroup v2")
        if (directory := self._v1.get("pids")) is not None:
            return _set(f"{directory}/pids.max", str(count), "cgroup v1")
        return self._refused("pids")

    def _weigh_io(self, weight: int) -> tuple[str | None, str | None]:
        """A weight is kept by whoever shares the disk out: its scheduler (bfq), or the kernel's io.cost."""
        if (directory := self._in_v2("io")) is not None:
            by, scales = "cgroup v2", (("io.bfq.weight", 1000), ("io.weight", 10_000))
        elif (directory := self._v1.get("blkio")) is not None:
            by, scales = "cgroup v1", (("blkio.bfq.weight", 1000), ("blkio.weight", 1000))
        else:
            return self._refused("io")
        kept = [_write(f"{directory}/{name}", str(min(weight, most))) for name, most in scales]
        if not any(kept):
            return None, "this kernel has no weights for disks (the scheduler bfq, or io.cost)"
        if not _disks_heed_weights():
            return None, "no disk of this machine heeds weights (the scheduler bfq, or io.cost)"
        return by, None

    # -- who is in it

    def pids(self) -> list[int]:
        """Everybody in it, and in groups below it."""
        for directory in (self._v2, *self._v1.values()):
            if directory is not None:
                return [pid for below in _tree(directory) for pid in _numbers(f"{below}/cgroup.procs")]
        return []

    def members(self) -> list[Process]:
        """The same, looked at. Who was in the group before and after the look is no other by the same pid."""
        seen = [each for pid in self.pids() if (each := process.look(pid)) is not None and each.alive]
        still = frozenset(self.pids()) if seen else frozenset()
        return [each for each in seen if each.pid in still]

    def populated(self) -> bool:
        """Whether anybody lives in it, zombies not counted."""
        if self._v2 is not None:
            return "populated 1" in _read(f"{self._v2}/cgroup.events")
        return bool(self._v1) and bool(self.pids())

    def kill(self) -> bool:
        """SIGKILL everybody in it at once; False where the host cannot do that (cgroup v2, Linux 5.14)."""
        return self._v2 is not None and _write(f"{self._v2}/cgroup.kill", "1")

    def freeze(self) -> bool:
        """Let nobody in it run, until `thaw`; they still die. False where the host cannot do that (cgroup v2)."""
        return self._v2 is not None and _write(f"{self._v2}/cgroup.freeze", "1")

    def thaw(self) -> bool:
        """Let them go on; False where the host cannot freeze."""
        return self._v2 is not None and _write(f"{self._v2}/cgroup.freeze", "0")

    @property
    def frozen(self) -> bool:
        """Whether everybody in it is frozen."""
        return self._v2 is not None and "frozen 1" in _read(f"{self._v2}/cgroup.events")

    def remove(self) -> bool:
        """Remove it with all below it; False where somebody is still in it."""
        deadline = time.monotonic() + _PATIENCE
        directories = dict.fromkeys(filter(None, (self._v2, *self._v1.values())))
        return all([_remove(directory, deadline) for directory in directories])

    # -- what the kernel counted

    def oom_kills(self) -> int | None:
        """Processes of it that the kernel has killed because there was no memory; None: not counted here."""
        if (directory := self._in_v2("memory")) is not None:
            return _table(f"{directory}/memory.events").get("oom_kill")
        if (directory := self._v1.get("memory")) is not None:
            return _table(f"{directory}/memory.oom_control").get("oom_kill")
        return None

    def accounting(self) -> Accounting | None:
        """What has been used so far."""
        if self._v2 is None and not self._v1:
            return None
        cpu = _table(f"{self._v2}/cpu.stat") if self._v2 else {}
        cpu_seconds = _scaled(cpu.get("usage_usec"), 1e6)
        if cpu_seconds is None:
            cpu_seconds = _scaled(_number(f"{self._v1.get('cpuacct')}/cpuacct.usage"), 1e9)
        if "nr_throttled" in cpu:
            throttled, seconds = cpu["nr_throttled"], _scaled(cpu.get("throttled_usec"), 1e6)
        else:
            v1 = _table(f"{self._v1['cpu']}/cpu.stat") if "cpu" in self._v1 else {}
            throttled, seconds = v1.get("nr_throttled"), _scaled(v1.get("throttled_time"), 1e9)
        read, written = self._io()
        pids = self._in_v2("pids") or self._v1.get("pids")
        return Accounting(
            by=" and ".join(["cgroup v2"] * (self._v2 is not None) + ["cgroup v1"] * bool(self._v1)),
            cpu_seconds=cpu_seconds,
            memory_peak_bytes=self._memory_peak(),
            read_bytes=read,
            written_bytes=written,
            throttled_count=throttled,
            throttled_seconds=seconds,
            pids_peak=_number(f"{pids}/pids.peak") if pids else None,
            pids_refused=_table(f"{pids}/pids.events").get("max") if pids else None,
            oom_kills=self.oom_kills(),
        )

    def _memory_peak(self) -> int | None:
        if (directory := self._in_v2("memory")) is not None:
            return _number(f"{directory}/memory.peak")
        if (directory := self._v1.get("memory")) is not None:
            return _number(f"{directory}/memory.max_usage_in_bytes")
        return None

    def _io(self) -> tuple[int | None, int | None]:
        if (directory := self._in_v2("io")) is not None:
            words = _read(f"{directory}/io.stat").split()
            sums = [sum(_after(word, f"{kind}=") for word in words) for kind in ("rbytes", "wbytes")]
            return sums[0], sums[1]
        if (directory := self._v1.get("blkio")) is None:
            return None, None
        lines = [line.split() for line in _read(f"{directory}/blkio.throttle.io_service_bytes_recursive").splitlines()]
        counts = {
            kind: sum(int(line[2]) for line in lines if len(line) == 3 and line[1] == kind) for kind in ("Read", "Write")
        }
        return counts["Read"], counts["Write"]


def _disks_heed_weights() -> bool:
    if "enable=1" in _read("/sys/fs/cgroup/io.cost.qos"):
        return True
    try:
        return any("[bfq]" in _read(f"/sys/block/{disk}/queue/scheduler") for disk in os.listdir("/sys/block"))
    except OSError:
        return False


# -- files of the kernel's


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


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 16).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _numbers(path: str) -> list[int]:
    """Pids, however many; 0 is somebody whom our pid namespace does not show."""
    try:
        with open(path, "rb") as file:
            return [pid for pid in map(int, file.read().split()) if pid]
    except OSError:
        return []


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _table(path: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = [line.split() for line in _read(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _after(word: str, prefix: str) -> int:
    number = word.removeprefix(prefix)
    return int(number) if number != word and number.isdecimal() else 0


def _scaled(number: int | None, by: float) -> float | None:
    return None if number is None else round(number / by, 6)


def _set(path: str, value: str, by: str) -> tuple[str | None, str | None]:
    """Write a limit; returns by what it is enforced, or why it is not."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None, f"this kernel has no {os.path.basename(path)}"
    except OSError as error:
        return None, f"{os.path.basename(path)}: {error.strerror}"
    return by, None


def _write(path: str, value: str) -> bool:
    return _set(path, value, "")[0] is not None
