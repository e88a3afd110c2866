"""The control groups of somebody else's process, and what the kernel has counted in them. What it does not: None."""

from __future__ import annotations

import os
from dataclasses import dataclass

from task_runner.kernel import cgroupcounts, cgroupfiles
from task_runner.kernel.cgroupfiles import Place, read
from task_runner.kernel.cgroupmounts import locate, parse_mounts, parse_own
from task_runner.model.status import Accounting


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Directories of the groups that are a process's own: neither the root of a hierarchy nor where this one is."""

    v2: str | None
    #: by controller
    v1: dict[str, str]

    def place(self, controller: str) -> Place | None:
        """Where a controller is, by its name in v2."""
        of_v1 = self.v1.get("blkio" if controller == "io" else controller)
        if of_v1 is not None:
            return Place(1, of_v1)
        return None if self.v2 is None else Place(2, self.v2)

    def file(self, controller: str, v1: str, v2: str) -> str | None:
        """The path of a file that has two names."""
        if controller in self.v1:
            return f"{self.v1[controller]}/{v1}"
        return f"{self.v2}/{v2}" if self.v2 is not None and os.path.exists(f"{self.v2}/{v2}") else None

    def version(self, controller: str) -> int:
        """Of cgroups: 1 or 2."""
        return 1 if controller in self.v1 else 2


def groups(pid: int) -> Groups | None:
    """Those of a process; None where it is gone, or has none of its own."""
    theirs, ours = parse_own(read(f"/proc/{pid}/cgroup")), parse_own(read("/proc/self/cgroup"))
    mounts = parse_mounts(read("/proc/self/mountinfo"))
    own = {name: path for name, path in theirs.items() if path not in ("/", ours.get(name))}
    found = {name: directory for name in own if (directory := locate(mounts, own, name)) is not None}
    v2 = found.pop("", None)
    return Groups(v2=v2, v1=found) if v2 is not None or found else None


def of_container(pid: int, container: str) -> Groups | None:
    """Those that have the container's id in their names, found by one of its processes; None where that is none of it,
    or has been put elsewhere. What watches over a container (conmon) is named after it as well, and not in it."""
    theirs = parse_own(read(f"/proc/{pid}/cgroup"))
    if any("conmon" in path for path in theirs.values()):
        return None
    own = {name: cut for name, path in theirs.items() if (cut := _up_to(path, container)) is not None}
    if not own:
        return None
    mounts = parse_mounts(read("/proc/self/mountinfo"))
    found = {name: directory for name in own if (directory := locate(mounts, own, name)) is not None}
    v2 = found.pop("", None)
    return Groups(v2=v2, v1=found) if v2 is not None or found else None


def _up_to(path: str, container: str) -> str | None:
    """The path to where the id stands: what a container has made below belongs to it."""
    names = path.split("/")
    place = next((place for place, name in enumerate(names) if container in name), None)
    return None if place is None else "/".join(names[: place + 1])


def cpu_seconds(groups: Groups) -> float | None:
    """Used so far; None where the groups are gone, or nothing counts it."""
    cpuacct = groups.v1.get("cpuacct")
    return cgroupcounts.cpu_seconds(groups.v2 if cpuacct is None else None, cpuacct)


def members(groups: Groups) -> list[int]:
    """Who is in them. The hierarchies of v1 all have the same processes, where an engine made a group in them."""
    directory = next((groups.v1[each] for each in ("memory", "pids", "cpuacct") if each in groups.v1), groups.v2)
    return [] if directory is None else cgroupfiles.members(directory)


def oom_kills(groups: Groups) -> int | None:
    """Processes that the kernel has killed because there was no memory."""
    return cgroupcounts.oom_kills(groups.place("memory"))


def accounting(groups: Groups) -> Accounting | None:
    """All of it; None where the groups are gone."""
    cpuacct = groups.v1.get("cpuacct")
    counted = cgroupcounts.account(groups.v2 if cpuacct is None else None, cpuacct, groups.place)
    return None if counted.cpu_seconds is None and counted.memory_peak_bytes is None else counted
