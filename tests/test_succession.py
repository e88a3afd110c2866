"""Runners that follow dead ones: what they inherit, and that of all that come one wins (promise 2)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from attempts import HandClock
from conftest import ROOT

from task_runner.engines import sweep
from task_runner.environment.base import Sighting
from task_runner.environment.memory import MemoryEnvironment
from task_runner.errors import NotFound
from task_runner.lib import inheriting, lock, process, statusfile
from task_runner.lib.clock import SystemClock, stamp
from task_runner.lib.succession import Now, add, inherit, under_way
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, ContainerNote, Heartbeat, Identity, Receipt, Status, Usage
from task_runner.service.classify import Orphaned, Vanished, classify
from task_runner.service.leftovers import may_have_left
from task_runner.service.succession import AGAIN, DEATHS, SETTLED, Succession
from task_runner.service.task import Record, Task

ID = "0123456789abcdef"
START = 1_800_000_000.0


def told(action: ActionStatus, **more: object) -> Status:
    """What a runner said last, 10 s after its start by both clocks."""
    return Status(
        **{
            "task_id": ID,
            "runner": Identity(pid=2**22 + 1, start_time=5, boot_id="this"),
            "state": State.RUNNING,
            "current_action_idx": action.index,
            "actions": [action],
            "started_at": stamp(START),
            "heartbeat": Heartbeat(at=stamp(START + 10), monotonic=110.0),
            **more,
        }
    )


RUNS = ActionStatus(index=0, machine="container", state="running", tries=1, started_at=stamp(START + 1))
#: a minute after that, while somebody has set the wall clock an hour ahead
NOW = Now(time=START + 3670, monotonic=170.0, since_boot=1000.0, boot_id="this", ticks_a_second=100)


@pytest.mark.parametrize(
    ("status", "lives_on"),
    [
        (None, False),
        (told(RUNS), True),
        (told(RUNS, state=State.PROVISIONING), True),
        (told(RUNS, state=State.PAUSED), True),
        (told(RUNS, state=State.STOPPING), True),
        (told(replace(RUNS, machine="process")), False),
        (told(replace(RUNS, state="waiting")), False),
        (told(replace(RUNS, state="exited")), False),
        (told(RUNS, current_action_idx=-1), False),
        (told(RUNS, current_action_idx=1), False),
        (told(RUNS, state=State.EXITED, outcome=Outcome.FAILED), False),
    ],
)
def test_what_lives_on_without_its_runner(status, lives_on):
    assert (under_way(status) is not None) is lives_on


def test_limits_go_on_and_no_set_clock_counts():
    legacy = inherit(told(RUNS), RUNS, NOW)
    assert (legacy.spent, legacy.try_spent) == (70.0, 69.0)
    assert (legacy.paused, legacy.stopping) == (None, None)


def test_after_a_restart_of_the_machine_the_wall_clock_is_all_there_is():
    assert inherit(told(RUNS), RUNS, replace(NOW, boot_id="another")).spent == 3670.0


def test_pauses_do_not_count():
    status = told(RUNS, state=State.PAUSED, paused_at=stamp(START + 8), paused_seconds=3.0)
    legacy = inherit(status, RUNS, NOW)
    assert (legacy.spent, legacy.paused) == (5.0, 62.0)


def test_a_later_try_has_its_own_time():
    first = Identity(pid=1, start_time=99_000, boot_id="this")
    assert inherit(told(RUNS), replace(RUNS, tries=2, process=first), NOW).try_spent == 10.0


@pytest.mark.parametrize(
    ("receipt", "reason"),
    [(None, "stop"), (Receipt(reason="timeout"), "timeout"), (Receipt(reason="stalled"), "stalled"), (Receipt(reason="leftovers"), "stop")],
)
def test_what_was_being_stopped_is_stopped_for_the_same_reason(receipt, reason):
    assert inherit(told(RUNS, state=State.STOPPING, receipt=receipt), RUNS, NOW).stopping == reason


@pytest.mark.parametrize(
    ("note", "receipt", "cleanup", "over"),
    [
        (None, None, False, False),
        ({"stage": "running"}, None, False, False),
        ({"stage": "ended"}, None, False, False),  # nobody knows how
        ({"stage": "ended", "exit_code": 0}, None, False, True),
        ({"stage": "ended", "signal": "SIGKILL"}, Receipt(reason="stop", finished_at=stamp(START)), False, True),
        ({"stage": "ended", "signal": "SIGKILL"}, Receipt(reason="stop"), False, False),
        ({"stage": "ended", "exit_code": 0}, None, True, False),
    ],
)
def test_a_container_that_ended_before_it_was_stopped_has_not_been_stopped(note, receipt, cleanup, over):
    container = None if note is None else ContainerNote(engine="podman", name="c", image="i", **note)
    action = replace(RUNS, container=container, cleanup=cleanup)
    assert inherit(told(action, state=State.STOPPING, receipt=receipt), action, NOW).over is over


def test_a_cleanup_has_the_time_that_is_left_of_it():
    tidy = replace(RUNS, cleanup=True, started_at=stamp(START + 4))
    assert inherit(told(tidy, paused_seconds=3.0), tidy, NOW).spent == 66.0


def test_usage_of_two_runners_is_counted_together():
    one = Usage(cpu_seconds=1.0, user_seconds=0.5, system_seconds=0.5, max_rss_bytes=7, read_bytes=1, written_bytes=2)
    assert add(one, replace(one, max_rss_bytes=None)) == Usage(
        cpu_seconds=2.0, user_seconds=1.0, system_seconds=1.0, max_rss_bytes=7, read_bytes=2, written_bytes=4
    )


# -- what the daemon makes of it


def test_what_lives_on_is_not_lost():
    dead = Sighting(claimed=True, runner=Identity(pid=1, start_time=1, boot_id="b"), status=told(RUNS))
    assert isinstance(classify(ID, 1, State.RUNNING, dead), Orphaned)
    assert isinstance(classify(ID, 1, State.RUNNING, replace(dead, earlier_boot=True)), Orphaned)
    assert isinstance(classify(ID, 1, State.RUNNING, replace(dead, barred=True)), Vanished)
    assert isinstance(classify(ID, 1, State.RUNNING, replace(dead, status=None), told(RUNS)), Vanished)
    process_task = told(replace(RUNS, machine="process"))
    assert isinstance(classify(ID, 1, State.RUNNING, replace(dead, status=process_task)), Vanished)


def task() -> Task:
    record = Record(state=State.RUNNING, created_at=stamp(START))
    return Task(id=ID, seq=1, spec_json='{"actions": []}', name=None, tags={}, record=record)


def runner(number: int) -> Identity:
    return Identity(pid=number, start_time=number, boot_id="b")


class Launches(MemoryEnvironment):
    def launch(self, launch):
        self.launches.append(launch)


def test_a_launch_that_nothing_comes_of_is_repeated_for_as_long_as_it_takes():
    clock, environment = HandClock(START), Launches(HandClock(START))
    succession, mine = Succession(environment, clock, lambda _task: None), task()
    mine.delivered = True
    for _ in range(200):
        assert succession.follow(mine, runner(1))
        clock.now += AGAIN / 2
    assert mine.delivered is False
    assert all(each.take_up for each in environment.launches)
    assert 5 < len(environment.launches) < 50


def test_a_secret_that_is_gone_is_waited_for():
    clock, environment, known = HandClock(START), Launches(HandClock(START)), list[str]()

    def grant(_task: Task) -> None:
        if not known:
            raise NotFound("the server knows no secret 'word'")

    succession = Succession(environment, clock, grant)
    assert succession.follow(task(), runner(1))
    assert environment.launches == []
    known.append("word")
    clock.now += 60
    assert succession.follow(task(), runner(1))
    assert len(environment.launches) == 1


def test_runners_that_die_one_after_the_other_are_not_followed_for_ever():
    clock, environment = HandClock(START), Launches(HandClock(START))
    succession, mine = Succession(environment, clock, lambda _task: None), task()
    for number in range(DEATHS):
        assert succession.follow(mine, runner(number))
        clock.now += 1
    assert not succession.follow(mine, runner(DEATHS))
    clock.now += SETTLED
    assert succession.follow(mine, runner(DEATHS + 1))  # this one has lived for a while


def test_engines_are_asked_for_leftovers_only_where_there_may_be_some():
    ended = told(RUNS, state=State.EXITED, outcome=Outcome.FAILED)
    record = Record(state=State.EXITED, outcome=Outcome.FAILED, created_at="", status=ended)
    assert not may_have_left(record)
    assert may_have_left(replace(record, status=None))
    assert may_have_left(replace(record, outcome=Outcome.LOST))
    made = ContainerNote(engine="podman", name="c", image="i")

    def with_container(note: ContainerNote, code: int | None) -> Record:
        return replace(record, status=replace(ended, actions=[replace(RUNS, container=note, exit_code=code)]))

    assert not may_have_left(with_container(made, None))  # there was no image
    assert not may_have_left(with_container(replace(made, image_id="x"), 1))
    assert may_have_left(with_container(replace(made, image_id="x"), None))  # the engine may be making it still


def test_an_engine_that_is_not_up_yet_is_asked_again(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "available", lambda _sockets: [])
    monkeypatch.setattr("sys.stdin", io.StringIO('{"daemon": "d", "engines": {}}\n'))
    sweep.main()
    assert json.loads(capsys.readouterr().out)["errors"] == ["no engine answers in the usual places"]


# -- the lock


@pytest.fixture
def dead(tmp_path: Path) -> AttemptDirectory:
    """An attempt whose runner is dead while its container goes on."""
    directory = AttemptDirectory(str(tmp_path / ID), 1)
    directory.create()
    held = lock.claim(directory, runner(2**22 + 1), START, 1.0, [3])
    statusfile.write_control(directory.status, statusfile._encode(told(RUNS)))
    held.close()
    return directory


def me() -> Identity:
    return process.identify(os.getpid())


def test_of_all_that_follow_a_dead_runner_one_wins(dead):
    first, _legacy = inheriting.inherit(dead, SystemClock())
    with pytest.raises(lock.AlreadyClaimed):
        inheriting.inherit(dead, SystemClock())
    held = first.take(me(), START, 2.0, [3])
    probe = lock.probe(dead)
    assert (probe.held, probe.runner, probe.gpus, probe.barred) == (True, me(), (3,), False)
    with pytest.raises(lock.AlreadyClaimed):
        lock.Inheritance(dead)
    assert not lock.bar(dead)
    held.close()
    assert not lock.probe(dead).held


def test_who_opened_the_old_file_sees_a_live_runner(dead):
    with open(dead.lock) as before:
        held = lock.Inheritance(dead).take(me(), START, 2.0)
        assert lock._is_held(before.fileno())
        held.close()
        assert not lock._is_held(before.fileno())


def test_whoever_comes_after_the_end_starts_nothing(dead):
    first, _legacy = inheriting.inherit(dead, SystemClock())
    first.take(me(), START, 2.0).close()
    statusfile.write_control(dead.status, statusfile._encode(told(RUNS, state=State.EXITED, outcome=Outcome.FAILED)))
    with pytest.raises(lock.AlreadyClaimed):
        inheriting.inherit(dead, SystemClock())
    lock.Inheritance(dead).close()  # nor does it keep the lock


def test_nobody_follows_what_is_barred(dead):
    assert lock.bar(dead)
    probe = lock.probe(dead)
    assert (probe.barred, probe.held, probe.claimed, probe.void) == (True, False, True, False)
    assert (probe.runner, probe.gpus) == (runner(2**22 + 1), (3,))
    with pytest.raises(lock.AlreadyClaimed):
        lock.Inheritance(dead)
    assert lock.bar(dead)


def test_nobody_follows_a_runner_that_lives_or_never_was(tmp_path):
    directory = AttemptDirectory(str(tmp_path / ID), 1)
    directory.create()
    with pytest.raises(lock.AlreadyClaimed):
        lock.Inheritance(directory)
    held = lock.claim(directory, me(), START, 1.0)
    with pytest.raises(lock.AlreadyClaimed):
        lock.Inheritance(directory)
    held.close()
    lock.Inheritance(directory).close()


def test_a_void_attempt_is_nobodys(tmp_path):
    directory = AttemptDirectory(str(tmp_path / ID), 1)
    directory.create()
    assert lock.void(directory)
    with pytest.raises(lock.AlreadyClaimed):
        lock.Inheritance(directory)


_TRY = """
import sys
from task_runner.lib import inheriting, lock, process
from task_runner.lib.clock import SystemClock
from task_runner.lib.taskdir import AttemptDirectory
import os
sys.stdin.read(1)
try:
    inheritance, _legacy = inheriting.inherit(AttemptDirectory(sys.argv[1], 1), SystemClock())
except lock.AlreadyClaimed:
    print("late", flush=True)
else:
    held = inheritance.take(process.identify(os.getpid()), 1.0, 1.0)
    print("won", flush=True)
sys.stdin.read()
"""


def test_many_processes_at_once_and_one_of_them_wins(dead):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    tries = [
        subprocess.Popen(
            [sys.executable, "-c", _TRY, dead.task], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    try:
        for each in tries:
            each.stdin.write("x")
            each.stdin.flush()
        said = sorted(each.stdout.readline().strip() for each in tries)
    finally:
        for each in tries:
            each.communicate()
    assert said == ["late"] * 5 + ["won"]


