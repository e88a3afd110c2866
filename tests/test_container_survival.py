"""Containers outlive whatever dies around them: daemon, runner, the machine's process, the engine, its monitor.

Real Podman, and at the end the others. Every container leaves a trace of its start in the task's working directory, so "started once" is seen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, Daemon, wait_for
from engines import PodmanServer
from images import BUSYBOX_IMAGE

from task_runner.engines.base import LABEL_DAEMON
from task_runner.engines.find import open_engine
from task_runner.lib import lock, process

pytestmark = [pytest.mark.needs("root", "podman", "runc"), pytest.mark.slow]

#: leaves a trace, writes until it is told to end, and then ends with 7; it says when it has been told to rest
WRITES = """
echo start >> /work/trace; n=0
while [ ! -e /work/go ]; do
  n=$((n+1)); echo line $n; sleep 0.05
  if [ -e /work/rest ]; then echo $n > /work/said; mv /work/said /work/rests; fi
  while [ -e /work/rest ]; do sleep 0.05; done
done
echo last; exit 7
"""


def container(script: str, **more: object) -> dict:
    return {"machine": "container", "parameters": {"image": BUSYBOX_IMAGE, "command": ["sh", "-c", script], **more}}


@pytest.fixture(scope="module")
def harbour(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon that has Podman, for all tests that let it live."""
    yield from podman_daemon(podman_server, tmp_path_factory.mktemp("harbour"))


def podman_daemon(server: PodmanServer, directory: Path) -> Iterator[Daemon]:
    daemon = Daemon(directory / "state", engines=server.sockets, container_networks=["host", "none"])
    try:
        yield daemon.start()
    finally:
        daemon.close()


@pytest.fixture
def boat(harbour: Daemon, podman_server: PodmanServer) -> Iterator[Daemon]:
    """A daemon that has Podman. Nothing of its tasks is left there at the end of a test."""
    yield harbour
    for each in harbour.http.get("/v1/tasks").json():
        if not each["outcome"]:  # of a test that has failed
            harbour.http.delete(f"/v1/tasks/{each['taskId']}")
    wait_for(lambda: not podman_server.containers_of(harbour.state_dir), "no container is left")


def begun(daemon: Daemon, *, script: str = WRITES, **more: object) -> str:
    """A task whose container has written a few lines; returns its id."""
    task_id = daemon.submit(**{"actions": [container(script)], **more})
    wait_for(lambda: b"line 3\n" in daemon.output(task_id), "it has written")
    daemon.wait_state(task_id, "running")
    return task_id


def go(daemon: Daemon, task_id: str) -> None:
    (daemon.work(task_id) / "go").touch()


def rest(daemon: Daemon, task_id: str) -> None:
    """Have it write nothing as long as there is that file, and see that all it has written is in the output."""
    (daemon.work(task_id) / "rest").touch()
    wait_for((daemon.work(task_id) / "rests").exists, "it writes no more")
    number = (daemon.work(task_id) / "rests").read_text().strip()
    wait_for(lambda: daemon.output(task_id).endswith(f"line {number}\n".encode()), "all of it is in the output")


def check_once_in_order(daemon: Daemon, task_id: str, before: int = 0) -> None:
    """It was started once, and every line it wrote is there once, in order."""
    assert (daemon.work(task_id) / "trace").read_text() == "start\n"
    lines = daemon.output(task_id).decode().splitlines()
    assert lines == [*(f"line {n}" for n in range(1, len(lines))), "last"]
    assert len(lines) > before


def check_true_ending(daemon: Daemon, task_id: str) -> dict:
    before = daemon.output(task_id).count(b"\n")
    wait_for(lambda: daemon.output(task_id).count(b"\n") > before, "it goes on writing")
    go(daemon, task_id)
    task = daemon.wait(task_id)
    assert (task["state"], task["outcome"], task["exitCode"], task["attempt"]) == ("exited", "failed", 7, 1)
    assert task["actions"][0]["tries"] == 1
    check_once_in_order(daemon, task_id, before)
    return task


def container_of(daemon: Daemon, task_id: str) -> str:
    return str(daemon.task(task_id)["actions"][0]["container"]["id"])


