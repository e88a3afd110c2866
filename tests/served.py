"""The daemon as people start it: `task-runner serve`, or gunicorn by hand, with every address that it has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import EXECUTED_LAUNCHERS, PATIENCE, ROOT, kill_tasks, wait_for
from nursery import Forked, fork_server

from task_runner.lib import process
from task_runner.lib.statedir import StateDirectory

SERVE = (sys.executable, "-m", "task_runner", "serve")
GUNICORN = (
    sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "task_runner.api.star_app:create_app()",
)  # fmt: skip
_STARTED, _ENDED = "Application startup complete.", "it has ended"
#: of clients: none uses a connection that gunicorn, which keeps it for 2 s, may just be closing
LIMITS = httpx.Limits(keepalive_expiry=1)


def environment(settings: Mapping[str, Any], **more: str) -> dict[str, str]:
    """Of a process with these settings, and none of those around the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
    given = {
        f"TASK_RUNNER_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    return {**inherited, "PYTHONPATH": str(ROOT), **given, **more}


def begin(*command: str, env: dict[str, str], cwd: str | Path, **streams: int) -> subprocess.Popen[bytes] | Forked:
    """Start a program; those of Python are forked, from a process that has loaded them."""
    if command[0] != sys.executable:
        return subprocess.Popen([*command], env=env, cwd=cwd, stdin=subprocess.DEVNULL, **streams)
    return fork_server(*command[1:], env=env, cwd=cwd, launchers=not EXECUTED_LAUNCHERS, **streams)


class Served:
    """One daemon, in a directory with a short name: the path of a socket has at most 107 bytes."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tr-served-"))
        self.state = StateDirectory(str(self.directory / "state"))
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._clients: list[httpx.Client] = []
        #: of the address that a test has chosen
        self.port = 0

    def start(self, *command: str, env: Mapping[str, str] | None = None, ready: bool = True, **settings: Any) -> Served:
        """``ready``: wait for it; else it starts when somebody asks."""
        settings = {"state_dir": self.state.path, **settings}
        settings = {name: value for name, value in settings.items() if value is not None}
        with open(self._log, "ab") as log:
            self._process = begin(*command, env=environment(settings, **(env or {})), cwd=self.directory, stdout=log.fileno(), stderr=log.fileno())
        if ready:
            wait_for(lambda: self._lives() and _STARTED in self.log.rpartition(_ENDED)[2], "the daemon is ready")
        return self

    def _lives(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"it ended with {self._process.returncode}:\n{self.log[-3000:]}")
        return True

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {Path(self.state.token).read_text().strip()}"}

    @property
    def url(self) -> str:
        """What clients on this machine are told."""
        return str(json.loads(Path(self.state.address).read_text())["url"])

    def at(self, address: str) -> httpx.Client:
        """A client of one of its addresses, without a token."""
        if address.startswith("unix:"):
            transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"), limits=LIMITS)
            client = httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE, verify=False)
        else:
            client = httpx.Client(base_url=f"http://{address}", timeout=PATIENCE, verify=False, limits=LIMITS)
        self._clients.append(client)
        return client

    def terminate(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for everything of it but its tasks."""
        if self._process is None:
            return
        workers = [each for each in process.descendants(self._process.pid) if each.ppid == self._process.pid]
        for each in workers:
            process.send(each, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        gone = [each.start_time for each in workers]
        wait_for(lambda: not any(_lives(each.pid, gone) for each in workers), "the worker has gone")
        self._process = None
        with open(self._log, "a") as log:
            log.write(f"{_ENDED}\n")

    def close(self) -> None:
        self.kill()
        for client in self._clients:
            client.close()
        kill_tasks(self.state)
        shutil.rmtree(self.directory, ignore_errors=True)


def _lives(pid: int, start_times: list[int]) -> bool:
    seen = process.look(pid)
    return seen is not None and seen.alive and seen.start_time in start_times


def refusal(*command: str, env: Mapping[str, str] | None = None, **settings: Any) -> str:
    """What a daemon says that does not start."""
    with tempfile.TemporaryDirectory(prefix="tr-refused-") as directory:
        given = environment({"state_dir": f"{directory}/state", **settings}, **(env or {}))
        process = begin(*command, env=given, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    said = (err + out).decode()
    assert process.returncode != 0, said
    return said
