"""Real container engines for tests: each with directories and a socket of its own, and ended with all it started.

A fixture starts its engine when the first test of a worker asks for it. `localhost/busybox:1` (images.BUSYBOX_IMAGE) is in each of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from imageregistry import Registry
from images import BUSYBOX_IMAGE, busybox

from task_runner.lib import process

DATA = Path(__file__).parent / "data/engines"
#: engines write everything through to their disk: in memory that costs nothing
MEMORY = Path("/dev/shm")
#: packages put daemons where not everybody looks
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
PATIENCE = 60.0


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def ask(socket: Path, path: str, **parameters: str) -> httpx.Response:
    """A look at an engine through its API: a command of its own costs it 0.1 s of a processor each time."""
    transport = httpx.HTTPTransport(uds=str(socket), verify=False)
    with httpx.Client(transport=transport, base_url="http://engine", timeout=PATIENCE) as client:
        return client.get(path, params=parameters)


def answers(socket: Path) -> bool:
    try:
        return ask(socket, "/_ping").is_success
    except httpx.HTTPError:
        return False


def _place() -> Path | None:
    """Where there is room in memory (in many containers there is not); none: the usual place."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30
    return MEMORY if roomy else None


class Service:
    """One program that serves, in a directory of its own."""

    def __init__(self, directory: Path, command: list[str], env: dict[str, str]) -> None:
        self.directory = directory
        self.command = command
        self.env = {**os.environ, "PATH": PATH, **env}
        self.log = directory / f"{Path(command[0]).name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait_ready(self, ready: Any) -> None:
        assert self._process is not None
        running = self._process

        def reached() -> bool:
            assert running.poll() is None, f"{self.command[0]} has ended:\n{self.log.read_text()[-3000:]}"
            return bool(ready())

        wait_until(reached, f"{self.command[0]} answers; its log: {self.log}")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Server:
    """An engine that runs: what tests do to it beside its API."""

    name: str

    def __init__(self) -> None:
        # short: the path of a socket has at most 107 bytes
        self.directory = Path(tempfile.mkdtemp(prefix=f"tr-{self.name}-", dir=_place()))
        self.socket = self.directory / "api.sock"

    @property
    def sockets(self) -> dict[str, str]:
        """For the setting `engines`, and for open_engine."""
        return {self.name: str(self.socket)}

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL for the engine; its containers run on."""
        raise NotImplementedError

    def command(self, *arguments: str) -> str:
        """What the engine's own command line says."""
        raise NotImplementedError

    def load(self, archive: Path) -> None:
        """Take in an image."""
        self.command("load", "--quiet", "--input", str(archive))

    def containers_of(self, state_directory: Path) -> list[str]:
        """The ids of the containers that the daemon of a state directory has left, ended ones included."""
        labels = {"label": [f"task-runner.daemon={os.path.realpath(state_directory)}"]}
        answers: list[httpx.Response] = []

        def told() -> bool:
            answers.append(ask(self.socket, "/v1.40/containers/json", all="true", filters=json.dumps(labels)))
            return answers[-1].status_code != 500  # Podman has no list while one of them is just ending

        wait_until(told, "the engine lists its containers")
        return [each["Id"] for each in answers[-1].raise_for_status().json()]

    def remove_containers(self) -> None:
        def removed() -> bool:
            try:
                ids = self.command("ps", "--all", "--quiet").split()
                if ids:
                    self.command("rm", "--force", *ids)
            except AssertionError:
                return False  # one of them is just ending by itself
            return not ids

        wait_until(removed, "all containers are removed")

    def close(self) -> None:
        """End everything, and leave nothing behind."""
        try:
            self.remove_containers()
        finally:
            self.stop()
            end_processes(self.directory)
            unmount(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self) -> None:
        raise NotImplementedError


