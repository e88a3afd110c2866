"""Limits in the service unit (`Delegate=yes`) under a real systemd, with all of cgroup v2: in User-Mode Linux.

systemd cannot start a service again while tasks run in groups with limits below its own; what the unit does about that
(`ExecStopPost=`) is shown here. In that kernel it takes minutes: `make test ARGS=--long` runs it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import uml
from conftest import ROOT
from test_systemd import SYSUSERS, UNIT, install

pytestmark = [pytest.mark.needs("linux.uml", "systemctl", "dbus-daemon"), pytest.mark.long]

SCENARIO = """\
[Unit]
After=task-runner.service
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
ExecStart={python} -I {script}
"""
#: as systemd and the kernel write them
LIMITS = {"memory.max": str(60 << 20), "memory.swap.max": "0", "pids.max": "30", "cpu.max": "50000 100000"}

Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What was seen, by when."""

    def make(directory: Path) -> str:
        units = directory / "units"
        units.mkdir()
        python = f"{sys.base_prefix}/bin/python3"
        unit = UNIT.read_text().replace("LimitNOFILE=1024:65536", "LimitNOFILE=1024:4096")
        (units / UNIT.name).write_text(unit)
        script = ROOT / "tests/tools/uml-service.py"
        (units / "scenario.service").write_text(SCENARIO.format(python=python, script=script))
        shutil.copy(SYSUSERS, units / SYSUSERS.name)
        install(directory / "program")
        return uml.boot(
            ROOT / "tests/tools/uml-systemd.sh", PROGRAM=directory / "program", PREFIX=sys.base_prefix, UNITS=units
        )

    console = uml.once(tmp_path_factory, "uml-systemd", make)
    found = uml.told(console, "when")
    assert list(found) == ["started", "stopped", "restarted", "over"], console[-6000:]
    return found


def test_the_unit_enforces_limits(told: dict[str, Told]):
    assert told["started"]["limits"] == LIMITS
    means = told["started"]["means"]
    assert [means[limit] for limit in ("memoryMb", "cpus", "pids")] == ["cgroup v2"] * 3
    assert told["started"]["unit"] == 0, "daemon and runners have moved aside"


def test_the_service_starts_again_while_tasks_run_and_limits_hold_again(told: dict[str, Told]):
    assert (told["restarted"]["active"], told["restarted"]["state"]) == ("active", "running")
    assert told["restarted"]["limits"] == LIMITS
    assert told["restarted"]["members"] == told["started"]["members"]


def test_a_stopped_service_has_given_its_controllers_back(told: dict[str, Told]):
    assert told["stopped"]["subtree"] == []


def test_a_task_that_has_seen_restarts_is_still_limited(told: dict[str, Told]):
    task = told["over"]["task"]
    assert (task["outcome"], task["signal"], task["oomKilled"]) == ("failed", "SIGKILL", True)
    assert task["error"] == "out of memory: the kernel killed all of its processes (60 MiB allowed)"
    note = next(each for each in task["limits"] if each["limit"] == "memoryMb")
    assert note["by"] == "cgroup v2"
    assert note["note"] == "not while the service is stopped, and what is in use by then is not counted afterwards"
