"""The command line against a real daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon, Run, Start, finish, wait_for
from nursery import Forked

from task_runner.client import calls

pytestmark = pytest.mark.slow

#: says what it gets on SIGTERM and goes on; or, with an argument, ends with that exit code
ON_TERM = """
import os, signal, sys, time
def on_term(*_):
    os.write(1, b"term\\n")  # it may come in the middle of a print
    if sys.argv[1:]:
        sys.exit(int(sys.argv[1]))
signal.signal(signal.SIGTERM, on_term)
os.write(1, b"ready\\n")
while True:
    time.sleep(60)
"""


#: what these look at is the daemon as a whole
ALONE = {
    "test_the_list_and_its_filters",
    "test_drain_and_undrain",
    "test_the_doctor_and_fsck",
    "test_fsck_and_a_rebuild_while_a_task_goes_on",
}


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Daemon:
    """One for all tests here, where nothing speaks against it."""
    if request.node.name in ALONE:
        return request.getfixturevalue("make_daemon")().start()
    return request.getfixturevalue("shared")


def the_task(daemon: Daemon) -> dict[str, Any]:
    """The one that was made last."""
    (task,) = daemon.http.get("/v1/tasks", params={"order": "desc", "limit": 1}).json()
    return dict(task)


# -- run


def test_run_gives_the_output_and_the_exit_code(task_runner: Run, tmp_path: Path):
    done = task_runner("run", "--", "sh", "-c", "pwd; echo err >&2; echo $A; exit 7", env={"A": "unseen"})
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{tmp_path}\nerr\n\n", "")
    done = task_runner("run", "-e", "A", "-e", "B=2", "--shell", "echo $A $B", env={"A": "seen"})
    assert (done.returncode, done.stdout) == (0, "seen 2\n")


def test_run_gives_every_byte_as_it_was(start: Start):
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 5000)"
    assert finish(start("run", "--", sys.executable, "-c", code)) == (0, bytes(range(256)) * 5000, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shell", "kill -9 $$"], 137, ""),
        (["--timeout", "0.2", "sleep", "600"], 124, "time limit"),
        (["/no/such/program"], 127, "/no/such/program"),
        (["--name", "a\nb", "true"], 125, "name"),
        (["--cwd", "/no/such/directory", "true"], 127, "/no/such/directory"),
    ],
)
def test_run_ends_with_a_code_that_tells(task_runner: Run, arguments: list[str], code: int, words: str):
    done = task_runner("run", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert bool(done.stderr) == bool(words)


def test_run_passes_standard_input_on(task_runner: Run):
    done = task_runner("run", "--stdin", "od", "-c", given="a\r\nä")
    assert done.stdout.split()[1:5] == ["a", "\\r", "\\n", "303"]
    long = "x" * 3_000_000
    assert task_runner("run", "--stdin", "cat", given=long).stdout == long
    assert task_runner("run", "--stdin", "true", given=long).returncode == 0
    assert task_runner("run", "-d", "--stdin", "cat", given=long).returncode == 125


def test_run_passes_standard_input_on_as_it_comes(start: Start):
    process = start("run", "--stdin", "--", "sh", "-c", "while read line; do echo got $line; done", stdin=subprocess.PIPE)
    for word in (b"one", b"two"):
        process.stdin.write(word + b"\n")
        assert process.stdout.readline() == b"got " + word + b"\n"
    process.stdin.close()
    process.stdin = None
    assert finish(process) == (0, b"", "")


def test_run_keeps_the_streams_apart(task_runner: Run):
    done = task_runner("run", "--separate-output", "--shell", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_run_shows_every_attempt(task_runner: Run):
    script = "echo try $TASK_RUNNER_ATTEMPT; test $TASK_RUNNER_ATTEMPT = 2"
    done = task_runner("run", "--retry", "3", "--retry-delay", "0", "--shell", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "try 1\ntry 2\n", "task-runner: attempt 2\n")


def test_run_detached_prints_the_id(daemon: Daemon, task_runner: Run):
    done = task_runner("run", "-d", "--name", "mine", "-t", "a=b", "--work-dir", "pwd")
    task = daemon.wait(done.stdout.strip())
    assert (task["name"], task["tags"], task["outcome"]) == ("mine", {"a": "b"}, "succeeded")
    assert daemon.output(task["taskId"]).decode().strip().endswith(f"{task['taskId']}/work")


def test_run_prints_the_task_if_asked_for_json(task_runner: Run):
    done = task_runner("run", "--json", "sh", "-c", "echo unseen; exit 3")
    assert done.returncode == 3
    assert json.loads(done.stdout)["exitCode"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_run_stops_the_task(daemon: Daemon, start: Start, number: signal.Signals):
    process = start("run", sys.executable, "-c", ON_TERM, "9")
    begun = process.stdout.readline()
    process.send_signal(number)
    code, out, err = finish(process, begun)
    assert (code, out) == (9, b"ready\nterm\n")
    task = the_task(daemon)
    assert (task["outcome"], task["receipt"]["reason"]) == ("cancelled", "stop")
    assert f"stopping task {task['taskId']}" in err
    assert not daemon.alive(task["taskId"])


def _asked(daemon: Daemon) -> int:
    """How often anybody has asked for a task by its id."""
    found = re.findall(r'^task_runner_http_requests_total\{(.*)\} (\d+)', daemon.http.get("/metrics").text, re.MULTILINE)
    return sum(int(count) for labels, count in found if 'method="GET"' in labels and 'route="/v1/tasks/{task_id}"' in labels)


@pytest.fixture
def waiting(daemon: Daemon, start: Start) -> Iterator[tuple[Forked, str]]:
    """A `run` whose task waits for another one, and the id of that task."""
    before, asked = daemon.submit("sleep", "600"), _asked(daemon)
    process = start("run", "--after", before, "--", "touch", "begun")
    task_id = wait_for(lambda: (task := the_task(daemon))["taskId"] != before and task["taskId"], "it waits")
    # a second signal ends one that has not heard yet that its task was accepted
    wait_for(lambda: _asked(daemon) > asked, "it knows its task: it has asked about it")
    yield process, task_id
    daemon.post(f"/v1/tasks/{before}/stop")


@pytest.mark.parametrize(("numbers", "expected"), [([2], 130), ([15], 143), ([2, 2], 130), ([15, 15], 143)])
def test_a_signal_to_run_stops_a_task_that_has_not_begun(
    daemon: Daemon, waiting: tuple[Forked, str], tmp_path: Path, numbers: list[int], expected: int
):
    process, task_id = waiting
    for number in numbers:
        process.send_signal(number)
    code, out, err = finish(process)
    assert (code, out) == (expected, b"")
    assert f"stopping task {task_id}" in err
    task = daemon.task(task_id)
    assert (task["state"], task["outcome"], task["startedAt"]) == ("exited", "cancelled", None)
    assert not (tmp_path / "begun").exists()


def test_a_task_that_another_stops_before_it_begins_is_not_interrupted_here(daemon: Daemon, waiting: tuple[Forked, str]):
    process, task_id = waiting
    daemon.post(f"/v1/tasks/{task_id}/stop")
    assert finish(process)[0] == 125


def test_a_second_signal_leaves_no_grace(daemon: Daemon, start: Start):
    process = start("run", "--grace", "3600", sys.executable, "-c", ON_TERM)
    begun = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    begun += process.stdout.readline()
    assert begun == b"ready\nterm\n"
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process, begun)
    assert (code, out) == (137, b"ready\nterm\n")
    assert err.count("stopping task") == 2
    assert not daemon.alive(the_task(daemon)["taskId"])


def test_run_stops_the_task_when_nobody_reads(daemon: Daemon, start: Start):
    process = start("run", "--shell", "while :; do echo line; sleep 0.01; done")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert the_task(daemon)["outcome"] == "cancelled"
    assert "Traceback" not in process.stderr.read().decode()


def test_a_killed_run_leaves_its_task_alone(daemon: Daemon, start: Start, tmp_path: Path):
    process = start("run", "--shell", "echo ready; while [ ! -e go ]; do sleep 0.1; done; exit 4")
    process.stdout.readline()
    process.kill()
    process.wait()
    task_id = the_task(daemon)["taskId"]
    wait_for(lambda: daemon.task(task_id)["state"] == "running", "its beginning has been read; its output was there first")
    (tmp_path / "go").touch()
    assert daemon.wait(task_id)["exitCode"] == 4


@pytest.mark.parametrize("orderly", [True, False])
def test_run_survives_a_restart_of_the_daemon(daemon: Daemon, start: Start, tmp_path: Path, orderly: bool):
    script = "i=0; while [ ! -e go ]; do echo line $i; i=$((i+1)); sleep 0.001; done; echo end; exit 5"
    process = start("run", "--shell", script)
    begun = process.stdout.readline()
    assert begun == b"line 0\n"
    if orderly:
        daemon.terminate()
        daemon.start()
    else:
        daemon.restart()
    size = (wait_for(lambda: daemon.output(the_task(daemon)["taskId"]), "it goes on")).count(b"\n")
    wait_for(lambda: daemon.output(the_task(daemon)["taskId"]).count(b"\n") > size + 20, "it writes on")
    (tmp_path / "go").touch()
    code, out, _err = finish(process, begun)
    assert code == 5
    lines = out.splitlines()
    assert lines == [b"line %d" % n for n in range(len(lines) - 1)] + [b"end"]
    assert out == daemon.output(the_task(daemon)["taskId"])


def test_run_waits_for_a_daemon_that_comes_back_late(daemon: Daemon, start: Start):
    daemon.kill()
    process = start("run", "--", "echo", "late")  # its connection waits in the queue of the listening socket
    daemon.start()
    assert finish(process)[:2] == (0, b"late\n")
    assert the_task(daemon)["outcome"] == "succeeded"


def test_run_can_be_left_before_the_daemon_answers(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TASK_RUNNER_STATE_DIR": str(tmp_path)}
        env["TASK_RUNNER_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "task_runner", "run", "true"]
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = listener.accept()
            with connection:
                while not connection.recv(65536).endswith(b"}"):
                    pass
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGTERM)
                # well before the request times out: a signal is not to wait for a read to return
                _, err = process.communicate(timeout=calls.PROMPT - 5)
    assert (process.returncode, err) == (125, "task-runner: it is not known whether the task was accepted\n")


def test_a_signal_before_the_daemon_answers_stops_the_task(daemon: Daemon, start: Start):
    daemon.kill()
    process = start("run", "sleep", "600")  # its connection waits in the queue of the listening socket
    wait_for(lambda: _catches(process.pid, signal.SIGTERM), "its handlers stand")
    process.send_signal(signal.SIGTERM)
    daemon.start()
    code, _, err = finish(process)
    assert code == 143  # before or after it had a process
    assert "SIGTERM: stopping" in err
    assert the_task(daemon)["outcome"] == "cancelled"


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_run_can_be_left_when_the_daemon_is_away(daemon: Daemon, start: Start):
    process = start("run", sys.executable, "-c", ON_TERM)
    process.stdout.readline()
    daemon.kill()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        while b"no contact" in said:
            said = process.stderr.readline()
    assert process.wait(PATIENCE) == 125
    assert b"may still run" in said
    daemon.start()
    assert the_task(daemon)["outcome"] in (None, "cancelled")  # the stops may have waited in the socket's queue


# -- looking


def test_a_task_from_submit_to_remove(daemon: Daemon, task_runner: Run, tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps({"command": ["sh", "-c", "echo one; echo two; exit 2"]}))
    done = task_runner("submit", "--wait", "--key", "k", "spec.json")
    assert done.returncode == 1
    task_id = done.stdout.strip()
    assert "failed with exit code 2" in done.stderr
    again = task_runner("submit", "--key", "k", "-", given=(tmp_path / "spec.json").read_text())
    assert (again.returncode, again.stdout.strip()) == (0, task_id)

    assert task_runner("logs", task_id[:6]).stdout == "one\ntwo\n"
    assert task_runner("logs", "-n", "1", task_id).stdout == "two\n"
    assert task_runner("logs", "--offset", "2", "-f", task_id).stdout == "e\ntwo\n"
    assert json.loads(task_runner("logs", "--json", task_id).stdout) == {"text": "one\ntwo\n"}
    shown = task_runner("show", task_id).stdout
    assert "exited, failed" in shown and "exit code    2" in shown
    assert json.loads(task_runner("show", "--json", task_id).stdout)["taskId"] == task_id
    assert task_runner("wait", task_id).returncode == 1
    assert task_runner("wait", "--exit-code", task_id).returncode == 2

    done = task_runner("remove", task_id)
    assert (done.returncode, done.stdout) == (0, f"{task_id}: removed\n")
    for verb in ("show", "logs", "wait", "stop", "pause", "retry", "remove"):
        done = task_runner(verb, task_id)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), verb


def test_the_list_and_its_filters(daemon: Daemon, task_runner: Run):
    ids = [daemon.submit("true", tags={"n": str(n)}) for n in range(3)]
    ids.append(daemon.submit("false", name="wrong\x7f"[:5], tags={"n": "x", "m": "y"}))
    for task_id in ids:
        daemon.wait(task_id)

    def listed(*arguments: str) -> list[str]:
        return [task["taskId"] for task in json.loads(task_runner("list", "--json", *arguments).stdout)]

    assert listed() == listed("--all") == ids
    assert listed("-n", "2") == ids[2:]
    assert listed("--outcome", "failed") == listed("-t", "n=x", "-t", "m=y") == listed("-q", "wrong") == ids[3:]
    assert listed("--state", "running", "--state", "pending") == listed("--stalled") == []
    done = task_runner("list", "-n", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ID", *ids[2:]]
    assert "--all" in done.stderr


def test_logs_follow_to_the_end_over_a_restart(daemon: Daemon, start: Start, tmp_path: Path):
    script = "echo before; while [ ! -e go ]; do sleep 0.1; done; echo after"
    task_id = daemon.submit("sh", "-c", script, workingDirectory=str(tmp_path))
    process = start("logs", "-f", task_id)
    begun = process.stdout.readline()
    daemon.restart()
    (tmp_path / "go").touch()
    assert finish(process, begun)[:2] == (0, b"before\nafter\n")


def test_an_interrupted_look_says_so_by_its_code(daemon: Daemon, start: Start):
    task_id = daemon.submit("sh", "-c", "echo ready; sleep 600")
    process = start("logs", "-f", task_id)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, b"", "")
    wait_for(lambda: daemon.task(task_id)["state"] == "running", "it goes on, undisturbed")


# -- control


def test_stop_tells_what_it_did(daemon: Daemon, task_runner: Run):
    stubborn = daemon.submit("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    polite, over = daemon.submit("sleep", "600"), daemon.submit("true")
    daemon.wait_output(stubborn, b"ready")
    daemon.wait_state(stubborn, "running")
    daemon.wait_state(polite, "running")
    daemon.wait(over)
    done = task_runner("stop", "--grace", "0.3", stubborn, polite, over)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{stubborn}: cancelled by SIGKILL")
    assert "SIGKILL after 0.3 s to" in lines[0] and "nothing is left" in lines[0]
    assert "SIGTERM to 1 process (sleep " in lines[1]
    assert "nothing was to be stopped" in lines[2]


def test_stop_without_waiting(daemon: Daemon, task_runner: Run):
    task_id = daemon.submit("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    daemon.wait_output(task_id, b"ready")
    daemon.wait_state(task_id, "running")
    done = task_runner("stop", "--no-wait", "--json", task_id)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "stopping")
    assert task_runner("stop", "--grace", "0", task_id).returncode == 0
    assert daemon.task(task_id)["outcome"] == "cancelled"


def test_pause_resume_signal_retry(daemon: Daemon, task_runner: Run):
    task_id = daemon.submit("sh", "-c", "trap 'exit 6' HUP; echo ready; while :; do sleep 0.1; done")
    wait_for(lambda: daemon.output(task_id) == b"ready\n")
    daemon.wait_state(task_id, "running")  # it may write before the daemon has heard that it runs
    assert task_runner("retry", task_id).returncode == 4
    # an answer waits half a second for the state, and is asked for again where the task is later
    wait_for(lambda: task_runner("pause", task_id).stdout == f"{task_id}: paused\n", "it is paused")
    wait_for(lambda: task_runner("resume", task_id).stdout == f"{task_id}: running\n", "it goes on")
    assert task_runner("signal", task_id, "NONSENSE").returncode == 5
    assert task_runner("signal", task_id, "hup").returncode == 0
    assert task_runner("wait", "--exit-code", task_id).returncode == 6
    assert task_runner("pause", task_id, task_id).returncode == 4
    assert task_runner("retry", task_id).stdout.startswith(f"{task_id}: attempt 2, ")
    assert task_runner("stop", task_id).returncode == 0


def test_wait_for_a_time(daemon: Daemon, task_runner: Run):
    slow, good = daemon.submit("sleep", "600"), daemon.submit("true")
    daemon.wait_state(slow, "running")
    daemon.wait(good)
    done = task_runner("wait", "--timeout", "0.2", good, slow)
    assert done.returncode == 124
    assert f"{slow}: still running" in done.stdout
    assert f"{good}: succeeded" in done.stdout
    assert task_runner("wait", good).returncode == 0


def test_drain_and_undrain(daemon: Daemon, task_runner: Run, start: Start):
    task_id = daemon.submit("sh", "-c", "while [ ! -e go ]; do sleep 0.1; done")
    daemon.wait_state(task_id, "running")
    drain = start("drain", "--wait")
    wait_for(lambda: daemon.http.get("/v1/node").json()["draining"], "it drains")
    (daemon.work(task_id) / "go").touch()
    assert finish(drain)[0] == 0
    assert daemon.task(task_id)["outcome"] == "succeeded"
    waiting = task_runner("run", "-d", "true").stdout.strip()
    assert daemon.task(waiting)["state"] == "pending"
    assert "no (drained)" in task_runner("node").stdout
    assert not json.loads(task_runner("undrain", "--json").stdout)["draining"]
    assert daemon.wait(waiting)["outcome"] == "succeeded"


# -- the daemon and its keepers


def test_a_wrong_token_is_refused(task_runner: Run):
    done = task_runner("list", env={"TASK_RUNNER_TOKEN": "wrong"})
    assert (done.returncode, done.stdout) == (5, "")
    assert "token" in done.stderr


def test_the_doctor_and_fsck(daemon: Daemon, task_runner: Run):
    daemon.wait(daemon.submit("true"))
    done = task_runner("doctor")
    assert done.returncode == 0, done.stdout
    found = json.loads(task_runner("doctor", "--json").stdout)
    assert found["ok"]
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    for name in ("python", "pidfd", "child subreaper", "flock", "hard links", "daemon", "storage", "token"):
        assert verdicts[name] == "ok", found
    assert task_runner("fsck").returncode == 5
    daemon.terminate()
    done = task_runner("fsck")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(task_runner("fsck", "--json").stdout)["findings"] == []


def test_fsck_and_a_rebuild_while_a_task_goes_on(daemon: Daemon, task_runner: Run):
    task_id = daemon.submit("sh", "-c", "while [ ! -e go ]; do sleep 0.1; done")
    daemon.wait_state(task_id, "running")
    daemon.terminate()
    assert json.loads(task_runner("fsck", "--json").stdout)["findings"] == []
    for extra in ("", "-wal", "-shm"):
        if os.path.exists(daemon.state.database + extra):
            os.unlink(daemon.state.database + extra)
    assert "1 tasks were taken into the store" in task_runner("fsck", "--rebuild").stdout
    daemon.start()
    assert daemon.wait_state(task_id, "running")["attempt"] == 1
    (daemon.work(task_id) / "go").touch()
    assert daemon.wait(task_id)["outcome"] == "succeeded"


def test_serve_is_found_by_its_state_directory(tmp_path: Path):
    state, path = tmp_path / "state", tmp_path / "socket"
    env = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
    env |= {"PYTHONPATH": str(ROOT), "TASK_RUNNER_STATE_DIR": str(state)}
    command = [sys.executable, "-m", "task_runner"]
    with open(tmp_path / "log", "wb") as log:
        serve = subprocess.Popen([*command, "serve", "--bind", f"unix:{path}"], env=env, stdout=log, stderr=log)
    try:
        wait_for(lambda: (state / "address.json").exists() or serve.poll() is not None, "the daemon is ready")
        done = subprocess.run(
            [*command, "run", "--", "echo", "found"],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "found\n", ""), (tmp_path / "log").read_text()
    finally:
        serve.terminate()
        assert serve.wait(PATIENCE) == 0
