"""`task-runner serve --dialect executor`: the task-executor's flags and variables, and what upstream tests of its runtime
and end to end, each with a counterpart named after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from conftest import wait_for
from ports import free_port
from served import SERVE, Served, refusal

from task_runner.api.executormode import mode_of
from task_runner.cli.main import cli
from task_runner.cli.serve import _as_options
from task_runner.errors import Refused
from task_runner.lib import process
from task_runner.service.settings import Settings

# -- from flags and variables to settings


def mode(flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, option: str | None = None, **set_: Any) -> dict[str, Any]:
    found = mode_of(flags or {}, environ or {}, Settings(**set_), option)
    settings = {name.removeprefix("TASK_RUNNER_").lower(): value for name, value in found.environment.items()}
    return {"state_dir": found.state_dir, **{name: _value(value) for name, value in settings.items()}}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


PLAIN = {
    "state_dir": "/var/lib/sandbox/tasks",
    "dialect_binds": {"executor": "0.0.0.0:5758"},
    "executor_sidecar": False,
    "pass_environment": ["*"],
}


def test_upstreams_defaults():
    assert mode() == PLAIN


@pytest.mark.parametrize(
    ("flag", "value", "variable", "settings"),
    [
        ("data-dir", "/data", "DATA_DIR", {"state_dir": "/data"}),
        ("listen-addr", "127.0.0.1:1", "LISTEN_ADDR", {"dialect_binds": {"executor": "127.0.0.1:1"}}),
        ("enable-sidecar-mode", "true", "ENABLE_SIDECAR_MODE", {"executor_sidecar": True, "sidecars": True}),
        ("main-container-name", "app", "MAIN_CONTAINER_NAME", {"executor_main_container": "app"}),
        ("cri-socket", "/run/c.sock", "CRI_SOCKET", {"engines": {"cri": "/run/c.sock"}}),
        ("enable-container-mode", "true", "ENABLE_CONTAINER_MODE", {"executor_containers": True}),
        ("enable-container-mode", "false", "ENABLE_CONTAINER_MODE", {"executor_containers": False}),
    ],
)
def test_each_flag_and_its_variable(flag: str, value: str, variable: str, settings: dict[str, Any]):
    assert mode({flag: value}) == mode(environ={variable: value}) == {**PLAIN, **settings}


@pytest.mark.parametrize("value", ["1", "TRUE", "yes", "True", "", " true"])
def test_a_variable_switches_with_true_alone(value: str):
    assert mode(environ={"ENABLE_SIDECAR_MODE": value}) == PLAIN


@pytest.mark.parametrize(("value", "means"), [("1", True), ("T", True), ("TRUE", True), ("0", False), ("f", False), ("False", False)])
def test_a_flag_switches_as_in_go(value: str, means: bool):
    assert mode({"enable-sidecar-mode": value})["executor_sidecar"] is means


def test_flags_override_the_environment():
    environ = {"DATA_DIR": "/env", "LISTEN_ADDR": "1.1.1.1:1", "ENABLE_SIDECAR_MODE": "true", "MAIN_CONTAINER_NAME": "env", "CRI_SOCKET": "/env.sock"}
    flags = {"data-dir": "/flag", "listen-addr": "2.2.2.2:2", "enable-sidecar-mode": "false", "main-container-name": "flag", "cri-socket": "/flag.sock"}
    assert mode(flags, environ) == {
        **PLAIN, "state_dir": "/flag", "dialect_binds": {"executor": "2.2.2.2:2"}, "executor_main_container": "flag",
        "engines": {"cri": "/flag.sock"},
    }  # fmt: skip


def test_our_own_settings_stand_between_the_two():
    environ = {"DATA_DIR": "/env", "LISTEN_ADDR": "1.1.1.1:1", "ENABLE_SIDECAR_MODE": "true", "MAIN_CONTAINER_NAME": "env", "CRI_SOCKET": "/env.sock"}
    ours = {
        "state_dir": "/ours", "dialect_binds": {"executor": "3.3.3.3:3"}, "executor_sidecar": False,
        "executor_main_container": "ours", "engines": {"podman": "/p.sock"}, "pass_environment": ["A*"],
    }  # fmt: skip
    assert mode(environ=environ, **ours) == {"state_dir": "/ours"}
    assert mode({"data-dir": "/flag"}, environ, **ours)["state_dir"] == "/flag"
    assert mode(option="/option", environ=environ, state_dir="/ours")["state_dir"] == "/option"


def test_other_settings_of_the_same_tables_stay():
    found = mode({"cri-socket": "/c.sock"}, dialect_binds={"drove": "127.0.0.1:1"}, engines={"podman": "/p.sock", "cri": "/old.sock"})
    assert found["dialect_binds"] == {"drove": "127.0.0.1:1", "executor": "0.0.0.0:5758"}
    assert list(found["engines"].items()) == [("cri", "/c.sock"), ("podman", "/p.sock")]


def test_an_address_without_a_host_is_any_by_ipv4_and_ipv6():
    assert mode({"listen-addr": ":5758"})["dialect_binds"] == {"executor": "[::]:5758"}
    # this has one, and is told of as it was given
    assert mode({"listen-addr": "::1:5758"})["dialect_binds"] == {"executor": "::1:5758"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"data-dir": ""}, "--data-dir: the value is empty"), ({"enable-sidecar-mode": "yes"}, "--enable-sidecar-mode: 'yes' is neither")],
)
def test_values_that_mean_nothing_are_refused(flags: dict[str, str], message: str):
    with pytest.raises(Refused, match=message):
        mode(flags)


def test_two_names_of_one_directory_are_refused():
    with pytest.raises(Refused, match="--data-dir and --state-dir mean the same"):
        mode({"data-dir": "/a"}, option="/b")


def test_flags_without_effect_are_named():
    flags = {"reconcile-interval": "500ms", "log-dir": "logs", "log-max-size": "100", "log-max-backups": "10", "log-max-age": "7"}
    assert [each.partition(":")[0] for each in mode_of(flags, {}, Settings()).notices] == [f"--{name} has no effect" for name in flags]


# -- as Go programs take them


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["-data-dir=/x"], ["--data-dir=/x"]),
        (["-data-dir", "/x"], ["--data-dir", "/x"]),
        (["--listen-addr", ":1"], ["--listen-addr", ":1"]),
        (["-enable-sidecar-mode"], ["--enable-sidecar-mode=true"]),
        (["--enable-sidecar-mode", "--data-dir=/x"], ["--enable-sidecar-mode=true", "--data-dir=/x"]),
        (["-enable-sidecar-mode=false"], ["--enable-sidecar-mode=false"]),
        (["--bind", "unix:/x", "-h"], ["--bind", "unix:/x", "-h"]),
    ],
)
def test_flags_with_one_dash_or_two(given: list[str], taken: list[str]):
    assert list(_as_options(given)) == taken


@pytest.mark.parametrize("dialects", [[], ["--dialect", "drove"]])
def test_the_flags_belong_to_the_dialect(dialects: list[str]):
    done = CliRunner().invoke(cli, ["serve", *dialects, "-data-dir=/x", "--listen-addr", "127.0.0.1:1"])
    assert done.exit_code == 2
    assert "--data-dir, --listen-addr: of the task-executor, and taken with --dialect executor alone" in done.output


def test_the_help_names_them():
    assert "--enable-sidecar-mode" in CliRunner().invoke(cli, ["serve", "--help"]).output


def test_an_address_that_others_reach_needs_a_word_of_somebody(tmp_path: Path):
    said = refusal(*SERVE, "--dialect", "executor", "--data-dir", str(tmp_path / "data"), env={"LISTEN_ADDR": "0.0.0.0:5758"})
    assert "0.0.0.0:5758 can be reached from other machines" in said
    assert "TASK_RUNNER_EXECUTOR_AUTH=none" in said
    assert not (tmp_path / "data").exists()


def test_a_directory_too_deep_for_a_socket_needs_a_bind(tmp_path: Path):
    deep = tmp_path / ("x" * 100)
    said = refusal(*SERVE, "--dialect", "executor", f"-data-dir={deep}", "-listen-addr=127.0.0.1:5758")
    assert "--bind" in said
    assert not deep.exists()


# -- served


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """As an image of the task-executor would start it: by its variables, and a flag that overrides one."""
    served = Served()
    try:
        _start(served, free_port())
        yield served
        assert "Traceback" not in served.log
    finally:
        served.close()


def _start(served: Served, port: int) -> None:
    variables = {"DATA_DIR": served.state.path, "LISTEN_ADDR": "127.0.0.1:1", "HOST_TEST_VAR": "host_value"}
    flags = [f"-listen-addr=127.0.0.1:{port}", "--reconcile-interval", "500ms"]
    served.port = port
    served.start(*SERVE, "--dialect", "executor", *flags, env=variables, state_dir=None, executor_auth="none", heartbeat_seconds=0.5, stalled_after_seconds=5)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    """Nothing of a test is there in the next."""
    client = Client(served.at(f"127.0.0.1:{served.port}"))
    yield client
    client.set(None)
    wait_for(lambda: client.get() == [], "all tasks are gone")


class Client:
    """What upstream's Go client does, which knows `Set` and `Get` alone."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def set(self, task: dict[str, Any] | None) -> dict[str, Any]:
        answer = self.http.post("/setTasks", json=[] if task is None else [task])
        assert answer.status_code == 200, answer.text
        return dict(next((each for each in answer.json() if task and each["name"] == task["name"]), task or {}))

    def get(self) -> list[dict[str, Any]]:
        answer = self.http.get("/getTasks")
        assert answer.status_code == 200
        return list(answer.json())

    def begin(self, task: dict[str, Any]) -> dict[str, Any]:
        """Set a task, and wait for its start, for which the answer waits for a moment only. Returns its state."""

        def begun() -> dict[str, Any] | None:
            state = self.set(task)["processStatus"]
            return None if "waiting" in state else state

        return dict(wait_for(begun, f"{task['name']} has begun"))

    def ended(self, name: str) -> dict[str, Any]:
        def terminated() -> dict[str, Any] | None:
            (task,) = [each for each in self.get() if each["name"] == name]
            return task["processStatus"].get("terminated")

        return dict(wait_for(terminated, f"{name} is over"))


