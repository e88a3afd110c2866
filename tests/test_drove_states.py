"""Drove's state machine: every state and every step of it, by real tasks of Podman; and what is concluded from a record.

The program is held where a state would pass too fast to be seen (lib/failpoint.py).
"""

from __future__ import annotations

import itertools
import json
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Daemon, wait_for
from droving import APP, Drove, clean_client, drove_daemon, start_held, tidy
from engines import PodmanServer
from imageregistry import Registry
from images import Image, busybox, busybox_layer

from task_runner.api.dialects.drove.states import (
    LISTED,
    TRANSITIONS,
    TaskResult,
    TaskState,
    error_of,
    has_started,
    result_of,
    state_in,
    state_of,
)
from task_runner.lib import process
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, ContainerNote, Heartbeat, Identity, Receipt, Status
from task_runner.service.task import Record

real = [pytest.mark.needs("root"), pytest.mark.needs("podman"), pytest.mark.needs("runc")]
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def harbour(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two processors for tasks."""
    daemon = drove_daemon(tmp_path_factory.mktemp("harbour"), podman_server.sockets, cpus=2)
    try:
        yield start_held(daemon)
        tidy(daemon.state_dir.parent)
        wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
    finally:
        daemon.close()


@pytest.fixture
def drove(harbour: Daemon) -> Iterator[Drove]:
    yield from clean_client(harbour)


def fresh(**what: Any) -> Image:
    """An image with a layer that no engine has, and has to fetch."""
    return busybox(layer=busybox_layer(secrets.token_bytes(100)), **what)


def told(drove: Drove, name: str) -> list[str]:
    """The states of a task's stored changes, one after the other."""
    task_id = drove.id_of(name)
    seen: list[str] = []
    with drove.daemon.http.stream("GET", f"/v1/tasks/{task_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                state = state_in(event)
                seen += [state.value] if not seen or seen[-1] != state.value else []
                if event["outcome"]:
                    return seen
    raise AssertionError(f"no end in {seen}")


def check_steps(states: list[str]) -> None:
    """Each follows from the one before as Drove's machine has it."""
    for before, after in itertools.pairwise(TaskState(each) for each in states):
        assert after in TRANSITIONS[before], states


# -- a life without trouble


class TestReal:
    pytestmark = real

    def test_a_task_passes_through_every_state_of_a_good_life(
        self, drove: Drove, make_registry: Callable[..., Registry], podman_server: PodmanServer
    ) -> None:
        registry = make_registry()
        registry.rest.clear()
        script = "echo done; while [ ! -e /s/good-may-end ]; do sleep 0.1; done"
        image = registry.add("good", "1", fresh(command=["sh", "-c", script]))
        busy = drove.create(*drove.until_told("busy-is-over"), resources=[{"type": "CPU", "count": 2}])
        drove.wait(busy, "RUNNING")
        name = drove.create(image=image)
        check_seen(drove.wait(name, "PENDING"))
        assert drove.listed() == [busy, name]
        drove.tell("busy-is-over")
        check_seen(drove.wait(name, "PROVISIONING"))
        drove.wait_fetching(name)
        with (
            drove.hold("container.pulled") as making,
            drove.hold("container.ended") as ending,
            drove.hold("container.removing") as removing,
        ):
            registry.rest.set()
            check_seen(drove.wait(name, "STARTING"))
            making()
            check_seen(drove.wait(name, "RUNNING"), started=True)
            drove.tell("good-may-end")
            check_seen(drove.wait(name, "RUN_COMPLETED"), started=True, result=("SUCCESSFUL", 0))
            assert name in drove.listed()
            ending()
            check_seen(drove.wait(name, "DEPROVISIONING"), started=True, result=("SUCCESSFUL", 0))
            assert name in drove.listed()
            removing()
        check_seen(drove.wait(name), started=True, result=("SUCCESSFUL", 0))
        assert drove.listed() == []
        states = told(drove, name)
        assert states == [
            "PENDING", "PROVISIONING", "STARTING", "RUNNING", "RUN_COMPLETED", "DEPROVISIONING", "STOPPED",
        ]  # fmt: skip
        check_steps(states)
        podman_server.command("rmi", image)

    def test_an_image_that_cannot_be_had(self, drove: Drove, make_registry: Callable[..., Registry]) -> None:
        image = f"127.0.0.1:{make_registry().server_port}/nothing:1"
        with (
            drove.hold("container.fetching") as fetching,
            drove.hold("container.ended") as ending,
            drove.hold("container.removing") as removing,
        ):
            name = drove.create(image=image)
            drove.wait_fetching(name)
            fetching()
            seen = drove.wait(name, "PROVISIONING_FAILED")
            assert name not in drove.listed()
            ending()
            check_seen(drove.wait(name, "DEPROVISIONING"), error=seen["errorMessage"])
            removing()
        check_seen(seen, error=seen["errorMessage"])
        assert seen["errorMessage"].startswith(f"Error while pulling image {image}: ")
        assert "pull 127" not in seen["errorMessage"]
        check_seen(drove.wait(name), error=seen["errorMessage"])
        states = told(drove, name)
        assert states == ["PENDING", "PROVISIONING", "PROVISIONING_FAILED", "DEPROVISIONING", "STOPPED"]
        check_steps(states)

    def test_a_container_that_cannot_be_started(self, drove: Drove) -> None:
        with (
            drove.hold("container.fetching") as fetching,
            drove.hold("container.pulled") as making,
            drove.hold("container.ended") as ending,
            drove.hold("container.removing") as removing,
        ):
            name = drove.create("/no/such/program")
            drove.wait_fetching(name)
            fetching()
            check_seen(drove.wait(name, "STARTING"))
            making()
            seen = drove.wait(name, "RUN_FAILED")
            assert name not in drove.listed()
            ending()
            drove.wait(name, "DEPROVISIONING")
            removing()
        assert "/no/such/program" in seen["errorMessage"]
        assert not seen["errorMessage"].startswith("provisioning failed")
        check_seen(seen, result=("FAILED", -1), error=seen["errorMessage"])
        check_seen(drove.wait(name), result=("FAILED", -1), error=seen["errorMessage"])
        states = told(drove, name)
        assert states == ["PENDING", "PROVISIONING", "STARTING", "RUN_FAILED", "DEPROVISIONING", "STOPPED"]
        check_steps(states)

    def test_an_exit_code_is_the_tasks(self, drove: Drove) -> None:
        with drove.hold("container.ended"):
            name = drove.create("sh", "-c", "exit 3")
            at_once = drove.wait(name, "RUN_COMPLETED")
        error = "Task instance exited with status: 3"
        check_seen(at_once, started=True, result=("FAILED", 3), error=error)
        check_seen(drove.wait(name), started=True, result=("FAILED", 3), error=error)

    # -- ended by somebody

    def test_a_running_task_is_killed_without_grace(self, drove: Drove) -> None:
        name = drove.create("sh", "-c", "trap '' TERM; echo up; sleep 1000")
        drove.wait(name, "RUNNING")
        with drove.hold("container.ended") as ending, drove.hold("container.removing") as removing:
            assert drove.kill(name).json()["data"] == {"taskId": name}
            check_seen(drove.wait(name, "RUN_COMPLETED"), started=True, result=("CANCELLED", -1))
            ending()
            drove.wait(name, "DEPROVISIONING")
            removing()
        check_seen(drove.wait(name), started=True, result=("CANCELLED", -1))
        check_steps(told(drove, name))

    def test_what_has_ended_by_itself_cannot_be_killed_any_more(self, drove: Drove) -> None:
        with drove.hold("container.ended"):
            name = drove.create("sh", "-c", "echo done")
            check_seen(drove.wait(name, "RUN_COMPLETED"), started=True, result=("SUCCESSFUL", 0))
            assert drove.kill(name).status_code == 200
            task_id = drove.id_of(name)
            drove.daemon.wait_state(task_id, "stopping")
            check_seen(drove.info(name), started=True, result=("SUCCESSFUL", 0))
            # nor by the next runner
            runner = process.look(drove.daemon.runner_pid(task_id))
            assert runner is not None
            process.send(runner, signal.SIGKILL)
            wait_for(lambda: drove.daemon.runner_pid(task_id) != runner.pid, "another has taken it up")
            check_seen(drove.wait(name, "RUN_COMPLETED"), started=True, result=("SUCCESSFUL", 0))
        check_seen(drove.wait(name), started=True, result=("SUCCESSFUL", 0))

    def test_what_has_not_started_is_cancelled(self, drove: Drove) -> None:
        busy = drove.create("sleep", "1000", resources=[{"type": "CPU", "count": 2}])
        name = drove.create("true")
        drove.kill(name)
        check_seen(drove.wait(name), result=("CANCELLED", -1))
        assert told(drove, name) == ["PENDING", "STOPPED"]
        drove.kill(busy)
        drove.wait(busy)

    def test_a_task_can_be_killed_while_its_image_is_fetched(
        self, drove: Drove, make_registry: Callable[..., Registry]
    ) -> None:
        registry = make_registry()
        registry.rest.clear()
        name = drove.create(image=registry.add("slow", "1", fresh()))
        wait_for(lambda: any("blobs" in each for each in registry.requests), "it is being fetched")
        drove.wait_fetching(name)
        drove.kill(name)
        check_seen(drove.wait(name), result=("CANCELLED", -1))
        assert set(told(drove, name)) == {"PENDING", "PROVISIONING", "STOPPED"}

    def test_a_task_that_is_not_started_in_time_ends(self, drove: Drove) -> None:
        busy = drove.create("sleep", "1000", resources=[{"type": "CPU", "count": 2}])
        name = drove.create("true", operation={"timeout": "50 ms"})
        seen = drove.wait(name)
        assert seen["errorMessage"]
        check_seen(seen, result=("TIMED_OUT", -1), error=seen["errorMessage"])
        drove.kill(busy)
        drove.wait(busy)

    # -- what others do to it

    def test_what_v1_does_to_it_is_shown(self, drove: Drove) -> None:
        name = drove.create(*drove.until_told("go-on"))
        drove.wait(name, "RUNNING")
        task_id = drove.id_of(name)
        drove.daemon.post(f"/v1/tasks/{task_id}/pause")
        drove.daemon.wait_state(task_id, "paused")
        assert drove.info(name)["state"] == "RUNNING"
        drove.daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})
        check_seen(drove.wait(name), started=True, result=("CANCELLED", -1))
        drove.tell("go-on")
        drove.daemon.post(f"/v1/tasks/{task_id}/retry")
        wait_for(lambda: drove.info(name).get("taskResult") == {"status": "SUCCESSFUL", "exitCode": 0}, "it ran again")
        drove.daemon.http.delete(f"/v1/tasks/{task_id}")
        body = {"status": "FAILED", "message": f"No such task instance {APP}/{name}"}
        assert drove.get(f"/apis/v1/tasks/{APP}/instances/{name}").json() == body

    # -- the daemon, or more, is killed

    def test_until_it_is_examined_a_task_is_unknown_and_then_running(self, drove: Drove) -> None:
        name = drove.create(*drove.until_told("restarted"))
        drove.wait(name, "RUNNING")
        with drove.hold("recover.loaded") as examined:
            drove.restart_held()
            check_seen(drove.wait(name, "UNKNOWN"), started=True)
            assert drove.listed() == []
            examined()
            drove.wait(name, "RUNNING")
            assert drove.listed() == [name]
        drove.tell("restarted")
        check_seen(drove.wait(name), started=True, result=("SUCCESSFUL", 0))

    def test_what_ended_while_the_daemon_was_away_is_unknown_and_then_stopped_with_its_true_result(
        self, drove: Drove, podman_server: PodmanServer
    ) -> None:
        name = drove.create(*drove.until_told("gone", code=5))
        drove.wait(name, "RUNNING")
        with drove.hold("recover.loaded") as examined:
            drove.daemon.kill()
            drove.tell("gone")
            wait_for(lambda: not podman_server.containers_of(drove.daemon.state_dir), "its container is removed")
            drove.restart_held()
            drove.wait(name, "UNKNOWN")
            examined()
        error = "Task instance exited with status: 5"
        check_seen(drove.wait(name), started=True, result=("FAILED", 5), error=error)

    def test_a_task_is_lost_when_its_runner_and_its_container_are(
        self, drove: Drove, podman_server: PodmanServer
    ) -> None:
        name = drove.create("sleep", "1000")
        drove.wait(name, "RUNNING")
        runner = process.look(drove.daemon.runner_pid(drove.id_of(name)))
        assert runner is not None
        with drove.hold("recover.loaded") as examined:
            drove.daemon.kill()
            process.send(runner, signal.SIGKILL)
            # and with it its machine's process, which would tell of what it sees become of the container
            wait_for(lambda: (seen := process.look(runner.pid)) is None or not seen.alive, "its runner is dead")
            podman_server.command("rm", "--force", *podman_server.containers_of(drove.daemon.state_dir))
            drove.restart_held()
            drove.wait(name, "UNKNOWN")
            examined()
        seen = drove.wait(name, "LOST")
        assert "podman has no container" in seen["errorMessage"]
        check_seen(seen, started=True, result=("LOST", -1), error=seen["errorMessage"])
        assert name not in drove.listed()