def runner_of(daemon: Daemon, task_id: str) -> process.Process:
    seen = process.look(daemon.runner_pid(task_id))
    assert seen is not None
    return seen


def machine_of(daemon: Daemon, task_id: str) -> process.Process:
    """The process that follows the container: the runner's only child."""
    found = wait_for(lambda: process.descendants(daemon.runner_pid(task_id)), "the runner has a child")
    return found[0]


def kill(victim: process.Process) -> None:
    assert process.send(victim, signal.SIGKILL)


def test_another_process_takes_it_up_when_the_machines_is_killed(boat):
    task_id = begun(boat)
    runner = boat.runner_pid(task_id)
    for _ in range(2):
        victim = machine_of(boat, task_id)
        kill(victim)
        wait_for(lambda dead=victim.pid: [each for each in process.descendants(runner) if each.pid != dead], "another follows it")
    check_true_ending(boat, task_id)
    assert boat.runner_pid(task_id) == runner


def test_another_runner_takes_it_up_when_its_own_is_killed(boat):
    task_id = begun(boat)
    started_at, first = boat.task(task_id)["startedAt"], boat.runner_pid(task_id)
    kill(runner_of(boat, task_id))
    wait_for(lambda: boat.runner_pid(task_id) != first, "it has another runner")
    task = check_true_ending(boat, task_id)
    assert task["startedAt"] == started_at


def test_a_container_outlives_the_engines_service(boat, podman_server):
    task_id = begun(boat)
    podman_server.kill()
    podman_server.start()
    check_true_ending(boat, task_id)


def monitor_of(daemon: Daemon, server: PodmanServer, task_id: str) -> process.Process:
    """Podman's conmon, which alone learns how the container ended."""
    name = container_of(daemon, task_id)
    seen = process.look(int(server.command("inspect", "--format", "{{.State.ConmonPid}}", name)))
    assert seen is not None
    assert seen.command == "conmon"
    return seen


def test_a_container_whose_monitor_was_killed_is_lost_and_gone(boat, podman_server):
    task_id = begun(boat)
    kill(monitor_of(boat, podman_server, task_id))
    go(boat, task_id)
    task = boat.wait(task_id)
    assert (task["state"], task["outcome"], task["exitCode"]) == ("lost", "lost", None)
    assert task["error"].startswith("how it ended is not known: ")
    assert (boat.work(task_id) / "trace").read_text() == "start\n"
    assert boat.alive(task_id) == []


def test_a_strangers_container_with_the_labels_of_a_task_is_neither_taken_up_nor_removed(boat, podman_server):
    task_id = begun(boat)
    given = podman_server.command("inspect", "--format", "{{json .Config.Labels}}", container_of(boat, task_id))
    labels = [word for name, value in json.loads(given).items() for word in ("--label", f"{name}={value}")]
    stranger = podman_server.command("run", "-d", *labels, "--network", "none", BUSYBOX_IMAGE, "sleep", "1000").strip()
    kill(runner_of(boat, task_id))
    check_true_ending(boat, task_id)
    order = {"daemon": os.path.realpath(boat.state_dir), "engines": podman_server.sockets}
    command = [sys.executable, "-X", "importtime", "-m", "task_runner.engines.sweep"]
    swept = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert json.loads(swept.stdout) == {"found": [], "errors": []}
    loaded = {line.rpartition("|")[2].strip() for line in swept.stderr.splitlines()}
    assert "task_runner.engines.listing" in loaded
    assert not {"docker", "requests"} & loaded, "no client is loaded where there is nothing to remove"
    assert podman_server.command("inspect", "--format", "{{.State.Status}}", stranger) == "running\n"
    podman_server.command("rm", "--force", "--time", "0", stranger)


