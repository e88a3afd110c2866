"""Control groups of this machine: every task is in one, limits bite, a stop and a pause are one write, nothing stays.

What is not here (no cgroup that we may divide, no controller) is skipped by name; test_cgroups_uml.py has a kernel of
its own with all of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Daemon, is_frozen, wait_for

from task_runner.cli import check_daemon
from task_runner.kernel import cgroupfiles
from task_runner.kernel.cgroupmounts import Mount, locate, parse_mounts, parse_own
from task_runner.lib import cgroups, group, process
from task_runner.lib.cgroups import Places
from task_runner.lib.group import Group
from task_runner.model.walls import TaskLimits

#: a double fork with nothing of the task's environment: it belongs to nobody whom a scan would find
STRAY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        os.execve("/bin/sleep", ["stray", "300"], {})
    os._exit(0)
os.wait()
time.sleep(300)
"""


def places_of(daemon: Daemon) -> Places:
    """Where its tasks get their groups, as far as they can be seen."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    directory = locate(mounts, parse_own(Path(f"/proc/{daemon.pid}/cgroup").read_text()), "")
    assert directory is not None
    if os.path.basename(directory) == cgroups.HOME:
        directory = os.path.dirname(directory)
    return Places(v2=os.path.join(directory, cgroups.name_of(daemon.state.path)))


@pytest.fixture(scope="module", autouse=True)
def tracked(shared: Daemon) -> None:
    """Skips where a daemon of this user gets no cgroup v2."""
    if not os.path.isdir(str(places_of(shared).v2)):
        means = {each["limit"]: each["note"] for each in shared.http.get("/v1/node").json()["limits"]}
        pytest.skip(f"no cgroup v2 of our own: {means['cpus']}")


@pytest.fixture
def limited(shared: Daemon) -> Callable[[str], None]:
    """Skips where a limit is not enforced by a group."""

    def require(limit: str) -> None:
        means = {each["limit"]: each for each in shared.http.get("/v1/node").json()["limits"]}
        if not str(means[limit]["by"]).startswith("cgroup"):
            pytest.skip(f"{limit} is not enforced here: {means[limit]['note']}")

    return require


def group_of(daemon: Daemon, task_id: str) -> Group:
    found = wait_for(lambda: group.of_attempt(places_of(daemon), task_id, 1), "the task has a group")
    assert isinstance(found, Group)
    return found


def python(program: str, *arguments: str) -> list[str]:
    return ["python3", "-c", program, *arguments]


def stray_of(daemon: Daemon, file: Path) -> tuple[str, int]:
    """A task with a process that nothing but its group knows of."""
    task_id = daemon.submit(*python(STRAY, str(file)))
    pid = int(wait_for(lambda: file.exists() and file.read_text(), "the stray is there"))
    wait_for(lambda: (seen := process.look(pid)) and seen.command == "sleep", "it has cleared its environment")
    wait_for(lambda: pid not in {each.pid for each in daemon.alive(task_id)}, "who started it has ended")
    return task_id, pid


def is_gone(pid: int) -> bool:
    seen = process.look(pid)
    return seen is None or not seen.alive


# -- where


CONTAINER = "31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"
HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw
42 31 0:39 / /home rw - ext4 /dev/sda1 rw"""


def test_all_of_a_long_file_of_the_kernel_is_read():
    """It gives such a file a page at a time."""
    assert cgroupfiles.read("/proc/self/mountinfo") == Path("/proc/self/mountinfo").read_text()


def test_hierarchies_are_found_where_they_are_mounted():
    assert parse_mounts(HYBRID) == [
        Mount("/sys/fs/cgroup/cpu,cpuacct", "/", ("rw", "cpu", "cpuacct")),
        Mount("/sys/fs/cgroup/systemd", "/", ("rw", "name=systemd")),
        Mount("/sys/fs/cgroup/uni fied", "/", ()),
    ]
    assert parse_own("3:cpu,cpuacct:/a b\n1:name=systemd:/x\n0::/c:d\n") == {
        "cpu": "/a b", "cpuacct": "/a b", "name=systemd": "/x", "": "/c:d"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("root", "own", "found"),
    [
        ("/", "/a/b", "a/b"),
        ("/", "/", "."),
        ("/docker/abc", "/docker/abc", "."),  # a container that sees its own part of the tree alone
        ("/docker/abc", "/docker/abc/x", "x"),
        ("/docker/abc", "/docker/abcd", None),
        ("/docker/abc", "/", None),
        ("/../..", "/", None),  # mounted before the cgroup namespace was made: what is between has no name
        ("/", "/../x", None),  # we are outside of our cgroup namespace
    ],
)
def test_the_own_group_is_where_its_mount_shows_it(tmp_path: Path, root: str, own: str, found: str | None):
    for directory in ("a/b", "x", "."):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
        (tmp_path / directory / "cgroup.procs").touch()
    located = locate([Mount(str(tmp_path), root, ())], {"": own}, "")
    assert located == (None if found is None else os.path.normpath(tmp_path / found))


