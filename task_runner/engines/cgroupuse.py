"""The control groups of somebody else's process, and what the kernel has counted in them. What it does not: None."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from task_runner.model.status import Accounting


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Directories of the groups that are a process's own: neither the root of a hierarchy nor where this one is."""

    v2: str | None
    #: by controller
    v1: dict[str, str]

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
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            theirs = _paths(file.read())
        with open("/proc/self/cgroup") as file:
            ours = _paths(file.read())
        with open("/proc/self/mountinfo") as file:
            mounts = file.read()
    except OSError:
        return None
    found = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        names = [""] if kind[0] == "cgroup2" else kind[2].split(",") if kind[0] == "cgroup" else []
        for name in names:
            path = theirs.get(name, "/")
            if path not in ("/", ours.get(name)) and name not in found:
                directory = _beneath(path, root=_plain(fields[3]), point=_plain(fields[4]))
                if directory is not None:
                    found[name] = directory
    v2 = found.pop("", None)
    return Groups(v2=v2, v1=found) if v2 is not None or found else None


def _paths(cgroup: str) -> dict[str, str]:
    """Paths by controller, from /proc/PID/cgroup; "" is v2."""
    rows = [line.split(":", 2) for line in cgroup.splitlines()]
    return {name: path for _number, names, path in rows for name in names.split(",")}


def _beneath(path: str, *, root: str, point: str) -> str | None:
    below = os.path.relpath(path, root)
    directory = os.path.normpath(os.path.join(point, below))
    return directory if below.split("/")[0] != ".." and os.path.isdir(directory) else None


def _plain(path: str) -> str:
    """mountinfo writes blanks, and what else would confuse it, in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def oom_kills(groups: Groups) -> int | None:
    """Processes that the kernel has killed because there was no memory."""
    return _table(groups.file("memory", "memory.oom_control", "memory.events")).get("oom_kill")


def accounting(groups: Groups) -> Accounting | None:
    """All of it; None where the groups are gone."""
    held = _table(groups.file("cpu", "cpu.stat", "cpu.stat"))
    held_seconds = _scaled(held.get("throttled_time"), 1e9)
    if groups.version("cpu") == 2:
        held_seconds = _scaled(held.get("throttled_usec"), 1e6)
    read_bytes, written_bytes = _disks(groups)
    refused = _table(groups.file("pids", "pids.events", "pids.events"))
    counted = Accounting(
        by="cgroup v1" if "memory" in groups.v1 else "cgroup v2",
        cpu_seconds=_cpu_seconds(groups),
        memory_peak_bytes=_only(groups.file("memory", "memory.max_usage_in_bytes", "memory.peak")),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        throttled_count=held.get("nr_throttled"),
        throttled_seconds=held_seconds,
        pids_peak=_only(groups.file("pids", "pids.peak", "pids.peak")),
        pids_refused=refused.get("max"),
        oom_kills=oom_kills(groups),
    )
    return None if counted.cpu_seconds is None and counted.memory_peak_bytes is None else counted


def _cpu_seconds(groups: Groups) -> float | None:
    if "cpuacct" in groups.v1:
        return _scaled(_only(f"{groups.v1['cpuacct']}/cpuacct.usage"), 1e9)
    return _scaled(_table(groups.file("", "", "cpu.stat")).get("usage_usec"), 1e6)


def _scaled(count: int | None, by: float) -> float | None:
    return None if count is None else round(count / by, 6)


def _disks(groups: Groups) -> tuple[int | None, int | None]:
    """Bytes read from all disks, and written."""
    path = groups.file("blkio", "blkio.throttle.io_service_bytes_recursive", "io.stat")
    text = None if path is None else _read(path)
    if text is None:
        return None, None
    pairs = re.findall(r"\b(rbytes|wbytes|Read|Write)[= ](\d+)", text)
    read, written = (
        sum(int(count) for name, count in pairs if name in names) for names in (("rbytes", "Read"), ("wbytes", "Write"))
    )
    return read, written


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None  # not there, or the group has just been removed


def _only(path: str | None) -> int | None:
    """The one number in a file."""
    text = "" if path is None else (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _table(path: str | None) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = [] if path is None else [line.split() for line in (_read(path) or "").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