def test_the_actions_after_it_go_on_with_the_next_runner(boat):
    step = {"machine": "process", "parameters": {"shell": "echo after >> after; exit 3"}}
    tidy = {"machine": "process", "parameters": {"shell": "echo tidied >> tidied"}}
    first = {"machine": "process", "parameters": {"shell": "echo before"}}
    actions = [first, {**container(WRITES), "continueOnFailure": True}, step]
    task_id = begun(boat, actions=actions, cleanup=[tidy])
    kill(runner_of(boat, task_id))
    go(boat, task_id)
    task = boat.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("failed", 3)
    assert [each["exitCode"] for each in task["actions"]] == [0, 7, 3, 0]
    assert (boat.work(task_id) / "after").read_text() == "after\n"
    assert (boat.work(task_id) / "tidied").read_text() == "tidied\n"
    lines = boat.output(task_id).decode().splitlines()
    assert lines == ["before", *(f"line {n}" for n in range(1, len(lines) - 1)), "last"]


def test_a_later_try_with_its_streams_apart_is_taken_up_as_well(boat):
    script = f"[ -e /work/again ] || {{ touch /work/again; echo noise; echo noise >&2; exit 1; }}; echo bad >&2; {WRITES}"
    task_id = boat.submit(actions=[{**container(script), "retry": {"count": 1, "delaySeconds": 0.01}}], outputMode="separate")

    def said(stream: str) -> list[str]:
        return boat.http.get(f"/v1/tasks/{task_id}/output", params={"stream": stream}).text.splitlines()

    wait_for(lambda: "line 3" in said("stdout"), "it has written")
    kill(machine_of(boat, task_id))
    kill(runner_of(boat, task_id))
    go(boat, task_id)
    task = boat.wait(task_id)
    assert (task["outcome"], task["exitCode"], task["actions"][0]["tries"]) == ("failed", 7, 2)
    lines = said("stdout")
    assert lines == ["noise", *(f"line {n}" for n in range(1, len(lines) - 1)), "last"]
    assert said("stderr") == ["noise", "bad"]


def test_a_paused_container_stays_paused_through_the_death_of_its_runner(boat):
    task_id = begun(boat)
    boat.post(f"/v1/tasks/{task_id}/pause")
    boat.wait_state(task_id, "paused")
    first = boat.runner_pid(task_id)
    kill(runner_of(boat, task_id))
    wait_for(lambda: boat.runner_pid(task_id) != first, "it has another runner")
    assert boat.task(task_id)["state"] == "paused"
    written = boat.output(task_id)
    boat.post(f"/v1/tasks/{task_id}/resume")
    boat.wait_state(task_id, "running")
    wait_for(lambda: boat.output(task_id) != written, "it goes on")
    check_true_ending(boat, task_id)


def test_secrets_are_given_again(make_daemon, podman_server, tmp_path):
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets/word").write_text("open-sesame")
    os.chmod(tmp_path / "secrets/word", 0o600)
    daemon = make_daemon(
        engines=podman_server.sockets, container_networks=["host"], secrets_dir=str(tmp_path / "secrets")
    ).start()
    tell = {"machine": "process", "parameters": {"shell": "echo $WORD > told; exit 0"}}
    first = {**container(f"echo $WORD; {WRITES}"), "continueOnFailure": True}
    task_id = begun(daemon, actions=[first, tell], secrets=[{"name": "word", "env": "WORD"}], maskSecrets=True)
    written = daemon.output(task_id)
    wait_for(lambda: daemon.output(task_id) != written, "it goes on: by now it is noted that this has been written")
    kill(runner_of(daemon, task_id))
    go(daemon, task_id)
    assert daemon.wait(task_id)["outcome"] == "succeeded"
    assert (daemon.work(task_id) / "told").read_text() == "open-sesame\n"
    assert b"open-sesame" not in daemon.output(task_id)
    assert daemon.output(task_id).count(b"line 1\n") == 1


def test_stop_means_stopped_when_the_engine_does_not_answer(boat, podman_server):
    task_id = begun(boat, graceSeconds=0.5)
    podman_server.kill()
    try:
        boat.post(f"/v1/tasks/{task_id}/stop")
        task = boat.wait(task_id)
    finally:
        podman_server.start()
    assert task["outcome"] == "cancelled"
    assert "could not be removed" in task["receipt"]["container"]
    assert (task["receipt"]["survivors"], boat.alive(task_id)) == ([], [])
    assert task["actions"][0]["container"]["left"] is True


# -- the daemon dies, and more with it

#: what has become of a task when the next daemon starts
FATES = ("lives", "ended", "removed", "to stop", "barred")


