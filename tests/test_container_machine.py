"""The `container` machine against a real engine, without a runner: what it says, does and leaves."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from conftest import wait_for
from engines import PodmanServer
from images import BUSYBOX_IMAGE
from machinery import talking

from task_runner.engines.base import LABEL_TASK, Engine
from task_runner.engines.find import open_engine
from task_runner.lib import process
from task_runner.machines.say import KILL

pytestmark = [pytest.mark.needs("root"), pytest.mark.needs("podman"), pytest.mark.needs("runc")]


class Remote:
    """One try of one action, carried out by one process after another."""

    def __init__(self, runners: subprocess.Popen[str], directory: Path, server: Any, **options: Any) -> None:
        self.runners = runners
        self.directory = directory
        self.server = server
        self.task_id = secrets.token_hex(8)
        self.options = options
        self.notes: list[dict[str, Any]] = []
        #: what the present process has said and nobody has waited for
        self._unheard: list[dict[str, Any]] = []
        self.log_directory: Path | None = None
        self.parameters: dict[str, Any] = {}
        self._said: IO[bytes] | None = None
        self._runner = 0
        (directory / "work").mkdir()

    def start(self, *command: str, apart: bool = False, **parameters: Any) -> None:
        self.parameters = {"image": BUSYBOX_IMAGE, **({"args": list(command)} if command else {}), **parameters}
        self.stdout = (self.log_directory or self.directory) / "stdout.log"
        self.stderr = self.directory / "stderr.log" if apart else self.stdout
        self._begin(take_up=False)

    def take_up(self) -> None:
        self._begin(take_up=True)

    def _begin(self, *, take_up: bool) -> None:
        context = {
            "task_id": self.task_id,
            "attempt": 1,
            "work": str(self.directory / "work"),
            "env": {},
            "engines": self.server.sockets,
            "daemon": str(self.directory),
            "keep": str(self.directory / "keep"),
            "containers": {"mounts": [str(self.directory)], "networks": ["none", "host"]},
            "take_up": take_up,
            **self.options,
        }
        order: dict[str, Any] = {"parameters": self.parameters, "stdout": str(self.stdout), "stderr": str(self.stderr)}
        order |= {name: context.pop(name) for name in ("patience", "settle", "space", "lag", "die_at") if name in context}
        said = self.directory / f"said-{secrets.token_hex(4)}"
        said.touch()
        order |= {"context": context, "said": str(said)}
        assert self.runners.stdin is not None
        assert self.runners.stdout is not None
        self.runners.stdin.write(json.dumps(order) + "\n")
        self.runners.stdin.flush()
        self._runner = int(self.runners.stdout.readline())
        self._close()
        self._said = open(said, "rb")  # noqa: SIM115
        self._unheard.clear()
        # what the machine says may come before what is said of its process
        self.pid = wait_for(lambda: next((note["pid"] for note in self._listen() if "pid" in note), None), "it has a pid")

    def hear(self, key: str, value: Any = ...) -> Any:
        """Wait until it says that; returns the value."""

        def heard() -> dict[str, Any] | None:
            notes = self._listen()
            while notes:
                note = notes.pop(0)
                if key in note and value in (..., note[key]):
                    return note
                assert "code" not in note, f"it never said {key}: {self.notes}"
            return None

        return wait_for(heard, f"it says {key}")[key]

    def _listen(self) -> list[dict[str, Any]]:
        """What has been said so far and not been waited for."""
        assert self._said is not None
        while line := self._said.readline():
            if not line.endswith(b"\n"):
                self._said.seek(-len(line), os.SEEK_CUR)  # it is just being written
                break
            self.notes.append(json.loads(line))
            self._unheard.append(self.notes[-1])
        return self._unheard

    def end(self) -> dict[str, Any]:
        """Wait for its end; returns what it said last of each kind, and its exit code."""
        self.hear("code")
        return {key: value for note in self.notes for key, value in note.items()}

    def run(self, *command: str, **parameters: Any) -> dict[str, Any]:
        self.start(*command, **parameters)
        return self.end()

    def kill(self) -> None:
        """As if the runner had died: the machine's process dies with it."""
        if (runner := process.look(self._runner)) is not None:  # else it has just ended by itself
            process.send(runner, signal.SIGKILL)
        wait_for(lambda: not alive(self._runner) and not alive(self.pid), "the machine's process has ended")

    def _close(self) -> None:
        if self._said is not None:
            self._said.close()
            self._said = None

    def close(self) -> None:
        self._close()
        if alive(self._runner):
            self.kill()
        for each in self.found():
            self.engine.remove(each)

    @functools.cached_property
    def engine(self) -> Engine:
        """A connection of the test's own."""
        return open_engine(None, self.server.sockets)

    def found(self) -> list[str]:
        """The ids of its containers."""
        return [each.id for each in self.engine.find({LABEL_TASK: self.task_id})]

    def state(self) -> str:
        (container,) = self.found()
        return self.engine.look(container).state

    @property
    def output(self) -> bytes:
        return self.stdout.read_bytes()


