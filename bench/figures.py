"""The measurements: one function for each line of the table."""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import references
from bench.daemon import Daemon, Server, wait_until
from bench.load import Connection, LoadError, post_all
from bench.system import children, cpu_seconds, machine_cpu_seconds, pss_bytes
from bench.table import Report, Row

FORK = "stand-in: a fork of the web process a task"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of everything."""

    directory: Path
    count: int = 5000
    connections: int = 16
    posts: int = 300
    running: int = 1000


def reference_server(plan: Plan, name: str) -> Server:
    directory = plan.directory / name
    return Server("bench.reference_fork:create_app()", directory, BENCH_REFERENCE_DIR=str(directory))


# -- lines 1 and 2


def throughput(plan: Plan, report: Report) -> None:
    """`true` commands, from the first POST until all are over (and, here, durable)."""
    daemon = Daemon(plan.directory / "throughput")
    try:
        at_once, report.cpu["line 1, one batch"] = _submit_batch(daemon, plan)
        ours, report.cpu["line 2, one by one"] = _submit_all(daemon, plan)
    finally:
        daemon.close()
    note = "one call each; the reference keeps nothing on disk"
    _beside(report, plan, at_once, "HyperQueue, one job, 4 slots", references.hyperqueue, ">= 1.5", note)
    spooler_note = "one call of its client a command; nothing is durable"
    _beside(report, plan, at_once, "task-spooler, 4 slots", references.task_spooler, ">= 1.0", spooler_note)
    _beside(report, plan, at_once, "posix_spawn and wait in C", references.spawn_loop, ">= 0.2", "")
    server = reference_server(plan, "throughput-reference")
    try:
        theirs, report.cpu["line 2, stand-in"] = _submit_all(server, plan)
    finally:
        server.close()
    figure = f"tasks posted one by one over {plan.connections} connections, all over"
    common = {"line": 2, "figure": figure, "unit": "/s", "ours": ours, "wanted": ">= 2"}
    note = "not Tessia's code; does less, and nothing is durable"
    report.rows.append(Row(**common, reference=FORK, theirs=theirs, note=note))
    note = "not measured here: it is not to be had as a package; 165 to 200/s were seen on a machine with 3,700/s in C"
    report.rows.append(Row(**common, reference="Tessia's task runner", theirs=None, note=note))


def _beside(
    report: Report,
    plan: Plan,
    ours: float,
    name: str,
    measure: Callable[[int, Path], float],
    wanted: str,
    note: str,
) -> None:
    theirs = None
    try:
        theirs = measure(plan.count, plan.directory)
    except references.Missing as missing:
        note = f"skipped: {missing}"
    figure = f"one batch of {plan.count} true commands, POST to all over and durable"
    report.rows.append(
        Row(line=1, figure=figure, unit="/s", ours=ours, reference=name, theirs=theirs, wanted=wanted, note=note)
    )


def _submit_batch(daemon: Daemon, plan: Plan) -> tuple[float, dict[str, float]]:
    """The same for one batch."""
    connection = daemon.connect()
    _warm(daemon, plan, connection.format("POST", "/v1/tasks", {"command": ["true"]}))
    _wait_idle(connection)
    request = connection.format("POST", "/v1/batches", {"tasks": [{"command": ["true"]}] * plan.count})
    before, start = _spent(daemon), time.monotonic()
    status, content = connection.exchange(request)
    posted = time.monotonic() - start
    if status != 201:
        raise LoadError(f"POST: {status} {content[:300]!r}")
    batch = json.loads(content)["batchId"]
    while not (made := connection.ask("GET", f"/v1/batches/{batch}?wait=60"))["finishedAt"]:
        pass
    took = time.monotonic() - start
    if made["numTasksOk"] != plan.count:
        raise LoadError(f"not all succeeded: {made}")
    costs = _costs(before, daemon, plan)
    costs["(of which until the answer to the POST, by the clock)"] = posted / plan.count * 1e6
    connection.close()
    return plan.count / took, costs


def _costs(before: dict[str, float], server: Server, plan: Plan) -> dict[str, float]:
    """Microseconds of processor time a task since ``before``."""
    return {name: (spent - before[name]) / plan.count * 1e6 for name, spent in _spent(server).items()}


def _submit_all(server: Server, plan: Plan) -> tuple[float, dict[str, float]]:
    """Tasks a second, and the processor time of each in microseconds."""
    poll = server.connect()
    request = poll.format("POST", "/v1/tasks", {"command": ["true"]})
    _warm(server, plan, request)
    _wait_idle(poll)
    connections = server.connections(plan.connections)
    before, start = _spent(server), time.monotonic()
    ids = post_all(connections, request, plan.count)
    posted = time.monotonic() - start
    _wait_idle(poll)
    took = time.monotonic() - start
    costs = _costs(before, server, plan)
    costs["(of which until the last answer to a POST, by the clock)"] = posted / plan.count * 1e6
    _check_endings(poll, ids[:: max(1, len(ids) // 20)])
    for connection in (*connections, poll):
        connection.close()
    return plan.count / took, costs


def _warm(server: Server, plan: Plan, request: bytes) -> None:
    connections = server.connections(plan.connections)
    post_all(connections, request, 100)
    for connection in connections:
        connection.close()


def _spent(server: Server) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    spent = {"this load generator": own.ru_utime + own.ru_stime, "web process": cpu_seconds(server.worker)}
    if isinstance(server, Daemon):
        spent["launcher"] = cpu_seconds(server.launcher)
    spent["all of the machine: runners, commands and whatever else ran"] = machine_cpu_seconds() - sum(spent.values())
    return spent


def _wait_idle(connection: Connection) -> None:
    wait_until(lambda: not _active(connection), "all tasks are over", patience=300.0)


def _active(connection: Connection) -> int:
    return sum(connection.ask("GET", "/v1/node")["states"].values())


def _check_endings(connection: Connection, ids: list[str]) -> None:
    for task_id in ids:
        task = connection.ask("GET", f"/v1/tasks/{task_id}")
        if task["state"] != "exited" or task["exitCode"] != 0:
            raise LoadError(f"task {task_id} did not succeed: {task}")


# -- line 3


def latency(plan: Plan, report: Report) -> None:
    """From POST to the command's first instruction, on an idle server."""
    try:
        program = references.compile_c("stamp.c", plan.directory)
    except references.Missing as missing:
        figure = "POST to the command's first instruction, idle"
        report.rows.append(
            Row(line=3, figure=figure, unit="ms", ours=None, reference="", theirs=None, wanted="", note=str(missing))
        )
        return
    daemon = Daemon(plan.directory / "latency")
    try:
        ours = _first_instructions(daemon, program, plan.posts)
    finally:
        daemon.close()
    server = reference_server(plan, "latency-reference")
    try:
        theirs = _first_instructions(server, program, plan.posts)
    finally:
        server.close()
    for index, name, wanted in ((49, "p50", "<= 5 ms"), (98, "p99", "<= 25 ms")):
        figure = f"POST to the command's first instruction, idle, {name}"
        mine, other = (statistics.quantiles(times, n=100)[index] for times in (ours[0], theirs[0]))
        report.rows.append(
            Row(line=3, figure=figure, unit="ms", ours=mine, reference=FORK, theirs=other, wanted=wanted)
        )
        mine, other = (statistics.quantiles(times, n=100)[index] for times in (ours[1], theirs[1]))
        note = "to the answer: ours is on stable storage by then. Tessia answered in 5 to 8 ms (not measured here)"
        figure = f"POST to its answer, idle, {name}"
        report.rows.append(
            Row(line=3, figure=figure, unit="ms", ours=mine, reference=FORK, theirs=other, wanted="", note=note)
        )


