"""Control groups: where this process may make some, and what they can do there.

Rule 1: nothing is assumed. Where a hierarchy is says /proc/self/mountinfo, where we are in it /proc/self/cgroup, and
        what works there a trial: a group is made, its files written, a process moved in and out.
Rule 2: what is somebody else's is not touched. On v2 a group that holds processes cannot have its controllers divided
        among groups below it; then the daemon's own processes move into a group of their own, and only where nobody
        else is there, or the whole group has been given to us (`Delegate=yes`).
Rule 3: systemd puts a restarted service's main process into the unit's own group, which the kernel refuses while
        controllers are divided below it. So below a unit that is done only where the unit has a subgroup for the main
        process (`DelegateSubgroup=`, systemd 254), or gives the controllers back when it stops (`release`).

    <own group>/task-runner-daemon/          daemon and runners, where they had to move
    <own group>/task-runner-<state>/         one for each daemon
    <own group>/task-runner-<state>/<task id>-<attempt>/
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from task_runner.kernel.cgroupfiles import pids, put, read, write
from task_runner.kernel.cgroupmounts import locate, own_v2, parse_mounts, parse_own
from task_runner.lib import process

#: the group that the daemon's own processes move into
HOME = "task-runner-daemon"
#: set in a unit that gives controllers back when it stops (systemd/task-runner.service)
RELEASES = "TASK_RUNNER_UNIT_RELEASES_CGROUPS"
#: what limits and accounting need
_V2_CONTROLLERS = ("memory", "cpu", "pids", "io")
_V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "blkio")
#: what v1 calls those of v2
PREDECESSORS = {"io": "blkio"}
_CAVEAT = "not while the service is stopped, and what is in use by then is not counted afterwards"
_UNIT = re.compile(r"\.(service|scope|slice|socket|mount|swap)$")


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
    #: why there is nothing else, in words
    why: str | None = None
    #: when the limits that v2 keeps do not hold, in words; none: they always do
    caveat: str | None = None


def name_of(state_directory: str) -> str:
    """The name of the group of the daemon of a state directory."""
    import hashlib  # here, as runners have no use for it: it loads a large library

    path = os.path.realpath(state_directory)
    return f"task-runner-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def find(name: str) -> Places:
    """Make a group called ``name`` below our own in every hierarchy of use, and see what it can do. May move the
    daemon's own processes (rule 2). Raises nothing: what does not work is not there, and ``why`` says why."""
    mounts, own = parse_mounts(read("/proc/self/mountinfo")), parse_own(read("/proc/self/cgroup"))
    reasons: list[str] = []
    v2, home, controllers = _find_v2(name, locate(mounts, own, ""), reasons)
    v1 = {}
    for controller in _V1_CONTROLLERS:
        directory = locate(mounts, own, controller)
        if directory is None or any(PREDECESSORS.get(each, each) == controller for each in controllers):
            continue
        if controller == "cpuacct" and v2 is not None:
            continue  # v2 counts that without being asked
        place, fault = _trial(os.path.join(directory, name), directory)
        if place is None:
            reasons.append(f"cgroup v1 {controller}: {fault}")
        else:
            v1[controller] = place
    return Places(
        v2=v2,
        v2_controllers=controllers,
        v2_home=home,
        v1=v1,
        why="; ".join(reasons) or None,
        caveat=_CAVEAT if controllers and os.environ.get(RELEASES) else None,
    )


