"""Commands in a sandbox, by the real bubblewrap: what they see, how they end, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for

from task_runner.api.gate import BYTES
from task_runner.errors import StartFailed
from task_runner.lib import process
from task_runner.machines.sandboxview import View, look
from task_runner.machines.walls import KEYCTL
from task_runner.model.walls import Mount

pytestmark = pytest.mark.needs("bwrap")
SETTINGS: dict[str, Any] = {}
NOBODY = 65534
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
#: goes into a user namespace with all users in it, forbids any below it, and becomes the command
WITHOUT_USER_NAMESPACES = """
import ctypes, os, sys
pid, (ready, tell) = os.getpid(), os.pipe()
if (helper := os.fork()) == 0:
    os.read(ready, 1)
    for name in ("uid_map", "gid_map"):
        open(f"/proc/{pid}/{name}", "w").write("0 0 70000")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(tell, b"x")
assert os.waitpid(helper, 0)[1] == 0
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def sandboxed(daemon: Daemon, shell: str, sandbox: dict[str, Any] | None = None, **more: Any) -> str:
    parameters = {"shell": shell, "sandbox": sandbox or {}, **more.pop("parameters", {})}
    return daemon.submit(actions=[{"machine": "process", "parameters": parameters}], **more)


def ended(daemon: Daemon, shell: str, sandbox: dict[str, Any] | None = None, **more: Any) -> tuple[dict[str, Any], str]:
    task_id = sandboxed(daemon, shell, sandbox, **more)
    return daemon.wait(task_id), daemon.output(task_id).decode()


# -- what it sees


def test_the_system_is_there_to_read_and_not_to_write(shared: Daemon):
    task, output = ended(shared, "ls /usr/bin/env /etc/passwd && ! touch /usr/x /etc/x /x /bin/x 2>&1; id -u")
    assert task["outcome"] == "succeeded", output
    assert output.count("Read-only file system") == 4
    assert output.splitlines()[-1] == str(os.geteuid())


def test_tmp_and_the_home_directory_are_its_own_and_empty(shared: Daemon, tmp_path: Path):
    (tmp_path / "visible-outside").touch()
    task, output = ended(shared, f"ls -A /tmp | grep -v {shared.state_dir.parts[2]}; ls -A ~; touch /tmp/mine ~/mine /var/tmp/x; ls {tmp_path}")
    assert task["outcome"] == "failed"
    assert "visible-outside" not in output
    assert "mine" not in output
    assert not Path("/tmp/mine").exists()


def test_work_is_at_its_own_path_and_stays(shared: Daemon):
    task_id = sandboxed(shared, "pwd; echo kept > file; mkdir d; cd d; pwd", parameters={})
    assert shared.wait(task_id)["outcome"] == "succeeded"
    work = shared.state.tasks.attempt(task_id, 1).work
    assert shared.output(task_id).decode().splitlines() == [work, f"{work}/d"]
    assert Path(work, "file").read_text() == "kept\n"


def test_control_files_are_not_there(shared: Daemon):
    state = shared.state_dir
    task, output = ended(shared, f"find {state} -mindepth 1 | sort; cat {state}/token ../status.json ../lock; kill -0 $PPID")
    names = [line for line in output.splitlines() if line.startswith(str(state))]
    assert names == [f"{state}/tasks", f"{state}/tasks/{task['taskId']}", f"{state}/tasks/{task['taskId']}/work"]
    assert output.count("No such file") == 3


def test_control_files_are_hidden_where_a_mount_contains_them(shared: Daemon):
    state = shared.state_dir
    mounts = [{"source": str(state.parent), "target": "/mnt/above"}]
    _task, output = ended(shared, f"ls -A /mnt/above/{state.name}; ls /mnt/above; echo x > /mnt/above/{state.name}/token", {"mounts": mounts})
    assert output.splitlines()[0] == state.name  # of `ls /mnt/above`: there is nothing in it
    assert len((state / "token").read_text()) > 10


