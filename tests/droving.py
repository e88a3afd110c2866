"""Drove's clients against a daemon with Podman: what they send, and what they see of their tasks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import Daemon, wait_for
from dialectclient import DialectClient
from images import BUSYBOX_IMAGE

#: where the program can be held: the name of a file in the daemon's directory `held`
HOLDS = ("recover.loaded", "container.fetching", "container.pulled", "container.ended", "container.removing")
APP = "TEST_APP"
OPERATION = {"timeout": "5m", "parallelism": 1, "failureStrategy": "STOP"}
_numbers = itertools.count(1)


def place_in(directory: Path) -> tuple[Path, Path]:
    """Where holds are, and what containers share with the tests."""
    (directory / "held").mkdir()
    (directory / "shared").mkdir()
    return directory / "held", directory / "shared"


def drove_daemon(directory: Path, engines: dict[str, str], **settings: Any) -> Daemon:
    """One that takes Drove's tasks; not started (`start_held` does that)."""
    _held, shared = place_in(directory)
    return Daemon(
        directory / "state",
        dialects=["drove"],
        engines=engines,
        container_networks=["none"],
        container_mounts=[str(shared)],
        **settings,
    )


def start_held(daemon: Daemon, **options: Any) -> Daemon:
    held = daemon.state_dir.parent / "held"
    points = ",".join(f"{each}~{held}/{each}" for each in HOLDS)
    return daemon.start(TASK_RUNNER_FAILPOINT=points, **options)


class Drove(DialectClient):
    """A client of the dialect."""

    def __init__(self, daemon: Daemon, *, restarting: bool = False) -> None:
        super().__init__(daemon, {"Authorization": "Bearer {token}"}, restarting=restarting)
        self.directory = daemon.state_dir.parent

    # -- tasks

    def spec(self, *args: str, name: str | None = None, image: str = BUSYBOX_IMAGE, **more: Any) -> dict[str, Any]:
        return {
            "sourceAppName": APP,
            "taskId": name or f"T{next(_numbers)}",
            "executable": {"type": "DOCKER", "url": image, "dockerPullTimeout": "100 seconds"},
            "resources": [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 32}],
            "args": list(args),
            "volumes": [{"pathInContainer": "/s", "pathOnHost": f"{self.directory}/shared", "mode": "READ_WRITE"}],
            **more,
        }

    def create(self, *args: str, operation: dict[str, Any] | None = None, **more: Any) -> str:
        """Accept a task; returns its taskId."""
        spec = self.spec(*args, **more)
        body = {"type": "CREATE", "spec": spec, "opSpec": {**OPERATION, **(operation or {})}}
        response = self.post("/apis/v1/tasks/operations", body)
        assert response.status_code == 200, response.text
        return str(spec["taskId"])

    def until_told(self, name: str, code: int = 0, say: str = "") -> tuple[str, ...]:
        """The arguments of a container that waits for `tell`, and then ends with this code."""
        return ("sh", "-c", f"echo up; while [ ! -e /s/{name} ]; do sleep 0.1; done; {say} exit {code}")

    def tell(self, name: str) -> None:
        (self.directory / "shared" / name).touch()

    def kill(self, name: str) -> httpx.Response:
        body = {"type": "KILL", "sourceAppName": APP, "taskId": name, "opSpec": OPERATION}
        return self.post("/apis/v1/tasks/operations", body)

    def info(self, name: str) -> dict[str, Any]:
        body = self.get(f"/apis/v1/tasks/{APP}/instances/{name}").json()
        assert body["status"] == "SUCCESS", body
        return dict(body["data"])

    def listed(self) -> list[str]:
        return [each["taskId"] for each in self.get("/apis/v1/tasks").json()["data"]]

    def wait(self, name: str, state: str = "STOPPED") -> dict[str, Any]:
        """The task when it is in this state."""
        return dict(wait_for(lambda: (found := self.info(name))["state"] == state and found, f"{name} is {state}"))

    def wait_fetching(self, name: str) -> None:
        """Until a stored change says that a runner has it. That it is PROVISIONING is shown from its launch on."""
        self.daemon.wait_state(self.id_of(name), "provisioning")

    def id_of(self, name: str) -> str:
        """What the core calls it."""
        found = self.daemon.http.get("/v1/tasks", params={"alias": f"drove:{APP}/{name}"}).json()
        return str(found[0]["taskId"])

    # -- holding the program

    @contextmanager
    def hold(self, place: str) -> Iterator[Callable[[], None]]:
        """Whoever comes by there waits, until what this yields is called, or at the end."""
        path = self.directory / "held" / place
        path.touch()
        try:
            yield lambda: path.unlink(missing_ok=True)
        finally:
            path.unlink(missing_ok=True)

    def restart_held(self) -> None:
        """Kill the daemon, and start one that has not examined anything when this returns."""
        self.daemon.kill()
        start_held(self.daemon, wait=False)
        wait_for(lambda: self._answers(), "it answers")

    def _answers(self) -> bool:
        try:
            return self.get("/apis/v1/ping").status_code == 200
        except httpx.HTTPError:
            return False


def clean_client(daemon: Daemon) -> Iterator[Drove]:
    """A client; when its test is over nothing is held, and its tasks are deleted. What a fixture is made of."""
    client = Drove(daemon)
    yield client
    tidy(client.directory)
    for each in daemon.http.get("/v1/tasks", params={"origin": "drove"}).json():
        daemon.http.delete(f"/v1/tasks/{each['taskId']}")


def tidy(directory: Path) -> None:
    """Let everything go that is held."""
    for each in os.listdir(directory / "held"):
        (directory / "held" / each).unlink(missing_ok=True)
