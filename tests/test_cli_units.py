"""What the command line says and returns, as far as it needs no daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from task_runner.cli import check_daemon, check_machine, check_state, describe, details, exitcode, output
from task_runner.cli.command import task_body
from task_runner.cli.edge import Session, each, report
from task_runner.cli.main import COMMANDS, cli
from task_runner.client import ApiError, ConnectionFailed
from task_runner.client.records import Receipt, Task
from task_runner.errors import Conflict, FieldError, InvalidRequest, NotFound, StateDirectoryBusy, StorageFull

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_task(**more: Any) -> Task:
    task: Any = dict.fromkeys(Task.__annotations__)
    spec = {"actions": [{"machine": "process", "parameters": {"command": ["echo", "a b"]}}]}
    task.update(
        taskId="0123456789abcdef",
        state="exited",
        outcome="succeeded",
        exitCode=0,
        attempt=1,
        createdAt="2026-01-02T03:04:00Z",
        startedAt="2026-01-02T03:04:01Z",
        finishedAt="2026-01-02T03:04:03.500Z",
        tags={},
        attempts=[],
        gpus=[],
        priority=0,
        actions=[],
        spec=spec,
    )
    return {**task, **more}  # type: ignore[typeddict-item]


# -- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError(400, ""), 5),
        (ApiError(401, ""), 5),
        (ApiError(403, ""), 5),
        (ApiError(404, ""), 3),
        (ApiError(409, ""), 4),
        (ApiError(413, ""), 5),
        (ApiError(421, ""), 5),
        (ApiError(500, ""), 7),
        (ApiError(502, ""), 6),
        (ApiError(503, ""), 6),
        (ApiError(507, ""), 7),
        (ConnectionFailed(), 6),
        (InvalidRequest(), 5),
        (NotFound(), 3),
        (Conflict(), 4),
        (StorageFull(), 7),
        (StateDirectoryBusy(), 5),
    ],
)
def test_every_error_has_an_exit_code(error: Any, code: int):
    assert exitcode.of_error(error) == code


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({}, 0),
        ({"outcome": "failed", "exitCode": 3}, 3),
        ({"outcome": "failed", "exitCode": None, "signal": "SIGKILL"}, 128 + 9),
        ({"outcome": "failed", "exitCode": None}, 127),
        ({"outcome": "timed_out", "exitCode": None, "signal": "SIGTERM"}, 124),
        ({"outcome": "cancelled", "exitCode": None, "signal": "SIGTERM"}, 128 + 15),
        ({"outcome": "cancelled", "exitCode": 0}, 1),
        ({"outcome": "cancelled", "exitCode": None}, 125),
        ({"state": "lost", "outcome": "lost", "exitCode": None}, 125),
        ({"outcome": "failed", "exitCode": None, "signal": "SIGRTMIN+3"}, 125),
    ],
)
def test_a_task_ends_with_the_exit_code_of_its_command(ending: dict[str, Any], code: int):
    assert exitcode.of_task(a_task(**ending)) == code


def test_the_help_names_every_exit_code():
    text = CliRunner().invoke(cli, ["--help"]).output
    codes = [exitcode.OK, exitcode.FAILED, exitcode.USAGE, exitcode.NOT_FOUND, exitcode.CONFLICT]
    codes += [exitcode.REFUSED, exitcode.UNREACHABLE, exitcode.TROUBLE, exitcode.TIMED_OUT]
    codes += [exitcode.RUN_FAILED, exitcode.NOT_STARTED, exitcode.INTERRUPTED, exitcode.READER_GONE]
    for code in codes:
        assert f"\n    {code:<5}" in text


#: each command in a process of its own, forked from one that has loaded what comes before all of them
HELP_OF_EACH = """
import os, sys
from task_runner.cli.main import COMMANDS, cli
for name in COMMANDS:
    pid = os.fork()
    if pid == 0:
        try:
            cli([name, "--help"], prog_name="x")
        except SystemExit as end:
            assert end.code == 0, name
        heavy = {"httpx", "pydantic", "starlette", "asyncio", "uvicorn"} & set(sys.modules)
        assert not heavy, (name, heavy)
        break
    assert os.waitpid(pid, 0)[1] == 0, name
