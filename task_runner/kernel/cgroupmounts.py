"""Where the hierarchies of control groups are mounted, and where in them a process is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from task_runner.kernel.cgroupfiles import read


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo that shows a hierarchy."""

    point: str
    #: which part of the hierarchy it shows
    root: str
    #: empty: v2
    controllers: tuple[str, ...]


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The hierarchies that are mounted."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = tuple(kind[2].split(",")) if kind[0] == "cgroup" else ()
        found.append(Mount(_plain(fields[4]), _plain(fields[3]), controllers))
    return found


def _plain(path: str) -> str:
    """A path as it is: mountinfo writes blanks, and what else would confuse it, in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def parse_own(cgroup: str) -> dict[str, str]:
    """A process's group by controller, from its /proc/PID/cgroup; "" is v2."""
    found = {}
    for line in cgroup.splitlines():
        _number, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def locate(mounts: Iterable[Mount], own: Mapping[str, str], controller: str) -> str | None:
    """The directory of a process's group. A mount may show a part of the hierarchy alone (a container's, say), and what
    it shows may be above our cgroup namespace: then the way from there to us has no name."""
    path = own.get(controller)
    if path is None or ".." in path.split("/"):
        return None
    for mount in mounts:
        if controller not in (mount.controllers or ("",)) or ".." in mount.root.split("/"):
            continue
        below = os.path.relpath(path, mount.root)
        if below.split("/")[0] == "..":
            continue
        directory = os.path.normpath(os.path.join(mount.point, below))
        if os.path.exists(f"{directory}/cgroup.procs"):
            return directory
    return None


def own_v2() -> str | None:
    """The directory of the group of v2 that this process is in; None where that cannot be seen."""
    return locate(parse_mounts(read("/proc/self/mountinfo")), parse_own(read("/proc/self/cgroup")), "")
