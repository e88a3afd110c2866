"""Nothing is silently dropped (promise 9): whatever is damaged is set aside and said so, and the daemon starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Daemon, wait_for

from task_runner.errors import Damaged
from task_runner.lib import process, statusfile
from task_runner.lib.taskdir import AttemptDirectory, write_control
from task_runner.model.codec import to_json
from task_runner.model.state import State
from task_runner.model.status import Heartbeat, Identity, Status

pytestmark = pytest.mark.slow

Damage = Callable[[str], None]


def replace_with(content: bytes) -> Damage:
    """Another file in its place, as an editor or a restored backup would leave."""
    return lambda path: write_control(path, content)


def edit(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: str) -> None:
        value = json.loads(Path(path).read_text().splitlines()[0])
        change(value)
        write_control(path, json.dumps(value).encode())

    return damage


def tear(path: str) -> None:
    os.truncate(path, os.stat(path).st_size // 2)


def make_symlink(path: str) -> None:
    os.unlink(path)
    os.symlink("/etc/passwd", path)


def make_fifo(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


def make_directory(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


def make_huge(path: str) -> None:
    os.truncate(path, 1 << 40)


DAMAGES: dict[str, Damage] = {
    "torn": tear,
    "empty": lambda path: os.truncate(path, 0),
    "garbage": replace_with(os.urandom(3000)),
    "other-json": replace_with(b'["a", 1]\n'),
    "deep": replace_with(b"[" * 100_000),
    "symlink": make_symlink,
    "fifo": make_fifo,
    "directory": make_directory,
    "huge": make_huge,
}
STATUS_DAMAGES: dict[str, Damage] = {
    **DAMAGES,
    "older-format": edit(lambda status: status.update(format=0)),
    "newer-format": edit(lambda status: status.update(format=99)),
    "no-format": edit(lambda status: status.pop("format")),
    "format-is-text": edit(lambda status: status.update(format="1")),
    "wrong-type": edit(lambda status: status.update(runner="me")),
    "unknown-state": edit(lambda status: status.update(state="dancing")),
    "not-a-number": edit(lambda status: status.update(pausedSeconds=float("nan"))),
    "infinite": edit(lambda status: status.update(heartbeat={"at": "now", "monotonic": float("inf")})),
    "nothing-in-it": replace_with(b"{}"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """One daemon for all tests that damage one task alone. It is restarted again and again."""
    daemon = Daemon(tmp_path_factory.mktemp("damage") / "state")
    try:
        yield daemon.start()
    finally:
        end_runners()
        daemon.close()


#: ends by itself in any case; it looks for nothing meanwhile, for there are dozens of them
WAITING = "mkfifo go; exec timeout 200 sh -c 'read line < go; exit 7'"
#: whoever cleans up cannot find a runner by a lock that a test has damaged
RUNNERS: list[process.Process] = []


def start_waiting(daemon: Daemon) -> tuple[str, AttemptDirectory]:
    task_id = daemon.submit("sh", "-c", WAITING)
    daemon.wait_state(task_id, "running")
    runner = process.look(daemon.runner_pid(task_id))
    assert runner is not None
    RUNNERS.append(runner)
    return task_id, daemon.state.tasks.attempt(task_id, 1)


@pytest.fixture(autouse=True)
def _no_runner_is_left():
    yield
    end_runners()


def end_runners() -> None:
    while RUNNERS:
        process.send(RUNNERS.pop(), signal.SIGKILL)


def start_many(daemon: Daemon, cases: Iterable[str]) -> dict[str, tuple[str, AttemptDirectory]]:
    """A task that runs for every case."""
    return {case: start_waiting(daemon) for case in cases}


def wait_dead(pid: int) -> None:
    wait_for(lambda: not (seen := process.look(pid)) or not seen.alive, f"{pid} has ended")


def let_go(directory: AttemptDirectory) -> None:
    wait_for(lambda: opened(os.path.join(directory.work, "go")), "it waits to be let go")


def opened(fifo: str) -> bool:
    """Whether somebody reads, who has now come to its end."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def kept_files(directory: AttemptDirectory) -> list[str]:
    return [name for name in os.listdir(directory.path) if ".damaged-" in name]