def alive(pid: int) -> bool:
    found = process.look(pid)
    return found is not None and found.alive


@pytest.fixture(scope="module")
def runners() -> Iterator[subprocess.Popen[str]]:
    """The process that runners are forked from."""
    with talking("remote_machine.py") as forking:
        yield forking


@pytest.fixture
def remote(
    tmp_path: Path, podman_server: PodmanServer, runners: subprocess.Popen[str]
) -> Iterator[Callable[..., Remote]]:
    made: list[Remote] = []

    def make(**options: Any) -> Remote:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Remote(runners, directory, podman_server, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_says_what_it_does_and_leaves_nothing(remote: Callable[..., Remote]) -> None:
    for _ in range(5):  # on a busy machine the figures of one that ends at once are gone now and then: they are not known
        it = remote()
        last = it.run("sh", "-c", "pwd; echo out; exit 7")
        if last["container"]["accounting"] is not None:
            break
    assert last["code"] == 7
    assert last["ended"] == {"exitCode": 7, "signal": None, "oomKilled": False}
    assert it.output == b"/work\nout\n"
    assert [note["state"] for note in it.notes if "state" in note] == ["provisioning", "running"]
    names = {note["container"]["name"] for note in it.notes if "container" in note}
    assert names == {f"task-runner-{it.task_id}-1.0.1"}
    ids = [note["container"]["id"] for note in it.notes if "container" in note]
    assert ids[0] is None
    assert ids[-1] is not None
    assert last["container"]["imageId"]
    assert last["container"]["accounting"]["cpuSeconds"] >= 0
    stages = [(note["container"]["stage"], note["container"]["removing"]) for note in it.notes if "container" in note]
    assert list(dict.fromkeys(stages)) == [
        ("fetching", False), ("making", False), ("running", False), ("ended", False), ("ended", True),
    ]  # fmt: skip
    assert (last["container"]["exitCode"], last["container"]["signal"], last["container"]["error"]) == (7, None, None)
    assert it.found() == []


def test_the_container_finds_what_its_task_was_given(remote: Callable[..., Remote], tmp_path: Path) -> None:
    held = tmp_path / "secrets"
    held.mkdir()
    (held / "db").write_text("sesame")
    fifo = tmp_path / "progress"
    os.mkfifo(fifo)
    listener = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    it = remote(
        secret_files=str(held),
        progress=str(fifo),
        given={
            "TASK_RUNNER_TASK_ID": "0123",
            "TASK_RUNNER_PROGRESS": str(fifo),
            "DB": "sesame",
            "DB_FILE": str(held / "db"),
        },
    )
    (it.directory / "work/input").write_text("from outside\n")
    script = (
        "cat input; env | grep -e ^TASK_RUNNER -e ^DB | sort; cat $DB_FILE; echo; echo 50 half > $TASK_RUNNER_PROGRESS;"
        " echo made > result; echo x 2>&1 > $DB_FILE || echo read-only"
    )
    assert it.run("sh", "-c", script, user="0:0")["code"] == 0
    assert it.output.decode().splitlines() == [
        "from outside",
        "DB=sesame",
        "DB_FILE=/run/task-runner/secrets/db",
        f"TASK_RUNNER_CONTAINER=task-runner-{it.task_id}-1.0.1",
        "TASK_RUNNER_PROGRESS=/run/task-runner/progress",
        "TASK_RUNNER_TASK_ID=0123",
        "sesame",
        "sh: can't create /run/task-runner/secrets/db: Read-only file system",
        "read-only",
    ]
    assert b"50 half\n" in os.read(listener, 10_000)
    os.close(listener)
    assert (it.directory / "work/result").read_text() == "made\n"


def test_the_variables_of_the_daemon_stay_outside(remote: Callable[..., Remote]) -> None:
    it = remote(env={"HOME": "/home/of-the-daemon", "PATH": "/nowhere"})
    assert it.run("env")["code"] == 0
    assert b"of-the-daemon" not in it.output
    assert b"PATH=/bin" in it.output


def test_a_task_with_a_user_has_a_container_of_that_user(remote: Callable[..., Remote]) -> None:
    account = {"uid": 4321, "gid": 4321, "groups": [4321], "name": "player", "home": "/", "shell": "/bin/sh"}
    it = remote(account=account)
    os.chown(it.directory / "work", 4321, 4321)
    (it.directory / "work").chmod(0o700)
    assert it.run("sh", "-c", "id -u; id -g; echo mine > made")["code"] == 0
    assert it.output == b"4321\n4321\n"
    assert (it.directory / "work/made").stat().st_uid == 4321


@pytest.mark.parametrize(
    ("parameters", "reason", "stage"),
    [
        ({"image": "localhost/nothing:1", "pull": "never"}, "the image localhost/nothing:1 is not here", "unfetched"),
        ({"image": "127.0.0.1:1/nothing:1"}, "127.0.0.1:1", "unfetched"),
        ({"command": ["/no/such/program"]}, "/no/such/program", "unstarted"),
        ({"network": "no-such-network"}, "no-such-network", "unstarted"),
    ],
)
def test_what_cannot_be_started_is_failed_in_the_engines_words(
    remote: Callable[..., Remote], parameters: dict[str, Any], reason: str, stage: str
) -> None:
    it = remote()
    last = it.run(**parameters)
    assert last["code"] == 125
    assert reason in last["failed"]
    assert "ended" not in last
    note = last["container"]
    assert (note["stage"], note["error"], note["removing"]) == (stage, last["failed"], True)
    assert it.found() == []


def test_a_required_limit_that_the_engine_cannot_enforce_is_no_start(remote: Callable[..., Remote]) -> None:
    it = remote()
    last = it.run("true", limits={"nice": 5, "required": True})
    assert last["failed"].startswith("limits.nice is required, and not enforced")
    assert it.found() == []


def test_a_link_out_of_the_allowed_directories_is_seen_at_the_start(remote: Callable[..., Remote]) -> None:
    it = remote()
    (it.directory / "out").symlink_to("/etc")
    last = it.run("cat", "/m/passwd", mounts=[{"source": str(it.directory / "out"), "target": "/m"}])
    assert "/etc: the server lets containers mount below these directories" in last["failed"]
    assert it.output == b""


def test_the_state_directory_is_not_to_be_mounted_through_a_link(remote: Callable[..., Remote]) -> None:
    it = remote()
    state = it.directory / "state"
    state.mkdir()
    (it.directory / "link").symlink_to(state)
    it.options["containers"] = {"mounts": [str(it.directory)], "networks": ["none"], "state": str(state)}
    last = it.run("ls", "/m", mounts=[{"source": str(it.directory / "link"), "target": "/m"}])
    assert "the state directory" in last["failed"]


# -- signals


def test_signals_are_passed_on(remote: Callable[..., Remote]) -> None:
    it = remote()
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    it.start("sh", "-c", script)
    it.hear("state", "running")
    wait_for(lambda: b"ready" in it.output)
    os.kill(it.pid, signal.SIGUSR1)
    wait_for(lambda: b"usr1" in it.output)
    os.kill(it.pid, signal.SIGTERM)
    last = it.end()
    assert last["code"] == 9
    assert it.output == b"ready\nusr1\nterm\n"
    assert it.found() == []


def test_a_container_that_ignores_a_stop_is_killed_by_the_engine(remote: Callable[..., Remote]) -> None:
    it = remote()
    it.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    wait_for(lambda: b"ready" in it.output)
    os.kill(it.pid, signal.SIGTERM)
    os.kill(it.pid, KILL)
    last = it.end()
    assert last["ended"]["exitCode"] == 137
    assert last["code"] == 137
    assert it.found() == []


def test_a_paused_container_does_nothing_until_it_goes_on(remote: Callable[..., Remote]) -> None:
    it = remote()
    it.start("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
    wait_for(lambda: it.output)
    os.kill(it.pid, signal.SIGTSTP)
    assert it.hear("paused") is True
    assert it.state() == "paused"
    os.kill(it.pid, signal.SIGCONT)
    assert it.hear("paused") is False
    length = len(it.output)
    wait_for(lambda: len(it.output) > length)
    os.kill(it.pid, signal.SIGTSTP)
    assert it.hear("paused") is True
    os.kill(it.pid, KILL)
    assert it.end()["ended"]["exitCode"] == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, KILL])