def test_it_sees_its_own_processes_alone(shared: Daemon):
    _task, output = ended(shared, "ls /proc | grep -c '^[0-9]'; cat /proc/1/comm")
    assert output.split()[1] == "cat"
    assert int(output.split()[0]) <= 5


def test_it_reaches_no_network_unless_asked(shared: Daemon):
    _task, alone = ended(shared, "cat /proc/net/dev | grep -c :")
    assert alone.strip() == "1"
    _task, both = ended(shared, "readlink /proc/self/ns/net", {"network": True})
    assert both.strip() == os.readlink("/proc/self/ns/net")


def test_it_has_no_capabilities_and_gets_none(shared: Daemon):
    _task, output = ended(shared, "grep -E '^(Cap|NoNew)' /proc/self/status")
    values = dict(line.split(":\t") for line in output.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert set(values.values()) == {"0" * 16}


def test_mounts_are_shown_where_asked(shared: Daemon, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("content")
    mounts = [
        {"source": str(tmp_path / "a"), "target": "/data/a"},
        {"source": str(tmp_path / "a"), "target": "/data/b", "readOnly": True},
        {"source": str(tmp_path / "a/file")},
    ]
    task, output = ended(shared, f"cat /data/b/file {tmp_path}/a/file; touch /data/a/new; touch /data/b/other", {"mounts": mounts})
    assert output.startswith("contentcontent")
    assert "Read-only" in output
    assert sorted(os.listdir(tmp_path / "a")) == ["file", "new"]
    assert task["outcome"] == "failed"


def test_what_is_exchanged_between_look_and_mount_is_not_shown(make_daemon: Any, tmp_path: Path):
    source, state = tmp_path / "source", tmp_path / "state"
    source.mkdir()
    (tmp_path / "bin").mkdir()
    bwrap = tmp_path / "bin/bwrap"
    exchange = f"rmdir {source} && ln -s {state} {source}"
    bwrap.write_text(f'#!/bin/sh\ncase "$*" in *{source}*) {exchange};; esac\nexec {shutil.which("bwrap")} "$@"\n')
    bwrap.chmod(0o755)
    daemon = make_daemon(state).start(PATH=f"{bwrap.parent}:{os.environ['PATH']}")
    task, output = ended(daemon, "cat /shown/token", {"mounts": [{"source": str(source), "target": "/shown"}]})
    assert source.is_symlink()
    assert (task["outcome"], output) == ("failed", "")
    assert task["error"] == "sandbox: mounts.0: there is something else at /shown than was looked at"


WITH_A_KEY = """
import ctypes
libc = ctypes.CDLL(None)
assert libc.syscall({keyctl}, 1, None) >= 0
assert libc.syscall({keyctl} - 2, b"user", b"of-the-daemon", b"sesame", 6, -3) >= 0
"""
ASK_FOR_IT = 'import ctypes; print(ctypes.CDLL(None).syscall({}, b"user", b"of-the-daemon", None, 0) >= 0)'


@pytest.mark.needs("root")
def test_the_keys_of_the_daemon_are_out_of_reach(make_daemon: Any):
    allowed = json.dumps({"admin": ["nobody"]})
    ask = f"/usr/bin/python3 -c '{ASK_FOR_IT.format((KEYCTL or 0) - 1)}'"
    with tempfile.TemporaryDirectory(prefix="task-runner-keys-", dir="/tmp") as place:
        os.chmod(place, 0o755)
        daemon = make_daemon(Path(place) / "state", task_users=allowed)
        daemon.start(inside=WITH_A_KEY.format(keyctl=KEYCTL))
        for more in ({}, {"user": "nobody"}, {"parameters": {"sandbox": None}, "user": "nobody"}):
            task, output = ended(daemon, ask, **more)
            assert (task["outcome"], output) == ("succeeded", "False\n"), (more, task["error"])
        daemon.close()


def test_a_mount_that_is_not_there_is_named(shared: Daemon):
    task, _output = ended(shared, "true", {"mounts": [{"source": "/no/such/place"}]})
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert task["error"] == "sandbox.mounts.0.source /no/such/place: No such file or directory"


def test_what_bubblewrap_cannot_do_is_told(shared: Daemon, tmp_path: Path):
    task, _output = ended(shared, "true", {"mounts": [{"source": str(tmp_path), "target": "/usr/no/such"}]})
    assert task["outcome"] == "failed"
    assert "/usr/no" in task["error"]
    assert "Read-only file system" in task["error"]


def test_programs_are_found_by_the_path_inside(shared: Daemon):
    task_id = shared.submit(actions=[{"machine": "process", "parameters": {"command": ["no-such-program"], "sandbox": {}}}])
    assert "no-such-program" in shared.wait(task_id)["error"]


# -- how it ends


@pytest.mark.parametrize("code", [0, 3, 130, 137, 143, 255])
def test_an_exit_code_is_told_as_one(shared: Daemon, code: int):
    task, _output = ended(shared, f"exit {code}")
    assert (task["exitCode"], task["signal"]) == (code, None)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT"])
def test_a_signal_is_told_as_one(shared: Daemon, name: str):
    task, _output = ended(shared, f"kill -{name} $$; sleep 60")
    assert (task["exitCode"], task["signal"]) == (None, f"SIG{name}")


def test_killing_everybody_inside_does_not_hide_the_end(shared: Daemon):
    task, output = ended(shared, "sleep 600 & kill -9 -1; wait; echo still here; exit 7")
    assert (task["exitCode"], output) == (7, "still here\n")


def test_what_it_leaves_behind_ends_with_it(shared: Daemon):
    task_id = sandboxed(shared, "setsid sleep 601 & (setsid sleep 602 &) ; echo out")
    task = shared.wait(task_id)
    assert task["exitCode"] == 0
    assert shared.alive(task_id) == []


def test_stop_lets_it_end_by_itself(shared: Daemon):
    task_id = sandboxed(shared, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done", graceSeconds=60)
    shared.wait_output(task_id, b"ready")
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("cancelled", 5)
    assert shared.output(task_id).endswith(b"bye\n")
    assert task["receipt"]["killedCount"] == 0
    assert shared.alive(task_id) == []


def test_stop_kills_what_does_not_end(shared: Daemon):
    task_id = sandboxed(shared, "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo ready; while :; do sleep 1; done")
    shared.wait_output(task_id, b"ready")
    runner = shared.runner_pid(task_id)
    below = process.descendants(runner)
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0.2})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("cancelled", "SIGKILL")
    assert task["receipt"]["killedCount"] >= 2
    assert len(below) >= 4
    wait_for(lambda: not any(_lives(each) for each in below), "all of it has ended")


def _lives(each: process.Process) -> bool:
    now = process.look(each.pid)
    return now is not None and now.start_time == each.start_time and now.alive


def test_a_signal_reaches_the_command_once(shared: Daemon):
    task_id = sandboxed(shared, "trap 'echo usr1' USR1; trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    shared.wait_output(task_id, b"ready")
    shared.wait_state(task_id, "running")  # which the daemon may hear of after that
    assert shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGUSR1"}).status_code < 300
    shared.wait_output(task_id, b"usr1")
    shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGTERM"})
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert shared.output(task_id) == b"ready\nusr1\nterm\n"


def test_pause_and_resume(shared: Daemon):
    task_id = sandboxed(shared, "while :; do echo x >> ticks; sleep 0.02; done")
    ticks = Path(shared.state.tasks.attempt(task_id, 1).work, "ticks")
    wait_for(ticks.exists)
    shared.wait_state(task_id, "running")
    shared.post(f"/v1/tasks/{task_id}/pause").raise_for_status()
    shared.wait_state(task_id, "paused")
    wait_for(lambda: shared.stands_still(task_id), "all of it is stopped: who was in the middle of a write a moment later")
    size = ticks.stat().st_size
    time.sleep(0.2)
    assert ticks.stat().st_size == size
    shared.post(f"/v1/tasks/{task_id}/resume")
    wait_for(lambda: ticks.stat().st_size > size, "it goes on")
    shared.post(f"/v1/tasks/{task_id}/stop")
    assert shared.wait(task_id)["outcome"] == "cancelled"


def test_an_open_input_reaches_it(shared: Daemon):
    task_id = sandboxed(shared, "echo ready; read a; read b; echo $a-$b", parameters={"openStdin": True})
    shared.wait_output(task_id, b"ready")
    for line in (b"one\n", b"two\n"):
        shared.post(f"/v1/tasks/{task_id}/input", content=line, headers={"Content-Type": BYTES}).raise_for_status()
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert shared.output(task_id) == b"ready\none-two\n"


def test_text_for_the_input_and_progress_and_variables_reach_it(shared: Daemon):
    parameters = {"stdin": "hello", "env": {"COLOUR": "red"}, "workingDirectory": "."}
    task_id = sandboxed(shared, 'cat; echo " $COLOUR $TASK_RUNNER_TASK_ID"; echo 40 far > $TASK_RUNNER_PROGRESS', parameters=parameters, progress=True)
    task = shared.wait(task_id)
    assert shared.output(task_id).decode() == f"hello red {task_id}\n"
    assert task["progress"]["percent"] == 40


def test_when_the_runner_is_killed_nothing_is_left(daemon: Daemon):
    task_id = sandboxed(daemon, "setsid sleep 603 & echo ready; sleep 604")
    daemon.wait_output(task_id, b"ready")
    runner = daemon.runner_pid(task_id)
    below = process.descendants(runner)
    os.kill(runner, signal.SIGKILL)
    task = daemon.wait(task_id)
    assert task["outcome"] == "lost"
    wait_for(lambda: not any(_lives(each) for each in below), "all of it has ended")
    mounts = Path("/proc/self/mounts").read_text()
    assert task_id not in mounts


def test_limits_are_those_of_the_command_alone(shared: Daemon):
    # bubblewrap's own processes count for nothing: the shell may have one child
    task, output = ended(shared, "ulimit -n; sleep 0; nice; readlink /proc/self/ns/cgroup", limits={"openFiles": 40, "pids": 2, "nice": 5})
    assert task["outcome"] == "succeeded", (task["error"], output)
    lines = output.splitlines()
    assert lines[:2] == ["40", "5"]
    assert lines[2] != os.readlink("/proc/self/ns/cgroup")


def test_secrets_in_files_are_in_reach_and_cannot_be_changed(make_daemon: Any, tmp_path: Path):
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets/password").write_text("open sesame")
    daemon = make_daemon(secrets_dir=str(tmp_path / "secrets")).start()
    task, output = ended(daemon, "cat $FILE; echo x > $FILE", secrets=[{"name": "password", "fileEnv": "FILE"}])
    assert output.startswith("open sesame")
    assert "Read-only file system" in output
    assert task["outcome"] == "failed"


# -- of whom it is


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that everybody can pass through; those of pytest are for who runs it alone."""
    path = Path(tempfile.mkdtemp(prefix="task-runner-sandbox-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)  # a runner may be writing its last


@pytest.fixture
def of_nobody(make_daemon: Any, passable: Path) -> Daemon:
    """A daemon of an ordinary user, not started; what it cannot do without is to read the Python that runs the tests."""
    state = passable / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    return make_daemon(state)


@pytest.mark.needs("root")
def test_a_task_of_another_user_has_its_sandbox(make_daemon: Any, passable: Path):
    daemon = make_daemon(passable / "state", task_users='{"admin": ["nobody"]}').start()
    task_id = sandboxed(daemon, "id -u; touch file; grep ^Cap /proc/self/status | grep -c 0000000000000000; exit 143", user="nobody")
    task = daemon.wait(task_id)
    assert (task["exitCode"], task["signal"]) == (143, None), task["error"]
    assert daemon.output(task_id).split() == [b"65534", b"5"]
    assert Path(daemon.state.tasks.attempt(task_id, 1).work, "file").stat().st_uid == NOBODY
    stopped = sandboxed(daemon, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done", user="nobody")
    daemon.wait_output(stopped, b"ready")
    daemon.post(f"/v1/tasks/{stopped}/stop")
    assert daemon.wait(stopped)["exitCode"] == 5
    assert daemon.alive(stopped) == []


@pytest.mark.needs("root", "setpriv")
def test_a_daemon_of_an_ordinary_user_has_sandboxes(of_nobody: Daemon):
    daemon = of_nobody.start(prefix=AS_NOBODY)
    task, output = ended(daemon, "id -u; touch x; ! touch /usr/x; readlink /proc/self/ns/net; grep ^Cap /proc/self/status | grep -c 0000000000000000; kill -TERM $$")
    assert task["signal"] == "SIGTERM", (task["error"], output)
    lines = output.splitlines()
    assert (lines[0], lines[-1]) == ("65534", "5")
    assert lines[-2] != os.readlink("/proc/self/ns/net")
    task_id = sandboxed(daemon, "trap 'exit 5' TERM; setsid sleep 611 & echo ready; while :; do sleep 0.1; done")
    daemon.wait_output(task_id, b"ready")
    below = process.descendants(daemon.runner_pid(task_id))
    daemon.post(f"/v1/tasks/{task_id}/stop")
    assert daemon.wait(task_id)["exitCode"] == 5
    wait_for(lambda: not any(_lives(each) for each in below), "all of it has ended")


# -- refusals


def refusal(daemon: Daemon, sandbox: dict[str, Any], **more: Any) -> dict[str, str]:
    parameters = {"shell": "true", "sandbox": sandbox}
    return daemon.refusal(actions=[{"machine": "process", "parameters": parameters}], **more)


def test_without_bubblewrap_it_is_said_what_to_install(make_daemon: Any, tmp_path: Path):
    (tmp_path / "bin").mkdir()
    for name in ("sh", "env", "true"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    daemon = make_daemon().start(PATH=str(tmp_path / "bin"))
    assert "install the package bubblewrap" in refusal(daemon, {})["actions.0.parameters.sandbox"]
    assert daemon.wait(daemon.submit("true"))["outcome"] == "succeeded"


@pytest.mark.needs("root", "setpriv")
def test_where_user_namespaces_are_forbidden_it_is_said_what_allows_them(of_nobody: Daemon):
    daemon = of_nobody.start(prefix=(sys.executable, "-c", WITHOUT_USER_NAMESPACES, *AS_NOBODY))
    told = refusal(daemon, {})["actions.0.parameters.sandbox"]
    assert "a sandbox was tried and cannot be made: sandbox: bwrap:" in told
    assert "sysctl user.max_user_namespaces=" in told


def test_a_mount_that_cannot_be_is_refused(shared: Daemon):
    faults = refusal(shared, {"mounts": [{"source": "/etc", "target": "/"}]})
    assert "root directory" in faults["actions.0.parameters.sandbox.mounts.0.target"]
    faults = refusal(shared, {"mounts": [{"source": str(shared.state_dir / "tasks")}]})
    assert "state directory" in faults["actions.0.parameters.sandbox.mounts.0.source"]


@pytest.mark.parametrize("place", ["..", ".", "tasks", "tasks/a"])
def test_a_mount_in_which_working_directories_would_be_made_is_refused(shared: Daemon, tmp_path: Path, place: str):
    faults = refusal(shared, {"mounts": [{"source": str(tmp_path), "target": str(shared.state_dir / place)}]})
    assert "working directories" in faults["actions.0.parameters.sandbox.mounts.0.target"]


# -- what bubblewrap is told


def test_a_link_to_the_state_directory_does_not_lead_there(tmp_path: Path):
    state = tmp_path / "state"
    (state / "tasks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(state)
    view = View(work="/w", hidden=[str(state)], mounts=[Mount(source=str(tmp_path / "link"))], rootless=True)
    with pytest.raises(StartFailed, match="lies in the state directory"):
        look(view)
