"""Commands inside other containers: beside a process in namespaces and a root directory of its own, and beside a real
container's."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from images import BUSYBOX_IMAGE, busybox_layer

from task_runner.lib import process

pytestmark = [pytest.mark.needs("root", "busybox", "unshare"), pytest.mark.slow]
SETTINGS: dict[str, Any] = {"sidecars": True}
NAMESPACES = ("pid", "mnt", "uts", "ipc", "net")


class Box:
    """A process that is what a container's main process is."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.root = Path(tempfile.mkdtemp(prefix="task-runner-box-", dir="/tmp"))
        self.root.chmod(0o755)
        with tarfile.open(fileobj=io.BytesIO(busybox_layer())) as layer:
            layer.extractall(self.root)
        os.mknod(self.root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chmod(self.root / "dev/null", 0o666)
        (self.root / "etc/hosts").write_text("the box\n")
        name, _, value = mark.partition("=")
        inside = (
            "mount -t proc proc /proc; hostname box; cd /srv; "
            f"exec env -i {name}='{value}' COLOUR=red PATH=/bin:/tools HOME=/box sh -c 'trap : TERM; echo $$ > /ready; while :; do sleep 1000; done'"
        )
        self._process = subprocess.Popen(
            ["unshare", "-m", "-p", "-i", "-u", "-n", "-f", "--kill-child", "chroot", str(self.root), "/bin/sh", "-c", inside],
            stdin=subprocess.DEVNULL,
        )
        wait_for(lambda: (self.root / "ready").exists(), "the box is ready")
        self.pid = next(each.pid for each in process.descendants(self._process.pid))
        wait_for(lambda: len(self.processes()) == 2, "its shell sleeps: from now on it starts nobody")

    def processes(self) -> list[process.Process]:
        return [each for each in [process.look(self.pid), *process.descendants(self.pid)] if each and each.alive]

    def namespace(self, kind: str) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(f"SANDBOX_MAIN_CONTAINER=box {tmp_path}")
    yield box
    box.close()


def is_program(pid: int, *names: str) -> bool:
    """Whether it has become this program, its exec being over: a moment after it has the name it has its environment."""
    seen = process.look(pid)
    return seen is not None and seen.command in names and Path(f"/proc/{pid}/environ").read_bytes() != b""


def beside(daemon: Daemon, shell: str, sidecar: dict[str, Any], **more: Any) -> str:
    parameters = {"shell": shell, "sidecar": sidecar, **more.pop("parameters", {})}
    return daemon.submit(actions=[{"machine": "process", "parameters": parameters}], **more)


def ended(daemon: Daemon, shell: str, sidecar: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    task_id = beside(daemon, shell, sidecar, **more)
    return daemon.wait(task_id), daemon.output(task_id).decode()


# -- where it is


def test_it_is_in_the_namespaces_and_sees_the_files_of_the_target(shared: Daemon, box: Box):
    task, output = ended(
        shared, "for n in pid mnt uts ipc net; do readlink /proc/self/ns/$n; done; cat /etc/hosts; hostname; pwd; ls /", {"pid": box.pid}
    )
    assert task["outcome"] == "succeeded", (task["error"], output)
    lines = output.splitlines()
    assert lines[:5] == [box.namespace(kind) for kind in NAMESPACES]
    assert lines[5:8] == ["the box", "box", "/srv"]
    assert "usr" not in lines[8:]


def test_chosen_namespaces_alone_are_joined(shared: Daemon, box: Box):
    task, output = ended(
        shared, "for n in pid mnt uts ipc net; do readlink /proc/self/ns/$n; done; hostname; pwd", {"pid": box.pid, "namespaces": ["uts", "net"]}
    )
    assert task["outcome"] == "succeeded", (task["error"], output)
    lines = output.splitlines()
    own = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES}
    joined = {kind: box.namespace(kind) for kind in ("uts", "net")}
    assert lines[:5] == [(own | joined)[kind] for kind in NAMESPACES]
    assert lines[5:] == ["box", shared.state.tasks.attempt(task["taskId"], 1).work]


def test_the_target_is_found_by_its_mark(shared: Daemon, box: Box):
    ready = beside(shared, "echo there; sleep 600", {"mark": box.mark})
    shared.wait_output(ready, b"there")
    # that one has the mark as well, and is not the target
    task, output = ended(shared, "cat /etc/hosts", {"mark": box.mark})
    assert (task["outcome"], output) == ("succeeded", "the box\n"), task["error"]
    shared.post(f"/v1/tasks/{ready}/stop")
    assert shared.wait(ready)["outcome"] == "cancelled"


def test_a_mark_that_several_carry_lists_them(shared: Daemon, box: Box):
    other = Box(box.mark)
    try:
        task, _output = ended(shared, "true", {"mark": box.mark})
    finally:
        other.close()
    assert task["outcome"] == "failed"
    assert f"{box.pid} (" in task["error"]
    assert f"{other.pid} (" in task["error"]


def test_a_mark_that_nobody_carries_is_named(shared: Daemon):
    task, _output = ended(shared, "true", {"mark": "NO_SUCH=mark"})
    assert (task["outcome"], task["error"]) == ("failed", "sidecar: no process carries the mark NO_SUCH=mark")


def test_a_process_that_has_ended_is_no_target(shared: Daemon):
    gone = subprocess.Popen(["true"])
    gone.wait()
    task, _output = ended(shared, "true", {"pid": gone.pid})
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert task["error"] == f"sidecar: there is no process {gone.pid}"


def test_the_environment_of_the_target_lies_below_that_of_the_task(shared: Daemon, box: Box):
    task, output = ended(shared, "echo $COLOUR $SIZE $PATH $HOME $TASK_RUNNER_TASK_ID ${LANG-none}", {"pid": box.pid}, parameters={"env": {"SIZE": "xl"}})
    assert output == f"red xl /bin:/tools /box {task['taskId']} none\n"
    _task, output = ended(shared, "echo $COLOUR", {"pid": box.pid}, parameters={"env": {"COLOUR": "blue"}})
    assert output == "blue\n"


@pytest.mark.parametrize("user", ["player", "4321"])
def test_the_user_is_one_of_the_target(shared: Daemon, box: Box, user: str):
    with open(box.root / "etc/group", "a") as groups:
        groups.write("gamers:x:777:nobody,player\n")
    task, output = ended(shared, "id -u; id -g; id -G; echo $HOME $USER; grep Cap /proc/self/status | tr -dc '1-9'; echo mine > /proc/self/fd/1", {"pid": box.pid, "user": user})
    assert task["outcome"] == "succeeded", (task["error"], output)
    lines = output.splitlines()
    assert lines[:2] + lines[3:] == ["4321", "4321", "/srv player", "mine"]
    assert set(lines[2].split()) == {"777", "4321"}


def test_a_user_that_the_target_does_not_know_is_refused(shared: Daemon, box: Box):
    os.unlink(box.root / "etc/passwd")
    (box.root / "etc/passwd").symlink_to("/../../../../../etc/passwd-of-the-host")
    task, _output = ended(shared, "true", {"pid": box.pid, "user": "mail"})
    assert task["error"] == "sidecar.user: there is no user mail in the target's /etc/passwd"
    _task, output = ended(shared, "id -u; id -g", {"pid": box.pid, "user": "4444"})
    assert output.split() == ["4444", "4444"]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_users_are_read_from_nothing_but_a_file(shared: Daemon, box: Box, kind: int):
    passwd = box.root / "etc/passwd"
    passwd.unlink()
    if kind == stat.S_IFDIR:
        passwd.mkdir()
    else:
        os.mknod(passwd, kind | 0o644, os.makedev(1, 5))
    task, output = ended(shared, "echo here", {"pid": box.pid, "user": "0"})
    assert (task["outcome"], output) == ("succeeded", "here\n"), task["error"]


def test_what_the_target_may_not_follow_is_not_followed_for_it(shared: Daemon, box: Box):
    # like a container that sees the processes of this machine: it could not follow that link itself
    inside = f"mount -t proc proc {box.root}/proc && exec setpriv --bounding-set=-sys_ptrace,-sys_admin chroot {box.root} sleep 600"
    target = subprocess.Popen(["unshare", "-m", "sh", "-c", inside])
    (box.root / "data").symlink_to(f"/proc/{os.getpid()}/root/tmp")
    (box.root / "tmp").rmdir()
    (box.root / "tmp").symlink_to("data")
    try:
        wait_for(lambda: is_program(target.pid, "sleep", "busybox"))
        wait_for(lambda: os.path.exists(f"/proc/{target.pid}/root/bin/busybox"))
        task, output = ended(shared, "ls", {"pid": target.pid}, parameters={"workingDirectory": "/data"})
        brought, place = ended(shared, "echo $TASK_RUNNER_FILES", {"pid": target.pid}, files=[{"path": "a", "text": ""}])
    finally:
        target.kill()
        target.wait()
    assert (task["error"], output) == ("workingDirectory /data: Permission denied", "")
    assert brought["outcome"] == "succeeded"
    assert not place.startswith("/tmp/")


def test_a_process_of_another_user_is_no_target_among_this_machines_files(shared: Daemon, tmp_path: Path):
    other = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "600"], env={"PATH": "/usr/bin:/bin", "TRAP": f"set {tmp_path}"})
    try:
        wait_for(lambda: is_program(other.pid, "sleep"))
        for target in ({"pid": other.pid}, {"mark": f"TRAP=set {tmp_path}"}):
            task, output = ended(shared, "echo $TRAP", target)
            assert (task["outcome"], output) == ("failed", "")
            assert "belongs to user 65534" in task["error"]
        task, output = ended(shared, "echo $TRAP; id -u", {"pid": other.pid, "user": "65534"})
    finally:
        other.kill()
        other.wait()
    assert output == f"set {tmp_path}\n65534\n"