def test_a_stop_before_there_is_a_container_leaves_none(
    remote: Callable[..., Remote], silent_registry: str, number: int
) -> None:
    it = remote()
    it.start("true", image=f"{silent_registry}/slow:1")
    it.hear("container")
    os.kill(it.pid, number)
    last = it.end()
    assert last["code"] == -(signal.SIGKILL if number == KILL else number)
    assert "ended" not in last
    assert it.found() == []


def test_a_stop_while_the_container_is_being_made_leaves_none(remote: Callable[..., Remote]) -> None:
    for _ in range(3):
        it = remote()
        it.start("sleep", "1000")
        time.sleep(random.uniform(0, 0.4))  # somewhere before, in the middle of, or after it
        for number in (signal.SIGTERM, KILL):
            with contextlib.suppress(ProcessLookupError):  # it has ended by the first one
                os.kill(it.pid, number)
        last = it.end()
        assert last["code"] in (-signal.SIGTERM, -signal.SIGKILL, 137), last
        assert it.found() == []


def test_a_pull_that_takes_too_long_has_failed(remote: Callable[..., Remote], silent_registry: str) -> None:
    last = remote().run("true", image=f"{silent_registry}/slow:1", pullTimeoutSeconds=0.5)
    assert last["failed"] == f"pull {silent_registry}/slow:1: it was not here after 0.5 seconds (pullTimeoutSeconds)"


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """Where something takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


# -- one process after another

#: does not end before it has been killed as often as it is to be
TALK = """
i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.05; done
until [ -e go ]; do sleep 0.05; done
"""


@pytest.mark.parametrize("apart", [False, True])
def test_every_byte_comes_once_however_often_the_machine_is_killed(remote: Callable[..., Remote], apart: bool) -> None:
    it = remote()
    it.start("sh", "-c", TALK, apart=apart)
    it.hear("state", "running")
    chance = random.Random(7)
    for _ in range(2):
        time.sleep(chance.uniform(0.05, 0.3))
        it.kill()
        it.take_up()
    (it.directory / "work/go").touch()
    last = it.end()
    assert last["code"] == 0
    lines = it.output.decode().splitlines() + (it.stderr.read_text().splitlines() if apart else [])
    assert [line for line in lines if line.startswith("out")] == [f"out {i}" for i in range(300)]
    assert [line for line in lines if line.startswith("err")] == [f"err {i}" for i in range(300)]
    assert it.found() == []


def test_what_was_seen_before_a_container_went_on_is_not_told_after_that(remote: Callable[..., Remote]) -> None:
    it = remote(lag=0.5)
    it.start("sleep", "1000")
    it.hear("state", "running")
    os.kill(it.pid, signal.SIGTSTP)
    assert it.hear("paused") is True
    it.kill()
    it.take_up()
    os.kill(it.pid, signal.SIGCONT)
    assert it.hear("paused") is True
    assert it.hear("paused") is False
    assert it.state() == "running"
    os.kill(it.pid, KILL)
    it.end()
    assert [note["paused"] for note in it.notes if "paused" in note] == [True, True, False]


@pytest.mark.parametrize(
    ("place", "came"),
    [
        ("container.create", "lost"),
        ("container.created", "ended"),
        ("container.removed", "ended"),
    ],
)
def test_wherever_the_machine_dies_the_command_runs_at_most_once(
    remote: Callable[..., Remote], place: str, came: str
) -> None:
    it = remote(die_at=place, settle=1.0)
    it.start("sh", "-c", "echo once; exit 5")
    it.hear("code", -signal.SIGKILL)
    del it.options["die_at"]
    it.take_up()
    last = it.end()
    assert came in last, last
    assert it.output == (b"once\n" if came == "ended" else b"")
    if came == "ended":
        assert last["ended"]["exitCode"] == 5
    assert it.found() == []


def test_one_that_the_engine_was_asked_to_start_and_did_not_is_lost(remote: Callable[..., Remote]) -> None:
    it = remote(die_at="container.start", settle=0.5)
    it.start("echo", "never")
    it.hear("code", -signal.SIGKILL)
    del it.options["die_at"]
    it.take_up()
    assert "was asked to start container" in it.end()["lost"]
    assert it.output == b""
    assert it.found() == []


def test_an_engine_that_is_restarted_is_waited_for(remote: Callable[..., Remote]) -> None:
    it = remote()
    it.start("sh", "-c", "trap 'echo stopped; exit 6' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done")
    wait_for(lambda: it.output)
    it.server.kill()
    try:
        os.kill(it.pid, signal.SIGTERM)
        time.sleep(0.5)  # it asks, and nobody answers
    finally:
        it.server.start()
    last = it.end()
    assert last["ended"]["exitCode"] == 6
    lines = it.output.decode().split()
    assert lines == [*map(str, range(len(lines) - 1)), "stopped"]
    assert it.found() == []


def test_an_engine_that_does_not_come_is_named(remote: Callable[..., Remote], tmp_path: Path) -> None:
    it = remote(engines={"podman": str(tmp_path / "no.sock")}, patience=0.5)
    last = it.run("true")
    assert last["code"] == 125
    assert "systemctl enable --now podman.socket" in last["failed"]


def test_an_ending_that_is_known_is_told_though_the_engine_is_gone(remote: Callable[..., Remote], tmp_path: Path) -> None:
    it = remote(die_at="container.ended")
    assert it.run("sh", "-c", "echo x; exit 3")["code"] == -signal.SIGKILL
    del it.options["die_at"]
    it.options |= {"engines": {"podman": f"{tmp_path}/none.sock"}, "patience": 0.2}
    it.take_up()
    told = it.end()
    assert told["ended"]["exitCode"] == 3
    assert "failed" not in told
    assert told["code"] == -signal.SIGKILL  # by which the runner knows that something may be left


def test_a_full_disk_does_not_stop_the_container(remote: Callable[..., Remote]) -> None:
    it = remote(space=0.3)
    small = it.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        it.log_directory = small
        last = it.run("sh", "-c", "i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done; touch finished")
        kept = it.output
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert last["code"] == 0
    assert (it.directory / "work/finished").exists()
    whole = "".join(f"{i}\n" for i in range(4000)).encode()
    assert whole.startswith(kept)
    assert last["container"]["outputNote"] == f"there was no space for {len(whole) - len(kept)} bytes of its output"