"""


def test_every_command_has_help_that_costs_no_heavy_import():
    done = subprocess.run([sys.executable, "-c", HELP_OF_EACH], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"Usage: x {name}" in done.stdout


# -- errors at the edge


def test_an_error_is_a_line_and_its_fields(capsys: pytest.CaptureFixture[str]):
    fields = [FieldError("name", "too long"), FieldError("tags", "too\x1b[31m many")]
    report(ApiError(400, "the request is not valid", fields))
    assert capsys.readouterr().err == (
        "task-runner: the request is not valid\n  name: too long\n  tags: too\\x1b[31m many\n"
    )
    report(InvalidRequest.at("url", "wrong"), about="abcd")
    assert capsys.readouterr().err == "task-runner: abcd: url: wrong\n"


def test_one_failure_does_not_keep_the_others_from_their_turn(capsys: pytest.CaptureFixture[str]):
    def act(task_id: str) -> str:
        if task_id == "b":
            raise NotFound
        if task_id == "c":
            raise Conflict
        return task_id

    assert each("abcd", act) == (["a", "d"], exitcode.NOT_FOUND)
    assert "b: No such task" in capsys.readouterr().err


def test_no_daemon_is_said_in_words(tmp_path: Path):
    env = {"TASK_RUNNER_URL": "http://127.0.0.1:1", "TASK_RUNNER_STATE_DIR": str(tmp_path)}
    for arguments, code in ((["list"], 6), (["run", "true"], 125), (["show", "abcd", "--json"], 6)):
        result = CliRunner().invoke(cli, arguments, env=env)
        assert result.exit_code == code
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert "task-runner serve" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "--cwd", "/", "--work-dir", "true"],
        ["run", "-e", "NO_SUCH_VARIABLE", "true"],
        ["run", "-t", "novalue", "true"],
        ["run", "--stop-signal", "NONSENSE", "true"],
        ["run", "--timeout", "0", "true"],
        ["stop"],
        ["wait", "a", "b", "--exit-code"],
        ["logs", "a", "--tail", "1", "--offset", "1"],
        ["list", "--state", "nonsense"],
        ["submit", "/no/such/file"],
    ],
)
def test_wrong_usage(arguments: list[str]):
    assert CliRunner().invoke(cli, arguments, env={"TASK_RUNNER_URL": "http://127.0.0.1:1"}).exit_code == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a":', "\udcff"])
def test_a_spec_that_is_no_json_object(tmp_path: Path, content: str):
    (tmp_path / "spec.json").write_bytes(content.encode(errors="surrogateescape"))
    result = CliRunner().invoke(cli, ["submit", str(tmp_path / "spec.json")])
    assert result.exit_code == 5
    assert "spec.json" in result.stderr


# -- the body of `run`


def test_run_says_all_of_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KNOWN", "value")
    body = task_body(
        local=True,
        command=("ls", "-l"),
        env=("A=1=2", "KNOWN", "E="),
        cwd="/tmp/../tmp",
        name="n",
        tag=(("a", "b=c"),),
        timeout=1.5,
        grace=0,
        stop_signal="SIGINT",
    )
    assert body == {
        "command": ["ls", "-l"],
        "workingDirectory": "/tmp",
        "env": {"A": "1=2", "KNOWN": "value", "E": ""},
        "name": "n",
        "tags": {"a": "b=c"},
        "timeoutSeconds": 1.5,
        "graceSeconds": 0,
        "stopSignal": "SIGINT",
    }


def test_where_run_runs():
    assert task_body(local=True, command=("a",)) == {"command": ["a"], "workingDirectory": os.getcwd()}
    assert task_body(local=True, command=("a",), work_dir=True) == {"command": ["a"]}
    assert task_body(local=False, command=("a",)) == {"command": ["a"]}
    assert task_body(local=False, command=("a",), cwd="/x") == {"command": ["a"], "workingDirectory": "/x"}


def test_run_with_a_shell():
    assert task_body(local=False, command=("a | b",), shell=True) == {"shell": "a | b"}
    assert task_body(local=False, command=("a", "|", "b"), shell=True) == {"shell": "a | b"}


# -- words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-5, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.7, "1m00s"),
        (252, "4m12s"),
        (3599.6, "1h00m"),
        (11_100, "3h05m"),
        (86_399.9, "1d00h"),
        (187_200, "2d04h"),
    ],
)
def test_durations(seconds: float | None, text: str):
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")]
)
def test_sizes(count: float | None, text: str):
    assert output.size(count) == text


def test_a_name_cannot_steer_the_terminal():
    assert output.clean("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"
    assert output.clean("ä 漢") == "ä 漢"


def test_a_table(capsys: pytest.CaptureFixture[str]):
    rows = [describe.row(a_task(), NOW), describe.row(a_task(state="running", outcome=None, name="x\n"), NOW)]
    output.table(describe.COLUMNS, rows)
    assert capsys.readouterr().out == (
        "ID                STATE      EXIT  AGE   RUNTIME  ENTITY  TASK\n"
        "0123456789abcdef  succeeded  0     5.0s  2.5s     -       echo 'a b'\n"
        "0123456789abcdef  running    0     5.0s  2.5s     -       x\\n\n"
    )
    output.table(describe.COLUMNS, [])
    assert capsys.readouterr().out == "ID  STATE  EXIT  AGE  RUNTIME  ENTITY  TASK\n"


def test_arrays_are_json(capsys: pytest.CaptureFixture[str]):
    for values in ([], [1], [{"a": "ä"}, 2]):
        output.emit_array(values)
        assert __import__("json").loads(capsys.readouterr().out) == values


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch):
    assert output.paint("x", "red") == "x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.paint("x", "red") == click.style("x", fg="red")
    assert output.paint("x", None) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("x", "red") == "x"


def test_a_receipt_in_words():
    note = {"pid": 7, "command": "sh"}
    found: Any = {
        "reason": "timeout",
        "signal": "SIGTERM",
        "graceSeconds": 2.5,
        "signalled": [note] * 20,
        "signalledCount": 40,
        "killed": [note],
        "killedCount": 1,
        "survivors": [],
    }
    words = describe.receipt(Receipt(**found))
    assert words == (
        "stopped by its time limit; SIGTERM to 40 processes (sh 7, sh 7, sh 7, sh 7, sh 7, …); "
        "SIGKILL after 2.5 s to 1 process (sh 7); nothing is left"
    )
    assert "STILL ALIVE: 1 process (sh 7)" in describe.receipt(Receipt(**{**found, "survivors": [note]}))


def test_a_stalled_task_shows():
    task = a_task(state="running", outcome=None, exitCode=None, stalled={"reason": "silent", "since": "then"})
    assert describe.word(task) == "running!"
    assert dict(details.details(task, NOW))["stalled"] == "silent (since then)"


def test_what_other_machines_run():
    several = a_task(spec={"actions": [{"machine": "echo", "parameters": ["echo x"]}] * 3})
    assert describe.command(several) == "echo: ['echo x'] (and 2 more)"
    assert (
        describe.command(a_task(spec={"actions": [{"machine": "process", "parameters": {"shell": "a | b"}}]}))
        == "a | b"
    )


# -- the doctor


def test_the_file_system_below_a_path():
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /srv rw shared:1 - nfs4 server:/srv rw\n"
        "3 2 0:6 / /srv/with\\040blank rw - tmpfs tmpfs rw\n"
        "nonsense\n"
    )
    assert check_state.file_system("/srv", mounts) == "nfs4"
    assert check_state.file_system("/srv/x/y", mounts) == "nfs4"
    assert check_state.file_system("/srvx", mounts) == "ext4"
    assert check_state.file_system("/srv/with blank/x", mounts) == "tmpfs"
    assert check_state.file_system("/x", "") == "unknown"


@pytest.mark.parametrize(("mode", "verdict"), [("process", "ok"), ("control-group", "fail"), ("mixed", "fail")])
def test_a_unit_that_kills_tasks_is_found(mode: str, verdict: str):
    result = check_daemon.unit_result("--user", {"LoadState": "loaded", "KillMode": mode, "Type": "notify"})
    assert result.verdict == verdict
    assert (result.remedy is None) == (verdict == "ok")
    assert result.remedy is None or "systemctl --user" in result.remedy


def test_a_daemon_in_trouble_is_found():
    node: Any = {
        "version": "0.0.0",
        "states": {},
        "stalled": 2,
        "maxRunning": None,
        "draining": True,
        "ready": True,
        "storage": {"ok": False, "error": "no space left"},
        "storeSetAside": "tasks.db.damaged-1",
    }
    results = {each.name: each for each in check_daemon.node_results(node)}
    assert results["storage"].verdict == "fail"
    assert {name for name, each in results.items() if each.verdict == "warn"} == {
        "version",
        "store",
        "stalled tasks",
        "drained",
    }
    assert all(each.remedy for each in results.values())


def test_the_doctor_says_which_engines_can_be_used():
    results = list(
        check_daemon.engine_results(
            [
                {"name": "podman", "version": "4.3.1", "problem": None},
                {"name": "docker", "version": None, "problem": "Docker does not answer at /s: install docker.io"},
            ]
        )
    )
    assert [(each.name, each.verdict, each.found, each.remedy) for each in results] == [
        ("engine podman", "ok", "version 4.3.1", None),
        ("engine docker", "warn", "Docker does not answer at /s", "install docker.io"),
    ]


def test_a_state_directory_that_is_open_to_others(tmp_path: Path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    (directory / "token").write_text("x")
    (directory / "token").chmod(0o644)
    results = {each.name: each for each in check_state.check_state(str(directory))}
    assert results["its mode"].verdict == "fail"
    assert results["token"].verdict == "fail"
    assert results["flock"].verdict == results["hard links"].verdict == "ok"
    assert os.listdir(directory) == ["token"]


def test_a_state_directory_that_is_not_there(tmp_path: Path):
    (result,) = check_state.check_state(str(tmp_path / "none"))
    assert result.verdict == "warn"


def test_the_kernel_is_tried():
    assert {each.verdict for each in check_machine.check_kernel()} <= {"ok", "warn"}
    assert [each.name for each in check_machine.check_limits(None)] == ["open files", "processes"]


def test_a_session_takes_the_options_before_the_verb(tmp_path: Path):
    session = Session(url="http://127.0.0.1:1", state_dir=str(tmp_path))
    with session.client() as client:
        assert client.url == "http://127.0.0.1:1"


def test_signals_have_the_numbers_we_say():
    assert exitcode.INTERRUPTED == 128 + signal.SIGINT == 130
    assert exitcode.READER_GONE == 128 + signal.SIGPIPE == 141
