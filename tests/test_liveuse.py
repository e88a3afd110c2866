"""What running tasks use now: seen by anybody who asks, of nobody else's processes, and read by nobody who does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import KINDS, client_of
from conftest import Daemon, wait_for
from engines import PodmanServer
from images import BUSYBOX_IMAGE
from test_events import UNTIL_GO, listening
from test_service import in_world

from task_runner.api import events as events_module
from task_runner.api.liveuse import UseEvents
from task_runner.api.streams import Streams
from task_runner.client import calls
from task_runner.engines import cgroupuse
from task_runner.environment.groups import Groups
from task_runner.environment.measuring import Meter, elsewhere_before
from task_runner.kernel import cgroupmounts
from task_runner.lib import process, proctable
from task_runner.lib.outputfilter import NAME as FILTER
from task_runner.lib.process import Process
from task_runner.lib.proctable import Sums, Table, add_up
from task_runner.lib.statedir import StateDirectory
from task_runner.model.state import State
from task_runner.model.status import Accounting, ActionStatus, ContainerNote, Heartbeat, Identity, Status

MIB = 1 << 20
#: holds 50 MiB, and leaves a grandchild in a session of its own that holds 30 MiB and burns time until it is told
BURNS = f"""
import os, time
held = os.urandom({50 * MIB})
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    more = os.urandom({30 * MIB})
    open("new", "w").write(str(os.getpid()))
    os.rename("new", "grandchild")
    while not os.path.exists("go"):
        sum(range(100000))
    os._exit(0)
os.wait()
while not os.path.exists("go"):
    time.sleep(0.05)
