"""Which tasks may start, and what the others wait for. Pure.

Rule 1: the order. A task's key is the time of its acceptance, less its priority in points of so many seconds; among
        equals the one accepted first. Keys never change, and whoever comes later has a later one in the end,
        whatever its priority: so before any task there are only so many.
Rule 2: what a task needs. A place to run, a place in each of its pools, and its resources; it has all or starts not.
Rule 3: what is kept. In a pass over the tasks in their order, one that lacks something starts not. If it is the first
        that lacks it (each of the things it lacks), all of its needs are kept for it: they are taken off what the
        later ones of the pass may have. So a large task is not overtaken by those that take what it needs, and
        whatever needs nothing of it passes.
Rule 4: what is not kept. A task that lacks what is kept for an earlier one keeps nothing itself: it cannot start
        before that one, and what it holds back until then would lie idle. To keep for every task that waits was the
        other way: then a hundred tasks in line for one licence keep a hundred places to run, and all others out.

Nobody waits for ever: the first of all that wait lacks nothing that is kept for another, so its needs are kept, and
it starts as soon as enough of what runs has ended. By Rule 1 everyone becomes the first, at the latest.

Rule 5: lines. After a pass has met a task that must wait, every later one with the same *kinds* of needs must wait,
        too: what it lacked is overdrawn by then (Rule 3), or had been before (Rule 4). So tasks stand in lines by
        the kinds of their needs, and a pass looks at those that start and one more of each line, however many wait.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from task_runner.model.terms import Resources

#: kinds of needs; a pool is POOL + its name
SLOT, CPUS, MEMORY, GPUS, POOL = "slot", "cpus", "memory", "gpus", "pool "
#: processors are counted in millionths, for sums of fractions must come out even
CPU = 1_000_000

#: kind and amount, kinds in a fixed order, amounts above 0
Needs = tuple[tuple[str, int], ...]
#: a place in the order (Rule 1)
Key = tuple[float, int]

DRAINING = "the daemon is draining: it finishes what runs and starts nothing new"
THROTTLED = "other tasks are being started"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is allowed at once, beside the capacity."""

    #: tasks that run; None: no limit
    max_running: int | None = None
    #: launches on their way: more at once only take the processors from each other
    max_starting: int = 16
    #: nothing new is to start
    draining: bool = False
    #: why nothing new is to start for now, in words
    closed: str | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """A task that could start, if there were room."""

    key: Key
    task_id: str
    needs: Needs

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind, _amount in self.needs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What there is, and what of it is free. Less than nothing may be free: limits fall while tasks run."""

    total: Mapping[str, float]
    free: Mapping[str, float]
    #: so many launches more
    launches: int
    draining: bool = False
    closed: str | None = None


def needs_of(resources: Resources | None, pools: Iterable[str] = ()) -> Needs:
    """What a task with these in its spec needs."""
    needs = [(SLOT, 1)]
    if resources is not None:
        cpus = max(1, round(resources.cpus * CPU)) if resources.cpus else 0
        counted = ((CPUS, cpus), (MEMORY, resources.memory_mb), (GPUS, resources.gpus))
        needs += [(kind, amount) for kind, amount in counted if amount]
    return (*needs, *((POOL + name, 1) for name in sorted(set(pools))))


class Line:
    """Tasks that need the same kinds of things, by their keys."""

    def __init__(self) -> None:
        self._members: dict[str, Want] = {}
        self._heap: list[tuple[Key, int, Want]] = []  # with some that have left
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, want: Want) -> None:
        self._members[want.task_id] = want
        heapq.heappush(self._heap, (want.key, next(self._count), want))

    def discard(self, task_id: str) -> None:
        self._members.pop(task_id, None)

    def first(self) -> Want | None:
        while self._heap:
            want = self._heap[0][2]
            if self._members.get(want.task_id) is want:
                return want
            heapq.heappop(self._heap)
        return None


class Plan:
    """One pass: who starts, and what was kept for whom."""

    def __init__(self, room: Room) -> None:
        self.starts: list[Want] = []
        #: the first that each kind is kept for, whether it lacks that kind or another
        self.kept: dict[str, Want] = {}
        #: kinds that somebody whose needs are kept lacks
        self.lacked: set[str] = set()
        #: what is free, less what starts and what is kept
        self.left = dict(room.free)

    def offer(self, want: Want) -> bool:
        """The next in the order: True if it starts. Otherwise all later ones with its kinds of needs wait, too."""
        lacks = [kind for kind, amount in want.needs if amount > self.left[kind]]
        if not lacks:
            self.starts.append(want)
        elif self.lacked.isdisjoint(lacks):
            self.lacked.update(lacks)
            for kind, _amount in want.needs:
                self.kept.setdefault(kind, want)
        else:
            return False
        for kind, amount in want.needs:
            self.left[kind] -= amount
        return not lacks


def schedule(lines: Iterable[Line], room: Room) -> Plan:
    """Decide who starts, and take those out of their lines. Every task must fit an empty machine: see `unfit`."""
    plan = Plan(room)
    if room.draining or room.closed is not None:
        return plan
    heads = [(first.key, line) for line in lines if (first := line.first()) is not None]
    heapq.heapify(heads)  # no two keys are equal, so lines are never compared
    while heads and len(plan.starts) < room.launches and SLOT not in plan.lacked:
        line = heads[0][1]
        want = line.first()
        assert want is not None
        if plan.offer(want):
            line.discard(want.task_id)
            following = line.first()
        else:
            following = None  # Rule 5
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.key, line))
    return plan


# -- in words


def waits_for(want: Want, room: Room, plan: Plan) -> str:
    """What keeps a task of a line from starting: ``room`` as it is now, ``plan`` as the last pass left it."""
    if room.draining:
        return DRAINING
    if room.closed is not None:
        return room.closed
    lacks = [_shortage(kind, amount, room) for kind, amount in want.needs if amount > room.free[kind]]
    if lacks:
        return "; ".join(lacks)
    for kind, amount in want.needs:
        other = plan.kept.get(kind)
        if other is not None and other.key < want.key and amount > plan.left[kind]:
            needs = dict(other.needs)[kind]
            return (
                f"other tasks come first: task {other.task_id} needs {_amount_of(kind, needs)}, "
                f"{_number(kind, room.free[kind])} free, and they are kept for it"
            )
    return THROTTLED


def unfit(needs: Needs, total: Mapping[str, float]) -> str | None:
    """Why a task could not even start if nothing else ran; None: it could."""
    return "; ".join(f"needs {words}" for _kind, words in misfits(needs, total)) or None


def misfits(needs: Needs, total: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Kinds of which more is needed than there is, and how much of them, in words."""
    for kind, amount in needs:
        if kind not in total:
            yield kind, f"{_amount_of(kind, amount)}, and there is no such pool"
        elif amount > total[kind]:
            yield kind, f"{_amount_of(kind, amount)}, and there are {_number(kind, total[kind])} in all"


def _shortage(kind: str, amount: int, room: Room) -> str:
    total, taken = room.total[kind], room.total[kind] - room.free[kind]
    if kind == SLOT:
        return f"{taken:.0f} of {total:.0f} tasks are running (max_running)"
    if kind.startswith(POOL):
        return f"pool {kind.removeprefix(POOL)}: {taken:.0f} of {total:.0f} places are taken"
    return f"needs {_amount_of(kind, amount)}, {_number(kind, room.free[kind])} free"


def _amount_of(kind: str, amount: int) -> str:
    number, plural = _number(kind, amount), "" if _number(kind, amount) == "1" else "s"
    match kind:
        case "slot":
            return f"{number} place{plural} to run (max_running)"
        case "cpus":
            return f"{number} CPU{plural}"
        case "memory":
            return f"{number} MiB of memory"
        case "gpus":
            return f"{number} GPU{plural}"
    return f"{number} place{plural} in pool {kind.removeprefix(POOL)}"


def _number(kind: str, amount: float) -> str:
    amount = max(0, amount)
    return f"{amount / CPU:.12g}" if kind == CPUS else f"{amount:.0f}"
