"""The ending is true (promise 3): exit code, signal, times and use come from the runner; pausing stops every clock."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from attempts import is_still
from conftest import Daemon, wait_for

from task_runner.lib import lock, process
from task_runner.lib.clock import SystemClock
from task_runner.lib.report import Report
from task_runner.lib.statusfile import StatusWriter, read
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import (
    ActionStatus,
    Gap,
    Heartbeat,
    Identity,
    Output,
    ProcessNote,
    Progress,
    Receipt,
    Silence,
    Status,
    Usage,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """One daemon for all tests here: none of them harms it."""
    daemon = Daemon(tmp_path_factory.mktemp("runner") / "state")
    try:
        yield daemon.start()
    finally:
        daemon.close()


def shell(script: str) -> dict[str, Any]:
    return {"machine": "process", "parameters": {"shell": script}}


def action_pid(daemon: Daemon, task_id: str) -> int:
    return int(daemon.wait_state(task_id, "running")["actions"][-1]["process"]["pid"])


def seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()


def pulse(daemon: Daemon, task_id: str) -> float:
    """The runner's last sign of life, on the monotonic clock."""
    heartbeat = lock.probe(daemon.state.tasks.attempt(task_id, 1)).heartbeat
    assert heartbeat is not None
    return heartbeat.monotonic


def wait_beats(daemon: Daemon, task_id: str, count: int = 2) -> None:
    """Let the runner live for some beats of its heart."""
    for _ in range(count):
        last = pulse(daemon, task_id)
        wait_for(lambda last=last: pulse(daemon, task_id) > last, "the runner lives")


# -- how a command ended


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 137, 143, 255])
def test_the_exit_code_is_the_commands(daemon: Daemon, code: int):
    task = daemon.wait(daemon.submit("sh", "-c", f"exit {code}"))
    assert (task["state"], task["exitCode"], task["signal"], task["error"]) == ("exited", code, None, None)
    assert task["outcome"] == ("failed" if code else "succeeded")
    assert task["receipt"] is None


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "ABRT", "HUP", "PIPE", "USR1", "XCPU"])
def test_the_signal_is_the_one_that_ended_the_command(daemon: Daemon, name: str):
    task = daemon.wait(daemon.submit("sh", "-c", f"kill -{name} $$"))
    assert (task["outcome"], task["exitCode"], task["signal"]) == ("failed", None, f"SIG{name}")
    assert task["receipt"] is None


def test_a_kill_from_outside_is_no_stop(daemon: Daemon):
    task_id = daemon.submit("sleep", "600")
    os.kill(action_pid(daemon, task_id), signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["state"], task["outcome"], task["signal"]) == ("exited", "failed", "SIGKILL")
    assert (task["receipt"], task["stopRequested"]) == (None, None)


def test_a_command_that_dumps_core(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "ulimit -c unlimited 2>&- || true; kill -SEGV $$")
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["signal"]) == ("failed", None, "SIGSEGV")


def test_a_signal_that_is_passed_on_reaches_the_command(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "trap 'exit 21' HUP; echo ready; for i in $(seq 2000); do sleep 0.05; done")
    wait_for(lambda: daemon.output(task_id), "the trap is set")
    daemon.wait_state(task_id, "running")
    assert daemon.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGHUP"}).status_code == 200
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("failed", 21)


# -- what cannot start


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/nonexistent/program"], "/nonexistent/program: No such file or directory"),
        (["no-such-program-anywhere"], "no-such-program-anywhere: no such program in "),
        (["/etc"], "/etc: Permission denied"),
        (["/etc/passwd"], "/etc/passwd: Permission denied"),
    ],
)
def test_a_command_that_cannot_start_has_failed_and_says_why(daemon: Daemon, command: list[str], reason: str):
    task = daemon.wait(daemon.submit(*command))
    assert (task["state"], task["outcome"]) == ("exited", "failed")
    assert (task["exitCode"], task["signal"]) == (None, None)
    assert task["error"].startswith(reason)
    assert task["actions"][0]["error"] == task["error"]
    assert task["actions"][0]["process"] is None
    assert task["receipt"] is None


