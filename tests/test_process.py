"""Processes by identity: seen truly whatever they are called, found with all that is below them, signalled by pidfd."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import wait_for

from task_runner.kernel import marks
from task_runner.lib import process, tree
from task_runner.lib.clock import boot_id
from task_runner.model.status import Identity

SLEEP = ["sleep", "120"]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts processes; all are ended, and their sessions with them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **options))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for each in started:
        try:
            os.killpg(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        each.wait()


def state(pid: int) -> str | None:
    seen = process.look(pid)
    return seen.state if seen else None


def tree_of(start: Start, *, depth: int, width: int) -> int:
    """A tree of sleeping processes; returns its root."""
    script = (
        "import os, sys, time\n"
        "def grow(depth):\n"
        "    for _ in range(int(sys.argv[2])):\n"
        "        if depth and os.fork() == 0:\n"
        "            return grow(depth - 1)\n"
        "grow(int(sys.argv[1]))\n"
        "time.sleep(120)\n"
    )
    root = start(sys.executable, "-S", "-c", script, str(depth), str(width)).pid
    size = sum(width**level for level in range(1, depth + 1))
    wait_for(lambda: len(process.descendants(root)) == size, "the tree has grown")
    return root


@pytest.fixture(params=["listed", "by parent"])
def way(request, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find descendants: the kernel lists children, or /proc is searched for parents."""
    lists = process._kernel_lists_children()
    if request.param == "listed" and not lists:
        pytest.skip("this kernel does not list the children of a process (CONFIG_PROC_CHILDREN)")
    monkeypatch.setattr(process, "_kernel_lists_children", lambda: request.param == "listed")
    return str(request.param)


# -- looking


def test_oneself_is_seen():
    seen = process.look(os.getpid())
    assert seen is not None
    assert (seen.pid, seen.ppid, seen.alive) == (os.getpid(), os.getppid(), True)
    assert seen.start_time == process.identify(os.getpid()).start_time


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**4000], ids=["zero", "negative", "large", "huge"])
def test_a_pid_that_cannot_be_is_nobodys(pid: int):
    assert process.look(pid) is None
    assert not process.is_alive(Identity(pid=pid, start_time=1, boot_id=boot_id()))
    assert process.open_pidfd(Identity(pid=pid, start_time=1, boot_id=boot_id())) is None
    with pytest.raises(ProcessLookupError):
        process.identify(pid)


