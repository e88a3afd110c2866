"""A runner alone, without daemon and launcher: one attempt in a directory, to be signalled and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, is_frozen, wait_for
from nursery import Forked

from task_runner.lib import inputspool, process, signals, statusfile, tree
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.status import ActionStatus, Status


class HandClock:
    """A clock that is set by hand; ``start``: the time of day at its zero."""

    def __init__(self, start: float = 0.0) -> None:
        self._start = start
        self.now = 1000.0

    def time(self) -> float:
        return self._start + self.now

    def monotonic(self) -> float:
        return self.now


def shell(script: str, **more: Any) -> dict[str, Any]:
    """An action that runs a line of shell."""
    parameters = {"shell": script, **more.pop("parameters", {})}
    return {"machine": "process", "parameters": parameters, **more}


class Attempt:
    """One runner and its files."""

    def __init__(self, path: Path, spec: dict[str, Any], *, grant: Any = None, attempt: int = 1, prefix: Sequence[str] = (),
                 kind: str = "runner", follows: Attempt | None = None, **options: Any) -> None:
        """``kind``: of the nursery that it is forked from; with a ``prefix`` it is started as a command instead."""
        self.id = os.urandom(8).hex() if follows is None else follows.id
        self.directory = AttemptDirectory(str(path), attempt)
        given = json.dumps(grant or {})
        told = json.dumps({"heartbeatSeconds": 0.5, **options})
        arguments = [self.id, str(path), str(attempt), json.dumps(spec), given, told, str(follows is not None)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.runner: subprocess.Popen[bytes] | Forked
        if prefix:
            program = [str(ROOT / "tests/tools/attempt.py"), *arguments]
            self.runner = subprocess.Popen([*prefix, *program], env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        else:
            self.runner = Forked(kind, *arguments, env=env, session=True, cwd=os.getcwd())

    @property
    def status(self) -> Status | None:
        return statusfile.read(self.directory)

    @property
    def output(self) -> bytes:
        try:
            return Path(self.directory.output).read_bytes()
        except FileNotFoundError:
            return b""

    def action(self, index: int = 0) -> ActionStatus | None:
        status = self.status
        return status.actions[index] if status else None

    def until(self, condition: Callable[[Status], Any], what: str = "") -> Status:
        """The first status that the condition holds for."""
        found = wait_for(lambda: (status := self.status) and condition(status) and status, what)
        assert isinstance(found, Status)
        return found

    def said(self, text: bytes) -> None:
        """Wait until the output has this."""
        wait_for(lambda: text in self.output, f"the output has {text!r}: {self.output!r}")

    def wait(self) -> Status:
        """The last status; nothing of the task is alive by then."""
        assert self.runner.wait(PATIENCE) == 0
        assert process.marked(self.id) == []
        status = self.status
        assert status is not None and status.outcome is not None
        return status

    def send(self, number: int) -> None:
        self.runner.send_signal(number)

    def stop(self) -> None:
        self.send(signals.STOP)

    def pause(self) -> None:
        self.send(signals.PAUSE)

    def resume(self) -> None:
        self.send(signals.RESUME)

    def feed(self, data: bytes, *, offset: int | None = None, end: bool = False) -> int:
        total = inputspool.append(self.directory, data, offset, end)
        self.send(signals.FEED)
        return total

    def close(self) -> None:
        self.runner.kill()
        self.runner.wait()
        while tree.kill_marked(self.id):
            pass


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Callable[..., Attempt]]:
    """A function that starts runners; all are ended with everything they started."""
    started: list[Attempt] = []

    def start(spec: dict[str, Any], **more: Any) -> Attempt:
        path = more.pop("path", tmp_path / f"task{len(started)}")
        started.append(Attempt(path, spec, **more))
        return started[-1]

    yield start
    for each in started:
        each.close()


def outcomes(status: Status) -> list[str | None]:
    return [each.outcome.value if each.outcome else None for each in status.actions]


def states(status: Status) -> list[str]:
    return [each.state for each in status.actions]


def is_stopped(pid: int) -> bool:
    seen = process.look(pid)
    return seen is not None and seen.state in "Tt"


def is_still(pid: int) -> bool:
    """Stopped, or frozen."""
    return is_stopped(pid) or is_frozen(pid)


def suspend(pid: int) -> None:
    """SIGSTOP, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: is_stopped(pid), "it is stopped")
