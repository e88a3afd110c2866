"""A full disk loses no ending and stops no command (promises 6, 9 and 10). The state directory is a small tmpfs."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Daemon, wait_for

pytestmark = pytest.mark.needs("root")

MEGABYTES = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a few megabytes; unmounted when the test is over, whatever is still on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def daemon_on_small_disk(small_disk: Path, make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon(small_disk / "state").start()


def fill(disk: Path) -> Path:
    """Use up every free block."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return filler


def is_full(daemon: Daemon) -> bool:
    return not daemon.http.get("/v1/node").json()["storage"]["ok"]


def submit_until_refused(daemon: Daemon) -> tuple[list[str], dict]:
    """Submit until the store takes nothing more; returns what was accepted, and the refusal."""
    accepted = []
    for _ in range(3000):
        response = daemon.post("/v1/tasks", {"command": ["true"], "metadata": {"x": "y" * 2000}})
        if response.status_code != 201:
            return accepted, {**response.json(), "code": response.status_code}
        accepted.append(response.json()["taskId"])
    pytest.fail("the store took 3000 tasks on a full disk")


def refuse(daemon: Daemon) -> tuple[list[str], dict]:
    """The same, until the daemon says of itself that it takes no tasks: what it tries itself is small, and may find room
    just after a large one was refused."""

    def refused() -> tuple[list[str], dict] | None:
        told = submit_until_refused(daemon)
        return told if daemon.http.get("/ready").status_code == 503 else None

    return wait_for(refused, "the store takes nothing more")


def test_commands_run_on_and_endings_are_kept(daemon_on_small_disk, small_disk, tmp_path):
    daemon = daemon_on_small_disk
    go, written = tmp_path / "go", tmp_path / "written"
    wait_outside = f"while [ ! -e {go} ]; do sleep 0.1; done"
    quiet = daemon.submit(shell=f"{wait_outside}; exit 5")
    loud = daemon.submit(shell=f"{wait_outside}; head -c 4000000 /dev/zero; echo $? > {written}; exit 6")
    stopped = daemon.submit(shell="trap 'exit 9' TERM; while :; do sleep 0.1; done")
    for task_id in (quiet, loud, stopped):
        daemon.wait_state(task_id, "running")

    filler = fill(small_disk)
    accepted, refusal = refuse(daemon)
    assert refusal["code"] == 507
    assert "full" in refusal["detail"]
    fill(small_disk)

    # a stop works, with the command's own answer to it
    daemon.post(f"/v1/tasks/{stopped}/stop")
    ended = daemon.wait(stopped)
    assert (ended["outcome"], ended["exitCode"], ended["receipt"]["reason"]) == ("cancelled", 9, "stop")
    # commands run on; one that writes learns itself that there is no space
    go.touch()
    assert (daemon.wait(quiet)["outcome"], daemon.wait(quiet)["exitCode"]) == ("failed", 5)
    assert daemon.wait(loud)["exitCode"] == 6
    assert written.read_text() == "1\n"

    # what was said stays, through SIGKILL, before and after there is space again
    daemon.kill()
    filler.unlink()
    (small_disk / "filler").unlink(missing_ok=True)
    daemon.restart()
    wait_for(lambda: not is_full(daemon), "the store takes changes again")
    assert daemon.task(stopped)["outcome"] == "cancelled"
    assert daemon.task(quiet)["exitCode"] == 5
    assert daemon.task(loud)["exitCode"] == 6
    for task_id in accepted:
        assert daemon.wait(task_id)["outcome"] == "succeeded"
    assert daemon.wait(daemon.submit("true"))["outcome"] == "succeeded"


def test_a_daemon_that_never_stops_stores_later_what_the_disk_refused(daemon_on_small_disk, small_disk, tmp_path):
    daemon = daemon_on_small_disk
    go = tmp_path / "go"
    task_id = daemon.submit(shell=f"while [ ! -e {go} ]; do sleep 0.1; done; exit 4")
    daemon.wait_state(task_id, "running")
    filler = fill(small_disk)
    submit_until_refused(daemon)
    fill(small_disk)
    go.touch()
    assert daemon.wait(task_id)["exitCode"] == 4
    filler.unlink()
    wait_for(lambda: not is_full(daemon), "the store takes changes again")
    daemon.restart()
    assert daemon.task(task_id)["exitCode"] == 4


def restart_on_full_disk(daemon: Daemon) -> None:
    """It serves and has examined everything, and is not ready in that it takes no tasks."""
    daemon.kill()
    daemon.start(wait=False)

    def serves() -> bool:
        try:
            return bool(daemon.http.get("/v1/node").json()["ready"])
        except httpx.TransportError:
            return False

    wait_for(serves, f"the daemon serves; its log: {daemon.log}")


