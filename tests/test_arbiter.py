"""The daemon under gunicorn: what becomes of it when gunicorn's arbiter is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, kill_tasks, wait_for
from nursery import Forked
from ports import free_port
from served import LIMITS, SERVE, begin

from task_runner.lib import process
from task_runner.lib.clock import boot_id
from task_runner.lib.statedir import StateDirectory
from task_runner.model.status import Identity


class Served:
    """`task-runner serve` on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.state = StateDirectory(str(directory / "state"))
        self.log = directory / "serve.log"
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20, verify=False, limits=LIMITS)
        self.arbiter: subprocess.Popen[bytes] | Forked | None = None

    def start(self, *, executed: bool = False) -> None:
        """``executed``: as in real life, gunicorn is a program of its own, and not forked by a nursery."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        env = {**inherited, "PYTHONPATH": str(ROOT)}
        command = [*SERVE, "--bind", f"127.0.0.1:{self.port}", "--state-dir", self.state.path]
        with open(self.log, "ab") as log:
            if executed:
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                self.arbiter = subprocess.Popen(command, env=env, **streams)
            else:
                self.arbiter = begin(*command, env=env, cwd=ROOT, stdout=log.fileno(), stderr=log.fileno())
        wait_for(self._ready, f"the daemon is ready; its log: {self.log}")

    def _ready(self) -> bool:
        assert self.arbiter is not None
        if self.arbiter.poll() is not None:
            pytest.fail(f"gunicorn ended with {self.arbiter.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            token = Path(self.state.token).read_text().strip()
            self.http.headers["Authorization"] = f"Bearer {token}"
            return self.http.get("/ready").status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def below(self) -> list[Identity]:
        """The worker and what it started."""
        assert self.arbiter is not None
        found = process.descendants(self.arbiter.pid)
        return [Identity(pid=each.pid, start_time=each.start_time, boot_id=boot_id()) for each in found]

    def kill(self) -> None:
        if self.arbiter is not None:
            for each in process.descendants(self.arbiter.pid):
                process.send(each, signal.SIGKILL)
            self.arbiter.kill()
            self.arbiter.wait()
            self.arbiter = None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.kill()
    served.http.close()
    kill_tasks(served.state)


def test_nothing_of_the_daemon_outlives_a_killed_arbiter(served: Served) -> None:
    served.start(executed=True)
    # the launcher may still rehearse, and what it starts for that comes and goes
    below = wait_for(lambda: len(found := served.below()) == 2 and found, "the worker and the launcher alone")
    assert served.arbiter is not None
    served.arbiter.kill()
    served.arbiter.wait()
    wait_for(lambda: not any(process.is_alive(each) for each in below), "worker and launcher follow")


def test_after_a_killed_arbiter_the_next_one_serves_the_same_port_and_task(served: Served) -> None:
    served.start()
    command = ["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done; exit 9"]
    task_id = served.http.post("/v1/tasks", json={"command": command}).json()["taskId"]
    wait_for(lambda: served.http.get(f"/v1/tasks/{task_id}").json()["state"] == "running", "the task runs")
    assert served.arbiter is not None
    served.arbiter.kill()  # and nothing else: the rest must go by itself
    served.arbiter.wait()
    served.start()
    Path(served.state.tasks.path, task_id, "work", "go").touch()
    task = served.http.get(f"/v1/tasks/{task_id}", params={"wait": 20}).json()
    assert (task["state"], task["exitCode"]) == ("exited", 9)


def test_a_killed_worker_is_replaced(served: Served) -> None:
    served.start()
    assert served.arbiter is not None
    worker = next(each for each in process.descendants(served.arbiter.pid) if each.ppid == served.arbiter.pid)
    process.send(worker, signal.SIGKILL)
    killed = Identity(pid=worker.pid, start_time=worker.start_time, boot_id=boot_id())
    wait_for(lambda: not process.is_alive(killed), "the worker has gone")
    wait_for(served._ready, "another one serves")
