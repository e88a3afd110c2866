"""Which tasks may start, as a pure decision: tables, and properties over generated histories."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task_runner.model.terms import Resources
from task_runner.service.entities import Entities
from task_runner.service.schedule import (
    CPU,
    CPUS,
    GPUS,
    MEMORY,
    POOL,
    SLOT,
    Line,
    Plan,
    Room,
    Want,
    needs_of,
    schedule,
    unfit,
    waits_for,
)

KINDS = (CPUS, MEMORY, GPUS, POOL + "a", POOL + "b")


def want(name: str, *, at: float = 0.0, **needs: int) -> Want:
    """A task that needs a place to run and these; one letter is a pool."""
    amounts = {SLOT: 1, **{kind if len(kind) > 1 else POOL + kind: amount for kind, amount in needs.items()}}
    if CPUS in amounts:
        amounts[CPUS] *= CPU
    in_order = sorted(amounts.items(), key=lambda item: (SLOT, *KINDS).index(item[0]))
    return Want((at, sum(map(ord, name))), name, tuple(in_order))


def room(*, slots: float = math.inf, launches: int = 100, draining: bool = False, used=(), **total: int) -> Room:
    amounts = {kind if len(kind) > 1 else POOL + kind: amount for kind, amount in total.items()}
    counted = {SLOT: slots, **dict.fromkeys(KINDS, 0.0), **amounts}
    counted[CPUS] *= CPU
    free = dict(counted)
    for each in used:
        for kind, amount in each.needs:
            free[kind] -= amount
    return Room(total=counted, free=free, launches=launches, draining=draining)


def lines_of(wants) -> list[Line]:
    lines: dict[tuple[str, ...], Line] = {}
    for each in wants:
        lines.setdefault(each.kinds, Line()).add(each)
    return list(lines.values())


def started(wants, there: Room) -> str:
    return " ".join(each.task_id for each in schedule(lines_of(wants), there).starts)


A, B, C, D = (want(name, at=n) for n, name in enumerate("abcd"))


@pytest.mark.parametrize(
    ("wants", "there", "starts"),
    [
        # the order and the limits
        ([C, A, B], room(), "a b c"),
        ([A, B, C], room(slots=2), "a b"),
        ([A, B, C], room(slots=3, used=[want("x"), want("y")]), "a"),
        ([A, B], room(slots=1, used=[want("x"), want("y")]), ""),
        ([A, B, C], room(launches=2), "a b"),
        ([A], room(launches=0), ""),
        ([A], room(launches=-3), ""),
        ([A], room(draining=True), ""),
        # resources and pools
        ([want("a", cpus=2), want("b", at=1, cpus=2)], room(cpus=3), "a"),
        ([want("a", memory=2), want("b", at=1, cpus=2)], room(cpus=3, memory=2), "a b"),
        ([want("a", a=1), want("b", at=1, a=1), want("c", at=2, b=1)], room(a=1, b=1), "a c"),
        ([want("a", gpus=2), want("b", at=1, gpus=1)], room(gpus=2), "a"),
        # Rule 3: what a large one needs is kept for it, all of it; what it does not need is not
        ([want("a", cpus=4), want("b", at=1, cpus=1)], room(cpus=4, used=[want("x", cpus=1)]), ""),
        ([want("a", cpus=4), want("b", at=1, cpus=1)], room(cpus=6, used=[want("x", cpus=3)]), ""),
        ([want("a", cpus=4), want("b", at=1, memory=1)], room(cpus=3, memory=1), "b"),
        ([want("a", cpus=4, a=1), want("b", at=1, a=1)], room(cpus=3, a=1), ""),
        ([want("a", cpus=4, a=1), want("b", at=1, a=1)], room(cpus=3, a=2), "b"),
        ([want("a", cpus=4), B, C], room(cpus=3, slots=2), "b"),
        ([want("a", cpus=4), B, C], room(cpus=3, slots=1), ""),
        # Rule 4: nothing is kept for those that wait behind it for the same
        ([want("a", a=1), want("b", at=1, a=1), want("c", at=2, a=1), D], room(slots=3, a=1, used=[want("x", a=1)]), "d"),
        ([want("a", a=1), want("b", at=1, a=1, cpus=8), want("c", at=2, cpus=1)], room(a=0, cpus=4), "c"),
        # Rule 5: one of a line that must wait does not hold back another line
        ([want("a", cpus=9), want("b", at=1, cpus=1), want("c", at=2, memory=1), D], room(cpus=8, memory=1), "c d"),
    ],
)
def test_who_starts(wants, there, starts):
    assert started(wants, there) == starts


@pytest.mark.parametrize(
    ("wants", "there", "of", "words"),
    [
        ([A], room(draining=True), A, "the daemon is draining: it finishes what runs and starts nothing new"),
        ([A, B], room(launches=1), B, "other tasks are being started"),
        ([A], room(slots=2, used=[C, D]), A, "2 of 2 tasks are running (max_running)"),
        ([A], room(slots=1, used=[C, D]), A, "2 of 1 tasks are running (max_running)"),
        ([want("a", cpus=4)], room(cpus=6, used=[want("x", cpus=4)]), want("a", cpus=4), "needs 4 CPUs, 2 free"),
        ([want("a", cpus=1)], room(cpus=1, used=[want("x", cpus=2)]), want("a", cpus=1), "needs 1 CPU, 0 free"),
        ([want("a", memory=2048)], room(memory=10), want("a", memory=2048), "needs 2048 MiB of memory, 10 free"),
        ([want("a", gpus=1)], room(gpus=1, used=[want("x", gpus=1)]), want("a", gpus=1), "needs 1 GPU, 0 free"),
        ([want("a", a=1)], room(a=2, used=[want("x", a=2)]), want("a", a=1), "pool a: 2 of 2 places are taken"),
        (
            [want("a", cpus=8)],
            room(cpus=8, memory=1, used=[want("x", cpus=1, memory=1)]),
            want("a", cpus=8, memory=1),
            "needs 8 CPUs, 7 free; needs 1 MiB of memory, 0 free",
        ),
        (
            [want("a", cpus=8), want("b", at=1, cpus=2)],
            room(cpus=8, used=[want("x", cpus=5)]),
            want("b", at=1, cpus=2),
            "other tasks come first: task a needs 8 CPUs, 3 free, and they are kept for it",
        ),
        (
            [want("a", cpus=8), B],
            room(cpus=8, slots=2, used=[want("x", cpus=5)]),
            B,
            "other tasks come first: task a needs 1 place to run (max_running), 1 free, and they are kept for it",
        ),
    ],
)
def test_why_it_waits(wants, there, of, words):
    assert waits_for(of, there, schedule(lines_of(wants), there)) == words


@pytest.mark.parametrize(
    ("resources", "pools", "needs"),
    [
        (None, (), ((SLOT, 1),)),
        (Resources(), (), ((SLOT, 1),)),
        (Resources(cpus=0.5, memory_mb=3, gpus=2), (), ((SLOT, 1), (CPUS, CPU // 2), (MEMORY, 3), (GPUS, 2))),
        (Resources(cpus=1e-9), (), ((SLOT, 1), (CPUS, 1))),
        (None, ("b", "a", "b"), ((SLOT, 1), (POOL + "a", 1), (POOL + "b", 1))),
    ],
)
def test_what_a_spec_needs(resources, pools, needs):
    assert needs_of(resources, pools) == needs


def test_tenths_of_processors_come_out_even():
    tenths = [Want((n, n), str(n), needs_of(Resources(cpus=0.1))) for n in range(30)]
    assert len(started(tenths, room(cpus=2)).split()) == 20


def test_what_an_empty_machine_could_not_start():
    total = room(slots=1, cpus=2, a=1).total
    assert unfit(want("x", cpus=2, a=1).needs, total) is None
    assert unfit(want("x", cpus=3, gpus=1).needs, total) == (
        "needs 3 CPUs, and there are 2 in all; needs 1 GPU, and there are 0 in all"
    )
    assert unfit(((POOL + "gone", 1),), total) == "needs 1 place in pool gone, and there is no such pool"


# -- properties

needs_strategy = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 4), max_size=3)
wants_strategy = st.lists(st.tuples(st.integers(0, 9), needs_strategy), max_size=25)
free_strategy = st.fixed_dictionaries(
    {SLOT: st.sampled_from([math.inf, 0, 1, 2, 5, -1]), **dict.fromkeys(KINDS, st.integers(-1, 6))}
)


def made(drawn) -> list[Want]:
    """Wants with their needs in the fixed order, as those of specs are."""
    return [
        Want((rank, seq), f"t{seq}", ((SLOT, 1), *((kind, needs[kind]) for kind in KINDS if kind in needs)))
        for seq, (rank, needs) in enumerate(drawn)
    ]


@settings(max_examples=250, deadline=None)
@given(wants_strategy, free_strategy, st.integers(-1, 12))
def test_lines_change_nothing_in_the_decision(drawn, free, launches):
    """Rule 5 is an economy: going through all in their order decides the same."""
    there = Room(total=free, free=free, launches=launches)
    plan = Plan(there)
    for each in sorted(made(drawn), key=lambda each: each.key):
        if len(plan.starts) >= launches:
            break
        plan.offer(each)
    assert schedule(lines_of(made(drawn)), there).starts == plan.starts


@settings(max_examples=250, deadline=None)
@given(wants_strategy, free_strategy, st.integers(-1, 12))
def test_limits_hold_and_the_first_that_waits_loses_nothing(drawn, free, launches):
    wants = sorted(made(drawn), key=lambda each: each.key)
    starts = schedule(lines_of(wants), Room(total=free, free=free, launches=launches)).starts
    assert [each.key for each in starts] == sorted(each.key for each in starts)
    assert len(starts) <= max(0, launches)
    left = dict(free)
    for each in starts:
        for kind, amount in each.needs:
            left[kind] -= amount
            assert left[kind] >= 0
    waiting = [each for each in wants if each not in starts]
    if not waiting or len(starts) >= launches:
        return
    first = waiting[0]
    assert any(amount > left[kind] for kind, amount in first.needs), "it fits and was not started"
    for each in starts:
        if each.key > first.key:  # it may have taken only what the first does not need
            for kind, amount in first.needs:
                assert kind not in dict(each.needs) or left[kind] >= amount


class Machine:
    """Runs what the schedule starts; each task takes a random time."""

    def __init__(self, seed: int, **total: int) -> None:
        self.random = random.Random(seed)
        self.total = room(**total).total
        self.now = 0
        self.waiting: list[Want] = []
        self.running: list[tuple[int, tuple[float, int], Want]] = []
        self.begun: list[str] = []

    def step(self) -> None:
        self.now += 1
        while self.running and self.running[0][0] <= self.now:
            heapq.heappop(self.running)
        free = dict(self.total)
        for _end, _key, each in self.running:
            for kind, amount in each.needs:
                free[kind] -= amount
        for each in schedule(lines_of(self.waiting), Room(total=self.total, free=free, launches=16)).starts:
            self.waiting.remove(each)
            self.begun.append(each.task_id)
            heapq.heappush(self.running, (self.now + self.random.randint(1, 5), each.key, each))


@pytest.mark.parametrize("seed", range(60))
def test_a_large_task_starts_however_many_small_ones_come_after_it(seed):
    """It waits at most for what runs when it comes: nothing that comes later takes what it needs."""
    machine = Machine(seed, slots=6, cpus=4, memory=8, a=2)
    small = [{"cpus": 1}, {"memory": 2}, {"a": 1}, {"cpus": 1, "a": 1}, {}]

    def arrive(count: int) -> None:
        for _ in range(count):
            seq = 1 + len(machine.waiting) + len(machine.begun)
            machine.waiting.append(want(f"s{seq}", at=machine.now + seq / 1e6, **machine.random.choice(small)))

    for _ in range(5):
        arrive(2)
        machine.step()
    ahead = len(machine.waiting)
    machine.waiting.append(want("large", at=machine.now, cpus=4, memory=8, a=2))
    came = machine.now
    while "large" not in machine.begun:
        arrive(4)
        machine.step()
        assert machine.now - came <= 6 * (ahead + 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), needs_strategy), max_size=30), st.integers(0, 99))
def test_nothing_waits_for_ever(drawn, seed):
    machine = Machine(seed, slots=3, cpus=4, memory=4, gpus=4, a=4, b=4)
    for seq, each in enumerate(made(drawn)):
        needs = tuple((kind, amount * CPU if kind == CPUS else amount) for kind, amount in each.needs)
        machine.waiting.append(Want((seq - 10 * each.key[0], seq), each.task_id, needs))
        machine.step()
    for _ in range(6 * len(drawn)):
        machine.step()
    assert not machine.waiting


# -- entities


def test_one_of_an_entity_at_a_time_and_the_lowest_number_first():
    entities = Entities()
    entities.join("e", 7, "late")
    assert entities.changed("e") == ["late"]
    entities.join("e", 3, "early")
    assert entities.changed("e") == ["late", "early"]
    assert entities.at_front("e", "early")
    assert entities.ahead("e") == "task early of entity e comes first"
    entities.leave("e", "early")
    entities.occupy("e", "early")
    assert entities.changed("e") == ["early"]
    assert not entities.at_front("e", "late")
    assert entities.ahead("e") == "entity e is busy with task early"
    entities.vacate("e", "early")
    assert entities.changed("e") == ["late"]
    entities.leave("e", "late")
    assert entities.changed("e") == ["late"]
    assert entities.changed("e") == []


def test_an_entity_that_an_earlier_daemon_gave_to_two_is_free_when_both_are_over():
    entities = Entities()
    entities.occupy("e", "one")
    entities.occupy("e", "two")
    entities.join("e", 3, "three")
    entities.vacate("e", "one")
    assert entities.changed("e") == []
    entities.vacate("e", "two")
    assert entities.changed("e") == ["three"]


def test_who_leaves_a_line_and_comes_back_stands_there_once():
    entities = Entities()
    for _ in range(3):
        entities.join("e", 1, "one")
        entities.leave("e", "one")
    entities.join("e", 2, "two")
    entities.join("e", 1, "one")
    entities.join("e", 1, "one")
    assert entities.changed("e") == ["one"]
    entities.leave("e", "one")
    assert entities.changed("e") == ["one", "two"]