def test_groups_are_found_and_put_away_again(tmp_path: Path):
    places = cgroups.find(cgroups.name_of(str(tmp_path)))
    made = [each for each in (places.v2, *places.v1.values()) if each is not None]
    assert all(map(os.path.isdir, made))
    assert all(not [name for name in os.listdir(each) if name.startswith("trial")] for each in made)
    cgroups.leave(places)
    assert not any(map(os.path.exists, made))


def test_directories_with_their_own_names_are_apart(tmp_path: Path):
    assert cgroups.name_of(str(tmp_path / "a")) != cgroups.name_of(str(tmp_path / "b"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert cgroups.name_of(str(tmp_path / "link")) == cgroups.name_of(str(tmp_path / "a"))


# -- tracking


def test_every_task_has_a_group_that_its_runner_is_not_in(shared: Daemon):
    task_id = shared.submit("sh", "-c", "sleep 600 & sleep 600 & wait")
    wait_for(lambda: len(shared.alive(task_id)) == 3, "the tree has grown")
    shared.wait_state(task_id, "running")  # and its runner, which went inside to start it, is out again
    own = group_of(shared, task_id)
    assert sorted(own.pids()) == sorted(each.pid for each in shared.alive(task_id))
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    task = shared.wait(task_id)
    wait_for(lambda: not os.path.exists(own.directories[0]), "the group is gone")
    assert task["accounting"]["by"].startswith("cgroup v2")
    assert task["accounting"]["cpuSeconds"] is not None


def test_the_group_of_each_attempt_is_its_own(shared: Daemon):
    task_id = shared.submit("sh", "-c", "cat /proc/self/cgroup; exit 1", retry={"count": 1, "delaySeconds": 0})
    assert shared.wait(task_id)["attempt"] == 2
    assert f"/{task_id}-2\n" in shared.output(task_id).decode()


def test_what_a_task_makes_below_its_group_is_cleared_away_with_it(shared: Daemon, tmp_path: Path):
    script = """d=$1; mkdir $d/a $d/a/b; sh -c "echo 0 > $d/a/b/cgroup.procs; exec sleep 600" &
until grep -q . $d/a/b/cgroup.procs; do sleep 0.1; done; echo in; wait"""
    waiting = tmp_path / "go"
    head = f"while [ ! -s {waiting} ]; do sleep 0.1; done; set -- $(cat {waiting}); "
    task_id = shared.submit("sh", "-c", head + script, graceSeconds=0.2)
    own = group_of(shared, task_id)
    waiting.write_text(own.directories[0])
    wait_for(lambda: shared.output(task_id) == b"in\n", "a process is in a group of its own below")
    wait_for(lambda: {each.command for each in own.members()} >= {"sh", "sleep"}, "and is the sleep that it becomes")
    shared.post(f"/v1/tasks/{task_id}/stop")
    assert shared.wait(task_id)["outcome"] == "cancelled"
    wait_for(lambda: not os.path.exists(own.directories[0]), "the group is gone")


def test_groups_can_be_switched_off(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(cgroups="off").start()
    task_id = daemon.submit("cat", "/proc/self/cgroup")
    assert daemon.wait(task_id)["accounting"] is None
    assert task_id not in daemon.output(task_id).decode()
    assert not os.path.exists(str(places_of(daemon).v2))
    means = {each["limit"]: each for each in daemon.http.get("/v1/node").json()["limits"]}
    assert means["cpus"] == {"limit": "cpus", "by": None, "note": "the setting `cgroups` is off"}


def test_a_daemon_that_ends_leaves_no_group_and_one_with_tasks_leaves_theirs(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    task_id = daemon.submit("sleep", "600")
    own, places = group_of(daemon, task_id), places_of(daemon)
    daemon.wait_state(task_id, "running")
    daemon.terminate()
    assert own.populated()
    daemon.start()
    assert daemon.task(task_id)["state"] == "running"
    daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    daemon.wait(task_id)
    daemon.terminate()
    wait_for(lambda: not os.path.exists(str(places.v2)), "nothing is left")


# -- what is left behind


@pytest.mark.parametrize("daemon_dies_too", [False, True])
def test_who_hides_from_every_scan_is_killed_when_the_runner_dies(daemon: Daemon, tmp_path: Path, daemon_dies_too: bool):
    task_id, stray = stray_of(daemon, tmp_path / "pid")
    daemon.wait_state(task_id, "running")
    own, runner = group_of(daemon, task_id), daemon.runner_pid(task_id)
    if daemon_dies_too:
        daemon.kill()
    os.kill(runner, signal.SIGKILL)
    if daemon_dies_too:
        wait_for(lambda: is_gone(runner), "the runner is dead")
        assert not is_gone(stray)
        daemon.restart()
    task = daemon.wait(task_id)
    assert (task["outcome"], task["receipt"]["reason"]) == ("lost", "runner died")
    assert stray in {each["pid"] for each in task["receipt"]["killed"]}
    wait_for(lambda: is_gone(stray), "the stray is dead")
    wait_for(lambda: not os.path.exists(own.directories[0]), "the group is gone")


def test_a_stop_reaches_who_hides(shared: Daemon, tmp_path: Path):
    task_id, stray = stray_of(shared, tmp_path / "pid")
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 30})
    task = shared.wait(task_id)
    assert (task["receipt"]["signalledCount"], task["receipt"]["killedCount"]) == (2, 0)
    assert is_gone(stray)


def test_the_next_daemon_clears_what_nobody_asks_for_and_spares_what_runs(daemon: Daemon, tmp_path: Path):
    over, runs = daemon.submit("true"), daemon.submit("sleep", "600")
    daemon.wait(over)
    daemon.wait_state(runs, "running")
    running, places = group_of(daemon, runs), places_of(daemon)
    daemon.kill()
    empty, full = group.make(places, over, 1), group.make(places, "0123456789abcdef", 1)
    assert empty is not None
    assert full is not None
    sleeper = os.posix_spawn("/bin/sleep", ["sleep", "300"], {})
    Path(full.join[0]).write_text(str(sleeper))
    daemon.start()
    assert os.waitstatus_to_exitcode(os.waitpid(sleeper, 0)[1]) == -signal.SIGKILL
    for each in (empty, full):
        wait_for(lambda each=each: not os.path.exists(each.directories[0]), "the stray group is gone")
    assert running.populated()
    assert daemon.task(runs)["state"] == "running"


# -- pause


def frozen_task(daemon: Daemon, script: str, *, before: str = ":", stopped: bool = False, **more: Any) -> str:
    """``before``: what it has done by then. ``stopped``: one of its processes is to have stopped by itself before."""
    task_id = daemon.submit("sh", "-c", f"{before}; echo up; {script}", **more)
    wait_for(lambda: daemon.output(task_id) == b"up\n", "it runs")
    wait_for(lambda: not stopped or any(each.state == "T" for each in daemon.alive(task_id)), "one has stopped")
    daemon.wait_state(task_id, "running")
    daemon.post(f"/v1/tasks/{task_id}/pause")
    daemon.wait_state(task_id, "paused")
    wait_for(lambda: group_of(daemon, task_id).frozen, "all of it is frozen")
    return task_id


def test_a_pause_freezes_and_explain_says_so(shared: Daemon):
    task_id = frozen_task(shared, "sleep 600; true")
    told = shared.http.get(f"/v1/tasks/{task_id}/explain").json()
    commands = [each for each in told["processes"] if not each["runner"]]
    assert {each["stateWords"] for each in commands} == {"is frozen"}
    assert any("is frozen, with everything of the task" in line for line in told["summary"])
    shared.post(f"/v1/tasks/{task_id}/resume")
    shared.wait_state(task_id, "running")
    wait_for(lambda: not group_of(shared, task_id).frozen, "it goes on")
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    shared.wait(task_id)


def test_a_stop_of_a_frozen_task_is_polite(shared: Daemon):
    task_id = frozen_task(shared, "while :; do sleep 0.1; done", before="trap 'exit 7' TERM", graceSeconds=30)
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["receipt"]["killedCount"]) == ("cancelled", 7, 0)


def test_a_frozen_task_that_is_deaf_is_killed(shared: Daemon):
    task_id = frozen_task(shared, "while :; do sleep 600; done", before="trap '' TERM")
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0.1})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"], task["receipt"]["survivors"]) == ("cancelled", "SIGKILL", [])


