"""What a process puts around itself between fork and exec: its cgroups, limits, and the user it runs as."""

from __future__ import annotations

from dataclasses import dataclass

from task_runner.model.grant import GrantedAccount


@dataclass(frozen=True, kw_only=True, slots=True)
class Walls:
    """Entered by the action's first process; all it starts is inside."""

    #: files named cgroup.procs, to write oneself into
    join: tuple[str, ...] = ()
    #: resource (resource.RLIMIT_…) and its value, soft and hard
    rlimits: tuple[tuple[int, int], ...] = ()
    nice: int | None = None
    #: level of the best-effort class, 0 (first) to 7 (last)
    io_level: int | None = None
    #: none: the daemon's own
    account: GrantedAccount | None = None
    umask: int = 0o022