def test_a_link_in_the_target_does_not_lead_out_of_it(shared: Daemon, box: Box):
    os.unlink(box.root / "etc/passwd")
    (box.root / "etc/passwd").symlink_to("/proc/1/root/../../etc/passwd")
    task, _output = ended(shared, "true", {"pid": box.pid, "user": "daemon"})
    assert "there is no user daemon" in task["error"]


@pytest.mark.parametrize("content", [None, "#!/proc/self/exe\n"])
def test_a_program_that_leads_back_to_ours_is_not_run(shared: Daemon, box: Box, content: str | None):
    trap = box.root / "bin/trap"
    if content is None:
        trap.symlink_to("/proc/self/exe")
    else:
        trap.write_text(content)
        trap.chmod(0o755)
    task_id = shared.submit(actions=[{"machine": "process", "parameters": {"command": ["/bin/trap", "-c", "1"], "sidecar": {"pid": box.pid}}}])
    task = shared.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("failed", None)
    assert "Too many levels of symbolic links" in task["error"]


def test_scripts_run_by_their_first_line(shared: Daemon, box: Box):
    (box.root / "tools").mkdir()
    script = box.root / "tools/script"
    script.write_text('#!/bin/sh -e\necho "$0 $1"; false; echo not reached\n')
    script.chmod(0o755)
    task_id = shared.submit(actions=[{"machine": "process", "parameters": {"command": ["script", "word"], "sidecar": {"pid": box.pid}}}])
    task = shared.wait(task_id)
    assert task["exitCode"] == 1
    assert shared.output(task_id) == b"/tools/script word\n"