def check_seen(
    info: dict[str, Any], *, started: bool = False, result: tuple[str, int] | None = None, error: str = ""
) -> None:
    """What depends on the state: the host (once it has started there), the result, and the message."""
    told = result and {"status": result[0], "exitCode": result[1]}
    assert (info.get("hostname"), info.get("taskResult"), info["errorMessage"]) == (HOST if started else None, told, error)


# -- from a record


def record(
    state: State, outcome: Outcome | None = None, *, why: str | None = None, receipt: str | None = None, **note: Any
) -> Record:
    """Of a task with one container, whose note is as given; its action has ended as the task has."""
    container = ContainerNote(engine="podman", name="c", image="i:1", **note) if note else None
    action = ActionStatus(
        index=0,
        machine="container",
        state="exited" if outcome else "running",
        outcome=outcome,
        exit_code=note.get("exit_code") if outcome else None,
        signal=note.get("signal") if outcome else None,
        container=container,
    )
    status = Status(
        task_id="0123456789abcdef",
        runner=Identity(pid=1, start_time=1, boot_id="b"),
        state=state,
        heartbeat=Heartbeat(at="2026-01-01T00:00:00.000000Z", monotonic=1.0),
        actions=[action],
        current_action_idx=0,
        receipt=Receipt(reason=receipt) if receipt else None,
    )
    return Record(state=state, outcome=outcome, created_at="2026-01-01T00:00:00.000000Z", status=status, error=why)


