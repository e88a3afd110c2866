"""Tasks that run as other users than the daemon, which is root here. The machine's own accounts are left alone: the
daemon sees files of this test in place of /etc/passwd and /etc/group."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Daemon, wait_for
from test_machines_thirdparty import install, write_package

from task_runner.lib.process import Process, descendants

pytestmark = [pytest.mark.needs("root", "unshare", "mount", "setpriv"), pytest.mark.slow]

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
toor:x:0:0:another root:/root:/bin/sh
builder:x:4001:4001::/srv/builder:/bin/dash
painter:x:4002:4002::/srv/painter:/bin/sh
stranger:x:4003:4003::/:/bin/sh
guest:x:4004:4004::/:/bin/sh
"""
GROUP = """\
root:x:0:
builder:x:4001:
painter:x:4002:
stranger:x:4003:
guest:x:4004:
artists:x:4200:painter
helpers:x:4201:builder
readers:x:4202:builder
taken:x:4150:
"""
USERS = {"admin": ["builder", "4100-4199", "@artists", "guest", "0", "root", "toor"], "*": ["4004"]}
#: a Python that everybody can read; the one that runs the tests may lie in somebody's home
PYTHON = "/usr/bin/python3"
THIRD = "import os\ndef check(p): pass\ndef run(p, c): print(os.getuid(), os.environ['HOME']); return 0\n"


#: as `unshare -m`, `mount --bind` twice, and `setpriv --inh-caps=+chown,+kill`
INSIDE = """
import ctypes

def call(function, *arguments):
    assert function(*arguments) == 0, (function.__name__, arguments, ctypes.get_errno())

libc = ctypes.CDLL(None, use_errno=True)
call(libc.unshare, 0x00020000)  # CLONE_NEWNS
call(libc.mount, None, b"/", None, 0x44000, None)  # MS_REC, MS_PRIVATE
call(libc.mount, {passwd!r}.encode(), b"/etc/passwd", None, 0x1000, None)  # MS_BIND
call(libc.mount, {group!r}.encode(), b"/etc/group", None, 0x1000, None)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version, of this process
words = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and once more for the upper half
call(libc.capget, header, words)
words[2] |= 1 << 0 | 1 << 5  # CAP_CHOWN, CAP_KILL
call(libc.capset, header, words)
"""