@pytest.mark.parametrize("name", ["a b", "x) S 1 (y", "))))", "((", "1 2 3", "\n", ") Z 1 1"])
def test_a_name_of_any_kind_does_not_confuse(start: Start, name: str):
    def rename() -> None:
        ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        rename()
        os.write(writing, b"x")
        signal.pause()
    try:
        os.read(reading, 1)
        seen = process.look(pid)
        assert seen is not None
        assert (seen.command, seen.ppid) == (name, os.getpid())
        assert seen.alive
        assert process.is_alive(process.identify(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_a_zombie_is_dead(start: Start):
    pid = start("true").pid
    wait_for(lambda: state(pid) == "Z", "it is a zombie")
    seen = process.look(pid)
    assert seen is not None and not seen.alive
    assert not process.is_alive(process.identify(pid))
    assert process.open_pidfd(process.identify(pid)) is None
    assert not process.send(seen, signal.SIGKILL)


# -- identity


def test_only_the_very_process_is_alive(start: Start):
    me = process.identify(start(*SLEEP).pid)
    assert process.is_alive(me)
    for other in (
        Identity(pid=me.pid, start_time=me.start_time + 1, boot_id=me.boot_id),
        Identity(pid=me.pid, start_time=me.start_time, boot_id="another boot"),
    ):
        assert not process.is_alive(other)
        assert process.open_pidfd(other) is None


def test_a_signal_is_not_sent_to_who_is_somebody_else(start: Start):
    pid = start(*SLEEP).pid
    seen = process.look(pid)
    assert seen is not None
    assert not process.send(seen._replace(start_time=1), signal.SIGKILL)
    assert state(pid) not in ("Z", None)
    assert process.send(seen, signal.SIGKILL)
    wait_for(lambda: state(pid) == "Z", "the right one got it")


# -- descendants


def test_descendants_are_found_parents_first(start: Start, way: str):
    root = tree_of(start, depth=3, width=2)
    found = process.descendants(root)
    place = {each.pid: index for index, each in enumerate(found)}
    assert len(place) == 14
    assert all(each.ppid == root or place[each.ppid] < place[each.pid] for each in found)
    assert process.descendants(found[-1].pid) == []


def test_descendants_of_several_roots(start: Start, way: str):
    roots = [tree_of(start, depth=1, width=2), tree_of(start, depth=2, width=1)]
    assert len(process.descendants(*roots)) == 4
    assert process.descendants() == []


def test_descendants_of_who_is_gone(start: Start, way: str):
    ended = start("true")
    ended.wait()
    assert process.descendants(ended.pid) == []


# -- whole trees


def test_a_tree_is_frozen_thawed_and_killed(start: Start, way: str):
    root = tree_of(start, depth=3, width=2)
    pids = {each.pid for each in process.descendants(root)}
    assert {each.pid for each in tree.freeze(root)} == pids
    wait_for(lambda: {state(pid) for pid in pids} == {"T"}, "all are stopped")
    assert tree.freeze(root) == []  # nobody is left to stop
    tree.thaw(root)
    wait_for(lambda: {state(pid) for pid in pids} == {"S"}, "all go on")
    assert {each.pid for each in tree.kill(root)} == pids
    wait_for(lambda: all(state(pid) in ("Z", None) for pid in pids), "all are dead")
    wait_for(lambda: state(root) == "S", "the root goes on: it is not below itself")


def test_what_carries_a_mark_is_found_and_killed_with_all_below(start: Start):
    mark = f"test-{os.getpid()}-{id(start)}"
    env = {**os.environ, process.MARK: mark}
    parent = start("sh", "-c", "env -i sleep 120 & wait", env=env)
    start("sleep", "120", env={**os.environ, process.MARK: mark + "0"})  # another task
    wait_for(lambda: "sleep" in {each.command for each in process.marked(mark)}, "the bare child runs")
    pids = {each.pid for each in process.marked(mark)}
    assert parent.pid in pids and len(pids) == 2
    assert {each.pid for each in tree.kill_marked(mark)} == pids
    wait_for(lambda: process.marked(mark) == [], "all are dead")
    assert len(process.marked(mark + "0")) == 1


def test_who_has_just_begun_is_found_by_its_mark(start: Start):
    for number in range(60):  # about one of ten is in the middle of its exec
        mark = f"test-{os.getpid()}-{id(start)}-{number}"
        began = start("sleep", "120", env={**os.environ, process.MARK: mark})
        assert [each.pid for each in process.marked(mark)] == [began.pid]
        began.kill()


def test_who_is_in_an_exec_is_told_from_who_has_no_environment():
    def stat(size: int, environment_ends: int) -> bytes:
        fields = ["R", *["1"] * 19, str(size), *["0"] * 27, str(environment_ends), "0"]
        return f"7 (a ) b) {' '.join(fields)}\n".encode()

    assert marks.in_exec(stat(180224, 0))
    assert not marks.in_exec(stat(0, 0))  # a kernel's thread, a zombie
    assert not marks.in_exec(stat(180224, 140728194764777))  # no variable at all has an end as well
    assert not marks.in_exec(b"")


def test_who_looks_for_a_mark_does_not_find_himself(start: Start):
    mark = f"test-{os.getpid()}-{id(start)}"
    script = f"from task_runner.lib import process, tree; print(process.marked('{mark}'), tree.kill_marked('{mark}'))"
    env = {**os.environ, process.MARK: mark, "PYTHONPATH": str(Path(process.__file__).parents[2])}
    seeker = start(sys.executable, "-c", script, env=env, stdout=subprocess.PIPE)
    assert seeker.communicate()[0] == b"[] []\n"