@pytest.mark.parametrize(
    ("given", "state", "result", "error"),
    [
        (Record(state=State.SCHEDULED, created_at=""), "PENDING", None, ""),
        (Record(state=State.PENDING, created_at="", error="of an earlier attempt"), "PENDING", None, ""),
        (Record(state=State.STARTING, created_at=""), "PROVISIONING", None, ""),
        (record(State.PROVISIONING), "PROVISIONING", None, ""),
        (record(State.STOPPING), "PROVISIONING", None, ""),
        (record(State.RUNNING), "RUNNING", None, ""),
        (record(State.PAUSED, stage="running"), "RUNNING", None, ""),
        (record(State.STOPPING, stage="running"), "RUNNING", None, ""),
        (record(State.STOPPING, stage="fetching"), "PROVISIONING", None, ""),
        (record(State.UNKNOWN, stage="ended", exit_code=0), "UNKNOWN", None, ""),
        # how it ended is known before it is over; a stop has not ended it where it has no receipt
        (record(State.RUNNING, stage="ended", exit_code=0), "RUN_COMPLETED", ("SUCCESSFUL", 0), ""),
        (record(State.RUNNING, stage="ended", signal="SIGKILL"), "RUN_COMPLETED", ("FAILED", 137), "Task instance exited with status: 137"),
        (record(State.RUNNING, stage="ended"), "RUN_COMPLETED", None, ""),
        (record(State.STOPPING, stage="ended", exit_code=0), "RUN_COMPLETED", ("SUCCESSFUL", 0), ""),
        (record(State.STOPPING, receipt="stop", stage="ended", exit_code=0), "RUN_COMPLETED", ("CANCELLED", -1), ""),
        (record(State.STOPPING, receipt="timeout", stage="ended", exit_code=0), "RUN_COMPLETED", ("TIMED_OUT", -1), ""),
        (record(State.RUNNING, stage="ended", exit_code=0, removing=True), "DEPROVISIONING", ("SUCCESSFUL", 0), ""),
        (record(State.PROVISIONING, stage="unfetched", error="gone"), "PROVISIONING_FAILED", None, "Error while pulling image i:1: gone"),
        # over
        (record(State.EXITED, Outcome.SUCCEEDED, stage="ended", exit_code=0), "STOPPED", ("SUCCESSFUL", 0), ""),
        (record(State.EXITED, Outcome.FAILED, why="out of memory", stage="ended", exit_code=137), "STOPPED", ("FAILED", 137), "Task instance exited with status: 137: out of memory"),
        (record(State.EXITED, Outcome.FAILED, why="files: no space"), "STOPPED", ("FAILED", -1), "files: no space"),
        (record(State.EXITED, Outcome.TIMED_OUT, stage="ended", exit_code=0), "STOPPED", ("TIMED_OUT", -1), ""),
        (record(State.EXITED, Outcome.CANCELLED, stage="unfetched", error="gone"), "STOPPED", ("CANCELLED", -1), ""),
        (Record(state=State.EXITED, outcome=Outcome.CANCELLED, created_at="", error="no room"), "STOPPED", ("CANCELLED", -1), "no room"),
        (record(State.LOST, Outcome.LOST, why="its runner is gone", stage="running"), "LOST", ("LOST", -1), "its runner is gone"),
        (Record(state=State.LOST, outcome=Outcome.LOST, created_at=""), "LOST", ("LOST", -1), "Instance lost"),
    ],
)  # fmt: skip
def test_what_a_record_means(given: Record, state: str, result: tuple[str, int] | None, error: str) -> None:
    assert state_of(given) is TaskState(state)
    assert result_of(given) == (None if result is None else TaskResult(*result))
    assert error_of(given) == error


def test_a_runner_of_an_older_format_says_no_stage_and_is_believed_by_its_state() -> None:
    assert state_in({"state": "running"}) is TaskState.RUNNING
    assert not has_started(record(State.RUNNING))


def test_every_state_but_the_last_two_has_a_way_on_and_every_state_but_two_a_way_in() -> None:
    ways_in = {after for each in TRANSITIONS.values() for after in each}
    assert set(TRANSITIONS) == set(TaskState)
    assert set(TaskState) - ways_in == {TaskState.PENDING, TaskState.UNKNOWN}
    assert {each for each, after in TRANSITIONS.items() if not after} == {TaskState.STOPPED, TaskState.LOST}
    assert {each.value for each in set(TaskState) - LISTED} == {
        "PROVISIONING_FAILED", "RUN_FAILED", "STOPPED", "LOST", "UNKNOWN",
    }  # fmt: skip
