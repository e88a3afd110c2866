"""The queue, over an environment and a book without any life of their own: every step is the test's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task_runner.environment.base import Launch, Refusal
from task_runner.errors import NotFound
from task_runner.lib.clock import stamp
from task_runner.model.codec import to_json
from task_runner.model.grant import Grant
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Outcome, State
from task_runner.model.terms import After, Condition, Resources, Retry
from task_runner.service.capacity import Capacity
from task_runner.service.dependencies import Dependants
from task_runner.service.queue import Queue
from task_runner.service.schedule import Limits
from task_runner.service.task import Record, StopIntent, Task

CAPACITY = Capacity(cpus=4, memory_mb=1000, gpus=(0, 1, 3), pools={"a": 1, "b": 2})


@dataclass
class Clock:
    now: float = 1_800_000_000.0
    boot: float = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.boot

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.boot += seconds


@dataclass
class Timer:
    seconds: float
    act: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class World:
    """A queue and what it talks to. ``slow``: the service takes its time, until `serve` is called."""

    limits: Limits = field(default_factory=lambda: Limits(max_starting=1000))
    capacity: Capacity | None = CAPACITY
    slow: bool = False
    refuse: bool = False
    more: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.tasks: dict[str, Task] = {}
        self.launches: list[str] = []
        self.grants: dict[str, Grant | None] = {}
        self.cancelled: dict[str, str | None] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.order_of_endings: list[str] = []
        self.asked: list[Callable[[], None]] = []
        self.timers: list[Timer] = []
        self.seq = itertools.count(1)
        self.new_daemon()

    def new_daemon(self) -> None:
        """Another queue, which knows the tasks from the store."""
        self.book = SimpleNamespace(
            active={}, on_final=[], clock=self.clock, dependants=Dependants(), store=SimpleNamespace(get=self.tasks.get)
        )
        self.queue = Queue(self.book, self, self.limits, capacity=self.capacity, call_later=self.call_later, **self.more)
        self.queue.cancel = self.cancel
        self.queue.due = self.due
        for task in self.tasks.values():
            if task.final:
                continue
            self.book.active[task.id] = task
            self.book.dependants.add(task)
            if task.waiting:
                task.gpus = ()
                self.queue.add(task)
            else:
                self.queue.adopt(task)
        self.queue.fill()

    def call_later(self, seconds: float, act: Callable[[], None]) -> Timer:
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        self.timers.append(Timer(seconds, act))
        return self.timers[-1]

    @property
    def sleep(self) -> float | None:
        """How long until the queue wakes up by itself."""
        return min((timer.seconds for timer in self.timers if not timer.cancelled), default=None)

    def wake(self) -> None:
        """Let the queue's timers go off."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.act()

    # -- the environment

    def launch(self, launch: Launch) -> None:
        task = self.tasks[launch.task_id]
        assert launch.attempt == task.record.attempt
        self.launches.append(task.id)
        self.grants[task.id] = launch.grant
        if self.refuse:
            self.queue.refused(Refusal(task_id=task.id, attempt=launch.attempt, reason="no more processes"))

    # -- the service

    def cancel(self, task: Task, reason: str | None, outcome: Outcome) -> None:
        self.cancelled[task.id], self.outcomes[task.id] = reason, outcome
        self._do(task, lambda: self.end(task.id, outcome))

    def due(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._do(task, lambda task=task: self.make_pending(task))

    def make_pending(self, task: Task) -> None:
        task.record = replace(task.record, state=State.PENDING)
        self.queue.add(task)

    def _do(self, task: Task, act: Callable[[], None]) -> None:
        if not self.slow:
            act()
            return
        assert not task.ending
        task.ending = True

        def later() -> None:
            task.ending = False
            act()

        self.asked.append(later)

    def serve(self) -> None:
        """Let the service do what it was asked for."""
        while self.asked:
            asked, self.asked = self.asked, []
            for act in asked:
                act()
            self.queue.fill()

    # -- what a test makes happen

    def add(self, task_id: str, *, batch: str | None = None, at: float | None = None, **spec: object) -> Task:
        task = self.make(task_id, batch=batch, at=at, **spec)
        self.queue.add(task)
        self.queue.fill()
        return task

    def make(self, task_id: str, *, batch: str | None = None, at: float | None = None, **spec: object) -> Task:
        asked = Spec(actions=[Action(machine="process")], **spec)
        state = State.PENDING if at is None else State.SCHEDULED
        task = Task(
            id=task_id,
            seq=next(self.seq),
            spec_json=json.dumps(to_json(asked, sparse=True)),
            name=None,
            tags={},
            record=Record(
                state=state,
                created_at=stamp(self.clock.now),
                execute_at=None if at is None else stamp(at),
                rank=self.clock.now,
            ),
            entity=asked.entity,
            batch=batch,
        )
        self.tasks[task_id] = self.book.active[task_id] = task
        self.book.dependants.add(task)
        return task

    def end(self, task_id: str, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        task = self.tasks[task_id]
        state = State.LOST if outcome is Outcome.LOST else State.EXITED
        task.record = replace(task.record, state=state, outcome=outcome)
        self.order_of_endings.append(task_id)
        self.book.dependants.discard(task)
        self.book.active.pop(task_id, None)
        for act in self.book.on_final:
            act(task)
        self.queue.fill()

    def again(self, task_id: str, seconds: float) -> None:
        """The attempt has ended, and another is to follow."""
        task = self.tasks[task_id]
        at = stamp(self.clock.now + seconds)
        task.record = replace(task.record, state=State.PENDING, attempt=task.record.attempt + 1, retry_at=at)
        task.start_over()
        self.queue.back(task)
        self.queue.fill()

    def hold(self, batch: str, held: bool) -> None:
        self.queue.hold(batch, held)
        self.queue.fill()

    def drain(self, draining: bool) -> None:
        self.queue.limits = replace(self.queue.limits, draining=draining)
        self.queue.fill()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.queue.fill()

    def reason(self, task_id: str) -> str | None:
        return self.queue.reason(self.tasks[task_id])

    @property
    def running(self) -> list[str]:
        return [task_id for task_id in self.tasks if task_id in self.queue.running]


def limited(max_running: int) -> World:
    return World(Limits(max_running=max_running, max_starting=1000))


# -- order


def test_those_that_came_first_start_first():
    made = limited(1)
    for task_id in "abcd":
        made.add(task_id)
    for task_id in "abcd":
        made.end(task_id)
    assert made.launches == list("abcd")


def test_a_point_of_priority_is_worth_its_time_of_waiting_and_no_more():
    made = World(Limits(max_running=1), more={"priority_seconds": 60.0})
    made.add("running")
    made.add("old")
    made.clock.advance(59)
    made.add("young", priority=1)
    made.clock.advance(2)
    made.add("younger", priority=1)
    for task_id in ("running", "young", "old", "younger"):
        made.end(task_id)
    assert made.launches == ["running", "young", "old", "younger"]


def test_launches_on_their_way_are_bounded_and_go_on_as_they_are_seen_to_run():
    made = World(Limits(max_starting=2))
    for task_id in "abc":
        made.add(task_id)
    assert made.running == ["a", "b"]
    assert made.reason("c") == "other tasks are being started"
    made.wake()
    assert made.sleep is None
    made.queue.started(made.tasks["b"])
    made.wake()
    assert made.running == ["a", "b", "c"]
    assert made.reason("a") is None


def test_draining_starts_nothing():
    made = World()
    made.drain(True)
    made.add("a")
    assert made.running == []
    assert made.reason("a") == "the daemon is draining: it finishes what runs and starts nothing new"
    made.drain(False)
    assert made.running == ["a"]


def test_a_closed_queue_does_nothing_any_more():
    made = World()
    made.add("later", at=made.clock.now + 5)
    made.queue.close()
    assert made.sleep is None
    made.clock.advance(10)
    made.add("a")
    made.wake()
    assert made.launches == []


# -- entities


def test_tasks_of_an_entity_go_one_at_a_time_whatever_their_priority():
    made = World()
    made.add("first", entity="e")
    made.add("second", entity="e")
    made.add("third", entity="e", priority=1000)
    made.add("other", entity="f")
    assert made.running == ["first", "other"]
    assert made.reason("second") == "entity e is busy with task first"
    made.tasks["first"].record = replace(made.tasks["first"].record, state=State.PAUSED)
    made.queue.fill()
    assert made.running == ["first", "other"]
    made.drain(True)
    made.end("first")
    assert made.reason("third") == "task second of entity e comes first"
    made.drain(False)
    assert made.running == ["second", "other"]


def test_a_task_that_waits_for_its_next_try_keeps_its_place_in_the_line():
    made = World()
    made.add("first", entity="e", retry=Retry(count=3, delay_seconds=12))
    made.add("second", entity="e")
    made.again("first", 12)
    assert made.running == []
    assert made.reason("first") == "try 2 of 4 in 12 s"
    assert made.reason("second") == "task first of entity e comes first"
    made.advance(13)
    assert made.running == ["first"]


def test_a_scheduled_task_has_no_place_in_the_line_until_its_time_has_come():
    made = World()
    made.add("scheduled", entity="e", at=made.clock.now + 100)
    made.add("a", entity="e")
    assert made.running == ["a"]
    made.end("a")
    made.drain(True)
    made.add("b", entity="e")
    assert "draining" in made.reason("b")
    made.advance(101)
    assert made.reason("b") == "task scheduled of entity e comes first"
    made.drain(False)
    assert made.running == ["scheduled"]


def test_a_task_that_was_stopped_leaves_the_line():
    made = World()
    made.drain(True)
    made.add("first", entity="e")
    made.add("second", entity="e")
    made.end("first", Outcome.CANCELLED)
    made.drain(False)
    assert made.running == ["second"]


# -- tasks that wait for others


def after(*tasks: str, on: Condition = Condition.SUCCESS) -> list[After]:
    return [After(task=task, on=on) for task in tasks]


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("early", [True, False])
def test_a_dependant_starts_or_is_cancelled(outcome, condition, early):
    made = World()
    made.add("first")
    if early:
        made.end("first", outcome)
    made.add("second", after=after("first", on=condition))
    if not early:
        verb = "succeed" if condition is Condition.SUCCESS else "end"
        assert made.reason("second") == f"waits for task first to {verb}"
        made.end("first", outcome)
    if condition is Condition.END or outcome is Outcome.SUCCEEDED:
        assert made.running == ["second"]
    else:
        assert made.cancelled == {"second": f"task first, which it waits for, ended {outcome.value}"}
        assert len(made.queue) == 0


def test_all_that_it_waits_for_must_be_over():
    made = World()
    made.add("a")
    made.add("b")
    made.add("c", after=[*after("a"), *after("b"), *after("b", on=Condition.END)])
    assert made.reason("c") == "waits for task a to succeed, and for 1 more"
    made.end("a")
    assert made.reason("c") == "waits for task b to succeed"
    made.end("b")
    assert made.running == ["c"]


def test_a_dependency_that_is_gone_cancels():
    made = World()
    made.add("a", after=after("gone", on=Condition.END))
    assert made.cancelled == {"a": "task gone, which it waits for, does not exist any more"}


def test_a_dependency_that_is_tried_again_is_not_over():
    made = World()
    made.add("a", retry=Retry())
    made.add("b", after=after("a"))
    made.again("a", 1)
    assert made.reason("b") == "waits for task a to succeed"
    made.advance(2)
    made.end("a")
    assert made.running == ["b"]


def test_a_task_accepted_earlier_may_wait_for_one_accepted_in_the_same_moment():
    made = World()
    made.drain(True)
    first = made.make("first", after=after("second"))
    made.queue.add(first)
    made.queue.add(made.make("second"))
    made.queue.fill()
    assert made.cancelled == {}
    assert made.reason("first") == "waits for task second to succeed"


@pytest.mark.parametrize("slow", [False, True])
def test_a_long_chain_falls_at_once_without_recursion(slow):
    made = World(slow=slow)
    made.add("0")
    for n in range(1, 3_000):
        made.queue.add(made.make(str(n), after=after(str(n - 1))))
    made.queue.fill()
    made.end("0", Outcome.TIMED_OUT)
    # before the service has ended any of them all have been told to it, in their order: one commit can take them
    assert len(made.cancelled) == 2999
    made.serve()
    assert made.order_of_endings == [str(n) for n in range(3_000)]
    assert made.cancelled["1"] == "task 0, which it waits for, ended timed_out"
    assert made.cancelled["2999"] == "task 2998, which it waits for, ended cancelled"
    assert len(made.queue) == 0


def test_only_those_fall_that_need_success():
    made = World()
    made.add("a")
    made.add("b", after=after("a"))
    made.add("c", after=after("b", on=Condition.END))
    made.add("d", at=made.clock.now + 10, after=after("b"))
    made.end("a", Outcome.FAILED)
    assert sorted(made.cancelled) == ["b", "d"]
    assert made.running == ["c"]


def test_a_cancel_that_comes_to_nothing_is_asked_for_again():
    made = World()
    made.queue.cancel = lambda task, reason, outcome: None
    made.add("a", after=after("gone"))
    assert "it is being cancelled: task gone" in made.reason("a")
    made.queue.cancel = made.cancel
    made.advance(2)
    assert sorted(made.cancelled) == ["a"]


def test_a_task_stopped_while_it_was_launched_is_ended_when_the_launch_is_taken_back():
    made = World()
    task = made.add("a")
    task.intent = StopIntent(requested_at=stamp(made.clock.now))
    made.queue.back(task)
    made.queue.fill()
    assert made.cancelled == {"a": None}
    assert made.launches == ["a"]


def test_a_task_that_the_service_is_changing_is_not_started_and_not_forgotten():
    made = limited(1)
    made.add("a")
    task = made.add("b")
    made.add("c")
    task.ending = True
    made.end("a")
    assert made.running == ["c"]
    task.ending = False  # the store refused
    made.end("c")
    made.advance(2)
    assert made.running == ["b"]


# -- batches


def test_no_task_of_a_paused_batch_starts_and_none_of_them_holds_back_others():
    made = limited(2)
    made.add("running")
    made.add("also")
    made.add("a", batch="x", entity="e")
    made.add("b", batch="y")
    made.add("c", batch="x")
    made.hold("x", True)
    assert made.reason("a") == "its batch is paused"
    made.end("running")
    assert made.running == ["also", "b"]
    made.end("also")
    made.end("b")
    assert made.running == []
    made.add("d", entity="e")
    assert made.reason("d") == "task a of entity e comes first"
    made.hold("x", False)
    assert made.running == ["a", "c"]


# -- times


def test_a_scheduled_task_starts_when_its_time_comes_by_the_wall_clock():
    made = World()
    at = made.clock.now + 3600
    made.add("a", at=at)
    assert made.reason("a") == f"its time has not come: {stamp(at)}"
    assert made.sleep == 0.0  # for what came in
    made.wake()
    assert made.sleep == 1.0  # the wall clock may be set any time
    made.clock.boot += 7200
    made.wake()
    assert made.running == []
    made.clock.now = at - 0.25
    made.wake()
    assert made.running == []
    made.clock.now = at
    made.wake()
    assert made.running == ["a"]


def test_a_scheduled_task_wakes_the_queue_in_time():
    made = World()
    made.add("a", at=made.clock.now + 1.25)
    made.wake()
    made.clock.advance(1)
    made.wake()
    assert made.sleep == pytest.approx(0.25)


def test_all_that_are_due_are_told_at_once_and_late_ones_start_with_a_new_daemon():
    made = World()
    for n in range(5):
        made.add(str(n), at=made.clock.now + n + 1)
    told: list[list[str]] = []
    made.clock.now += 100
    due = made.due
    made.due = lambda tasks: (told.append([task.id for task in tasks]), due(tasks))  # type: ignore[assignment]
    made.new_daemon()
    assert told == [["0", "1", "2", "3", "4"]]
    assert made.running == ["0", "1", "2", "3", "4"]


def test_a_due_task_whose_change_the_store_refused_is_told_again():
    made = World()
    made.queue.due = lambda tasks: None
    made.add("a", at=made.clock.now + 1)
    made.advance(2)
    assert made.running == []
    made.queue.due = made.due
    made.advance(2)
    assert made.running == ["a"]


def test_the_time_of_a_task_can_be_changed():
    made = limited(1)
    made.add("running")
    task = made.add("a", at=made.clock.now + 10, entity="e")
    task.record = replace(task.record, execute_at=stamp(made.clock.now + 20))
    made.queue.add(task)
    made.end("running")
    made.advance(11)
    assert made.running == []
    made.drain(True)
    made.advance(10)
    task.record = replace(task.record, state=State.SCHEDULED, execute_at=stamp(made.clock.now + 5))
    made.queue.add(task)
    made.drain(False)
    assert made.running == []
    made.add("b", entity="e")
    assert made.running == ["b"]
    made.end("b")
    made.advance(6)
    assert made.running == ["a"]


def test_a_removed_task_does_not_start():
    made = World()
    task = made.add("a", at=made.clock.now + 10)
    made.queue.remove(task)
    made.advance(20)
    assert made.launches == []
    assert len(made.queue) == 0


def test_a_removed_task_leaves_its_place_to_the_next():
    made = World()
    made.add("running", entity="e")
    first = made.add("first", entity="e", after=after("running"))
    made.add("second", entity="e")
    made.end("running")
    made.queue.back(first)
    first.not_before = made.clock.boot + 100
    made.queue.fill()
    assert made.running == []
    made.queue.remove(first)
    made.queue.fill()
    assert made.running == ["second"]


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_set_clock_neither_shortens_nor_lengthens_the_wait_for_the_next_try(jump):
    made = World()
    made.add("a", retry=Retry(delay_seconds=10))
    made.again("a", 10)
    made.clock.now += jump
    made.advance(9)
    assert made.reason("a") == "try 2 of 4 in 1 s"
    made.advance(2)
    assert made.launches == ["a", "a"]


@pytest.mark.parametrize(("away", "rest"), [(4, 6), (100, 0), (-86_400, 22)])
def test_a_new_daemon_waits_the_rest_by_the_wall_clock_within_bounds(away, rest):
    made = World()
    made.add("a", retry=Retry(delay_seconds=10, max_delay_seconds=20, jitter=0.1))
    made.again("a", 10)
    made.clock.now += away
    made.new_daemon()
    made.advance(rest - 0.5)
    assert made.launches == ["a"] * (1 if rest else 2)
    made.advance(1)
    assert made.launches == ["a", "a"]


# -- the time within which a task is to start


def timed_out(world: World, task_id: str) -> str | None:
    """Why a task ended that was not started in time; None: it did not end so."""
    return world.cancelled[task_id] if world.outcomes.get(task_id) is Outcome.TIMED_OUT else None


def test_a_task_that_is_not_started_in_time_is_ended_with_what_it_waited_for():
    made = limited(1)
    made.add("a")
    made.add("b", start_within_seconds=5)
    made.advance(4.9)
    assert made.cancelled == {}
    made.advance(0.1)
    assert timed_out(made, "b") == "it was not started within 5 s: 1 of 1 tasks are running (max_running)"
    made.end("a")
    assert made.launches == ["a"]


WAITS = {
    "room": ({"resources": Resources(cpus=4)}, "needs 4 CPUs, 3 free"),
    "pool": ({"pools": ["a"]}, "pool a: 1 of 1 places are taken"),
    "entity": ({"entity": "e"}, "entity e is busy with task first"),
    "after": ({"after": [After(task="first")]}, "waits for task first to succeed"),
    "batch": ({"batch": "held"}, "its batch is paused"),
    "unfit": ({"resources": Resources(cpus=5)}, "needs 5 CPUs, and there are 4 in all"),
}


@pytest.mark.parametrize("what", WAITS)
def test_whatever_it_waits_for_counts(what):
    asked, words = WAITS[what]
    made = World()
    made.hold("held", True)
    made.add("first", entity="e", pools=["a"], resources=Resources(cpus=1))
    made.add("a", start_within_seconds=5, **asked)
    assert made.reason("a") == words
    made.advance(5)
    assert timed_out(made, "a") == f"it was not started within 5 s: {words}"
    made.hold("held", False)
    made.end("first")
    assert made.launches == ["first"]


def test_a_drained_node_counts_and_the_queue_wakes_up_in_time():
    made = World()
    made.drain(True)
    made.timers.clear()
    made.add("a", start_within_seconds=0.25)
    assert made.sleep is not None
    assert made.sleep <= 0.25
    made.clock.advance(0.25)
    made.wake()
    assert "the daemon is draining" in str(timed_out(made, "a"))


def test_what_becomes_free_in_the_moment_in_which_its_time_is_over_is_not_for_it():
    made = limited(1)
    made.add("a")
    made.add("b", start_within_seconds=5)
    made.add("c")
    made.clock.advance(5)
    made.end("a")
    assert made.running == ["c"]
    assert timed_out(made, "b")


def test_a_task_whose_launch_is_on_its_way_is_not_ended_unless_the_launch_comes_to_nothing():
    made = World()
    task = made.add("a", start_within_seconds=5)
    made.advance(60)
    assert made.cancelled == {}
    made.queue.back(task)
    made.queue.fill()
    assert timed_out(made, "a")
    assert made.launches == ["a"]


def test_a_launch_that_is_refused_again_and_again_counts_and_says_so():
    made = World()
    made.refuse = True
    made.add("a", start_within_seconds=5)
    for _ in range(60):
        made.advance(0.1)
    assert timed_out(made, "a") == (
        "it was not started within 5 s: it could not be started, and will be tried again: no more processes"
    )


def test_the_time_begins_when_the_task_is_due():
    made = limited(1)
    made.add("a")
    made.add("b", at=made.clock.now + 100, start_within_seconds=5)
    made.advance(104)
    assert made.cancelled == {}
    made.advance(1)
    assert timed_out(made, "b")


def test_another_try_has_the_whole_time_again_from_the_end_of_its_wait():
    made = limited(1)
    made.add("a", start_within_seconds=5, retry=Retry(delay_seconds=20))
    made.again("a", 20)
    made.add("b")
    made.advance(20)
    assert made.running == ["b"]
    made.advance(4.5)
    assert made.cancelled == {}
    made.advance(0.5)
    assert timed_out(made, "a")


def test_another_attempt_that_somebody_asks_for_has_the_whole_time_again():
    made = limited(1)
    task = made.add("a", start_within_seconds=5)
    made.advance(60)
    made.end("a")
    made.add("b")
    made.book.active["a"] = task
    task.record = Record(state=State.PENDING, created_at=task.record.created_at, renewed_at=stamp(made.clock.now))
    task.start_over()
    made.queue.add(task)
    made.advance(4.5)
    assert made.cancelled == {}
    made.advance(0.5)
    assert timed_out(made, "a")


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_set_clock_changes_nothing_of_the_time_within_which_a_task_is_to_start(jump):
    made = limited(1)
    made.add("a")
    made.add("b", start_within_seconds=5)
    made.clock.now += jump
    made.queue.add(made.tasks["b"])  # considered anew
    made.advance(4.5)
    assert made.cancelled == {}
    made.advance(0.5)
    assert timed_out(made, "b")


@pytest.mark.parametrize(("away", "rest"), [(2, 3), (100, 0), (-86_400, 5)])
def test_a_new_daemon_gives_a_task_what_is_left_of_its_time(away, rest):
    made = limited(1)
    made.add("a")
    made.add("b", start_within_seconds=5)
    made.clock.now += away
    made.tasks["b"].start_by = None
    made.new_daemon()
    if rest:
        assert made.cancelled == {}
        made.advance(rest - 0.5)
        assert made.cancelled == {}
        made.advance(0.5)
        assert timed_out(made, "b")
    else:
        words = "it was not started within 5 s: its time was over before this daemon could consider it"
        assert timed_out(made, "b") == words
    assert made.launches == ["a"]


def test_who_needs_its_success_falls_with_it_and_who_needs_its_end_starts():
    made = World()
    made.drain(True)
    made.add("a", start_within_seconds=5)
    made.add("b", after=after("a"))
    made.add("c", after=after("a", on=Condition.END))
    made.add("d", after=after("b"), start_within_seconds=5)
    made.advance(5)
    assert timed_out(made, "a")
    assert made.outcomes["b"] is made.outcomes["d"] is Outcome.CANCELLED
    assert made.cancelled["b"] == "task a, which it waits for, ended timed_out"
    made.drain(False)
    assert made.launches == ["c"]


def test_one_that_the_store_did_not_let_end_is_not_started_and_is_asked_for_again():
    made = limited(1)
    made.add("a")
    made.add("b", start_within_seconds=5)
    made.queue.cancel = lambda task, reason, outcome: None
    made.advance(5)
    made.end("a")
    assert made.launches == ["a"]
    assert made.reason("b").startswith("it is being ended: it was not started within 5 s: ")
    made.queue.cancel = made.cancel
    made.advance(2)
    assert timed_out(made, "b")


def test_one_that_the_service_is_changing_is_ended_when_that_has_come_to_nothing():
    made = limited(1)
    made.add("a")
    task = made.add("b", start_within_seconds=5)
    task.ending = True
    made.advance(5)
    assert made.cancelled == {}
    task.ending = False  # the store refused
    made.advance(1)
    assert timed_out(made, "b")


def test_a_task_that_has_started_is_not_kept_in_memory_until_it_had_to():
    made = World(capacity=None)
    for n in range(5_000):
        made.add(str(n), start_within_seconds=86_400)
        made.end(str(n))
    assert len(made.queue._parking.alarms._by_age) <= 1_000


# -- refusals


def test_a_refused_launch_is_made_again_later_and_keeps_its_place():
    made = World()
    made.refuse = True
    made.add("a", entity="e", resources=Resources(gpus=1))
    made.add("b", entity="e")
    made.wake()
    assert made.launches == ["a"]
    assert made.running == []
    assert made.reason("a") == "it could not be started, and will be tried again: no more processes"
    assert made.reason("b") == "task a of entity e comes first"
    made.refuse = False
    made.advance(0.2)
    assert made.running == ["a"]
    assert made.tasks["a"].gpus == (0,)


def test_a_grant_that_cannot_be_made_is_a_refusal():
    def grant(task: Task) -> Grant | None:
        raise NotFound("there is no secret 'x'")

    made = World(more={"grant": grant})
    made.add("a")
    assert made.launches == []
    assert made.reason("a") == "it could not be started, and will be tried again: there is no secret 'x'"


# -- resources


def test_graphics_processors_are_given_out_by_the_lowest_free_index():
    made = World()
    made.add("a", resources=Resources(gpus=1))
    made.add("b", resources=Resources(gpus=1))
    made.end("a")
    made.add("c", resources=Resources(gpus=2))
    assert made.grants["b"] == Grant(gpus=[1])
    assert made.grants["c"] == Grant(gpus=[0, 3])
    made.add("d", resources=Resources(gpus=1))
    assert made.reason("d") == "needs 1 GPU, 0 free"
    made.add("e")
    assert made.grants["e"] is None
    made.end("b")
    assert made.tasks["d"].gpus == (1,)


def test_a_new_daemon_counts_what_runs_and_gives_nothing_away_twice():
    made = World()
    made.add("a", resources=Resources(cpus=3, gpus=2), pools=["b"], entity="e")
    made.new_daemon()
    made.add("b", resources=Resources(gpus=2))
    made.add("c", resources=Resources(gpus=1))
    made.add("d", resources=Resources(cpus=2))
    made.add("f", entity="e")
    assert made.running == ["a"]
    assert made.reason("b") == "needs 2 GPUs, 1 free"
    assert made.reason("d") == "needs 2 CPUs, 1 free"
    made.end("a")
    assert made.tasks["b"].gpus == (0, 1)
    assert made.tasks["c"].gpus == (3,)


def test_while_it_is_not_known_which_processors_a_task_has_none_are_given_out():
    made = World()
    task = made.add("a", resources=Resources(gpus=1))
    task.gpus = ()
    made.new_daemon()
    made.add("b", resources=Resources(gpus=1))
    assert made.running == ["a"]
    task.gpus = (0,)
    made.queue.adopt(task)
    made.queue.fill()
    assert made.tasks["b"].gpus == (1,)


def test_a_task_that_does_not_fit_this_machine_any_more_waits_and_holds_nobody_back():
    made = World(capacity=Capacity(cpus=2, memory_mb=10))
    made.add("a", resources=Resources(cpus=4), pools=["a"])
    made.add("b", resources=Resources(cpus=2))
    assert made.running == ["b"]
    assert made.reason("a") == (
        "needs 4 CPUs, and there are 2 in all; needs 1 place in pool a, and there is no such pool"
    )


# -- whatever happens

OPERATIONS = (
    ["add"] * 6 + ["end"] * 5 + ["fail", "again", "hold", "drain", "wait", "wait", "stop", "refuse", "serve", "restart"]
)
operations = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 1023), st.integers(0, 1023)), min_size=5, max_size=45
)


