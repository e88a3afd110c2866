"""Limits that the kernel keeps for a whole group of processes."""

from __future__ import annotations

import os
from collections.abc import Callable

from task_runner.kernel.cgroupcounts import Where
from task_runner.kernel.cgroupfiles import Place, put, read, write
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

#: those that are a group's to keep, as they are called in JSON
LIMITS = ("memoryMb", "swapMb", "cpus", "pids", "ioWeight")
_MIB = 1024 * 1024
#: microseconds over which the use of processors is counted, and the least of them that the kernel lets a group have
_PERIOD, _LEAST = 100_000, 1000
#: by what a limit is enforced, and what is to be said of it
_Said = tuple[str | None, str | None]


def needed(limits: TaskLimits) -> list[str]:
    """The controllers of v1 that the limits need, and with any of them those that count what is used."""
    memory = limits.memory_mb is not None or limits.swap_mb is not None
    cpu, pids, disks = limits.cpus is not None, limits.pids is not None, limits.io_weight is not None
    wanted = {"memory": memory or cpu or pids or disks, "cpu": cpu, "pids": pids, "blkio": disks}
    wanted["cpuacct"] = wanted["memory"]
    return [controller for controller, is_wanted in wanted.items() if is_wanted]


def set_limits(limits: TaskLimits, where: Where, *, why: str | None, caveat: str | None) -> list[LimitNote]:
    """Set what was asked for; returns what became of it.

    ``why`` there are no other controllers than there are; ``caveat``: when those of v2 do not limit anything."""
    memory, processors, pids, disks = where("memory"), where("cpu"), where("pids"), where("io")
    notes: list[LimitNote] = []

    def note(limit: str, asked: float | None, place: Place | None, limiting: Callable[[Place], _Said]) -> None:
        if asked is None:
            return
        by, words = limiting(place) if place is not None else (None, why or "this host has no controller for it")
        if place is not None and place.version == 2 and by is not None:
            words = caveat
        notes.append(LimitNote(limit=limit, asked=float(asked), by=by, note=words))

    note("memoryMb", limits.memory_mb, memory, lambda place: _limit_memory(place, limits.memory_mb or 0))
    note("swapMb", limits.swap_mb, memory, lambda place: _limit_swap(place, limits.swap_mb or 0, limits.memory_mb))
    note("cpus", limits.cpus, processors, lambda place: _limit_cpus(place, limits.cpus or 0))
    note("pids", limits.pids, pids, lambda place: _set(place, "pids.max", str(limits.pids)))
    note("ioWeight", limits.io_weight, disks, lambda place: _weigh(place, limits.io_weight or 0))
    return notes


def _limit_memory(place: Place, megabytes: int) -> _Said:
    if place.version == 1:
        return _set(place, "memory.limit_in_bytes", str(megabytes * _MIB))
    write(f"{place.directory}/memory.oom.group", "1")  # half a task is of no use
    return _set(place, "memory.max", str(megabytes * _MIB))


def _limit_swap(place: Place, megabytes: int, memory: int | None) -> _Said:
    if place.version == 2:
        return _set(place, "memory.swap.max", str(megabytes * _MIB))
    if memory is None:
        return None, "cgroup v1 limits swap only where memoryMb is given as well"
    return _set(place, "memory.memsw.limit_in_bytes", str((memory + megabytes) * _MIB))


def _limit_cpus(place: Place, cpus: float) -> _Said:
    quota = max(_LEAST, round(cpus * _PERIOD))
    if place.version == 2:
        return _set(place, "cpu.max", f"{quota} {_PERIOD}")
    write(f"{place.directory}/cpu.cfs_period_us", str(_PERIOD))
    return _set(place, "cpu.cfs_quota_us", str(quota))


def _weigh(place: Place, weight: int) -> _Said:
    """A weight is heeded by whoever shares a disk out: its scheduler (bfq), or the kernel's io.cost."""
    scales = (("io.bfq.weight", 1000), ("io.weight", 10_000))
    if place.version == 1:
        scales = (("blkio.bfq.weight", 1000), ("blkio.weight", 1000))
    kept = [write(f"{place.directory}/{name}", str(min(weight, most))) for name, most in scales]
    if not any(kept) or not _disks_heed_weights():
        return None, "no disk of this host heeds weights (its scheduler would have to be bfq, or io.cost be on)"
    return place.words, None


def _disks_heed_weights() -> bool:
    if "enable=1" in read("/sys/fs/cgroup/io.cost.qos"):
        return True
    try:
        return any("[bfq]" in read(f"/sys/block/{disk}/queue/scheduler") for disk in os.listdir("/sys/block"))
    except OSError:
        return False


def _set(place: Place, name: str, value: str) -> _Said:
    try:
        put(f"{place.directory}/{name}", value)
    except FileNotFoundError:
        return None, f"this kernel has no {name}"
    except OSError as error:
        return None, f"{name}: {error.strerror}"
    return place.words, None
