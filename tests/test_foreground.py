"""`python -m task_runner.lib.runner SPEC`: the same runner, without a daemon, in the current directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, wait_for

from task_runner.lib import lock, process
from task_runner.lib.taskdir import AttemptDirectory

COMMAND = [sys.executable, "-m", "task_runner.lib.runner"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator:
    """Starts a runner in tmp_path; ends it and what it started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(spec: object) -> subprocess.Popen[bytes]:
        (tmp_path / "spec").write_text(json.dumps(spec))
        runner = subprocess.Popen(
            [*COMMAND, "spec"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(runner)
        return runner

    yield start
    for runner in started:
        for each in process.descendants(runner.pid):
            process.send(each, signal.SIGKILL)
        runner.kill()
        runner.communicate()


def run(spec: object, directory: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, "-"],
        input=json.dumps(spec).encode(),
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def status(directory: Path) -> dict:
    return json.loads((directory / "status.json").read_text())


def test_the_sample_runs_as_task_cli_with_its_results_here(tmp_path):
    done = subprocess.run(
        [*COMMAND, str(ROOT / "doc" / "sample_task.json")],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert b"Task has now completed" in done.stdout
    assert (tmp_path / "output.log").read_bytes() == done.stdout
    assert (status(tmp_path)["taskId"], status(tmp_path)["outcome"]) == ("cli", "succeeded")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"command": ["true"]}, 0),
        ({"shell": "exit 7"}, 7),
        ({"shell": "kill -9 $$"}, 137),
        ({"command": ["no-such-program"]}, 127),
        ({"machine": "echo", "parameters": "return 4"}, 4),
        # the action's limit: the task's may be over before there is anything to end
        ({"actions": [{"machine": "process", "parameters": {"shell": "sleep 60"}, "timeoutSeconds": 0.2}]}, 143),
    ],
)
def test_the_exit_code_is_the_tasks(tmp_path, spec, code):
    assert run(spec, tmp_path).returncode == code


def test_ctrl_c_stops_the_task_and_its_cleanup_runs(foreground, tmp_path):
    runner = foreground({"machine": "echo", "parameters": ["echo begun", "sleep 60", "cleanup", "echo cleaned up"]})
    wait_for(lambda: b"begun" in (tmp_path / "output.log").read_bytes() if (tmp_path / "output.log").exists() else 0)
    runner.send_signal(signal.SIGINT)
    output, _errors = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 143
    assert output == b"begun\ncleaned up\n"
    assert status(tmp_path)["outcome"] == "cancelled"


AS_SOON_AS_CLAIMED = """
import os, signal, sys
from task_runner.lib import foreground, lock
claim = lock.claim
def claim_and_hear(*given):
    held = claim(*given)
    os.kill(os.getpid(), signal.SIGINT)
    return held
lock.claim = claim_and_hear
sys.exit(foreground.main(["runner", "-"]))
"""


def test_ctrl_c_before_the_first_command_is_not_lost(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AS_SOON_AS_CLAIMED],
        input=b'{"shell": "echo never"}',
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert status(tmp_path)["outcome"] == "cancelled"


def test_ctrl_c_leaves_nothing_alive(foreground, tmp_path):
    runner = foreground({"shell": "trap '' TERM; setsid sleep 600 & sleep 600 & wait", "graceSeconds": 0.3})
    wait_for(lambda: len(process.descendants(runner.pid)) == 3, "all its processes run")
    family = process.descendants(runner.pid)
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 137
    left = {each.pid: each.start_time for each in map(process.look, (each.pid for each in family)) if each and each.alive}
    assert left.items().isdisjoint((each.pid, each.start_time) for each in family)
    assert status(tmp_path)["receipt"]["killedCount"] == 3


def test_a_second_run_in_the_same_directory_begins_anew_but_not_beside_the_first(foreground, tmp_path):
    first = foreground({"shell": "echo first; sleep 600"})
    wait_for(lambda: lock.probe(AttemptDirectory(str(tmp_path), 1)).held, "the first has its lock")
    second = run({"shell": "echo second"}, tmp_path)
    assert second.returncode == 75
    assert b"another task runs" in second.stderr
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=PATIENCE)
    assert run({"shell": "echo third"}, tmp_path).stdout == b"third\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("[]", "a task is a JSON object"),
        ("{}", "needs one of"),
        ('{"machine": "echo", "parameters": "jump"}', "line 1"),
        ('{"command": ["true"], "stopSignal": "SIGNOPE"}', "not a signal"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_the_reason(tmp_path, text, words):
    (tmp_path / "spec").write_text(text)
    done = subprocess.run(
        [*COMMAND, "spec"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 65
    assert words in done.stderr.decode()
    assert not (tmp_path / "status.json").exists()


def test_streams_that_are_kept_apart_are_shown_apart(tmp_path):
    done = run({"shell": "echo out; echo err >&2", "outputMode": "separate"}, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


def test_an_open_input_is_ours(foreground, tmp_path):
    (tmp_path / "spec").write_text(json.dumps({"machine": "process", "parameters": {"command": ["cat"], "openStdin": True}}))
    done = subprocess.run([*COMMAND, "spec"], cwd=tmp_path, env=ENVIRONMENT, input=b"typed\n" * 50_000,
                          capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"typed\n" * 50_000)
    assert run({"machine": "process", "parameters": {"command": ["cat"], "openStdin": True}}, tmp_path).stdout == b""


def test_steps_progress_files_and_cleanup_work_without_a_daemon(tmp_path):
    spec = {
        "files": [{"path": "x", "text": "here\n"}],
        "progress": True,
        "outputTimestamps": True,
        "actions": [
            {"machine": "process", "parameters": {"shell": "cat x; exit 3"}, "continueOnFailure": True},
            {"machine": "process", "parameters": {"shell": "echo 70 > $TASK_RUNNER_PROGRESS; rm x; mkdir x"},
             "retry": {"delaySeconds": 0}},
        ],
        "cleanup": [{"machine": "echo", "parameters": "echo clean"}],
    }
    done = run(spec, tmp_path)
    assert done.returncode == 0
    assert [line.split(b" ", 1)[1] for line in done.stdout.splitlines()] == [b"here", b"clean"]
    assert status(tmp_path)["progress"]["percent"] == 70.0
    assert run(spec, tmp_path).returncode == 127  # x is a directory now


def test_without_a_daemon_there_are_no_secrets_and_it_is_said(tmp_path):
    done = run({"shell": "echo never", "secrets": [{"name": "db", "env": "DB"}]}, tmp_path)
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"the server has given no db" in done.stderr