def _find_v2(
    name: str, own: str | None, reasons: list[str]
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The group, the file to leave one below it by, and the controllers that there are in those."""
    if own is None:
        reasons.append("there is no cgroup v2 to be seen")
        return None, None, ()
    base, home, reason = _base(own)
    place, fault = _trial(os.path.join(base, name), home)
    if place is None:
        reasons.append(f"cgroup v2: {fault}")
        return None, None, ()
    if reason is not None:
        reasons.append(reason)
    return place, os.path.join(home, "cgroup.procs"), _divide(base, place) if reason is None else ()


def leave(places: Places) -> None:
    """Remove the daemon's groups; those that tasks are still in stay."""
    for directory in filter(None, (places.v2, *places.v1.values())):
        try:
            os.rmdir(directory)
        except OSError:
            pass


def release_unit() -> None:
    """Do so for the systemd unit whose ExecStopPost= this process is: systemd has put it into a group of its own."""
    own = own_v2()
    if own is not None and os.path.basename(own) == ".control":
        release(os.path.dirname(own))


def release(directory: str) -> None:
    """Take controllers back from everything below a group of v2, so that processes can be put into it."""
    for below, _directories, _files in os.walk(directory, topdown=False):
        for controller in read(f"{below}/cgroup.subtree_control").split():
            write(f"{below}/cgroup.subtree_control", f"-{controller}")


# -- what works


def _trial(place: str, home: str) -> tuple[str | None, str]:
    """Make a group and move this process into one below it and back; returns the group, or why not."""
    trial = f"{place}/trial-{os.getpid()}"
    try:
        for directory in (place, trial):
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                pass
        try:
            put(f"{trial}/cgroup.procs", "0")
            put(f"{home}/cgroup.procs", "0")
        finally:
            os.rmdir(trial)
    except OSError as error:
        try:
            os.rmdir(place)
        except OSError:
            pass
        return None, f"{error.filename or place}: {error.strerror}"
    return place, ""


def _divide(base: str, place: str) -> tuple[str, ...]:
    """Have controllers in the groups below ``place``; returns those that are."""
    for controller in _V2_CONTROLLERS:
        for directory in (base, place):
            write(f"{directory}/cgroup.subtree_control", f"+{controller}")
    there = read(f"{place}/cgroup.subtree_control").split()
    return tuple(each for each in _V2_CONTROLLERS if each in there)


def _base(own: str) -> tuple[str, str, str | None]:
    """Below which group of v2 tasks get theirs, where daemon and runners live, and why controllers cannot be divided
    there, if they cannot."""
    above = os.path.dirname(own)
    if os.path.basename(own) == HOME or (_is_delegated(above) and not _UNIT.search(own)):
        return above, own, None  # an earlier daemon has moved us, or DelegateSubgroup= has
    controllers = [each for each in _V2_CONTROLLERS if each in read(f"{own}/cgroup.controllers").split()]
    if not controllers:
        return own, own, "cgroup v2 has no controllers here"
    systemd, delegated = os.path.isdir("/run/systemd/system"), _is_delegated(own)
    if not os.path.exists(f"{own}/cgroup.type"):  # the root of all
        return own, own, "systemd manages the cgroups of this machine" if systemd else None
    if systemd and not delegated:
        return own, own, f"systemd has not delegated the cgroup {own} (Delegate=yes in the unit)"
    if delegated and _UNIT.search(own) and not os.environ.get(RELEASES):
        why = "the unit could not be restarted: it has neither DelegateSubgroup= nor an ExecStopPost= that releases"
        return own, own, f"{why} cgroups"
    return _move_out(own, strangers_too=delegated)


def _is_delegated(directory: str) -> bool:
    """Whether systemd has left this group to whoever is in it."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            pass
    return False


def _move_out(own: str, *, strangers_too: bool) -> tuple[str, str, str | None]:
    """Move what is in our group into one below it."""
    home = f"{own}/{HOME}"
    strangers = [] if strangers_too else [pid for pid in _members(own) if pid not in _ours()]
    if strangers:
        seen = process.look(strangers[0])
        who = f"{seen.command if seen else '?'}, pid {strangers[0]}"
        return own, own, f"others are in the cgroup {own} as well ({who})"
    try:
        os.makedirs(home, 0o755, exist_ok=True)
        for _ in range(10):
            if not (members := _members(own)):
                return own, home, None
            for pid in members:
                write(f"{home}/cgroup.procs", str(pid))
    except OSError as error:
        return own, own, f"{home}: {error.strerror}"
    return own, own, f"some processes cannot be moved out of the cgroup {own}"


def _ours() -> set[int]:
    """This process, what it has started, and the server whose worker it is."""
    me = os.getpid()
    ours = {me, *(each.pid for each in process.descendants(me))}
    parent = os.getppid()
    line = read(f"/proc/{parent}/cmdline")
    if "gunicorn" in line or "task_runner" in line or "task-runner" in line:
        ours |= {parent, *(each.pid for each in process.descendants(parent))}
    return ours


def _members(directory: str) -> list[int]:
    return pids(f"{directory}/cgroup.procs")
