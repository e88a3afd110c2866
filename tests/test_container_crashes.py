"""Container tasks while something dies: at every step of a container's story, and at random (promises 2, 3 and 5).

Nothing is started twice, no ending is wrong, nothing is left behind. Real Podman.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Daemon, wait_for
from engines import PodmanServer
from images import BUSYBOX_IMAGE

from task_runner.lib import lock, process

pytestmark = [pytest.mark.needs("root", "podman", "runc"), pytest.mark.slow]

#: where the machine's process dies, and whether the true ending is known all the same
MACHINE = {
    "container.pulled": False,  # there is none yet, and whoever takes it up starts nothing that was not begun
    "container.created": True,
    "container.started": True,
    "container.ended": True,
    "container.removed": True,
}
#: the same of the runner
RUNNER = {
    "runner.before-machine": False,
    "runner.after-machine": None,  # as far as the machine's process has come in that moment
    "runner.heard-ending": True,
    "runner.machine-ended": True,
}


def body(nap: str = "sleep 0.2", code: int = 7) -> dict:
    script = f"echo start >> /work/trace; echo one; {nap}; echo two; exit {code}"
    parameters = {"image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]}
    return {"actions": [{"machine": "container", "parameters": parameters}]}


@pytest.fixture(scope="module")
def harbour(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon where everything dies once at the place that a file in its directory `armed` is named after."""
    place = tmp_path_factory.mktemp("harbour")
    (place / "armed").mkdir()
    points = ",".join(f"{each}@{place}/armed/{each}" for each in (*MACHINE, *RUNNER, "runner.took-over", "succession.launch"))
    daemon = Daemon(place / "state", engines=podman_server.sockets, container_networks=["none"])
    try:
        yield daemon.start(TASK_RUNNER_FAILPOINT=points)
    finally:
        daemon.close()


def armed(daemon: Daemon, point: str) -> Path:
    return daemon.state_dir.parent / "armed" / point


def arm(daemon: Daemon, point: str) -> Path:
    armed(daemon, point).touch()
    return armed(daemon, point)


def check(daemon: Daemon, server: PodmanServer, task_id: str, code: int = 7, *, true: bool | None = None) -> dict:
    """It was started once at most; its ending is what it did, or lost with evidence, or that the engine, which died just
    then, did not start it; and nothing of it is left."""
    task = daemon.wait(task_id)
    trace = daemon.state_dir / "tasks" / task_id / "work/trace"
    starts = trace.read_text() if trace.exists() else ""
    assert starts in ("", "start\n")
    if task["outcome"] == "lost":
        assert true is not True, task["error"]
        assert (task["exitCode"], task["state"]) == (None, "lost")
        assert task["error"]
    elif task["exitCode"] is None:
        assert true is None, task["error"]
        assert (task["outcome"], starts) == ("failed", "")
        assert task["error"].startswith("provisioning failed: ")
    else:
        assert true is not False
        outcome = "failed" if code else "succeeded"
        assert (task["outcome"], task["exitCode"], starts) == (outcome, code, "start\n"), task
        assert daemon.output(task_id) == b"one\ntwo\n"
    wait_for(lambda: not daemon.alive(task_id), "no process of it is alive")
    return task


def kill_runner(daemon: Daemon, task_id: str) -> int | None:
    """The pid that it had; None where there is none."""
    probe = lock.probe(daemon.state.tasks.attempt(task_id, 1))
    seen = process.look(probe.runner.pid) if probe.held and probe.runner is not None else None
    return seen.pid if seen is not None and process.send(seen, signal.SIGKILL) else None


@pytest.mark.parametrize(("point", "true"), [*MACHINE.items(), *RUNNER.items()])
def test_death_in_the_middle_of_a_containers_story(harbour, podman_server, point, true):
    trigger = arm(harbour, point)
    task_id = harbour.submit(**body())
    check(harbour, podman_server, task_id, true=true)
    assert not trigger.exists(), "something died there"
    wait_for(lambda: not podman_server.containers_of(harbour.state_dir), "its container is removed")


def test_successors_that_die_are_followed_in_turn(harbour, podman_server):
    task_id = harbour.submit(**body("sleep 600"))
    wait_for(lambda: harbour.output(task_id) == b"one\n", "it runs")
    for _ in range(2):
        trigger = arm(harbour, "runner.took-over")
        wait_for(lambda: kill_runner(harbour, task_id), "its runner is killed")
        wait_for(lambda trigger=trigger: not trigger.exists(), "its successor has died")
    killed = wait_for(lambda: kill_runner(harbour, task_id), "the next one, too")
    wait_for(lambda: harbour.runner_pid(task_id) != killed, "another has come")
    harbour.post(f"/v1/tasks/{task_id}/stop")
    task = harbour.wait(task_id)
    assert (task["outcome"], harbour.output(task_id)) == ("cancelled", b"one\n")
    assert (harbour.state_dir / "tasks" / task_id / "work/trace").read_text() == "start\n"


def test_a_daemon_that_dies_before_it_launches_a_successor(make_daemon, podman_server, tmp_path):
    daemon = make_daemon(engines=podman_server.sockets, container_networks=["none"])
    daemon.start(TASK_RUNNER_FAILPOINT=f"succession.launch@{tmp_path}/armed")
    task_id = daemon.submit(**body("until [ -e /work/go ]; do sleep 0.05; done"))
    wait_for(lambda: daemon.output(task_id) == b"one\n", "it runs")
    (tmp_path / "armed").touch()
    os.kill(daemon.runner_pid(task_id), signal.SIGKILL)
    assert daemon.wait_dead() == -9
    daemon.restart()
    (daemon.work(task_id) / "go").touch()
    check(daemon, podman_server, task_id, true=True)
    wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "its container is removed")


class Killer:
    """Kills one thing at a time, chosen at random."""

    def __init__(self, daemon: Daemon, server: PodmanServer, seed: int) -> None:
        self.daemon = daemon
        self.server = server
        self.random = random.Random(seed)

    def strike(self, tasks: list[str]) -> None:
        victim = self.random.choice(["daemon", "runner", "machine", "engine", "daemon and runner", "engine and machine"])
        if "engine" in victim:
            self.server.kill()
        for task_id in self.random.sample(tasks, min(2, len(tasks))):
            probe = lock.probe(self.daemon.state.tasks.attempt(task_id, 1))
            if not probe.held or probe.runner is None:
                continue
            if "machine" in victim:
                self._kill(process.descendants(probe.runner.pid))
            if "runner" in victim and (seen := process.look(probe.runner.pid)) is not None:
                self._kill([seen])
        if "daemon" in victim:
            self.daemon.restart()
        if "engine" in victim:
            self.server.start()

    def _kill(self, victims: list[process.Process]) -> None:
        for each in victims:
            process.send(each, signal.SIGKILL)


def test_no_container_is_doubled_guessed_or_left(make_daemon, podman_server, request):
    cycles, seed = request.config.getoption("--crash-cycles") // 10, request.config.getoption("--crash-seed")
    daemon = make_daemon(engines=podman_server.sockets, container_networks=["none"], max_running=4).start()
    killer = Killer(daemon, podman_server, seed)
    tasks = {daemon.submit(**body(f"sleep {nap}", code)): code for code, nap in enumerate([0, 1, 3, 0.5, 2, 4])}
    for _ in range(cycles):
        threading.Event().wait(killer.random.uniform(0.1, 0.8))
        killer.strike(list(tasks))
    ended = [check(daemon, podman_server, task_id, code) for task_id, code in tasks.items()]
    print(f"seed {seed}:", [(task["outcome"], task["exitCode"], task["error"]) for task in ended])
    wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