def test_without_its_files_nothing_of_the_target_says_what_is_loaded(shared: Daemon, box: Box):
    _task, output = ended(shared, "echo ${COLOUR-none} $HOME $PATH", {"pid": box.pid, "namespaces": ["net"]})
    colour, home, path = output.split()
    assert (colour, home) == ("none", pwd.getpwuid(0).pw_dir)
    assert "/tools" not in path


def test_it_has_no_more_capabilities_than_the_target(shared: Daemon, box: Box):
    few = subprocess.Popen(["setpriv", "--bounding-set=-sys_admin,-net_raw", "sleep", "600"])
    try:
        wait_for(lambda: is_program(few.pid, "sleep"))
        bounding = next(line for line in Path(f"/proc/{few.pid}/status").read_text().splitlines() if line.startswith("CapBnd"))
        task, output = ended(shared, "grep -E '^(CapBnd|CapEff|NoNew)' /proc/self/status", {"pid": few.pid})
    finally:
        few.kill()
        few.wait()
    found = dict(line.split(":\t") for line in output.splitlines())
    assert found["CapBnd"] == found["CapEff"] == bounding.split(":\t")[1], task["error"]
    assert found["NoNewPrivs"] == "1"


# -- files


def test_the_tasks_files_are_in_reach_and_nothing_stays(shared: Daemon, box: Box):
    before = sorted(str(each) for each in box.root.rglob("*") if "proc" not in each.parts)
    files = [{"path": "conf/a.txt", "text": "hello\n"}, {"path": "run.sh", "text": "#!/bin/sh\ncat conf/a.txt; pwd\n", "mode": "755"}]
    task_id = shared.submit(
        actions=[
            {"machine": "process", "parameters": {"shell": "ln -s conf link"}},
            {"machine": "process", "parameters": {"shell": "./run.sh; cat link/a.txt; stat -c %u run.sh; echo $TASK_RUNNER_FILES", "sidecar": {"pid": box.pid, "user": "player"}}},
        ],
        files=files,
    )
    task = shared.wait(task_id)
    assert task["outcome"] == "succeeded", (task["error"], shared.output(task_id))
    lines = shared.output(task_id).decode().splitlines()
    assert lines == ["hello", lines[1], "hello", "4321", lines[1]]
    assert lines[1].startswith(f"/tmp/task-runner-{task_id}")
    assert sorted(str(each) for each in box.root.rglob("*") if "proc" not in each.parts) == before


