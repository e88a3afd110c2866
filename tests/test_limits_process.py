"""Limits that a process sets for itself, and those that stand in where no control group can. Groups are switched off, so
that every machine is such a place."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon

from task_runner.errors import StartFailed
from task_runner.lib import limits
from task_runner.lib.process import descendants
from task_runner.machines import base, process
from task_runner.machines.base import Context
from task_runner.machines.walls import Walls
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

SETTINGS = {"cgroups": "off"}
#: root without what raises limits and priorities
HUMBLE = (
    "prlimit", "--nofile=1024:4096", "setpriv", "--bounding-set=-sys_resource,-sys_nice",
    "--inh-caps=-sys_resource,-sys_nice", "--",
)  # fmt: skip
FREE = limits.Freedom(highest={}, lowest_nice=-20, core_pipe=False)


def run(daemon: Daemon, script: str, **more: Any) -> tuple[dict[str, Any], str]:
    task_id = daemon.submit("sh", "-c", script, **more)
    return daemon.wait(task_id), daemon.output(task_id).decode()


def notes_of(task: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {each["limit"]: (each["by"], each["note"]) for each in task["limits"]}


# -- what the command finds


def test_a_command_finds_its_limits(shared: Daemon):
    wanted = {"openFiles": 100, "fileMb": 3, "nice": 5}
    task, output = run(shared, "ulimit -n; ulimit -Hn; ulimit -f; nice", limits=wanted)
    assert output.split() == ["100", "100", str(3 * 2048), "5"]
    assert notes_of(task) == {
        "openFiles": ("rlimit", None), "fileMb": ("rlimit", None), "nice": ("setpriority", None)
    }  # fmt: skip


def test_core_files_have_their_limit(shared: Daemon):
    task, output = run(shared, "ulimit -c", limits={"coreMb": 2})
    assert output.split() == [str(2 * 2048)]
    piped = Path("/proc/sys/kernel/core_pattern").read_text().startswith("|")
    assert notes_of(task)["coreMb"][0] == (None if piped else "rlimit")


@pytest.mark.needs("ionice")
def test_a_share_of_the_disks_becomes_an_io_priority(shared: Daemon):
    task, output = run(shared, "ionice -p $$", limits={"ioWeight": 400})
    assert output.strip() == "best-effort: prio 2"
    by, note = notes_of(task)["ioWeight"]
    assert by == "ioprio"
    assert "priority 2" in str(note)


def test_memory_is_limited_for_each_process(shared: Daemon):
    script = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    task, output = run(shared, script, limits={"memoryMb": 100})
    assert task["outcome"] == "failed"
    assert "memory" in output
    by, note = notes_of(task)["memoryMb"]
    assert by == "rlimit"
    assert "each process by itself" in str(note)
    assert run(shared, script, limits={"memoryMb": 500})[0]["outcome"] == "succeeded"


def test_a_limit_for_files_does_not_cut_the_output(shared: Daemon):
    task, _output = run(
        shared, "head -c 3000000 /dev/zero | tr '\\0' x; dd if=/dev/zero of=big bs=2M count=1 2>/dev/null",
        limits={"fileMb": 1},
    )  # fmt: skip
    assert task["outcome"] == "failed"  # dd was
    assert task["output"]["bytes"] == 3_000_000
    assert os.path.getsize(f"{shared.state.tasks.path}/{task['taskId']}/work/big") == 1 << 20


def test_every_machine_has_the_limits(shared: Daemon, tmp_path: Path):
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    task_id = shared.submit(
        actions=[{"machine": "extract", "parameters": {"path": "a.tar"}}],
        limits={"fileMb": 1},
        files=[{"path": "a.tar", "base64": _tar(tmp_path / "large")}],
    )
    task = shared.wait(task_id)
    assert (task["outcome"], task["signal"]) == ("failed", "SIGXFSZ")


def _tar(path: Path) -> str:
    import base64
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(path, "large")
    return base64.b64encode(data.getvalue()).decode()


def test_what_nobody_enforces_is_said_so(shared: Daemon):
    task, _output = run(shared, "true", limits={"pids": 10, "cpus": 0.5, "swapMb": 0})
    assert task["outcome"] == "succeeded"
    assert {limit: by for limit, (by, _note) in notes_of(task).items()} == {"pids": None, "cpus": None, "swapMb": None}
    assert all(note for _by, note in notes_of(task).values())


def test_a_task_without_limits_tells_of_none(shared: Daemon):
    assert run(shared, "nice; umask")[1].split() == [str(os.nice(0)), "0022"]
    task, output = run(shared, "umask", umask="077")
    assert output.strip() == "0077"
    assert task["limits"] == []


# -- limits that are required


@pytest.mark.parametrize(
    ("limit", "value"), [("pids", 10), ("cpus", 1), ("memoryMb", 100), ("swapMb", 0), ("ioWeight", 50)]
)
def test_a_required_limit_that_cannot_be_enforced_is_refused(shared: Daemon, limit: str, value: float):
    response = shared.post("/v1/tasks", {"command": ["true"], "limits": {limit: value, "required": True}})
    assert response.status_code == 400
    [fault] = response.json()["errors"]
    assert fault["field"] == f"limits.{limit}"
    assert "limits.required" in fault["message"]


def test_required_limits_that_can_be_enforced_are(shared: Daemon):
    wanted = {"openFiles": 64, "fileMb": 1, "nice": 1, "required": True}
    assert run(shared, "ulimit -n", limits=wanted)[1].strip() == "64"


# -- a daemon that may not do everything


@pytest.mark.needs("root", "prlimit", "setpriv")
def test_what_the_daemon_itself_may_not_is_refused_or_told(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon(**SETTINGS)
    daemon.start()
    mark = tmp_path / "ran"
    wanted = {"openFiles": 5000, "nice": -5, "required": True}
    later = daemon.submit(
        "touch", str(mark), limits=wanted, executeAt=time.time() + 3600,
        cleanup=[{"machine": "process", "parameters": {"command": ["touch", str(mark)]}}],
    )  # fmt: skip
    daemon.kill()
    daemon.start(prefix=HUMBLE)
    response = daemon.post("/v1/tasks", {"command": ["true"], "limits": wanted})
    faults = {each["field"]: each["message"] for each in response.json()["errors"]}
    assert set(faults) == {"limits.openFiles", "limits.nice"}
    assert "4096 at most" in faults["limits.openFiles"]
    assert f"down to {os.nice(0)}" in faults["limits.nice"]
    task, output = run(daemon, "ulimit -n; nice", limits={**wanted, "required": False})
    assert output.split() == ["4096", str(os.nice(0))]
    assert {by for by, _note in notes_of(task).values()} == {None}
    # accepted when it could be enforced, and now it cannot
    assert daemon.http.patch(f"/v1/tasks/{later}", json={"executeAt": None}).status_code == 200
    task = daemon.wait(later)
    assert task["outcome"] == "failed"
    assert "openFiles (the daemon may set 4096 at most" in task["error"]
    assert not mark.exists()


@pytest.mark.needs("root")
def test_a_priority_above_the_usual_is_had_where_it_may_be(shared: Daemon):
    assert run(shared, "nice", limits={"nice": -5, "required": True})[1].strip() == "-5"


# -- a wall that cannot be put up


@pytest.fixture
def context(tmp_path: Path) -> Context:
    fd = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    return Context(
        task_id="t", attempt=1, action_index=0, work=str(tmp_path), env=dict(os.environ), stdout=fd, stderr=fd,
        locks=str(tmp_path),
    )  # fmt: skip


def children() -> set[int]:
    """Of this process itself: below them, daemons and their runners come and go."""
    return {each.pid for each in descendants(os.getpid()) if each.ppid == os.getpid()}


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        (Walls(join=("/no/such/cgroup.procs",)), "/no/such/cgroup.procs: No such file"),
        (Walls(join=("/no/such/cgroup.procs",), home=("/dev/null",)), "/no/such/cgroup.procs: No such file"),
        (Walls(rlimits=((resource.RLIMIT_NOFILE, 2**40),)), "openFiles: not allowed"),
        (Walls(io_level=5 << 13), "I/O priority 40960: Invalid argument"),
    ],
)
def test_nothing_runs_with_fewer_walls_than_promised(context: Context, walls: Walls, words: str, tmp_path: Path):
    walled, before = replace(context, walls=walls), children()
    with pytest.raises(StartFailed, match=words):
        process.start({"command": ["touch", "made"]}, walled)
    if not walls.plain:
        with pytest.raises(StartFailed, match=words):
            base.start_forked(lambda *_loaded: lambda *_run: (tmp_path / "made").touch() or 0, None, walled)
    assert children() == before
    assert not (tmp_path / "made").exists()


def test_a_process_is_born_where_its_runner_goes_for_that(context: Context, tmp_path: Path):
    group, home = tmp_path / "group", tmp_path / "home"
    for each in (group, home):
        each.touch()
    pid = process.start({"command": ["true"]}, replace(context, walls=Walls(join=(str(group),), home=(str(home),))))
    assert os.waitpid(pid, 0)[1] == 0
    assert (group.read_text(), home.read_text()) == ("0", "0")


# -- what is decided


def decided(freedom: limits.Freedom = FREE, by_group: tuple[LimitNote, ...] = (), **wanted: Any) -> limits.Plan:
    return limits.plan(TaskLimits(**wanted), by_group, freedom)


def test_what_a_group_enforces_no_process_limits_for_itself():
    note = LimitNote(limit="memoryMb", asked=10.0, by="cgroup v2")
    assert decided(by_group=(note,), memory_mb=10) == limits.Plan(notes=(note,))


def test_core_files_that_go_to_a_program_are_nobodys_to_limit():
    plan = decided(replace(FREE, core_pipe=True), core_mb=0)
    assert plan.notes[0].by is None
    assert "core_pattern" in str(plan.notes[0].note)


def test_without_io_priorities_a_share_of_the_disks_is_not_enforced():
    plan = decided(replace(FREE, io_levels=False), io_weight=10)
    assert (plan.io_level, plan.notes[0].by) == (None, None)


@pytest.mark.parametrize(("weight", "level"), [(100, 4), (1, 7), (50, 5), (200, 3), (10_000, 0), (130, 4)])
def test_levels_of_io_priority(weight: int, level: int):
    assert limits.level_of(weight) == level


@pytest.mark.parametrize(
    ("limit", "by", "enforced"),
    [
        ("memoryMb", "cgroup v1", True), ("memoryMb", "rlimit", False), ("ioWeight", "ioprio", False),
        ("openFiles", "rlimit", True), ("nice", "setpriority", True), ("pids", None, False),
    ],
)  # fmt: skip
def test_a_substitute_is_not_what_was_asked_for(limit: str, by: str | None, enforced: bool):
    assert limits.as_asked(LimitNote(limit=limit, asked=1.0, by=by)) is enforced


def test_every_limit_has_a_word_of_how_it_is_enforced():
    names = {each.limit for each in limits.means([])}
    asked = {"memoryMb", "swapMb", "cpus", "pids", "openFiles", "coreMb", "fileMb", "nice", "ioWeight"}
    assert names == asked
