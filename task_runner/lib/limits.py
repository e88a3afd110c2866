"""What becomes of the limits that a task asks for: what a process does to itself, beside what its cgroup does to it.

Memory, swap, processors, processes and disk shares are a cgroup's to limit (lib/group.py). Where it cannot, two of
them have a substitute for each process by itself. That is told, and it is not what was asked for. The rest every
process can limit for itself and all that it starts: what can go wrong there is that this machine, or whoever started
the daemon, does not let it.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from task_runner.kernel.cgroupfiles import read
from task_runner.model.spec import Spec
from task_runner.model.status import LimitNote
from task_runner.model.walls import Means, TaskLimits

_MIB = 1024 * 1024
#: limits that are a cgroup's to enforce: name in JSON, field
OF_GROUP = (
    ("memoryMb", "memory_mb"),
    ("swapMb", "swap_mb"),
    ("cpus", "cpus"),
    ("pids", "pids"),
    ("ioWeight", "io_weight"),
)
#: those that a process sets for itself
_OWN = (("openFiles", "open_files"), ("coreMb", "core_mb"), ("fileMb", "file_mb"))
_GROUPED = frozenset(limit for limit, _field in OF_GROUP)
#: what each of them is to the kernel, and its unit
_RESOURCES = {
    "memoryMb": (resource.RLIMIT_DATA, _MIB),
    "openFiles": (resource.RLIMIT_NOFILE, 1),
    "coreMb": (resource.RLIMIT_CORE, _MIB),
    "fileMb": (resource.RLIMIT_FSIZE, _MIB),
}
#: by which a limit that is a cgroup's is something else than what was asked for
_SUBSTITUTES = frozenset({"rlimit", "ioprio"})
#: machines that hand limits on to somebody else
_ELSEWHERE = frozenset({"container"})
_NO_GROUP = "tasks get no control group here"
_EACH_PROCESS = "of each process by itself, without what it shares with others and the page cache"
_LEVEL = "as I/O priority {}, which only some disk schedulers (bfq) heed"
_CORE_PIPE = "this machine hands core files to a program (kernel.core_pattern), which has limits of its own"
_CAP_SYS_NICE, _CAP_SYS_RESOURCE = 23, 24
#: characters of a reason; the last status has room for so many
_LONGEST = 250
#: what "as many as you like" is here
_ENDLESS = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Freedom:
    """What a process may do to itself."""

    #: the highest limit it may set, by resource (resource.RLIMIT_…); what is not there has none
    highest: dict[int, int]
    #: the lowest nice value
    lowest_nice: int
    #: core files go to a program
    core_pipe: bool
    io_levels: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a task's processes do to themselves, and what is told of all limits that were asked for."""

    rlimits: tuple[tuple[int, int], ...] = ()
    nice: int | None = None
    io_level: int | None = None
    notes: tuple[LimitNote, ...] = ()


def look() -> Freedom:
    """What this process may do to itself, and so what it starts."""
    capabilities = _capabilities()
    hard = {kind: resource.getrlimit(kind)[1] for kind, _unit in _RESOURCES.values()}
    if capabilities >> _CAP_SYS_RESOURCE & 1:
        hard = {resource.RLIMIT_NOFILE: int(read("/proc/sys/fs/nr_open") or "1048576")}
    if capabilities >> _CAP_SYS_NICE & 1:
        lowest = -20
    else:
        lowest = min(os.getpriority(os.PRIO_PROCESS, 0), 20 - min(40, resource.getrlimit(resource.RLIMIT_NICE)[0]))
    return Freedom(
        highest={kind: value for kind, value in hard.items() if value != resource.RLIM_INFINITY},
        lowest_nice=lowest,
        core_pipe=read("/proc/sys/kernel/core_pattern").startswith("|"),
    )


def _capabilities() -> int:
    """The effective ones; none in a user namespace of its own, where they are not good for this."""
    if read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]:
        return 0
    lines = dict(line.partition(":\t")[::2] for line in read("/proc/self/status").splitlines())
    return int(lines.get("CapEff", "0"), 16)


