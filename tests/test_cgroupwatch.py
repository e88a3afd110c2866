"""What is known of a container's control groups: on this machine, and with cgroup v2 in User-Mode Linux."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uml
from conftest import ROOT, wait_for

from task_runner.engines import cgroupuse, cgroupwatch
from task_runner.engines.cgroupuse import Groups
from task_runner.engines.cgroupwatch import CgroupWatch


@pytest.fixture
def memory() -> Iterator[Path]:
    """A group of cgroup v1 with 20 MiB, below this process's own."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {name: line.split(":", 2)[2] for line in lines for name in line.split(":", 2)[1].split(",")}
    group = Path(f"/sys/fs/cgroup/memory{own.get('memory', '')}/watch-{uuid.uuid4().hex[:12]}")
    if os.geteuid() != 0 or not (group.parent / "cgroup.event_control").exists():
        pytest.skip("needs root and cgroup v1 with memory")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(20 << 20))
    yield group
    remove(group)


def remove(group: Path) -> None:
    def gone() -> bool:
        try:
            group.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_for(gone, "the group can be removed")


def begin(group: Path, code: str = "b = bytearray(80 << 20)") -> subprocess.Popen[bytes]:
    """A process in the group that waits for a line first."""
    process = subprocess.Popen([sys.executable, "-c", f"input(); {code}"], stdin=subprocess.PIPE)
    (group / "cgroup.procs").write_text(str(process.pid))
    return process


def go(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n")


def test_a_process_killed_for_lack_of_memory_is_counted(memory: Path) -> None:
    process = begin(memory)
    watch = CgroupWatch.of(process.pid)
    assert watch.sees
    go(process)
    assert watch.oom_kills() == 1
    accounting = watch.accounting()
    assert accounting is not None
    assert (accounting.by, accounting.oom_kills) == ("cgroup v1", 1)
    assert accounting.memory_peak_bytes is not None and 10 << 20 < accounting.memory_peak_bytes <= 20 << 20


def test_a_process_that_ends_otherwise_is_not(memory: Path) -> None:
    process = begin(memory, "raise SystemExit(3)")
    watch = CgroupWatch.of(process.pid)
    go(process)
    assert watch.oom_kills() == 0


@pytest.mark.parametrize(("code", "kills"), [("b = bytearray(80 << 20)", 1), ("pass", 0)])
def test_a_kill_is_known_even_if_the_group_is_gone_before_anybody_could_read_it(
    memory: Path, code: str, kills: int
) -> None:
    groups = Groups(v2=None, v1={"memory": str(memory)})
    alarm = cgroupwatch._open_alarm(groups)
    assert alarm is not None
    go(begin(memory, code))
    remove(memory)
    assert cgroupuse.accounting(groups) is None
    assert cgroupwatch._heard_last(groups, alarm) == kills
    os.close(alarm)


def test_a_machine_that_stands_still_while_a_removal_is_waited_for_changes_no_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alarm, before = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), [True]

    class Poll:
        """The first time it stands still for longer than there is, and then the kernel comes to tell."""

        def __init__(self) -> None:
            self._poll = poll()

        def register(self, fd: int, events: int) -> None:
            self._poll.register(fd, events)

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            if not before:
                return self._poll.poll(milliseconds)
            before.pop()
            time.sleep(2 * cgroupwatch._REMOVAL)
            os.eventfd_write(alarm, 2)
            return []

    poll = select.poll
    monkeypatch.setattr(cgroupwatch.select, "poll", Poll)
    monkeypatch.setattr(cgroupwatch, "_REMOVAL", 0.05)
    assert cgroupwatch._heard_last(Groups(v2=None, v1={"memory": "/gone"}), alarm) == 1
    os.close(alarm)


def test_of_what_is_not_there_nothing_is_known() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (None, ended.pid):
        watch = CgroupWatch.of(pid)
        assert not watch.sees
        assert (watch.oom_kills(), watch.accounting()) == (None, None)


def test_groups_that_a_process_shares_with_us_are_not_its_own() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    try:
        assert not CgroupWatch.of(process.pid).sees
    finally:
        process.kill()
        process.wait()


# -- cgroup v2


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    def make(_directory: Path) -> str:
        return uml.boot(
            ROOT / "tests/tools/uml-init.sh", PYTHON=sys.executable, CHECKOUT=ROOT, SCRIPT="tests/tools/uml-watch.py"
        )

    console = uml.once(tmp_path_factory, "uml-watch", make)
    found = uml.told(console, "case")
    assert found.keys() == {"hog", "child", "modest", "gone"}, console[-4000:]
    return found


@pytest.mark.needs("linux.uml")
@pytest.mark.slow
def test_cgroup_v2_counts_who_is_killed_and_what_was_used(told: dict[str, Any]) -> None:
    assert told["hog"]["kills"] == 1
    assert told["child"]["kills"] == 1
    assert told["modest"]["kills"] == 0
    accounting = told["hog"]["accounting"]
    assert accounting["by"] == "cgroup v2"
    assert 10 << 20 < accounting["memory_peak_bytes"] <= 20 << 20
    assert told["modest"]["accounting"]["cpu_seconds"] is not None


@pytest.mark.needs("linux.uml")
@pytest.mark.slow
def test_cgroup_v2_tells_of_a_kill_before_the_group_is_gone(told: dict[str, Any]) -> None:
    """The main process lives on, and then the group is emptied and removed at once."""
    assert told["gone"]["kills"] == 1
