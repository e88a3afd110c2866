"""Batches, input, times and attempts on the command line, against a real daemon."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import Daemon, Start, finish, wait_for

from task_runner.cli.main import cli

Cli = Callable[..., Result]
SETTINGS = {"max_running": 8}
UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"


@pytest.fixture
def tr(shared: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a verb in this process, which saves its start."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, arguments, env=shared.env, input=stdin, prog_name="task-runner")

    return run


# -- batches


def test_a_batch_from_a_file_to_its_results(tr: Cli, tmp_path: Path):
    tasks = [{"command": ["true"], "name": "good"}, {"shell": "exit 3", "name": "bad"}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    made = tr("batch", "create", "tasks.json", "--name", "two", "-t", "a=b", "--key", "once")
    assert made.exit_code == 0
    batch_id = made.stdout.strip()
    assert tr("batch", "create", "tasks.json", "--name", "two", "-t", "a=b", "--key", "once").stdout == made.stdout
    done = tr("batch", "wait", batch_id)
    assert (done.exit_code, done.stdout) == (1, f"{batch_id}: 2: 1 ok, 1 failed\n")
    shown = tr("batch", "show", batch_id).stdout
    assert "two" in shown and "failed" in shown and "a=b" in shown
    lines = tr("batch", "results", batch_id).stdout.splitlines()
    assert [line.split()[1:3] + line.split()[-1:] for line in lines[1:]] == [
        ["succeeded", "0", "good"],
        ["failed", "3", "bad"],
    ]
    listed = tr("batch", "list", "-n", "1").stdout.splitlines()[1].split()
    assert (listed[:6], listed[-1]) == ([batch_id, "failed", "2", "1", "1", "0"], "two")
    for arguments in (["show", batch_id], ["wait", batch_id], ["list", "-n", "1"], ["results", batch_id]):
        assert json.loads(tr("batch", *arguments, "--json").stdout)
    assert [each["name"] for each in json.loads(tr("list", "--json", "--batch", batch_id).stdout)] == ["good", "bad"]


def test_a_batch_from_standard_input_is_waited_for(tr: Cli):
    body = {"task": {"shell": "echo $TASK_RUNNER_ENTITY"}, "entities": ["gs-1", "gs-2"]}
    made = tr("batch", "create", "-", "--wait", "--json", stdin=json.dumps(body))
    assert made.exit_code == 0
    assert json.loads(made.stdout)["numTasksOk"] == 2
    listed = tr("list", "--entity", "gs-2").stdout.splitlines()
    assert len(listed) == 2
    assert "  gs-2  " in listed[1]


def test_a_bad_task_refuses_the_batch_by_its_field(tr: Cli):
    done = tr("batch", "create", "-", stdin=json.dumps([{"command": ["true"]}, {"comand": ["true"]}]))
    assert (done.exit_code, done.stdout) == (5, "")
    assert "tasks.1.comand" in done.stderr


def test_one_command_for_each_item_in_their_order(shared: Daemon, tr: Cli, tmp_path: Path):
    done = tr("batch", "run", "-f", "slow,b c", "-f", "d", "--", "sh", "-c", 'test "$1" = slow && sleep 0.3; pwd; echo "$1"', "-")
    assert (done.exit_code, done.stdout, done.stderr) == (
        0,
        f"{tmp_path}\nslow\n{tmp_path}\nb c\n{tmp_path}\nd\n",
        "",
    )
    done = tr("batch", "run", "--shell", "--json", "echo {}.{} $TASK_RUNNER_ENTITY", stdin="a b\n$(x)\n\n")
    assert done.exit_code == 0
    tasks = shared.http.get("/v1/tasks", params={"batch": json.loads(done.stdout)["batchId"]}).json()
    assert [shared.output(task["taskId"]) for task in tasks] == [b"a b.a b a b\n", b"$(x).$(x) $(x)\n"]


def test_an_item_need_not_be_an_entity(shared: Daemon, tr: Cli):
    done = tr("batch", "run", "--detach", "--no-entity", "--entity", "x", "-f", "a", "true")
    assert done.exit_code == 2
    done = tr("batch", "run", "--detach", "--no-entity", "-f", "a,a", "--pool", "none-such", "true")
    assert done.exit_code == 125
    assert "none-such" in done.stderr
    batch_id = tr("batch", "run", "-d", "--no-entity", "-f", "a,a", "true").stdout.strip()
    assert tr("batch", "wait", batch_id).exit_code == 0
    assert {task["entity"] for task in shared.http.get("/v1/tasks", params={"batch": batch_id}).json()} == {None}


def test_a_run_that_fails_says_for_which_item(tr: Cli):
    done = tr("batch", "run", "-f", "0,3", "--separate-output", "--", "sh", "-c", "echo $0; echo err >&2; exit $0")
    assert (done.exit_code, done.stdout) == (1, "0\n3\n")
    assert done.stderr.count("err\n") == 2
    assert "(3) failed with exit code 3" in done.stderr


def test_nothing_to_run_for_is_wrong_usage(tr: Cli):
    for arguments, stdin in ((["-f", ","], None), ([], "\n")):
        done = tr("batch", "run", *arguments, "true", stdin=stdin)
        assert done.exit_code == 2
        assert "no items" in done.stderr
    assert tr("batch", "run", "true", stdin=b"\xff\n").exit_code == 125


def test_a_batch_is_paused_resumed_and_stopped(tr: Cli):
    batch_id = tr("batch", "run", "-d", "--work-dir", "-f", "p,q", "--shell", f"{UNTIL_GO}; : {{}}").stdout.strip()
    wait_for(lambda: "2 running" in tr("batch", "show", batch_id).stdout)
    done = tr("batch", "wait", "--timeout", "0.1", batch_id)
    assert (done.exit_code, done.stdout) == (124, f"{batch_id}: 2: 2 running\n")
    assert tr("batch", "pause", batch_id).stdout.startswith(f"{batch_id}: paused; ")
    wait_for(lambda: "2 paused" in tr("batch", "show", batch_id).stdout)
    assert tr("batch", "resume", batch_id).stdout.startswith(f"{batch_id}: active; ")
    done = tr("batch", "stop", "--grace", "5", batch_id)
    assert (done.exit_code, done.stdout) == (0, f"{batch_id}: cancelled; 2: 2 cancelled\n")


def test_an_unknown_batch_is_not_found(tr: Cli):
    for verb in ("show", "results", "wait", "stop", "pause", "resume"):
        done = tr("batch", verb, "0123456789abcdef")
        assert (done.exit_code, done.stdout) == (3, ""), verb


def test_a_signal_to_run_stops_the_batch(daemon: Daemon, start: Start):
    process = start("batch", "run", "-f", "x,y", "--shell", "echo {}; sleep 600")
    begun = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process, begun)
    assert (code, out.splitlines()[0]) == (1, b"x")
    assert "stopping batch" in err
    tasks = daemon.http.get("/v1/tasks").json()
    assert [task["outcome"] for task in tasks] == ["cancelled"] * 2


# -- other verbs of one task


def test_input_is_given_in_pieces(shared: Daemon, tr: Cli, tmp_path: Path):
    task_id = shared.submit("cat", openStdin=True)
    shared.wait_state(task_id, "running")
    (tmp_path / "piece").write_bytes(b"one\xff\n")
    assert json.loads(tr("input", "--json", task_id, "piece").stdout) == {"bytes": 5}
    assert tr("input", task_id, "--end", "piece").exit_code == 0
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert shared.output(task_id) == b"one\xff\none\xff\n"
    assert "10 B" in tr("show", task_id).stdout
    done = tr("input", task_id, "piece")
    assert done.exit_code == 4
    closed = shared.submit("sleep", "600")
    shared.wait_state(closed, "running")
    done = tr("input", closed, "--end")
    assert done.exit_code == 4
    assert "openStdin" in done.stderr


def test_a_task_runs_at_another_time(shared: Daemon, tr: Cli):
    task_id = tr("run", "-d", "--at", "2100-01-01T00:00Z", "true").stdout.strip()
    assert "scheduled" in tr("list").stdout
    assert "to run at    2100-01-01" in tr("show", task_id).stdout
    moved = tr("reschedule", task_id, "2101-01-01T00:00:00Z").stdout
    assert moved.startswith(f"{task_id}: scheduled, to run at 2101-01-01")
    assert tr("reschedule", task_id, "now").exit_code == 0
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert tr("reschedule", task_id, "now").exit_code == 4


def test_attempts_are_shown(shared: Daemon, tr: Cli):
    task_id = shared.submit(shell="echo try $TASK_RUNNER_ATTEMPT; exit $TASK_RUNNER_ATTEMPT", retry={"count": 1, "delaySeconds": 0})
    assert shared.wait(task_id)["attempt"] == 2
    assert "attempt      1\n" in tr("attempt", task_id, "1").stdout
    assert json.loads(tr("attempt", "--json", task_id, "1").stdout)["exitCode"] == 1
    assert tr("attempt", task_id, "3").exit_code in (3, 5)
    shown = tr("show", task_id).stdout
    assert "attempt      2\n" in shown
    assert "attempt 1    failed, 1 at " in shown
    assert "[attempt 2]" in tr("list").stdout
    assert tr("logs", "--attempt", "1", task_id).stdout == "try 1\n"
    assert tr("logs", task_id).stdout == "try 2\n"


def test_streams_kept_apart_are_shown_apart(shared: Daemon, tr: Cli):
    task_id = shared.submit(shell="echo out; echo err >&2", outputMode="separate")
    shared.wait(task_id)
    assert tr("logs", task_id).stdout == tr("logs", "--stream", "stdout", task_id).stdout == "out\n"
    assert tr("logs", "--stream", "stderr", task_id).stdout == "err\n"
    shown = tr("show", task_id).stdout
    assert "stdout       4 B" in shown
    assert "stderr       4 B" in shown


def test_every_action_is_shown_with_its_end(shared: Daemon, tr: Cli):
    actions = [{"machine": "echo", "parameters": "return 4", "continueOnFailure": True, "retry": {"count": 1, "delaySeconds": 0}}]
    actions.append({"machine": "process", "parameters": {"shell": "exit 2"}})
    actions.append({"machine": "process", "parameters": {"command": ["true"]}})
    task_id = shared.submit(actions=actions, cleanup=[{"machine": "echo", "parameters": "echo bye"}])
    shared.wait(task_id)
    lines = {line[:13].strip(): line[13:] for line in tr("show", task_id).stdout.splitlines()}
    assert lines["action 0"] == "echo: return 4   [failed, 4, 2 tries]"
    assert lines["action 1"] == "exit 2   [failed, 2]"
    assert lines["action 2"] == "true   [skipped]"
    assert lines["cleanup 3"] == "echo: echo bye   [succeeded, 0]"


def test_a_waiting_task_says_why(shared: Daemon, tr: Cli):
    first = shared.submit("sh", "-c", UNTIL_GO, entity="gs-9")
    second = shared.submit("true", entity="gs-9")
    assert first in tr("show", second).stdout
    assert "gs-9" in tr("list", "--state", "pending").stdout
    tr("stop", first)
    shared.wait(second)


def test_progress_is_shown(shared: Daemon, tr: Cli):
    shell = f"echo '42 copying' > $TASK_RUNNER_PROGRESS; {UNTIL_GO}"
    task_id = shared.submit(shell=shell, progress=True)
    wait_for(lambda: shared.task(task_id)["progress"])
    assert "42%" in tr("show", task_id).stdout
    assert "running 42%" in tr("list").stdout
    assert "copying" in tr("list").stdout
    tr("stop", task_id)


def test_a_gap_in_the_output_is_said(shared: Daemon, tr: Cli):
    task_id = shared.submit(shell="head -c 400000 /dev/zero | tr '\\0' x", maxOutputBytes=65_536)
    task = shared.wait(task_id)
    missing = sum(gap["bytes"] for gap in task["output"]["gaps"])
    assert missing > 300_000
    text = tr("logs", task_id).stdout
    assert f"\n[... {missing} bytes not kept ...]\n" in text
    assert text.count("x") == 400_000 - missing
    assert "in the middle are not kept" in tr("show", task_id).stdout


def test_submit_takes_options_beside_a_file(shared: Daemon, tr: Cli):
    body = {"command": ["true"], "tags": {"a": "1"}, "name": "old"}
    done = tr("submit", "-", "--json", "-t", "b=2", "--name", "new", "--priority", "7", stdin=json.dumps(body))
    task: Any = json.loads(done.stdout)
    assert (task["name"], task["tags"], task["priority"]) == ("new", {"a": "1", "b": "2"}, 7)
    shared.wait(task["taskId"])


def test_a_file_comes_along(shared: Daemon, tr: Cli, tmp_path: Path):
    (tmp_path / "script").write_text("#!/bin/sh\necho from a file\n")
    (tmp_path / "script").chmod(0o755)
    done = tr("run", "--file", "script:bin/script", "bin/script")
    assert (done.exit_code, done.stdout) == (0, "from a file\n")
