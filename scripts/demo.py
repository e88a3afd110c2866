"""The demonstration, `make demo`: a task outlives the daemon that started it.

It starts the daemon in a directory of its own, submits doc/sample_task.json over HTTP, follows its output, kills
the daemon with SIGKILL in the middle, starts it again, and reads on where it was. Exit code 1 if anything is not
as it tells.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx

SAMPLE = Path(__file__).parent.parent / "doc/sample_task.json"
#: what the sample task prints, to the last byte; log lines begin with a level
EXPECTED = (
    "The task has started and will now sleep\n"
    "WARNING: Important message\n"
    "ERROR: Another important message\n"
    "Task has now completed\n"
    "Cleaned up\n"
)
KILL_AFTER = "WARNING: Important message\n"
PATIENCE = 60.0


class Failed(Exception):
    """The demonstration did not go as told."""


class Daemon:
    """`task-runner serve` on a free port of the loopback interface."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = state_dir.with_suffix(".log")
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        command = [sys.executable, "-m", "task_runner", "serve", "--bind", f"127.0.0.1:{self.port}"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**inherited, "TASK_RUNNER_STATE_DIR": str(self.state_dir)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the daemon does not start. It said:\n{self.log.read_text()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            token = (self.state_dir / "token").read_text().strip()
            self.http.headers["Authorization"] = f"Bearer {token}"
            return self.http.get("/ready").status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def pids(self) -> list[int]:
        """gunicorn's arbiter, and its worker, which is the daemon."""
        assert self._process is not None
        arbiter = self._process.pid
        return [arbiter, *map(int, Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split())]

    def kill(self) -> None:
        """SIGKILL for all of them: no chance to write anything down or to say goodbye."""
        if self._process is None or self._process.poll() is not None:
            return
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/tasks/{task_id}").raise_for_status().json())

    def output(self, task_id: str, offset: int) -> Iterator[bytes]:
        """The output from a byte on, as it is written, until the task is over."""
        parameters = {"follow": "true", "offset": str(offset)}
        with self.http.stream("GET", f"/v1/tasks/{task_id}/output", params=parameters) as response:
            response.raise_for_status()
            yield from response.iter_bytes()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="task-runner-demo-") as directory:
        daemon = Daemon(Path(directory) / "state")
        task_id = ""
        try:
            task_id = submit(daemon)
            seen = follow(daemon, task_id, "", until=KILL_AFTER)
            runner = kill_and_start_again(daemon, task_id, len(seen))
            seen = follow(daemon, task_id, seen)
            check_ending(daemon, task_id, seen, runner)
        except (Failed, httpx.HTTPError) as error:
            print(f"\nThe demonstration failed: {error or type(error).__name__}", file=sys.stderr)
            return 1
        finally:
            clean_up(daemon, task_id)
    return 0


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def submit(daemon: Daemon) -> str:
    say("Starting the daemon in a directory of its own.")
    daemon.start()
    arbiter, worker = daemon.pids()
    print(f"  It listens on {daemon.url} (gunicorn is process {arbiter}, the daemon its worker {worker}).")
    say(f"Submitting doc/{SAMPLE.name}: POST {daemon.url}/v1/tasks")
    response = daemon.http.post("/v1/tasks", json=json.loads(SAMPLE.read_text()))
    if response.status_code != 201:
        raise Failed(f"the daemon answered {response.status_code}: {response.text}")
    task = response.json()
    print(f"  201 Created: task {task['taskId']}, state {task['state']}.")
    say(f"Following its output: GET {daemon.url}/v1/tasks/{task['taskId']}/output?follow=true")
    return str(task["taskId"])


def follow(daemon: Daemon, task_id: str, seen: str, until: str | None = None) -> str:
    """Print the output that comes after ``seen``; returns all there is by then."""
    stream = daemon.output(task_id, offset=len(seen))
    for part in stream:
        for line in part.decode().splitlines(keepends=True):
            print(f"  | {line}", end="", flush=True)
        seen += part.decode()
        if until is not None and seen.endswith(until):
            break
    return seen


def kill_and_start_again(daemon: Daemon, task_id: str, offset: int) -> int:
    """Returns the pid of the task's runner, which must be the same before and after."""
    runner = runner_of(daemon, task_id)
    say(f"Killing the daemon: kill -9 {' '.join(map(str, daemon.pids()))}")
    daemon.kill()
    if not Path(f"/proc/{runner}").exists():
        raise Failed("the task's runner died with the daemon")
    print(f"  Nobody listens on {daemon.url} any more. The task's own process, {runner}, lives on.")
    say("Starting the daemon again.")
    daemon.start()
    task = daemon.task(task_id)
    print(f"  Task {task_id} is {task['state']}, still in process {runner_of(daemon, task_id)}.")
    say(f"Following its output from byte {offset}, where we were:")
    return runner


def runner_of(daemon: Daemon, task_id: str) -> int:
    status = json.loads((daemon.state_dir / "tasks" / task_id / "status.json").read_text())
    return int(status["runner"]["pid"])


def check_ending(daemon: Daemon, task_id: str, seen: str, runner: int) -> None:
    task = daemon.http.get(f"/v1/tasks/{task_id}", params={"wait": "30"}).raise_for_status().json()
    say("The task is over:")
    for name in ("state", "outcome", "exitCode", "attempt", "startedAt", "finishedAt"):
        print(f"  {name:<11} {task[name]}")
    if seen != EXPECTED:
        raise Failed(f"the output is not what the task printed: {seen!r}")
    if (task["state"], task["outcome"], task["exitCode"], task["attempt"]) != ("exited", "succeeded", 0, 1):
        raise Failed("that is not how it ended")
    if runner_of(daemon, task_id) != runner:
        raise Failed("the task changed its process")
    print(f"\nIt ran once, in one process, through the death of its daemon; all {len(seen)} bytes came once.")


def clean_up(daemon: Daemon, task_id: str) -> None:
    """Leave nothing running. The directory goes with its context."""
    try:
        if task_id:
            daemon.http.delete(f"/v1/tasks/{task_id}")
    except httpx.HTTPError:
        pass  # it is not there to be asked
    daemon.http.close()
    try:
        daemon.stop()
    except subprocess.TimeoutExpired:
        daemon.kill()


def interrupted(_number: int, _frame: object) -> NoReturn:
    raise Failed("interrupted")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    sys.exit(main())