def test_a_file_that_is_no_program(daemon: Daemon, tmp_path: Path):
    path = tmp_path / "garbage"
    path.write_bytes(b"\x7fgarbage")
    path.chmod(0o700)
    task = daemon.wait(daemon.submit(str(path)))
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert task["error"] == f"{path}: Exec format error"


@pytest.mark.parametrize(("where", "reason"), [("/nonexistent", "No such file"), ("/etc/passwd", "Not a directory")])
def test_a_working_directory_that_is_none(daemon: Daemon, where: str, reason: str):
    task = daemon.wait(daemon.submit("true", workingDirectory=where))
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert task["error"].startswith(f"workingDirectory {where}: {reason}")


def test_a_start_that_fails_ends_the_task(daemon: Daemon, tmp_path: Path):
    missing = {"machine": "process", "parameters": {"command": ["/nonexistent"]}}
    task = daemon.wait(daemon.submit(actions=[shell("exit 0"), missing, shell(f"touch {tmp_path}/never")]))
    assert task["outcome"] == "failed"
    assert [action["state"] for action in task["actions"]] == ["exited", "exited", "skipped"]
    assert not (tmp_path / "never").exists()


# -- what a command finds


def test_a_command_finds_a_clean_place(daemon: Daemon):
    script = """
import json, os, signal, sys
fds = {int(fd) for fd in os.listdir("/proc/self/fd")}
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
masks = {name: int(status[name], 16) for name in ("SigBlk", "SigIgn")}
print(json.dumps([os.getcwd(), sorted(fds), os.readlink("/proc/self/fd/0"), masks, os.umask(0), dict(os.environ),
                  os.getsid(0) == os.getpid()]))
"""
    task_id = daemon.submit(sys.executable, "-S", "-c", script, env={"EXTRA": "ä b"})
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    where, fds, stdin, masks, umask, env, leads = json.loads(daemon.output(task_id))
    assert where == f"{daemon.state.tasks.path}/{task_id}/work"
    assert fds[:3] == [0, 1, 2] and len(fds) <= 4  # the fourth is the one that lists them
    assert stdin == "/dev/null"
    # what python itself ignores; and 32 and 33, the C library's own, which its posix_spawn leaves ignored
    ignored = {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}
    assert masks["SigBlk"] == 0 and masks["SigIgn"] & ~sum(1 << (number - 1) for number in ignored) == 0
    assert umask == 0o022
    assert env["EXTRA"] == "ä b" and env[process.MARK] == task_id
    assert not [name for name in env if name.startswith("TASK_RUNNER_STATE") or name == "PYTHONPATH"]
    assert leads


def test_standard_input_is_the_text_of_the_spec(daemon: Daemon):
    task_id = daemon.submit("cat", stdin="a\nb\0c")
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    assert daemon.output(task_id) == b"a\nb\0c"


# -- times and use


def test_times_and_use_are_those_of_the_command(daemon: Daemon):
    script = "d = b'x' * 50_000_000\nimport time\nwhile time.process_time() < 0.3: pass"
    task_id = daemon.submit(sys.executable, "-c", script)
    task = daemon.wait(task_id)
    (action,) = task["actions"]
    assert task["outcome"] == "succeeded"
    assert 0.3 <= task["usage"]["cpuSeconds"] < 30
    assert action["usage"]["cpuSeconds"] == pytest.approx(task["usage"]["cpuSeconds"], abs=0.1)
    assert task["usage"]["maxRssBytes"] > 50_000_000
    stamps = [task["createdAt"], task["startedAt"], action["startedAt"], action["finishedAt"], task["finishedAt"]]
    assert stamps == sorted(stamps)
    assert seconds(action["finishedAt"]) - seconds(action["startedAt"]) >= 0.3