"""


# -- processes to sums


def row(pid: int, ppid: int, start: int = 0, *, ticks: int = 0, child: int = 0, pages: int = 1, **more: Any) -> Process:
    return Process(pid, ppid=ppid, start_time=start or pid, ticks=ticks, child_ticks=child, pages=pages, **{"command": "x", "state": "S", **more})


def below(table: Table, root: Process) -> list[int]:
    return sorted(each.pid for each in table.below(root))


def test_a_line_of_proc_is_read_whatever_the_process_is_called():
    fields = "S 4 5 5 0 -1 4194560 10 20 0 0 7 8 30 40 20 0 1 0 999 1000000 321 18446744073709551615"
    seen = process.parse(9, f"9 (a) S 1 (b)) {fields} 0 0\n".encode())
    assert seen == Process(9, "a) S 1 (b)", "S", 4, 999, 15, 70, 321)
    assert process.parse(9, b"") is None and process.parse(9, b"9 (a) S 1") is None
    me = proctable.read().rows[os.getpid()]
    looked = process.look(os.getpid())
    assert looked is not None and (me.ppid, me.start_time) == (looked.ppid, looked.start_time) and me.pages > 0


def test_everything_below_a_runner_is_its_tasks_and_nothing_else():
    one, two = row(10, 1), row(20, 1)
    table = Table([one, two, row(11, 10), row(12, 11), row(13, 12), row(21, 20), row(30, 1)])
    assert below(table, one) == [11, 12, 13]
    assert below(table, two) == [21]


def test_a_pid_that_was_used_again_is_nobodys_runner_and_nobodys_parent():
    table = Table([row(10, 1, 500), row(11, 10, 400), row(12, 10, 500)])
    assert table.find(10, 499) is None and table.find(99, 1) is None
    runner = table.find(10, 500)
    assert runner is not None and below(table, runner) == [12]
    assert Table([row(10, 1, 500, state="Z")]).find(10, 500) is None


def test_the_filter_of_the_output_is_none_of_the_task_but_only_as_a_child_of_the_runner():
    runner = row(10, 1)
    table = Table([runner, row(11, 10, command=FILTER), row(12, 10), row(13, 12, command=FILTER)])
    assert below(table, runner) == [12, 13]


def test_sums_count_who_was_waited_for_and_no_zombie_as_a_process():
    rows = [row(1, 0, ticks=5, child=7, pages=3), row(2, 1, ticks=1, pages=0, state="Z")]
    assert add_up(rows) == Sums(13, 3, 1)


def test_a_container_of_which_it_is_not_known_makes_the_sum_unknown():
    note = ContainerNote(engine="podman", name="n", id="c" * 64, image="i", stage="ended")
    ran = ActionStatus(index=0, machine="container", container=note)
    counted = replace(ran, container=replace(note, accounting=Accounting(by="cgroup v2", cpu_seconds=2.5)))
    status = status_of(identity(os.getpid()))
    now = ActionStatus(index=1, machine="process")
    assert elsewhere_before(replace(status, actions=[ran, now], current_action_idx=1)) is None
    assert elsewhere_before(replace(status, actions=[counted, now], current_action_idx=1)) == 2.5
    assert elsewhere_before(replace(status, actions=[ran, now], current_action_idx=0)) == 0.0


@pytest.mark.parametrize(
    ("path", "up_to"),
    [
        ("/machine.slice/libpod-ID.scope/container", "/machine.slice/libpod-ID.scope"),
        ("/kubepods/burstable/podX/ID", "/kubepods/burstable/podX/ID"),
        ("/system.slice/docker-ID.scope", "/system.slice/docker-ID.scope"),
        ("/somebody/else", None),
    ],
)
def test_the_group_of_a_container_is_the_one_with_its_id(path: str, up_to: str | None):
    assert cgroupuse._up_to(path, "ID") == up_to


# -- who is measured


def identity(pid: int, **more: Any) -> Identity:
    return replace(process.identify(pid), **more)


def status_of(runner: Identity) -> Status:
    pulse = Heartbeat(at="2026-01-01T00:00:00.000Z", monotonic=1.0)
    return Status(task_id="a" * 16, runner=runner, state=State.RUNNING, heartbeat=pulse)


@pytest.fixture
def meter(tmp_path) -> Meter:
    return Meter(Groups(StateDirectory(str(tmp_path)), wanted=False))


@pytest.fixture
def parent() -> Iterator[int]:
    """A process with one child."""
    code = "import subprocess; subprocess.run(['sleep', '120'])"
    started = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    wait_for(lambda: process.descendants(started.pid), "it has a child")
    yield started.pid
    os.killpg(started.pid, 9)
    started.wait()


def test_a_runner_is_known_by_boot_pid_and_start_together(meter: Meter, parent: int):
    true = identity(parent)
    assert meter.measure([status_of(true)])["a" * 16].processes == 1
    for changed in ({"start_time": true.start_time + 1}, {"boot_id": "other"}, {"pid": 2**22}):
        assert meter.measure([status_of(replace(true, **changed))]) == {}


def test_of_a_container_that_is_not_to_be_seen_nothing_is_known(meter: Meter, parent: int):
    note = ContainerNote(engine="podman", name="n", id="c" * 64, image="i", stage="running")
    for container in (note, None):
        action = ActionStatus(index=0, machine="container", state="running", container=container)
        status = replace(status_of(identity(parent)), actions=[action], current_action_idx=0)
        use = meter.measure([status])["a" * 16]
        assert (use.cpu_seconds, use.rss_bytes, use.processes) == (None, None, None)


@in_world(max_running=2)
async def test_a_task_without_a_runner_is_told_of_with_nothing_known(made):
    lost, kept = await made.submit("sleep"), await made.submit("sleep")
    await made.until(lambda: made.state(lost) is State.RUNNING and made.state(kept) is State.RUNNING)
    made.environment._attempts[(lost, 1)].alive = False  # and the daemon has not heard of that
    look = await made.service.use.look()
    assert look.tasks[lost] == (None, None, None, None)
    assert look.tasks[kept] == (0.0, 0, 1, None)


@in_world()
async def test_one_look_serves_all_who_ask_within_a_second_and_nobody_asks_none(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    service, measured = made.service.use, []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            measured.extend([name] * (name == "measure"))
            return getattr(made.environment, name)

    service._environment = Counting()
    looks = await asyncio.gather(*(service.look() for _ in range(20)))
    assert len(set(map(id, looks))) == len(measured) == 1
    hung_up = asyncio.ensure_future(service.look())
    made.clock.boot += 0.9
    assert await service.look() is looks[0] and await hung_up is looks[0]
    made.clock.boot += 0.2
    gone, stays = asyncio.ensure_future(service.look()), asyncio.ensure_future(service.look())
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).monotonic > looks[0].monotonic and len(measured) == 2


@in_world()
async def test_the_comment_that_keeps_a_stream_alive_comes_though_use_is_told(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    use = UseEvents(made.service.use, 1, None)
    before, events_module.KEEP_ALIVE = events_module.KEEP_ALIVE, 0.05
    try:
        stream = events_module._stream(made.service, Streams(1), 10**6, None, use)
        parts = [await anext(stream) for _ in range(4)]
        await stream.aclose()
    finally:
        events_module.KEEP_ALIVE = before
    assert parts[1].startswith(b"event: use\ndata: ") and parts[2:] == [b": alive\n\n"] * 2


@in_world()
async def test_every_look_is_told_once_with_its_time_also_where_nothing_has_changed(made):
    task_id = await made.submit("sleep")
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    use, told = UseEvents(made.service.use, 1, None), list[Any]()
    for seconds in (0.0, 0.5, 1.0):  # the second is within what the first look is believed for
        made.clock.boot += seconds
        told.append(await use.next())
    assert told[1] is None
    first, third = (json.loads(each.split(b"data: ")[1]) for each in (told[0], told[2]))
    assert first["tasks"] == {task_id: [0.0, 0, 1, None]} and third["tasks"] == {}
    assert third["monotonicSeconds"] - first["monotonicSeconds"] == pytest.approx(1.5)


# -- a daemon


@pytest.fixture(params=["auto", "off"])
def burning(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon]) -> tuple[Daemon, str]:
    """A daemon, with control groups where this machine has them and without; and a task that burns."""
    daemon = make_daemon(cgroups=request.param).start()
    task_id = daemon.submit(sys.executable, "-S", "-c", BURNS)
    wait_for((daemon.work(task_id) / "grandchild").exists, "the grandchild is there")
    return daemon, task_id


def uses(daemon: Daemon, *task_ids: str) -> dict[str, dict[str, Any]]:
    response = daemon.http.get("/v1/node/tasks", params=[("task", each) for each in task_ids])
    assert response.status_code == 200, response.text
    return {each["taskId"]: each for each in response.json()["tasks"]}


def test_figures_rise_and_have_the_grandchild_in_them_also_with_the_next_daemon(burning: tuple[Daemon, str]):
    daemon, task_id = burning
    grandchild = int((daemon.work(task_id) / "grandchild").read_text())

    def burnt(more_than: float) -> dict[str, Any] | None:
        use = uses(daemon).get(task_id)
        return use if use and use["cpuSeconds"] is not None and use["cpuSeconds"] > more_than else None

    # the one between the two may not have got to its end yet
    first = wait_for(lambda: (use := burnt(0.2)) and use["processes"] == 2 and use, "it has used time, and is two processes")
    assert 80 * MIB < first["rssBytes"] < 200 * MIB
    own = process.look(grandchild)
    assert own is not None and first["cpuSeconds"] < own.ticks / proctable.TICKS + 30
    second = wait_for(lambda: burnt(first["cpuSeconds"] + 0.2), "it has used more")
    daemon.restart()
    third = wait_for(lambda: burnt(second["cpuSeconds"]), "the next daemon sees more")
    assert third["processes"] == 2 and third["rssBytes"] > 80 * MIB
    (daemon.work(task_id) / "go").touch()
    daemon.wait(task_id)
    assert uses(daemon) == {}


@pytest.mark.needs("root")
def test_who_is_in_a_tasks_group_and_below_another_process_is_its_own(daemon: Daemon, parent: int):
    task_id = daemon.submit("sleep", "600")
    daemon.wait_state(task_id, "running")
    child = wait_for(lambda: process.descendants(daemon.runner_pid(task_id)), "it has a process")[0]
    own = cgroupmounts.parse_own(Path(f"/proc/{child.pid}/cgroup").read_text())
    group = cgroupmounts.locate(cgroupmounts.parse_mounts(Path("/proc/self/mountinfo").read_text()), own, "")
    if group is None or not group.endswith(f"/{task_id}-1"):
        pytest.skip("tasks get no cgroup of v2 here")
    wait_for(lambda: uses(daemon, task_id)[task_id]["processes"] == 1, "its one process is seen")
    Path(group, "cgroup.procs").write_text(str(parent))
    wait_for(lambda: uses(daemon, task_id)[task_id]["processes"] == 2, "and who joined it")
    home = cgroupmounts.own_v2()
    Path(str(home), "cgroup.procs").write_text(str(parent))
    wait_for(lambda: uses(daemon, task_id)[task_id]["processes"] == 1, "and has left it")


def test_what_was_asked_for_is_told_and_what_does_not_run_is_left_out(shared: Daemon):
    one, two = (shared.submit("sh", "-c", f"echo 12345; {UNTIL_GO}") for _ in range(2))
    apart = shared.submit("sh", "-c", f"echo 1; echo 22 >&2; {UNTIL_GO}", outputMode="separate", outputTimestamps=False)
    stamped = shared.submit("sh", "-c", f"echo x; exec {sys.executable} -S -c 'import time; time.sleep(100)'", outputTimestamps=True)
    later = shared.submit("true", executeAt=4e9)
    for each in (one, two, apart, stamped):
        shared.wait_state(each, "running")

    def written(told: dict[str, dict[str, Any]]) -> list[int | None]:
        return [each["outputBytes"] for each in told.values()]

    told = wait_for(lambda: written(u := uses(shared, one, apart)) == [6, 5] and u, "both")
    assert list(told) == [one, apart]
    wait_for(lambda: set(uses(shared)) >= {one, two, apart, stamped}, "all are told of")
    assert later not in uses(shared) and uses(shared, later, "f" * 16) == {}
    wait_for(lambda: uses(shared)[stamped]["processes"] == 1, "its filter is not counted")
    shared.post(f"/v1/tasks/{one}/stop?wait=60")
    assert one not in uses(shared) and uses(shared, one) == {}
    for each in (two, apart, stamped, later):
        shared.post(f"/v1/tasks/{each}/stop?wait=60")


def test_what_is_no_id_and_no_number_of_seconds_is_refused(shared: Daemon):
    for query in ("task=x", f"task={'a' * 16}&task=", "task=" + "g" * 16):
        refused = shared.http.get(f"/v1/node/tasks?{query}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "task"), query
    for seconds in ("0", "61", "1.5", "x", ""):
        refused = shared.http.get(f"/v1/events?use={seconds}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "use"), seconds


def test_it_takes_the_scope_read(shared: Daemon):
    for scope, status in (("submit", 403), ("read", 200)):
        made = shared.post("/v1/tokens", {"name": f"use-{scope}", "scopes": [scope]}).json()["token"]
        headers = {"Authorization": f"Bearer {made}"}
        assert shared.http.get("/v1/node/tasks", headers=headers).status_code == status


def test_a_stream_that_asks_is_told_of_use_without_ids_and_only_what_has_changed(shared: Daemon):
    still = shared.submit("sleep", "600")
    shared.wait_state(still, "running")
    with listening(shared, "/v1/events?use=1") as told:
        first = next(each for each in told if each["event"] == "use" and each["data"]["tasks"])
        assert "id" not in first and len(first["data"]["tasks"][still]) == 4
        busy = shared.submit("sh", "-c", "while [ ! -e go ]; do echo x; sleep 0.1; done")
        found = [first]
        for event in told:
            found.append(event)
            if sum(busy in each["data"]["tasks"] for each in found if each["event"] == "use") >= 3:
                break
        (shared.work(busy) / "go").touch()
        ended = next(each for each in told if each["event"] == "state" and each["data"]["outcome"])
    assert ended["data"]["taskId"] == busy
    for task_id in (still, busy):
        figures = [each["data"]["tasks"].get(task_id) for each in found if each["event"] == "use"]
        known = [each for each in figures if each is not None]
        assert known and all(earlier != later for earlier, later in itertools.pairwise(known))
    numbers = [int(each["id"]) for each in found if each["event"] == "state"]
    assert numbers and numbers == sorted(set(numbers))
    shared.post(f"/v1/tasks/{still}/stop?wait=60")


def test_the_stream_of_a_task_tells_of_its_own_use_alone(shared: Daemon):
    other, task_id = (shared.submit("sh", "-c", UNTIL_GO) for _ in range(2))
    for each in (other, task_id):
        shared.wait_state(each, "running")
    with listening(shared, f"/v1/tasks/{task_id}/events?use=1") as told:
        use = next(each for each in told if each["event"] == "use" and each["data"]["tasks"])
        assert set(use["data"]["tasks"]) == {task_id}
        (shared.work(task_id) / "go").touch()
        assert next(each["data"]["outcome"] for each in told if each["event"] == "state" and each["data"]["outcome"])
    (shared.work(other) / "go").touch()


# -- the client library


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_library_asks_and_passes_over_what_it_does_not_know(
    kind: str, shared: Daemon, monkeypatch: pytest.MonkeyPatch
):
    plain = calls.events
    monkeypatch.setattr(calls, "events", lambda *given: replace(plain(*given), query=[("use", "1")]))
    with client_of(kind, shared.url, shared.token) as client:
        task = client.submit({"shell": UNTIL_GO})
        shared.wait_state(task["taskId"], "running")

        def told_of() -> list[Any]:
            known = list(client.node_tasks([task])["tasks"])  # the look may have been of a second ago, when it was just starting
            return known if any(each["processes"] for each in known) else []

        known = wait_for(told_of, "it is told of")
        assert [each["taskId"] for each in known] == [task["taskId"]] and known[0]["processes"] >= 1
        assert task["taskId"] in [each["taskId"] for each in client.node_tasks()["tasks"]]
        told = iter(client.iter_events(task))
        first = next(told)
        (shared.work(task["taskId"]) / "go").touch()
        heard = [first, *told]
    assert heard[-1]["outcome"] == "succeeded" and all("state" in each for each in heard)


# -- containers


@pytest.mark.needs("root", "podman", "runc")
def test_a_container_is_measured_by_its_groups(make_daemon: Callable[..., Daemon], podman_server: PodmanServer):
    daemon = make_daemon(engines=podman_server.sockets, container_networks=["host", "none"]).start()
    script = "echo up; while [ ! -e /work/go ]; do :; done"
    parameters = {"image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]}
    task_id = daemon.submit(machine="container", parameters=parameters)
    wait_for(lambda: b"up" in daemon.output(task_id), "it runs")

    def burnt(more_than: float) -> dict[str, Any] | None:
        use = uses(daemon).get(task_id)
        return use if use and use["cpuSeconds"] is not None and use["cpuSeconds"] > more_than else None

    first = wait_for(lambda: burnt(0.0), "its groups are found")
    assert first["processes"] == 1 and 0 < first["rssBytes"] < 20 * MIB
    second = wait_for(lambda: burnt(first["cpuSeconds"] + 0.5), "it has used more")
    daemon.restart()
    wait_for(lambda: burnt(second["cpuSeconds"]), "the next daemon finds them, too")
    (daemon.work(task_id) / "go").touch()
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    assert uses(daemon) == {}
    wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
