"""What the machines do with their parameters: `process` and `echo`, over HTTP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for

from task_runner.machines import base, echo
from task_runner.machines.base import Context


def over(daemon: Daemon, *command: str, **more: Any) -> tuple[dict[str, Any], str]:
    """The task when it is over, and its output."""
    task = daemon.wait(daemon.submit(*command, **more))
    return task, daemon.output(task["taskId"]).decode()


# -- process


def test_arguments_arrive_as_they_were_sent(shared: Daemon):
    arguments = ["a b", "", "$HOME", "*", "ä\U0001f600", "-n", "'\"\\", "a\nb"]
    _task, output = over(shared, "printf", "%s\\0", *arguments)
    assert output.split("\0")[:-1] == arguments


def test_a_shell_line(shared: Daemon):
    task, output = over(shared, shell='echo "$0" $((6 * 7)); exit 5')
    assert (task["exitCode"], output) == (5, "/bin/sh 42\n")


def test_variables(shared: Daemon):
    _task, output = over(shared, "env", env={"ADDED": "ä b\nc", "LANG": "C.UTF-8"})
    assert "ADDED=ä b\nc\n" in output
    assert "LANG=C.UTF-8\n" in output
    assert "PATH=" in output
    assert "TASK_RUNNER_STATE_DIR" not in output
    assert shared.token not in output


def test_a_program_is_looked_for_where_its_own_path_says(shared: Daemon, tmp_path: Path):
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    _task, output = over(shared, "only-here", env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
    assert output == "found\n"


def test_the_working_directory(shared: Daemon, tmp_path: Path):
    task, output = over(shared, "pwd")
    assert output == f"{shared.state_dir}/tasks/{task['taskId']}/work\n"
    _task, output = over(shared, "pwd", workingDirectory=str(tmp_path))
    assert output == f"{tmp_path}\n"
    made = {"machine": "process", "parameters": {"shell": "mkdir -p sub/dir"}}
    relative = {"machine": "process", "parameters": {"shell": "pwd", "workingDirectory": "sub/dir"}}
    _task, output = over(shared, actions=[made, relative])
    assert output.endswith("/work/sub/dir\n")


def test_a_working_directory_that_is_not_there(shared: Daemon):
    task, output = over(shared, "pwd", workingDirectory="nowhere")
    assert (task["outcome"], task["exitCode"], output) == ("failed", None, "")
    assert "workingDirectory" in task["error"]
    assert "nowhere" in task["error"]


@pytest.mark.parametrize("stdin", [None, "", "text", "ä\n" * 100_000])
def test_standard_input(shared: Daemon, stdin: str | None):
    _task, output = over(shared, "cat", stdin=stdin)
    assert output == (stdin or "")


def test_output_and_errors_are_one(shared: Daemon):
    _task, output = over(shared, shell="echo a; echo b >&2; echo c")
    assert output == "a\nb\nc\n"


@pytest.mark.parametrize("program", ["/", "/etc/passwd", "/nowhere/at/all", "no such program"])
def test_what_cannot_be_run(shared: Daemon, program: str):
    task, _output = over(shared, program)
    assert (task["state"], task["outcome"], task["exitCode"]) == ("exited", "failed", None)
    assert program in task["error"]


# -- echo


def test_a_script(shared: Daemon):
    lines = ["# a comment", "echo One  two # but not this", "log error Three", "", "sleep 0", "ECHO äöü"]
    task, output = over(shared, machine="echo", parameters=lines)
    assert (task["outcome"], output) == ("succeeded", "One  two\nERROR: Three\näöü\n")


def test_a_return_is_the_exit_code_and_the_cleanup_runs(shared: Daemon):
    task, output = over(shared, machine="echo", parameters="echo a\nreturn 7\necho never\ncleanup\necho clean")
    assert (task["outcome"], task["exitCode"], output) == ("failed", 7, "a\nclean\n")


def test_a_raise_fails_and_the_cleanup_runs(shared: Daemon):
    task, output = over(shared, machine="echo", parameters="raise too bad\necho never\ncleanup\necho clean")
    assert (task["outcome"], task["exitCode"]) == ("failed", 1)
    assert output.startswith("clean\n")
    assert output.endswith("RuntimeError: too bad\n")


def test_a_cleanup_can_fail(shared: Daemon):
    task, _output = over(shared, machine="echo", parameters="echo a\ncleanup\nreturn 3")
    assert (task["outcome"], task["exitCode"]) == ("failed", 3)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_cleanup_runs_when_the_task_is_stopped(shared: Daemon, name: str):
    task_id = shared.submit(machine="echo", parameters="echo begun\nsleep 1000\ncleanup\nsleep 0.1\necho clean")
    wait_for(lambda: shared.output(task_id) == b"begun\n", "it has begun")
    for _ in range(3):
        shared.post(f"/v1/tasks/{task_id}/stop?wait=0", {"signal": name})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"], task["exitCode"]) == ("cancelled", name, None)
    assert shared.output(task_id) == b"begun\nclean\n"


def test_the_cleanup_runs_when_the_time_is_up(shared: Daemon):
    task, output = over(shared, machine="echo", parameters="sleep 1000\ncleanup\necho clean", timeoutSeconds=0.3)
    assert (task["outcome"], output) == ("timed_out", "clean\n")


def test_a_cleanup_that_takes_too_long_ends_with_the_grace(shared: Daemon):
    script = "echo begun\nsleep 1000\ncleanup\necho cleaning\nsleep 1000\necho never"
    task_id = shared.submit(machine="echo", parameters=script, graceSeconds=600)
    wait_for(lambda: shared.output(task_id) == b"begun\n", "it has begun")
    shared.post(f"/v1/tasks/{task_id}/stop?wait=0")
    wait_for(lambda: shared.output(task_id) == b"begun\ncleaning\n", "it cleans up")
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0.5})  # which only a grace that is over cuts short
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"], task["receipt"]["killedCount"]) == ("cancelled", "SIGKILL", 1)
    assert shared.output(task_id) == b"begun\ncleaning\n"


def test_exclusive_use_excludes(shared: Daemon):
    def user(mode: str, name: str = "lab/1") -> str:
        return shared.submit(
            machine="echo", parameters=f"use {mode} {name} other\necho in\nsleep 1000\ncleanup\necho out"
        )

    def said(task_id: str, text: str) -> None:
        wait_for(lambda: shared.output(task_id).decode() == text, f"{task_id} has said {text!r}")

    def entered(task_id: str) -> None:
        """Who ends lets go of one lock after the other: who gets the first may have to wait for the second as well."""
        ways = [f"waiting for lab/1\n{also}in\n".encode() for also in ("", "waiting for other\n")]
        wait_for(lambda: shared.output(task_id) in ways, f"{task_id} has waited, and is in")

    first = user("exclusive")
    said(first, "in\n")
    second, third, elsewhere = user("shared"), user("shared"), user("exclusive", "../lab")
    said(second, "waiting for lab/1\n")
    said(third, "waiting for lab/1\n")
    said(elsewhere, "waiting for other\n")
    shared.post(f"/v1/tasks/{elsewhere}/stop", {"graceSeconds": 0})
    shared.wait(elsewhere)  # else it may be in before it is killed, and the others wait for that
    shared.post(f"/v1/tasks/{first}/stop")
    # shared users are in together, and keep an exclusive one out
    entered(second)
    entered(third)
    last = user("exclusive")
    said(last, "waiting for lab/1\n")
    shared.post(f"/v1/tasks/{second}/stop")
    shared.wait(second)
    assert shared.output(last).decode() == "waiting for lab/1\n"
    shared.post(f"/v1/tasks/{third}/stop", {"graceSeconds": 0})
    entered(last)
    shared.post(f"/v1/tasks/{last}/stop")
    assert set(os.listdir(shared.state_dir / "locks")) <= {"use-lab%2F1", "use-other", "use-..%2Flab"}


def test_a_bad_line_is_refused_with_its_number(shared: Daemon):
    response = shared.post("/v1/tasks", {"machine": "echo", "parameters": ["echo a", "frobnicate"]})
    assert response.status_code == 400
    (fault,) = response.json()["errors"]
    assert fault["field"] == "parameters.line 2"
    assert "frobnicate" in fault["message"]


# -- signals that come early


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    fd = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    yield Context(
        task_id="t", attempt=1, action_index=0, work=str(tmp_path), env={}, stdout=fd, stderr=fd, locks=str(tmp_path)
    )
    os.close(fd)


@pytest.mark.parametrize("number", echo.POLITE)
def test_a_script_that_is_stopped_before_it_has_begun_cleans_up_too(context: Context, tmp_path: Path, number: int):
    pid = base.start_forked(echo.load, "echo begun\nsleep 1000\ncleanup\necho clean", context, masked=True)
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -number
    assert (tmp_path / "out").read_text() in ("clean\n", "begun\nclean\n")


def test_a_signal_for_a_young_child_is_not_taken_for_the_runners(context: Context):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    old = signal.set_wakeup_fd(writer)
    try:
        for _ in range(20):
            pid = base.start_forked(lambda *_loaded: lambda *_run: 0, None, context)
            os.kill(pid, signal.SIGUSR1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, -signal.SIGUSR1)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGUSR1, before)
        os.close(reader)
        os.close(writer)
