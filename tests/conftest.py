"""Fixtures: a real daemon in a directory and on a port of its own; every process a test starts is ended here."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import hypothesis
import pytest
from engines import busybox_archive, docker_server, make_registry, podman_server  # noqa: F401  fixtures
from engines_cri import cri_server  # noqa: F401  a fixture
from logservers import authority, journald, receiver, rsyslog  # noqa: F401  fixtures
from machinery import bench, machines, make_site, site  # noqa: F401  fixtures
from nursery import PIPE, Forked, fork_daemon, run_verb

from task_runner.kernel import cgroupmounts, marks
from task_runner.lib import cgroups, lock, process
from task_runner.lib.statedir import StateDirectory

#: how long anything may take on a loaded machine of two cores before a test calls it missing
PATIENCE = 60.0
ROOT = Path(__file__).parent.parent
# hundreds of launchers and verbs are started: none of them shall compile what it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
USUAL_UMASK = 0o022
#: variables that the loader and Python have read before a program begins: a forked one is too late for them
OF_INTERPRETERS = ("LD_", "PYTHON")
os.umask(USUAL_UMASK)
# a machine that stands still for a while says nothing of what is tested
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")


def wait_for(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """The first true value of ``condition``. Fails the test when patience ends."""
    deadline, pause, late = time.monotonic() + patience, 0.02, False
    while not late:
        late = time.monotonic() >= deadline  # and is asked once more: it may be this process that stood still
        if value := condition():
            return value
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)  # most conditions ask a daemon, and asking costs more than the wait
    pytest.fail(f"not within {patience} s: {what or condition}")


def kill_tasks(state: StateDirectory) -> None:
    """End every runner of a state directory, and everything of its tasks.

    A runner has the command line of the launcher it was forked from, with the path of its launcher.lock: that finds
    also one whose lock file a test has damaged.
    """
    if not os.path.isdir(state.tasks.path):
        return
    launcher, tasks = state.launcher_lock.encode(), {each.encode() for each in os.listdir(state.tasks.path)}
    while remains := list(_remains(launcher, tasks)):
        for each in remains:
            process.send(each, signal.SIGKILL)
    remove_groups(state)


def _remains(launcher: bytes, tasks: set[bytes]) -> Iterator[process.Process]:
    for name in os.listdir("/proc"):
        # hundreds of daemons end, and look at all processes: what is read of most of them is as little as can be
        if name.isdigit() and _belongs(name, launcher, tasks) and int(name) != os.getpid():
            found = process.look(int(name))
            if found and found.alive and _belongs(name, launcher, tasks):  # still: by now the pid may be another's
                yield found


def _belongs(pid: str, launcher: bytes, tasks: set[bytes]) -> bool:
    if launcher in _read(pid, "cmdline"):
        return True
    # in the middle of an exec a process shows nothing of itself: that is waited for
    known = marks.environments([(int(pid), None)]) if tasks else ()
    return any(word.startswith(_MARK) and word[len(_MARK) :] in tasks for _, words in known for word in words)


_MARK = f"{process.MARK}=".encode()


def remove_groups(state: StateDirectory) -> None:
    """Remove the cgroups of a state directory, with whoever has cleared its environment and hides there."""
    mounts = cgroupmounts.parse_mounts(Path("/proc/self/mountinfo").read_text())
    own = cgroupmounts.parse_own(Path("/proc/self/cgroup").read_text())
    name = cgroups.name_of(state.path)
    located = {cgroupmounts.locate(mounts, own, controller) for controller in own}
    for top in (Path(directory, name) for directory in located if directory is not None):
        if (top / "cgroup.kill").exists():
            (top / "cgroup.kill").write_text("1")
        wait_for(lambda top=top: _removed(top), f"{top} is empty")


def _removed(top: Path) -> bool:
    for directory, _below, _files in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            return False
    return True


def _read(pid: str, name: str) -> bytes:
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 20)
    except OSError:
        return b""
    finally:
        os.close(fd)


class Daemon:
    """A daemon in a process of its own, and a client of it."""

    def __init__(self, state_dir: Path, **settings: Any) -> None:
        self.state_dir = state_dir
        self.state = StateDirectory(str(state_dir))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.settings = {
            "heartbeat_seconds": 0.5,
            "stalled_after_seconds": 2.0,
            "scan_seconds": 0.5,
            "lock_patience_seconds": 20,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.log = state_dir.parent / f"{state_dir.name}.log"
        self.http = self._client()

    def _client(self) -> httpx.Client:
        # no certificates are read, which takes 50 ms; and no connection is used that the daemon, after 5 s, may just be closing
        limits = httpx.Limits(keepalive_expiry=2)
        return httpx.Client(base_url=self.url, timeout=PATIENCE, verify=False, limits=limits)

    # -- the process

    def environment(self, **more: str) -> dict[str, str]:
        settings = {f"TASK_RUNNER_{name.upper()}": _text(value) for name, value in self.settings.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
        return {**inherited, **settings, "TASK_RUNNER_STATE_DIR": str(self.state_dir), **more}

    @property
    def env(self) -> dict[str, str]:
        """What a client process needs to find this daemon."""
        return {**self.environment(), "TASK_RUNNER_URL": self.url, "TASK_RUNNER_TOKEN": self.token}

    def start(self, *, wait: bool = True, prefix: tuple[str, ...] = (), inside: str = "", **environment: str) -> Daemon:
        """``inside``: code in Python by which it leaves for surroundings of its own, in place of a ``prefix``, which
        costs the start of an interpreter."""
        fd = self._listener.fileno()
        if inside or not (prefix or any(name.startswith(OF_INTERPRETERS) for name in environment)):
            launchers = not (inside or EXECUTED_LAUNCHERS)
            self._process = fork_daemon(self.environment(**environment), fd, self.log, launchers=launchers, inside=inside)
        else:
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    [*prefix, sys.executable, str(ROOT / "tests/tools/serve.py"), str(fd)],
                    env=self.environment(**environment),
                    pass_fds=[fd],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_for(self._ready, f"the daemon is ready; its log: {self.log}")

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the daemon ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}")
        if not os.path.exists(self.state.token):
            return False
        self._authorize()
        try:
            return self.http.get("/ready", timeout=2).status_code in (200, 507)
        except httpx.HTTPError:
            return False

    def _authorize(self) -> None:
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    @property
    def token(self) -> str:
        return (self.state_dir / "token").read_text().strip()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def launcher_pid(self) -> int | None:
        assert EXECUTED_LAUNCHERS, "a forked one is no child of the daemon: use the fixture executed_launchers"
        for each in process.descendants(self.pid):
            if b"task_runner.lib.launcher" in _read(str(each.pid), "cmdline"):  # nothing, of one that has just ended
                return each.pid
        return None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_dead(self) -> int:
        """Wait for the daemon to die by itself."""
        assert self._process is not None
        code = self._process.wait(PATIENCE)
        self._process = None
        return code

    def terminate(self) -> None:
        """SIGTERM, as an orderly stop."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._process = None

    def restart(self, **environment: str) -> None:
        """SIGKILL and a new daemon on the same directory and port."""
        self.kill()
        self.http.close()
        self.http = self._client()
        self.start(**environment)

    def close(self) -> None:
        self.kill()
        self.http.close()
        self._listener.close()
        kill_tasks(self.state)

    # -- the client

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.http.post(path, **({} if body is None else {"json": body}), **options)

    def submit(self, *command: str, **more: Any) -> str:
        """Accept a command (or, with machine= and parameters=, what they say); returns the task's id."""
        body: dict[str, Any] = {"command": list(command), **more} if command else more
        response = self.post("/v1/tasks", body)
        assert response.status_code == 201, response.text
        return str(response.json()["taskId"])

    def task(self, task_id: str, wait: float = 0) -> dict[str, Any]:
        """The task now, or when it is over, if that is within ``wait`` seconds."""
        response = self.http.get(f"/v1/tasks/{task_id}", params={"wait": wait} if wait else {})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait(self, task_id: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The task when it is over."""
        return dict(wait_for(lambda: (t := self.task(task_id, min(5, patience)))["outcome"] and t, f"{task_id} is over", patience))

    def wait_state(self, task_id: str, *states: str) -> dict[str, Any]:
        return dict(
            wait_for(
                lambda: (t := self.task(task_id))["state"] in states and t,
                f"{task_id} is {' or '.join(states)}",
            )
        )

    def refusal(self, **body: Any) -> dict[str, str]:
        """What is wrong with a task that is not accepted: a message for each field."""
        response = self.post("/v1/tasks", body)
        assert response.status_code == 400, response.text
        return {each["field"]: each["message"] for each in response.json()["errors"]}

    def output(self, task_id: str) -> bytes:
        return self.http.get(f"/v1/tasks/{task_id}/output").content

    def wait_output(self, task_id: str, text: bytes) -> None:
        wait_for(lambda: text in self.output(task_id), f"{text!r} in the output")

    def work(self, task_id: str) -> Path:
        """The working directory of a task's first attempt."""
        return Path(self.state.tasks.attempt(task_id, 1).work)

    def runner_pid(self, task_id: str, attempt: int = 1) -> int:
        probe = lock.probe(self.state.tasks.attempt(task_id, attempt))
        assert probe.runner is not None
        return probe.runner.pid

    def stands_still(self, task_id: str) -> bool:
        """Whether nothing of a task can run: all is frozen, or stopped. One in D waits for the exec of its stopped
        child (vfork), and cannot move either."""
        alive = self.alive(task_id)
        return bool(alive) and all(each.state in "TD" or is_frozen(each.pid) for each in alive)

    def alive(self, task_id: str) -> list[process.Process]:
        """What lives of a task, its runner not counted."""
        return process.marked(task_id)


def is_frozen(pid: int) -> bool:
    """Whether a process, with its whole cgroup, cannot run. Its state letter does not say so."""
    try:
        own = cgroupmounts.parse_own(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return False
    directory = cgroupmounts.locate(cgroupmounts.parse_mounts(Path("/proc/self/mountinfo").read_text()), own, "")
    events = Path(f"{directory}/cgroup.events")
    return events.exists() and "frozen 1" in events.read_text()


def _text(value: Any) -> str:
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value)
    return str(value)


@pytest.fixture(autouse=True)
def usual_surroundings() -> Iterator[None]:
    """What a daemon or a runner sets for itself is set here where a part of it is tested in this process."""
    here = os.getcwd()
    yield
    os.umask(USUAL_UMASK)
    os.chdir(here)


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A function that makes daemons (not started); all are ended with everything they started."""
    daemons: list[Daemon] = []

    def make(state_dir: Path | None = None, **settings: Any) -> Daemon:
        daemon = Daemon(state_dir or tmp_path / f"state{len(daemons)}", **settings)
        daemons.append(daemon)
        return daemon

    yield make
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that is ready."""
    return make_daemon().start()


#: not empty while launchers are to be executed
EXECUTED_LAUNCHERS: list[bool] = []


@pytest.fixture
def executed_launchers() -> Iterator[None]:
    """The launchers of daemons are children of them, and new programs, as in real life; not forked by a nursery, which
    costs a tenth. For tests of what launchers do to daemons, or daemons to launchers."""
    EXECUTED_LAUNCHERS.append(True)
    yield
    EXECUTED_LAUNCHERS.pop()


# -- the command line

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Forked]