def _first_instructions(server: Server, program: str, posts: int) -> tuple[list[float], list[float]]:
    """Milliseconds from each POST to the first instruction, and to the answer."""
    connection = server.connect()
    request = connection.format("POST", "/v1/tasks", {"command": [program]})
    begun, answered = list[float](), list[float]()
    for number in range(posts + 10):
        start = time.clock_gettime(time.CLOCK_MONOTONIC)
        _status, content = connection.exchange(request)
        answer = time.clock_gettime(time.CLOCK_MONOTONIC)
        task_id = content.partition(b'"taskId":')[2].split(b'"')[1].decode()
        wait_until(
            lambda path=f"/v1/tasks/{task_id}": connection.ask("GET", path)["state"] == "exited", task_id, pause=0.005
        )
        stamp = float(server.output(task_id).read_text())
        if number >= 10:  # the first few warm up
            begun.append((stamp - start) * 1000)
            answered.append((answer - start) * 1000)
        time.sleep(0.01)
    connection.close()
    return begun, answered


# -- line 4


def memory(plan: Plan, report: Report) -> None:
    """What a running task takes beside its command."""
    daemon = Daemon(plan.directory / "memory")
    try:
        ours, daemon_share = _running_tasks(daemon, plan)
    finally:
        daemon.close()
    figure = f"memory a running task adds, PSS at {plan.running} running"
    common = {"line": 4, "figure": figure, "unit": "MiB", "ours": ours, "wanted": "<= 1 MiB"}
    note = f"runner {ours - daemon_share:.3f} MiB, growth of daemon and launcher {daemon_share:.3f} MiB"
    count = min(plan.running, 100)
    other = f"python -c subprocess.run, at {count} running"
    report.rows.append(Row(**common, reference=other, theirs=_python_processes(count), note=note))
    server = reference_server(plan, "memory-reference")
    try:
        theirs = _forked_tasks(server, count)
    finally:
        server.close()
    report.rows.append(Row(**common, reference=f"{FORK}, at {count} running", theirs=theirs))


