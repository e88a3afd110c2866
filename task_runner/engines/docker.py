"""Podman and the Docker Engine, over the Docker API on a socket of this machine.

Where they differ:

- The log driver that keeps every byte is k8s-file with Podman and local with Docker. The file of either is read, where
  the daemon may: only there is all of it. Through the API, Podman that follows a log leaves out parts of it, so it is
  asked again and again; and Docker 20.10 loses newlines of lines of 16 KiB and more.
- Podman says of every container that it was not killed for lack of memory. Its "no" counts as not known.
- Podman looks again and again whether a container has ended, for whoever asks it to wait: its process is waited for
  here, where it can be seen.
- What a container of Docker writes and ends with while its engine is away is lost, though its exit code is not.
- Podman will neither signal nor remove what is paused.
- Neither tells a signal apart from an exit code: 137 may be either.

The image's own health check is not run, nor is an init process put before the command: it is process 1 of the
container, and so are its signals those of a process 1 (without a handler of its own, SIGTERM does nothing to it).
Credentials and proxies from the configuration of the user whom the daemon runs as (~/.docker) are not used.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from docker import errors

from task_runner.engines import creation, enginelog, linelog, listing, mainprocess, recordlog
from task_runner.engines.base import Found, Login, Order, Seen, Tell
from task_runner.engines.dockerapi import Api
from task_runner.engines.frames import mended, skipping
from task_runner.engines.layers import Layers
from task_runner.engines.podmanmonitor import LOST, Monitors
from task_runner.errors import EngineFailed
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

#: seconds for others who are at a container that is to be removed
_REMOVAL = 20.0
#: how often Podman looks whether a container has ended
_INTERVAL = "100ms"
#: seconds between two looks at an output that cannot be followed; they grow, for each look reads it from its beginning
_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_STATES = {
    "created": "created",
    "configured": "created",
    "initialized": "created",
    "running": "running",
    "restarting": "running",
    "stopping": "running",
    "paused": "paused",
}
_ENDED = ("exited", "gone")


class DockerEngine:
    """One engine, by its name ("podman" or "docker") and the path of its socket."""

    def __init__(self, name: str, socket: str) -> None:
        self.name = name
        self._podman = name == "podman"
        self._api = Api(name, socket)
        self._client = self._api.client
        self._monitors = Monitors(self._api)
        self._told: dict[str, Any] | None = None

    def describe(self) -> str:
        with self._api.asking():
            version = self._client.version()
        names = [str(each.get("Name")) for each in version.get("Components") or []]
        product = "Podman" if "Podman Engine" in names else "Docker Engine"
        return f"{product} {version['Version']}"

    def ping(self) -> None:
        with self._api.asking():
            self._client.ping()

    # -- images

    def image_id(self, image: str) -> str | None:
        found = self._image(image)
        return None if found is None else str(found["Id"])

    def _image(self, image: str) -> dict[str, Any] | None:
        with self._api.asking():
            try:
                return dict(self._client.inspect_image(image))
            except errors.NotFound:
                return None

    def pull(self, image: str, login: Login | None, tell: Tell) -> str:
        # never None: the library would look for credentials of its own
        credentials = {} if login is None else {"username": login.username, "password": login.password}
        layers = Layers()
        with self._api.asking():
            for line in self._client.pull(image, stream=True, decode=True, auth_config=credentials):
                if line.get("error"):
                    raise EngineFailed(str(line["error"]))
                if news := layers.hear(line):
                    tell(*news)
        found = self.image_id(image)
        if found is None:
            raise EngineFailed(f"the engine has pulled {image}, and does not have it")
        return found

    # -- containers

    def create(self, order: Order) -> str:
        command = self._command(order)
        host = creation.host_config(order, self._api.socket if self._podman else None)
        with self._api.asking():
            made = self._client.create_container(
                order.image,
                entrypoint=command,
                command=order.args,
                name=order.name,
                environment=order.env,
                user=order.user,
                working_dir=order.working_directory,
                labels=order.labels,
                healthcheck={"test": ["NONE"]},
                use_config_proxy=False,
                host_config=self._client.create_host_config(**host),
            )
        container = str(made["Id"])
        if self._podman:
            self._api.init(container)  # it can be watched from its first moment on
        return container

    def _command(self, order: Order) -> list[str] | None:
        """What is told as the entry point. An empty list of arguments means the image's own to the API, unless it
        is told an entry point too."""
        if order.command is not None or order.args is None or order.args:
            return order.command
        image = self._image(order.image) or {}
        entrypoint: list[str] | None = (image.get("Config") or {}).get("Entrypoint")
        return entrypoint

    def notes(self, order: Order) -> list[LimitNote]:
        limits = order.limits or TaskLimits()
        taken: dict[str, Any] | None = None
        with self._api.asking():
            info = self._info() if creation.depends_on_host(limits) else {}
            if limits.io_weight is not None and (made := self._inspect(order.name)) is not None:
                taken = made["HostConfig"]
        return creation.notes(limits, self.name, info, taken)

    def _info(self) -> dict[str, Any]:
        """Of the engine and its host, asked for once: both start programs to answer it (Podman asks the package
        manager, which takes 0.3 s)."""
        if self._told is None:
            self._told = dict(self._client.info())
        return self._told

    def start(self, container: str) -> None:
        with self._api.asking():
            self._client.start(container)

    def find(self, labels: Mapping[str, str]) -> list[Found]:
        return listing.find(self.name, self._api.socket, labels)

    def look(self, container: str) -> Seen:
        with self._api.asking():
            found = self._inspect(container)
        return Seen(state="gone") if found is None else self._seen(found)

    def _inspect(self, container: str) -> dict[str, Any] | None:
        """All that the engine says of it; None where it is gone."""
        try:
            return dict(listing.past_endings(lambda: self._client.inspect_container(container), errors.APIError))
        except errors.NotFound:
            return None

    def _seen(self, found: dict[str, Any]) -> Seen:
        now = found["State"]
        state = _STATES.get(str(now["Status"]), "exited")
        ended = state == "exited"
        oom = bool(now.get("OOMKilled"))
        return Seen(
            state=state,
            exit_code=int(now["ExitCode"]) if ended else None,
            oom_killed=True if oom else (False if ended and not self._podman else None),
            pid=now.get("Pid") or None,
            image_id=found.get("Image"),
            error=now.get("Error") or None,
        )

    def wait(self, container: str, seconds: float) -> Seen:
        deadline = time.monotonic() + seconds
        seen = self.look(container)
        while seen.state not in _ENDED and (left := deadline - time.monotonic()) > 0:
            if seen.state == "created":
                time.sleep(min(left, _PAUSE))  # to the API that is "not running": it would answer at once
            elif not self._podman:
                self._api.wait(container, left)
            elif mainprocess.await_end(container, seen.pid, left):
                self._api.wait(container, max(deadline - time.monotonic(), _PAUSE), _INTERVAL)
            seen = self._look_closely(container)
        return seen

    def _look_closely(self, container: str) -> Seen:
        """With an eye on what the engine will never learn."""
        seen = self.look(container)
        lost = self._podman and self._monitors.is_lost(container, seen)
        return replace(seen, state="exited", error=LOST) if lost else seen

    def output(self, container: str, skip: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
        while self.look(container).state == "created":
            time.sleep(_PAUSE)  # no log yet
        path = self._log_file(container)
        if path is None:
            return self._asked_for(container, skip)
        parse = linelog.whole_lines if self._podman else recordlog.whole_records
        return enginelog.follow(path, parse, skip, lambda: self._look_closely(container).state in _ENDED)

    def _log_file(self, container: str) -> str | None:
        """Where the engine keeps what the container writes; None where that is not for us to read."""
        with self._api.asking():
            found = self._inspect(container)
            if found is None:
                return None
            path = str(found.get("LogPath") or "")
            if not self._podman:
                path = f"{self._directory(found)}/local-logs/container.log"
        return path if os.access(os.path.dirname(path), os.R_OK | os.X_OK) else None

    def _directory(self, found: dict[str, Any]) -> str:
        """Docker's own of a container."""
        usual = f"/containers/{found['Id']}"
        path = str(found.get("HostnamePath") or "").removesuffix("/hostname")
        # with the network of another container the path is that one's
        return path if path.endswith(usual) else f"{self._info()['DockerRootDir']}{usual}"

    def _asked_for(self, container: str, skip: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
        """The output, from the API."""
        passed = {1: skip[0], 2: skip[1]}
        pause = _PAUSE
        ended = False
        while True:
            follow = not ended and not self._podman
            pairs = self._api.log(container, follow=follow)
            for stream, data in skipping(pairs if self._podman else mended(pairs), dict(passed)):
                passed[stream] += len(data)
                yield stream, data
            if ended:
                return
            ended = self.wait(container, pause).state in _ENDED
            pause = min(2 * pause, _LONGEST_PAUSE)

    def send(self, container: str, signal: str) -> None:
        if signal == "SIGKILL":
            self._thaw(container)
        with self._api.asking(), self._unless_ended(container):
            self._client.kill(container, signal)

    def pause(self, container: str) -> None:
        with self._api.asking(), self._unless_ended(container, "paused"):
            self._client.pause(container)

    def resume(self, container: str) -> None:
        with self._api.asking(), self._unless_ended(container, "running"):
            self._client.unpause(container)

    def _thaw(self, container: str) -> None:
        if self.look(container).state == "paused":
            self.resume(container)

    def remove(self, container: str) -> None:
        self._thaw(container)
        deadline = time.monotonic() + _REMOVAL
        with self._api.asking():
            while not self._removed(container, last=time.monotonic() > deadline):
                time.sleep(_PAUSE)

    def _removed(self, container: str, *, last: bool) -> bool:
        """False where somebody else is at it, or it is just starting or ending; at last that is an error."""
        try:
            self._client.remove_container(container, v=True, force=True)
        except errors.NotFound:
            return True
        except errors.APIError as error:
            if last or error.status_code not in (409, 500):
                raise
            return self.look(container).state == "gone"
        return True

    def main_pid(self, name: str) -> int:
        seen = self.look(name)
        if seen.state == "gone":
            raise EngineFailed(f"{self.name} knows no container {name}")
        if seen.pid is None or seen.state not in ("running", "paused"):
            raise EngineFailed(f"container {name} does not run: {self.name} says that it is {seen.state}")
        return seen.pid

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _unless_ended(self, container: str, also: str = "gone") -> Iterator[None]:
        """What the engine refuses of a container that has ended, or is as it should be, is as good as done."""
        try:
            yield
        except errors.APIError:
            if self.look(container).state not in (*_ENDED, also):
                raise