@pytest.fixture
def task_runner(daemon: Daemon, tmp_path: Path) -> Run:
    """Run a verb to its end."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return verb(daemon, *arguments, cwd=tmp_path, **options)

    return run


def verb(daemon: Daemon, *arguments: str, cwd: Path = ROOT, given: str | None = None,
         env: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end against a daemon; ``env``: more of its environment, ``given``: its standard input."""
    data = None if given is None else given.encode()
    done = run_verb(*arguments, env={**daemon.env, **env}, cwd=cwd, given=data, timeout=PATIENCE)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def start(daemon: Daemon, tmp_path: Path) -> Iterator[Start]:
    """Start a verb; what is left of it at the end of the test is killed."""
    started: list[Forked] = []

    def begin(*arguments: str, stdin: int = subprocess.DEVNULL) -> Forked:
        started.append(Forked("verb", *arguments, env=daemon.env, cwd=tmp_path, stdin=stdin, stdout=PIPE, stderr=PIPE))
        return started[-1]

    yield begin
    for each in started:
        each.close()


def finish(process: Forked, begun: bytes = b"") -> tuple[int, bytes, str]:
    """The exit code and all the output of a verb that has been started; ``begun``: what was read of it before."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.wait(), begun + out, err.decode()


# -- what a test needs of the machine

#: comes with hardware, not with a package: skipped by name where it is missing, even with CI=true
HARDWARE = {"nvidia-smi"}


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for the tests of a file that mind only their own tasks; the file may say how, in SETTINGS."""
    daemon = Daemon(tmp_path_factory.mktemp("shared") / "state", **getattr(request.module, "SETTINGS", {}))
    try:
        yield daemon.start()
        assert daemon.http.get("/ready").status_code == 200
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`needs("root")`, `needs("bwrap")` …: skip by name what this machine lacks; with CI=true that is an error."""
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("takes minutes: --long")
    for mark in item.iter_markers("needs"):
        for need in mark.args:
            if not _has(need):
                message = f"needs {need}"
                if os.environ.get("CI") == "true" and need not in HARDWARE:
                    pytest.fail(f"{message}, and CI must have it")
                pytest.skip(message)


def _has(need: str) -> bool:
    if need == "root":
        return os.geteuid() == 0
    if need == "libfaketime":
        return faketime_library() is not None
    if need == "chromium":
        need = "chromium-headless-shell" if shutil.which("chromium-headless-shell") else need
    return shutil.which(need, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def faketime_library() -> str | None:
    for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return str(path)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first: begun last, one would run alone while the other processors wait.

    A file stays together (`--dist loadfile`): what its tests share is then started once.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow") or _drives_a_browser(item)}
    items.sort(key=lambda item: item.path not in slow)


def _drives_a_browser(item: pytest.Item) -> bool:
    return any("chromium" in mark.args for mark in item.iter_markers("needs"))


def pytest_collection(session: pytest.Session) -> None:
    """What is loaded to stay is not searched for garbage over and over: it is much, and each worker loads all of it."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.enable()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run also what takes minutes")
    parser.addoption("--crash-cycles", type=int, default=30, help="how often the crash suite kills something")
    parser.addoption("--crash-seed", type=int, default=1, help="what the crash suite kills, and when")