class PodmanServer(Server):
    name = "podman"

    def __init__(self) -> None:
        super().__init__()
        self.env = {
            "CONTAINERS_CONF": str(DATA / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(DATA / "registries.conf"),
            "XDG_RUNTIME_DIR": str(self.directory),
            # whenever it is asked for its host or its version it has dpkg look for the packages of its programs: 0.3 s
            "DPKG_ADMINDIR": str(self.directory),
        }
        at = self.directory
        self._podman = ["podman", "--root", f"{at}/root", "--runroot", f"{at}/run", "--tmpdir", f"{at}/tmp"]
        self.service = Service(at, [*self._podman, "system", "service", "-t", "0", f"unix://{self.socket}"], self.env)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.service.start()
        self.service.wait_ready(lambda: answers(self.socket))

    def kill(self) -> None:
        self.service.kill()

    def stop(self) -> None:
        self.service.terminate()

    def command(self, *arguments: str) -> str:
        return run([*self._podman, *arguments], self.service.env)


class DockerServer(Server):
    name = "docker"

    def __init__(self) -> None:
        super().__init__()
        at = self.directory
        (at / "containerd").mkdir()
        config = (DATA / "containerd.toml").read_text().replace("@DIR@", f"{at}/containerd")
        (at / "containerd/config.toml").write_text(config)
        (at / "daemon.json").write_text("{}")
        self.containerd = Service(at, ["containerd", "-c", f"{at}/containerd/config.toml"], {})
        self.service = Service(
            at,
            [
                *("dockerd", "--config-file", f"{at}/daemon.json", "--host", f"unix://{self.socket}"),
                *("--containerd", f"{at}/containerd/containerd.sock", "--pidfile", f"{at}/pid"),
                *("--data-root", f"{at}/data", "--exec-root", f"{at}/exec"),
                *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"),
                *("--oom-score-adjust=0", "--live-restore"),
            ],
            {"DOCKER_CONFIG": str(at), "DOCKER_HOST": f"unix://{self.socket}"},
        )

    def start(self) -> None:
        if not (self.directory / "containerd/containerd.sock").exists():
            self.containerd.start()
            self.containerd.wait_ready((self.directory / "containerd/containerd.sock").exists)
        self.service.start()
        self.service.wait_ready(lambda: answers(self.socket))

    def kill(self) -> None:
        self.service.kill()

    def stop(self) -> None:
        self.service.terminate()
        self.containerd.terminate()

    def command(self, *arguments: str) -> str:
        return run(["docker", *arguments], self.service.env)


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def end_processes(directory: Path) -> None:
    """Kill what still names a directory in its arguments: shims and monitors of containers."""

    def left() -> list[process.Process]:
        return [each for each in process.everyone() if each.alive and each.pid != os.getpid() and names(each.pid)]

    def names(pid: int) -> bool:
        try:
            return str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def ended() -> bool:
        for each in left():
            process.send(each, signal.SIGKILL)
        return not left()

    wait_until(ended, f"nothing of {directory} runs")


def unmount(directory: Path) -> None:
    """Undo all mounts below a directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [point for point in (line.split()[4] for line in lines) if point.startswith(f"{directory}/")]
    for point in sorted(points, key=len, reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)


# -- fixtures


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the image `localhost/busybox:1`, for any engine."""
    return busybox().save(tmp_path_factory.mktemp("image") / "busybox.tar", BUSYBOX_IMAGE)


def serve(server: Server, archive: Path) -> Iterator[Any]:
    try:
        server.start()
        server.load(archive)
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def podman_server(busybox_archive: Path) -> Iterator[PodmanServer]:
    """Podman's API service, with the busybox image. A test that kills it starts it again."""
    yield from serve(PodmanServer(), busybox_archive)


@pytest.fixture(scope="session")
def docker_server(busybox_archive: Path) -> Iterator[DockerServer]:
    """The Docker Engine, with the busybox image. A test that kills it starts it again."""
    yield from serve(DockerServer(), busybox_archive)


@pytest.fixture
def make_registry() -> Iterator[Callable[..., Registry]]:
    """A function that starts image registries; all are ended."""
    registries: list[Registry] = []

    def make(login: tuple[str, str] | None = None) -> Registry:
        registry = Registry(login)
        registries.append(registry)
        registry.serve()
        return registry

    yield make
    for registry in registries:
        registry.close()