class House:
    """Daemons with accounts of their own, in a directory that everybody can pass through."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="task-runner-users-", dir="/tmp"))
        self.path.chmod(0o755)
        self.passwd, self.group = self.path / "passwd", self.path / "group"
        self.passwd.write_text(PASSWD)
        self.group.write_text(GROUP)
        self._daemons: list[Daemon] = []

    @property
    def inside(self) -> str:
        """How a daemon comes to see these accounts, and by the way to have something to inherit, which a change of user
        alone would leave."""
        return INSIDE.format(passwd=str(self.passwd), group=str(self.group))

    @property
    def prefix(self) -> tuple[str, ...]:
        """The same by programs."""
        mounts = f"mount --bind {self.passwd} /etc/passwd && mount --bind {self.group} /etc/group"
        return "unshare", "-m", "sh", "-c", f'{mounts} && exec setpriv --inh-caps=+chown,+kill -- "$@"', "sh"

    def daemon(self, name: str, **settings: Any) -> Daemon:
        daemon = Daemon(self.path / name, **settings)
        self._daemons.append(daemon)
        return daemon

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.close()
        shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    try:
        yield house
    finally:
        house.close()


@pytest.fixture(scope="module")
def root(house: House) -> Daemon:
    """A daemon that allows some users."""
    secrets, shown, site = (house.path / each for each in ("secrets", "shown", "site"))
    for directory in (secrets, shown, site):
        directory.mkdir()
    (secrets / "password").write_text("open sesame")
    (shown / "public").write_text("for everybody")
    (shown / "private").write_text("for root alone")
    (shown / "private").chmod(0o600)
    install(write_package(house.path / "third", "third", THIRD), site)
    daemon = house.daemon(
        "root", task_users=json.dumps(USERS), secrets_dir=secrets, host_files=json.dumps([str(shown)])
    )
    daemon.start(inside=house.inside, PYTHONPATH=f"{ROOT}:{site}")
    assert "CapInh:\t0000000000000021\n" in Path(f"/proc/{daemon.pid}/status").read_text()
    return daemon


def run(daemon: Daemon, script: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """A shell script to its end: the task, and the lines of its output."""
    task_id = daemon.submit("sh", "-c", script, **more)
    return daemon.wait(task_id), daemon.output(task_id).decode().splitlines()


def refusal(daemon: Daemon, **body: Any) -> dict[str, str]:
    return daemon.refusal(**{"command": ["true"], **body})


# -- what the command is


def test_a_command_is_its_user_in_every_way(root: Daemon):
    task, lines = run(
        root,
        "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL ${TMPDIR-none}; umask; pwd; stat -c '%u %a' .; "
        "grep -E '^(Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status",
        user="builder",
        umask="027",
    )
    assert task["outcome"] == "succeeded"
    assert lines[:3] == ["4001", "4001", "4001 4201 4202"]
    assert lines[3] == "/srv/builder builder builder /bin/dash none"
    assert lines[4:7] == ["0027", f"{root.state.tasks.path}/{task['taskId']}/work", "4001 700"]
    facts = dict(line.split(":", 1) for line in lines[7:])
    assert facts["Uid"].split() == ["4001"] * 4
    assert facts["Gid"].split() == ["4001"] * 4
    assert {int(facts[f"Cap{each}"], 16) for each in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert facts["NoNewPrivs"].strip() == "1"
    assert task["userId"] == 4001


def test_a_group_takes_the_place_of_the_users_own(root: Daemon):
    _task, lines = run(root, "id -g; id -G; touch made; stat -c %g made", user="builder", group="helpers")
    assert lines == ["4201", "4201 4202", "4201"]


def test_a_number_without_an_account_is_a_user_too(root: Daemon):
    _task, lines = run(root, "id -u; id -g; id -G; echo $HOME $USER", user="4123")
    assert lines == ["4123", "4123", "4123", "/ 4123"]


@pytest.mark.parametrize(
    ("user", "name"), [("painter", "painter"), ("4002", "painter"), ("guest", "guest"), ("4004", "guest")]
)
def test_users_are_allowed_by_name_number_and_group(root: Daemon, user: str, name: str):
    assert run(root, "echo $USER", user=user)[1] == [name]


def test_no_new_privileges_for_anybody(root: Daemon):
    assert run(root, "grep NoNewPrivs /proc/self/status")[1] == ["NoNewPrivs:\t1"]


# -- what is refused


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"user": "stranger"}, "user", "task_users"),
        ({"user": "4003"}, "user", "task_users"),
        ({"user": "nosuch"}, "user", "no user 'nosuch'"),
        ({"user": "4999"}, "user", "task_users"),
        ({"user": "4150"}, "user", "'taken'"),
        ({"user": "4294967295"}, "user", "no number"),
        ({"user": "root"}, "user", "allow_root"),
        ({"user": "0"}, "user", "allow_root"),
        ({"user": "00"}, "user", "allow_root"),
        ({"user": "toor"}, "user", "allow_root"),
        ({"user": "builder", "group": "artists"}, "group", "not a member"),
        ({"user": "builder", "group": "0"}, "group", "not a member"),
        ({"user": "builder", "group": "nosuch"}, "group", "no group"),
        ({"user": "4123", "group": "4124"}, "group", "not a member"),
        ({"user": "builder", "files": [{"path": "a", "text": "", "owner": "painter"}]}, "files.0.owner", "builder"),
        ({"user": "builder", "files": [{"path": "a", "text": "", "owner": "builder:artists"}]}, "files.0.owner", ""),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_reason(root: Daemon, body: dict[str, Any], field: str, words: str):
    faults = refusal(root, **body)
    assert set(faults) == {field}
    assert words in faults[field]


def test_every_task_of_a_batch_is_judged(root: Daemon):
    tasks = [{"command": ["true"], "user": "builder"}, {"command": ["true"], "user": "stranger"}]
    response = root.post("/v1/batches", {"tasks": tasks})
    assert response.status_code == 400
    assert [each["field"] for each in response.json()["errors"]] == ["tasks.1.user"]


def test_root_may_be_named_where_the_configuration_says_so(house: House):
    users = {"none": ["toor", "builder"]}
    daemon = house.daemon(
        "lenient", auth="none", default_user="painter", allow_root=True, task_users=json.dumps(users)
    )
    daemon.state_dir.mkdir(mode=0o700)
    (daemon.state_dir / "token").write_text("none is asked for")
    daemon.start(inside=house.inside)
    assert run(daemon, "id -u; echo $USER", user="toor")[1] == ["0", "toor"]
    assert run(daemon, "echo $USER")[1] == ["painter"]  # default_user
    assert run(daemon, "echo $USER", user="painter")[1] == ["painter"]  # as it would anyway
    assert run(daemon, "id -g", group="artists")[1] == ["4200"]
    assert run(daemon, "id -u", user="builder")[1] == ["4001"]
    assert "token 'none'" in refusal(daemon, user="root")["user"]  # another name than the one that is allowed
    assert "task_users" in refusal(daemon, user="guest")["user"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"default_user": "nosuch"}, "default_user: there is no user 'nosuch'"),
        ({"task_users": '{"admin": ["3000-2000"]}'}, "'3000-2000' is an empty range"),
        ({"task_users": '{"admin": ["a b"]}'}, "is neither a name"),
    ],
)
def test_a_policy_that_cannot_be_is_told_at_start(house: House, setting: dict[str, str], words: str):
    daemon = house.daemon(f"wrong{time.monotonic_ns()}", **setting)
    daemon.start(wait=False)
    assert daemon.wait_dead() != 0
    assert words in daemon.log.read_text()


def test_a_daemon_that_is_not_root_may_be_named_whatever_its_groups_are(house: House):
    daemon = house.daemon("groups", cgroups="off")
    daemon.state_dir.mkdir()
    os.chown(daemon.state_dir, 4001, 4001)
    readable = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # the Python that runs the tests
    daemon.start(prefix=(*house.prefix, "setpriv", "--reuid=4001", "--regid=4001", "--groups=4202", *readable))
    for user in ("builder", "4001"):
        assert run(daemon, "id -u; id -G", user=user)[1] == ["4001", "4001 4202"]


def test_a_daemon_that_is_not_root_runs_tasks_as_itself_alone(house: House):
    daemon = house.daemon("modest", task_users='{"*": ["*", "4100-4199"]}', cgroups="off")
    daemon.start(prefix=(*house.prefix, "unshare", "--user", "--map-user=4001", "--map-group=4001"))
    assert "runs as builder, and only root" in refusal(daemon, user="painter")["user"]
    assert "only root" in refusal(daemon, user="root")["user"]
    assert "only root" in refusal(daemon, user="4123")["user"]
    assert "not run as root" in refusal(daemon, user="builder", group="helpers")["group"]
    task, lines = run(daemon, "id -u; echo $HOME", user="builder")
    assert lines == ["4001", "/srv/builder"]
    assert task["userId"] == 4001
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700


# -- a user that is gone


@pytest.fixture
def passwd(house: House) -> Iterator[Callable[[str], None]]:
    """Changes what the daemon finds in /etc/passwd."""

    def change(text: str) -> None:
        with open(house.passwd, "r+") as file:  # the same file, which is mounted
            file.truncate()
            file.write(text)

    yield change
    change(PASSWD)


@pytest.mark.parametrize("now", [PASSWD.replace("guest:x:4004", "ghost:x:4005"), PASSWD.replace("4004:4004", "0:0")])
def test_a_task_whose_user_is_gone_by_its_start_fails_and_runs_nothing(
    root: Daemon, passwd: Callable[[str], None], now: str
):
    mark = root.state_dir.parent / "ran"
    task_id = root.submit(
        "touch", str(mark), user="guest", executeAt=time.time() + 3600,
        cleanup=[{"machine": "process", "parameters": {"command": ["touch", str(mark)]}}],
    )  # fmt: skip
    passwd(now)
    assert root.http.patch(f"/v1/tasks/{task_id}", json={"executeAt": None}).status_code == 200
    task = root.wait(task_id)
    assert task["outcome"] == "failed"
    assert "no user 'guest'" in task["error"] or "allow_root" in task["error"]
    assert task["exitCode"] is None
    assert not mark.exists()
    assert {each["state"] for each in task["actions"]} == {"skipped"}


# -- files


@pytest.mark.parametrize("then", [{}, {"default_user": "painter"}])
def test_nobody_goes_on_in_a_directory_that_another_user_has_had(house: House, then: dict[str, str]):
    daemon = house.daemon(f"changed-{len(then)}", default_user="builder").start(inside=house.inside)
    task_id = daemon.submit("sh", "-c", "id -u; test -e planted && touch followed; touch planted; exit 1")
    daemon.wait(task_id)
    daemon.kill()
    daemon.settings.pop("default_user")
    daemon.settings.update(then)
    daemon.start(inside=house.inside)
    for _ in range(2):
        daemon.post(f"/v1/tasks/{task_id}/retry").raise_for_status()
        task = daemon.wait(task_id)
        assert task["outcome"] == "failed"
        assert "attempt 1 ran as user 4001" in task["error"]
    work = Path(daemon.state.tasks.attempt(task_id, 1).work)
    assert sorted(each.name for each in work.iterdir()) == ["planted"]
    assert work.stat().st_uid == 4001


def test_what_a_task_is_given_is_its_users(root: Daemon):
    task, lines = run(
        root,
        'cd "$WORK" && cat in/a && echo more >> in/a && cat "$SECRET" && echo && stat -c "%u %a" "$SECRET" in in/a && '
        'echo "50 half" > "$TASK_RUNNER_PROGRESS" && cat /dev/stdin && echo there > /dev/stdout',
        user="builder",
        env={"WORK": "."},
        stdin="typed\n",
        files=[{"path": "in/a", "text": "placed\n", "mode": "0640", "owner": "builder:helpers"}],
        secrets=[{"name": "password", "fileEnv": "SECRET"}],
        progress=True,
    )
    assert task["outcome"] == "succeeded", lines
    assert lines == ["placed", "open sesame", "4001 600", "4001 755", "4001 640", "typed", "there"]
    assert task["progress"]["message"] == "half"


def test_open_standard_input_can_be_opened_again_by_its_path(root: Daemon):
    task_id = root.submit("sh", "-c", "cat /dev/stdin", user="builder", openStdin=True)
    wait_for(lambda: root.task(task_id)["state"] == "running")
    headers = {"Content-Type": "application/octet-stream"}
    assert root.http.post(f"/v1/tasks/{task_id}/input?end=true", content=b"sent", headers=headers).status_code == 200
    assert root.wait(task_id)["outcome"] == "succeeded"
    assert root.output(task_id) == b"sent"


def test_every_machine_is_carried_out_as_the_user(root: Daemon):
    shown = root.state_dir.parent / "shown"
    archive = root.state_dir.parent / "a.tar"
    subprocess.run(["tar", "-cf", archive, "-C", shown, "public"], check=True)
    archive.rename(shown / "a.tar")
    actions = [
        {"machine": "echo", "parameters": "use shared lock\necho echoed"},
        {"machine": "download", "parameters": {"url": f"file://{shown}/a.tar"}},
        {"machine": "extract", "parameters": {"path": "a.tar", "into": "out"}},
        {"machine": "third", "parameters": None},
        {"machine": "process", "parameters": {"command": ["stat", "-c", "%u %n", "a.tar", "out", "out/public"]}},
    ]
    task_id = root.submit(actions=actions, user="builder")
    task, output = root.wait(task_id), root.output(task_id).decode()
    assert task["outcome"] == "succeeded", output
    assert output.splitlines()[-4:] == ["4001 /srv/builder", "4001 a.tar", "4001 out", "4001 out/public"]
    assert "echoed" in output


def test_echo_is_carried_out_as_the_user_and_has_the_locks_of_all(root: Daemon):
    script = "use exclusive stage\necho on\nsleep 1000\ncleanup\necho off"
    task_id = root.submit(machine="echo", parameters=script, user="builder")
    wait_for(lambda: root.output(task_id) == b"on\n", "it has begun")
    [machine] = [each for each in descendants(root.runner_pid(task_id)) if "\nUid:\t4001\t4001\t4001\t" in _status(each)]
    assert "\nCapEff:\t0000000000000000\n" in _status(machine)
    waiting = root.submit(machine="echo", parameters="use exclusive stage\necho mine")
    wait_for(lambda: root.output(waiting) == b"waiting for stage\n", "the lock is held")
    root.post(f"/v1/tasks/{task_id}/stop", {})
    assert root.wait(task_id)["signal"] == "SIGTERM"
    assert root.output(task_id) == b"on\noff\n"
    assert root.wait(waiting)["outcome"] == "succeeded"


def _status(each: Process) -> str:
    try:
        return Path(f"/proc/{each.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended


def test_the_foreground_runs_nobody_as_somebody_else(tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text('{"command": ["touch", "../ran"], "user": "nobody"}')
    command = [sys.executable, "-m", "task_runner.lib.runner", "spec.json"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 127
    assert "nobody has granted the task to run as nobody" in ended.stderr
    assert not (tmp_path / "ran").exists()


def test_files_of_the_machine_are_read_as_the_user(root: Daemon):
    shown = root.state_dir.parent / "shown"
    parameters = {"url": f"file://{shown}/private", "path": "got"}
    task_id = root.submit(machine="download", parameters=parameters, user="builder")
    assert root.wait(task_id)["outcome"] == "failed"
    assert b"Permission denied" in root.output(task_id)
    placed = root.submit("true", user="builder", files=[{"path": "got", "hostPath": f"{shown}/private"}])
    assert "Permission denied" in root.wait(placed)["error"]


def test_a_program_that_the_user_cannot_reach_is_not_found_for_it(root: Daemon):
    hidden = root.state_dir.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    shutil.copy("/bin/true", hidden / "mine")
    hidden.chmod(0o700)
    assert run(root, "true")[0]["outcome"] == "succeeded"
    task_id = root.submit("mine", user="builder", env={"PATH": f"{hidden}:/usr/bin:/bin"})
    task = root.wait(task_id)
    assert task["outcome"] == "failed"
    assert task["error"].startswith("mine: no such program")
    elsewhere = root.wait(root.submit("true", user="builder", workingDirectory=str(hidden)))
    assert elsewhere["error"] == f"workingDirectory {hidden}: Permission denied"


def test_a_second_attempt_works_on_with_the_same_files(root: Daemon):
    script = 'test -e first && echo "$TASK_RUNNER_PROGRESS" && test -w "$TASK_RUNNER_PROGRESS" && exit 0; touch first; exit 1'
    task, lines = run(root, script, user="builder", progress=True, retry={"count": 1, "delaySeconds": 0})
    assert task["outcome"] == "succeeded", lines
    assert task["attempt"] == 2
    assert "/attempts/2/progress" in lines[0]


def test_what_a_user_leaves_can_be_fetched_measured_and_removed(root: Daemon):
    task, _lines = run(
        root,
        "mkdir -p shut/deep && echo kept > shut/deep/file && ln -s /etc/shadow link && ln -s / top && mkfifo pipe && "
        "chmod 000 shut/deep/file shut/deep shut && chmod 000 .",
        user="builder",
    )
    assert task["outcome"] == "succeeded"
    url = f"/v1/tasks/{task['taskId']}/files"
    listed = {each["path"]: each["kind"] for each in root.http.get(f"{url}?recursive=true").json()}
    assert listed["shut/deep/file"] == "file"
    assert listed["link"] == "link"
    assert root.http.get(f"{url}/shut/deep/file").text == "kept\n"
    assert root.http.get(f"{url}/link").status_code == 409
    assert root.http.get(f"{url}/top/etc/shadow").status_code == 404
    directory = Path(root.state.tasks.path) / task["taskId"]
    assert root.http.delete(f"/v1/tasks/{task['taskId']}").status_code == 200
    wait_for(lambda: not directory.exists(), "the directory is removed")
    assert Path("/etc/shadow").exists()


def test_others_pass_through_the_state_directory_and_see_nothing(root: Daemon):
    task_id = root.submit("sh", "-c", "sleep 60", user="builder", progress=True)
    root.wait_state(task_id, "running")
    directory = Path(root.state.tasks.path) / task_id
    passable = {root.state_dir, Path(root.state.tasks.path), directory}
    theirs = {directory / "work", directory / "progress"}
    for path in [root.state_dir, *root.state_dir.iterdir(), directory, *directory.iterdir()]:
        try:
            found = path.lstat()
        except FileNotFoundError:
            assert path.suffix == ".tmp", path  # the status, which has got its name meanwhile
            continue
        assert stat.S_IMODE(found.st_mode) & 0o077 == (0o011 if path in passable else 0), path
        assert found.st_uid == (4001 if path in theirs else 0), path
    root.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    assert root.wait(task_id)["outcome"] == "cancelled"


# -- a task that wants out

HOSTILE = r"""
import ctypes, fcntl, json, os, resource, signal, socket, sys

