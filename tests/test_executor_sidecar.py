"""Sidecar mode of the task-executor's dialect: commands beside the main process of a real container, which is found by its
environment."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from dialectclient import DialectClient
from engines import PodmanServer
from images import BUSYBOX_IMAGE
from ports import free_port
from served import SERVE, Served

from task_runner.api.dialects.executor import sidecar
from task_runner.errors import Refused
from task_runner.kernel import marks
from task_runner.lib import process
from task_runner.service.settings import Settings, load

pytestmark = pytest.mark.needs("root", "podman", "runc")


class Main:
    """A container that knows nothing of us."""

    def __init__(self, server: PodmanServer, name: str) -> None:
        self.name = name
        self._server = server
        self.id = server.command(
            "run", "--detach", "--network", "none", "--hostname", "sandbox", "--workdir", "/srv",
            "--env", f"SANDBOX_MAIN_CONTAINER={name}", "--env", "TARGET_VAR=i_am_from_target", BUSYBOX_IMAGE,
            "sh", "-c", "trap : TERM; while :; do sleep 600; done",
        ).strip()  # fmt: skip
        wait_for(lambda: self.pid, "it runs")
        mark = f"SANDBOX_MAIN_CONTAINER={name}"
        wait_for(lambda: any(each.pid == self.pid for each in marks.carriers(mark, "NO_SUCH")), "its command is executed")

    @property
    def pid(self) -> int:
        return int(self._server.command("inspect", "--format", "{{.State.Pid}}", self.id))

    def run(self, *command: str) -> str:
        return self._server.command("exec", self.id, *command)

    def begin(self, *command: str) -> None:
        self._server.command("exec", "--detach", self.id, *command)

    def remove(self) -> None:
        self._server.command("rm", "--force", "--time", "0", self.id)


@pytest.fixture(scope="module")
def main(podman_server: PodmanServer) -> Iterator[Main]:
    main = Main(podman_server, f"main-{secrets.token_hex(6)}")
    yield main
    main.remove()


@pytest.fixture(scope="module")
def daemon(main: Main, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path_factory.mktemp("beside") / "state",
        dialects=["executor"], sidecars=True, executor_sidecar=True, executor_main_container=main.name,
    )  # fmt: skip
    try:
        yield daemon.start()
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


@pytest.fixture
def client(daemon: Daemon) -> DialectClient:
    return DialectClient(daemon, {"Authorization": "Bearer {token}"})


def begin(client: DialectClient, name: str, *command: str, **more: Any) -> dict[str, Any]:
    made = client.post("/tasks", {"name": name, "process": {"command": list(command), **more}})
    assert made.status_code == 201, made.text
    return dict(made.json())


def ended(client: DialectClient, name: str) -> dict[str, Any]:
    return dict(wait_for(lambda: client.get(f"/tasks/{name}").json()["processStatus"].get("terminated"), f"{name} is over"))


def output(daemon: Daemon, name: str) -> str:
    (task,) = daemon.http.get("/v1/tasks", params={"alias": f"executor:{name}"}).json()
    return daemon.http.get(f"/v1/tasks/{task['taskId']}/output", params={"stream": "stdout"}).text


def test_a_command_is_in_the_container_with_its_environment(client: DialectClient, daemon: Daemon, main: Main):
    script = "echo $TARGET_VAR $SIZE; hostname; pwd; readlink /proc/self/ns/pid; [ -e /work ] || echo its own files"
    begin(client, "inside", "sh", "-c", script, env=[{"name": "SIZE", "value": "xl"}])
    assert (ended(client, "inside")["exitCode"], output(daemon, "inside").splitlines()) == (
        0, ["i_am_from_target xl", "sandbox", "/srv", os.readlink(f"/proc/{main.pid}/ns/pid"), "its own files"],
    )  # fmt: skip


def test_the_environment_of_the_task_is_above_that_of_the_container(client: DialectClient, daemon: Daemon):
    begin(client, "above", "sh", "-c", "echo $TARGET_VAR", env=[{"name": "TARGET_VAR", "value": "mine"}])
    assert ended(client, "above")["exitCode"] == 0
    assert output(daemon, "above") == "mine\n"


def test_its_directory_is_one_of_the_container(client: DialectClient, daemon: Daemon, main: Main):
    main.run("mkdir", "-p", "/only-there")
    begin(client, "there", "pwd", workingDir="/only-there")
    assert ended(client, "there")["exitCode"] == 0
    assert output(daemon, "there") == "/only-there\n"


def test_the_guides_example(client: DialectClient, daemon: Daemon, main: Main):
    made = client.post("/tasks", {"name": "sidecar-namespace-check", "spec": {"process": {"command": ["ls", "/proc/self/ns"]}}})
    assert made.status_code == 201, made.text
    assert ended(client, "sidecar-namespace-check")["exitCode"] == 0
    assert "pid" in output(daemon, "sidecar-namespace-check").split()


def test_deletion_stops_what_was_started_there_and_only_that(client: DialectClient, daemon: Daemon, main: Main):
    begin(client, "long", "sh", "-c", "(setsid sleep 6001 &); sleep 6002")
    wait_for(lambda: "running" in client.get("/tasks/long").json()["processStatus"], "it runs")
    both = {"sleep 6001", "sleep 6002"}
    wait_for(lambda: both <= set(main.run("ps", "-o", "args").splitlines()), "both run")
    assert client.call("DELETE", "/tasks/long").status_code == 204
    wait_for(lambda: client.get("/tasks/long").status_code == 404, "it is gone")
    assert not both & set(main.run("ps", "-o", "args").splitlines())
    assert process.look(main.pid) is not None


def test_a_second_command_of_the_container_is_not_another_target(client: DialectClient, daemon: Daemon, main: Main):
    """What `kubectl exec` starts has the same environment, and a parent elsewhere."""
    main.begin("sh", "-c", "sleep 6003")
    mark = f"SANDBOX_MAIN_CONTAINER={main.name}"

    def several() -> list[marks.Carrier] | None:
        found = list(marks.carriers(mark, "NO_SUCH"))
        pids = {each.pid for each in found}
        return found if sum(each.ppid not in pids for each in found) > 1 else None

    tops = wait_for(several, "it runs")
    assert marks.first_of_each(tops) == [main.pid]
    begin(client, "beside", "sh", "-c", "echo $TARGET_VAR")
    assert ended(client, "beside")["exitCode"] == 0
    assert output(daemon, "beside") == "i_am_from_target\n"


def test_an_upstream_target_is_a_process_of_this_machine(make_daemon: Any, tmp_path: Path):
    """TestProcessExecutor_Sidecar_EnvInheritance: there it is one, and nsenter a script."""
    name = f"test-sidecar-main {tmp_path}"
    target = subprocess.Popen(["sleep", "600"], env={**os.environ, "SANDBOX_MAIN_CONTAINER": name, "TARGET_CONTAINER_VAR": "i_am_from_target"})
    try:
        daemon = make_daemon(dialects=["executor"], sidecars=True, executor_sidecar=True, executor_main_container=name).start()
        client = DialectClient(daemon, {"Authorization": "Bearer {token}"})
        begin(client, "sidecar-env-test", "sh", "-c", "echo $TARGET_CONTAINER_VAR")
        assert ended(client, "sidecar-env-test")["exitCode"] == 0
        assert output(daemon, "sidecar-env-test") == "i_am_from_target\n"
    finally:
        target.kill()
        target.wait()
    why = "failed to create task: failed to start task: failed to resolve target PID: no process found with environment variable "
    made = client.post("/tasks", {"name": "nobody", "process": {"command": ["true"]}})
    assert (made.status_code, made.json()) == (500, {"code": "Internal Server Error", "message": f"{why}SANDBOX_MAIN_CONTAINER={name}"})
    assert client.get("/tasks/nobody").status_code == 404
    both = client.post("/setTasks", [{"name": "nobody", "process": {"command": ["true"]}}])
    assert both.json()["message"].startswith("failed to sync tasks: failed to create task nobody: failed to start task: failed to resolve")


def test_two_containers_of_one_name_are_told_apart(client: DialectClient, podman_server: PodmanServer, main: Main):
    other = Main(podman_server, main.name)
    try:
        begin(client, "which", "true")
        state = ended(client, "which")
    finally:
        other.remove()
    assert state["exitCode"] != 0
    assert f"{main.pid} (" in state["message"]


def test_served_with_upstreams_flags(main: Main):
    """The end-to-end test of sidecar mode: `env` shows what the target has, and the task's output is kept."""
    served = Served()
    try:
        port = free_port()
        served.start(
            *SERVE, "--dialect", "executor", f"-listen-addr=127.0.0.1:{port}", "-enable-sidecar-mode", f"--main-container-name={main.name}",
            env={"DATA_DIR": served.state.path, "HOST_TEST_VAR": "host_value"}, state_dir=None, executor_auth="none",
        )  # fmt: skip
        http = served.at(f"127.0.0.1:{port}")
        made = http.post("/setTasks", json=[{"name": "sidecar-0", "process": {"command": ["env"]}}])
        assert made.status_code == 200, made.text
        state = wait_for(lambda: http.get("/getTasks").json()[0]["processStatus"].get("terminated"), "it is over")
        assert (state["exitCode"], state["reason"]) == (0, "Succeeded")
        v1 = served.at(f"unix:{served.state.socket}")
        (task,) = v1.get("/v1/tasks", headers=served.token).json()
        lines = v1.get(f"/v1/tasks/{task['taskId']}/output", params={"stream": "stdout"}, headers=served.token).text.splitlines()
        assert "TARGET_VAR=i_am_from_target" in lines
        assert "HOST_TEST_VAR=host_value" not in lines  # that is this machine's, and not the target's
        assert http.post("/setTasks", json=[]).status_code == 200
        wait_for(lambda: http.get("/getTasks").json() == [], "it is gone")
    finally:
        served.close()


# -- settings


def test_it_needs_leave_to_run_in_other_containers():
    with pytest.raises(Refused, match=r"executor_sidecar .*sidecars = true"):
        load(dialects=["executor"], executor_sidecar=True)


def test_without_it_commands_run_on_this_machine():
    settings = Settings(executor_main_container="app")
    assert sidecar.beside({"command": ["true"]}, settings) == {"command": ["true"]}
    assert sidecar.why_no_target(settings) is None
    on = Settings(executor_sidecar=True, executor_main_container="app")
    assert sidecar.beside({"command": ["true"]}, on) == {"command": ["true"], "sidecar": {"mark": "SANDBOX_MAIN_CONTAINER=app"}}
