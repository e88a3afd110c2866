"""cgroup v2 with memory, cpu, pids and io, whatever this machine has: the real runner inside User-Mode Linux."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import uml
from conftest import ROOT

pytestmark = [pytest.mark.needs("linux.uml"), pytest.mark.slow]

Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What became of the tasks, by where they ran. One start of the machine serves all tests."""

    def make(_directory: Path) -> str:
        return uml.boot(ROOT / "tests/tools/uml-init.sh", PYTHON=sys.executable, CHECKOUT=ROOT)

    console = uml.once(tmp_path_factory, "uml-tasks", make)
    found = uml.told(console, "where")
    assert set(found) == {"root", "own", "shared"}, console[-4000:]
    return found


def status_of(told: dict[str, Told], name: str, where: str = "root") -> dict[str, Any]:
    status: dict[str, Any] = told[where]["tasks"][name]["status"]
    return status


def test_memory_is_limited_and_the_oom_killer_is_told_of(told: dict[str, Told]):
    status = status_of(told, "hog")
    assert (status["outcome"], status["signal"], status["oomKilled"]) == ("failed", "SIGKILL", True)
    assert status["error"] == "out of memory: the kernel killed all of its processes (40 MiB allowed)"
    assert status["accounting"]["by"] == "cgroup v2"
    assert status["accounting"]["oomKills"] >= 1
    assert 30 << 20 < status["accounting"]["memoryPeakBytes"] <= 40 << 20
    assert {each["limit"]: each["by"] for each in status["limits"]}["memoryMb"] == "cgroup v2"


def test_who_runs_out_of_memory_goes_as_a_whole(told: dict[str, Told]):
    status = status_of(told, "family")
    assert (status["outcome"], status["oomKilled"]) == ("failed", True)
    assert status["accounting"]["oomKills"] >= 3
    receipt = status["receipt"]  # of those that were still dying when the first had been waited for, if any
    assert receipt is None or (receipt["reason"], receipt["killed"], receipt["survivors"]) == ("leftovers", [], [])


def test_processes_are_limited(told: dict[str, Told]):
    accounting = status_of(told, "bomb")["accounting"]
    assert accounting["pidsRefused"] >= 1
    assert accounting["pidsPeak"] in (8, None)


def test_processor_time_is_limited(told: dict[str, Told]):
    status = status_of(told, "busy")
    assert status["outcome"] == "succeeded"
    assert status["accounting"]["throttledCount"] >= 1
    assert status["limits"] == [{"limit": "cpus", "asked": 0.2, "by": "cgroup v2", "note": None}]


def test_a_stop_kills_the_group(told: dict[str, Told]):
    status = status_of(told, "deaf")
    assert (status["outcome"], status["receipt"]["survivors"]) == ("cancelled", [])
    assert status["receipt"]["killedCount"] >= 1


def test_nothing_is_left(told: dict[str, Told]):
    assert [each["left"] for each in told.values()] == [[], [], []]
    assert {task["children"] for each in told.values() for task in each["tasks"].values()} == {0}


def test_means_are_found_out_by_trying(told: dict[str, Told]):
    by = {each["limit"]: each["by"] for each in told["root"]["means"]}
    assert [by[limit] for limit in ("memoryMb", "cpus", "pids")] == ["cgroup v2"] * 3
    disks = next(each for each in told["root"]["means"] if each["limit"] == "ioWeight")
    assert disks["by"] is not None or "heeds weights" in disks["note"]


def test_the_daemon_moves_aside_in_a_group_of_its_own(told: dict[str, Told]):
    assert told["own"]["places"]["v2Home"] == "/sys/fs/cgroup/own/task-runner-daemon/cgroup.procs"
    assert status_of(told, "hog", "own")["oomKilled"] is True
    assert "/own/task-runner-" in told["own"]["tasks"]["plain"]["output"]


def test_where_others_are_too_nobody_is_moved_and_tasks_are_tracked(told: dict[str, Told]):
    places = told["shared"]["places"]
    assert "others are in the cgroup /sys/fs/cgroup/shared as well (sleep, pid" in places["why"]
    assert "/shared/task-runner-" in told["shared"]["tasks"]["plain"]["output"]
    status = status_of(told, "hog", "shared")
    assert (status["outcome"], status["oomKilled"]) == ("failed", None), "by the limit of each process"
    note = next(each for each in status["limits"] if each["limit"] == "memoryMb")
    assert note["by"] == "rlimit"
