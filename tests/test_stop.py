"""Stop means stopped (promise 5): nothing that a task has started lives, and the receipt says what was done."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Daemon, wait_for

from task_runner.lib import process

EVERY_KIND = ["plain", "deaf", "daemon", "stopped", "renamed", "bare"]
#: those that do not end by the polite signal
STUBBORN = ["deaf", "daemon", "renamed", "bare"]


def carrying(marker: str) -> list[int]:
    """Every live process that has the marker in its environment or its arguments, as /proc shows it."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = Path(f"/proc/{name}/environ").read_bytes() + Path(f"/proc/{name}/cmdline").read_bytes()
            state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in text and state not in "ZX":
            found.append(int(name))
    return found


class Family:
    """A task of many processes."""

    def __init__(self, daemon: Daemon, directory: Path, kinds: list[str], **spec: Any) -> None:
        directory.mkdir()
        self.daemon, self.directory, self.kinds = daemon, directory, kinds
        self.marker = f"marker-{uuid.uuid4().hex}"
        command = [sys.executable, str(ROOT / "tests/tools/family.py"), str(directory), self.marker, *kinds]
        self.task_id = daemon.submit(*command, env={"FAMILY": self.marker}, **spec)

    def wait_settled(self) -> Family:
        expected = len(self.kinds) + 1
        wait_for(lambda: len(list(self.directory.iterdir())) >= expected, "every member is settled")
        if "bare" in self.kinds:
            wait_for(lambda: self.is_bare(self.pid("bare")), "the bare one has become another program")
        if "stopped" in self.kinds:
            wait_for(lambda: self.state("stopped") == "T", "the stopped one has stopped itself")
        return self

    def pid(self, kind: str) -> int:
        (file,) = self.directory.glob(f"{kind}.*")
        return int(file.suffix[1:])

    def state(self, kind: str) -> str | None:
        seen = process.look(self.pid(kind))
        return seen.state if seen else None

    def is_bare(self, pid: int) -> bool:
        # in the middle of its exec it has neither, and after that its marker as its name
        named = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(self.marker.encode())
        return named and Path(f"/proc/{pid}/environ").read_bytes() == b""

    def pids(self) -> set[int]:
        return {int(file.suffix[1:]) for file in self.directory.iterdir()}

    def stop(self, **body: Any) -> dict[str, Any]:
        response = self.daemon.post(f"/v1/tasks/{self.task_id}/stop", body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def ending(self) -> dict[str, Any]:
        """The task when it is over; nothing of it may live by then, not a moment later."""
        task = self.daemon.wait(self.task_id)
        assert carrying(self.marker) == []
        assert self.daemon.alive(self.task_id) == []
        return task


Families = Callable[..., Family]


@pytest.fixture
def family(make_daemon, tmp_path) -> Iterator[Families]:
    families: list[Family] = []
    daemon = make_daemon().start()

    def make(*kinds: str, **spec: Any) -> Family:
        families.append(Family(daemon, tmp_path / f"family{len(families)}", list(kinds), **spec))
        return families[-1]

    yield make
    daemon.close()
    for each in families:
        for pid in carrying(each.marker):
            with contextlib.suppress(ProcessLookupError):  # the daemon's end may just have ended it
                os.kill(pid, signal.SIGKILL)


def note_pids(notes: list[dict[str, Any]]) -> set[int]:
    return {note["pid"] for note in notes}


def test_stop_ends_every_kind_of_process_and_the_receipt_names_them(family: Families):
    tree = family(*EVERY_KIND, graceSeconds=0.5).wait_settled()
    everyone, stubborn = tree.pids(), {tree.pid(kind) for kind in STUBBORN}
    tree.stop()
    task = tree.ending()
    receipt = task["receipt"]
    assert (task["state"], task["outcome"], task["signal"]) == ("exited", "cancelled", "SIGTERM")
    assert (receipt["reason"], receipt["signal"], receipt["graceSeconds"]) == ("stop", "SIGTERM", 0.5)
    assert note_pids(receipt["signalled"]) == everyone
    assert receipt["signalledCount"] == len(everyone)
    assert note_pids(receipt["killed"]) == stubborn
    assert receipt["killedCount"] == len(stubborn)
    assert receipt["survivors"] == []
    assert "not (a) task) S" in {note["command"] for note in receipt["killed"]}
    assert receipt["requestedAt"] <= receipt["finishedAt"] <= task["finishedAt"]


def test_a_receipt_of_many_processes_counts_all_and_names_twenty(family: Families):
    tree = family(*["deaf"] * 30, graceSeconds=3600).wait_settled()
    tree.stop()
    wait_for(lambda: len(carrying(tree.marker)) == 30, "the parent has heeded the polite signal")
    tree.stop(graceSeconds=0)
    receipt = tree.ending()["receipt"]
    assert (receipt["signalledCount"], receipt["killedCount"]) == (31, 30)
    assert (len(receipt["signalled"]), len(receipt["killed"])) == (20, 20)


def test_stop_ends_a_fork_storm(family: Families):
    tree = family("storm", graceSeconds=0.1)
    wait_for(lambda: len(list(tree.directory.glob("storm.*"))) >= 20, "the storm has begun")
    tree.stop()
    task = tree.ending()
    assert task["outcome"] == "cancelled"
    assert task["receipt"]["survivors"] == []
    assert task["receipt"]["killedCount"] >= 1


def test_what_a_command_leaves_behind_is_cleared_when_it_ends(family: Families):
    tree = family("plain", "daemon", "deaf", "stopped", "bare", graceSeconds=0.3).wait_settled()
    left = tree.pids() - {tree.pid("parent")}
    os.kill(tree.pid("parent"), signal.SIGKILL)
    task = tree.ending()
    assert (task["outcome"], task["exitCode"], task["signal"]) == ("failed", None, "SIGKILL")
    receipt = task["receipt"]
    assert receipt["reason"] == "leftovers"
    assert note_pids(receipt["signalled"]) == left
    assert note_pids(receipt["killed"]) == {tree.pid(kind) for kind in ("daemon", "deaf", "bare")}


def test_leftovers_do_not_change_the_ending_and_the_next_action_runs(daemon: Daemon):
    first = {"machine": "process", "parameters": {"shell": "setsid sleep 600 & exit 0"}}
    second = {"machine": "process", "parameters": {"command": ["sh", "-c", "exit 6"]}}
    task_id = daemon.submit(actions=[first, second], graceSeconds=5)
    task = daemon.wait(task_id)
    assert [action["exitCode"] for action in task["actions"]] == [0, 6]
    assert (task["outcome"], task["exitCode"], task["receipt"]["reason"]) == ("failed", 6, "leftovers")
    assert daemon.alive(task_id) == []


def test_a_second_stop_shortens_the_grace(family: Families):
    tree = family("deaf", graceSeconds=3600).wait_settled()
    tree.stop()
    tree.daemon.wait_state(tree.task_id, "stopping")  # told before the signals are sent, and answered after a while in any case
    wait_for(lambda: carrying(tree.marker) == [tree.pid("deaf")], "the parent heeds the polite signal")
    tree.stop(graceSeconds=0)
    task = tree.ending()
    assert task["outcome"] == "cancelled"
    assert note_pids(task["receipt"]["killed"]) == {tree.pid("deaf")}


def test_a_second_stop_does_not_lengthen_the_grace(family: Families):
    tree = family("deaf", graceSeconds=1).wait_settled()
    tree.stop()
    tree.stop(graceSeconds=3600)
    assert tree.ending()["outcome"] == "cancelled"


def test_signal_and_grace_can_be_chosen_with_the_request(daemon: Daemon):
    script = "trap 'exit 42' USR1; trap '' TERM; echo ready; for i in $(seq 2000); do sleep 0.05; done"
    task_id = daemon.submit("sh", "-c", script, graceSeconds=3600)
    wait_for(lambda: daemon.output(task_id), "the trap is set")
    daemon.post(f"/v1/tasks/{task_id}/stop", {"signal": "SIGUSR1", "graceSeconds": 50})
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("cancelled", 42)
    receipt = task["receipt"]
    assert (receipt["signal"], receipt["graceSeconds"], receipt["killedCount"]) == ("SIGUSR1", 50, 0)


def test_the_spec_names_the_polite_signal(daemon: Daemon):
    script = "trap 'exit 43' INT; trap '' TERM; echo ready; for i in $(seq 2000); do sleep 0.05; done"
    task_id = daemon.submit("sh", "-c", script, stopSignal="SIGINT")
    wait_for(lambda: daemon.output(task_id), "the trap is set")
    daemon.post(f"/v1/tasks/{task_id}/stop")
    task = daemon.wait(task_id)
    assert (task["exitCode"], task["receipt"]["signal"], task["receipt"]["graceSeconds"]) == (43, "SIGINT", 10)


def test_stop_of_a_paused_task(family: Families):
    tree = family("plain", "deaf", graceSeconds=0.3).wait_settled()
    tree.daemon.wait_state(tree.task_id, "running")
    tree.daemon.post(f"/v1/tasks/{tree.task_id}/pause")
    tree.daemon.wait_state(tree.task_id, "paused")
    tree.stop()
    task = tree.ending()
    assert (task["outcome"], task["pausedAt"]) == ("cancelled", None)
    assert task["pausedSeconds"] > 0
    assert note_pids(task["receipt"]["killed"]) == {tree.pid("deaf")}


def test_a_stopped_command_runs_its_handler_before_it_ends(daemon: Daemon):
    script = "trap 'echo bye; exit 9' TERM; echo ready; for i in $(seq 2000); do sleep 0.05; done"
    task_id = daemon.submit("sh", "-c", script)
    wait_for(lambda: daemon.output(task_id), "the trap is set")
    pid = daemon.wait_state(task_id, "running")["actions"][0]["process"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    daemon.post(f"/v1/tasks/{task_id}/stop")
    assert daemon.wait(task_id)["exitCode"] == 9
    assert daemon.output(task_id).endswith(b"bye\n")


def test_stop_reaches_a_runner_under_sigstop(family: Families):
    tree = family("daemon", graceSeconds=0.2).wait_settled()
    os.kill(tree.daemon.runner_pid(tree.task_id), signal.SIGSTOP)
    tree.stop()
    task = tree.ending()
    assert (task["outcome"], task["receipt"]["killedCount"]) == ("cancelled", 1)


def test_a_time_limit_stops_the_whole_tree(family: Families):
    tree = family("plain", "daemon", graceSeconds=0.3, timeoutSeconds=2)
    task = tree.ending()
    assert (task["outcome"], task["receipt"]["reason"]) == ("timed_out", "timeout")


@pytest.mark.parametrize("daemon_dies_too", [False, True])
def test_what_a_killed_runner_leaves_is_cleared_and_the_task_is_lost(family: Families, daemon_dies_too: bool):
    # a double fork with an empty environment is not here: nothing but a cgroup could tell whose it is
    tree = family("plain", "deaf", "daemon", "stopped", "renamed", "bare").wait_settled()
    left, runner = tree.pids(), tree.daemon.runner_pid(tree.task_id)
    tree.daemon.wait_state(tree.task_id, "running")
    if daemon_dies_too:
        tree.daemon.kill()
    os.kill(runner, signal.SIGKILL)
    if daemon_dies_too:
        wait_for(lambda: not (seen := process.look(runner)) or not seen.alive, "the runner is dead")
        assert set(carrying(tree.marker)) == left
        tree.daemon.restart()
    task = tree.ending()
    assert (task["state"], task["outcome"], task["exitCode"], task["signal"]) == ("lost", "lost", None, None)
    assert f"runner (pid {runner}) ended without saying how" in task["error"]
    assert "last reported state: running" in task["error"]
    assert "last sign of life: 2" in task["error"]
    receipt = task["receipt"]
    assert (receipt["reason"], receipt["signal"], receipt["survivors"]) == ("runner died", "SIGKILL", [])
    assert note_pids(receipt["killed"]) == left
    assert receipt["killedCount"] == len(left)


def test_a_storm_whose_runner_was_killed_is_cleared(family: Families):
    tree = family("storm")
    wait_for(lambda: len(list(tree.directory.glob("storm.*"))) >= 20, "the storm has begun")
    os.kill(tree.daemon.runner_pid(tree.task_id), signal.SIGKILL)
    task = tree.ending()
    assert (task["state"], task["receipt"]["survivors"]) == ("lost", [])


def test_a_stop_of_a_task_that_is_over_changes_nothing(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "exit 5")
    before = daemon.wait(task_id)
    assert daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0}).json() == before