# -- status.json


def a_status() -> Status:
    return Status(
        task_id="a" * 16,
        runner=Identity(pid=1, start_time=1, boot_id="b"),
        state=State.RUNNING,
        heartbeat=Heartbeat(at="2026-01-01T00:00:00.000000Z", monotonic=1.0),
    )


def test_a_status_torn_at_any_length_is_damaged_and_not_misread(tmp_path):
    directory = AttemptDirectory(str(tmp_path / "task"), 1)
    directory.create()
    whole = json.dumps(to_json(a_status())).encode()
    for length in range(len(whole)):
        Path(directory.status).write_bytes(whole[:length])
        with pytest.raises(Damaged):
            statusfile.read(directory)
    Path(directory.status).write_bytes(whole)
    assert statusfile.read(directory) == a_status()


def test_a_damaged_status_of_a_running_task(daemon: Daemon):
    tasks = start_many(daemon, STATUS_DAMAGES)
    daemon.kill()
    for case, (_task_id, directory) in tasks.items():
        STATUS_DAMAGES[case](directory.status)
    daemon.restart()
    for case, (task_id, directory) in tasks.items():
        assert daemon.wait_state(task_id, "running")["startedAt"] is not None, case
        let_go(directory)
        task = daemon.wait(task_id)
        assert (task["state"], task["outcome"], task["exitCode"]) == ("exited", "failed", 7), case
        (kept,) = kept_files(directory)
        assert f"kept as {kept}" in task["damage"], case
    assert daemon.http.get("/v1/node").json()["storeSetAside"] is None


def test_a_damaged_last_status_makes_the_task_lost_with_the_evidence(daemon: Daemon):
    tasks = start_many(daemon, STATUS_DAMAGES)
    runners = [daemon.runner_pid(task_id) for task_id, _directory in tasks.values()]
    daemon.kill()
    for _task_id, directory in tasks.values():
        let_go(directory)
    for runner in runners:
        wait_dead(runner)
    for case, (_task_id, directory) in tasks.items():
        STATUS_DAMAGES[case](directory.status)
    daemon.restart()
    for case, (task_id, directory) in tasks.items():
        task = daemon.wait(task_id)
        ending = (task["state"], task["outcome"], task["exitCode"], task["signal"])
        assert ending == ("lost", "lost", None, None), case
        (kept,) = kept_files(directory)
        assert "; damaged: " in task["error"] and f"kept as {kept}" in task["error"], case
        assert f"kept as {kept}" in task["damage"], case


@pytest.mark.parametrize("way", ["task", "attempt"])
def test_a_status_of_another_task_is_not_believed(daemon: Daemon, way: str):
    change = {"task": {"taskId": "f" * 16}, "attempt": {"attempt": 2}}[way]
    task_id, directory = start_waiting(daemon)
    daemon.kill()
    ending = {"state": "exited", "outcome": "succeeded", "exitCode": 0}
    edit(lambda status: status.update({**ending, **change}))(directory.status)
    daemon.restart()
    assert daemon.wait_state(task_id, "running")["outcome"] is None
    let_go(directory)
    assert daemon.wait(task_id)["exitCode"] == 7


def test_a_status_that_was_put_back_does_not_undo_an_ending(daemon: Daemon):
    task_id, directory = start_waiting(daemon)
    early = Path(directory.status).read_bytes()
    let_go(directory)
    daemon.wait(task_id)
    write_control(directory.status, early)
    daemon.restart()
    task = daemon.task(task_id)
    assert (task["state"], task["exitCode"]) == ("exited", 7)


def test_odd_text_in_a_status_is_shown_and_breaks_nothing(daemon: Daemon):
    task_id, directory = start_waiting(daemon)
    daemon.kill()
    odd = "\ud800 lone \udcff"
    edit(lambda status: status.update(error=odd, startedAt=odd, finishedAt=odd, new={"deep": [odd]}))(directory.status)
    daemon.restart()
    assert daemon.wait_state(task_id, "running")["startedAt"].endswith("\ufffd")
    let_go(directory)
    assert daemon.wait(task_id)["exitCode"] == 7
    assert daemon.http.get("/v1/tasks").status_code == 200