def pending_signals(pid: int) -> int:
    """Those that wait for the process, as a mask. SIGCHLD may be among them: its sleep ended as it froze."""
    return int(Path(f"/proc/{pid}/status").read_text().split("ShdPnd:")[1].split()[0], 16)


def test_a_signal_to_a_frozen_task_comes_when_it_goes_on(shared: Daemon):
    task_id = frozen_task(shared, "while :; do sleep 0.1; done", before="trap 'echo got it; exit 3' USR1")
    shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGUSR1"})
    pid = shared.task(task_id)["actions"][0]["process"]["pid"]
    wait_for(lambda: pending_signals(pid) & 1 << (signal.SIGUSR1 - 1), "the signal is pending")
    assert shared.output(task_id) == b"up\n"
    shared.post(f"/v1/tasks/{task_id}/resume")
    assert shared.wait(task_id)["exitCode"] == 3
    assert shared.output(task_id) == b"up\ngot it\n"


def test_a_resume_wakes_nobody_who_had_stopped_by_himself(shared: Daemon):
    task_id = frozen_task(shared, "sh -c 'kill -STOP $$; echo woken' & while :; do sleep 0.1; done", stopped=True)
    stopped = next(each for each in shared.alive(task_id) if each.state == "T")
    shared.post(f"/v1/tasks/{task_id}/resume")
    shared.wait_state(task_id, "running")
    wait_for(lambda: not is_frozen(stopped.pid), "it is not frozen any more")
    seen = process.look(stopped.pid)
    assert seen is not None
    assert seen.state == "T"
    shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    shared.wait(task_id)


