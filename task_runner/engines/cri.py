"""containerd, over the CRI on a socket of this machine.

A container of the CRI lives in a sandbox, which holds its namespaces: here each has one of its own, and both are made
and removed together. What the CRI cannot do, containerd does by a service of its own on the same socket: pause, resume,
signals, and to wait for the end.

It has to run as root, where containerd runs: the output goes past containerd (crioutput.py). Where a kubelet uses the
same containerd, it removes whatever it has not made itself: give containers of tasks a containerd of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal as signals
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

# before the library is imported: it would write messages of its own into the output of the task
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from cri_api.v1 import api_pb2 as cri

from task_runner.engines import criorder, cripull, outputfiles, pidslimit
from task_runner.engines.base import Found, Login, Order, Seen, Tell
from task_runner.engines.criconnection import PATIENCE, Code, Connection, unless
from task_runner.engines.crioutput import Outputs
from task_runner.errors import EngineFailed
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

#: seconds between two looks at a container that has not been started, or that is just ending
_LOOK = 0.05
#: seconds in which the engine comes to know that a container has ended, after its helper has gone
_ENDING = 0.5
_STATES = {cri.CONTAINER_CREATED: "created", cri.CONTAINER_RUNNING: "running"}
_ENDED = ("exited", "gone")
#: the label by which the containers of pods are known to their users
_POD_LABEL = "io.kubernetes.container.name"


class CriEngine:
    """containerd, by the path of its socket."""

    name = "cri"

    def __init__(self, socket: str) -> None:
        self._engine = Connection(self.name, socket)
        self._outputs = Outputs(socket)

    def describe(self) -> str:
        version = self._version()
        return f"{version.runtime_name} {version.runtime_version}"

    def ping(self) -> None:
        self._version()

    def _version(self) -> cri.VersionResponse:
        with self._engine.asking():
            version: cri.VersionResponse = self._engine.runtime.Version(cri.VersionRequest(), timeout=PATIENCE)
        return version

    # -- images

    def image_id(self, image: str) -> str | None:
        return self._engine.image_id(image)

    def pull(self, image: str, login: Login | None, tell: Tell) -> str:
        return cripull.pull(self._engine, image, login, tell)

    # -- containers

    def create(self, order: Order) -> str:
        sandbox = criorder.sandbox(order)
        config = criorder.container(replace(order, command=self._command(order)))
        if order.network != "host":
            self._check_network()
        try:
            with self._engine.asking():
                request = cri.RunPodSandboxRequest(config=sandbox)
                made = self._engine.runtime.RunPodSandbox(request, timeout=PATIENCE).pod_sandbox_id
                self._outputs.make(order.name)
                create = cri.CreateContainerRequest(pod_sandbox_id=made, config=config, sandbox_config=sandbox)
                return str(self._engine.runtime.CreateContainer(create, timeout=PATIENCE).container_id)
        except BaseException:
            with contextlib.suppress(EngineFailed):
                self._unmake(order.name, sandbox.annotations[criorder.MAKING])
            raise

    def _command(self, order: Order) -> list[str] | None:
        """What is told as the command. To the CRI, no arguments mean the image's own, unless it is told a command."""
        if order.command is not None or order.args is None or order.args:
            return order.command
        entrypoint: list[str] | None = self._engine.image(order.image).get("Entrypoint")
        return entrypoint

    def _unmake(self, name: str, making: str) -> None:
        for each in self._engine.sandboxes():
            if each.annotations.get(criorder.MAKING) == making:
                self._remove(each.id, name)

    def _check_network(self) -> None:
        """containerd cannot remove a sandbox again that it could not give a network."""
        with self._engine.asking():
            status = self._engine.runtime.Status(cri.StatusRequest(), timeout=PATIENCE).status
        for each in status.conditions:
            if each.type == "NetworkReady" and not each.status:
                raise EngineFailed(f"{self.name} has no network but `host`: {each.message}; configure CNI for it")

    def notes(self, order: Order) -> list[LimitNote]:
        limits = order.limits or TaskLimits()
        by = None if limits.pids is None else pidslimit.hierarchy()
        return criorder.notes(limits, self.name, None if by is None else by.name)

    def start(self, container: str) -> None:
        made = self._engine.status(container)
        if made is None:
            raise EngineFailed(f"{self.name} has no container {container}")
        self._outputs.lead(made.status.metadata.name, container, self._engine.state_directory())
        with self._engine.asking():
            self._engine.runtime.StartContainer(cri.StartContainerRequest(container_id=container), timeout=PATIENCE)
        if pids := made.status.annotations.get(criorder.PIDS):
            self._limit_pids(container, int(pids))

    def _limit_pids(self, container: str, pids: int) -> None:
        started = self._engine.status(container)
        pid = started and _pid(started)
        if not pid:
            return
        try:
            pidslimit.limit(pid, container, pids)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended already
        except OSError as error:
            self.send(container, "SIGKILL")
            raise EngineFailed(f"its processes cannot be limited: {error}") from error

    def find(self, labels: Mapping[str, str]) -> list[Found]:
        directories = self._outputs.names()  # before: one that is seen here has its sandbox by now
        sandboxes = self._engine.sandboxes()
        self._outputs.keep(directories, {each.metadata.name for each in sandboxes})
        selector = cri.ContainerFilter(label_selector=labels)
        containers = self._engine.containers(selector)
        made = {each.pod_sandbox_id for each in containers}
        # whoever was killed between two calls has left a sandbox without its container
        bare = [each for each in sandboxes if each.id not in made and labels.items() <= dict(each.labels).items()]
        return [Found(id=each.id, name=each.metadata.name, labels=dict(each.labels)) for each in [*containers, *bare]]

    def look(self, container: str) -> Seen:
        found = self._engine.status(container)
        if found is None:
            bare = any(each.id == container for each in self._engine.sandboxes())
            return Seen(state="created" if bare else "gone")
        status = found.status
        state = _STATES.get(status.state, "exited")
        if state == "running" and self._is_paused(container):
            state = "paused"
        # what became of it while the engine was away, the engine makes up
        known = status.state != cri.CONTAINER_UNKNOWN and status.reason != "Unknown"
        exited = state == "exited"
        return Seen(
            state=state,
            exit_code=status.exit_code if exited and known else None,
            # its "no" is none: now and then it misses one, of a container that has just been started
            oom_killed=True if status.reason == "OOMKilled" else None,
            pid=None if exited else _pid(found),
            image_id=self._used(status),
            error=status.message or (None if known else f"{self.name} has lost it"),
        )

    def wait(self, container: str, seconds: float) -> Seen:
        deadline = time.monotonic() + seconds
        seen = self.look(container)
        while seen.state not in _ENDED and (left := deadline - time.monotonic()) > 0:
            if seen.state == "created" or not self._wait_task(container, left):
                time.sleep(min(left, _LOOK))
            seen = self.look(container)
        return seen

    def output(self, container: str, skip: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
        found = self._engine.status(container)
        if found is None:
            return iter(())
        directory = self._outputs.path(found.status.metadata.name)
        return outputfiles.follow(directory, skip, lambda: self.look(container).state in _ENDED, outputfiles.KEEP)

    def send(self, container: str, signal: str) -> None:
        number = _number(signal)
        if number == signals.SIGKILL:
            self._thaw(container)
        with self._unless_ended(container):
            self._engine.tasks.kill(container, number)

    def pause(self, container: str) -> None:
        with self._unless_ended(container):
            if not self._engine.tasks.is_paused(container):
                self._engine.tasks.pause(container)

    def resume(self, container: str) -> None:
        with self._unless_ended(container):
            if self._engine.tasks.is_paused(container):
                self._engine.tasks.resume(container)

    def remove(self, container: str) -> None:
        for each in self._engine.containers(cri.ContainerFilter(id=container)):
            self._thaw(each.id)
            self._remove(each.pod_sandbox_id, each.metadata.name)
        for bare in self._engine.sandboxes():
            if bare.id == container:
                self._remove(bare.id, bare.metadata.name)

    def main_pid(self, name: str) -> int:
        state = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
        running = self._engine.containers(cri.ContainerFilter(state=state))
        named = [each for each in running if name in (each.id, each.metadata.name, each.labels.get(_POD_LABEL))]
        if not named:
            raise EngineFailed(f"{self.name} has no running container {name}")
        if len(named) > 1:
            several = ", ".join(f"{each.id} in sandbox {each.pod_sandbox_id}" for each in named)
            raise EngineFailed(f"{self.name} has several running containers {name}: {several}; name one by its id")
        status = self._engine.status(named[0].id)
        pid = status and _pid(status)
        if not pid:
            raise EngineFailed(f"container {name} has just ended")
        return pid

    def close(self) -> None:
        self._engine.close()

    # -- what the engine says

    def _used(self, status: Any) -> str | None:
        """The id of the image of a container: some versions name the image by where it came from."""
        reference = str(status.image_id or status.image_ref)
        return reference if reference.startswith("sha256:") else self._engine.image_id(reference)

    def _is_paused(self, container: str) -> bool:
        with contextlib.suppress(grpc.RpcError):  # it is just ending
            return self._engine.tasks.is_paused(container)
        return False

    @contextlib.contextmanager
    def _unless_ended(self, container: str) -> Iterator[None]:
        """What the engine refuses of a container that has ended is as good as done."""
        try:
            with self._engine.asking():
                yield
        except EngineFailed:
            if self.wait(container, _ENDING).state not in _ENDED:
                raise

    def _thaw(self, container: str) -> None:
        """What is frozen cannot be killed everywhere."""
        if self._is_paused(container):
            self.resume(container)

    def _wait_task(self, container: str, seconds: float) -> bool:
        """Returns once it has ended, or after so many seconds; at once, and False, where that cannot be waited for."""
        with contextlib.suppress(grpc.RpcError):
            self._engine.tasks.wait(container, seconds)
            return True
        return False

    def _remove(self, sandbox: str, name: str) -> None:
        """A sandbox with all that is in it. Again, where somebody else is at it or it is just changing."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._engine.asking(), unless(Code.NOT_FOUND):
                    self._engine.runtime.StopPodSandbox(
                        cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=PATIENCE
                    )
                    request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
                    self._engine.runtime.RemovePodSandbox(request, timeout=PATIENCE)
                break
            except EngineFailed:
                if time.monotonic() > deadline:
                    raise
                if not any(each.id == sandbox for each in self._engine.sandboxes()):
                    break
                time.sleep(_LOOK)
        self._outputs.remove(name)


def _pid(answer: Any) -> int | None:
    return json.loads(answer.info.get("info", "{}")).get("pid") or None


def _number(signal: str) -> int:
    base, _, offset = signal.partition("+")
    try:
        return int(signals.Signals[base]) + int(offset or 0)
    except (KeyError, ValueError):
        raise EngineFailed(f"there is no signal {signal}") from None
