"""Control groups: where this process may make some, and what they can do there."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the tasks of one daemon get their cgroups. Found by the daemon, handed to every runner."""

    #: directory of cgroup v2, below which each task gets one; none: not available
    v2: str | None = None
    #: controllers that can be used there
    v2_controllers: tuple[str, ...] = ()
    #: the file to write oneself into to leave a task's cgroup again
    v2_home: str | None = None
    #: directories of cgroup v1 by controller, of those that v2 does not have
    v1: dict[str, str] = field(default_factory=dict)
    #: the same as `v2_home`, by controller
    v1_home: dict[str, str] = field(default_factory=dict)