# -- limits


HOG = "b = bytearray(300 << 20); print('had it')"


def test_a_task_that_takes_too_much_memory_is_killed_and_says_why(shared: Daemon, limited: Callable[[str], None]):
    limited("memoryMb")
    task_id = shared.submit(*python(HOG), limits={"memoryMb": 40, "swapMb": 0})
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"], task["oomKilled"]) == ("failed", "SIGKILL", True)
    assert task["actions"][0]["oomKilled"] is True
    assert task["error"] in (
        "out of memory: the kernel killed 1 of its processes (40 MiB allowed)",
        "out of memory: the kernel killed all of its processes (40 MiB allowed)",
    )
    used = task["accounting"]
    assert used["oomKills"] >= 1
    assert 30 << 20 < used["memoryPeakBytes"] <= 40 << 20
    assert [each["by"][:6] for each in task["limits"] if each["limit"] == "memoryMb"] == ["cgroup"]


def test_memory_within_the_limit_is_had(shared: Daemon, limited: Callable[[str], None]):
    limited("memoryMb")
    task = shared.wait(shared.submit(*python("b = bytearray(20 << 20)"), limits={"memoryMb": 100}))
    assert (task["outcome"], task["oomKilled"], task["error"]) == ("succeeded", False, None)
    assert 20 << 20 < task["accounting"]["memoryPeakBytes"] < 100 << 20


def test_an_action_that_bears_the_loss_of_a_process_succeeds_and_the_loss_is_told(
    shared: Daemon, limited: Callable[[str], None]
):
    limited("memoryMb")
    if places_of(shared).v2 and Path(f"{places_of(shared).v2}/memory.oom.group").exists():
        pytest.skip("here the kernel kills all of the task at once")
    script = 'python3 -c "$0" || echo it is gone'
    task = shared.wait(shared.submit("sh", "-c", script, HOG, limits={"memoryMb": 40, "swapMb": 0}))
    assert (task["outcome"], task["oomKilled"], task["error"]) == ("succeeded", True, None)