state, own, others = os.environ["STATE"], os.environ["OWN"], os.environ["OTHERS"].split(":")
runner = os.getppid()
NAMES = ("status.json", "lock", "spec.json", "output.log", ".status.reserve")
libc = ctypes.CDLL(None, use_errno=True)
done = []

def attempt(what, act, *arguments):
    try:
        result = act(*arguments)
    except (OSError, ValueError):
        return
    done.append(f"{what}: {result!r}")

def syscall(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")

def flood(path):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    for _ in range(50):
        try:
            os.write(fd, b"99 lies\n" * 500)
        except BlockingIOError:
            pass
    os.close(fd)

open("mine", "w").write('{"format": 1}')
for directory in (own, *others):
    attempt(f"list {directory}", os.listdir, directory)
    for name in NAMES:
        path = f"{directory}/{name}"
        for how in (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT):
            attempt(f"open {path}", os.open, path, how, 0o600)
        attempt(f"truncate {path}", os.truncate, path, 0)
        attempt(f"unlink {path}", os.unlink, path)
        attempt(f"replace {path}", os.rename, "mine", path)
        attempt(f"move {path}", os.rename, path, "stolen")
        attempt(f"link {path}", os.link, path, f"linked-{name}")
        attempt(f"link over {path}", os.link, "mine", path)
        attempt(f"chmod {path}", os.chmod, path, 0o666)
        attempt(f"chown {path}", os.chown, path, os.getuid(), -1)
        attempt(f"times of {path}", os.utime, path, (0, 0))
    attempt(f"symlink in {directory}", os.symlink, "/etc/passwd", f"{directory}/new")
    attempt(f"fifo in {directory}", os.mkfifo, f"{directory}/fifo")
    attempt(f"directory in {directory}", os.mkdir, f"{directory}/attempts")
    attempt(f"move {directory}/work", os.rename, f"{directory}/work", f"{directory}/gone")
    attempt(f"chmod {directory}", os.chmod, directory, 0o777)
    attempt(f"move {directory}", os.rename, directory, f"{directory}.gone")
    if directory != own:
        attempt(f"list {directory}/work", os.listdir, f"{directory}/work")
        attempt(f"secrets of {directory}", os.listdir, f"{directory}/secrets")
for name in ("tasks.db", "token", "doorbell", "daemon.lock", "launcher.lock", "runners.log", "address.json"):
    attempt(f"open {name}", os.open, f"{state}/{name}", os.O_RDONLY | os.O_NONBLOCK)
    attempt(f"write {name}", os.open, f"{state}/{name}", os.O_WRONLY | os.O_NONBLOCK)
attempt("list the state directory", os.listdir, state)
attempt("list the tasks", os.listdir, f"{state}/tasks")
attempt("make a task", os.mkdir, f"{state}/tasks/{'0' * 16}")
attempt("list the locks", os.listdir, f"{state}/locks")

# its own descriptors lead to nothing of ours
for fd in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if target.startswith(state) and "/work" not in target:
        done.append(f"has {target}")
attempt("truncate its output", os.ftruncate, 1, 0)
attempt("seek in its output", os.lseek, 1, 0, os.SEEK_SET)

# processes: the runner, and whatever stands beside us and is not ours
def children(pid):
    try:
        return [int(each) for each in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []

strangers = [runner, *(pid for pid in children(runner) if pid != os.getpid())]
if len(strangers) < 2:
    done.append("saw no filter")
for pid in strangers:
    for number in (0, signal.SIGCONT, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
        attempt(f"signal {number} to {pid}", os.kill, pid, number)
    attempt(f"ptrace {pid}", syscall, libc.ptrace, 16, pid, None, None)
    attempt(f"limits of {pid}", resource.prlimit, pid, resource.RLIMIT_NOFILE, (4, 4))
    attempt(f"priority of {pid}", os.setpriority, os.PRIO_PROCESS, pid, 19)
    attempt(f"affinity of {pid}", os.sched_setaffinity, pid, {0})
    attempt(f"memory of {pid}", lambda pid=pid: open(f"/proc/{pid}/mem", "rb").read(1))
    attempt(f"environment of {pid}", lambda pid=pid: open(f"/proc/{pid}/environ", "rb").read(1))
    attempt(f"descriptors of {pid}", os.listdir, f"/proc/{pid}/fd")
    attempt(f"directory of {pid}", os.listdir, f"/proc/{pid}/cwd")

# back to what it was
attempt("setuid", os.setuid, 0)
attempt("setresuid", os.setresuid, 0, 0, 0)
attempt("setgid", os.setgid, 0)
attempt("setgroups", os.setgroups, [0])
attempt("a raw socket", socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
attempt("chroot", os.chroot, ".")
attempt("a higher hard limit", resource.setrlimit, resource.RLIMIT_NOFILE, (2**30, 2**30))
for line in open("/proc/self/cgroup"):
    group = line.strip().split(":", 2)[2]
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"):
        for place in (top, top + group, os.path.dirname(top + group)):
            attempt(f"leave for {place}", lambda place=place: open(f"{place}/cgroup.procs", "w").write("0"))
pid = os.fork()
if pid == 0:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.execv("/bin/sh", ["sh", "-c", "su -c id || sudo -n id || passwd -d root || newgrp root"])
if os.waitpid(pid, 0)[1] == 0:
    done.append("gained something by a set-user-ID program")

flood(os.environ["TASK_RUNNER_PROGRESS"])
fcntl.flock(os.open(".", os.O_RDONLY), fcntl.LOCK_EX)
print("\n".join(done) or "nothing", flush=True)
sys.exit(7)
"""


def _controls(directory: Path) -> dict[str, tuple[int, ...]]:
    """What of a task's directory must stay as it is: who each file belongs to, and which file it is."""
    found = {}
    for name in (".", "lock", "spec.json", "output.log", "status.json"):
        seen = (directory / name).stat()
        identity = () if name == "status.json" else (seen.st_ino,)  # replaced by its runner
        found[name] = (seen.st_uid, seen.st_gid, seen.st_mode, *identity)
    return found


@pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"needs {PYTHON}")
def test_a_hostile_task_changes_nothing_and_its_ending_is_known(root: Daemon):
    tasks = Path(root.state.tasks.path)
    others = {
        user: root.submit("sh", "-c", "echo begun; until test -e go; do sleep 0.1; done; exit 5", user=user)
        for user in ("painter", "builder")
    }
    plain = root.submit("sh", "-c", "echo begun; until test -e go; do sleep 0.1; done; exit 5")
    everyone = [*others.values(), plain]
    for each in everyone:
        root.wait_state(each, "running")
        wait_for(lambda each=each: root.output(each), "it has begun")
    before = {each: _controls(tasks / each) for each in everyone}

    # a task of the same user is as open to it as any process of one user is to another; the control files are not
    hidden = [str(tasks / each) for each in (others["painter"], plain)]
    task_id = root.submit(
        "sh", "-c", 'export OWN="$(dirname "$PWD")"; exec "$0" -c "$CODE"', PYTHON,
        user="builder",
        env={"STATE": str(root.state_dir), "OTHERS": ":".join(hidden), "CODE": HOSTILE},
        progress=True,
    )  # fmt: skip
    task = root.wait(task_id)
    assert root.output(task_id).decode() == "nothing\n"
    assert (task["state"], task["outcome"], task["exitCode"], task["signal"]) == ("exited", "failed", 7, None)
    assert task["damage"] is None

    for each in everyone:
        assert root.task(each)["state"] == "running"
        assert _controls(tasks / each) == before[each]
        (tasks / each / "work" / "go").touch()
    for each in everyone:
        ended = root.wait(each)
        assert (ended["outcome"], ended["exitCode"]) == ("failed", 5)
        assert root.output(each) == b"begun\n"


def test_a_stop_reaches_all_that_a_user_has_left_running(root: Daemon):
    task_id = root.submit("sh", "-c", "setsid sleep 1000 & sleep 1000 & echo up; wait", user="builder")
    wait_for(lambda: root.output(task_id) == b"up\n", "it has begun")
    root.wait_state(task_id, "running")
    root.post(f"/v1/tasks/{task_id}/pause")
    root.wait_state(task_id, "paused")
    root.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    task = root.wait(task_id)
    assert task["outcome"] == "cancelled"
    assert task["receipt"]["survivors"] == []
    assert root.alive(task_id) == []


def test_a_task_of_another_user_goes_on_under_the_next_daemon(house: House, root: Daemon):
    task_id = root.submit("sh", "-c", "until test -e go; do sleep 0.1; done; id -u; exit 3", user="painter")
    root.wait_state(task_id, "running")
    root.kill()
    root.start(inside=house.inside, PYTHONPATH=f"{ROOT}:{root.state_dir.parent / 'site'}")
    (Path(root.state.tasks.path) / task_id / "work" / "go").touch()
    task = root.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["userId"]) == ("failed", 3, 4002)
    assert root.output(task_id) == b"4002\n"


def test_what_a_dead_runner_leaves_of_another_user_is_cleared(root: Daemon):
    task_id = root.submit("sh", "-c", "echo up; exec sleep 1000", user="painter", secrets=[{"name": "password", "fileEnv": "P"}])
    wait_for(lambda: root.output(task_id) == b"up\n", "it has begun")
    os.kill(root.runner_pid(task_id), 9)
    task = root.wait(task_id)
    assert task["outcome"] == "lost"
    assert root.alive(task_id) == []
    assert not (Path(root.state.tasks.path) / task_id / "secrets").exists()