def plan(
    limits: TaskLimits, by_group: Iterable[LimitNote], freedom: Freedom, why: str | None = None
) -> Plan:
    """``by_group``: what the task's cgroup makes of those that are its to enforce; of one that is missing, nothing,
    and ``why``."""
    grouped = {note.limit: note for note in by_group}
    rlimits: list[tuple[int, int]] = []
    notes: list[LimitNote] = []
    level: int | None = None
    for limit, asked in _asked(limits, OF_GROUP):
        note = grouped.get(limit) or LimitNote(limit=limit, asked=asked, by=None, note=why or _NO_GROUP)
        if note.by is None and limit == "memoryMb":
            value, note = _rlimit(limit, asked, freedom, _EACH_PROCESS)
            rlimits.append(value)
        elif note.by is None and limit == "ioWeight" and freedom.io_levels:
            level = level_of(asked)
            note = LimitNote(limit=limit, asked=asked, by="ioprio", note=_LEVEL.format(level))
        notes.append(replace(note, note=note.note and note.note[:_LONGEST]))
    for limit, asked in _asked(limits, _OWN):
        value, note = _rlimit(limit, asked, freedom)
        rlimits.append(value)
        notes.append(note)
    nice = None if limits.nice is None else max(limits.nice, freedom.lowest_nice)
    if limits.nice is not None:
        notes.append(_nice(limits.nice, freedom))
    return Plan(rlimits=tuple(rlimits), nice=nice, io_level=level, notes=tuple(notes))


def _asked(limits: TaskLimits, names: Iterable[tuple[str, str]]) -> Iterator[tuple[str, float]]:
    for limit, field in names:
        if (asked := getattr(limits, field)) is not None:
            yield limit, float(asked)


def _rlimit(
    limit: str, asked: float, freedom: Freedom, note: str | None = None
) -> tuple[tuple[int, int], LimitNote]:
    """Resource and value, brought down to what may be set; and what is told of it."""
    kind, unit = _RESOURCES[limit]
    highest = freedom.highest.get(kind, _ENDLESS)
    by: str | None = "rlimit"
    if limit == "coreMb" and freedom.core_pipe:
        by, note = None, _CORE_PIPE
    if asked * unit > highest:
        by, note = None, f"the daemon may set {highest // unit} at most (its own hard limit)"
    value = min(int(asked) * unit, highest)
    return (kind, value), LimitNote(limit=limit, asked=asked, by=by, note=note)


def _nice(asked: int, freedom: Freedom) -> LimitNote:
    if asked >= freedom.lowest_nice:
        return LimitNote(limit="nice", asked=float(asked), by="setpriority")
    why = f"the daemon may go down to {freedom.lowest_nice} only"
    return LimitNote(limit="nice", asked=float(asked), by=None, note=why)


def level_of(weight: float) -> int:
    """The I/O priority for a weight: 4, which everybody has, for 100, and one less for twice as much."""
    return max(0, min(7, 4 - round(math.log2(weight / 100))))


def means(by_group: Iterable[Means]) -> list[Means]:
    """How this machine enforces every limit there is. ``by_group``: how control groups do, where they can."""
    freedom, grouped = look(), {each.limit: each for each in by_group}
    found = []
    for limit, _field in OF_GROUP:
        each = grouped.get(limit) or Means(limit=limit, by=None, note=_NO_GROUP)
        if each.by is None and limit == "memoryMb":
            each = Means(limit=limit, by="rlimit", note=f"{_EACH_PROCESS}: {each.note}")
        elif each.by is None and limit == "ioWeight":
            each = Means(limit=limit, by="ioprio", note=f"{_LEVEL.format('0 to 7')}: {each.note}")
        found.append(each)
    for limit, _field in _OWN:
        pipe = limit == "coreMb" and freedom.core_pipe
        found.append(Means(limit=limit, by=None if pipe else "rlimit", note=_CORE_PIPE if pipe else None))
    note = None if freedom.lowest_nice == -20 else f"not below {freedom.lowest_nice}"
    return [*found, Means(limit="nice", by="setpriority", note=note)]


def foresee(limits: TaskLimits, means: Iterable[Means]) -> list[LimitNote]:
    """What will become of a task's limits, as far as it can be told before it starts."""
    known = {each.limit: each for each in means}
    grouped = [
        LimitNote(limit=limit, asked=asked, by=None if each.by in _SUBSTITUTES else each.by, note=each.note)
        for limit, asked in _asked(limits, OF_GROUP)
        if (each := known.get(limit)) is not None
    ]
    return list(plan(limits, grouped, look()).notes)


def apply_to(spec: Spec) -> bool:
    """Whether its limits are for processes of ours; else each of its machines hands them on, and says what becomes of
    them."""
    return bool(spec.files) or any(each.machine not in _ELSEWHERE for each in spec.all_actions)


def as_asked(note: LimitNote) -> bool:
    """Whether a limit is enforced, and as what it was asked for."""
    substituted = note.limit in _GROUPED and note.by in _SUBSTITUTES
    return note.by is not None and not substituted


def refusal(limits: TaskLimits, notes: Iterable[LimitNote]) -> str | None:
    """Why a task must not run: it requires a limit that is not enforced."""
    if not limits.required:
        return None
    missing = [f"{each.limit} ({each.note})" for each in notes if not as_asked(each)]
    return f"limits that it requires cannot be enforced: {'; '.join(missing)}" if missing else None