def test_a_task_cannot_have_more_processes_than_allowed(shared: Daemon, limited: Callable[[str], None]):
    limited("pids")
    program = """
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError as error:
    print(n, error.strerror)
os.kill(0, 9)
"""
    task_id = shared.submit(*python(program), limits={"pids": 12})
    task = shared.wait(task_id)
    assert shared.output(task_id) in (b"", b"11 Resource temporarily unavailable\n")
    assert task["accounting"]["pidsRefused"] >= 1
    assert task["accounting"]["pidsPeak"] in (12, None)


def test_a_task_cannot_use_more_processor_time_than_allowed(shared: Daemon, limited: Callable[[str], None]):
    limited("cpus")
    # so little that a machine that is busy with others gives it more
    program = "import time\nwhile time.process_time() < 0.15: pass"
    task = shared.wait(shared.submit(*python(program), limits={"cpus": 0.1}))
    assert task["outcome"] == "succeeded"
    assert task["accounting"]["throttledCount"] >= 1
    assert task["accounting"]["throttledSeconds"] > 0


def test_a_machine_in_python_is_limited_as_well(shared: Daemon, limited: Callable[[str], None]):
    limited("pids")
    task_id = shared.submit(machine="echo", parameters="echo x", limits={"pids": 5})
    assert shared.wait(task_id)["accounting"]["pidsPeak"] in (1, None)


def test_nothing_of_the_limits_stays(shared: Daemon, limited: Callable[[str], None]):
    limited("pids")
    task_id = shared.submit("true", limits={"pids": 10, "memoryMb": 50, "cpus": 1})
    shared.wait(task_id)
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    own = parse_own(Path(f"/proc/{shared.pid}/cgroup").read_text())
    tops = [locate(mounts, own, controller) for controller in own]
    name = cgroups.name_of(shared.state.path)
    wait_for(
        lambda: not [top for top in tops if top and os.path.exists(f"{top}/{name}/{task_id}-1")],
        "every group of it is gone",
    )


def test_what_cannot_be_limited_is_said(tmp_path: Path):
    places = cgroups.find(cgroups.name_of(str(tmp_path)))
    own = group.make(Places(v2=places.v2, v2_home=places.v2_home, why="of a test"), "task", 1)
    assert own is not None
    try:
        notes = own.limit(TaskLimits(memory_mb=10, swap_mb=1, cpus=1.0, pids=3, io_weight=7))
        assert {(note.by, note.note) for note in notes} == {(None, "of a test")}
        assert own.memory_mb is None
        assert own.oom_kills() is None
    finally:
        own.remove()
        cgroups.leave(places)


# -- the runner is spared


def test_the_kernel_would_rather_kill_a_command_than_its_runner(shared: Daemon):
    scores = []
    for limits in (None, {"nice": 1}):  # started in two ways
        task_id = shared.submit("sh", "-c", "cat /proc/self/oom_score_adj; sleep 600", limits=limits)
        score = int(wait_for(lambda task_id=task_id: shared.output(task_id), "it has said it"))
        shared.wait_state(task_id, "running")
        scores.append((int(Path(f"/proc/{shared.runner_pid(task_id)}/oom_score_adj").read_text()), score))
        shared.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
    for runner, command in scores:
        assert command - runner >= 100


# -- what is told


def test_the_doctor_says_which_limits_are_enforced():
    results = list(
        check_daemon.limit_results(
            [
                {"limit": "cpus", "by": "cgroup v2", "note": None},
                {"limit": "ioWeight", "by": None, "note": "no disk heeds it"},
            ]
        )
    )
    assert [(each.name, each.verdict, each.found) for each in results] == [
        ("limit cpus", "ok", "by cgroup v2"),
        ("limit ioWeight", "info", "not enforced (no disk heeds it)"),
    ]


def test_the_node_tells_of_every_limit(shared: Daemon):
    means = shared.http.get("/v1/node").json()["limits"]
    assert [each["limit"] for each in means] == [
        "memoryMb", "swapMb", "cpus", "pids", "ioWeight", "openFiles", "coreMb", "fileMb", "nice"
    ]  # fmt: skip
    assert all(each["by"] or each["note"] for each in means)


def test_the_unit_gives_back_what_it_says():
    unit = (ROOT / "systemd/task-runner.service").read_text()
    assert f"Environment={cgroups.RELEASES}=1" in unit
    assert "ExecStopPost=-/opt/task-runner/bin/task-runner release-cgroups" in unit
