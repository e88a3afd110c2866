"""A kernel of its own for tests: User-Mode Linux on this machine's root, read-only, with all of cgroup v2."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE


def boot(init: Path, **variables: str | Path) -> str:
    """Run a machine whose first process is ``init`` until it turns itself off; returns what its console showed."""
    command = [
        "linux.uml", "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}",
        "con=null", "con0=fd:0,fd:1", "quiet", *(f"{name}={value}" for name, value in variables.items()),
    ]  # fmt: skip
    where = {**os.environ, "TMPDIR": "/dev/shm"}
    with subprocess.Popen(
        command, env=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    ) as machine:  # fmt: skip
        try:
            return machine.communicate(timeout=4 * PATIENCE)[0]
        finally:
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGKILL)


def told(console: str, key: str) -> dict[str, Any]:
    """The lines of JSON that a machine has printed for us, by one of their fields."""
    lines = [line.partition("TOLD ")[2] for line in console.splitlines() if "TOLD {" in line]
    return {each[key]: each for each in map(json.loads, lines)}


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> str:
    """What ``make`` returns, made once for all workers of a test run."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / name
    directory.mkdir(exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = directory / "made"
        if not made.exists():
            made.write_text(make(directory))
    return made.read_text()
