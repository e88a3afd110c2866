"""The daemon under test: started as in production, ended with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import Connection, LoadError
from bench.system import children, command_line
from task_runner.lib import lock, process
from task_runner.lib.statedir import StateDirectory

PATIENCE = 120.0
ROOT = Path(__file__).parent.parent


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE, pause: float = 0.02) -> Any:
    """The first true value of ``condition``. Raises LoadError when patience ends."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LoadError(f"not within {patience:.0f} s: {what}")
        time.sleep(pause)
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def gunicorn(port: int, application: str) -> list[str]:
    """The command of a gunicorn with one uvicorn worker on loopback."""
    command = [sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--workers", "1"]
    from gunicorn.config import KNOWN_SETTINGS

    if any(setting.name == "control_socket_disable" for setting in KNOWN_SETTINGS):
        command.append("--no-control-socket")
    return [*command, "--bind", f"127.0.0.1:{port}", application]


class Server:
    """A gunicorn with one worker: the arbiter's pid is ours to end."""

    def __init__(self, application: str, directory: Path, **environment: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.token: str | None = None
        self.log = directory.parent / f"{directory.name}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                gunicorn(self.port, application),
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        try:
            wait_until(self._answers, f"the server answers; its log: {self.log}")
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise LoadError(f"the server ended:\n{self.log.read_text()[-2000:]}")
        try:
            self._prepare()
            connection = self.connect()
        except OSError:
            return False
        try:
            connection.ask("GET", "/ready")
        except (LoadError, OSError):
            return False
        finally:
            connection.close()
        return True

    def _prepare(self) -> None:
        """What must be there before the first request."""

    def output(self, task_id: str) -> Path:
        """The file with what the task wrote."""
        return self.directory / task_id / "output.log"

    def connect(self) -> Connection:
        return Connection(self.port, self.token)

    def connections(self, count: int) -> list[Connection]:
        return [self.connect() for _ in range(count)]

    @property
    def arbiter(self) -> int:
        return self._process.pid

    @property
    def worker(self) -> int:
        return children(self.arbiter)[0]

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in children(self.arbiter):
                os.kill(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()


class Daemon(Server):
    """A Task Runner with a fresh state directory."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.state = StateDirectory(str(directory))
        environment = {f"TASK_RUNNER_{name.upper()}": str(value) for name, value in settings.items()}
        super().__init__(
            "task_runner.api.star_app:create_app()",
            directory,
            TASK_RUNNER_STATE_DIR=str(directory),
            TASK_RUNNER_AUTH="token",
            **environment,
        )

    def _prepare(self) -> None:
        self.token = Path(self.state.token).read_text().strip()

    def output(self, task_id: str) -> Path:
        return Path(self.state.tasks.attempt(task_id, 1).output)

    @property
    def launcher(self) -> int:
        return next(pid for pid in children(self.worker) if "task_runner.lib.launcher" in command_line(pid))

    @property
    def runners(self) -> list[int]:
        return children(self.launcher)

    def close(self) -> None:
        super().close()
        self._end_tasks()

    def _end_tasks(self) -> None:
        """End every runner that is left, and everything of its task."""
        if not os.path.isdir(self.state.tasks.path):
            return
        for task_id in self.state.tasks.ids():
            probe = lock.probe(self.state.tasks.attempt(task_id, 1))
            if not probe.held:
                continue
            seen = process.look(probe.runner.pid) if probe.runner else None
            if seen is not None:
                process.send(seen, signal.SIGKILL)
            while remains := process.marked(task_id):
                for each in remains:
                    process.send(each, signal.SIGKILL)