@pytest.fixture(scope="module")
def wreck(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """A daemon that was killed with several tasks, all but one of them with its runner, and started again; with the
    id of the task of each fate."""
    for daemon in podman_daemon(podman_server, tmp_path_factory.mktemp("wreck")):
        tasks = {fate: begun(daemon, script=f"trap 'echo polite; exit 5' TERM; {WRITES}") for fate in FATES}
        removed = container_of(daemon, tasks["removed"])
        daemon.kill()
        for fate in FATES[1:]:
            kill(runner_of(daemon, tasks[fate]))
        go(daemon, tasks["ended"])
        wait_for(lambda: not daemon.alive(tasks["ended"]), "the container has ended")  # noqa: B023
        podman_server.command("rm", "--force", removed)
        # as a daemon does that gives up, and dies before it clears
        lock.bar(daemon.state.tasks.attempt(tasks["barred"], 1))
        yield daemon.start(), tasks


def test_a_container_outlives_the_daemon(wreck):
    boat, tasks = wreck
    assert boat.wait_state(tasks["lives"], "running")
    check_true_ending(boat, tasks["lives"])


def test_a_container_that_ended_while_everybody_was_dead_has_its_true_ending(wreck):
    boat, tasks = wreck
    task = boat.wait(tasks["ended"])
    assert (task["outcome"], task["exitCode"]) == ("failed", 7)
    check_once_in_order(boat, tasks["ended"])


def test_a_container_that_the_engine_does_not_know_any_more_is_lost(wreck):
    boat, tasks = wreck
    task = boat.wait(tasks["removed"])
    assert (task["state"], task["outcome"]) == ("lost", "lost")
    assert "podman has no container" in task["error"]


def test_a_stop_reaches_it_through_the_next_runner(wreck):
    boat, tasks = wreck
    boat.post(f"/v1/tasks/{tasks['to stop']}/stop")
    task = boat.wait(tasks["to stop"])
    assert (task["outcome"], task["exitCode"]) == ("cancelled", 5)
    assert task["receipt"]["reason"] == "stop"
    assert boat.output(tasks["to stop"]).endswith(b"polite\n")


def test_what_an_earlier_daemon_left_is_removed_at_the_next_start(wreck, podman_server):
    boat, tasks = wreck
    task = boat.wait(tasks["barred"])
    assert (task["state"], task["outcome"]) == ("lost", "lost")
    name = task["actions"][0]["container"]["id"]
    wait_for(lambda: name not in podman_server.containers_of(boat.state_dir), "the container is removed")
    assert boat.alive(tasks["barred"]) == []


def test_all_dead_at_once_and_started_again(make_daemon, podman_server):
    boat = make_daemon(engines=podman_server.sockets, container_networks=["host"]).start()
    task_id = begun(boat)
    boat.kill()
    podman_server.kill()
    kill(runner_of(boat, task_id))
    boat.start()
    podman_server.start()
    check_true_ending(boat, task_id)
    wait_for(lambda: not podman_server.containers_of(boat.state_dir), "no container is left")


@pytest.mark.parametrize("other", ["docker", "cri"])
def test_containers_of_other_engines_outlive_everything_around_them(request, make_daemon, other):
    server = request.getfixturevalue(f"{other}_server")
    daemon = make_daemon(engines=server.sockets, container_networks=["host"]).start()
    task_id = begun(daemon)
    kill(machine_of(daemon, task_id))
    first = runner_of(daemon, task_id)
    kill(first)
    wait_for(lambda: daemon.runner_pid(task_id) != first.pid, "it has another runner")
    rest(daemon, task_id)  # what an engine has read, and not yet put into its log, is lost with it
    daemon.kill()
    server.kill()
    (daemon.work(task_id) / "rest").unlink()
    for each in [*process.descendants(daemon.runner_pid(task_id)), runner_of(daemon, task_id)]:
        process.send(each, signal.SIGKILL)
    server.start()
    daemon.start()
    check_true_ending(daemon, task_id)
    engine = open_engine(None, server.sockets)
    try:
        wait_for(lambda: not engine.find({LABEL_DAEMON: os.path.realpath(daemon.state_dir)}), "no container is left")
    finally:
        engine.close()