def run(client: Client, name: str, *command: str, **more: Any) -> dict[str, Any]:
    client.set({"name": name, "process": {"command": list(command), **more}})
    return client.ended(name)


def stdout(served: Served, name: str) -> str:
    """What upstream has in <data-dir>/<name>/stdout.log is read from /v1."""
    main = served.at(f"unix:{served.state.socket}")
    (task,) = [each for each in main.get("/v1/tasks", headers=served.token).json() if each["name"] == name]
    return main.get(f"/v1/tasks/{task['taskId']}/output", params={"stream": "stdout"}, headers=served.token).text


def test_it_listens_where_the_flag_says_and_keeps_its_state_where_the_variable_says(served: Served, client: Client):
    assert client.http.get("/health").json() == {"status": "healthy"}
    assert client.get() == []
    assert Path(served.state.database).exists()


def test_v1_is_on_a_socket_beside_and_wants_its_token(served: Served, client: Client):
    assert served.url == f"unix://{served.state.socket}"
    main = served.at(f"unix:{served.state.socket}")
    assert main.get("/v1/tasks").status_code == 401
    assert main.get("/v1/tasks", headers=served.token).json() == []
    assert main.get("/getTasks", headers=served.token).status_code == 404
    assert client.http.get("/v1/tasks", headers=served.token).status_code == 404


