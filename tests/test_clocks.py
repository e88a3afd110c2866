"""No false alarms (promise 8): what clocks, a busy machine or a stopped daemon do is not taken for a stalled task.

The fixture's daemon has heartbeats of 0.5 s, scans of 0.5 s, and calls a runner stalled after 2 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from conftest import Daemon, faketime_library, wait_for

from task_runner.lib import lock
from task_runner.model.status import Heartbeat

pytestmark = pytest.mark.slow

HOLD = "while [ ! -e go ]; do sleep 0.1; done; exit 3"


def held_task(daemon: Daemon) -> str:
    task_id = daemon.submit(shell=HOLD)
    daemon.wait_state(task_id, "running")
    return task_id


def let_go(daemon: Daemon, task_id: str) -> dict:
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    return daemon.wait(task_id)


def pulse(daemon: Daemon, task_id: str) -> Heartbeat:
    # what is read while it is being written may be none
    found = wait_for(lambda: lock.probe(daemon.state.tasks.attempt(task_id, 1)).heartbeat, "there is a pulse")
    assert isinstance(found, Heartbeat)
    return found


def wait_beats(daemon: Daemon, task_id: str, seconds: float) -> None:
    """Wait until the runner has beaten for so long, on the monotonic clock."""
    first = pulse(daemon, task_id).monotonic
    wait_for(lambda: pulse(daemon, task_id).monotonic > first + seconds, "the pulse goes on")


def is_false(stalled: dict | None) -> bool:
    """A runner that a busy disk keeps waiting is stalled indeed."""
    return stalled is not None and "it waits in the kernel" not in stalled["reason"]


def was_called_stalled(daemon: Daemon) -> bool:
    with contextlib.closing(sqlite3.connect(daemon.state.database)) as db:
        events = [json.loads(row[0]) for row in db.execute("SELECT data FROM events")]
    return any(is_false(event["stalled"]) for event in events)


@pytest.mark.needs("libfaketime")
def test_a_wall_clock_set_by_an_hour(make_daemon, tmp_path):
    library = faketime_library()
    assert library is not None
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    fake = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",  # seconds; without it the file is read for every look at a clock or a file
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    daemon = make_daemon().start(**fake)
    task_id = held_task(daemon)
    for before, jump in ((0, 3600), (3600, -3600)):
        at = datetime.fromisoformat(pulse(daemon, task_id).at)
        offset.write_text(f"{jump:+}\n")
        moved = timedelta(seconds=jump - before)

        def clock_has_moved(there: datetime = at + moved) -> bool:
            return abs(datetime.fromisoformat(pulse(daemon, task_id).at) - there) < timedelta(minutes=20)

        wait_for(clock_has_moved, "the runner's wall clock has moved")
        wait_beats(daemon, task_id, 3.0)
        assert daemon.task(task_id)["state"] == "running"
        assert not is_false(daemon.task(task_id)["stalled"])
        daemon.restart(**fake)
        wait_beats(daemon, task_id, 3.0)
        assert not is_false(daemon.task(task_id)["stalled"])
        assert not was_called_stalled(daemon)
    assert let_go(daemon, task_id)["exitCode"] == 3


def test_a_daemon_that_stood_still(daemon):
    task_id = held_task(daemon)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        wait_beats(daemon, task_id, 5.0)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    wait_beats(daemon, task_id, 3.0)
    assert daemon.task(task_id)["state"] == "running"
    assert not was_called_stalled(daemon)
    assert let_go(daemon, task_id)["exitCode"] == 3


@pytest.mark.usefixtures("executed_launchers")
def test_a_launcher_and_a_daemon_that_stood_still(daemon):
    task_id = held_task(daemon)
    stopped = [pid for pid in (daemon.launcher_pid, daemon.pid) if pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_beats(daemon, task_id, 4.0)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    second = daemon.submit("true")
    assert daemon.wait(second)["outcome"] == "succeeded"
    assert not was_called_stalled(daemon)


@contextlib.contextmanager
def busy(cpu: int) -> Iterator[None]:
    """Keep one processor busy, for 40 s at most."""
    loop = f"import os,time\nos.sched_setaffinity(0, {{{cpu}}})\nend=time.monotonic()+40\nwhile time.monotonic()<end: pass"
    hog = subprocess.Popen([sys.executable, "-c", loop])
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


def test_a_runner_that_gets_no_processor(make_daemon):
    daemon = make_daemon(heartbeat_seconds=0.1, stalled_after_seconds=0.5, scan_seconds=0.2).start()
    task_id = held_task(daemon)
    runner = daemon.runner_pid(task_id)
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(runner, {cpu})
    os.sched_setscheduler(runner, os.SCHED_IDLE, os.sched_param(0))
    began = time.monotonic()
    with busy(cpu):
        wait_for(lambda: time.monotonic() > began + 2, "four times the limit has passed")
        assert daemon.task(task_id)["state"] == "running"
        assert not is_false(daemon.task(task_id)["stalled"])
    assert not was_called_stalled(daemon)
    assert let_go(daemon, task_id)["exitCode"] == 3


def test_a_stopped_runner_is_called_stalled_with_the_reason_until_it_goes_on(daemon):
    task_id = held_task(daemon)
    runner = daemon.runner_pid(task_id)
    os.kill(runner, signal.SIGSTOP)
    task = wait_for(lambda: (t := daemon.task(task_id))["stalled"] and t, "it is called stalled")
    assert "it is stopped (SIGSTOP, or a debugger)" in task["stalled"]["reason"]
    assert task["state"] == "running"
    listed = daemon.http.get("/v1/tasks?stalled=true").json()
    assert [each["taskId"] for each in listed] == [task_id]
    os.kill(runner, signal.SIGCONT)
    wait_for(lambda: daemon.task(task_id)["stalled"] is None, "the mark is gone")
    assert let_go(daemon, task_id)["exitCode"] == 3


def test_a_stopped_runner_is_called_stalled_by_the_next_daemon_too(daemon):
    task_id = held_task(daemon)
    runner = daemon.runner_pid(task_id)
    os.kill(runner, signal.SIGSTOP)
    try:
        daemon.restart()
        task = wait_for(lambda: (t := daemon.task(task_id))["stalled"] and t, "it is called stalled")
        assert "no sign of life" in task["stalled"]["reason"]
    finally:
        os.kill(runner, signal.SIGCONT)
    assert let_go(daemon, task_id)["exitCode"] == 3