def test_an_ending_with_odd_text_is_stored(daemon: Daemon):
    task_id, directory = start_waiting(daemon)
    runner = daemon.runner_pid(task_id)
    daemon.kill()
    let_go(directory)
    wait_dead(runner)
    edit(lambda status: status.update(error="\ud800", finishedAt="\ud800"))(directory.status)
    daemon.restart()
    assert daemon.wait(task_id)["exitCode"] == 7
    daemon.restart()
    assert daemon.task(task_id)["exitCode"] == 7


# -- lock


def test_a_damaged_lock_of_a_running_task(daemon: Daemon):
    tasks = start_many(daemon, DAMAGES)
    daemon.kill()
    for case, (_task_id, directory) in tasks.items():
        DAMAGES[case](directory.lock)
    daemon.restart()
    for case, (task_id, directory) in tasks.items():
        assert daemon.wait_state(task_id, "running")["outcome"] is None, case
        assert daemon.alive(task_id), case
        # it can still be controlled
        assert daemon.post(f"/v1/tasks/{task_id}/pause").status_code == 200, case
        daemon.wait_state(task_id, "paused")
        daemon.post(f"/v1/tasks/{task_id}/resume")
        daemon.wait_state(task_id, "running")
        let_go(directory)
        task = daemon.wait(task_id)
        assert (task["state"], task["outcome"], task["exitCode"]) == ("exited", "failed", 7), case
        if case != "huge":  # it got longer, what is in it is still good
            assert "lock" in task["damage"], case


def test_a_damaged_lock_of_a_dead_runner_is_no_proof_of_life(daemon: Daemon):
    tasks = start_many(daemon, DAMAGES)
    runners = {task_id: daemon.runner_pid(task_id) for task_id, _directory in tasks.values()}
    daemon.kill()
    for runner in runners.values():
        os.kill(runner, signal.SIGKILL)
        wait_dead(runner)
    for case, (_task_id, directory) in tasks.items():
        DAMAGES[case](directory.lock)
    daemon.restart()
    for case, (task_id, _directory) in tasks.items():
        task = daemon.wait(task_id)
        assert (task["state"], task["exitCode"]) == ("lost", None), case
        assert f"pid {runners[task_id]}" in task["error"], case
        assert daemon.alive(task_id) == [], case


def test_a_lock_file_that_was_removed(daemon: Daemon):
    task_id, directory = start_waiting(daemon)
    daemon.kill()
    os.unlink(directory.lock)
    daemon.restart()
    daemon.wait_state(task_id, "running")
    daemon.post(f"/v1/tasks/{task_id}/stop")
    assert daemon.wait(task_id)["outcome"] == "cancelled"


# -- the rest of a task's directory


def test_a_damaged_spec_changes_nothing_for_a_task_in_the_store(daemon: Daemon):
    tasks = start_many(daemon, DAMAGES)
    specs = {task_id: daemon.task(task_id)["spec"] for task_id, _directory in tasks.values()}
    daemon.kill()
    for case, (_task_id, directory) in tasks.items():
        DAMAGES[case](directory.spec)
    daemon.restart()
    for case, (task_id, directory) in tasks.items():
        assert daemon.wait_state(task_id, "running")["spec"] == specs[task_id], case
        let_go(directory)
        assert daemon.wait(task_id)["exitCode"] == 7, case


@pytest.mark.parametrize("how", ["fifo", "symlink", "directory"])
@pytest.mark.parametrize("request_", ["", "?follow=true", "?tail=3", "?offset=1"])
def test_an_output_that_is_no_file_any_more_is_not_served(daemon: Daemon, how: str, request_: str):
    task_id = daemon.submit("echo", "out")
    daemon.wait(task_id)
    path = daemon.state.tasks.attempt(task_id, 1).output
    {"fifo": make_fifo, "directory": make_directory, "symlink": link_to_shadow}[how](path)
    response = daemon.http.get(f"/v1/tasks/{task_id}/output{request_}")
    assert (response.status_code, response.content) == (200, b"")