def test_what_has_no_effect_is_said_at_start(served: Served):
    starts = served.log.count("Starting gunicorn")  # other tests may have started it again
    assert served.log.count("task-runner: --reconcile-interval has no effect") == starts >= 1
    assert "wants the daemon's token" not in served.log


def test_that_clients_need_a_token_is_said_at_start():
    served = Served()
    try:
        port = free_port()
        served.start(*SERVE, "--dialect", "executor", "--data-dir", served.state.path, f"--listen-addr=127.0.0.1:{port}", state_dir=None)
        (said,) = [line for line in served.log.splitlines() if "wants the daemon's token" in line]
        assert "executor_auth = none" in said
        http = served.at(f"127.0.0.1:{port}")
        assert http.get("/health").status_code == 200
        assert http.get("/getTasks").status_code == 401
        assert http.get("/getTasks", headers=served.token).json() == []
    finally:
        served.close()


# -- upstream's tests of its runtime


def test_process_executor_lifecycle(client: Client):
    assert "running" in client.begin({"name": "long-running", "process": {"command": ["/bin/sh", "-c", "sleep 600"]}})
    assert client.http.delete("/tasks/long-running").status_code == 204
    wait_for(lambda: client.get() == [], "stopped, and gone")


def test_process_executor_lifecycle_a_stopped_task_has_failed(served: Served, client: Client):
    client.begin({"name": "stopped", "process": {"command": ["/bin/sh", "-c", "sleep 600"]}})
    main = served.at(f"unix:{served.state.socket}")
    (task,) = main.get("/v1/tasks", headers=served.token).json()
    assert main.post(f"/v1/tasks/{task['taskId']}/stop", headers=served.token).status_code == 200
    ended = client.ended("stopped")
    assert (ended["exitCode"], ended["reason"]) == (143, "Failed")


def test_process_executor_short_lived(client: Client):
    ended = run(client, "short-lived", "echo", "done")
    assert (ended["exitCode"], ended["reason"]) == (0, "Succeeded")


def test_process_executor_failure(client: Client):
    ended = run(client, "failing-task", "/bin/sh", "-c", "exit 1")
    assert (ended["exitCode"], ended["reason"]) == (1, "Failed")


@pytest.mark.parametrize("process", [{}, {"command": []}, {"command": [], "args": []}])
def test_process_executor_invalid_args(client: Client, process: dict[str, Any]):
    answer = client.http.post("/tasks", json={"name": "invalid", "process": process})
    assert (answer.status_code, answer.json()["code"]) == (500, "Internal Server Error")
    assert "no command specified in process spec (task name: invalid)" in answer.json()["message"]