def test_the_copy_is_removed_also_where_the_command_is_killed(shared: Daemon, box: Box):
    task_id = beside(shared, "trap '' TERM; ls; while :; do sleep 1; done", {"pid": box.pid}, files=[{"path": "brought", "text": ""}])
    shared.wait_output(task_id, b"brought")
    assert len(list((box.root / "tmp").iterdir())) == 1
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    assert shared.wait(task_id)["signal"] == "SIGKILL"
    assert list((box.root / "tmp").iterdir()) == []


def test_a_copy_is_removed_however_deep_it_has_become_and_nothing_of_the_target_is_loaded(shared: Daemon, box: Box):
    library = box.root / sysconfig.get_path("stdlib").lstrip("/")
    library.mkdir(parents=True)
    for name in ("traceback", "tokenize"):
        (library / f"{name}.py").write_text("open('/loaded', 'w')\n")
    script = "i=0; while [ $i -lt 1500 ]; do mkdir -p d/d && cd d || exit 1; i=$((i+1)); done; touch file; ln -s / link; chmod 0 d"
    for user in ("root", "player"):
        task, output = ended(shared, script, {"pid": box.pid, "user": user}, files=[{"path": "a", "text": ""}])
        assert task["outcome"] == "succeeded", (task["error"], output)
        assert list((box.root / "tmp").iterdir()) == []
    assert not (box.root / "loaded").exists()
    assert (box.root / "bin/busybox").exists()


def test_secrets_in_files_are_in_reach(make_daemon: Any, box: Box, tmp_path: Path):
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets/password").write_text("open sesame")
    daemon = make_daemon(sidecars=True, secrets_dir=str(tmp_path / "secrets")).start()
    task, output = ended(daemon, "cat $FILE; pwd", {"pid": box.pid, "user": "player"}, secrets=[{"name": "password", "fileEnv": "FILE"}])
    assert task["outcome"] == "succeeded", (task["error"], output)
    assert output.startswith("open sesame")
    assert list((box.root / "tmp").iterdir()) == []


def test_a_directory_of_the_target_can_be_chosen(shared: Daemon, box: Box):
    _task, output = ended(shared, "pwd", {"pid": box.pid}, parameters={"workingDirectory": "/etc"})
    assert output == "/etc\n"
    task, _output = ended(shared, "pwd", {"pid": box.pid}, parameters={"workingDirectory": "/no/such"})
    assert task["error"] == "workingDirectory /no/such: No such file or directory"


# -- how it ends