def link_to_shadow(path: str) -> None:
    os.unlink(path)
    os.symlink("/etc/shadow", path)


def test_a_task_whose_directory_was_removed_is_lost_and_the_others_are_not(daemon: Daemon):
    gone_id, gone = start_waiting(daemon)
    well_id, well = start_waiting(daemon)
    runner = daemon.runner_pid(gone_id)
    daemon.kill()
    os.kill(runner, signal.SIGKILL)
    wait_dead(runner)
    wait_for(Path(gone.work, "go").exists, "its command, which lives on, makes nothing more")
    shutil.rmtree(gone.path)
    daemon.restart()
    let_go(well)
    assert daemon.wait(well_id)["exitCode"] == 7
    assert daemon.wait(gone_id)["outcome"] == "lost"


# -- the store


def finish(daemon: Daemon) -> list[dict[str, Any]]:
    """Two tasks that are over."""
    failed = daemon.wait(daemon.submit("sh", "-c", "echo a; exit 5", name="first", tags={"k": "v"}))
    stopped = daemon.submit("sleep", "600")
    daemon.wait_state(stopped, "running")
    daemon.post(f"/v1/tasks/{stopped}/stop")
    return [failed, daemon.wait(stopped)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """A state directory with two tasks that are over, left in good order."""
    daemon = Daemon(tmp_path_factory.mktemp("finished") / "state")
    try:
        tasks = finish(daemon.start())
        daemon.terminate()
    finally:
        daemon.close()
    return daemon.state_dir, tasks


STORE_DAMAGES: dict[str, Damage] = {
    "garbage": replace_with(os.urandom(20_000)),
    "garbage-inside": lambda path: overwrite(path, 4096),
    "cut-to-one-page": lambda path: os.truncate(path, 4096),
    "cut-in-half": lambda path: os.truncate(path, os.stat(path).st_size // 2),
    "cut-at-the-end": lambda path: os.truncate(path, os.stat(path).st_size - 4096),
    "cut-within-the-header": lambda path: os.truncate(path, 50),
    "empty": lambda path: os.truncate(path, 0),
    "removed": os.unlink,
    "text": replace_with(b"hello\n"),
    "symlink": make_symlink,
    "directory": make_directory,
    "fifo": make_fifo,
}


def overwrite(path: str, offset: int) -> None:
    size = os.stat(path).st_size
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(os.urandom(size - offset))


def assert_known_again(daemon: Daemon, before: list[dict[str, Any]]) -> None:
    for task in before:
        again = daemon.task(task["taskId"])
        for key in ("state", "outcome", "exitCode", "signal", "startedAt", "finishedAt", "usage", "spec", "name", "tags"):
            assert again[key] == task[key], key
    assert daemon.output(before[0]["taskId"]) == b"a\n"


@pytest.mark.parametrize("case", STORE_DAMAGES)
def test_a_damaged_store_is_set_aside_and_rebuilt_from_the_directories(make_daemon, tmp_path, finished, case: str):
    shutil.copytree(finished[0], tmp_path / "state", ignore=shutil.ignore_patterns("doorbell"))
    daemon = make_daemon(tmp_path / "state")
    STORE_DAMAGES[case](daemon.state.database)
    daemon.start()
    kept = daemon.http.get("/v1/node").json()["storeSetAside"]
    assert (kept is None) == (case in ("empty", "removed"))  # of these nothing is left
    assert kept is None or os.path.lexists(kept)
    assert "rebuilt from 2 task directories" in daemon.log.read_text()
    assert {task["taskId"] for task in daemon.http.get("/v1/tasks").json()} == {task["taskId"] for task in finished[1]}
    assert_known_again(daemon, finished[1])
    assert {task["origin"] for task in daemon.http.get("/v1/tasks").json()} == {"rebuilt"}


def test_a_rebuilt_store_takes_up_the_running_and_goes_on(make_daemon):
    daemon = make_daemon().start()
    before = finish(daemon)
    running, directory = start_waiting(daemon)
    daemon.terminate()
    overwrite(daemon.state.database, 0)
    daemon.restart()
    daemon.wait_state(running, "running")
    let_go(directory)
    assert daemon.wait(running)["exitCode"] == 7
    assert daemon.wait(daemon.submit("sh", "-c", "exit 3"))["exitCode"] == 3
    daemon.restart()
    assert daemon.http.get("/v1/node").json()["storeSetAside"] is None
    assert len(daemon.http.get("/v1/tasks").json()) == 4
    assert_known_again(daemon, before)


@pytest.mark.parametrize("case", ["garbage", "cut-at-the-end", "cut-in-half", "empty", "removed", "directory"])
def test_a_store_damaged_beside_the_log_of_a_killed_daemon_loses_nothing(make_daemon, case: str):
    """SQLite may read everything from its log, or the store is rebuilt: no task is missing either way."""
    daemon = make_daemon().start()
    before = finish(daemon)
    running, directory = start_waiting(daemon)
    daemon.kill()
    STORE_DAMAGES[case](daemon.state.database)
    daemon.restart()
    assert_known_again(daemon, before)
    daemon.wait_state(running, "running")
    let_go(directory)
    assert daemon.wait(running)["exitCode"] == 7


def test_a_directory_that_cannot_be_taken_into_a_rebuilt_store_is_named(make_daemon):
    daemon = make_daemon().start()
    failed, stopped = finish(daemon)
    daemon.terminate()
    tear(daemon.state.tasks.attempt(failed["taskId"], 1).spec)
    replace_with(b"garbage")(daemon.state.database)
    daemon.restart()
    assert {task["taskId"] for task in daemon.http.get("/v1/tasks").json()} == {stopped["taskId"]}
    said = [line for line in daemon.log.read_text().splitlines() if failed["taskId"] in line]
    assert any("spec.json" in line for line in said)
    assert os.path.isdir(daemon.state.tasks.attempt(failed["taskId"], 1).path)


def test_what_is_no_task_is_left_alone(make_daemon):
    daemon = make_daemon().start()
    failed, stopped = finish(daemon)
    tasks = Path(daemon.state.tasks.path)
    daemon.terminate()
    (tasks / "README").write_text("a file")
    (tasks / "lost+found").mkdir()
    (tasks / "a\nb").mkdir()
    (tasks / "0123456789abcdef").write_text("a file with the name of a task")
    (tasks / "fedcba9876543210").mkdir()
    shutil.copytree(tasks / failed["taskId"], tasks / "copy of a task")
    os.symlink(tasks / failed["taskId"], tasks / "00000000000000aa")
    os.mkfifo(tasks / "00000000000000bb")
    foreign = {entry.name for entry in tasks.iterdir()} - {failed["taskId"], stopped["taskId"]}
    replace_with(b"garbage")(daemon.state.database)
    daemon.restart()
    assert {task["taskId"] for task in daemon.http.get("/v1/tasks").json()} == {failed["taskId"], stopped["taskId"]}
    assert foreign <= {entry.name for entry in tasks.iterdir()}


# -- files of the daemon


@pytest.mark.parametrize("how", ["file", "symlink", "directory"])
def test_a_doorbell_that_is_none_is_replaced(make_daemon, how: str):
    daemon = make_daemon().start()
    daemon.terminate()
    os.unlink(daemon.state.bell)
    {"file": Path.touch, "symlink": lambda path: path.symlink_to("/etc/passwd"), "directory": Path.mkdir}[how](
        Path(daemon.state.bell)
    )
    daemon.restart()
    assert daemon.wait(daemon.submit("sh", "-c", "exit 3"))["exitCode"] == 3


def test_a_second_daemon_refuses_and_says_who_is_there(make_daemon):
    first = make_daemon().start()
    second = make_daemon(first.state_dir, lock_patience_seconds=0)
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests/tools/serve.py"), "0"],
        env=second.environment(),
        stdin=second._listener,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    said = ended.stdout.decode()
    assert f"{first.state.path} is in use by another daemon" in said
    assert f'"pid": {first.pid}' in said
    assert "AttributeError" not in said
    assert first.wait(first.submit("true"))["outcome"] == "succeeded"
