"""What attempts use now: of each, who lives below its runner, and what its control groups have counted.

Rule 1: nothing is kept running for it. A look costs one walk through /proc, for however many attempts.
Rule 2: a runner is known by boot, pid and start, never by its pid alone. Who is not below it, and in none of its
        groups, is not counted.
Rule 3: what is not known is None. Of a container that cannot be found by its groups nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from task_runner.engines import cgroupuse
from task_runner.engines.cgroupuse import Groups as Counted
from task_runner.environment.base import UNKNOWN, Use
from task_runner.environment.groups import Groups
from task_runner.kernel.cgroupfiles import read
from task_runner.lib import group, proctable
from task_runner.lib.clock import boot_id
from task_runner.lib.process import Process, proc_hides, unseen
from task_runner.lib.proctable import PAGE, TICKS, Sums, Table, add_up
from task_runner.model.machines import CONTAINER
from task_runner.model.status import ActionStatus, ContainerNote, Identity, Status

#: a container's id, or the name of an attempt's group, in a path
_CONTAINER, _ATTEMPT = re.compile(r"[0-9a-f]{64}"), re.compile(r"/([0-9a-f]{16}-[0-9]+)(?=/|$)", re.MULTILINE)


class Meter:
    """Of one daemon. One look at a time."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        #: groups of containers that run, by the container's id
        self._containers: dict[str, Counted] = {}
        #: the most processor time that was seen of an attempt
        self._floors: dict[tuple[Identity, str | None], float] = {}

    def measure(self, statuses: Iterable[Status]) -> dict[str, Use]:
        """What each uses, by task; those whose runner cannot be verified are left out."""
        table, here = proctable.read(), boot_id()
        runners: dict[str, tuple[Status, Process]] = {}
        for each in statuses:
            who = each.runner
            row = table.find(who.pid, who.start_time) if who.boot_id == here else None
            if row is not None:
                runners[each.task_id] = each, row
        below = {task_id: table.below(row) for task_id, (_status, row) in runners.items()}
        self._look_around([status for status, _row in runners.values()], table, below)
        found = {
            task_id: self._use(status, row, below[task_id], table) for task_id, (status, row) in runners.items()
        }
        self._floors = {
            (status.runner, _container_id(status)): cpu
            for status, _row in runners.values()
            if (cpu := found[status.task_id].cpu_seconds) is not None
        }
        return found

    def _use(self, status: Status, runner: Process, below: Sequence[Process], table: Table) -> Use:
        places = self._groups.places
        counted = None if places is None else group.cpu_seconds(places, status.task_id, status.attempt)
        sums = add_up(below)
        cpu = counted if counted is not None else (runner.child_ticks + sums.ticks) / TICKS
        earlier = elsewhere_before(status)
        if not is_elsewhere(status):
            if proc_hides() and any(unseen(each.pid) for each in (runner, *below)):
                known = counted is not None and earlier is not None
                return Use(cpu_seconds=round(cpu + (earlier or 0.0), 2) if known else None)
            return self._told(status, None if earlier is None else cpu + earlier, sums)
        container = self._containers.get(_container_id(status) or "")
        seconds = cgroupuse.cpu_seconds(container) if container is not None else None
        if container is None or seconds is None:
            return UNKNOWN
        inside = [row for pid in cgroupuse.members(container) if (row := table.rows.get(pid)) is not None]
        return self._told(status, None if earlier is None else cpu + seconds + earlier, add_up(inside))

    def _told(self, status: Status, cpu: float | None, sums: Sums) -> Use:
        """A process that ended in the middle of the walk is missing from its sum: what was used stays used."""
        if cpu is not None:
            cpu = round(max(cpu, self._floors.get((status.runner, _container_id(status)), 0.0)), 2)
        return Use(cpu_seconds=cpu, rss_bytes=sums.pages * PAGE, processes=sums.processes)

    # -- who is below no runner

    def _look_around(self, statuses: Sequence[Status], table: Table, below: Mapping[str, list[Process]]) -> None:
        """Find the groups of containers; and, by a task's group, who is below another process than its runner (what a
        sidecar has started and left, in another pid namespace)."""
        wanted = {each for status in statuses if (each := _container_id(status)) is not None}
        self._containers = {each: known for each, known in self._containers.items() if each in wanted and _lives(known)}
        missing = wanted - self._containers.keys()
        grouped = statuses if self._groups.places is not None else ()
        attempts = {f"{each.task_id}-{each.attempt}": each.task_id for each in grouped}
        if not missing and not attempts:
            return
        known = {row.pid for rows in below.values() for row in rows} | {each.runner.pid for each in statuses}
        for row in table.rows.values():
            if row.pages and row.pid not in known:  # neither a thread of the kernel
                self._look_into(row, missing, attempts, below)

    def _look_into(
        self, row: Process, missing: Collection[str], attempts: Mapping[str, str], below: Mapping[str, list[Process]]
    ) -> None:
        groups = read(f"/proc/{row.pid}/cgroup")
        for task_id in {attempts[each] for each in _ATTEMPT.findall(groups) if each in attempts}:
            below[task_id].append(row)
        for container in set(_CONTAINER.findall(groups)).intersection(missing):
            if container not in self._containers and (found := cgroupuse.of_container(row.pid, container)) is not None:
                self._containers[container] = found


def _lives(groups: Counted) -> bool:
    return cgroupuse.cpu_seconds(groups) is not None


def _action(status: Status) -> ActionStatus | None:
    index = status.current_action_idx
    return status.actions[index] if 0 <= index < len(status.actions) else None


def is_elsewhere(status: Status) -> bool:
    """Whether what the action at hand runs is none of the runner's descendants."""
    action = _action(status)
    return action is not None and action.machine == CONTAINER and action.state == "running"


def _container_id(status: Status) -> str | None:
    """Of the container that runs."""
    note: ContainerNote | None = status.container if is_elsewhere(status) else None
    return note.id if note is not None and note.stage == "running" else None


def elsewhere_before(status: Status) -> float | None:
    """Seconds that containers of earlier actions have used; None where that of one is not known."""
    total = 0.0
    for action in status.actions[: max(0, status.current_action_idx)]:
        if action.container is not None and action.container.id is not None:
            accounting = action.container.accounting
            if accounting is None or accounting.cpu_seconds is None:
                return None
            total += accounting.cpu_seconds
    return total