class History(World):
    """Makes of numbers what may happen, and checks every launch."""

    def launch(self, launch: Launch) -> None:
        task = self.tasks[launch.task_id]
        spec = task.spec
        others = [self.tasks[each] for each in self.queue.running if each != task.id]
        assert not self.queue.limits.draining
        assert task.batch not in self.queue.held
        assert task.record.execute_at is None or task.record.execute_at <= stamp(self.clock.now)
        assert task.record.retry_at is None or task.record.retry_at <= stamp(self.clock.now)
        assert not task.ending
        assert task.start_by is None or task.start_by > self.clock.boot
        assert len(others) + 1 <= self.limits.max_running
        assert len(self.queue.starting) <= self.limits.max_starting
        for pool, places in CAPACITY.pools.items():
            assert sum(pool in each.spec.pools for each in (task, *others)) <= places
        for what, there in (("cpus", 4), ("memory_mb", 1000), ("gpus", 3)):
            resources = [each.spec.resources for each in (task, *others) if each.spec.resources]
            assert sum(getattr(each, what) for each in resources) <= there
        assert len(task.gpus) == (spec.resources.gpus if spec.resources else 0)
        assert not set(task.gpus) & {index for each in others for index in each.gpus}
        assert set(task.gpus) <= set(CAPACITY.gpus)
        for each in spec.after:
            first = self.tasks[each.task]
            assert first.final
            assert each.on is Condition.END or first.record.outcome is Outcome.SUCCEEDED
        if task.entity is not None:
            assert all(each.entity != task.entity for each in others)
            line = [each for each in self.tasks.values() if each.entity == task.entity]
            assert all(each.seq > task.seq for each in line if each.record.state is State.PENDING)
        super().launch(launch)

    def act(self, name: str, one: int, two: int) -> None:
        waiting = [task.id for task in self.tasks.values() if task.waiting and not task.ending]
        candidates = waiting if name == "stop" else self.running
        chosen = candidates[one % len(candidates)] if candidates else None
        if chosen is not None:
            self._act_on(name, chosen, two)
        match name:
            case "add":
                self._add(one, two)
            case "hold":
                self.hold("xy"[one % 2], two % 2 == 0)
            case "drain":
                self.drain(one % 2 == 0)
            case "wait":
                self.advance(one % 8)
            case "refuse":
                self.refuse = one % 2 == 0
            case "serve":
                self.serve()
            case "restart":
                self.serve()
                self.queue.close()
                self.new_daemon()
        for task_id in list(self.queue.starting)[: two % 3]:
            self.queue.started(self.tasks[task_id])
        self.wake()
        for task in self.tasks.values():
            assert bool(self.queue.reason(task)) == task.waiting

    def _act_on(self, name: str, chosen: str, two: int) -> None:
        match name:
            case "end":
                self.end(chosen)
            case "fail":
                self.end(chosen, [Outcome.FAILED, Outcome.LOST, Outcome.CANCELLED][two % 3])
            case "again":
                self.again(chosen, two % 4)
            case "stop":
                self.end(chosen, Outcome.CANCELLED)

    def _add(self, one: int, two: int) -> None:
        needs = [None, None, Resources(cpus=1.5), Resources(cpus=4, memory_mb=800), Resources(gpus=1 + two % 2)]
        earlier = list(self.tasks)
        spec: dict = {"resources": needs[one % 5], "priority": two % 3 - 1, "retry": Retry()}
        if one % 5 == two % 5:
            spec["start_within_seconds"] = 1 + two % 9
        if one % 3 == 0:
            spec["pools"] = ["a"] if two % 2 else ["a", "b"]
        if one % 7 < 3:
            spec["entity"] = "efg"[two % 3]
        if earlier and one % 4 == 0:
            spec["after"] = after(earlier[two % len(earlier)], on=[*Condition][one % 8 // 4])
        at = self.clock.now + two % 16 if one % 11 == 0 else None
        self.add(f"t{len(self.tasks)}", batch=[None, "x", "y"][two % 3], at=at, **spec)

    def finish(self) -> None:
        """Nothing is added any more, everything is let go, and what runs ends."""
        self.refuse = False
        for batch in "xy":
            self.hold(batch, False)
        self.drain(False)
        for _ in range(20 + 5 * len(self.tasks)):
            self.serve()
            for task_id in self.running:
                self.end(task_id)
            self.advance(31)
        self.serve()


@settings(max_examples=250, deadline=None)
@given(operations, st.booleans())
def test_whatever_happens_no_rule_is_broken_and_nothing_waits_for_ever(happened, slow):
    made = History(Limits(max_running=4, max_starting=3), slow=slow)
    for operation in happened:
        made.act(*operation)
    made.finish()
    assert [task.id for task in made.tasks.values() if not task.final] == []
    unstarted = [task for task in made.tasks.values() if task.id not in made.launches]
    assert all(task.record.outcome is made.outcomes.get(task.id, Outcome.CANCELLED) for task in unstarted)
    late = [task for task in made.tasks.values() if task.record.outcome is Outcome.TIMED_OUT]
    assert all(task.spec.start_within_seconds for task in late)
    assert len(made.queue) == 0
    there = made.queue.room()
    assert {**there.free, "slot": 4} == {**there.total, "slot": 4}