def _running_tasks(daemon: Daemon, plan: Plan) -> tuple[float, float]:
    """MiB a task: in all, and of that the part by which daemon and launcher have grown."""
    poll = daemon.connect()
    _warm(daemon, plan, poll.format("POST", "/v1/tasks", {"command": ["true"]}))
    _wait_idle(poll)
    fixed = [daemon.arbiter, daemon.worker, daemon.launcher]
    before = pss_bytes(fixed)
    request = poll.format("POST", "/v1/tasks", {"command": ["sleep", "600"]})
    connections = daemon.connections(plan.connections)
    ids = post_all(connections, request, plan.running)
    wait_until(lambda: poll.ask("GET", "/v1/node")["states"]["running"] == plan.running, "all run")
    grown = pss_bytes(fixed) - before
    runners = pss_bytes(daemon.runners)
    for task_id in ids:
        poll.ask("POST", f"/v1/tasks/{task_id}/stop?wait=0", {"graceSeconds": 1})
    _wait_idle(poll)
    for connection in (*connections, poll):
        connection.close()
    # the launcher's own pages are shared with the runners, so its share falls while theirs is counted
    share = grown / plan.running / 2**20
    return runners / plan.running / 2**20 + share, share


def _python_processes(count: int) -> float:
    """MiB that a Python which waits for a command takes."""
    code = "import subprocess; subprocess.run(['sleep', '600'])"
    started = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(count)]
    try:
        wait_until(lambda: all(children(each.pid) for each in started), "all run")
        return pss_bytes(each.pid for each in started) / count / 2**20
    finally:
        for each in started:
            _end_with_children(each)


def _end_with_children(parent: subprocess.Popen[bytes]) -> None:
    commands = children(parent.pid)
    parent.kill()
    _kill(commands)
    parent.wait()


def _forked_tasks(server: Server, count: int) -> float:
    connection, worker = server.connect(), server.worker
    request = connection.format("POST", "/v1/tasks", {"command": ["sleep", "600"]})
    before = pss_bytes([worker])
    try:
        for _ in range(count):
            connection.exchange(request)
        wait_until(lambda: all(children(each) for each in children(worker)), "all run")
        forks = children(worker)
        return (pss_bytes(forks) + pss_bytes([worker]) - before) / len(forks) / 2**20
    finally:
        _kill([command for each in children(worker) for command in children(each)])
        wait_until(lambda: not _active(connection), "all are over")
        connection.close()


def _kill(pids: list[int]) -> None:
    """Kill commands that were just seen as children of a process of ours."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
