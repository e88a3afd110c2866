"""How many processes a container may have, where its engine cannot be told: the file of its cgroup that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass

from task_runner.kernel.cgroupfiles import read


@dataclass(frozen=True, kw_only=True, slots=True)
class Hierarchy:
    """The cgroups that limit processes on this machine."""

    #: "cgroup v1" or "cgroup v2"
    name: str
    #: where it is mounted, and which directory of it that is
    mount: str
    root: str


def hierarchy() -> Hierarchy | None:
    """None: there is none, or not for this process to write."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    for fields in lines:
        root, mount = fields[3], fields[4]
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        v1 = kind == "cgroup" and "pids" in options.split(",")
        v2 = kind == "cgroup2" and "pids" in read(f"{mount}/cgroup.controllers").split()
        if (v1 or v2) and os.access(mount, os.W_OK):
            return Hierarchy(name="cgroup v1" if v1 else "cgroup v2", mount=mount, root=root)
    return None


def limit(pid: int, container: str, pids: int) -> None:
    """Limit the container whose main process that is. Raises ProcessLookupError where that has ended, and OSError."""
    found = hierarchy()
    if found is None:
        raise OSError("no cgroup that limits processes can be written here")
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        paths = {tuple(line.rstrip("\n").split(":", 2)[1:]) for line in file}
    own = "pids" if found.name == "cgroup v1" else ""
    path = next((path for names, path in paths if own in names.split(",")), "")
    if container not in path:
        raise ProcessLookupError  # another process has its number by now
    path = os.path.relpath(path, found.root)
    with open(f"{found.mount}/{path}/pids.max", "w", encoding="ascii") as file:
        file.write(str(pids))