def test_the_use_of_what_was_left_behind_counts_too(daemon: Daemon):
    spin = "import os, time\nif os.fork() == 0:\n os.setsid()\n while time.process_time() < 0.3: pass\n"
    spin += " time.sleep(600)\n"
    wait = "while not os.path.exists('go'): time.sleep(0.02)"
    task_id = daemon.submit(sys.executable, "-c", f"{spin}{wait}", graceSeconds=5)
    work = daemon.state_dir / "tasks" / task_id / "work"
    daemon.wait_state(task_id, "running")
    wait_for(lambda: any(each.ticks >= 25 for each in daemon.alive(task_id)), "the child has used its time")
    (work / "go").touch()
    task = daemon.wait(task_id)
    assert task["receipt"]["reason"] == "leftovers"
    assert task["usage"]["cpuSeconds"] >= 0.25


def test_actions_run_in_order_and_the_first_that_fails_ends_the_task(daemon: Daemon):
    task_id = daemon.submit(actions=[shell("echo a"), shell("echo b; exit 9"), shell("echo c")])
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["currentActionIdx"]) == ("failed", 9, 1)
    assert [action["exitCode"] for action in task["actions"]] == [0, 9, None]
    spans = [(action["outputStart"], action["outputEnd"]) for action in task["actions"]]
    assert spans == [(0, 2), (2, 4), (None, None)]
    assert daemon.output(task_id) == b"a\nb\n"


# -- pause and resume


def pause(daemon: Daemon, task_id: str) -> None:
    daemon.wait_state(task_id, "running")
    assert daemon.post(f"/v1/tasks/{task_id}/pause").status_code == 200
    daemon.wait_state(task_id, "paused")


def resume(daemon: Daemon, task_id: str) -> None:
    assert daemon.post(f"/v1/tasks/{task_id}/resume").status_code == 200


def test_a_paused_task_stands_still_as_a_whole(daemon: Daemon):
    script = "setsid sh -c 'for i in $(seq 5000); do sleep 0.01; done' & (sh -c 'ulimit -t 20; while :; do :; done' &); echo $$; sleep 600 & wait"
    task_id = daemon.submit("sh", "-c", script, graceSeconds=0.2)
    wait_for(lambda: len(daemon.alive(task_id)) >= 5, "the tree has grown")
    pause(daemon, task_id)
    wait_for(lambda: daemon.stands_still(task_id), "all of it is stopped: who waits for a disk a moment later")
    ticks = sum(each.ticks for each in daemon.alive(task_id))
    wait_beats(daemon, task_id)
    assert daemon.stands_still(task_id)
    assert sum(each.ticks for each in daemon.alive(task_id)) == ticks
    assert daemon.task(task_id)["pausedAt"] is not None
    resume(daemon, task_id)
    daemon.wait_state(task_id, "running")
    wait_for(lambda: not any(is_still(each.pid) for each in daemon.alive(task_id)), "everything runs again")
    daemon.post(f"/v1/tasks/{task_id}/stop")
    assert daemon.wait(task_id)["outcome"] == "cancelled"


def test_a_pause_stops_the_time_limit_and_is_counted(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "for i in $(seq 5000); do [ -e go ] && break; sleep 0.1; done; exit 3", timeoutSeconds=5)
    pause(daemon, task_id)
    paused = pulse(daemon, task_id)
    wait_for(lambda: pulse(daemon, task_id) > paused + 5.5, "more than the time limit has passed")
    assert daemon.task(task_id)["state"] == "paused"
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    resume(daemon, task_id)
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["pausedAt"]) == ("failed", 3, None)
    assert task["pausedSeconds"] >= 5