@pytest.mark.parametrize(("shell", "code", "name"), [("exit 143", 143, None), ("kill -TERM $$", None, "SIGTERM"), ("exit 0", 0, None)])
def test_the_end_is_told_as_it_was(shared: Daemon, box: Box, shell: str, code: int | None, name: str | None):
    task, _output = ended(shared, shell, {"pid": box.pid})
    assert (task["exitCode"], task["signal"]) == (code, name)


def test_stop_ends_what_was_started_and_only_that(shared: Daemon, box: Box):
    own = box.processes()
    task_id = beside(shared, "setsid sleep 605 & (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo ready; sleep 606", {"pid": box.pid})
    shared.wait_output(task_id, b"ready")
    wait_for(lambda: len(box.processes()) > len(own), "one of them has become a child of the target's first process")
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0.3})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("cancelled", "SIGTERM")
    assert task["receipt"]["survivors"] == []
    assert shared.alive(task_id) == []
    assert {each.pid for each in own} <= {each.pid for each in box.processes()}


@pytest.mark.parametrize("cgroups", ["auto", "off"])
def test_it_is_not_over_while_an_orphan_lives(make_daemon: Any, box: Box, cgroups: str):
    daemon = make_daemon(sidecars=True, cgroups=cgroups).start()
    own = {each.pid for each in box.processes()}
    task_id = beside(daemon, "(setsid sh -c 'trap \"echo term\" TERM; touch /srv/up; while :; do sleep 0.1; done' &); until [ -e /srv/up ]; do :; done; exit 3", {"pid": box.pid}, graceSeconds=0.5)
    task = daemon.wait(task_id)
    assert task["exitCode"] == 3
    assert task["receipt"]["reason"] == "leftovers"
    assert task["receipt"]["killedCount"] >= 1
    assert b"term" in daemon.output(task_id)
    assert daemon.alive(task_id) == []
    assert {each.pid for each in box.processes()} >= own


def test_a_signal_reaches_the_command_alone(shared: Daemon, box: Box):
    task_id = beside(shared, "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done", {"pid": box.pid})
    shared.wait_output(task_id, b"ready")
    shared.wait_state(task_id, "running")  # which the daemon may hear of after that
    assert shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGUSR1"}).status_code == 200
    shared.wait_output(task_id, b"usr1")
    shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGKILL"})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("failed", "SIGKILL")


def test_pause_and_resume(shared: Daemon, box: Box):
    task_id = beside(shared, "while :; do echo x; sleep 0.02; done", {"pid": box.pid})
    shared.wait_output(task_id, b"x")
    shared.wait_state(task_id, "running")
    shared.post(f"/v1/tasks/{task_id}/pause").raise_for_status()
    shared.wait_state(task_id, "paused")
    size = len(shared.output(task_id))
    shared.post(f"/v1/tasks/{task_id}/resume")
    wait_for(lambda: len(shared.output(task_id)) > size, "it goes on")
    shared.post(f"/v1/tasks/{task_id}/stop")
    assert shared.wait(task_id)["outcome"] == "cancelled"


def test_it_ends_with_the_target(shared: Daemon, box: Box):
    task_id = beside(shared, "echo ready; sleep 607", {"pid": box.pid})
    shared.wait_output(task_id, b"ready")
    os.kill(box.pid, signal.SIGKILL)
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("failed", "SIGKILL")


@pytest.mark.parametrize("cgroups", ["auto", "off"])
def test_after_the_death_of_the_runner_nothing_is_left(make_daemon: Any, box: Box, cgroups: str):
    daemon = make_daemon(sidecars=True, cgroups=cgroups).start()
    own = {each.pid for each in box.processes()}
    task_id = beside(daemon, "(setsid sleep 608 &); echo ready; sleep 609", {"pid": box.pid})
    daemon.wait_output(task_id, b"ready")
    os.kill(daemon.runner_pid(task_id), signal.SIGKILL)
    assert daemon.wait(task_id)["outcome"] == "lost"
    assert daemon.alive(task_id) == []
    wait_for(lambda: {each.pid for each in box.processes() if each.command != "sleep" or each.pid in own} <= own, "only the target's own are left")


# -- refusals


def refusal(daemon: Daemon, parameters: dict[str, Any], **more: Any) -> dict[str, str]:
    action = {"machine": "process", "parameters": {"shell": "true", **parameters}}
    errors = daemon.refusal(actions=[action], **more)
    return {field.removeprefix("actions.0.parameters."): message for field, message in errors.items()}