@pytest.mark.parametrize("words", [["hello"], ["hello world"], ["foo'bar"], ["$HOME `id` \\ \" ; * \n x"]])
def test_shell_escape(served: Served, client: Client, words: list[str]):
    assert run(client, "escaped", "printf", "[%s]", *words)["exitCode"] == 0
    assert stdout(served, "escaped") == "".join(f"[{word}]" for word in words)


def test_process_executor_env_inheritance(served: Served, client: Client):
    ended = run(client, "env-test", "env", env=[{"name": "TASK_TEST_VAR", "value": "task_value"}])
    assert ended["reason"] == "Succeeded"
    lines = stdout(served, "env-test").splitlines()
    assert "HOST_TEST_VAR=host_value" in lines
    assert "TASK_TEST_VAR=task_value" in lines
    ours = {"TASK_RUNNER_TASK_ID", "TASK_RUNNER_ATTEMPT", "TASK_RUNNER_ACTION"}
    assert {line.partition("=")[0] for line in lines if line.startswith("TASK_RUNNER_")} == ours
    assert not any(Path(served.state.token).read_text().strip() in line for line in lines)


def test_a_variable_of_the_task_is_above_that_of_the_host(served: Served, client: Client):
    run(client, "above", "sh", "-c", "echo $HOST_TEST_VAR", env=[{"name": "HOST_TEST_VAR", "value": "task_value"}])
    assert stdout(served, "above") == "task_value\n"


def test_process_executor_timeout_detection(client: Client):
    ended = run(client, "timed", "sleep", "600", timeoutSeconds=1)
    assert (ended["exitCode"], ended["reason"]) == (137, "TaskTimeout")
    assert "timeout of 1 seconds" in ended["message"]


def test_process_executor_finishes_before_its_timeout(client: Client):
    ended = run(client, "in-time", "sleep", "0.1", timeoutSeconds=600)
    assert (ended["exitCode"], ended["reason"]) == (0, "Succeeded")


# -- upstream's tests from end to end


def test_e2e_a_task_succeeds_and_is_cleared(client: Client):
    client.begin({"name": "e2e-test-0", "process": {"command": ["sleep", "0.5"]}})
    ended = client.ended("e2e-test-0")
    assert (ended["exitCode"], ended["reason"]) == (0, "Succeeded")
    assert ended["startedAt"] <= ended["finishedAt"]
    client.set(None)
    wait_for(lambda: client.get() == [], "it is gone")


def test_e2e_a_task_that_takes_too_long_is_ended_and_can_be_deleted(client: Client):
    ended = run(client, "e2e-timeout", "sleep", "600", timeoutSeconds=1)
    assert ended["exitCode"] in (137, 143)
    assert ended["reason"] in ("Failed", "TaskTimeout")
    client.set(None)
    wait_for(lambda: client.get() == [], "it is gone")


def test_e2e_a_task_within_its_timeout_succeeds(client: Client):
    assert run(client, "e2e-in-time", "sleep", "0.2", timeoutSeconds=60)["reason"] == "Succeeded"


def test_e2e_a_controller_that_repeats_itself_gets_the_same_task(client: Client, tmp_path: Path):
    """It sends Set(task) on every round until the task is over."""
    asked = {"name": "again-0", "process": {"command": ["sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"]}}
    running = client.begin(asked)
    assert client.set(asked)["processStatus"] == running
    (tmp_path / "go").touch()
    ended = wait_for(lambda: client.set(asked)["processStatus"].get("terminated"), "it is over")
    assert ended["startedAt"] == running["running"]["startedAt"]
    assert client.set(asked)["processStatus"] == {"terminated": ended}


def test_a_task_outlives_the_daemon_and_ends_with_its_own_exit_code(served: Served, client: Client, tmp_path: Path):
    """Upstream drops what has ended in between, and runs it again when it is asked for."""
    asked = {"name": "across-0", "process": {"command": ["sh", "-c", f"echo once >> {tmp_path}/runs; until [ -e {tmp_path}/go ]; do sleep 0.1; done; exit 5"]}}
    assert "running" in client.begin(asked)
    wait_for((tmp_path / "runs").exists, "it runs")
    served.kill()
    (tmp_path / "go").touch()
    _start(served, served.port)
    client.set(asked)
    ended = client.ended("across-0")
    assert (ended["exitCode"], ended["reason"]) == (5, "Failed")
    assert (tmp_path / "runs").read_text() == "once\n"


def test_a_stop_of_the_daemon_leaves_its_tasks(served: Served, client: Client, tmp_path: Path):
    """As upstream: SIGTERM ends the service, and not the tasks."""
    client.set({"name": "stays", "process": {"command": ["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"]}})
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it runs"))
    served.terminate()
    assert process.look(pid) is not None
    _start(served, served.port)
    (task,) = client.get()
    assert "running" in task["processStatus"]