def test_a_daemon_starts_on_a_full_disk_and_knows_its_tasks(daemon_on_small_disk, small_disk, tmp_path):
    daemon = daemon_on_small_disk
    daemon.log = tmp_path / "log"
    go = tmp_path / "go"
    over = daemon.submit(shell="exit 3")
    daemon.wait(over)
    actions = [{"machine": "process", "name": "n" * 200, "parameters": {"command": ["true"]}} for _ in range(98)]
    wait_outside = {"machine": "process", "parameters": {"shell": f"while [ ! -e {go} ]; do sleep 0.1; done"}}
    last = {"machine": "process", "parameters": {"shell": "exit 8"}}
    long = daemon.submit(actions=[wait_outside, *actions, last])
    daemon.wait_state(long, "running")
    filler = fill(small_disk)
    submit_until_refused(daemon)
    fill(small_disk)
    go.touch()
    restart_on_full_disk(daemon)
    # a hundred actions have ended while there was no space and no daemon
    ended = daemon.wait(long)
    assert (ended["outcome"], ended["exitCode"], ended["damage"]) == ("failed", 8, None)
    assert [action["exitCode"] for action in ended["actions"]] == [0] * 99 + [8]
    assert daemon.task(over)["exitCode"] == 3
    restart_on_full_disk(daemon)
    assert daemon.wait(long)["exitCode"] == 8
    filler.unlink()
    wait_for(lambda: not is_full(daemon), "the store takes changes again")
    daemon.restart()
    assert (daemon.task(long)["finishedAt"], daemon.task(long)["exitCode"]) == (ended["finishedAt"], 8)


def test_the_daemon_finds_by_itself_that_there_is_space_again(daemon_on_small_disk, small_disk):
    daemon = daemon_on_small_disk
    filler = fill(small_disk)
    daemon.post("/v1/node/drain")  # so that nothing is written but by the daemon itself
    refuse(daemon)
    filler.unlink()
    wait_for(lambda: daemon.http.get("/ready").status_code == 200, "it takes tasks again")


def test_deleting_frees_space_on_a_full_disk(daemon_on_small_disk, small_disk):
    daemon = daemon_on_small_disk
    big = daemon.submit("head", "-c", "2000000", "/dev/zero")
    daemon.wait(big)
    fill(small_disk)
    submit_until_refused(daemon)
    assert daemon.http.delete(f"/v1/tasks/{big}").status_code == 200
    wait_for(lambda: not os.path.exists(daemon.state_dir / "tasks" / big), "its files are gone")
    wait_for(lambda: daemon.post("/v1/tasks", {"command": ["true"]}).status_code == 201, "there is space again")
    wait_for(lambda: daemon.http.get(f"/v1/tasks/{big}").status_code == 404, "and so is its row")


def test_a_task_that_finds_no_space_waits_and_says_why(daemon_on_small_disk, small_disk):
    daemon = daemon_on_small_disk
    daemon.post("/v1/node/drain")
    task_id = daemon.submit("true")
    filler = fill(small_disk)
    daemon.post("/v1/node/undrain")
    wait_for(lambda: "No space left" in (daemon.task(task_id)["pendingReason"] or ""), "it says what it waits for")
    filler.unlink()
    assert daemon.wait(task_id)["outcome"] == "succeeded"


def test_a_sign_out_that_cannot_be_stored_is_not_called_done(daemon_on_small_disk, small_disk):
    """Who is told that he is signed out stays so, whatever becomes of the daemon; who may come back is told that."""
    daemon = daemon_on_small_disk
    own = {"Origin": daemon.url, "Sec-Fetch-Site": "same-origin"}

    def ask(cookie: str, method: str = "GET", path: str = "/ui/session") -> httpx.Response:
        return httpx.request(method, daemon.url + path, headers={**own, "Cookie": cookie}, timeout=60, verify=False)

    def login() -> str:
        answer = httpx.post(f"{daemon.url}/ui/login", json={"token": daemon.token}, headers=own, timeout=60, verify=False)
        assert answer.status_code == 200
        return str(answer.headers["set-cookie"].partition(";")[0])

    cookies = [login() for _ in range(60)]
    kept = cookies.pop()
    daemon.post("/v1/node/drain")  # a task whose start finds no space gives back what it had, and there would be room
    filler = fill(small_disk)
    submit_until_refused(daemon)
    fill(small_disk)
    done: list[str] = []
    while (answer := ask(cookies[-1], "POST", "/ui/logout")).status_code == 204:  # there may be room for a few
        done.append(cookies.pop())
    refused = cookies.pop()
    assert answer.status_code == 507, answer.text
    assert "signed out, but that could not be stored" in answer.json()["detail"]
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert ask(refused).status_code == 401  # for this daemon it is over
    assert ask(refused, "POST", "/ui/logout").status_code == 507  # and still not stored
    restart_on_full_disk(daemon)
    assert {ask(each).status_code for each in done} <= {401}
    assert ask(kept).status_code == 200
    assert ask(refused).status_code == 200  # this is what was told

    # it is not lost either: where there is space before a crash, it is as any other
    assert ask(refused, "POST", "/ui/logout").status_code == 507
    filler.unlink()
    wait_for(lambda: not is_full(daemon), "the store takes changes again")
    assert ask(refused, "POST", "/ui/logout").status_code == 204
    daemon.restart()
    assert (ask(refused).status_code, ask(kept).status_code) == (401, 200)