def test_the_time_limit_goes_on_after_a_pause(daemon: Daemon):
    for limit in (1.5, 6, 24):  # a machine that stands still for a while may let it pass before the pause
        task_id = daemon.submit("sleep", "600", timeoutSeconds=limit)
        daemon.wait_state(task_id, "running", "exited")
        daemon.post(f"/v1/tasks/{task_id}/pause")
        if daemon.wait_state(task_id, "paused", "exited")["state"] == "paused":
            break
    resume(daemon, task_id)
    task = daemon.wait(task_id)
    assert (task["outcome"], task["signal"], task["receipt"]["reason"]) == ("timed_out", "SIGTERM", "timeout")


def test_a_command_killed_while_paused_is_known(daemon: Daemon):
    task_id = daemon.submit("sleep", "600")
    pause(daemon, task_id)
    os.kill(action_pid_of(daemon, task_id), signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["outcome"], task["signal"], task["pausedAt"]) == ("failed", "SIGKILL", None)
    assert task["pausedSeconds"] > 0


def test_what_is_left_of_a_command_killed_while_paused_waits_for_the_resume(daemon: Daemon):
    task_id = daemon.submit("sh", "-c", "sleep 600 & wait", graceSeconds=5)
    wait_for(lambda: len(daemon.alive(task_id)) == 2, "the tree has grown")
    pause(daemon, task_id)
    os.kill(action_pid_of(daemon, task_id), signal.SIGKILL)
    wait_for(lambda: len(daemon.alive(task_id)) == 1, "one is dead")
    # the one that dies leaves the freeze for that: for a moment the group is not frozen as a whole
    wait_for(lambda: daemon.stands_still(task_id), "the other one is still stopped")
    resume(daemon, task_id)
    task = daemon.wait(task_id)
    assert (task["outcome"], task["signal"], task["receipt"]["reason"]) == ("failed", "SIGKILL", "leftovers")


def action_pid_of(daemon: Daemon, task_id: str) -> int:
    return int(daemon.task(task_id)["actions"][-1]["process"]["pid"])


@pytest.mark.parametrize("way_on", ["resume", "stop"])
def test_a_pause_that_comes_as_an_action_ends_holds_the_next_one(daemon: Daemon, tmp_path: Path, way_on: str):
    go, second = tmp_path / "go", tmp_path / "second"
    first = shell(f"for i in $(seq 5000); do [ -e {go} ] && break; sleep 0.1; done")
    task_id = daemon.submit(actions=[first, shell(f"touch {second}; exit 4")])
    daemon.wait_state(task_id, "running")
    pid, runner = daemon.task(task_id)["actions"][0]["process"]["pid"], daemon.runner_pid(task_id)
    # the runner finds the request to pause and the end of the action at the same moment
    os.kill(runner, signal.SIGSTOP)
    wait_for(lambda: (seen := process.look(runner)) and seen.state == "T", "the runner is stopped")
    os.kill(runner, signal.SIGUSR1)
    go.touch()
    wait_for(lambda: (seen := process.look(pid)) and seen.state == "Z", "the action has ended")
    os.kill(runner, signal.SIGCONT)
    daemon.wait_state(task_id, "paused")
    wait_beats(daemon, task_id)
    assert not second.exists()
    # it may have been stopped for long, and the daemon looks for its beats in its own time
    wait_for(lambda: daemon.task(task_id)["stalled"] is None, "it is not called stalled")
    daemon.post(f"/v1/tasks/{task_id}/{way_on}")
    task = daemon.wait(task_id)
    assert task["pausedAt"] is None
    if way_on == "resume":
        assert (task["outcome"], task["exitCode"]) == ("failed", 4)
    else:
        assert task["outcome"] == "cancelled"
        assert not second.exists()


def test_a_pause_survives_a_restart_of_the_daemon(make_daemon):
    daemon = make_daemon().start()
    task_id = daemon.submit("sh", "-c", "for i in $(seq 5000); do [ -e go ] && break; sleep 0.1; done; exit 8")
    pause(daemon, task_id)
    paused_at = daemon.task(task_id)["pausedAt"]
    daemon.restart()
    task = daemon.wait_state(task_id, "paused")
    assert (task["pausedAt"], task["stalled"]) == (paused_at, None)
    assert daemon.stands_still(task_id)
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    resume(daemon, task_id)
    assert daemon.wait(task_id)["exitCode"] == 8


