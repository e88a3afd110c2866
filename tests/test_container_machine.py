"""The `container` machine against a real engine, without a runner: what it says, does and leaves."""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, wait_for
from engines import PodmanServer
from images import BUSYBOX_IMAGE

from task_runner.engines.base import LABEL_TASK
from task_runner.machines.say import KILL

pytestmark = [pytest.mark.needs("root"), pytest.mark.needs("podman"), pytest.mark.needs("runc")]


class Remote:
    """One try of one action, carried out by one process after another."""

    def __init__(self, directory: Path, engine: Any, **options: Any) -> None:
        self.directory = directory
        self.engine = engine
        self.task_id = secrets.token_hex(8)
        self.options = options
        self.notes: list[dict[str, Any]] = []
        self._process: subprocess.Popen[str] | None = None
        for name in ("work", "work/.."):
            (directory / name).mkdir(exist_ok=True)

    def start(self, *command: str, take_up: bool = False, apart: bool = False, **parameters: Any) -> int:
        """Returns the pid of the machine's process."""
        if not take_up:
            self.parameters = {"image": BUSYBOX_IMAGE, **({"args": list(command)} if command else {}), **parameters}
        context = {
            "task_id": self.task_id,
            "attempt": 1,
            "work": str(self.directory / "work"),
            "engines": self.engine.sockets,
            "daemon": str(self.directory),
            "keep": str(self.directory / "keep"),
            "containers": {"mounts": [str(self.directory)], "networks": ["none", "host"]},
            "take_up": take_up,
            "tries": 1,
            **self.options,
        }
        self.stdout = self.directory / "stdout.log"
        self.stderr = self.directory / "stderr.log" if apart or take_up and self._apart else self.stdout
        self._apart = self.stderr != self.stdout
        patience = context.pop("patience", 60.0)
        order = {
            "parameters": self.parameters, "stdout": str(self.stdout), "stderr": str(self.stderr), "context": context,
            "patience": patience,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/tools/remote_machine.py"), json.dumps(order)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())
        return self.pid

    def take_up(self) -> int:
        return self.start(take_up=True)

    def hear(self, key: str, value: Any = ...) -> Any:
        """Wait until it says that; returns the value."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            note = json.loads(line)
            self.notes.append(note)
            if key in note and value in (..., note[key]):
                return note[key]
        pytest.fail(f"it never said {key}: {self.notes}")

    def end(self) -> dict[str, Any]:
        """Wait for its end; returns all that it said last of each kind, and its exit code."""
        self.hear("code")
        assert self._process is not None
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return {key: value for note in self.notes for key, value in note.items()}

    def run(self, *command: str, **parameters: Any) -> dict[str, Any]:
        self.start(*command, **parameters)
        return self.end()

    def kill(self) -> None:
        """As if the runner had died: the machine's process dies with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        wait_for(lambda: not Path(f"/proc/{self.pid}/exe").exists(), "the machine's process has ended")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for each in self.containers():
            self.engine.command("rm", "--force", each)

    def containers(self) -> list[str]:
        listed = self.engine.command("ps", "--all", "--quiet", "--filter", f"label={LABEL_TASK}={self.task_id}")
        return str(listed).split()

    @property
    def output(self) -> bytes:
        return self.stdout.read_bytes()


@pytest.fixture
def remote(tmp_path: Path, podman_server: PodmanServer) -> Iterator[Callable[..., Remote]]:
    made: list[Remote] = []

    def make(**options: Any) -> Remote:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Remote(directory, podman_server, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_says_what_it_does_and_leaves_nothing(remote: Callable[..., Remote]) -> None:
    it = remote()
    last = it.run("sh", "-c", "echo out; echo err >&2; pwd; exit 7")
    assert last["code"] == 7
    assert last["ended"] == {"exitCode": 7, "signal": None, "oomKilled": False}
    assert it.output == b"out\nerr\n/work\n"
    assert [note["state"] for note in it.notes if "state" in note] == ["provisioning", "running"]
    names = {note["container"]["name"] for note in it.notes if "container" in note}
    assert names == {f"task-runner-{it.task_id}-1.0.1"}
    ids = [note["container"]["id"] for note in it.notes if "container" in note]
    assert ids[0] is None and ids[-1] is not None
    assert it.containers() == []
