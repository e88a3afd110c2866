"""The service unit under a real systemd: PID 1 of namespaces of its own, on a throw-away overlay of this machine."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, ROOT, wait_for

from task_runner.lib import process

UNIT = ROOT / "systemd/task-runner.service"
SYSUSERS = ROOT / "systemd/task-runner.sysusers"
#: of 100; what the unit leaves open, and why, stands in its comments
EXPOSURE = 55
SYSTEMD = "/lib/systemd/systemd"
STATE = "/var/lib/task-runner"
CLONE_NEWNET = 0x40000000
#: prints one line at each start, waits for a file in its working directory, and ends with a code of its own
COMMAND = "echo started $$; while [ ! -e go ]; do sleep 0.1; done; echo done; exit 9"

pytestmark = [
    pytest.mark.needs("root", "unshare", "nsenter", "systemctl", "systemd-analyze", "dbus-daemon"),
    pytest.mark.slow,
]


class Machine:
    """A small machine that systemd has booted, with the service enabled."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "console.log"
        self._api: ThreadPoolExecutor | None = None
        self._cgroup = _new_cgroup(f"test-{os.getpid()}-{directory.name}")
        root, program = directory / "machine", directory / "program"
        root.mkdir()
        install(program)
        unit = directory / UNIT.name
        # here a hard limit cannot be raised, as in most containers; everything else is the unit as it is shipped
        unit.write_text(re.sub("(?m)^LimitNOFILE=.*$", "LimitNOFILE=1024:4096", UNIT.read_text()))
        script = ROOT / "tests/tools/systemd-pid1.sh"
        command: list[str | Path] = [script, root, self._cgroup, program, sys.base_prefix, unit, SYSUSERS]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def booted(self) -> Machine:
        self._pid1 = wait_for(self._find, f"systemd is up; its console: {self.log}")
        self._api = ThreadPoolExecutor(1, initializer=self._enter)
        wait_for(lambda: self.systemctl("is-active", "task-runner") == "active", "the service is active")
        return self

    def _find(self) -> int | None:
        if self._process.poll() is not None:
            pytest.fail(f"no systemd: {self.log.read_text()[-3000:]}")
        for each in process.descendants(self._process.pid):
            if each.command == "systemd" and each.ppid == self._process.pid:
                return each.pid
        return None

    def close(self) -> None:
        if self._api is not None:
            self._api.shutdown()
        (self._cgroup / "cgroup.kill").write_text("1")
        self._process.wait(PATIENCE)
        wait_for(self._remove_cgroup, "the machine is gone")

    def _remove_cgroup(self) -> bool:
        for directory, _below, _files in os.walk(self._cgroup, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                return False
        return True

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside, as root."""
        inside = ["nsenter", "-t", str(self._pid1), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=PATIENCE)

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments).stdout.strip()

    def show(self, name: str) -> str:
        return self.systemctl("show", "--property", name, "--value", "task-runner")

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-o", "short-precise", "-u", "task-runner").stdout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers; None where nobody does, or it is no success."""
        token = self.read(f"{STATE}/token").strip()
        try:
            assert self._api is not None
            answer = self._api.submit(self._ask, method, path, token, body).result(PATIENCE)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def _ask(self, method: str, path: str, token: str, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url="http://127.0.0.1:8000", headers=headers, timeout=20, verify=False) as client:
            return client.request(method, path, json=body)

    def _enter(self) -> None:
        """Have this thread make its connections in the network of the machine."""
        with open(f"/proc/{self._pid1}/ns/net") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def wait_ready(self) -> None:
        wait_for(lambda: self.call("GET", "/ready"), "the API is ready")

    def submit(self, command: str = COMMAND) -> str:
        self.wait_ready()
        task = self.call("POST", "/v1/tasks", {"command": ["sh", "-c", command]})
        wait_for(lambda: self.output(task["taskId"]).endswith("\n"), "the command has begun")
        return str(task["taskId"])

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(wait_for(lambda: self.call("GET", f"/v1/tasks/{task_id}"), "the API tells of the task"))

    def read(self, path: str) -> str:
        """A file inside; empty where there is none."""
        try:
            return Path(f"/proc/{self._pid1}/root{path}").read_text()
        except FileNotFoundError:
            return ""

    def let_go(self, task_id: str) -> None:
        """Let a COMMAND come to its end."""
        Path(f"/proc/{self._pid1}/root{STATE}/tasks/{task_id}/work/go").touch()

    def output(self, task_id: str) -> str:
        return self.read(f"{STATE}/tasks/{task_id}/output.log")

    def finish(self, task_id: str) -> dict[str, Any]:
        """Let a COMMAND come to its end; the task after it."""
        self.let_go(task_id)
        return dict(wait_for(lambda: (task := self.task(task_id))["outcome"] and task, "the task is over"))


def _new_cgroup(name: str) -> Path:
    """An empty cgroup v2 below our own."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            own = re.search("(?m)^0::(.*)$", Path("/proc/self/cgroup").read_text())
            assert own is not None
            cgroup = Path(line.split()[1] + own[1].rstrip("/")) / name
            cgroup.mkdir()
            return cgroup
    pytest.fail("there is no cgroup v2 on this machine")


def install(program: Path) -> None:
    """What an installation holds, in a form that every user may read wherever this checkout lies."""
    library = program / "lib"
    # what a neighbour compiles comes and goes meanwhile
    shutil.copytree(ROOT / "task_runner", library / "task_runner", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _requirements(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]):
        distribution = metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or [] if path.parts[0] != ".."}:
            source = Path(str(distribution.locate_file(top)))
            if source.is_dir():
                # a module that a neighbour compiles has a name of its own until it is whole
                shutil.copytree(source, library / top, True, shutil.ignore_patterns("*.pyc.*"), dirs_exist_ok=True)
            elif source.exists():
                shutil.copy2(source, library, follow_symlinks=False)
    # it can write nothing there
    subprocess.run([sys.executable, "-m", "compileall", "-q", library / "task_runner"], check=True)
    (program / "bin").mkdir()
    start = program / "bin/task-runner"
    python = f"{sys.base_prefix}/bin/python3"
    start.write_text(
        f"#!/bin/sh\nexport PYTHONPATH=/opt/task-runner/lib\nexec {python} -m task_runner \"$@\"\n"
    )
    subprocess.run(["chmod", "-R", "a+rX", program], check=True)
    start.chmod(0o755)


def _requirements(wanted: list[str]) -> set[str]:
    """The distributions that these requirements bring along, as far as they are installed here."""
    found: set[str] = set()
    todo = list(wanted)
    while todo:
        line = todo.pop()
        name = re.split(r"[^\w.-]", line)[0]
        if name in found or "extra ==" in line:
            continue
        try:
            todo += metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        found.add(name)
    return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    namespaces = ["unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "true"]
    if subprocess.run(namespaces, capture_output=True, timeout=PATIENCE).returncode != 0:
        lacking = "needs the right to make namespaces"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{lacking}, and CI must have it")
        pytest.skip(lacking)
    machine = Machine(tmp_path_factory.mktemp("systemd"))
    try:
        yield machine.booted()
    finally:
        print(machine.journal())  # shown where a test fails
        machine.close()


@pytest.fixture
def task_id(machine: Machine) -> Iterator[str]:
    """A task that runs and waits."""
    if machine.show("ActiveState") != "active":
        machine.systemctl("start", "task-runner")
    task_id = machine.submit()
    yield task_id
    machine.let_go(task_id)


def runner_of(machine: Machine, task_id: str) -> int:
    """The pid of the task's runner. Its status comes a moment after the command's first output."""
    path = f"{STATE}/tasks/{task_id}/status.json"
    status = wait_for(lambda: machine.read(path), "the runner has written its status")
    return int(json.loads(status)["runner"]["pid"])


def check_true_ending(machine: Machine, task_id: str) -> None:
    """The command went on undisturbed, was started once, and its exit code is known."""
    pid = machine.output(task_id).split()[1]
    task = machine.finish(task_id)
    assert (task["state"], task["outcome"], task["exitCode"], task["attempt"]) == ("exited", "failed", 9, 1)
    assert machine.output(task_id) == f"started {pid}\ndone\n"


def test_the_unit_holds_no_mistake(machine: Machine) -> None:
    verified = machine.run("systemd-analyze", "verify", "/etc/systemd/system/task-runner.service")
    assert verified.stdout + verified.stderr == ""  # it exits with 0 on keys that it does not know


def test_the_unit_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout[-200:]


def test_service_and_tasks_run_as_a_user_without_privileges(machine: Machine, task_id: str) -> None:
    assert machine.run("stat", "-c", "%U %a", STATE).stdout == "task-runner 700\n"
    for pid in (machine.main_pid, runner_of(machine, task_id)):
        status = machine.run("cat", f"/proc/{pid}/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert fields["Uid"].split()[0] == machine.run("id", "-u", "task-runner").stdout.strip()
        assert (fields["NoNewPrivs"], int(fields["CapBnd"], 16)) == ("1", 0)
    check_true_ending(machine, task_id)


def test_a_task_and_its_cgroup_below_the_units_live_through_a_restart(machine: Machine, task_id: str) -> None:
    pid, runner, main = machine.output(task_id).split()[1], runner_of(machine, task_id), machine.main_pid

    def group_of(pid: int | str) -> str:
        return machine.run("cat", f"/proc/{pid}/cgroup").stdout.splitlines()[-1]

    assert re.fullmatch(f"0::/system.slice/task-runner.service/task-runner-[0-9a-f]{{12}}/{task_id}-1", group_of(pid))
    assert group_of(runner) == group_of(main) == "0::/system.slice/task-runner.service"
    before = group_of(pid)
    restarted = machine.run("systemctl", "restart", "task-runner")
    assert restarted.returncode == 0, restarted.stderr
    assert machine.main_pid != main
    machine.wait_ready()
    assert machine.task(task_id)["state"] == "running"
    assert runner_of(machine, task_id) == runner
    assert group_of(pid) == before
    check_true_ending(machine, task_id)
    assert machine.run("test", "-e", f"/sys/fs/cgroup{before.removeprefix('0::')}").returncode == 1


def test_a_task_lives_through_sigkill_of_the_main_process(machine: Machine, task_id: str) -> None:
    runner, main = runner_of(machine, task_id), machine.main_pid
    restarts = int(machine.show("NRestarts"))
    machine.run("kill", "-KILL", str(main))
    wait_for(lambda: machine.main_pid not in (0, main), "systemd starts the service again")
    machine.wait_ready()
    task = machine.task(task_id)
    assert (task["state"], task["stalled"]) == ("running", None)
    assert runner_of(machine, task_id) == runner
    assert int(machine.show("NRestarts")) == restarts + 1, "one start was enough"
    check_true_ending(machine, task_id)


def test_a_task_lives_through_sigkill_of_every_process_of_the_daemon(machine: Machine, task_id: str) -> None:
    main = machine.main_pid
    worker = machine.run("pgrep", "-P", str(main)).stdout.strip()
    launcher = machine.run("pgrep", "-P", worker, "-f", "task_runner.lib.launcher").stdout.strip()
    killed = machine.run("kill", "-KILL", str(main), worker, launcher)
    # the others may have followed the first before it was their turn
    assert all("No such process" in line for line in killed.stderr.splitlines()), killed.stderr
    wait_for(lambda: machine.main_pid not in (0, main), "systemd starts the service again")
    machine.wait_ready()
    assert machine.task(task_id)["state"] == "running"
    check_true_ending(machine, task_id)


def test_a_task_lives_through_a_reload(machine: Machine, task_id: str) -> None:
    main = machine.main_pid

    def workers() -> set[str]:
        return set(machine.run("pgrep", "-P", str(main)).stdout.split())

    before = workers()
    assert machine.run("systemctl", "reload", "task-runner").returncode == 0
    wait_for(lambda: workers() - before, "another daemon")
    wait_for(lambda: not workers() & before, "the old one has gone")
    machine.wait_ready()
    assert machine.main_pid == main
    check_true_ending(machine, task_id)


def test_a_stopped_service_leaves_tasks_running_and_knows_of_them_afterwards(machine: Machine) -> None:
    lives, ends = machine.submit(), machine.submit()
    machine.systemctl("stop", "task-runner")
    assert machine.show("ActiveState") == "inactive"
    assert machine.call("GET", "/health") is None
    machine.let_go(ends)
    wait_for(lambda: machine.output(ends).endswith("done\n"), "the command ends while nobody looks")
    machine.systemctl("start", "task-runner")
    machine.wait_ready()
    assert machine.task(lives)["state"] == "running"
    for task_id in (ends, lives):
        check_true_ending(machine, task_id)


def test_another_kill_mode_is_warned_of_at_start(machine: Machine) -> None:
    drop_in = "/run/systemd/system/task-runner.service.d/kill.conf"
    machine.run("mkdir", "-p", os.path.dirname(drop_in))
    try:
        machine.run("sh", "-c", f"printf '[Service]\nKillMode=mixed\n' >{drop_in}")
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", "task-runner")
        wait_for(lambda: "KillMode=mixed: when it is stopped" in machine.journal(), "the warning")
    finally:
        machine.run("rm", drop_in)
        machine.systemctl("daemon-reload")  # a stop goes by the unit as it is then
