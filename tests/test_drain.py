"""Draining: nothing new starts, what runs is finished, and it is said when the daemon is empty."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import PATIENCE, Daemon, Start, finish, wait_for
from test_service import in_world

from task_runner.errors import StorageFull
from task_runner.model.state import State
from task_runner.service import commits
from task_runner.service.node import node_json

UNTIL_GO = ["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done"]


def let_go(daemon: Daemon, task_id: str) -> None:
    Path(daemon.state.tasks.attempt(task_id, 1).work, "go").touch()


def node(daemon: Daemon, **query: Any) -> dict[str, Any]:
    response = daemon.http.get("/v1/node", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_drained_daemon_finishes_what_runs_and_holds_the_rest(daemon: Daemon):
    running = daemon.submit(*UNTIL_GO)
    daemon.wait_state(running, "running")
    assert (node(daemon)["draining"], node(daemon)["drainedAt"], node(daemon)["empty"]) == (False, None, False)
    drained = daemon.post("/v1/node/drain").json()
    assert (drained["draining"], drained["empty"]) == (True, False)
    waiting = daemon.submit("true")
    assert "draining" in daemon.task(waiting)["pendingReason"]
    let_go(daemon, running)
    assert daemon.wait(running)["outcome"] == "succeeded"
    assert node(daemon, wait=PATIENCE)["empty"]
    assert daemon.task(waiting)["state"] == "pending"
    again = daemon.post("/v1/node/drain").json()
    assert again["drainedAt"] == drained["drainedAt"]
    undrained = daemon.post("/v1/node/undrain").json()
    assert (undrained["draining"], undrained["drainedAt"]) == (False, None)
    assert daemon.wait(waiting)["outcome"] == "succeeded"


def test_a_drain_outlives_the_daemon_and_so_does_its_end(daemon: Daemon):
    running = daemon.submit(*UNTIL_GO)
    daemon.wait_state(running, "running")
    drained = daemon.post("/v1/node/drain").json()
    waiting = daemon.submit("true")
    daemon.restart()
    found = node(daemon)
    assert (found["draining"], found["drainedAt"]) == (True, drained["drainedAt"])
    assert not found["empty"]
    assert daemon.task(waiting)["state"] == "pending"
    let_go(daemon, running)
    assert node(daemon, wait=PATIENCE)["empty"]
    assert daemon.task(waiting)["state"] == "pending"
    daemon.post("/v1/node/undrain")
    daemon.wait(waiting)
    daemon.restart()
    assert not node(daemon)["draining"]


def test_the_wait_ends_as_soon_as_it_is_empty_or_in_time(daemon: Daemon):
    assert node(daemon, wait=PATIENCE)["empty"]
    running = daemon.submit(*UNTIL_GO)
    daemon.wait_state(running, "running")
    assert not node(daemon, wait=0.1)["empty"]
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(node(daemon, wait=PATIENCE)))
    waiting.start()
    let_go(daemon, running)
    waiting.join(PATIENCE)
    assert answers[0]["empty"]


@pytest.mark.parametrize("path", ["/v1/node/drain", "/v1/node/undrain"])
def test_a_drain_takes_no_fields(daemon: Daemon, path: str):
    response = daemon.post(path, {"wait": True})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "wait"
    assert daemon.http.get("/v1/node", params={"wait": "soon"}).json()["errors"][0]["field"] == "wait"


@in_world(scan_seconds=0.02)
async def test_a_drain_works_on_a_full_disk_and_is_remembered_when_there_is_room(made):
    with mock.patch.object(commits, "_commit", return_value=StorageFull("full")):
        await made.service.drain.begin()
        assert node_json(made.service)["draining"]
    await made.until(lambda: made.service.book.storage_error is None)
    await made.replace_daemon()
    assert node_json(made.service)["draining"]


@in_world()
async def test_a_task_that_waits_for_its_next_try_does_not_keep_the_daemon_from_being_empty(made):
    task_id = await made.submit("sleep", retry={"count": 1, "delaySeconds": 0, "jitter": 0})
    await made.until(lambda: made.state(task_id) is State.RUNNING)
    await made.service.drain.begin()
    made.environment.finish(task_id, exit_code=1)
    await made.service.drain.wait_empty(PATIENCE)
    assert made.service.drain.empty
    assert made.state(task_id) is State.PENDING


# -- on the command line


def test_drain_and_wait_ends_when_it_is_empty(daemon: Daemon, start: Start):
    running = daemon.submit(*UNTIL_GO)
    daemon.wait_state(running, "running")
    waiting = start("drain", "--wait")
    wait_for(lambda: node(daemon)["draining"], "it drains")
    assert waiting.poll() is None
    daemon.restart()  # it waits for the daemon, and goes on waiting
    assert waiting.poll() is None
    let_go(daemon, running)
    code, out, err = finish(waiting)
    assert code == 0, err
    assert b"none still active" in out


def test_drain_gives_up_when_its_time_is_over(daemon: Daemon, start: Start):
    daemon.wait_state(daemon.submit(*UNTIL_GO), "running")
    code, out, _err = finish(start("drain", "--wait", "--timeout", "0.2"))
    assert code == 124
    assert b"1 still active" in out
    assert node(daemon)["draining"]
    assert finish(start("drain", "--timeout", "5"))[0] == 2