def test_a_server_that_has_not_been_told_to_refuses(daemon: Daemon):
    assert "sidecars = true" in refusal(daemon, {"sidecar": {"pid": 1}})["sidecar"]


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({"sidecar": {}}, "sidecar", "exactly one"),
        ({"sidecar": {"pid": 1, "mark": "A=B"}}, "sidecar", "exactly one"),
        ({"sidecar": {"pid": 1}, "sandbox": {}}, "sidecar", "beside"),
        ({"sidecar": {"pid": 1, "engine": "podman"}}, "sidecar.engine", "container"),
        ({"sidecar": {"pid": 1, "namespaces": ["pid", "pid"]}}, "sidecar.namespaces.1", "twice"),
    ],
)
def test_what_makes_no_sense_is_refused(shared: Daemon, parameters: dict[str, Any], field: str, words: str):
    assert words in refusal(shared, parameters)[field]


def test_a_user_of_this_machine_is_no_user_of_the_target(shared: Daemon):
    assert "sidecar.user" in refusal(shared, {"sidecar": {"pid": 1}}, user="root")["sidecar"]


def test_where_tasks_are_not_root_no_sidecar_is_among_this_machines_files(make_daemon: Any, box: Box):
    daemon = make_daemon(sidecars=True, default_user="nobody").start()
    assert "root among the files" in refusal(daemon, {"sidecar": {"pid": 1, "namespaces": ["net"]}})["sidecar.namespaces"]
    host = subprocess.Popen(["unshare", "-m", "sleep", "600"])
    try:
        wait_for(lambda: is_program(host.pid, "sleep"))
        task, _output = ended(daemon, "true", {"pid": host.pid})
    finally:
        host.kill()
        host.wait()
    assert "sees the files of this machine" in task["error"]


def test_an_engine_that_is_not_there_is_named(make_daemon: Any, tmp_path: Path):
    daemon = make_daemon(sidecars=True, engines=json.dumps({"podman": str(tmp_path / "no.sock")})).start()
    assert "no.sock" in refusal(daemon, {"sidecar": {"container": "web"}})["sidecar.container"]


# -- a real container


@pytest.mark.needs("podman", "runc")
def test_it_runs_beside_a_real_container(make_daemon: Any, podman_server: Any):
    daemon = make_daemon(sidecars=True, engines=json.dumps(podman_server.sockets)).start()
    name = f"beside-{os.getpid()}"
    podman_server.command("run", "-d", "--name", name, "--network", "none", "--env", "COLOUR=green", BUSYBOX_IMAGE, "sleep", "1000")
    try:
        task, output = ended(
            daemon, "echo $COLOUR; cat data; grep CapBnd /proc/1/status /proc/self/status; readlink /proc/self/ns/pid; id -un",
            {"container": name, "user": "player"}, files=[{"path": "data", "text": "brought\n"}],
        )
        assert task["outcome"] == "succeeded", (task["error"], output)
        lines = output.splitlines()
        pid = podman_server.command("inspect", "--format", "{{.State.Pid}}", name).strip()
        assert lines[:2] == ["green", "brought"]
        assert lines[-2:] == [os.readlink(f"/proc/{pid}/ns/pid"), "player"]
        assert podman_server.command("exec", name, "ls", "/tmp") == ""
        orphan = beside(daemon, "(setsid sleep 700 &); echo ready; sleep 701", {"container": name})
        daemon.wait_output(orphan, b"ready")
        daemon.post(f"/v1/tasks/{orphan}/stop")
        assert daemon.wait(orphan)["outcome"] == "cancelled"
        assert daemon.alive(orphan) == []
        assert "sleep 70" not in podman_server.command("exec", name, "ps")
        assert podman_server.command("inspect", "--format", "{{.State.Running}}", name).strip() == "true"
        task, _output = ended(daemon, "true", {"container": "no-such-container"})
        assert task["outcome"] == "failed"
        assert "no-such-container" in task["error"]
    finally:
        podman_server.command("rm", "-f", "-t", "0", name)