def test_what_does_not_run_can_be_neither_paused_nor_resumed(daemon: Daemon):
    task_id = daemon.submit("true")
    daemon.wait(task_id)
    for verb in ("pause", "resume"):
        response = daemon.post(f"/v1/tasks/{task_id}/{verb}")
        assert (response.status_code, "exited" in response.json()["detail"]) == (409, True)


# -- a runner that cannot write


def test_an_ending_with_many_long_names_fits_into_its_reserved_space(tmp_path: Path):
    directory = AttemptDirectory(str(tmp_path / "task"), 1)
    directory.create()
    me = Identity(pid=2**22, start_time=10**15, boot_id="b" * 36)
    stamp = "2026-01-01T00:00:00.000000Z"
    action = Action(machine="process", name="\N{SNOWMAN}" * 200)
    spec = Spec(actions=[action] * 100, cleanup=[action] * 100)
    usage = Usage(cpu_seconds=1e15 + 0.123456, user_seconds=1e15 + 0.123456, system_seconds=1e15 + 0.123456,
                  max_rss_bytes=10**15, read_bytes=10**15, written_bytes=10**15)
    notes = [ProcessNote(pid=2**22, command="\ufffd" * 15)] * 20
    receipt = Receipt(reason="stop", signal="SIGRTMIN+30", grace_seconds=86_400.0, requested_at=stamp,
                      finished_at=stamp, signalled=notes, signalled_count=10**9, killed=notes,
                      killed_count=10**9, survivors=notes)
    report = Report("a" * 16, spec, directory, SystemClock(), bell=None, gpus=[])
    terrible = "\N{SMILING FACE WITH SUNGLASSES}\n" * 1000
    for index in range(200):
        note = report.begin_action(index)
        note.error = report.shortened(terrible)
        report.actions[index] = ActionStatus(
            index=index, machine="process", name="\N{SNOWMAN}" * 200, cleanup=index > 99, state="exited", exit_code=255,
            outcome=Outcome.TIMED_OUT, tries=1001, error=note.error, signal="SIGRTMIN+30", started_at=stamp,
            finished_at=stamp, process=me, usage=usage, output_start=10**18, output_end=10**18, stderr_start=10**18,
            stderr_end=10**18)
    output = Output(bytes=10**18, written_at=stamp, sha256="f" * 64, gaps=[Gap(offset=10**18, bytes=10**18)] * 4)
    last = Status(task_id="a" * 16, runner=me, state=State.EXITED, outcome=Outcome.CANCELLED,
                  heartbeat=Heartbeat(at=stamp, monotonic=1e15), paused_seconds=1e15 + 0.123456, actions=report.actions,
                  receipt=receipt, usage=usage, error=terrible[:300], output=output, stderr=output,
                  progress=Progress(at=stamp, percent=33.333333333333336, message="\N{GRINNING FACE}" * 200),
                  silence=Silence(since=stamp, reason="x" * 100), input_bytes=10**18,
                  gpus=list(range(10_000, 11_024)))
    writer = StatusWriter(directory, Report("", spec, directory, SystemClock(), bell=None, gpus=[]).actions, 8 * 1024)
    writer.reserve()
    taken = os.stat(f"{directory.path}/.status.reserve").st_size
    writer.write_last(last)
    writer.close()
    assert os.stat(directory.status).st_size <= taken
    assert read(directory) == last


def test_an_error_of_any_length_is_told_shortened(daemon: Daemon):
    task = daemon.wait(daemon.submit("/nonexistent/" + "x" * 100_000))
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert 100 < len(task["error"]) < 2000
